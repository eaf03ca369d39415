"""Proves that a signal stops a run soon, that what it did not finish is rolled back, and that it says so.

As a command with exit code and message; in the library with the exception that the signal raises, or,
on a caller's connection with a progress handler, with StepError.
"""

import contextlib
import gc
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support import (
    APART,
    COMMAND,
    LONGEST,
    OUTSIDE,
    ROOT,
    laid,
    numbers,
    query,
    running,
    unraisable,
    until,
    write,
)

from vmpilot.migrate import (
    AccessError,
    Progress,
    StepError,
    check,
    current,
    migrate,
    restore,
    stamp,
    verify,
)
from vmpilot.migrate.files import directory as directories
from vmpilot.migrate.run import startup
from vmpilot.migrate.run.request import Request
from vmpilot.migrate.tools.backup import take
from vmpilot.migrate.tools.dry_run import rehearse
from vmpilot.migrate.tools.verify import verify_on_copy

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
LONG = ENDLESS.replace("FROM n)", "FROM n WHERE i < 30000000)")
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
SIGNALS = pytest.mark.parametrize(("number", "code"), ENDS)


def endless(migrations: Path, kind: str = "", statement: str = ENDLESS) -> None:
    """Write a quick migration and one that never ends, or not soon."""
    write(migrations, "0001_quick", f"{APART}CREATE TABLE t (a);")
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


