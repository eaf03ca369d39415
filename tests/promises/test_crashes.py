"""Proves that a step is done or not done, however a process dies and whatever the system refuses.

After each fault: StepError or AccessError and nothing else, the database as it was before the step or
after it, `integrity_check` ok, and the next run succeeds once the cause is gone.
"""

import os
import random
import resource
import select
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import APART, OUTSIDE, ended, forked, laid, pasteable, query, running, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    Progress,
    StepError,
    current,
    downgrade,
    history,
    migrate,
)
from vmpilot.migrate.database.tables import TABLES

MODES = pytest.mark.parametrize("mode", ["DELETE", "WAL"])
ROWS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i, "
    "hex(zeroblob(50)) FROM n"
)

Snapshot = tuple[list[Any], list[Any], list[Any]]


def story(migrations: Path, rows: int = 40) -> None:
    """Write five migrations: tables, rows, a rebuild, a view, a trigger, and one outside a transaction."""
    write(
        migrations,
        "0001_parent",
        f"CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);\nINSERT INTO parent {ROWS.format(rows)};",
        "DROP TABLE parent;",
    )
    write(
        migrations,
        "0002_child",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent (id) ON DELETE CASCADE);\n"
        "INSERT INTO child (parent) SELECT id FROM parent;\nCREATE INDEX by_parent ON child (parent);\n"
        "CREATE VIEW family AS SELECT name, child.id FROM parent JOIN child ON parent.id = child.parent;",
        "DROP VIEW family;\nDROP TABLE child;",
    )
    write(
        migrations,
        "0003_rebuild",
        "DROP VIEW family;\nCREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, more TEXT "
        "DEFAULT 'x');\n"
        "INSERT INTO new (id, name) SELECT id, name FROM parent;\nDROP TABLE parent;\n"
        "ALTER TABLE new RENAME TO parent;\nCREATE TEMP TABLE scratch AS SELECT * FROM parent;\n"
        "CREATE TRIGGER note AFTER INSERT ON child BEGIN UPDATE parent SET more = 'y' WHERE id = "
        "new.parent; END;",
        "DROP TRIGGER note;\nALTER TABLE parent DROP COLUMN more;\n"
        "CREATE VIEW family AS SELECT name, child.id FROM parent JOIN child ON parent.id = child.parent;",
    )
    write(
        migrations,
        "0004_alone",
        f"{OUTSIDE}CREATE TABLE IF NOT EXISTS alone (a);\nDELETE FROM alone;\n"
        "INSERT INTO alone VALUES (1);\nVACUUM;",
        "DROP TABLE alone;",
    )
    write(
        migrations,
        "0005_last",
        "INSERT INTO child (parent) VALUES (1), (2);",
        "DELETE FROM child WHERE id > 40;",
    )


def snapshot(database: Path) -> Snapshot:
    """Return the version, the schema and all rows of a sound database."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        schema = connection.execute(
            "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        ).fetchall()
        names = [name for kind, name, _ in schema if kind == "table" and not name.startswith("sqlite_")]
        rows = [
            (name, connection.execute(f'SELECT * FROM "{name}"').fetchall())
            for name in names
            if name != "migration_log"
        ]
        applied: list[Any] = []
        if "migration_log" in names:
            applied = connection.execute(
                "SELECT action, version, checksum FROM migration_log WHERE action <> 'start' ORDER BY id"
            ).fetchall()
        ours = {"alembic_version", "migration_log", "sqlite_autoindex_alembic_version_1"}
        return [row for row in schema if row[1] not in ours], [row for row in rows if row[1]], applied


def snapshots(tmp_path: Path, migrations: Path, mode: str) -> dict[str | None, Snapshot]:
    """Return what the database is at each version, of a run without faults."""
    database = tmp_path / "undisturbed.db"
    made(database, mode)
    found = {None: snapshot(database)}
    for version in ("0001", "0002", "0003", "0004", "0005"):
        migrate(database, migrations, target=version)
        found[version] = snapshot(database)
    return found


# What `stamp base` leaves: the database is right as it is, and not compared with anything step by step.
STAMPED = "INSERT INTO migration_log VALUES (1, 'stamp', '', '', '', '', '', NULL, NULL, '', 0)"


def made(database: Path, mode: str) -> None:
    own = "CREATE TABLE own (a); INSERT INTO own VALUES ('kept');"
    laid(database, mode, ";\n".join([own, *TABLES.values(), STAMPED]))


def is_before_or_after_a_step(
    database: Path, migrations: Path, expected: dict[str | None, Snapshot]
) -> str | None:
    """Expect that a database is as an undisturbed one at the same version; return the version."""
    found = snapshot(database)
    version = current(database, migrations).version
    if version == "0003" and found != expected["0003"]:
        # The next file runs outside a transaction, so some of it may have taken effect.
        schema, rows, applied = found
        assert applied == expected["0003"][2]
        assert [row for row in schema if row[1] != "alone"] == expected["0003"][0]
        assert [row for row in rows if row[0] != "alone"] == expected["0003"][1]
    else:
        assert found == expected[version]
    return version


def opened(database: Path) -> sqlite3.Connection:
    """Open a database without waiting for the disk: a process that dies takes nothing with it from there."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def migrated(database: Path, migrations: Path) -> int:
    with closing(opened(database)) as connection:
        return len(migrate(connection, migrations))


