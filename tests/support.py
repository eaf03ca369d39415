"""What tests of several rooms use: writing migrations, asking a database, running the command."""

import gc
import json
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from watched import Watched

from vmpilot.migrate import Step, migrate
from vmpilot.migrate.cli.commands import main

ROOT = Path(__file__).resolve().parent.parent


def write(directory: Path, stem: str, up: str, down: str | None = "") -> None:
    """Write one migration: its pair of files, or only the up file if `down` is None."""
    (directory / f"{stem}.up.sql").write_bytes(up.encode())
    if down is not None:
        (directory / f"{stem}.down.sql").write_bytes(down.encode())


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query on a connection of its own."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def pasteable(
    message: str, database: str | Path = "app.db", migrations: str | Path | None = "migrations"
) -> str:
    """Return a message whose commands act, wherever they are pasted, on these files; None for bundled ones."""
    program = "run: python3 -m vmpilot.migrate "
    where = database if database == ":memory:" else os.path.abspath(database)
    options = f"--database {shlex.quote(str(where))} "
    if migrations:
        options += f"--migrations {shlex.quote(os.path.abspath(migrations))} "
    return message.replace(program, program + options)


COMMAND = ("-m", "vmpilot.migrate")
LONGEST = 60.0  # seconds after which a test that waits in vain fails


