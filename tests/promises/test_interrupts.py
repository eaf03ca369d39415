"""Proves that a signal stops a run soon, that what it did not finish is rolled back, and that it says so.

As a command with exit code and message; in the library with the exception that the signal raises, or,
on a caller's connection with a progress handler, with StepError.
"""

import contextlib
import gc
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from types import FrameType

import pytest
from support import COMMAND, LONGEST, OUTSIDE, laid, numbers, query, running, until, write

from vmpilot.migrate import AccessError, Progress, StepError, current, migrate

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
LONG = ENDLESS.replace("FROM n)", "FROM n WHERE i < 30000000)")
SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def endless(migrations: Path, kind: str = "", statement: str = ENDLESS) -> None:
    """Write a quick migration and one that never ends, or not soon."""
    write(migrations, "0001_quick", "CREATE TABLE t (a);")
    write(migrations, "0002_endless", f"{kind}CREATE TABLE IF NOT EXISTS u (a);\nINSERT INTO u {statement};")


def is_written(database: Path) -> bool:
    """Tell whether 0001 is committed and another process holds the write lock again."""
    try:
        if query(database, "SELECT version_num FROM alembic_version") != [("0001",)]:
            return False
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return str(error) == "database is locked"
    return False


def started(
    database: Path, migrations: Path, *arguments: str
) -> AbstractContextManager["subprocess.Popen[str]"]:
    return running(*COMMAND, *arguments, "-d", database, "--migrations", migrations)


def has_second_table(database: Path) -> bool:
    return query(database, "SELECT count(*) FROM sqlite_master WHERE name = 'u'") == [(1,)]


def seconds_of(process: "subprocess.Popen[str]") -> float:
    """Return the processor time that a process has used.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def is_whole(database: Path, tables: list[tuple[object, ...]]) -> None:
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('t', 'u', 'v') ORDER BY name"
    assert query(database, names) == tables


# --- the command


@SIGNALS
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_signal_stops_a_long_statement(
    migrations: Path, database: Path, number: int, code: int, mode: str
) -> None:
    endless(migrations)
    laid(database, mode)
    with started(database, migrations) as process:
        until(lambda: is_written(database))
        process.send_signal(number)
        output, errors = process.communicate(timeout=LONGEST)
    assert errors == f"error: {database}: interrupted; rolled back, {database} is at 0001\n"
    (line,) = output.splitlines()
    assert line.startswith("applied 0001 quick (")
    assert process.returncode == code
    is_whole(database, [("t",)])
    write(migrations, "0002_endless", "CREATE TABLE v (a);")
    assert [step.version for step in migrate(database, migrations)] == ["0002"]


@SIGNALS
def test_a_signal_stops_a_long_statement_outside_a_transaction(
    migrations: Path, database: Path, number: int, code: int
) -> None:
    endless(migrations, OUTSIDE)
    with started(database, migrations) as process:
        until(lambda: is_written(database) and has_second_table(database))
        process.send_signal(number)
        _, errors = process.communicate(timeout=LONGEST)
    assert errors == (
        f"error: {database}: interrupted; {database} is at 0001, and 0002 will run again from its start\n"
    )
    assert process.returncode == code
    is_whole(database, [("t",), ("u",)])
    write(migrations, "0002_endless", "CREATE TABLE v (a);")
    assert [step.version for step in migrate(database, migrations)] == ["0002"]


@SIGNALS
def test_a_signal_stops_waiting_for_a_lock(migrations: Path, database: Path, number: int, code: int) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with started(database, migrations, "--verbose", "--timeout", "600") as process:
            assert process.stderr is not None
            assert process.stderr.readline() == f"database: {database}\n"
            assert process.stderr.readline() == f"migrations: {migrations}\n"
            process.send_signal(number)
            output, errors = process.communicate(timeout=LONGEST)
    assert (output, errors) == ("", f"error: {database}: interrupted; rolled back, {database} is at base\n")
    assert process.returncode == code
    is_whole(database, [])


def is_deaf(process: "subprocess.Popen[str]") -> bool:
    """Tell whether the first signal has been served, after which a process lets none come.

    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    _, _, blocked = Path(f"/proc/{process.pid}/status").read_text().partition("SigBlk:")
    return bool(int(blocked.split()[0], 16) & 1 << (signal.SIGINT - 1))