def full_pipe() -> tuple[int, int]:
    """Return the two ends of a pipe into which nothing more goes."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    with suppress(BlockingIOError):
        while True:
            os.write(into, bytes(4096))
    os.set_blocking(into, True)
    return out, into


def writes(process: "subprocess.Popen[str]") -> bool:
    """Tell whether a process waits in a call whose first argument is its standard output.

    https://man7.org/linux/man-pages/man5/proc_pid_syscall.5.html
    """
    return Path(f"/proc/{process.pid}/syscall").read_text().split()[1:2] == ["0x1"]


@pytest.mark.skipif(not Path("/proc/self/syscall").exists(), reason="needs /proc")
@SIGNALS
def test_a_signal_while_nobody_reads_the_answer(migrations: Path, number: int, code: int) -> None:
    write(migrations, "0001_quick", "CREATE TABLE t (a);")
    out, into = full_pipe()
    try:
        with running(*COMMAND, "heads", "--migrations", migrations, stdout=into) as process:
            until(lambda: writes(process))
            process.send_signal(number)
            os.close(out)  # what is still said goes nowhere
            assert process.wait() == code
    finally:
        os.close(into)


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


WAITING = {  # by what another process has begun: who only reads waits for one that lets nobody read
    "IMMEDIATE": ("upgrade", "stamp 1", "restore kept.bak"),
    "EXCLUSIVE": (
        *("upgrade --backup", "upgrade --dry-run", "downgrade base --sql", "upgrade --follow"),
        *("current", "history", "check", "verify --on-copy", "restore kept.bak"),
    ),
}


@pytest.mark.parametrize("begun", WAITING)
def test_a_signal_stops_waiting_for_a_lock(migrations: Path, database: Path, begun: str) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);", "DROP TABLE t;")
    migrate(database, migrations)
    shutil.copy(database, database.with_name("kept.bak"))
    write(migrations, "0002_u", "CREATE TABLE u (a);", "DROP TABLE u;")
    said = f"{database}: locked by another process; waiting for up to 600 s\n"
    told = f"error: {database}: interrupted while waiting, locked by another process; nothing was changed\n"
    with closing(sqlite3.connect(database, isolation_level=None)) as other, ExitStack() as stack:
        other.execute(f"BEGIN {begun}")
        processes = []
        for line in WAITING[begun]:
            words = line.replace("kept", str(database.with_name("kept"))).split()
            process = stack.enter_context(started(database, migrations, *words, "--timeout", "600"))
            processes.append((line, process))
        for (line, process), (number, code) in zip(processes, itertools.cycle(ENDS), strict=False):
            assert process.stderr is not None
            assert (line, process.stderr.readline()) == (line, said)
            process.send_signal(number)
            assert (line, *process.communicate(timeout=LONGEST)) == (line, "", told)
            assert (line, process.returncode) == (line, code)
    is_whole(database, [("t",)])


def test_a_signal_stops_a_commit_that_a_reader_keeps_waiting(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    migrate(database, migrations)
    write(migrations, "0002_u", "CREATE TABLE u (a);")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM t").fetchall()
        other.execute("SELECT * FROM alembic_version").fetchall()
        with started(database, migrations, "--timeout", "600") as process:
            assert process.stderr is not None
            assert process.stderr.readline() == (
                f"{database}: COMMIT kept waiting by a reader; waiting for up to 600 s\n"
            )
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=LONGEST)
    told = "interrupted while waiting, COMMIT kept waiting by a reader"
    assert (output, errors) == ("", f"error: {database}: {told}; rolled back, {database} is at 0001\n")
    assert process.returncode == 143
    is_whole(database, [("t",)])


READING = {
    "verify": "error: interrupted; nothing was changed",
    "verify --on-copy": "error: {database}: interrupted; nothing was changed",
    "upgrade --dry-run": "error: {database}: interrupted; nothing was changed",
    "check": "error: {database}: interrupted; nothing was changed",
}


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_signal_stops_what_only_reads_during_a_long_statement(tmp_path: Path, migrations: Path) -> None:
    endless(migrations)
    for line, (number, code) in zip(READING, ENDS * 2, strict=True):
        database = tmp_path / line / "app.db"
        database.parent.mkdir()
        migrate(database, migrations, target="1")
        if line == "check":  # which plays again what is applied
            stamp("2", database, migrations)
        before = database.read_bytes()
        with started(database, migrations, *line.split()) as process:
            until(partial(is_at_work, process))
            process.send_signal(number)
            output, errors = process.communicate(timeout=LONGEST)
        told = READING[line].format(database=database)
        assert (line, output, errors, process.returncode) == (line, "", f"{told}\n", code)
        assert database.read_bytes() == before
        assert [path.name for path in database.parent.iterdir()] == [database.name]


LONG_WORK = {
    "index": "CREATE INDEX i ON big (b, a DESC, c);",
    "vacuum": f"{OUTSIDE}VACUUM;",
    "copy": "CREATE TABLE v AS SELECT x.a, y.b FROM big x, big y;",
    "delete": "DELETE FROM big WHERE a IN (SELECT x.a + y.a + z.a FROM big x, big y, big z WHERE z.a < 0);",
    "check": "PRAGMA integrity_check; SELECT count(*) FROM big x, big y;",
}


@pytest.mark.parametrize("kind", LONG_WORK)
def test_a_signal_stops_long_work_of_every_kind(migrations: Path, database: Path, kind: str) -> None:
    """It comes at any moment of it: whenever that is, what is left is whole."""
    rows = numbers(60000, "i, hex(randomblob(20)), i % 7")
    write(migrations, "0001_big", f"CREATE TABLE big (a, b, c);\nINSERT INTO big {rows};")
    migrate(database, migrations)
    write(migrations, "0002_work", LONG_WORK[kind])
    with started(database, migrations) as process:
        until(lambda: process.poll() is not None or is_written(database))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LONGEST)
    version = current(database, migrations).version
    if process.returncode:
        interrupted = f"error: {database}: interrupted; "
        told = errors.startswith(interrupted) and f"{database} is at {version}" in errors
        if version == "0001" and not told:  # it came before the first statement
            told = errors == f"{interrupted}nothing was changed\n"
        assert (process.returncode, told, version in ("0001", "0002")) == (143, True, True)
    else:  # it can have been faster
        assert (errors, version) == ("", "0002")
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert query(database, "SELECT count(*) FROM big") == [(60000,)]


def has_mask(process: "subprocess.Popen[str]", name: str, number: int) -> bool:
    """Tell whether a signal is in one of the masks of a process: SigBlk blocked, SigCgt handled.

    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    _, _, mask = Path(f"/proc/{process.pid}/status").read_text().partition(f"{name}:")
    return bool(int(mask.split()[0], 16) & 1 << (number - 1))


