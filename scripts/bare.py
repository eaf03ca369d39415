"""The least that the work of the migrator can cost: plain Python on sqlite3 that promises nothing.

The floors of `bench.py`, as functions and as processes of their own. Nothing is imported but what they need.
"""

import os
import sqlite3


def newer(directory, version):
    """Return version and name of each up file that is newer."""
    names = [name for name in os.listdir(directory) if name.endswith(".up.sql")]
    names.sort(key=lambda name: int(name.partition("_")[0]))
    return [(name.partition("_")[0], name) for name in names if name.partition("_")[0] > version]


def look(database, directory):
    """Find out that there is nothing to do."""
    connection = sqlite3.connect(database)
    ((version,),) = connection.execute("SELECT version_num FROM alembic_version")
    connection.close()
    if newer(directory, version):
        raise SystemExit("the floor of the no-op has something to do")


def files(connection, directory):
    """Compare one row, and return version and text of each newer file."""
    connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
    found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if not found:
        connection.execute("INSERT INTO alembic_version VALUES ('')")
    for version, name in newer(directory, found[0][0] if found else ""):
        with open(os.path.join(directory, name)) as file:
            yield version, file.read()


def scripts(connection, directory):
    """Return each newer file with what records it."""
    for version, text in files(connection, directory):
        yield f"{text}\n;UPDATE alembic_version SET version_num = '{version}';"


def statements(text):
    """Return the statements of a file, if each ends with its line."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if line.endswith(";\n") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def each(database, directory):
    """Run all newer files, and commit each."""
    connection = sqlite3.connect(database, isolation_level=None)
    for script in scripts(connection, directory):
        connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
    connection.close()


def once(database, directory):
    """Run all newer files, each in a savepoint, and commit once; executescript() would commit each."""
    connection = sqlite3.connect(database, isolation_level=None)
    newer_files = [*files(connection, directory)]
    connection.execute("BEGIN IMMEDIATE")
    for version, text in newer_files:
        connection.execute("SAVEPOINT step")
        for statement in statements(text):
            connection.execute(statement)
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.execute("RELEASE step")
    connection.execute("COMMIT")
    connection.close()


def together(database, directory):
    """Run all newer files as one script, each in a savepoint, and commit once: the least that it can cost."""
    connection = sqlite3.connect(database, isolation_level=None)
    steps = [f"SAVEPOINT step; {script} RELEASE step;" for script in scripts(connection, directory)]
    connection.executescript("BEGIN IMMEDIATE;" + "".join(steps) + "COMMIT;")
    connection.close()