@SIGNALS
@pytest.mark.parametrize("others", ["the same", "both"])
def test_signals_after_the_first_do_not_spoil_the_end(
    migrations: Path, database: Path, number: int, code: int, others: str
) -> None:
    endless(migrations)
    chance = random.Random(7)
    with started(database, migrations) as process:
        until(lambda: is_written(database))
        process.send_signal(number)
        if others == "both":  # of two that come at the same moment, Python chooses
            until(lambda: process.poll() is not None or is_deaf(process))
        for _ in range(200):
            process.send_signal(
                number if others == "the same" else chance.choice([signal.SIGINT, signal.SIGTERM])
            )
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.choice([0, 0.0001, 0.001]) * chance.random())
        _, errors = process.communicate(timeout=LONGEST)
    assert (process.returncode, errors) == (
        code,
        f"error: {database}: interrupted; rolled back, {database} is at 0001\n",
    )
    is_whole(database, [("t",)])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_signal_stops_the_comparison_of_an_adopted_database(migrations: Path, database: Path) -> None:
    """The same statement, which is quick on this database and endless on an empty one."""
    limit = "SELECT CASE count(*) WHEN 0 THEN 1000000000000 ELSE 3 END FROM sqlite_master WHERE name = 'own'"
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a);")
    statement = ENDLESS.replace("FROM n)", f"FROM n WHERE i < ({limit}))")
    write(migrations, "0002_u", f"CREATE TABLE u (a);\nINSERT INTO u {statement};")
    write(migrations, "0003_t", "CREATE TABLE IF NOT EXISTS t (a);")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("CREATE TABLE own (a); CREATE TABLE t (a);")
    with started(database, migrations) as process:
        until(lambda: is_written(database))
        before = seconds_of(process)
        until(lambda: seconds_of(process) > before + 0.3)  # the statement takes far less on this database
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert errors == f"error: {database}: interrupted; rolled back, {database} is at 0001\n"
    assert query(database, "PRAGMA integrity_check") == [("ok",)]


# --- the library

LIBRARY = """
import json, signal, sys
from vmpilot.migrate import migrate

class Stopped(BaseException):
    pass

def stop(number, frame):
    raise {raised}

def report(progress):
    if progress.step.version == "0002" and progress.statement == 1:  # in the endless one
        print("there", flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, stop)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
try:
    migrate(*sys.argv[1:], progress=report)
except BaseException as error:
    print(json.dumps([type(error).__name__, str(error)]))
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
"""


@pytest.mark.parametrize("kind", ["", OUTSIDE], ids=["inside", "outside"])
@pytest.mark.parametrize(
    ("number", "raised", "expected"),
    [
        (signal.SIGINT, "Stopped", ["KeyboardInterrupt", ""]),
        (signal.SIGTERM, "SystemExit(4)", ["SystemExit", "4"]),
        (signal.SIGTERM, "Stopped('now')", ["Stopped", "now"]),
        (signal.SIGTERM, "RuntimeError('enough')", ["RuntimeError", "enough"]),
    ],
)
def test_what_a_signal_raises_comes_out_of_the_library(
    migrations: Path, database: Path, number: int, raised: str, expected: list[str], kind: str
) -> None:
    endless(migrations, kind)
    with running("-c", LIBRARY.format(raised=raised), database, migrations) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=LONGEST)
    assert (json.loads(output.splitlines()[-1]), errors, process.returncode) == (expected, "", 0)
    is_whole(database, [("t",), ("u",)] if kind else [("t",)])
    assert current(database, migrations).version == "0001"


class Enough(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), Enough("enough")])
def test_what_progress_raises_during_a_long_statement_comes_out(
    migrations: Path, database: Path, error: BaseException
) -> None:
    endless(migrations, statement=LONG)

    def report(progress: Progress) -> None:
        if progress.step.version == "0002" and progress.elapsed:
            raise error

    with pytest.raises(type(error)) as caught:
        migrate(database, migrations, progress=report)
    assert caught.value is error
    is_whole(database, [("t",)])
    assert current(database, migrations).version == "0001"


