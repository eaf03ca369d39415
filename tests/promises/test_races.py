"""Proves that any number of processes and threads may start at once, and that a lock is waited for.

Every process ends well, each migration is applied exactly once, and where there is nothing to do
nobody waits and nothing is left behind, not even on what is read-only.
"""

import json
import os
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, command, query, write

from vmpilot.migrate import AccessError, Progress, StepError, current, downgrade, history, migrate, stamp

MODES = pytest.mark.parametrize("mode", ["DELETE", "WAL"])


class Child:
    """A forked process that waits until the pipe `gate` ends, does some work, and tells what came of it."""

    def __init__(self, work: Callable[[], object], gate: int, go: int) -> None:
        self.answers, answer = os.pipe()
        self._process = os.fork()
        if not self._process:
            os.close(go)
            os.read(gate, 1)
            os.write(answer, json.dumps(_outcome(work)).encode())
            os._exit(0)
        os.close(answer)

    def is_silent(self, seconds: float) -> bool:
        """Tell whether it has nothing to say for so long."""
        return not select.select([self.answers], [], [], seconds)[0]

    def outcome(self) -> list[str]:
        """Return the versions of the steps that it did, or its error."""
        with open(self.answers, "rb") as file:
            data = file.read()
        assert os.waitpid(self._process, 0)[1] == 0
        return list(json.loads(data))


def _outcome(work: Callable[[], object]) -> list[str]:
    try:
        steps: Any = work()
        return [step.version for step in steps]
    except BaseException as error:
        return [f"{type(error).__name__}: {error}"]


def race(works: list[Callable[[], object]]) -> list[list[str]]:
    """Start all at once, each in a process of its own, and return their outcomes."""
    gate, go = os.pipe()
    children = [Child(work, gate, go) for work in works]
    os.close(gate)
    os.close(go)  # all of them see the end of the pipe at once
    return [child.outcome() for child in children]


def started(work: Callable[[], object]) -> Child:
    gate, go = os.pipe()
    child = Child(work, gate, go)
    os.close(gate)
    os.close(go)
    return child


def logged(database: Path) -> list[str]:
    rows = query(database, "SELECT version FROM migration_log WHERE action = 'upgrade' ORDER BY id")
    return [str(version) for (version,) in rows]


def tables(migrations: Path, count: int, start: int = 1) -> list[str]:
    """Write migrations that succeed only once, each with a row, and return their versions."""
    versions = [f"{number:04}" for number in range(start, start + count)]
    for version in versions:
        up = f"CREATE TABLE t{version} (a);\nINSERT INTO t{version} VALUES ({int(version)});"
        write(migrations, f"{version}_table", up, f"DROP TABLE t{version};")
    return versions


def made(database: Path, mode: str, sql: str = "") -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        connection.executescript(sql)


# --- many at once


def start_at_once(tmp_path: Path, migrations: Path, mode: str, processes: int, rounds: int) -> None:
    versions = tables(migrations, 5)
    for number in range(rounds):
        database = tmp_path / f"{number}.db"
        if mode == "WAL":
            made(database, mode)
        elif number % 2:
            database.touch()
        outcomes = race([partial(migrate, database, migrations)] * processes)
        assert len(outcomes) == processes
        assert sorted(version for outcome in outcomes for version in outcome) == versions
        assert logged(database) == versions
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
    versions = tables(migrations, 3)
    made(database, mode)
    arguments = [
        sys.executable,
        "-m",
        "vmpilot.migrate",
        "-d",
        str(database),
        "--migrations",
        str(migrations),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(6)
    ]
    answers = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert [(errors, code) for _, errors, code in answers] == [("", 0)] * 6
    assert all(output.splitlines()[-1].startswith(f"{database} is at 0003") for output, _, _ in answers)
    assert logged(database) == versions


