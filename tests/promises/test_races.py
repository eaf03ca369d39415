"""Proves that any number of processes and threads may start at once, and that a lock is waited for.

Every process ends well, each migration is applied exactly once, and where there is nothing to do
nobody waits and nothing is left behind, not even on what is read-only.
"""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import (
    APART,
    COMMAND,
    LONGEST,
    OUTSIDE,
    ROOT,
    command,
    denied,
    denied_both,
    ended,
    forked,
    held,
    laid,
    nobody,
    pasteable,
    query,
    race,
    running,
    unshared,
    versions,
    write,
)

from vmpilot.migrate import AccessError, Progress, StepError, current, downgrade, history, migrate, stamp

MODES = pytest.mark.parametrize("mode", ["DELETE", "WAL"])
NEWER = (
    "VersionError: {} is at {}, but this code knows only base to {}; it was upgraded by newer code; "
    "nothing was changed; to take it back, run: python3 -m vmpilot.migrate downgrade head"
)


def logged(database: Path) -> list[str]:
    rows = query(database, "SELECT version FROM migration_log WHERE action = 'upgrade' ORDER BY id")
    return [str(version) for (version,) in rows]


def tables(migrations: Path, count: int, start: int = 1, kind: str = "") -> list[str]:
    """Write migrations that succeed only once, each with a row, and return their versions.

    Of a kind that stands apart, there is a time between two steps in which others can write.
    """
    written = [f"{number:04}" for number in range(start, start + count)]
    for version in written:
        up = f"{kind}CREATE TABLE t{version} (a);\nINSERT INTO t{version} VALUES ({int(version)});"
        write(migrations, f"{version}_table", up, f"DROP TABLE t{version};")
    return written


def all_of(outcomes: list[list[str]]) -> list[str]:
    return sorted(version for outcome in outcomes for version in outcome)


# --- many at once


def start_at_once(tmp_path: Path, migrations: Path, mode: str, processes: int, rounds: int) -> None:
    expected = tables(migrations, 5)
    for number in range(rounds):
        database = tmp_path / f"{number}.db"
        if mode == "WAL":
            laid(database, mode)
        elif number % 2:
            database.touch()
        assert all_of(race([partial(migrate, database, migrations)] * processes)) == expected
        assert logged(database) == expected
        assert query(database, "SELECT version_num FROM alembic_version") == [("0005",)]
        assert query(database, "SELECT * FROM t0003") == [(3,)]
        assert query(database, "PRAGMA integrity_check") == [("ok",)]
        assert query(database, "PRAGMA journal_mode") == [(mode.lower(),)]


@MODES
def test_processes_that_start_at_once_apply_each_migration_once(
    tmp_path: Path, migrations: Path, mode: str
) -> None:
    start_at_once(tmp_path, migrations, mode, processes=16, rounds=3)


@pytest.mark.full
@MODES
def test_sixty_four_processes_that_start_at_once(tmp_path: Path, migrations: Path, mode: str) -> None:
    start_at_once(tmp_path, migrations, mode, processes=64, rounds=20)


@MODES
def test_commands_that_start_at_once_all_succeed(migrations: Path, database: Path, mode: str) -> None:
    expected = tables(migrations, 3)
    laid(database, mode)
    arguments = [*COMMAND, "-d", database, "--migrations", migrations]
    with ExitStack() as stack:
        processes = [stack.enter_context(running(*arguments)) for _ in range(6)]
        answers = [(*process.communicate(timeout=LONGEST), process.returncode) for process in processes]
    assert [(errors, code) for _, errors, code in answers] == [("", 0)] * 6
    assert all(output.splitlines()[-1].startswith(f"{database} is at 0003") for output, _, _ in answers)
    assert logged(database) == expected


