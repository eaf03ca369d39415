"""The command as a process: terminals and pipes, readers that have gone, encodings, signals."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support import COMMAND, ROOT, command, query, running, timeless, write

FOR_EVER = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;"


class Terminal(NamedTuple):
    """A process whose standard output is a pseudo-terminal."""

    process: subprocess.Popen[str]
    master: int

    def until(self, pattern: str) -> str:
        """Read until `pattern` has come; a process that was killed meanwhile will not write it."""
        seen = ""
        while not re.search(pattern, seen):
            part = read(self.master)
            assert part, seen
            seen += part
        return seen

    def rest(self) -> str:
        return "".join(iter(lambda: read(self.master), "")).replace("\r\n", "\n")


def read(descriptor: int) -> str:
    try:
        return os.read(descriptor, 4096).decode()
    except OSError:  # the end of a pseudo-terminal whose other side is closed
        return ""


@contextmanager
def on_terminal(*words: str, **environment: str) -> Iterator[Terminal]:
    try:
        master, slave = os.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal here: {error}")
    try:
        with running(*COMMAND, *words, stdout=slave, **{"TERM": "xterm", **environment}) as process:
            os.close(slave)
            yield Terminal(process, master)
    finally:
        os.close(master)


# --- terminals


def test_history_is_coloured_on_a_terminal(three: Path) -> None:
    write(three, "0004_last", "SELECT 1;")
    command("upgrade", "3")
    (three / "0001_notes.up.sql").write_text("CREATE TABLE other (a);")
    write(three, "0000_late", "SELECT 1;")
    for path in three.glob("0003*"):
        path.unlink()
    plain = command("history").stdout
    green, yellow, red, end = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
    head, late, edited, applied, unknown, pending = plain.splitlines()
    bad = [red + line + end for line in (late, edited, unknown)]
    coloured = [head, *bad[:2], green + applied + end, bad[2], yellow + pending + end]
    for environment, expected in (
        ({}, coloured),
        ({"NO_COLOR": ""}, coloured),  # https://no-color.org: present and not empty
        ({"NO_COLOR": "1"}, plain.splitlines()),
        ({"TERM": "dumb"}, plain.splitlines()),
    ):
        with on_terminal("history", **environment) as terminal:
            assert terminal.rest().splitlines() == expected, environment
            assert terminal.process.wait() == 0


def test_a_live_line_on_a_terminal(migrations: Path) -> None:
    write(migrations, "0001_quick", "CREATE TABLE a (b);\nCREATE TABLE c (d);")
    write(migrations, "0002_long", f"SELECT 1;\n{FOR_EVER}")
    with on_terminal("upgrade") as terminal:
        seen = terminal.until("0002 long: statement 2 of 2, ")
        shown = timeless(seen).split("\r\x1b[K")
        assert shown[:2] == ["", "0001 quick: statement 1 of 2, N ms"]
        assert "applied 0001 quick (N ms)\r\n" in shown
        assert "0002 long: statement 1 of 2, N ms" in shown
        clock = r"statement 2 of 2, \d+\.\d s"
        assert len({re.findall(clock, terminal.until(clock))[-1] for _ in range(3)}) > 1  # it moves
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.rest().endswith("\r\x1b[K")
        assert terminal.process.wait() == 130
        assert terminal.process.stderr
        assert (
            terminal.process.stderr.read() == "error: app.db: interrupted; rolled back, app.db is at 0001\n"
        )
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0001",)]


def test_a_live_line_is_erased_before_the_next_line(three: Path) -> None:
    command("upgrade", "1")
    with on_terminal("upgrade", "2", "--dry-run") as terminal:
        rehearsed = timeless(terminal.rest())
    assert rehearsed.startswith("\r\x1b[K0002 at: statement 1 of 1, N ms\r\x1b[K")
    assert "\r\x1b[Kcopied app.db: " in rehearsed
    with on_terminal("upgrade", "2", "--backup") as terminal:
        backed_up = terminal.rest()
    assert re.match(r"(\r\x1b\[Kbackup: \d+ %)+\r\x1b\[Kbacked up to app\.db\.0001\.", backed_up)
    write(three, "0003_index", "CREATE TABEL x;")
    with on_terminal("upgrade") as terminal:
        assert timeless(terminal.rest()).endswith("0003 index: statement 1 of 1, N ms\r\x1b[K")
        assert terminal.process.wait() == 1


def test_json_and_quiet_print_no_progress(three: Path) -> None:
    for option in ("--json", "--quiet"):
        with on_terminal("upgrade", option) as terminal:
            said = terminal.rest()
        assert "\x1b" not in said and "applied" not in said
        os.unlink("app.db")


# --- pipes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_piped_a_line_comes_when_its_step_is_committed(migrations: Path, number: int) -> None:
    write(migrations, "0001_quick", "CREATE TABLE a (b);")
    write(migrations, "0002_long", f"CREATE TABLE c (d);\n{FOR_EVER}")
    with running(*COMMAND, "upgrade", stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert timeless(process.stdout.readline()) == "applied 0001 quick (N ms)\n"
        assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0001",)]
        process.send_signal(number)
        assert process.stdout.read() == ""
        assert process.stderr.read() == "error: app.db: interrupted; rolled back, app.db is at 0001\n"
        assert process.wait() == 128 + number
    assert query(Path("app.db"), "SELECT name FROM sqlite_master WHERE name = 'c'") == []


READ_BY_NOBODY = {
    "upgrade": (1, "0003"),
    "upgrade --backup": (1, "0003"),
    "upgrade --json": (1, "0003"),
    "history": (1, "0002"),
    "current --json": (1, "0002"),
    "downgrade base --sql": (1, "0002"),
}


@pytest.mark.parametrize("line", READ_BY_NOBODY)
def test_a_reader_that_has_gone_is_no_crash_and_stops_no_run(three: Path, line: str) -> None:
    command("upgrade", "2")
    reader, writer = os.pipe()
    os.close(reader)
    with running(*COMMAND, *line.split(), stdout=writer) as process:
        os.close(writer)
        assert process.stderr
        assert process.stderr.read() == ""
        code = process.wait()
    [(version,)] = query(Path("app.db"), "SELECT version_num FROM alembic_version")
    assert (code, version) == READ_BY_NOBODY[line]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_run_whose_output_finds_no_room_is_not_stopped_half_way(three: Path) -> None:
    with open("/dev/full", "w") as full, running(*COMMAND, "upgrade", stdout=full.fileno()) as process:
        assert process.wait() != 0
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0003",)]


def test_an_error_that_nobody_can_be_told_is_no_crash(three: Path) -> None:
    said = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "vmpilot.migrate", "upgrade", "9"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (said.returncode, said.stdout) == (1, b"")


def test_help_that_nobody_reads_is_no_crash() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with running(*COMMAND, "--help", stdout=writer) as process:
        os.close(writer)
        assert process.stderr
        assert process.stderr.read() == ""  # its exit code is argparse's own, and differs by version


@pytest.mark.parametrize(("line", "more"), [("upgrade", ""), ("upgrade --dry-run", "; this was a rehearsal")])
def test_an_error_is_told_where_the_reader_of_the_result_has_gone(three: Path, line: str, more: str) -> None:
    write(three, "0002_at", "CREATE TABEL x;")
    reader, writer = os.pipe()
    os.close(reader)
    with running(*COMMAND, *line.split(), stdout=writer) as process:
        os.close(writer)
        assert process.stderr
        said = 'migrations/0002_at.up.sql:1: near "TABEL": syntax error; rolled back, app.db is still at 0001'
        assert process.stderr.read() == f"error: {said}{more}\n"
        assert process.wait() == 1


# --- encodings


def test_names_that_the_terminal_cannot_show(migrations: Path) -> None:
    write(migrations, "0001_grüße", "CREATE TABLE a (b);", "DROP TABLE a;")
    write(migrations, "0002_next", "CREATE TABLE c (d);", "DROP TABLE c;")
    done = command("upgrade", "-d", "Ä.db", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert timeless(done.stdout).splitlines()[1] == "applied 0002 next (N ms)"
    assert query(Path("Ä.db"), "SELECT version_num FROM alembic_version") == [("0002",)]


@pytest.mark.parametrize("name", [b"0001_caf\xe9.up.sql", b"0001_\x1b[31mred.up.sql"])
def test_names_that_no_terminal_can_show(migrations: Path, name: bytes) -> None:
    (migrations / os.fsdecode(name)).write_text("CREATE TABLE a (b);")
    done = command("upgrade")
    printable = "0001_caf\\udce9.up.sql" if b"caf" in name else "0001_\\x1b[31mred.up.sql"
    proposed = "0001_caf.up.sql" if b"caf" in name else "0001_31mred.up.sql"
    error = f"error: migrations/{printable}: expected a name like {proposed}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


def test_what_is_closed_from_the_start_takes_no_result_and_breaks_nothing(migrations: Path) -> None:
    write(migrations, "0001_notes", "CREATE TABLE notes (body TEXT);")
    program = f"'{sys.executable}' -m vmpilot.migrate"
    for words, code in (("upgrade", 0), ("heads", 0), ("heads --json", 0), ("nonsense", 2)):
        done = subprocess.run(
            ["sh", "-c", f"{program} {words} >&- 2>errors"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == code
        assert "Traceback" not in Path("errors").read_text()
    assert query(Path("app.db"), "SELECT count(*) FROM notes") == [(0,)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_result_for_which_there_is_no_room_is_told(migrations: Path) -> None:
    write(migrations, "0001_notes", "CREATE TABLE notes (body TEXT);")
    with open("/dev/full", "w") as full, running(*COMMAND, "heads", stdout=full.fileno()) as process:
        assert process.communicate()[1] == "error: standard output: no space left on device\n"
    assert process.returncode == 1
