"""Proves what `fleet` prints for programs, what its words mean, and what is said of an interrupt."""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import COMMAND, change, command, denied, in_process, nobody, query, running, until, write

from vmpilot.migrate import AccessError, migrate
from vmpilot.migrate.tools.patterns import Meant, meant


def test_programs_get_an_object_a_line(three: Path) -> None:
    migrate("one.db", three, target="1")
    migrate("two.db", three)
    Path("bad.db").write_text("This is no database.")
    said = in_process("fleet", "--json", "--jobs", "1", "one.db", "two.db", "bad.db", "*.none")
    assert (said.code, said.err) == (1, "")
    none, one, two, bad = map(json.loads, said.out.splitlines())
    assert one.pop("took_ms") >= sum(step.pop("took_ms") for step in one["steps"])
    steps = [
        {"action": "upgrade", "version": f"000{n}", "name": name} for n, name in ((2, "at"), (3, "index"))
    ]
    assert one == {"database": "one.db", "from": "0001", "to": "0003", "steps": steps}
    assert two == {"database": "two.db", "from": "0003", "to": "0003", "steps": [], "took_ms": two["took_ms"]}
    refused = "file is not a database; nothing was changed"
    assert bad.keys() == {"database", "error"} and bad["error"]["message"] == f"bad.db: {refused}"
    assert bad["error"]["kind"] == "access" and bad["error"]["database"] == bad["database"] == "bad.db"
    assert (
        none["database"] == "*.none" and none["error"]["message"] == "*.none: no match; nothing was changed"
    )


def test_wrong_files_are_one_error_for_all(migrations: Path) -> None:
    write(migrations, "1_a", "SELECT 1;")
    (migrations / "1_a.up.sql").rename(migrations / "1_a.up..sql")
    said = in_process("fleet", "--json", "one.db", "two.db")
    assert said.code == 1 and json.loads(said.out)["error"]["kind"] == "history"


@pytest.mark.parametrize(
    ("variable", "option", "backups"),
    [({}, [], 0), ({}, ["--backup"], 1), ({"VMPILOT_MIGRATE_BACKUP": "1"}, [], 1)],
)
def test_a_backup_is_taken_if_asked_for(
    three: Path, monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], option: list[str], backups: int
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    migrate("one.db", three, target="1")
    assert in_process("fleet", "one.db", *option).code == 0
    assert len([name for name in os.listdir() if name.endswith(".bak")]) == backups


def test_a_name_that_may_hold_a_password_is_not_shown(three: Path) -> None:
    said = in_process("fleet", "postgresql://me:secret@host/db", "--json")
    assert "secret" not in said.out and "postgresql://..." in said.out
    said = in_process("fleet", "postgresql://me:secret@host/db")
    assert "secret" not in said.err and said.err.startswith("error: postgresql://...: the database: ")