def test_an_interrupt_during_the_guards_comes_out_and_nothing_is_committed(
    migrations: Path, database: Path
) -> None:
    keys = ", ".join(f"k{number} REFERENCES parent (id)" for number in range(20))  # long enough to be noticed
    write(
        migrations,
        "0001_base",
        f"CREATE TABLE parent (id INTEGER PRIMARY KEY);\nCREATE TABLE child ({keys});\n"
        f"INSERT INTO child {numbers(500000, ', '.join(['1'] * 20))};\nINSERT INTO parent VALUES (1), (2);",
    )
    migrate(database, migrations)
    write(migrations, "0002_less", "DELETE FROM parent WHERE id = 2;\nCREATE TABLE t (a);")

    def report(progress: Progress) -> None:
        if progress.statement == progress.statements and not progress.done:  # what is left are the guards
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        migrate(database, migrations, progress=report)
    is_whole(database, [])
    assert query(database, "SELECT id FROM parent") == [(1,), (2,)]
    assert current(database, migrations).version == "0001"


class Stopped(BaseException):
    pass


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file that is left open is left to the collector
@pytest.mark.parametrize(
    ("error", "step"),
    [
        (Stopped, 29),
        pytest.param(Stopped, 1, marks=pytest.mark.full),
        pytest.param(Enough, 1, marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("kind", ["", OUTSIDE], ids=["inside", "outside"])
def test_what_is_raised_at_any_line_comes_out_alone(
    tmp_path: Path,
    migrations: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    error: type[BaseException],
    step: int,
) -> None:
    """What a signal handler raises is raised between two lines, wherever a run has come to."""
    write(migrations, "0001_t", "CREATE TABLE t (a PRIMARY KEY);")
    up = (
        f"{kind}CREATE TABLE IF NOT EXISTS u (a REFERENCES t);\nPRAGMA recursive_triggers = ON;\n"
        f"CREATE VIEW IF NOT EXISTS v AS SELECT * FROM u;\nINSERT INTO u SELECT NULL WHERE ({numbers(60000, 'count(*)')});"
    )
    write(migrations, "0002_u", up)
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    last, passed, database = 1, 0, tmp_path / "app.db"

    def at_line(frame: FrameType, event: str, argument: object) -> object:
        nonlocal passed
        passed += event == "line"
        if passed == last and event == "line":
            raise error
        return at_line

    def at_call(frame: FrameType, event: str, argument: object) -> object:
        file = frame.f_code.co_filename
        return at_line if "/vmpilot/" in file or file == contextlib.__file__ else None

    migrate(tmp_path / "first.db", migrations)  # so that all is imported
    reached = set()
    tracing = sys.gettrace()
    outcome = "stopped"
    while outcome:
        passed, outcome = 0, ""
        sys.settrace(at_call)
        try:
            migrate(database, migrations)
        except error:
            outcome = "stopped"
        finally:
            sys.settrace(tracing)
        assert (last, outcome) == (last, "stopped" if passed >= last else "")
        assert (last, unheard) == (last, [])
        reached.add(current(database, migrations).version)
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
        for path in tmp_path.glob("app.db*"):
            path.unlink()
        last += step
    gc.collect()  # now, and not while another test runs, in which a file left open is an error
    assert reached == {None, "0001", "0002"}


# --- a caller's connection


def test_progress_is_reported_on_a_callers_connection_too(
    migrations: Path, database: Path, connection: sqlite3.Connection
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    write(migrations, "0002_u", f"{OUTSIDE}CREATE TABLE IF NOT EXISTS u (a);\nANALYZE;")
    seen = []
    steps = migrate(connection, migrations, progress=seen.append)
    # While a statement runs is told on a connection of our own only.
    told = [(it.step.version, it.statement, it.statements, it.done) for it in seen]
    assert [it for it in told if not it[1] or it[3]] == [
        ("0001", 0, 1, False),
        ("0001", 1, 1, True),
        ("0002", 0, 2, False),
        ("0002", 2, 2, True),
    ]
    assert [it.step for it in seen if it.done] == [*steps]


@pytest.mark.parametrize("done", [False, True])
def test_what_progress_raises_leaves_a_callers_connection_as_it_came(
    migrations: Path, database: Path, connection: sqlite3.Connection, done: bool
) -> None:
    write(migrations, "0001_t", "PRAGMA recursive_triggers = ON;\nCREATE TABLE t (a);")
    write(migrations, "0002_u", "CREATE TABLE u (a);")
    connection.execute("PRAGMA foreign_keys = ON")

    def report(progress: Progress) -> None:
        if progress.done == done:
            raise Enough

    with pytest.raises(Enough):
        migrate(connection, migrations, progress=report)
    assert not connection.in_transaction
    for name, value in (("foreign_keys", 1), ("busy_timeout", 5000), ("recursive_triggers", 0)):
        assert connection.execute(f"PRAGMA {name}").fetchone() == (value,)
    is_whole(database, [("t",)] if done else [])
    assert current(connection, migrations).version == ("0001" if done else None)


def test_a_callers_progress_handler_stays_and_stops_a_step(
    migrations: Path, database: Path, connection: sqlite3.Connection
) -> None:
    endless(migrations, statement=LONG)
    calls = 0

    def handler() -> bool:
        nonlocal calls
        calls += 1
        return calls > 200

    connection.set_progress_handler(handler, 1000)
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    assert str(caught.value) == (
        f"{migrations}/0002_endless.up.sql:2: interrupted; rolled back, {database} is still at 0001"
    )
    assert not connection.in_transaction
    calls = 0
    connection.execute(ENDLESS.replace("FROM n)", "FROM n WHERE i < 10000)")).fetchall()
    assert calls > 10


def test_a_callers_interrupt_from_another_thread_stops_a_step(
    migrations: Path, database: Path, connection: sqlite3.Connection
) -> None:
    endless(migrations, statement=LONG)
    ended = threading.Event()

    def interrupt() -> None:
        until(lambda: is_written(database))
        while not ended.wait(0.005):
            connection.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(StepError) as caught:
            migrate(connection, migrations)
    finally:
        ended.set()
        thread.join()
    assert "interrupted; rolled back, " in str(caught.value)
    assert not connection.in_transaction
    assert current(database, migrations).version == "0001"


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("kind", ["", OUTSIDE], ids=["inside", "outside"])
@pytest.mark.parametrize("instructions", [3, 60])
def test_an_interrupt_at_any_tick_leaves_whole_steps_and_the_connection_as_it_came(
    tmp_path: Path, migrations: Path, lasting: bool, kind: str, instructions: int
) -> None:
    many = ENDLESS.replace("FROM n)", "FROM n WHERE i < 50)")
    family = (
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);\nINSERT INTO parent VALUES (1), (2);\n"
        f"INSERT INTO parent {many};\n"
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent (id));\n"
        "INSERT INTO child VALUES (1, 1);\nCREATE VIEW t AS SELECT * FROM child;"
    )
    write(migrations, "0001_family", family)
    write(
        migrations,
        "0002_more",
        f"{kind}PRAGMA recursive_triggers = ON;\n"
        "CREATE TEMP TABLE IF NOT EXISTS scratch AS SELECT * FROM child;\n"
        f"CREATE TABLE IF NOT EXISTS u AS SELECT * FROM scratch;\nINSERT INTO u (id) {many};",
    )
    outcomes = set()
    tick, step, ended = 1, 1, False
    while not ended:
        database = tmp_path / f"{tick}.db"
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA foreign_keys = ON")
            ticks = 0

            def handler(last: int = tick) -> bool:
                nonlocal ticks
                ticks += 1
                return ticks >= last if lasting else ticks == last

            connection.set_progress_handler(handler, instructions)
            try:
                migrate(connection, migrations)
            except (StepError, AccessError) as error:
                assert "interrupted" in str(error)
                outcomes.add(type(error).__name__)
            ended = ticks < tick
            connection.set_progress_handler(None, 0)
            assert not connection.in_transaction
            assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
            assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
            if instructions > 50:  # otherwise not even what puts these back can run
                assert connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)
                assert connection.execute("SELECT name FROM sqlite_temp_master").fetchall() == []
        version = current(database, migrations).version
        outcomes.add(version or "base")
        expected = {None: [], "0001": [("t",)], "0002": [("t",), ("u",)]}[version]
        names = query(database, "SELECT name FROM sqlite_master WHERE name IN ('t', 'u') ORDER BY name")
        assert names in ([expected, [("t",), ("u",)]] if kind and version else [expected])
        assert query(database, "PRAGMA integrity_check") == [("ok",)]
        database.unlink()
        tick += step
        step = 1 + tick // 20
    assert outcomes >= {"StepError", "base", "0001", "0002"}
    assert tick > 10