def is_deaf(process: "subprocess.Popen[str]") -> bool:
    """Tell whether the first signal has been served, after which a process lets none come."""
    return has_mask(process, "SigBlk", signal.SIGINT)


def is_at_work(process: "subprocess.Popen[str]") -> bool:
    """Tell whether a process has ended, or serves signals and has done what is quick."""
    return process.poll() is not None or (
        has_mask(process, "SigCgt", signal.SIGTERM) and seconds_of(process) > 0.35
    )


# Stands in for a module that takes long to load, and is hit meanwhile.
SLOW_MODULE = "import os, signal; os.kill(os.getpid(), signal.{}); raise SystemExit('was not stopped')"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("command", [COMMAND, ("-mvmpilot.migrate",), ("-B", "-m", "vmpilot.migrate")])
def test_a_signal_while_modules_are_loaded_ends_the_command_without_a_traceback(
    tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    (tmp_path / "sqlite3.py").write_text(SLOW_MODULE.format(name))
    with running(*command, "heads", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}") as process:
        assert process.communicate() == ("", "")
        assert process.returncode == -getattr(signal, name)


def test_an_application_keeps_its_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__init__.py").write_text("import vmpilot.migrate")
    told = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    (tmp_path / "app/__main__.py").write_text(told)
    for arguments in (("app",), ("app", "vmpilot.migrate"), ("app", "-m", "vmpilot.migrate")):
        with running("-m", *arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}") as process:
            assert process.communicate()[0] == "True\n"


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
import json, signal, sqlite3, sys
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
        # Of the classes that the system and SQLite raise too.
        (signal.SIGTERM, "TimeoutError('late')", ["TimeoutError", "late"]),
        (signal.SIGTERM, "OSError(5, 'mine')", ["OSError", "[Errno 5] mine"]),
        (signal.SIGTERM, "sqlite3.OperationalError('mine')", ["OperationalError", "mine"]),
        (signal.SIGTERM, "MemoryError('mine')", ["MemoryError", "mine"]),
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


RAISED = [
    *(
        KeyboardInterrupt(),
        SystemExit(3),
        Enough("enough"),
        TimeoutError("late"),
        BrokenPipeError(32, "pipe"),
    ),
    *(sqlite3.OperationalError("database is locked"), MemoryError(), ImportError("mine"), StepError("mine")),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
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


@pytest.mark.parametrize("own", [True, False], ids=["path", "connection"])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_what_progress_raises_at_any_call_comes_out(
    tmp_path: Path, migrations: Path, error: BaseException, own: bool
) -> None:
    """With what was done before it, and nothing of what was not: whatever reports, it is the same."""
    write(migrations, "0001_t", "CREATE TABLE t (a);", "DROP TABLE t;")
    write(migrations, "0002_u", f"{OUTSIDE}CREATE TABLE IF NOT EXISTS u (a);", "DROP TABLE IF EXISTS u;")
    last, done = 0, False
    while not done:
        last, calls, committed = last + 1, 0, ""
        database = tmp_path / f"{last}.db"

        def report(progress: Progress, last: int = last) -> None:
            nonlocal calls, committed
            calls += 1
            committed = progress.step.after if progress.done else committed
            if calls == last:
                raise error

        with closing(sqlite3.connect(database)) as connection:
            try:
                migrate(database if own else connection, migrations, progress=report)
                done = True
            except type(error) as caught:
                assert caught is error
                assert getattr(error, "steps", ()) == ()
            assert not connection.in_transaction
        assert (current(database, migrations).version or "") == committed
    assert (last, committed) == (5, "0002")


def test_what_is_no_error_of_a_callback_is_still_one_of_ours(migrations: Path, database: Path) -> None:
    """A callback, and a signal handler, that are there and raise nothing."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    try:
        write(migrations, "0001_t", "CREATE TABEL t (a);")
        with pytest.raises(StepError):
            migrate(database, migrations, progress=lambda progress: None)
        with pytest.raises(AccessError):
            migrate(migrations, migrations, progress=lambda progress: None)
    finally:
        signal.signal(signal.SIGALRM, before)


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


def is_raised_at(last: int, error: type[BaseException], act: Callable[[], object]) -> bool:
    """Do something with a signal at the n-th line of it, whose handler raises; it must come out.

    Tells whether there are so many lines.
    """
    passed = 0

    def ring(number: int, frame: object) -> None:
        raise error

    def at_line(frame: FrameType, event: str, argument: object) -> object:
        nonlocal passed
        passed += event == "line"
        if passed == last and event == "line":
            signal.raise_signal(signal.SIGALRM)
        return at_line

    def at_call(frame: FrameType, event: str, argument: object) -> object:
        file = frame.f_code.co_filename
        return at_line if "/vmpilot/" in file or file == contextlib.__file__ else None

    outcome = ""
    tracing, handler = sys.gettrace(), signal.signal(signal.SIGALRM, ring)
    sys.settrace(at_call)
    try:
        act()
    except BaseException as caught:
        outcome = type(caught).__name__
    finally:
        sys.settrace(tracing)
        signal.signal(signal.SIGALRM, handler)
    assert (last, outcome) == (last, error.__name__ if passed >= last else "")
    return bool(outcome)


def as_it_is(connection: sqlite3.Connection) -> tuple[object, ...]:
    """Return all of a connection that a run switches, and whether a transaction is open."""
    pragmas = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("busy_timeout", "foreign_keys")]
    return connection.in_transaction, connection.isolation_level, connection.text_factory, *pragmas


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file that is left open is left to the collector
@pytest.mark.parametrize(
    ("error", "step", "own"),
    [
        (Stopped, 89, True),
        (TimeoutError, 97, False),
        pytest.param(TimeoutError, 61, True, marks=pytest.mark.full),
        *(
            pytest.param(error, 1, own, marks=pytest.mark.full)
            for error in (Stopped, Enough, TimeoutError)
            for own in (True, False)
        ),
    ],
)
@pytest.mark.parametrize("kind", [APART, OUTSIDE, ""], ids=["inside", "outside", "in a group"])
def test_what_is_raised_at_any_line_comes_out_alone(
    tmp_path: Path,
    migrations: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    error: type[BaseException],
    step: int,
    own: bool,
) -> None:
    """What a signal handler raises is raised between two lines, wherever a run has come to."""
    write(migrations, "0001_t", "CREATE TABLE t (a PRIMARY KEY);")
    setting = "PRAGMA recursive_triggers = ON;\n" if kind else ""
    up = (
        f"{kind}CREATE TABLE IF NOT EXISTS u (a REFERENCES t);\n{setting}"
        f"CREATE VIEW IF NOT EXISTS v AS SELECT * FROM u;\nINSERT INTO u SELECT NULL WHERE ({numbers(60000, 'count(*)')});"
    )
    write(migrations, "0002_u", up)
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    last, database = 1, tmp_path / "app.db"
    migrate(tmp_path / "first.db", migrations)  # so that all is imported
    reached = set()
    outcome = True
    while outcome:
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA foreign_keys = ON")
        named = database if own else connection
        before = as_it_is(connection)
        outcome = is_raised_at(last, error, lambda named=named: migrate(named, migrations))
        assert (last, as_it_is(connection)) == (last, before)
        connection.close()
        assert (last, unheard) == (last, [])
        reached.add(current(database, migrations).version)
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
        for path in tmp_path.glob("app.db*"):
            path.unlink()
        last += step
    gc.collect()  # now, and not while another test runs, in which a file left open is an error
    assert reached == {None, "0001", "0002"}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file that is left open is left to the collector
@pytest.mark.parametrize("error", [FileNotFoundError, ValueError, sqlite3.OperationalError])
@pytest.mark.parametrize("named", ["path", "link", "nothing", "connection", "function"])
def test_what_is_raised_at_any_line_of_a_start_up_comes_out_whatever_it_looks_like(
    tmp_path: Path, migrations: Path, named: str, error: type[Exception]
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    database, link, nothing = (tmp_path / name for name in ("app.db", "link.db", "nothing.db"))
    migrate(database, migrations)
    link.symlink_to(database)
    empty = Request("downgrade", directories.listed(str(migrations)), "base")
    how: dict[str, Any] = {"timeout": 0.0, "report": lambda progress: None}
    with closing(sqlite3.connect(database)) as connection:
        act: Callable[[], object] = {
            "path": lambda: migrate(database, migrations),
            "link": lambda: migrate(link, migrations),
            "nothing": lambda: startup.run(empty, str(nothing), **how),
            "connection": lambda: migrate(connection, migrations),
            "function": lambda: migrate(database, migrations, connect=lambda path: sqlite3.connect(path)),
        }[named]
        act()  # so that all is imported
        last, before = 1, as_it_is(connection)
        while is_raised_at(last, error, act):
            last += 1
            assert (last, as_it_is(connection)) == (last, before)
    gc.collect()  # now, and not while another test runs, in which a file left open is an error
    assert last > 50


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file that is left open is left to the collector
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_signal_at_any_line_leaves_no_file_of_a_migration_open(migrations: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    act = partial(directories.load, str(migrations), "0001_t.up.sql")
    act()  # so that all is imported
    last = 1
    while is_raised_at(last, Stopped, act):
        last += 1
    gc.collect()
    opened = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    assert [name for name in opened if name.endswith(".sql")] == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file that is left open is left to the collector
@unraisable
@pytest.mark.parametrize(
    ("error", "step"),
    [
        (TimeoutError, 503),
        (sqlite3.OperationalError, 127),
        *(
            pytest.param(error, 7, marks=pytest.mark.full)
            for error in (TimeoutError, sqlite3.OperationalError)
        ),
    ],
)
@pytest.mark.parametrize(
    "tool", ["verify", "on copy", "check", "check of a connection", "rehearse", "back up", "restore", "stamp"]
)
def test_an_alarm_at_any_line_comes_out_of_every_tool(
    tmp_path: Path,
    migrations: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
    error: type[Exception],
    step: int,
) -> None:
    """TimeoutError is an OSError, and much of what the system or SQLite refuses is passed over or explained."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write(migrations, "0001_t", "CREATE TABLE t (a PRIMARY KEY);\nCREATE INDEX i ON t (a);", "DROP TABLE t;")
    database, kept, head = (tmp_path / name for name in ("app.db", "kept.db", "head.db"))
    migrate(database, migrations)
    shutil.copy(database, kept)
    write(
        migrations,
        "0002_u",
        "CREATE TABLE u (a REFERENCES t);\nINSERT INTO u VALUES (NULL);",
        "DROP TABLE u;",
    )
    migrate(head, migrations)
    request = Request("upgrade", directories.listed(str(migrations)), "head")
    with closing(sqlite3.connect(head)) as connection:
        connection.create_function("own", 1, lambda value: value)
        act: Callable[[], object] = {
            "verify": lambda: verify(migrations),
            "on copy": lambda: verify_on_copy(database, migrations),
            "check": lambda: check(head, migrations),
            "check of a connection": lambda: check(connection, migrations),
            "rehearse": lambda: rehearse(request, str(database), timeout=9.0, report=lambda progress: None),
            "back up": lambda: take(database, "0001", timeout=9.0),
            "restore": lambda: restore(kept, database, migrations),
            # Anew, because the log of many stamps grows by more lines than are passed over.
            "stamp": lambda: (shutil.copy(kept, database), stamp("1", database, migrations)),
        }[tool]
        act()  # so that all is imported
        last = 1
        while is_raised_at(last, error, act):
            last += step
    gc.collect()  # now, and not while another test runs, in which a file left open is an error
    assert last > step
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert current(database, migrations).version == "0001"


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
                # The other is what SQLite says where it reads the schema anew for a statement.
                assert any(words in str(error) for words in ("interrupted", "database schema has changed"))
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
