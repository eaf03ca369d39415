"""What a command may touch, and that it means what the function of its name means.

What each prints is in the transcripts.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import copy, rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support import COMMAND, everything, held, in_memory, in_process, query, running, timeless, write

from vmpilot import migrate as api

READING = [
    *("current", "history", "status", "heads", "upgrade --sql", "downgrade base --sql"),
    *("upgrade --dry-run", "downgrade base --dry-run", "check", "verify", "verify --on-copy", "schema"),
]


@pytest.mark.parametrize("line", READING)
def test_looking_creates_and_changes_nothing(three: Path, line: str, tmp_path: Path) -> None:
    before = everything(tmp_path)
    in_process(*line.split())
    assert everything(tmp_path) == before
    for version in ("2", "head"):
        in_process("upgrade", version)
        before = everything(tmp_path)
        for options in ((), ("--json",), ("--quiet",)):
            answer = in_process(*line.split(), *options)
            assert answer.code == (0 if line != "check" or version == "head" else 1), answer
        assert everything(tmp_path) == before


@pytest.mark.parametrize("line", ["current", "history"])
def test_who_looks_at_a_database_that_is_not_there_is_told_so(three: Path, line: str) -> None:
    answer = in_process(line, "-d", "typo.db")
    assert (answer.code, answer.err) == (0, "typo.db: no such file\n")
    for form in ("--json", "--quiet"):
        assert in_process(line, "-d", "typo.db", form).err == ""
    in_process("upgrade")
    assert in_process(line).err == ""


@pytest.mark.skipif(os.path.isdir("/app/data"), reason="this is a container, with another default database")
def test_the_default_database_is_made_by_a_run_alone(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPILOT_DATABASE", "")
    home = Path("home").absolute()
    home.mkdir()
    expected = f"{home}/.vmpilot/vmpilot.db"
    for line in READING:
        in_process(*line.split())
        assert list(home.iterdir()) == [], line
    assert json.loads(in_process("current", "--json").out)["database"] == expected
    assert timeless(in_process("upgrade", "1").out) == (
        f"created {expected}\napplied 0001 notes (N ms)\n{expected} is at 0001\n"
    )
    assert query(Path(expected), "SELECT version_num FROM alembic_version") == [("57dc007f6d46",)]


@pytest.mark.parametrize(
    "line", [*READING[:3], "upgrade", "upgrade --dry-run", "upgrade --sql", "upgrade --follow", "downgrade base",
             "stamp 1", "stamp base", "restore other.bak", "verify --on-copy"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["typo.db", "none/typo.db", "file:typo.db?mode=ro", "link.db"])
def test_existing_refuses_a_database_that_is_not_there(
    three: Path, tmp_path: Path, line: str, name: str
) -> None:
    assert in_process("upgrade", "-d", "other.bak", "--quiet").code == 0
    Path("link.db").symlink_to("typo.db")
    before, path = everything(tmp_path), name.removeprefix("file:").partition("?")[0]
    answer = in_process(*line.split(), "-d", name, "--existing")
    told = f"{path}: no such file, expected a database; nothing was changed\n"
    assert (answer.code, answer.out, answer.err) == (1, "", f"error: {told}")
    assert in_process("check", "-d", name, "--existing").out == f"unreadable: {told}"
    assert everything(tmp_path) == before


def test_existing_takes_a_database_that_is_there_and_a_new_one_is_said_to_be_created(three: Path) -> None:
    Path("empty.db").touch()  # to SQLite an empty file is an empty database
    done = in_process("upgrade", "1", "-d", "empty.db", "--existing")
    assert timeless(done.out) == "applied 0001 notes (N ms)\nempty.db is at 0001\n"
    done = in_process("upgrade", "2", "-d", "more.db")
    assert timeless(done.out) == (
        "created more.db\napplied 0001 notes (N ms)\napplied 0002 at (N ms)\nmore.db is at 0002\n"
    )
    assert in_process("stamp", "2", "-d", "new.db").out == "created new.db\nnew.db is stamped 0002\n"
    restored = in_process("restore", "empty.db", "-d", "again.db").out
    assert restored == "created again.db\nagain.db is at 0001, restored from empty.db\n"
    assert "created" not in in_process("upgrade", "base", "-d", "never.db").out
    write(three, "0001_notes", "CREATE TABEL notes (id INTEGER PRIMARY KEY);")
    assert in_process("upgrade", "-d", "failed.db").out == "created failed.db\n"
    assert os.path.exists("failed.db")


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "\udcff"])
def test_a_name_that_no_shell_passes_on_is_refused(three: Path, tmp_path: Path, name: str) -> None:
    before = everything(tmp_path)
    for words in (["create", name], ["revision", "-m", name]):
        answer = in_process(*words)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith("error: ") and answer.err.endswith("; nothing was written\n")
        assert answer.err.isascii() and answer.err.count("\n") == 1
    assert everything(tmp_path) == before


def test_check_waits_for_another_process(three: Path) -> None:
    with running(*COMMAND, "check", "--wait", "60", stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert "0003" in process.stderr.readline()
        in_process("upgrade")
        assert process.stdout.read() == "app.db is at head and sound\n"
        assert process.wait() == 0


@pytest.mark.parametrize(
    "line",
    [
        *("upgrade 3", "upgrade --dry-run", "upgrade --sql", "downgrade", "current", "history", "stamp 1"),
        *("check", "verify --on-copy", "restore kept.bak"),
    ],
)
def test_a_command_waits_for_a_lock_as_long_as_it_is_told(three: Path, database: Path, line: str) -> None:
    in_process("upgrade", "2")
    copy("app.db", "kept.bak")
    with held(database, "BEGIN EXCLUSIVE"):
        answer = in_process(*line.split(), "--timeout", "0.01")
    assert answer.code == 1
    assert "app.db: locked by another process for 0.01 s; nothing was changed" in answer.out + answer.err


@pytest.mark.parametrize(
    ("files", "told"),
    [("stay", "app.db: interrupted; rolled back, app.db is at 0003"), ("go", "app.db: interrupted")],
)
def test_an_interrupted_downgrade_says_where_the_database_is(three: Path, files: str, told: str) -> None:
    in_process("upgrade")

    def interrupt(text: str) -> None:
        if "statement 1" in text:
            if files == "go":
                three.rename("elsewhere")
            raise KeyboardInterrupt

    answer = in_process("downgrade", "--no-backup", live=interrupt)
    assert (answer.code, answer.err) == (130, f"error: {told}\n")


class Agreement(RuleBasedStateMachine):
    """Ask the command line and the API for the same, each with a database of its own."""

    goals = st.sampled_from(["head", "base", "1", "0002", "3", "abc", "+1", "+2", "-1", "-2", "9", "x"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(dir=in_memory()))
        self.files = self.folder / "migrations"
        self.files.mkdir()
        write(
            self.files,
            "0001_a",
            "-- vmpilot: revision abc\nCREATE TABLE IF NOT EXISTS a (b);",
            "DROP TABLE a;",
        )
        write(self.files, "0002_b", "CREATE TABLE b (c);", "DROP TABLE b;")
        write(self.files, "0003_c", "CREATE TABLE c (d);", "-- vmpilot: irreversible c stays\n")
        write(self.files, "0004_d", "CREATE TABLE IF NOT EXISTS d (e);", "DROP TABLE IF EXISTS d;")
        self.mine, self.theirs = self.folder / "cli.db", self.folder / "api.db"

    def teardown(self) -> None:
        rmtree(self.folder)

    def both(self, words: list[str], call: Callable[[], Any]) -> tuple[Any, Any]:
        """Return what each answers as a value; of an error, the message."""
        code, out, err = in_process(*words, "--json", "-d", self.mine, "--migrations", self.files)
        assert err == ""
        said = json.loads(out.replace("cli.db", "api.db"))
        try:
            answer = call()
        except api.MigrationError as error:
            assert code == 1
            return said["error"]["message"], str(error)
        assert code == 0
        return said, answer

    def steps(self, words: list[str], call: Callable[[], tuple[api.Step, ...]]) -> None:
        said, done = self.both(words, call)
        if isinstance(done, str):
            assert said == done
            return
        assert [(step["action"], step["version"], step["name"]) for step in said["steps"]] == [
            step[:3] for step in done
        ]
        if done:
            ends = (done[0].before, done[-1].after)
            assert (said["from"] or "base", said["to"] or "base") == ends

    @rule(goal=goals)
    def upgrade(self, goal: str) -> None:
        self.steps(["upgrade", goal], lambda: api.migrate(self.theirs, self.files, target=goal))

    @rule(goal=goals)
    def downgrade(self, goal: str) -> None:
        words = ["downgrade", goal, "--no-backup"]
        self.steps(words, lambda: api.downgrade(self.theirs, self.files, target=goal, backup=False))

    @rule(goal=goals)
    def stamp(self, goal: str) -> None:
        self.steps(["stamp", goal], lambda: (api.stamp(goal, self.theirs, self.files),))

    @rule()
    def look(self) -> None:
        said, where = self.both(["current"], lambda: api.current(self.theirs, self.files))
        assert said == where._asdict()
        said, entries = self.both(["history"], lambda: api.history(self.theirs, self.files))
        for entry, theirs in zip(said["migrations"], entries, strict=True):
            assert bool(entry.pop("applied_at")) == bool(theirs.applied_at)
            assert entry.pop("took_ms") is None or theirs.took_ms is not None
            assert entry.items() <= theirs._asdict().items()


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=settings.default.max_examples * 2 // 5, stateful_step_count=12)