@contextmanager
def running(
    *arguments: str | Path, stdout: int = subprocess.PIPE, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Run Python as a process that is spoken with through pipes; it is dead in the end, whatever happened.

    And after a minute: whoever reads a line that never comes would wait for ever.
    """
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **environment},
    )
    watchdog = threading.Timer(LONGEST, process.kill)
    watchdog.start()
    with process:
        try:
            yield process
        finally:
            watchdog.cancel()
            watchdog.join()
            process.kill()


def heard(process: "subprocess.Popen[str]") -> str:
    """Return the next line that a process prints, nothing if it prints no more."""
    assert process.stdout
    return process.stdout.readline()


def tell(process: "subprocess.Popen[str]") -> None:
    """Send a line to a process that waits for one."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def command(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m vmpilot.migrate` as a process and return what became of it."""
    with running(*COMMAND, *arguments, **environment) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("held", flush=True)
sys.stdin.readline()
connection.close()
print("gone", flush=True)
"""


@contextmanager
def held(database: str | Path, *statements: str) -> Iterator["subprocess.Popen[str]"]:
    """Let another process execute statements and keep its connection, and what it has locked.

    Until the end, or until it is told something.
    """
    with running("-c", HOLD, database, *statements) as process:
        assert heard(process) == "held\n"
        yield process
        assert process.communicate("\n") == ("gone\n", "")


def change(database: str | Path, *statements: str) -> None:
    """Do to a database what no migration knows of."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


class Said(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def in_process(
    *arguments: str | Path,
    live: Callable[[str], object] | None = None,
    told: Callable[[str], object] = lambda text: None,
) -> Said:
    """Run a command in this process; what `live` and `told` do happens in the middle of it.

    With `live`, standard output is a terminal that knows escape codes: the function is called with each piece that the command
    writes there, the line about what is being done included. `told` gets what goes to standard error.
    """
    out, err = Watched(live or (lambda text: None), live is not None), Watched(told, False)
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        if live:
            patch.setenv("TERM", "xterm")
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # help and wrong usage
            code = int(leaving.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def unshared(words: Sequence[str], environment: Mapping[str, str]) -> Said:
    """Run a command in a namespace of its own, where that is allowed; it ends with 77 if it cannot mount."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, check=False, timeout=LONGEST
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounting here")
    return Said(done.returncode, done.stdout, done.stderr)


class Place:
    """A directory of migrations that tells when it is listed and when a file of it is read."""

    def __init__(self, path: Path, act: Callable[[str], object]) -> None:
        self.path, self.act, self.name = path, act, path.name

    def __str__(self) -> str:
        return str(self.path)

    def is_file(self) -> bool:
        return self.path.is_file()

    def is_dir(self) -> bool:
        return self.path.is_dir()

    def iterdir(self) -> Iterator["Place"]:
        self.act("list")
        return (Place(path, self.act) for path in self.path.iterdir())

    def joinpath(self, *names: str) -> "Place":
        return Place(self.path.joinpath(*names), self.act)

    def read_bytes(self) -> bytes:
        self.act("read")
        return self.path.read_bytes()


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a given size; the test is skipped for whoever may not."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs a file system of its own, and only root can mount one")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user whom the modes of files bind: root is not."""
    if os.geteuid():
        yield
        return
    os.setresgid(65534, 65534, 0)
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


def user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def denied(path: str | Path, right: str, purpose: str = "", fate: str = "nothing was changed") -> str:
    """Return the message about a right that this user does not have: to be called where it is refused.

    The cure is that of an owner, who has only forgotten a mode; of root's files it is up to root.
    """
    found, me = os.stat(path), os.geteuid()
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    belongs = f"it belongs to {user_name(found.st_uid)}, mode {found.st_mode & 0o7777:04o}"
    told = f"{path}: no permission to {right} this {kind} as {user_name(me)} ({belongs}){purpose}"
    letter = {"read": "r", "write to": "w", "search": "x"}[right]
    cure = f"run: chmod u+{letter} {os.path.abspath(path)}" if found.st_uid == me else ""
    return "; ".join(filter(None, (told, fate, cure)))


def denied_both(path: str | Path) -> str:
    """Return the message where this user may write neither to a database nor beside it."""
    folder = os.path.dirname(path) or os.getcwd()
    purpose = f", where SQLite must create the journal of {os.path.basename(path)}"
    own, _, cure = denied(path, "write to", fate="").partition("; ")
    beside, _, other = denied(folder, "write to", purpose, fate="").partition("; ")
    cure += other.removeprefix("run: chmod u+w")
    return "; ".join(filter(None, (f"{own}, and {beside}", "nothing was changed", cure)))


def filled(place: Path, mode: str = "delete", rows: int = 20, name: str = "app.db") -> None:
    """Make a database at 0001 with rows of half a page."""
    change(name, f"PRAGMA journal_mode = {mode}")
    migrate(name, place, target="1")
    add(rows, name)


def add(rows: int, name: str = "app.db") -> None:
    """Add rows of half a page to a database."""
    numbers = f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})"
    change(name, f"{numbers} INSERT INTO chats (text) SELECT printf('%.*c', 2000, 'x') FROM n")


def backed_up(place: Path, name: str = "app.db") -> str:
    """Take a database from 0001 to 0002 with a backup; return what that is named."""
    assert [step.version for step in migrate(name, place, backup=True)] == ["0002"]
    return taken(f"{name}.0001.bak")


def plain(name: str) -> str:
    """Return the name of a backup without its time; any other name as it is."""
    return re.sub(r"\.20\d{6}T\d{6}\.\d{3}Z\.bak$", ".bak", name)


def taken(name: str) -> str:
    """Return the newest backup whose name is this without its time."""
    directory = os.path.dirname(name)
    found = [each for each in os.listdir(directory or ".") if each != plain(each)]
    return max(path for each in found if plain(path := os.path.join(directory, each)) == name)


def dump(path: str) -> list[str]:
    """Return all that a database holds, and prove that it is sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return list(connection.iterdump())


def mode_of(path: str) -> int:
    return os.stat(path).st_mode & 0o7777


class Alarm(BaseException):
    """What the signal handler of `ever_later` raises."""


# Between a call and the `with` that it stands in, Python itself leaves what was opened to the collector.
unraisable = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


def ever_later(act: Callable[[], object], factor: float) -> Iterator[None]:
    """Do something with a signal after a thousandth of a second, then always later, until it comes too late.

    Yields after each time, so that what is left can be looked at.
    """

    rung, seconds, finished = 0, 0.001, False

    def ring(number: int, frame: object) -> None:
        nonlocal rung
        rung += 1
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        while not finished:
            before_it = rung
            with suppress(Alarm):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                act()
                signal.setitimer(signal.ITIMER_REAL, 0)
            # The collector can be what the signal breaks into; then nobody hears of it.
            finished = rung == before_it
            yield
            seconds *= factor
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.collect()  # now, and not while another test runs, in which a file left open is an error
    assert rung


def timeless(text: str) -> str:
    """Return what a command printed with `N ms` in place of every time that it took."""
    return re.sub(r"\b(?:\d+\.\d m?s|\d+ ms)\b", "N ms", text)


def application(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a module of this name that `--connect application:FUNCTION` finds, in place of any other test's."""
    Path("application.py").write_text(text)
    monkeypatch.syspath_prepend(os.getcwd())
    monkeypatch.delitem(sys.modules, "application", raising=False)


def everything(folder: Path) -> dict[str, bytes]:
    """Return what is in all files below a directory."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- promises: databases, processes and locks

OUTSIDE = "-- vmpilot: no-transaction\n"
APART = "PRAGMA user_version;\n"  # a step with a PRAGMA shares its transaction with no other


def in_memory() -> str | None:
    """Return a directory whose files are in memory, with room for some, also for programs; None if there is none.

    Whoever names a directory in TMPDIR wants that one.
    """
    place = "/dev/shm"
    if "TMPDIR" in os.environ or not os.access(place, os.W_OK):
        return None
    has_room = shutil.disk_usage(place).free > 200_000_000
    return place if has_room and not os.statvfs(place).f_flag & os.ST_NOEXEC else None


def numbers(last: object, columns: str = "i") -> str:
    """Return a query with a row for each number from 1 to `last`."""
    more = f"SELECT i + 1 FROM n WHERE i < {last}"
    return f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL {more}) SELECT {columns} FROM n"


def laid(database: Path, journal: str, sql: str = "") -> None:
    """Make a database with a journal of this kind, without waiting for the disk."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
        connection.executescript(sql)


def until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds; fail when it takes too long."""
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Child(NamedTuple):
    """A forked process and the pipe in which it answers."""

    process: int
    answers: int


def forked(work: Callable[[], object]) -> Child:
    """Start work in a process of its own, which answers with what it returns."""
    answers, answer = os.pipe()
    process = os.fork()
    if not process:
        code = 1
        try:
            os.close(answers)
            os.write(answer, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(answer)
    return Child(process, answers)


def ended(child: Child) -> tuple[int, Any]:
    """Return the exit code of a child and its answer, None if it gave none; fail if it takes too long."""
    with open(child.answers, "rb") as file:
        if not (is_there := select.select([file], [], [], LONGEST)[0]):
            os.kill(child.process, signal.SIGKILL)
        data = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
    assert is_there
    return code, json.loads(data) if data else None


def ran(steps: Iterable[Step]) -> list[str]:
    """Return the versions of the steps that were done."""
    return [step.version for step in steps]


def versions(work: Callable[[], Any]) -> list[str]:
    """Return the versions of the steps that some work did, or its error."""
    try:
        return ran(work())
    except BaseException as error:
        return [f"{type(error).__name__}: {error}"]


def race(works: Sequence[Callable[[], Any]]) -> list[list[str]]:
    """Start all at once, each in a process of its own, and return what each did."""
    gate, go = os.pipe()

    def runner(work: Callable[[], Any]) -> Callable[[], object]:
        def run() -> object:
            os.close(go)
            os.read(gate, 1)
            return versions(work)

        return run

    children = [forked(runner(work)) for work in works]
    os.close(gate)
    os.close(go)  # all of them see the end of the pipe at once
    outcomes = [ended(child) for child in children]
    assert [code for code, _ in outcomes] == [0] * len(works)
    return [answer for _, answer in outcomes]