@MODES
@pytest.mark.parametrize("own", ["paths", "connections"])
def test_threads_that_start_at_once_apply_each_migration_once(
    migrations: Path, database: Path, mode: str, own: str
) -> None:
    versions = tables(migrations, 5)
    made(database, mode)
    barrier = threading.Barrier(8)
    outcomes: list[list[str]] = []

    def work() -> None:
        with closing(sqlite3.connect(database)) as connection:
            barrier.wait()
            target = database if own == "paths" else connection
            outcomes.append(_outcome(lambda: migrate(target, migrations)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert sorted(version for outcome in outcomes for version in outcome) == versions
    assert logged(database) == versions


@MODES
def test_an_older_and_a_newer_release_that_start_at_once(
    tmp_path: Path, migrations: Path, database: Path, mode: str
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    tables(older, 2)
    versions = tables(migrations, 4)
    made(database, mode)
    outcomes = race([lambda: migrate(database, older), lambda: migrate(database, migrations)] * 8)
    refusals = {
        f"VersionError: {database} is at {version}, but this code knows only base to 0002; it was "
        "upgraded by newer "
        "code; nothing was changed; to take it back, run: python -m vmpilot.migrate downgrade head"
        for version in ("0003", "0004")
    }
    # What an older one did before it was refused is in the log alone.
    assert {version for outcome in outcomes for version in outcome} <= {*versions, *refusals}
    assert not refusals & {version for outcome in outcomes[1::2] for version in outcome}
    assert logged(database) == versions


@MODES
def test_a_relative_target_is_reached_once(migrations: Path, database: Path, mode: str) -> None:
    tables(migrations, 3)
    made(database, mode)
    migrate(database, migrations, target="1")
    outcomes = race([lambda: migrate(database, migrations, target="+1")] * 8)
    done = [version for outcome in outcomes for version in outcome]
    # One that starts when another has ended moves on by one more, or finds no more.
    end = f"VersionError: cannot move by +1: {database} is at 0003, 0 steps from head; nothing was changed"
    assert {version for version in done if version != end} <= {"0002", "0003"}
    assert logged(database) == ["0001", "0002", "0003"][: len(logged(database))]


@MODES
def test_downgrades_that_start_at_once_undo_each_migration_once(
    migrations: Path, database: Path, mode: str
) -> None:
    versions = tables(migrations, 4)
    made(database, mode)
    migrate(database, migrations)
    outcomes = race([lambda: downgrade(database, migrations, target="base", backup=False)] * 8)
    assert sorted(version for outcome in outcomes for version in outcome) == versions
    assert current(database, migrations).version is None
    assert query(database, "SELECT count(*) FROM migration_log WHERE action = 'downgrade'") == [(4,)]


@MODES
def test_a_file_outside_a_transaction_is_recorded_once(migrations: Path, database: Path, mode: str) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);\nINSERT INTO t VALUES (1);")
    up = (
        "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS u (a);\n"
        "CREATE INDEX IF NOT EXISTS i ON u (a);\nVACUUM;"
    )
    write(migrations, "0002_u", up)
    write(migrations, "0003_t", "CREATE TABLE v (a);\nINSERT INTO t VALUES (2);")
    made(database, mode)
    outcomes = race([lambda: migrate(database, migrations)] * 8)
    assert sorted(version for outcome in outcomes for version in outcome) == ["0001", "0002", "0003"]
    assert logged(database) == ["0001", "0002", "0003"]
    assert query(database, "SELECT a FROM t") == [(1,), (2,)]


def test_processes_that_ask_for_a_write_ahead_log_at_once_all_get_it(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_wal", "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL;")
    versions = ["0001", *tables(migrations, 3, start=2)]
    outcomes = race([lambda: migrate(database, migrations)] * 8)
    assert sorted(version for outcome in outcomes for version in outcome) == versions
    assert query(database, "PRAGMA journal_mode") == [("wal",)]


# --- another process between two steps


def between(version: str, action: Callable[[], object]) -> Callable[[Progress], None]:
    """Return a progress callback that acts once, when this version is committed."""
    waiting = [action]

    def report(progress: Progress) -> None:
        if progress.done and progress.step.version == version and waiting:
            waiting.pop()()

    return report


@MODES
def test_what_another_process_does_between_two_steps_is_not_done_again(
    migrations: Path, database: Path, mode: str
) -> None:
    versions = tables(migrations, 4)
    made(database, mode)
    report = between("0001", lambda: migrate(database, migrations, target="0003"))
    assert [step.version for step in migrate(database, migrations, progress=report)] == ["0001", "0004"]
    assert logged(database) == versions


@MODES
def test_what_another_process_undoes_between_two_steps_is_done_again(
    migrations: Path, database: Path, mode: str
) -> None:
    tables(migrations, 3)
    made(database, mode)
    report = between("0002", lambda: downgrade(database, migrations, target="base", backup=False))
    steps = migrate(database, migrations, progress=report)
    assert [step.version for step in steps] == ["0001", "0002", "0001", "0002", "0003"]
    assert current(database, migrations).at_head


@MODES
def test_a_stamp_between_two_steps_is_respected(migrations: Path, database: Path, mode: str) -> None:
    tables(migrations, 3)
    made(database, mode)
    report = between("0001", lambda: stamp("head", database, migrations))
    assert [step.version for step in migrate(database, migrations, progress=report)] == ["0001"]
    assert current(database, migrations).at_head


@MODES
def test_a_newer_release_between_two_steps_stops_the_run(migrations: Path, database: Path, mode: str) -> None:
    tables(migrations, 3)
    made(database, mode)

    def move_on() -> None:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0009'")
            connection.commit()

    outcome = _outcome(lambda: migrate(database, migrations, progress=between("0001", move_on)))
    assert outcome == [
        f"VersionError: {database} is at 0009, but this code knows only base to 0003; it was "
        "upgraded by newer code; "
        "nothing was changed; to take it back, run: python -m vmpilot.migrate downgrade head"
    ]


def test_a_file_outside_a_transaction_stops_when_another_process_was_faster(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    write(migrations, "0002_u", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS u (a);")
    write(migrations, "0003_u", "ALTER TABLE u RENAME TO v;")
    waiting = [lambda: migrate(database, migrations)]

    def report(progress: Progress) -> None:
        if progress.step.version == "0002" and not progress.done and waiting:
            assert [step.version for step in waiting.pop()()] == ["0002", "0003"]

    assert [step.version for step in migrate(database, migrations, progress=report)] == ["0001"]
    assert logged(database) == ["0001", "0002", "0003"]
    assert query(database, "SELECT name FROM sqlite_master WHERE name IN ('t', 'u', 'v') ORDER BY name") == [
        ("t",),
        ("v",),
    ]


# --- waiting for a lock


@pytest.fixture
def other(database: Path) -> Iterator[sqlite3.Connection]:
    """Another connection to the database."""
    with closing(
        sqlite3.connect(database, isolation_level=None, timeout=0, check_same_thread=False)
    ) as connection:
        yield connection


def waits(work: Callable[[], object], release: Callable[[], object]) -> list[str]:
    """Return the outcome of work that does not end before `release` is called."""
    child = started(work)
    assert child.is_silent(0.3)
    release()
    return child.outcome()


def held(database: Path, *statements: str) -> subprocess.Popen[str]:
    """Start a process that executes statements and keeps its connection until its input ends."""
    hold = (
        "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for statement in sys.argv[2:]: connection.execute(statement).fetchall()\n"
        "print('held', flush=True)\ninput()\nconnection.close()\nprint('gone', flush=True)"
    )
    arguments = [sys.executable, "-c", hold, str(database), *statements]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def released(process: subprocess.Popen[str]) -> None:
    assert process.communicate("\n", timeout=60)[0] == "gone\n"


@MODES
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_writer_is_waited_for(migrations: Path, database: Path, mode: str, lock: str) -> None:
    versions = tables(migrations, 2)
    made(database, mode, "CREATE TABLE own (a);")
    holder = held(database, f"BEGIN {lock}", "INSERT INTO own VALUES (1)")
    assert waits(lambda: migrate(database, migrations), lambda: released(holder)) == versions


@MODES
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_writer_is_waited_for_as_long_as_the_timeout_says(
    migrations: Path, database: Path, mode: str, lock: str, timeout: float, other: sqlite3.Connection
) -> None:
    tables(migrations, 2)
    made(database, mode, "CREATE TABLE own (a);")
    before = database.read_bytes()
    other.execute(f"BEGIN {lock}")
    start = time.monotonic()
    with pytest.raises(AccessError) as caught:
        migrate(database, migrations, timeout=timeout)
    assert timeout <= time.monotonic() - start < timeout + 5
    assert (
        str(caught.value) == f"{database}: locked by another process for {timeout:g} s; nothing was changed"
    )
    assert caught.value.database == str(database)
    other.execute("ROLLBACK")
    assert database.read_bytes() == before
    assert len(migrate(database, migrations)) == 2


def test_a_lock_between_two_steps_is_told_with_what_is_kept(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    tables(migrations, 3)
    report = between("0002", lambda: other.execute("BEGIN IMMEDIATE"))
    with pytest.raises(AccessError) as caught:
        migrate(database, migrations, timeout=0.05, progress=report)
    assert str(caught.value) == f"{database}: locked by another process for 0.05 s; {database} is at 0002"
    other.execute("ROLLBACK")
    assert [step.version for step in migrate(database, migrations)] == ["0003"]


def test_a_command_that_waits_too_long_says_so(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    tables(migrations, 1)
    other.execute("BEGIN IMMEDIATE")
    done = command("-d", database, "--migrations", migrations, "--timeout", "0.1")
    said = f"error: {database}: locked by another process for 0.1 s; nothing was changed\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_reader_that_blocks_commit_is_waited_for(migrations: Path, database: Path) -> None:
    versions = tables(migrations, 2)
    made(database, "DELETE", "CREATE TABLE own (a);")
    holder = held(database, "BEGIN", "SELECT * FROM own")
    assert waits(lambda: migrate(database, migrations), lambda: released(holder)) == versions


@pytest.mark.parametrize("wish", ["upgrade", "downgrade", "stamp"])
def test_a_reader_that_blocks_commit_for_too_long_ends_the_step(
    migrations: Path, database: Path, other: sqlite3.Connection, wish: str
) -> None:
    tables(migrations, 2)
    migrate(database, migrations, target="0001")
    before = database.read_bytes()
    other.execute("BEGIN")
    other.execute("SELECT * FROM t0001").fetchall()
    wishes: dict[str, Callable[[], object]] = {
        "upgrade": lambda: migrate(database, migrations, timeout=0.1),
        "downgrade": lambda: downgrade(database, migrations, timeout=0.1, backup=False),
        "stamp": lambda: stamp("head", database, migrations, timeout=0.1),
    }
    with pytest.raises(AccessError) as caught:
        wishes[wish]()
    fate = "nothing was changed" if wish == "stamp" else f"rolled back, {database} is still at 0001"
    assert str(caught.value) == f"{database}: COMMIT kept waiting by a reader for 0.1 s; {fate}"
    other.execute("COMMIT")
    assert database.read_bytes() == before
    assert [step.version for step in migrate(database, migrations)] == ["0002"]


def test_a_reader_blocks_nobody_in_a_write_ahead_log(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    tables(migrations, 2)
    made(database, "WAL", "CREATE TABLE own (a);")
    other.execute("BEGIN")
    other.execute("SELECT * FROM own").fetchall()
    assert len(migrate(database, migrations, timeout=0)) == 2
    other.execute("COMMIT")


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_file_outside_a_transaction_waits_at_every_moment(
    migrations: Path, database: Path, other: sqlite3.Connection, moment: str
) -> None:
    write(migrations, "0001_base", "CREATE TABLE t (a);\nCREATE VIEW v AS SELECT * FROM t;")
    migrate(database, migrations)
    calls = {"before": "", "between": "SELECT lock();\n", "after": ""}
    end = "\nSELECT lock();" if moment == "after" else ""
    up = f"-- vmpilot: no-transaction\n{calls[moment]}CREATE TABLE IF NOT EXISTS u (a);{end}"
    write(migrations, "0002_u", up)
    timers: list[threading.Timer] = []

    def lock() -> None:
        other.execute("BEGIN EXCLUSIVE")
        timers.append(threading.Timer(0.2, other.execute, ["ROLLBACK"]))
        timers[0].start()

    def report(progress: Progress) -> None:
        if moment == "before" and not timers:
            lock()

    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("lock", 0, lock)
        try:
            steps = migrate(connection, migrations, progress=report)
        finally:
            for timer in timers:
                timer.join()
    assert [step.version for step in steps] == ["0002"]
    assert len(timers) == 1


def test_a_file_outside_a_transaction_says_how_far_it_came_before_a_lock(
    migrations: Path, database: Path, other: sqlite3.Connection
) -> None:
    write(
        migrations,
        "0001_base",
        "-- vmpilot: no-transaction\nCREATE TABLE t (a);\nSELECT lock();\nCREATE TABLE u (a);",
    )
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("lock", 0, lambda: other.execute("BEGIN EXCLUSIVE") and None)
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations, timeout=0.05)
    assert str(caught.value) == (
        f"{database}: locked by another process for 0.05 s; statements 1 to 2 (lines 2 to 3) have "
        "taken effect already, "
        f"{database} is still at base, and the file will run again from its start"
    )


def test_an_error_that_speaks_of_a_lock_is_not_taken_for_one(migrations: Path, database: Path) -> None:
    up = (
        "-- vmpilot: no-transaction\nCREATE TABLE t (a);\nCREATE TRIGGER no BEFORE INSERT ON t BEGIN "
        "SELECT RAISE(ABORT, 'the account is locked'); END;\nINSERT INTO t VALUES (1);"
    )
    write(migrations, "0001_t", up)
    with pytest.raises(StepError) as caught:
        migrate(database, migrations, timeout=30)
    assert str(caught.value) == (
        f"{migrations}/0001_t.up.sql:4: the account is locked; statements 1 to 2 (lines 2 to 3) have "
        "taken effect "
        f"already, {database} is still at base, and the file will run again from its start"
    )


# --- with nothing to do


def looks(database: Path, migrations: Path) -> list[Callable[[], object]]:
    return [
        lambda: migrate(database, migrations, timeout=0),
        lambda: migrate(database, migrations, timeout=0, target="0002"),
        lambda: current(database, migrations, timeout=0),
        lambda: history(database, migrations, timeout=0),
    ]


@pytest.mark.parametrize(
    ("mode", "lock"), [("DELETE", "IMMEDIATE"), ("WAL", "IMMEDIATE"), ("WAL", "EXCLUSIVE")]
)
def test_with_nothing_to_do_nobody_waits(migrations: Path, database: Path, mode: str, lock: str) -> None:
    tables(migrations, 2)
    made(database, mode)
    migrate(database, migrations)
    before = sorted(os.listdir(database.parent))
    holder = held(database, f"BEGIN {lock}", "INSERT INTO t0001 VALUES (7)")
    for look in looks(database, migrations):
        look()
    assert migrate(database, migrations, timeout=0) == ()
    released(holder)
    assert sorted(os.listdir(database.parent)) == before


def test_with_nothing_to_do_the_log_that_a_dead_process_left_stays_as_it_is(
    migrations: Path, database: Path
) -> None:
    tables(migrations, 2)
    made(database, "WAL")
    migrate(database, migrations)

    def die() -> None:
        connection = sqlite3.connect(database)
        connection.execute("INSERT INTO t0001 VALUES (7)")
        connection.commit()
        os._exit(0)  # without closing: so the log stays

    with pytest.raises(json.JSONDecodeError):
        started(die).outcome()
    log = database.with_name(f"{database.name}-wal")
    before = database.read_bytes(), log.read_bytes()
    assert before[1]
    for look in looks(database, migrations):
        look()
    assert migrate(database, migrations) == ()
    assert (database.read_bytes(), log.read_bytes()) == before
    assert query(database, "SELECT a FROM t0001 ORDER BY a") == [(1,), (7,)]


def test_with_nothing_to_do_a_vanishing_write_ahead_log_disturbs_nobody(
    migrations: Path, database: Path
) -> None:
    tables(migrations, 1)
    made(database, "WAL")
    migrate(database, migrations)

    def come_and_go() -> tuple[()]:
        for number in range(200):
            with closing(sqlite3.connect(database, timeout=30)) as connection:
                connection.execute("UPDATE t0001 SET a = ?", (number,))
                connection.commit()
        return ()

    def look() -> tuple[()]:
        for _ in range(400):
            assert migrate(database, migrations) == ()
        return ()

    assert race([come_and_go, look, look]) == [[], [], []]


# --- read-only


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A directory that other users can read."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    for entry in directory.iterdir():
        entry.chmod(0o755)
    shutil.rmtree(directory)


def as_nobody(work: Callable[[], object]) -> list[str]:
    """Do it in a process without root's rights, for whom permissions count."""

    def humbled() -> object:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        return work()

    return started(humbled).outcome()


def looked_at(database: Path, migrations: Path) -> tuple[()]:
    for look in looks(database, migrations):
        look()
    assert migrate(database, migrations, timeout=0) == ()
    return ()


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
    migrations.mkdir()
    place.mkdir()
    database = place / "app.db"
    tables(migrations, 2)
    made(database, mode.split()[0])
    migrate(database, migrations)
    holder = held(database, "INSERT INTO t0001 VALUES (7)") if mode == "WAL in use" else None
    database.chmod(of_file)
    place.chmod(of_directory)
    before = {path.name: path.read_bytes() for path in place.iterdir() if not path.name.endswith("-shm")}
    names = sorted(os.listdir(place))
    assert as_nobody(lambda: looked_at(database, migrations)) == []
    assert sorted(os.listdir(place)) == names
    assert {
        path.name: path.read_bytes() for path in place.iterdir() if not path.name.endswith("-shm")
    } == before
    if holder:
        released(holder)


@READ_ONLY
@MODES
def test_with_something_to_do_what_is_read_only_is_an_access_error(
    shelf: Path, mode: str, of_file: int, of_directory: int
) -> None:
    migrations, place = shelf / "migrations", shelf / "place"
    migrations.mkdir()
    place.mkdir()
    database = place / "app.db"
    tables(migrations, 1)
    made(database, mode, "CREATE TABLE own (a);")
    before = database.read_bytes()
    database.chmod(of_file)
    place.chmod(of_directory)
    refusal = f"AccessError: {database}: attempt to write a readonly database; "
    (outcome,) = as_nobody(lambda: migrate(database, migrations, timeout=0))
    assert outcome in (f"{refusal}nothing was changed", f"{refusal}rolled back, nothing was changed")
    assert database.read_bytes() == before


def test_what_cannot_even_be_looked_for_is_an_access_error_and_not_an_empty_database(shelf: Path) -> None:
    migrations, place = shelf / "migrations", shelf / "place"
    migrations.mkdir()
    place.mkdir()
    tables(migrations, 1)
    migrate(place / "app.db", migrations)
    place.chmod(0o000)
    database = place / "app.db"
    said = [f"AccessError: {database}: unable to open database file; nothing was changed"]
    try:
        assert as_nobody(lambda: migrate(database, migrations)) == said
        assert as_nobody(lambda: current(database, migrations)) == said
        assert as_nobody(lambda: history(database, migrations)) == said
    finally:
        place.chmod(0o755)


@MODES
def test_with_nothing_to_do_a_read_only_mount_is_fine(shelf: Path, mode: str) -> None:
    migrations, place = shelf / "migrations", shelf / "place"
    migrations.mkdir()
    place.mkdir()
    database = place / "app.db"
    tables(migrations, 2)
    made(database, mode)
    migrate(database, migrations)
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" || exit 77; shift 0; exec "$@"'
    program = [sys.executable, "-m", "vmpilot.migrate", "-d", str(database), "--migrations", str(migrations)]
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mount, str(place), *program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounting here")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{database} is at 0002 (head), nothing to do\n"
    assert os.listdir(place) == ["app.db"]