def removed(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


# --- a process that dies


def dies_at(statement: int, database: Path, migrations: Path) -> bool:
    """Migrate in a process that ends without a word at its k-th statement; tell whether it did."""

    def work() -> None:
        seen = 0

        def count(sql: str) -> None:
            nonlocal seen
            seen += 1
            if seen == statement:
                os._exit(3)

        connection = opened(database)
        connection.set_trace_callback(count)
        migrate(connection, migrations)

    code, _ = ended(forked(work))
    assert code in (0, 3)
    return code == 3


Remains = dict[str, bytes]


def remains_of_each_death(database: Path, migrations: Path) -> list[Remains]:
    """Return what a process leaves that dies at a statement of a run: its files, by what is behind the name.

    Those of the death at each statement that finds them changed, and of the end.
    """
    found: list[Remains] = []

    def look(sql: str) -> None:
        paths = (database.with_name(database.name + end) for end in ("", "-journal", "-wal"))
        left = {path.name[len(database.name) :]: path.read_bytes() for path in paths if path.exists()}
        if found[-1:] != [left]:
            found.append(left)

    with closing(opened(database)) as connection:
        connection.set_trace_callback(look)
        migrate(connection, migrations)
    look("")
    return found


def laid_out(remains: Remains, database: Path) -> None:
    removed(database)
    for end, data in remains.items():
        database.with_name(database.name + end).write_bytes(data)


@MODES
def test_a_process_that_dies_at_any_statement_leaves_whole_steps(
    tmp_path: Path, migrations: Path, mode: str
) -> None:
    story(migrations)
    expected = snapshots(tmp_path, migrations, mode)
    made(tmp_path / "run.db", mode)
    left = remains_of_each_death(tmp_path / "run.db", migrations)
    database, reached, finished = tmp_path / "app.db", [], []
    for remains in left:
        laid_out(remains, database)
        reached.append(is_before_or_after_a_step(database, migrations, expected))
        state = snapshot(database)
        if state not in finished:
            finished.append(state)
            migrated(database, migrations)
            assert snapshot(database) == expected["0005"]
    assert reached[-1] == "0005"
    assert reached == sorted(reached, key=lambda version: version or "")
    assert set(reached) == set(expected) - {"0001"}  # which shares the transaction of the second
    # The files change with each commit, and where a transaction spills over.
    assert len(left) > 10
    assert len(finished) > len(expected)


@pytest.mark.full
@MODES
def test_a_process_that_really_dies_at_any_statement_leaves_whole_steps(
    tmp_path: Path, migrations: Path, mode: str
) -> None:
    story(migrations)
    expected = snapshots(tmp_path, migrations, mode)
    database, deaths, died = tmp_path / "app.db", 0, True
    while died:
        made(database, mode)
        died = dies_at(deaths + 1, database, migrations)
        deaths += died
        is_before_or_after_a_step(database, migrations, expected)
        migrated(database, migrations)
        assert snapshot(database) == expected["0005"]
        removed(database)
    assert deaths > 100


@MODES
def test_a_process_that_dies_again_and_again_comes_to_the_end(
    tmp_path: Path, migrations: Path, mode: str
) -> None:
    story(migrations)
    expected = snapshots(tmp_path, migrations, mode)
    database = tmp_path / "app.db"
    made(database, mode)
    chance = random.Random(7)
    deaths = 0
    while deaths < 100 and dies_at(chance.randint(10, 110), database, migrations):
        deaths += 1
        is_before_or_after_a_step(database, migrations, expected)
    assert 3 < deaths < 100
    assert snapshot(database) == expected["0005"]


LINE = 32768  # twice that fills a pipe: https://man7.org/linux/man-pages/man7/pipe.7.html


def killed_at_random(tmp_path: Path, mode: str, kills: int) -> None:
    """Kill runs that cannot end before: each step is told in a pipe that holds no more than a few."""
    migrations = tmp_path / "many"
    migrations.mkdir()
    for number in range(1, 41):
        kind = "" if number % 3 else APART  # between groups of two
        up = f"{kind}CREATE TABLE t{number} (a, b);\nINSERT INTO t{number} {ROWS.format(20)};"
        write(migrations, f"{number:04}_table", up, f"DROP TABLE t{number};")
    chance = random.Random(7)
    reached = set()
    for number in range(kills):
        database = tmp_path / f"{number}.db"
        made(database, mode)
        steps, step = os.pipe()

        def tell(progress: Progress) -> None:
            if progress.done:
                os.write(step, b"x" * LINE)

        def work() -> None:
            os.close(steps)
            migrate(database, migrations, progress=tell)

        child = forked(work)
        os.close(step)
        with open(steps, "rb") as file:
            told = chance.randint(1, 30)
            assert len(file.read(told * LINE)) == told * LINE
            select.select([child.answers], [], [], chance.uniform(0, 0.003))  # it says nothing: a distance
            os.kill(child.process, signal.SIGKILL)
            assert ended(child) == (-signal.SIGKILL, None)
        count = int(current(database, migrations).version or 0)
        assert count >= told
        reached.add(count)
        assert query(database, "PRAGMA integrity_check") == [("ok",)]
        tables = query(database, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 't%'")
        assert tables == [(count,)]
        assert query(database, f"SELECT count(*) FROM t{count}") == [(20,)]
        assert query(database, "SELECT count(*) FROM migration_log WHERE action = 'upgrade'") == [(count,)]
        assert migrated(database, migrations) == 40 - count
        removed(database)
    assert len(reached) > 2


@MODES
def test_a_process_killed_at_a_random_moment_leaves_whole_steps(tmp_path: Path, mode: str) -> None:
    killed_at_random(tmp_path, mode, kills=6)


@pytest.mark.full
@MODES
def test_processes_killed_at_many_random_moments_leave_whole_steps(tmp_path: Path, mode: str) -> None:
    killed_at_random(tmp_path, mode, kills=100)


# --- no room


def outcome(work: Callable[[], object]) -> str:
    """Return "done", or the error, which must be one of the two that a fault may bring."""
    try:
        work()
    except (StepError, AccessError) as error:
        return str(error)
    return "done"


@MODES
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_full_database_leaves_whole_steps_at_every_size(
    tmp_path: Path, migrations: Path, mode: str, direction: str
) -> None:
    story(migrations)
    write(
        migrations,
        "0006_more",
        f"CREATE TABLE more (a, b);\nINSERT INTO more {ROWS.format(300)};",
        "DROP TABLE more;",
    )
    write(
        migrations,
        "0007_much",
        "DROP TABLE more;",
        f"CREATE TABLE more (a, b);\nINSERT INTO more {ROWS.format(600)};",
    )
    expected = snapshots(tmp_path, migrations, mode)
    outcomes = []
    size = 1
    while "done" not in outcomes and size < 200:
        database = tmp_path / f"{size}.db"
        made(database, mode)
        start = "0003" if direction == "up" else "0007"
        with closing(opened(database)) as connection:
            migrate(connection, migrations, target=start)
        before = snapshot(database)
        with closing(opened(database)) as connection:
            ((pages,),) = connection.execute("PRAGMA page_count")
            connection.execute(f"PRAGMA max_page_count = {pages + size - 1}").fetchall()
            if direction == "up":
                outcomes.append(outcome(lambda: migrate(connection, migrations)))
            else:
                outcomes.append(
                    outcome(lambda: downgrade(connection, migrations, target="0003", backup=False))
                )
            assert not connection.in_transaction
        version = current(database, migrations).version
        if direction == "up" and version in expected:
            is_before_or_after_a_step(database, migrations, expected)
        elif version == start:
            assert snapshot(database) == before
        assert query(database, "PRAGMA integrity_check") == [("ok",)]
        migrated(database, migrations)
        assert query(database, "SELECT count(*) FROM child") == [(42,)]
        removed(database)
        size += 1
    full = [said for said in outcomes if "database or disk is full" in said]
    assert [*full, "done"] == outcomes
    assert len(full) > 3
    fates = ("; rolled back, ", " taken effect already, ", "; no statement has taken effect, ")
    assert [said for said in full if not any(fate in said for fate in fates)] == []


def limited(limit: int, value: int, work: Callable[[], object]) -> str:
    """Return the outcome of work in a process whose resource is limited."""

    def do() -> str:
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        try:
            return outcome(work)
        except BaseException as error:
            return f"leaked {type(error).__name__}: {error}"

    code, said = ended(forked(do))
    assert code == 0
    return str(said)


@MODES
def test_a_file_that_may_not_grow_leaves_whole_steps_at_every_size(
    tmp_path: Path, migrations: Path, mode: str
) -> None:
    story(migrations, rows=120)
    expected = snapshots(tmp_path, migrations, mode)
    outcomes = []
    for size in [*range(0, 16384, 2048), *range(16384, 262144, 16384)]:
        database = tmp_path / f"{size}.db"
        made(database, mode)
        outcomes.append(limited(resource.RLIMIT_FSIZE, size, partial(migrated, database, migrations)))
        is_before_or_after_a_step(database, migrations, expected)
        migrated(database, migrations)
        assert snapshot(database) == expected["0005"]
        removed(database)
        if outcomes[-1] == "done":
            break
    assert outcomes[-1] == "done"
    refusals = ("database or disk is full", "disk I/O error", "unable to open database file")
    assert [said for said in outcomes[:-1] if not any(words in said for words in refusals)] == []
    assert len(outcomes) > 8


def test_the_line_of_a_load_is_exact_where_the_system_lets_no_file_grow(
    tmp_path: Path, migrations: Path
) -> None:
    """SQLite takes back the whole transaction then, in the middle of INSERTs that are run together."""
    value = f"'{'x),(' * 25}'"
    rows = "".join(
        f"INSERT INTO t VALUES ({number}, {value}), ({-number}, {value});\n" for number in range(400)
    )
    told: dict[str, list[str]] = {"main": [], "temp": []}  # with the latter word, none are run together
    for schema, lines in told.items():
        first = f"PRAGMA cache_size = 10;\nDROP TABLE IF EXISTS {schema}.none;\nCREATE TABLE t (a, b);\n"
        write(migrations, "0001_load", first + rows)
        for size in range(49152, 98304, 4096):
            database = tmp_path / "small.db"
            said = limited(resource.RLIMIT_FSIZE, size, partial(migrate, database, migrations))
            lines.append(said.partition(".up.sql:")[2])
            removed(database)
    assert told["main"] == told["temp"]
    assert len(set(told["main"])) > 8


@MODES
def test_a_group_that_the_disk_has_no_room_for_is_done_step_by_step(
    tmp_path: Path, migrations: Path, mode: str
) -> None:
    """What no longer fits is found out at its COMMIT; each step that fits stays."""
    for number in range(1, 9):
        up = f"CREATE TABLE t{number} (a, b);\nINSERT INTO t{number} {ROWS.format(300)};"
        write(migrations, f"{number:04}_table", up, f"DROP TABLE t{number};")
    reached = set()
    for size in range(49152, 450000, 32768):
        database = tmp_path / f"{size}.db"
        made(database, mode)
        said = limited(resource.RLIMIT_FSIZE, size, partial(migrated, database, migrations))
        version = current(database, migrations).version
        reached.add(version)
        if version != "0008":
            assert f"rolled back, {database} is still at {version or 'base'}" in said
        tables = [f"t{number}" for number in range(1, int(version or 0) + 1)]
        assert [name for _, name, _ in snapshot(database)[0] if name[0] == "t"] == tables
        migrated(database, migrations)
        removed(database)
    assert len(reached) > 4


# --- what cannot be opened


@pytest.mark.parametrize(
    ("mode", "ending", "reason"),
    [("DELETE", "-journal", "disk I/O error"), ("WAL", "-wal", "unable to open database file")],
)
def test_a_journal_that_cannot_be_written_is_an_access_error(
    migrations: Path, database: Path, mode: str, ending: str, reason: str
) -> None:
    story(migrations)
    made(database, mode)
    before = snapshot(database)
    journal = database.with_name(database.name + ending)
    journal.mkdir()
    with pytest.raises(AccessError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == f"{database}: {reason}; nothing was changed"
    journal.rmdir()
    assert snapshot(database) == before
    assert len(migrate(database, migrations)) == 5


@MODES
@pytest.mark.parametrize("imported", [True, False], ids=["imported", "at start"])
def test_a_process_out_of_file_descriptors_leaves_whole_steps(
    tmp_path: Path, migrations: Path, mode: str, imported: bool
) -> None:
    story(migrations)
    write(
        migrations,
        "0006_big",
        f"CREATE TABLE big (a, b);\nINSERT INTO big {ROWS.format(3000)};\nDROP TABLE big;",
    )
    expected = snapshots(tmp_path, migrations, mode)
    # A process that has loaded no more than a start-up has; the limit counts from what is open already.
    program = (
        "import sys, resource, os\nfrom vmpilot.migrate import migrate, MigrationError\n"
        + ("import logging, hashlib, errno, encodings.idna\n" if imported else "")
        + "top = max(map(int, os.listdir('/proc/self/fd')))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), 4096))\n"
        "try: migrate(*sys.argv[2:])\n"
        "except MigrationError as error: print(type(error).__name__ + ': ' + str(error))\n"
        "except BaseException as error: print('leaked ' + type(error).__name__ + ': ' + str(error))\n"
        "else: print('done')\n"
    )
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    outcomes = []
    for limit in range(3, 20):
        database = tmp_path / f"{limit}.db"
        made(database, mode)
        with running("-c", program, str(limit), database, migrations) as process:
            out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        outcomes.append(out.rstrip())
        if outcomes[-1] != "done":
            is_before_or_after_a_step(database, migrations, expected)
            migrated(database, migrations)
        assert current(database, migrations).at_head
        removed(database)
        if outcomes[-1] == "done":
            break
    assert outcomes[-1] == "done"
    assert len(outcomes) > 2
    assert [said for said in outcomes[:-1] if not said.startswith(("AccessError: ", "StepError: "))] == []


# --- files outside a transaction


def test_a_file_outside_a_transaction_that_dies_is_run_again_from_its_start(
    tmp_path: Path, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", "CREATE TABLE t (a);")
    inserts = "".join(f"INSERT INTO t VALUES ({number});\n" for number in (1, 2, 3))
    write(migrations, "0002_alone", f"{OUTSIDE}DELETE FROM t;\n{inserts}")
    contents = set()
    for remains in remains_of_each_death(tmp_path / "run.db", migrations):
        laid_out(remains, database)
        version = current(database, migrations).version
        rows = query(database, "SELECT a FROM t") if version else []
        contents.add((version, len(rows)))
        assert rows == [(number,) for number in range(1, len(rows) + 1)]
        migrated(database, migrations)
        assert query(database, "SELECT a FROM t") == [(1,), (2,), (3,)]
        assert query(database, "SELECT count(*) FROM migration_log WHERE action = 'upgrade'") == [(2,)]
    assert contents == {(None, 0), ("0001", 0), ("0001", 1), ("0001", 2), ("0001", 3), ("0002", 3)}


def test_a_file_outside_a_transaction_does_not_hide_one_that_comes_late(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0002_t", "CREATE TABLE t (a);")
    write(migrations, "0003_alone", f"{OUTSIDE}CREATE TABLE IF NOT EXISTS u (a);\noops;")
    with pytest.raises(StepError):
        migrate(database, migrations)
    write(migrations, "0003_alone", f"{OUTSIDE}CREATE TABLE IF NOT EXISTS u (a);")
    migrate(database, migrations)
    write(migrations, "0001_late", "CREATE TABLE late (a);")
    with pytest.raises(HistoryError) as caught:
        migrate(database, migrations)
    renumber = pasteable("run: python3 -m vmpilot.migrate renumber 0001_late", database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0001_late.up.sql: never applied, and {database} is already at 0003; nothing was changed; "
        f"to give it the next free number, {renumber}"
    )


@pytest.mark.parametrize(
    ("failing", "fate"),
    [
        (1, "no statement has taken effect, {database} is still at base"),
        (
            2,
            "statement 1 (line 3) has taken effect already, {database} is still at base, "
            "and the file will run again from its start",
        ),
        (
            3,
            "statements 1 to 2 (lines 3 to 4) have taken effect already, {database} is still at base, "
            "and the file will run again from its start",
        ),
    ],
)
def test_a_file_outside_a_transaction_says_what_has_taken_effect(
    migrations: Path, database: Path, failing: int, fate: str
) -> None:
    statements = ["CREATE TABLE IF NOT EXISTS t (a)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"]
    statements[failing - 1] = "oops"
    write(migrations, "0001_alone", f"{OUTSIDE}-- why\n" + ";\n".join(statements))
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f'{migrations}/0001_alone.up.sql:{failing + 2}: near "oops": syntax error; '
        f"{fate.format(database=database)}"
    )
    assert (caught.value.line, caught.value.statement) == (failing + 2, "oops")
    statements[failing - 1] = "SELECT 1"
    write(
        migrations,
        "0001_alone",
        f"{OUTSIDE}-- why\n" + ";\n".join(statements if failing > 1 else statements[:1]),
    )
    assert len(migrate(database, migrations)) == 1


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("VACUUM", "cannot VACUUM from within a transaction"),
        ("PRAGMA journal_mode = WAL", "cannot change into wal mode from within a transaction"),
        ("PRAGMA main.journal_mode=WAL", "cannot change into wal mode from within a transaction"),
        ("pragma journal_mode('wal')", "cannot change into wal mode from within a transaction"),
        ("PRAGMA synchronous = OFF", "Safety level may not be changed inside a transaction"),
    ],
)
def test_what_sqlite_refuses_inside_a_transaction_is_answered_with_the_way_out(
    migrations: Path, database: Path, statement: str, reason: str
) -> None:
    write(migrations, "0001_t", f"CREATE TABLE t (a);\n{statement};")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0001_t.up.sql:2: {reason}; rolled back, {database} is still at base; "
        'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'
    )
    write(migrations, "0001_t", f"{OUTSIDE}CREATE TABLE IF NOT EXISTS t (a);\n{statement};")
    assert len(migrate(database, migrations)) == 1


# --- damaged


def test_a_damaged_database_is_an_access_error(migrations: Path, database: Path) -> None:
    story(migrations)
    made(database, "DELETE")
    data = bytearray(database.read_bytes())
    data[100:200] = bytes(range(100))
    database.write_bytes(data)
    with closing(sqlite3.connect(database)) as connection, pytest.raises(sqlite3.DatabaseError) as words:
        connection.execute("SELECT * FROM sqlite_master")
    for command in (migrate, history):
        with pytest.raises(AccessError) as caught:
            command(database, migrations)
        assert str(caught.value) == f"{database}: {words.value}; nothing was changed"
    assert database.read_bytes() == bytes(data)
