"""Proves that a migration means the main database: what a TEMP object of the caller hides, or only an attached
database has, is refused before the statement runs; what only looks like such a name is left alone.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import write

from vmpilot.migrate import StepError, migrate

BASE = "CREATE TABLE t (a, name);\nCREATE TABLE u (a, t);\nINSERT INTO u VALUES (1, 2);"
TEMPORARY = (
    "CREATE TEMP TABLE t (a, name);\nCREATE TEMP TABLE name (z);\nCREATE TEMP VIEW seen AS SELECT 1 AS a;\n"
    "CREATE INDEX temp.i ON t (a);\nCREATE TEMP TRIGGER fires AFTER INSERT ON main.u BEGIN SELECT 1; END;\n"
    "CREATE TEMP TRIGGER notes AFTER DELETE ON main.u BEGIN INSERT INTO t VALUES (old.a, 0); END;\n"
    "CREATE VIRTUAL TABLE temp.words USING fts5 (a);"
)
ATTACHED = (
    'ATTACH \':memory:\' AS "the other";\nCREATE TABLE "the other".legacy (a);\n'
    'CREATE TABLE "the other".u (a);\nCREATE VIEW "the other".seen AS SELECT * FROM legacy;\n'
    'CREATE VIRTUAL TABLE "the other".words USING fts5 (a);\n'
    'CREATE TRIGGER "the other".beside AFTER INSERT ON u BEGIN SELECT 1; END;'
)


@pytest.fixture
def connection(migrations: Path, database: Path) -> Iterator[sqlite3.Connection]:
    """A caller's connection, to a database at 0001."""
    write(migrations, "0001_base", BASE)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        migrate(connection, migrations)
        yield connection


def everything(connection: sqlite3.Connection) -> list[object]:
    """Return the schema and the rows of all databases of a connection."""
    found: list[object] = []
    for _, schema, _ in connection.execute("PRAGMA database_list").fetchall():
        found += (
            objects
            if (objects := connection.execute(f'SELECT * FROM "{schema}".sqlite_master').fetchall())
            else []
        )
        for kind, name, *_ in objects:
            if kind == "table":
                found.append(connection.execute(f'SELECT * FROM "{schema}"."{name}"').fetchall())
    return found