@MODES
@pytest.mark.parametrize("own", ["paths", "connections"])
def test_threads_that_start_at_once_apply_each_migration_once(
    migrations: Path, database: Path, mode: str, own: str
) -> None:
    expected = tables(migrations, 5)
    laid(database, mode)
    barrier = threading.Barrier(8)
    outcomes: list[list[str]] = []

    def work() -> None:
        with closing(sqlite3.connect(database)) as connection:
            barrier.wait(LONGEST)
            target = database if own == "paths" else connection
            outcomes.append(versions(lambda: migrate(target, migrations)))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST)
    assert len(outcomes) == 8
    assert all_of(outcomes) == expected
    assert logged(database) == expected


@MODES
def test_an_older_and_a_newer_release_that_start_at_once(
    tmp_path: Path, migrations: Path, database: Path, mode: str
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    tables(older, 2)
    expected = tables(migrations, 4)
    laid(database, mode)
    outcomes = race([lambda: migrate(database, older), lambda: migrate(database, migrations)] * 8)
    told = pasteable(NEWER, database, older)
    refusals = {told.format(database, version, "0002") for version in ("0003", "0004")}
    # What an older one did before it was refused is in the log alone.
    assert {*all_of(outcomes)} <= {*expected, *refusals}
    assert not refusals & {*all_of(outcomes[1::2])}
    assert logged(database) == expected


@MODES
def test_a_relative_target_is_reached_once(migrations: Path, database: Path, mode: str) -> None:
    expected = tables(migrations, 3)
    laid(database, mode)
    migrate(database, migrations, target="1")
    outcomes = race([lambda: migrate(database, migrations, target="+1")] * 8)
    # One that starts when another has ended moves on by one more, or finds no more.
    end = f"VersionError: cannot move by +1: {database} is at 0003, 0 steps from head; nothing was changed"
    steps = [version for version in all_of(outcomes) if version != end]
    assert ["0001", *steps] == logged(database) == expected[: 1 + len(steps)]
    assert steps


@MODES
def test_downgrades_that_start_at_once_undo_each_migration_once(
    migrations: Path, database: Path, mode: str
) -> None:
    expected = tables(migrations, 4)
    laid(database, mode)
    migrate(database, migrations)
    outcomes = race([lambda: downgrade(database, migrations, target="base", backup=False)] * 8)
    assert all_of(outcomes) == expected
    assert current(database, migrations).version is None
    assert query(database, "SELECT count(*) FROM migration_log WHERE action = 'downgrade'") == [(4,)]


@MODES
def test_a_file_outside_a_transaction_is_recorded_once(migrations: Path, database: Path, mode: str) -> None:
    expected = ["0001", "0002", "0003"]
    write(migrations, "0001_t", "CREATE TABLE t (a);\nINSERT INTO t VALUES (1);")
    up = f"{OUTSIDE}CREATE TABLE IF NOT EXISTS u (a);\nCREATE INDEX IF NOT EXISTS i ON u (a);\nVACUUM;"
    write(migrations, "0002_u", up)
    write(migrations, "0003_t", "CREATE TABLE v (a);\nINSERT INTO t VALUES (2);")
    laid(database, mode)
    assert all_of(race([lambda: migrate(database, migrations)] * 8)) == expected
    assert logged(database) == expected
    assert query(database, "SELECT a FROM t") == [(1,), (2,)]


def test_processes_that_ask_for_a_write_ahead_log_at_once_all_get_it(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_wal", f"{OUTSIDE}PRAGMA journal_mode = WAL;")
    expected = ["0001", *tables(migrations, 3, start=2)]
    assert all_of(race([lambda: migrate(database, migrations)] * 8)) == expected
    assert query(database, "PRAGMA journal_mode") == [("wal",)]


# --- another process between two steps


def between(version: str, action: Callable[[], object], *, done: bool = True) -> Callable[[Progress], None]:
    """Return a progress callback that acts once, when this version is committed or begins."""
    waiting = [action]

    def report(progress: Progress) -> None:
        if (progress.done, progress.step.version) == (done, version) and waiting:
            waiting.pop()()

    return report


def moved_on(database: Path) -> None:
    """Do what a newer release does to the version."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0009'")
        connection.commit()


# What another process does when 0002 is committed, what is done in all, and where the database is then.
MEANWHILE: dict[str, tuple[Callable[[Path, Path], object], list[str], str]] = {
    "upgrades": (lambda *where: migrate(*where, target="0003"), ["0001", "0002", "0004"], "0004"),
    "comes to the end": (lambda *where: migrate(*where), ["0001", "0002"], "0004"),
    "undoes": (
        lambda *where: downgrade(*where, target="base", backup=False),
        ["0001", "0002", "0001", "0002", "0003", "0004"],
        "0004",
    ),
    "stamps": (lambda *where: stamp("head", *where), ["0001", "0002"], "0004"),
    "stamps one": (lambda *where: stamp("0003", *where), ["0001", "0002", "0004"], "0004"),
}


class Silent(sqlite3.Cursor):
    """A cursor of a module whose SQLite does not say that others have written."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute("SELECT 1 WHERE 0" if "data_version" in sql else sql, *parameters)


class SilentConnection(sqlite3.Connection):
    def cursor(self, factory: type[sqlite3.Cursor] = Silent) -> sqlite3.Cursor:
        return super().cursor(factory)


@MODES
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("kind", [None, sqlite3.Connection, SilentConnection], ids=["path", "own", "silent"])
def test_what_another_process_does_between_two_steps_is_respected(
    migrations: Path, database: Path, mode: str, meanwhile: str, kind: type[sqlite3.Connection] | None
) -> None:
    action, expected, end = MEANWHILE[meanwhile]
    tables(migrations, 4, kind=APART)
    laid(database, mode)
    report = between("0002", lambda: action(database, migrations))
    with closing(sqlite3.connect(database, factory=kind or sqlite3.Connection)) as connection:
        steps = migrate(connection if kind else database, migrations, progress=report)
    assert [step.version for step in steps] == expected
    assert current(database, migrations).version == end
    assert query(database, "SELECT count(*) FROM sqlite_master WHERE name LIKE 't0%'") == [
        (len({*logged(database)}),)
    ]


@MODES
def test_a_newer_release_between_two_steps_stops_the_run(migrations: Path, database: Path, mode: str) -> None:
    tables(migrations, 3, kind=APART)
    laid(database, mode)
    report = between("0001", lambda: moved_on(database))
    told = (
        f"VersionError: {database} is at 0009, but this code knows only base to 0003; it was upgraded by newer "
        "code; nothing was changed; to record 0003 and leave the rest as it is, "
        "run: python3 -m vmpilot.migrate stamp 0003"
    )
    ran = versions(lambda: migrate(database, migrations, progress=report))
    assert ran == [pasteable(told, database, migrations)]


def test_a_file_outside_a_transaction_stops_when_another_process_was_faster(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    write(migrations, "0002_u", f"{OUTSIDE}CREATE TABLE IF NOT EXISTS u (a);")
    write(migrations, "0003_u", "ALTER TABLE u RENAME TO v;")
    theirs: list[str] = []
    faster = between(
        "0002", lambda: theirs.extend(versions(lambda: migrate(database, migrations))), done=False
    )
    assert versions(lambda: migrate(database, migrations, progress=faster)) == ["0001"]
    assert theirs == ["0002", "0003"]
    assert logged(database) == ["0001", "0002", "0003"]
    assert query(database, "SELECT name FROM sqlite_master WHERE name IN ('t', 'u', 'v') ORDER BY name") == [
        ("t",),
        ("v",),
    ]


def test_a_file_that_names_our_tables_is_begun_by_another_process_meanwhile(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    write(
        migrations,
        "0002_u",
        f"{OUTSIDE}-- Its row in migration_log comes last.\nCREATE TABLE IF NOT EXISTS u (a);",
    )

    def stop() -> None:
        raise KeyboardInterrupt

    def begun() -> None:
        with pytest.raises(KeyboardInterrupt):
            migrate(database, migrations, progress=between("0002", stop, done=False))

    ran = versions(lambda: migrate(database, migrations, progress=between("0002", begun, done=False)))
    assert ran == ["0001", "0002"]
    begins = query(database, "SELECT version FROM migration_log WHERE action = 'start'")
    assert begins == [("0002",), ("0002",)]


# --- others that move the version


@pytest.mark.parametrize("logged_before", [True, False], ids=["by us before", "by Alembic alone"])
def test_what_alembic_applied_and_we_undid_is_applied_again(
    migrations: Path, database: Path, logged_before: bool
) -> None:
    tables(migrations, 3)
    migrate(database, migrations, target="0002" if logged_before else "0001")
    if logged_before:
        downgrade(database, migrations, backup=False)
    with closing(sqlite3.connect(database)) as connection:  # as Alembic does: without our log
        connection.executescript("CREATE TABLE t0002 (a); UPDATE alembic_version SET version_num = '0002';")
    assert current(database, migrations).version == "0002"
    assert versions(lambda: downgrade(database, migrations, backup=False)) == ["0002"]
    assert current(database, migrations).version == "0001"
    assert versions(lambda: migrate(database, migrations)) == ["0002", "0003"]
    assert query(database, "SELECT a FROM t0002") == [(2,)]
    assert [entry.state for entry in history(database, migrations)] == ["applied"] * 3


def test_a_file_that_comes_late_is_told_from_those_that_are_pending(migrations: Path, database: Path) -> None:
    for number in (1, 3):
        tables(migrations, 1, start=number)
    migrate(database, migrations)
    before = database.read_bytes()
    for number in (2, 4):
        tables(migrations, 1, start=number)
    assert [(entry.version, entry.state) for entry in history(database, migrations)] == [
        ("0001", "applied"),
        ("0002", "late"),
        ("0003", "applied"),
        ("0004", "pending"),
    ]
    late = (
        f"HistoryError: {migrations}/0002_table.up.sql: never applied, and {database} is already at 0003; nothing "
        "was changed; to give it the next free number, run: python3 -m vmpilot.migrate renumber 0002_table"
    )
    late = pasteable(late, database, migrations)
    assert versions(lambda: migrate(database, migrations)) == [late]
    assert versions(lambda: migrate(database, migrations, target="0004")) == [late]
    assert database.read_bytes() == before
    found = current(database, migrations)
    assert (found.version, found.at_head, found.pending) == ("0003", False, 1)
    for direction in ("up", "down"):
        (migrations / f"0002_table.{direction}.sql").rename(migrations / f"0005_table.{direction}.sql")
    assert versions(lambda: migrate(database, migrations)) == ["0004", "0005"]


# --- waiting for a lock


def tries_until(connection: sqlite3.Connection, other: sqlite3.Connection, number: int = 3) -> list[str]:
    """Let the other give up its transaction when a statement has been tried so often on this connection.

    Returns the list of the statements tried again while there was one. To be called before it begins:
    without the schema, SQLite tries none.
    """
    connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    last, again = "", []

    def look(sql: str) -> None:
        nonlocal last
        if other.in_transaction and sql == last:
            again.append(sql)
            if not len(again) % (number - 1):
                other.execute("ROLLBACK")
        last = sql

    connection.set_trace_callback(look)
    return again


@MODES
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_writer_is_waited_for(
    migrations: Path,
    database: Path,
    mode: str,
    lock: str,
    connection: sqlite3.Connection,
    other: sqlite3.Connection,
) -> None:
    expected = tables(migrations, 2)
    laid(database, mode, "CREATE TABLE own (a);")
    again = tries_until(connection, other)
    other.execute(f"BEGIN {lock}")
    other.execute("INSERT INTO own VALUES (1)")
    assert versions(lambda: migrate(connection, migrations)) == expected
    assert len(again) == 2
    assert len({*again}) == 1


@MODES
def test_a_writer_in_another_process_is_waited_for(migrations: Path, database: Path, mode: str) -> None:
    expected = tables(migrations, 2)
    laid(database, mode, "CREATE TABLE own (a);")
    with held(database, "BEGIN EXCLUSIVE"):
        short = versions(lambda: migrate(database, migrations, timeout=0))
        child = forked(lambda: versions(lambda: migrate(database, migrations)))
    assert short == [f"AccessError: {database}: locked by another process for 0 s; nothing was changed"]
    assert ended(child) == (0, expected)


def shared(database: Path) -> sqlite3.Connection:
    uri = f"file:{database}?cache=shared"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0, check_same_thread=False)


def test_a_writer_that_shares_its_cache_is_waited_for(migrations: Path, database: Path) -> None:
    expected = tables(migrations, 2)
    laid(database, "DELETE", "CREATE TABLE own (a);")
    tried: list[str] = []
    enough = threading.Event()

    def look(sql: str) -> None:
        tried.append(sql)
        if tried[-3:] == ["BEGIN IMMEDIATE"] * 3:
            enough.set()

    with closing(shared(database)) as other, closing(shared(database)) as connection:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO own VALUES (1)")
        with pytest.raises(sqlite3.OperationalError) as refused:
            connection.execute("BEGIN IMMEDIATE")
        assert refused.value.sqlite_errorcode == sqlite3.SQLITE_LOCKED_SHAREDCACHE
        connection.set_trace_callback(look)
        # Not in the callback, in which this connection holds what the other one needs.
        thread = threading.Thread(
            target=lambda: enough.wait(LONGEST) and other.execute("ROLLBACK"), daemon=True
        )
        thread.start()
        assert versions(lambda: migrate(connection, migrations)) == expected
        thread.join(LONGEST)
        connection.set_trace_callback(None)
    assert enough.is_set()


@MODES
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize(("timeout", "tried"), [(0, 0), (0.2, 2)])
def test_a_writer_is_waited_for_as_long_as_the_timeout_says(
    migrations: Path,
    database: Path,
    mode: str,
    lock: str,
    timeout: float,
    tried: int,
    connection: sqlite3.Connection,
    other: sqlite3.Connection,
) -> None:
    tables(migrations, 2)
    laid(database, mode, "CREATE TABLE own (a);")
    before = database.read_bytes()
    again = tries_until(connection, other, number=10**9)
    other.execute(f"BEGIN {lock}")
    with pytest.raises(AccessError) as caught:
        migrate(connection, migrations, timeout=timeout)
    assert (
        str(caught.value) == f"{database}: locked by another process for {timeout:g} s; nothing was changed"
    )
    assert caught.value.database == str(database)
    assert len(again[:2]) == tried
    other.execute("ROLLBACK")
    assert database.read_bytes() == before
    assert len(migrate(connection, migrations)) == 2


def test_two_locks_that_together_take_longer_than_the_timeout_are_waited_for(
    migrations: Path, database: Path, connection: sqlite3.Connection, other: sqlite3.Connection
) -> None:
    expected = tables(migrations, 2, kind=APART)
    timeout, locked_at, waited = 0.2, 0.0, 0.0

    def lock() -> None:
        nonlocal locked_at
        other.execute("BEGIN IMMEDIATE")
        locked_at = time.monotonic()

    def look(sql: str) -> None:  # the last try is not made before the timeout
        nonlocal waited
        if other.in_transaction and time.monotonic() - locked_at > 0.6 * timeout:
            waited += time.monotonic() - locked_at
            other.execute("ROLLBACK")

    connection.set_trace_callback(look)
    lock()
    steps = migrate(connection, migrations, timeout=timeout, progress=between("0001", lock))
    assert [step.version for step in steps] == expected
    assert waited > timeout


def test_a_lock_between_two_steps_is_told_with_what_is_kept(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    tables(migrations, 3, kind=APART)
    report = between("0002", lambda: other.execute("BEGIN IMMEDIATE"))
    assert versions(lambda: migrate(database, migrations, timeout=0.05, progress=report)) == [
        f"AccessError: {database}: locked by another process for 0.05 s; {database} is at 0002"
    ]
    other.execute("ROLLBACK")
    assert versions(lambda: migrate(database, migrations)) == ["0003"]


def test_a_command_that_waits_too_long_says_so(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    tables(migrations, 1)
    other.execute("BEGIN IMMEDIATE")
    done = command("-d", database, "--migrations", migrations, "--timeout", "0.1")
    said = f"error: {database}: locked by another process for 0.1 s; nothing was changed\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_reader_that_blocks_commit_is_waited_for(
    migrations: Path, database: Path, connection: sqlite3.Connection, other: sqlite3.Connection
) -> None:
    expected = tables(migrations, 2)
    laid(database, "DELETE", "CREATE TABLE own (a);")
    again = tries_until(connection, other)
    other.execute("BEGIN")
    other.execute("SELECT * FROM own").fetchall()
    assert versions(lambda: migrate(connection, migrations)) == expected
    assert again[-1] == "COMMIT"


@pytest.mark.parametrize("action", ["upgrade", "downgrade", "stamp"])
def test_a_reader_that_blocks_commit_for_too_long_ends_the_step(
    migrations: Path, database: Path, other: sqlite3.Connection, action: str
) -> None:
    tables(migrations, 2)
    migrate(database, migrations, target="0001")
    before = database.read_bytes()
    other.execute("BEGIN")
    other.execute("SELECT * FROM t0001").fetchall()
    actions: dict[str, Callable[[], object]] = {
        "upgrade": lambda: migrate(database, migrations, timeout=0.1),
        "downgrade": lambda: downgrade(database, migrations, timeout=0.1, backup=False),
        "stamp": lambda: stamp("head", database, migrations, timeout=0.1),
    }
    fate = "nothing was changed" if action == "stamp" else f"rolled back, {database} is still at 0001"
    assert versions(actions[action]) == [
        f"AccessError: {database}: COMMIT kept waiting by a reader for 0.1 s; {fate}"
    ]
    other.execute("COMMIT")
    assert database.read_bytes() == before
    assert versions(lambda: migrate(database, migrations)) == ["0002"]


def test_a_reader_blocks_nobody_in_a_write_ahead_log(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    tables(migrations, 2)
    laid(database, "WAL", "CREATE TABLE own (a);")
    other.execute("BEGIN")
    other.execute("SELECT * FROM own").fetchall()
    assert len(migrate(database, migrations, timeout=0)) == 2
    other.execute("COMMIT")


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_file_outside_a_transaction_waits_at_every_moment(
    migrations: Path, database: Path, connection: sqlite3.Connection, other: sqlite3.Connection, moment: str
) -> None:
    write(migrations, "0001_base", "CREATE TABLE t (a);\nCREATE VIEW v AS SELECT * FROM t;")
    migrate(database, migrations)
    lines = ["CREATE TABLE IF NOT EXISTS u (a);", "CREATE TABLE IF NOT EXISTS w (a);"]
    if moment != "before":
        lines.insert(1 if moment == "between" else 2, "SELECT lock();")
    write(migrations, "0002_u", OUTSIDE + "\n".join(lines))

    def lock() -> None:
        other.execute("BEGIN EXCLUSIVE")

    connection.create_function("lock", 0, lock)
    again = tries_until(connection, other)
    begins = between("0002", lock, done=False) if moment == "before" else None
    assert versions(lambda: migrate(connection, migrations, progress=begins)) == ["0002"]
    assert len(again) == 2
    assert len({*again}) == 1


def test_a_file_outside_a_transaction_says_how_far_it_came_before_a_lock(
    migrations: Path, database: Path, connection: sqlite3.Connection, other: sqlite3.Connection
) -> None:
    up = f"{OUTSIDE}CREATE TABLE t (a);\nSELECT lock();\nCREATE TABLE u (a);"
    write(migrations, "0001_base", up)
    connection.create_function("lock", 0, lambda: other.execute("BEGIN EXCLUSIVE") and None)
    assert versions(lambda: migrate(connection, migrations, timeout=0.05)) == [
        f"AccessError: {database}: locked by another process for 0.05 s; statements 1 to 2 (lines 2 to 3) "
        f"have taken effect already, {database} is still at base, and the file will run again from its start"
    ]


def test_an_error_that_speaks_of_a_lock_is_not_taken_for_one(migrations: Path, database: Path) -> None:
    up = (
        f"{OUTSIDE}CREATE TABLE t (a);\nCREATE TRIGGER no BEFORE INSERT ON t BEGIN "
        "SELECT RAISE(ABORT, 'the account is locked'); END;\nINSERT INTO t VALUES (1);"
    )
    write(migrations, "0001_t", up)
    with pytest.raises(StepError) as caught:
        migrate(database, migrations, timeout=30)
    assert str(caught.value) == (
        f"{migrations}/0001_t.up.sql:4: the account is locked; statements 1 to 2 (lines 2 to 3) have "
        f"taken effect already, {database} is still at base, and the file will run again from its start"
    )


# --- with nothing to do


def look(database: Path, migrations: Path) -> None:
    """Do all that only looks, and waits for nobody."""
    assert migrate(database, migrations, timeout=0) == ()
    assert migrate(database, migrations, timeout=0, target="0002") == ()
    assert current(database, migrations, timeout=0).version == "0002"
    assert [entry.state for entry in history(database, migrations, timeout=0)] == ["applied"] * 2


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a directory, those without meaning for others by name only."""
    return {
        path.name: b"" if path.name.endswith("-shm") else path.read_bytes()
        for path in directory.iterdir()
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("mode", "lock"), [("DELETE", "IMMEDIATE"), ("WAL", "IMMEDIATE"), ("WAL", "EXCLUSIVE")]
)
def test_with_nothing_to_do_nobody_waits(migrations: Path, database: Path, mode: str, lock: str) -> None:
    tables(migrations, 2)
    laid(database, mode)
    migrate(database, migrations)
    before = contents(database.parent)
    with held(database, f"BEGIN {lock}", "INSERT INTO t0001 VALUES (7)"):
        look(database, migrations)
    assert contents(database.parent).keys() == before.keys()


def left_with_log(migrations: Path, database: Path) -> dict[str, bytes]:
    """Migrate a database that a process then leaves with a write-ahead log, and return what is there."""
    tables(migrations, 2)
    laid(database, "WAL")
    migrate(database, migrations)

    def die() -> None:
        connection = sqlite3.connect(database)
        connection.execute("INSERT INTO t0001 VALUES (7)")
        connection.commit()
        os._exit(3)  # without closing: so the log stays

    assert ended(forked(die)) == (3, None)
    left = contents(database.parent)
    assert left[f"{database.name}-wal"]
    return left


def test_with_nothing_to_do_the_log_that_a_dead_process_left_stays_as_it_is(
    migrations: Path, database: Path
) -> None:
    before = left_with_log(migrations, database)
    look(database, migrations)
    assert contents(database.parent) == before
    assert query(database, "SELECT a FROM t0001 ORDER BY a") == [(1,), (7,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give another user its rights")
def test_with_nothing_to_do_the_log_stays_also_for_a_user_who_was_given_rights(
    migrations: Path, database: Path
) -> None:
    before = left_with_log(migrations, database)

    def look_as_another() -> None:
        os.setreuid(65534, 0)  # as a program does that is set-user-ID
        look(database, migrations)

    assert ended(forked(look_as_another)) == (0, None)
    assert contents(database.parent) == before


def test_with_nothing_to_do_a_vanishing_write_ahead_log_disturbs_nobody(
    migrations: Path, database: Path
) -> None:
    tables(migrations, 1)
    laid(database, "WAL")
    migrate(database, migrations)

    def come_and_go() -> tuple[()]:
        for number in range(100):
            with closing(sqlite3.connect(database, timeout=LONGEST)) as connection:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("UPDATE t0001 SET a = ?", (number,))
                connection.commit()
        return ()

    def looks() -> tuple[()]:
        for _ in range(200):
            assert migrate(database, migrations) == ()
        return ()

    assert race([come_and_go, looks, looks]) == [[], [], []]


# --- read-only


def as_nobody(work: Callable[[], object]) -> list[str]:
    """Do it as one for whom permissions count; return its error, if any."""
    with nobody():
        return versions(lambda: work() or ())


READ_ONLY = pytest.mark.parametrize(
    ("of_file", "of_directory"),
    [(0o444, 0o777), (0o666, 0o555), (0o444, 0o555)],
    ids=["file", "directory", "both"],
)


@READ_ONLY
@pytest.mark.parametrize("mode", ["DELETE", "WAL", "WAL in use"])
def test_with_nothing_to_do_what_is_read_only_is_fine(
    shelf: Path, mode: str, of_file: int, of_directory: int
) -> None:
    migrations, place = shelf / "migrations", shelf / "place"
    database = place / "app.db"
    tables(migrations, 2)
    laid(database, mode.split()[0])
    migrate(database, migrations)
    with ExitStack() as stack:
        if mode == "WAL in use":
            stack.enter_context(held(database, "INSERT INTO t0001 VALUES (7)"))
        database.chmod(of_file)
        place.chmod(of_directory)
        before = contents(place)
        assert as_nobody(lambda: look(database, migrations)) == []
        assert contents(place) == before


@READ_ONLY
@MODES
def test_with_something_to_do_what_is_read_only_is_an_access_error(
    shelf: Path, mode: str, of_file: int, of_directory: int
) -> None:
    migrations, place = shelf / "migrations", shelf / "place"
    database = place / "app.db"
    tables(migrations, 1)
    laid(database, mode, "CREATE TABLE own (a);")
    before = database.read_bytes()
    database.chmod(of_file)
    place.chmod(of_directory)
    (outcome,) = as_nobody(lambda: migrate(database, migrations, timeout=0))
    with nobody():
        words = denied(database, "write to")
        if of_file == 0o666:
            words = denied(place, "write to", ", where SQLite must create the journal of app.db")
        elif of_directory == 0o555:
            words = denied_both(database)
    assert outcome == f"AccessError: {words}"
    assert contents(place) == {"app.db": before}


def test_what_cannot_even_be_looked_for_is_an_access_error_and_not_an_empty_database(shelf: Path) -> None:
    migrations, database = shelf / "migrations", shelf / "place" / "app.db"
    tables(migrations, 1)
    migrate(database, migrations)
    database.parent.chmod(0o000)
    with nobody():
        said = [f"AccessError: {denied(database.parent, 'search')}"]
    assert as_nobody(lambda: migrate(database, migrations)) == said
    assert as_nobody(lambda: current(database, migrations)) == said
    assert as_nobody(lambda: history(database, migrations)) == said


@MODES
def test_with_nothing_to_do_a_read_only_mount_is_fine(shelf: Path, mode: str) -> None:
    migrations, place = shelf / "migrations", shelf / "place"
    database = place / "app.db"
    tables(migrations, 2)
    laid(database, mode)
    migrate(database, migrations)
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" || exit 77; shift 0; exec "$@"'
    program = [sys.executable, "-m", "vmpilot.migrate", "-d", str(database), "--migrations", str(migrations)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = unshared(["unshare", "--mount", "sh", "-c", mount, str(place), *program], variables)
    assert said == (0, f"{database} is at 0002 (head), nothing to do\n", "")
    assert os.listdir(place) == ["app.db"]
