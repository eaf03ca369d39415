"""The command as a process: terminals and pipes, readers that have gone, encodings, signals."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple

import pytest
from support import (
    APART,
    COMMAND,
    ROOT,
    change,
    command,
    held,
    in_process,
    query,
    running,
    timeless,
    until,
    write,
)

from vmpilot.migrate import migrate

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
        return os.read(descriptor, 4096).decode(errors="replace")
    except OSError:  # the end of a pseudo-terminal whose other side is closed
        return ""


def resize(terminal: int, columns: int) -> None:
    """Give a pseudo-terminal so many columns: https://man7.org/linux/man-pages/man2/TIOCSWINSZ.2const.html"""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@contextmanager
def on_terminal(*words: str, columns: int = 0, **environment: str) -> Iterator[Terminal]:
    """Run the command on a pseudo-terminal; one without columns does not tell how many it has."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal here: {error}")
    resize(master, columns)
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
    write(migrations, "0001_quick", f"{APART}CREATE TABLE a (b);")
    write(migrations, "0002_long", f"SELECT 1;\n{FOR_EVER}")
    with on_terminal("upgrade") as terminal:
        seen = terminal.until("0002 long: statement 2 of 2, ")
        shown = timeless(seen).split("\r\x1b[K")
        assert shown[:3] == ["", "created app.db\r\n", "0001 quick: statement 1 of 2, N ms"]
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


NAMES = {"ascii": "n" * 60, "wide": "漢字" * 30, "combining": "e\u0301" * 60, "mixed": "a漢e\u0301" * 20}


def width(text: str) -> int:
    """Return the columns that a text of these characters takes."""
    return len(text) + text.count("漢") + text.count("字") - text.count("\u0301")


@pytest.mark.parametrize("name", ["mixed", pytest.param("wide", marks=pytest.mark.full)])
def test_a_live_line_stays_within_its_terminal_also_when_that_is_resized(migrations: Path, name: str) -> None:
    write(migrations, f"0001_{NAMES[name]}", FOR_EVER)
    with on_terminal("upgrade", columns=80) as terminal:
        for columns in (80, 40, 12):
            resize(terminal.master, columns)
            piece = r"\r\x1b\[K([^\r]+)(?=\r)"
            terminal.until(f"{piece}{piece}")  # the first of them can be from before
            shown = re.findall(piece, terminal.until(f"{piece}{piece}"))[-1]
            assert columns - 2 <= width(shown) < columns
            if columns > 30:
                title, rest = shown.split("…")
                assert f"0001 {NAMES[name]}".startswith(title)
                assert re.fullmatch(r": statement 1 of 1, \d+\.\d s", rest)
            else:
                assert shown == ": statemen…"
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.rest().endswith("\r\x1b[K")


# As many columns as the terminal has, and what is shown there of how far a fleet is.
FLEET = {
    80: r"2 of 3 done, 2 failed, \d+(?:\.\d)? per second, \d+ s left",
    40: r"2/3, 2 failed, \d+(?:\.\d)?/s, \d+ s left",
    18: r"2/3, 2 failed",
    12: r"2/3, 2 fai…",
}


@pytest.mark.parametrize("columns", FLEET)
def test_how_far_a_fleet_is_stays_within_its_terminal(migrations: Path, columns: int) -> None:
    write(migrations, "0001_first", "CREATE TABLE t (a);")
    for name in ("one.db", "two.db"):
        migrate(name, migrations)
    write(migrations, "0002_long", FOR_EVER)
    # The last of them waits for the others, so that its line is the last one that is shown.
    with held("two.db", "BEGIN IMMEDIATE"):
        words = ("fleet", "--jobs", "1", "missing.db", "two.db", "one.db")
        with on_terminal(*words, "--timeout=0.2", columns=columns) as terminal:
            assert terminal.process.stderr
            shown = terminal.until("2(?: of |/)3")
            terminal.process.send_signal(signal.SIGINT)
            shown += terminal.rest()
            said = terminal.process.stderr.read().splitlines()
    pieces = [piece for piece in shown.split("\r\x1b[K") if piece]
    assert re.fullmatch(FLEET[columns], pieces[-1])
    assert max(map(len, pieces)) < columns and shown.endswith("\r\x1b[K")
    assert said[0].startswith("error: missing.db: ") and said[1].startswith("error: two.db: locked by")
    assert said[2] == "error: interrupted; 2 of 3 done, 2 failed; a further run does what is left"


def test_a_fleet_on_a_terminal_that_knows_no_escape_codes_shows_plain_lines(three: Path) -> None:
    migrate("one.db", three, target="1")
    with on_terminal("fleet", "one.db", "two.db", TERM="dumb") as terminal:
        said = timeless(terminal.rest())
        assert terminal.process.wait() == 1
    assert said == "2 databases: 1 upgraded, 0 at head already, 1 failed (N ms)\n"


@pytest.mark.parametrize("kind", ["", "dumb"])
def test_a_terminal_that_knows_no_escape_codes_gets_plain_lines(three: Path, kind: str) -> None:
    for words in (("upgrade", "--backup"), ("downgrade", "1"), ("upgrade", "--dry-run"), ("history",)):
        with on_terminal(*words, TERM=kind) as terminal:
            said = terminal.rest()
            assert terminal.process.wait() == 0
        assert "\x1b" not in said and "\r" not in said and "statement" not in said
        assert ("applied" if words[0] != "downgrade" else "undone") in said or "would" in said


@pytest.mark.parametrize("name", NAMES)
def test_history_keeps_to_the_columns_of_a_terminal_and_shortens_nothing_elsewhere(
    migrations: Path, name: str
) -> None:
    write(migrations, "0001_first", "CREATE TABLE a (b);")
    write(migrations, f"20261122093000_{NAMES[name]}", "CREATE TABLE c (d);")
    for words in (["upgrade", "1"], ["history"], ["upgrade"], ["history"]):
        assert in_process(*words).code == 0
    whole = in_process("history").out.splitlines()
    assert [line.endswith(f"  {NAMES[name]}") for line in whole] == [False, False, True]
    for columns in (80, 0):
        with on_terminal("history", columns=columns, NO_COLOR="1", TZ="CET-1") as terminal:
            _, first, second = terminal.rest().splitlines()
        assert first.endswith("  first") and second.endswith("…")
        assert 78 <= width(second) <= 80
        assert re.match(r"\*  20261122093000  applied  20\d\d-\d\d-\d\d \d\d:\d\d \+01:00  ", second)
    for columns in (60, 40):  # how long it took goes first, then when it was
        with on_terminal("history", columns=columns, NO_COLOR="1") as terminal:
            lines = terminal.rest().splitlines()
        assert len(lines) == 3 and max(map(width, lines)) <= columns
        assert lines[2].startswith("*  20261122093000  applied  ") and lines[2].endswith("…")
    with on_terminal("history", columns=200, NO_COLOR="1") as terminal:
        assert terminal.rest().splitlines() == whole


def test_json_and_quiet_print_no_progress(three: Path) -> None:
    for option in ("--json", "--quiet"):
        with on_terminal("upgrade", option) as terminal:
            said = terminal.rest()
        assert "\x1b" not in said and "applied" not in said
        os.unlink("app.db")


# --- pipes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_piped_a_line_comes_when_its_step_is_committed(migrations: Path, number: int) -> None:
    write(migrations, "0001_quick", f"{APART}CREATE TABLE a (b);")
    write(migrations, "0002_long", f"CREATE TABLE c (d);\n{FOR_EVER}")
    with running(*COMMAND, "upgrade", stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "created app.db\n"
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
        assert process.stderr.read() == ""
        assert process.wait() == 1


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
    assert timeless(done.stdout).splitlines()[2] == "applied 0002 next (N ms)"
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


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", "2>&- <&-", ">&- 2>&-"])
def test_messages_that_nobody_can_be_told_stop_nothing(three: Path, end: str) -> None:
    if "full" in end and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    for words, code in (("upgrade 2 --verbose", 0), ("upgrade 9", 1), ("nonsense", 2)):
        done = subprocess.run(
            ["sh", "-c", f"'{sys.executable}' -m vmpilot.migrate {words} {end}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=False,
        )
        assert (words, done.returncode) == (words, code)
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0002",)]


def waiting_in(pipe: int) -> int:
    """Return how many bytes of a pipe nobody has read: https://man7.org/linux/man-pages/man7/pipe.7.html"""
    (found,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return int(found)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="cannot make a pipe small here")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_takes_nothing_for_a_while_loses_nothing(migrations: Path, stream: str) -> None:
    if stream == "stdout":
        write(migrations, "0001_long", "".join(f"CREATE TABLE t{number} (a);\n" for number in range(900)))
        words = ["upgrade", "--sql"]
    else:  # one message with each of these names
        for number in range(60):
            (migrations / f"{number}_{'x' * 100}.sql").touch()
        words = ["heads"]
    expected = getattr(command(*words), stream)
    assert len(expected) > 5000
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *COMMAND, *words], env=environment, **pipes) as process:
        os.close(writer)
        until(lambda: waiting_in(reader) > 4096 - 512 or process.poll() is not None)
        with open(reader, "rb", buffering=0) as file:
            said = b"".join(iter(lambda: file.read(500), b""))
        other = process.stderr if stream == "stdout" else process.stdout
        assert other and other.read() == b""
    assert timeless(said.decode()) == timeless(expected)
    assert process.returncode == (0 if stream == "stdout" else 1)