def test_a_fleet_is_interrupted_with_how_far_it_was(migrations: Path) -> None:
    endless = "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT i FROM n;"
    write(migrations, "0001_first", "CREATE TABLE t (a);")
    migrate("long.db", migrations)
    migrate("short.db", migrations)
    write(migrations, "0002_long", f"{endless}")
    change("short.db", "DROP TABLE t")  # so that it fails
    with running(*COMMAND, "fleet", "short.db", "long.db") as process:
        assert process.stderr
        assert process.stderr.readline().startswith("error: short.db: ")
        until(lambda: os.path.exists("long.db-journal"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    told = "error: interrupted; 1 of 2 done, 1 failed; a further run does what is left\n"
    assert (process.returncode, out, err) == (143, "", told)
    assert query(Path("long.db"), "SELECT count(*) FROM t") == [(0,)]


# --- what words mean


def said_by(*words: str, standard_input: bytes = b"") -> Meant:
    return meant(words, lambda: standard_input)


@pytest.fixture
def files(tmp_path: Path) -> None:
    for name in (
        "a.db",
        "b.db",
        "b.db-wal",
        "b.db-shm",
        "b.db-journal",
        "alone-wal",
        "[x].db",
        "deep/er/c.db",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for copy in (
        "a.db.0001.20261125T120000.123Z.bak",
        "a.db.before-restore.20261125T120000.123Z.bak",
        "a.db.bak",
    ):
        (tmp_path / copy).touch()


@pytest.mark.parametrize(
    ("words", "databases", "left_out"),
    [
        (["a.db", "nowhere.db"], ["a.db", "nowhere.db"], 0),
        (["*.db"], ["[x].db", "a.db", "b.db"], 0),
        (["*"], ["[x].db", "a.db", "a.db.bak", "alone-wal", "b.db"], 5),
        (["[x].db"], ["[x].db"], 0),  # a file of that name
        (["[ab].db", "?.db", "./a.db"], ["a.db", "b.db"], 0),
        (["**/*.db"], ["[x].db", "a.db", "b.db", "deep/er/c.db"], 0),
        (["b.db-wal", "a.db.0001.20261125T120000.123Z.bak"], [], 2),  # as a shell writes a *
        (["sqlite:///a.db?mode=rw"], ["sqlite:///a.db?mode=rw"], 0),
    ],
)
def test_words_mean_databases(files: None, words: list[str], databases: list[str], left_out: int) -> None:
    assert said_by(*words) == (tuple(databases), (), left_out)


def test_names_stand_in_files_and_come_from_standard_input(files: None) -> None:
    Path("names").write_bytes(b"a.db\r\n\n  [x].db \n\xff.db")
    odd = os.fsdecode(b"\xff.db")
    assert said_by("@names", "-", standard_input=b"*.db\nb.db").databases == (
        "a.db",
        "[x].db",
        odd,
        "*.db",
        "b.db",
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("*.none", "*.none: no match; nothing was changed"),
        ("deep/e?", "deep/e?: no match; nothing was changed"),  # a directory
        ("-", "standard input: no name in it; nothing was changed"),
        ("@a.db", "a.db: no name in it; nothing was changed"),
        ("@none", "none: no such file or directory; nothing was changed"),
        ("@deep", "deep: is a directory; nothing was changed"),
        ("@a\0b", "a\\x00b: the name of a file of names holds a NUL; nothing was changed"),
    ],
)
def test_words_that_mean_none_are_errors(files: None, word: str, message: str) -> None:
    ((said, error),) = said_by(word, "a.db").errors
    assert said == word and str(error) == message and isinstance(error, AccessError)


@pytest.mark.parametrize(
    ("pattern", "closed", "mode", "right"),
    [
        ("deep/*.db", "deep", 0o311, "read"),
        ("deep/e*/*.db", "deep/er", 0o311, "read"),
        ("deep/*/c.db", "deep/er", 0o644, "search"),
        ("./**/*.db", "./deep/er", 0o300, "read"),
        ("{}/deep/*/*.db", "{}/deep/er", 0o000, "read"),
    ],
)
def test_a_directory_in_which_a_pattern_may_not_look_is_an_error(
    migrations: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, closed: str, mode: int, right: str
) -> None:
    migrations.parent.chmod(0o755)
    monkeypatch.chdir(migrations.parent)
    os.makedirs("deep/er")
    Path("deep/er/c.db").touch()
    pattern, closed = pattern.format(os.getcwd()), closed.format(os.getcwd())
    with nobody():
        said_by(pattern)
    os.chmod(closed, mode)
    with nobody():
        found = said_by(pattern)
        assert [(name, str(error)) for name, error in found.errors] == [(closed, denied(closed, right))]
    os.chmod(closed, 0o755)
    assert "no permission" not in str(said_by(pattern).errors)


def test_a_closed_standard_input_holds_no_names(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[Any] = [None, io.StringIO("one.db")]
    for stream in streams:
        monkeypatch.setattr("sys.stdin", stream)
        assert in_process("fleet", "-").err == "error: standard input: no name in it; nothing was changed\n"


def test_a_name_that_no_locale_can_say_is_told(three: Path) -> None:
    said = command("fleet", os.fsdecode(b"\xff.db"))
    assert said.stderr == "error: \\xff.db: no such file, expected a database; nothing was changed\n"