def refused(connection: sqlite3.Connection, migrations: Path, reason: str, line: int = 2) -> None:
    before = everything(connection)
    database = connection.execute("PRAGMA database_list").fetchone()[2]
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    assert str(caught.value) == (
        f"{migrations}/0002_step.up.sql:{line}: {reason}; rolled back, {database} is still at 0001"
    )
    assert caught.value.line == line
    assert everything(connection) == before


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("ALTER TABLE t ADD COLUMN z;", "t"),
        ("alter table 'T' rename to v;", "t"),
        ("DROP TABLE IF EXISTS t;", "t"),
        ("DROP INDEX i;", "i"),
        ("DROP TRIGGER IF EXISTS Fires;", "fires"),
        ("INSERT INTO t VALUES (1, 2);", "t"),
        ("REPLACE INTO [t] (a) VALUES (1);", "t"),
        ("UPDATE OR IGNORE t SET a = 1;", "t"),
        ("DELETE FROM t;", "t"),
        ("CREATE INDEX more ON t (a);", "t"),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;", "t"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT 1, 2;", "t"),
        ("WITH x AS (SELECT a FROM t) SELECT * FROM x;", "t"),
        ("INSERT INTO u SELECT a, a FROM t;", "t"),
        ("INSERT INTO u SELECT u.a, t FROM u, t;", "t"),
        ("UPDATE u SET a = (SELECT max(a) FROM t);", "t"),
        ("DELETE FROM u WHERE (a, a) IN t;", "t"),
        ("CREATE TABLE more AS SELECT * FROM t;", "t"),
        ("SELECT * FROM seen;", "seen"),
        ("INSERT INTO u (a) SELECT a FROM words;", "words"),
        ("ANALYZE t;", "t"),
        ("REINDEX t;", "t"),
    ],
)
def test_a_name_that_a_temp_object_hides_is_refused(
    statement: str, name: str, migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.executescript(TEMPORARY)
    write(migrations, "0002_step", f"CREATE TABLE first (a);\n{statement}")
    own = f"to mean the database's own, write main.{name}"
    refused(connection, migrations, f"{name} is a TEMP object of the connection, {own}")


@pytest.mark.parametrize(
    "step",
    [
        "ALTER TABLE main.t ADD COLUMN z;",
        "INSERT INTO main.t (a, name) SELECT t, a FROM u;",
        "SELECT name FROM main.t;",
        "UPDATE u SET t = 1;",
        "DELETE FROM u WHERE t = 2;",
        "CREATE TABLE name (q);",
        "CREATE INDEX main.more ON t (a);",
        "CREATE VIEW v AS SELECT * FROM t;",
        "CREATE TRIGGER g AFTER INSERT ON u BEGIN DELETE FROM t; END;",
        "INSERT INTO u VALUES ('t', 'FROM t');",
        "DROP TABLE temp.t;\nCREATE TEMP TABLE t (a);\nINSERT INTO t VALUES (1);\nALTER TABLE t ADD COLUMN b;",
        "DROP TABLE temp.t;\nINSERT INTO t (a) VALUES (1);\nALTER TABLE t ADD COLUMN b;",
        "CREATE TEMP TABLE own AS SELECT * FROM u;\nINSERT INTO own VALUES (1, 2);\nDROP TABLE own;",
    ],
)
def test_what_means_the_main_database_passes(
    step: str, migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.executescript(TEMPORARY)
    write(migrations, "0002_step", step)
    assert len(migrate(connection, migrations)) == 1


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("DROP TABLE IF EXISTS legacy;", "legacy"),
        ("ALTER TABLE legacy ADD COLUMN z;", "legacy"),
        ("INSERT INTO legacy VALUES (1);", "legacy"),
        ("UPDATE legacy SET a = 1;", "legacy"),
        ("DELETE FROM legacy;", "legacy"),
        ("CREATE INDEX more ON legacy (a);", "legacy"),
        ("INSERT INTO u (a) SELECT a FROM legacy;", "legacy"),
        ("CREATE TABLE more AS SELECT * FROM seen;", "seen"),
        ("SELECT * FROM words;", "words"),
        ("DROP TRIGGER IF EXISTS beside;", "beside"),
        ('INSERT INTO "the other".u VALUES (1);', ""),
    ],
)
def test_a_name_that_only_an_attached_database_has_is_refused(
    statement: str, name: str, migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.executescript(ATTACHED)
    write(migrations, "0002_step", f"CREATE TABLE first (a);\n{statement}")
    reason = f"only an attached database has {name}, and" if name else "`the other` is an attached database,"
    refused(connection, migrations, f"{reason} a migration has one database")


def test_a_temporary_trigger_is_not_dropped_where_nothing_else_is_temporary(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("CREATE TEMP TRIGGER fires AFTER INSERT ON main.u BEGIN SELECT 1; END")
    write(migrations, "0002_step", "SELECT 1;\nDROP TRIGGER fires;")
    refused(
        connection,
        migrations,
        "fires is a TEMP object of the connection, to mean the database's own, write main.fires",
    )
    own = "CREATE TRIGGER fires AFTER INSERT ON u BEGIN SELECT 1; END;\nDROP TRIGGER main.fires;"
    write(
        migrations,
        "0002_step",
        f"{own}\nCREATE TEMP TRIGGER g AFTER INSERT ON main.u BEGIN SELECT 1; END;\nDROP TRIGGER g;",
    )
    assert len(migrate(connection, migrations)) == 1


@pytest.mark.parametrize(
    ("statement", "own"),
    [
        ("ANALYZE", "ANALYZE main"),
        ("PRAGMA optimize", "PRAGMA main.optimize"),
        ("pragma journal_mode = 'truncate'", "PRAGMA main.journal_mode"),
        ("REINDEX", ""),
    ],
)
def test_what_would_change_all_databases_is_refused_where_there_are_others(
    statement: str, own: str, migrations: Path, connection: sqlite3.Connection
) -> None:
    write(migrations, "0002_step", f"CREATE TABLE first (a);\n{statement};")
    connection.executescript(ATTACHED)
    what = own.replace("main.", "").removesuffix(" main") or statement
    advice = f"; to mean the database's own, write {own}" if own else ""
    reason = f"{what} would also change the attached `the other`, and a migration has one database"
    refused(connection, migrations, reason + advice)
    connection.execute('DETACH "the other"')
    assert len(migrate(connection, migrations)) == 1


@pytest.mark.parametrize(
    "statement", ["ANALYZE 'the other'", 'ANALYZE "THE OTHER".u', "REINDEX [the other].u"]
)
def test_an_attached_database_is_refused_as_a_whole(
    statement: str, migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.executescript(ATTACHED)
    write(migrations, "0002_step", f"CREATE TABLE first (a);\n{statement};")
    refused(connection, migrations, "`the other` is an attached database, a migration has one database")


@pytest.mark.parametrize(
    "step",
    [
        "UPDATE u SET a = 1;",
        "ANALYZE main;\nANALYZE u;\nREINDEX main.u;\nPRAGMA main.optimize;\nPRAGMA journal_mode;",
        "CREATE TABLE legacy (q);\nINSERT INTO legacy VALUES (1);\nDROP TABLE legacy;",
        "CREATE TEMP TABLE legacy (q);\nINSERT INTO legacy VALUES (1);",
        "INSERT INTO u SELECT 'legacy', a AS legacy FROM u;",
        "CREATE TEMP TABLE own (legacy);\nINSERT INTO own (legacy) VALUES (1);\nUPDATE own SET legacy = 2;",
    ],
)
def test_what_the_main_database_has_or_gets_passes(
    step: str, migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.executescript(ATTACHED)
    write(migrations, "0002_step", step)
    assert len(migrate(connection, migrations)) == 1


def test_an_attached_database_is_refused_whatever_the_letters_of_its_name(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("ATTACH ':memory:' AS Other")
    write(migrations, "0002_step", "SELECT 1;\nCREATE TABLE oTHER.more (a);")
    refused(connection, migrations, "oTHER is an attached database, a migration has one database")


def test_outside_a_transaction_nothing_has_taken_effect(
    migrations: Path, database: Path, connection: sqlite3.Connection
) -> None:
    connection.executescript(TEMPORARY)
    write(migrations, "0002_step", "-- vmpilot: no-transaction\nDELETE FROM t;")
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    assert str(caught.value) == (
        f"{migrations}/0002_step.up.sql:2: t is a TEMP object of the connection, to mean the database's own, "
        f"write main.t; no statement has taken effect, {database} is still at 0001"
    )