def test_a_wait_is_told_on_standard_error_unless_the_answer_alone_is_wanted(three: Path) -> None:
    in_process("upgrade")
    waiting, failed = "app.db: locked by another process", "for 1.3 s; nothing was changed"
    with held("app.db", "BEGIN EXCLUSIVE"):
        processes = [
            subprocess.Popen(
                [sys.executable, *COMMAND, *options, "--timeout", "1.3"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for options in (["current"], ["current", "--quiet"], ["current", "--json"], ["fleet", "app.db"])
        ]
        (plain, quiet, data, fleet) = [(*process.communicate(), process.returncode) for process in processes]
    told = f"{waiting}; waiting for up to 1.3 s\nerror: {waiting} {failed}\n"
    assert (plain, fleet[1:]) == (("", told, 1), (told, 1))
    assert quiet == ("", f"error: {waiting} {failed}\n", 1)
    assert (json.loads(data[0])["error"]["message"], *data[1:]) == (f"{waiting} {failed}", "", 1)


AS_INSTALLED = ("-c", "import sys; from vmpilot.migrate.__main__ import run; sys.exit(run())")


@pytest.mark.parametrize("start", [COMMAND, AS_INSTALLED], ids=["module", "script"])
def test_ctrl_c_during_the_first_imports_says_nothing(tmp_path: Path, start: tuple[str, ...]) -> None:
    copytree(ROOT / "vmpilot", tmp_path / "vmpilot", ignore=ignore_patterns("__pycache__"))
    stop = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "vmpilot/migrate/cli/__init__.py").write_text(stop)
    with running(*start, "upgrade", PYTHONPATH=str(tmp_path)) as process:
        assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGINT
    assert not Path("app.db").exists()


# --- what a log can hold

ODD = {
    "at = 'yesterday'": ("applied  yesterday             ", "yesterday", True),
    "at = '0000-01-01'": ("applied  0000-01-01            ", "0000-01-01", True),
    "at = '9999-12-31T23:59:59Z'": ("applied  9999-12-31 23:59 UTC", "9999-12-31T23:59:59Z", True),
    "at = '2026-11-25T18:20:11'": ("applied  2026-11-25 ", "2026-11-25T18:20:11", True),
    "at = ''": ("applied  ", "", True),
    "at = char(8238) || printf('%.*c', 90, 'x')": (
        f"applied  U+202E{'x' * 16}…",
        f"\u202e{'x' * 90}",
        True,
    ),
    "at = char(27) || '[2J'": ("applied ", None, False),  # no row of the log then
    "took_ms = 9e999": ("applied  20", ..., False),
    "took_ms = -9e999": ("applied  20", ..., False),
    "took_ms = -1": ("applied  20", ..., False),
    "took_ms = 'long'": ("applied ", None, False),
    "at = x'ff'": ("applied ", None, False),
}


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("odd", ODD)
def test_odd_times_in_a_log_are_shown_as_they_are_or_not_at_all(
    three: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    in_process("upgrade", "--backup")
    in_process("downgrade", "2")
    change("app.db", f"UPDATE migration_log SET {odd}")
    shown, at, has_time = ODD[odd]
    for zone in ("UTC0", "UTC+25", "garbage", "CET-1"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        answer = in_process("history")
        lines = [line for line in answer.out.splitlines() if " 0001 " in line]
        assert (answer.code, answer.err, len(lines)) == (0, "", 1)
        assert shown.rstrip() in lines[0] or (zone == "CET-1" and "2026" in shown)
        data = json.loads(in_process("history", "--json").out, parse_constant=no_constant)
        entry = data["migrations"][0]
        assert at is ... or entry["applied_at"] == at
        assert (entry["took_ms"] is not None) == has_time
        assert in_process("check").err == ""
        listed = in_process("restore")
        assert (listed.code, listed.err, listed.out.count("app.db.0003.")) == (0, "", 1)
    monkeypatch.undo()
    time.tzset()
