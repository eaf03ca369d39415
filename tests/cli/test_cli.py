"""The command line: what each command prints, where, and with which exit code.

Proves that options may stand anywhere, that JSON keeps its promised keys, that standard output is the
result and standard error the messages, that a script of `--sql` does what the run does, and that the
command line and the API agree.
"""

import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from shutil import copy, rmtree
from tempfile import mkdtemp
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support import ROOT, command, query, write

import vmpilot
from vmpilot import migrate as api
from vmpilot.migrate.cli.commands import main
from vmpilot.migrate.cli.text import duration

COMMANDS = {
    *("upgrade", "downgrade", "current", "history", "status", "heads", "stamp", "create", "revision"),
    *("check", "verify", "restore"),
}
READING = [
    ("current",),
    ("history",),
    ("status",),
    ("heads",),
    ("upgrade", "--sql"),
    ("downgrade", "base", "--sql"),
    ("upgrade", "--dry-run"),
    ("downgrade", "base", "--dry-run"),
    ("check",),
    ("verify",),
    ("verify", "--on-copy"),
]
FIRST = ["57dc007f6d46"]
UNCHANGED = "nothing was changed"
BACK = "to go back, run: python -m vmpilot.migrate downgrade"
FORWARD = "to go forward, run: python -m vmpilot.migrate upgrade"
NO_VERSION = "is not a version that app.db can be asked to have: expected"
FOR_EVER = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;"
PATIENCE = 30


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of one's own, and name its database and migrations in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("VMPILOT_DATABASE", "app.db")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "migrations")
    for name in ("VMPILOT_MIGRATE_BACKUP", "NO_COLOR", "TERM", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run one command in process; measured times come back as (T)."""

    def run(*words: str) -> Answer:
        try:
            code = main([*words])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        said = capsys.readouterr()
        return Answer(code, timeless(said.out), said.err)

    return run


def timeless(text: str) -> str:
    return re.sub(r"\((?:\d+\.\d ms|\d+ ms|\d+\.\d s)\)", "(T)", text)


@pytest.fixture
def three(migrations: Path) -> Path:
    """Three migrations, of which the first declares a revision and the last is irreversible."""
    write(
        migrations,
        "0001_notes",
        "-- vmpilot: revision 57dc007f6d46\n"
        "CREATE TABLE notes (body TEXT);\nINSERT INTO notes VALUES ('one');",
        "DROP TABLE notes;",
    )
    write(migrations, "0002_at", "ALTER TABLE notes ADD at TEXT;", "ALTER TABLE notes DROP at;")
    write(
        migrations, "0003_index", "CREATE INDEX by_at ON notes (at);", "-- vmpilot: irreversible no way back"
    )
    return migrations


def values(database: str = "app.db") -> list[object]:
    return [value for (value,) in query(Path(database), "SELECT version_num FROM alembic_version")]


# --- what the commands print


def test_what_each_command_prints(three: Path, cli: Cli) -> None:
    applied = ["applied 0001 notes (T)\n", "applied 0002 at (T)\n", "applied 0003 index (T)\n"]
    irreversible = "migrations/0003_index.down.sql is irreversible: no way back; nothing was changed"
    for line, *expected in [
        ("current", 0, "", ""),
        ("current --check-heads", 1, "", ""),
        ("heads", 0, "0003 (head)\n", ""),
        ("upgrade 2", 0, "".join(applied[:2]) + "app.db is at 0002\n", ""),
        ("current --verbose", 0, "0002\n", "database: app.db\nmigrations: migrations\n"),
        ("--check-heads current", 1, "0002\n", ""),
        ("", 0, applied[2] + "app.db is at 0003 (head)\n", ""),
        ("--json heads", 0, '{"head": "0003"}\n', ""),
        ("upgrade", 0, "app.db is at 0003 (head), nothing to do\n", ""),
        ("current --check-heads --quiet", 0, "", ""),
        ("current", 0, "0003 (head)\n", ""),
        ("downgrade --no-backup", 1, "", f"error: cannot downgrade 0003: {irreversible}\n"),
        ("stamp 57dc", 0, "app.db is stamped 0001\n", ""),
        ("downgrade --no-backup base", 0, "undone 0001 notes (T)\napp.db is at base\n", ""),
        ("downgrade base", 0, "app.db is at base, nothing to do\n", ""),
        ("--quiet upgrade +1", 0, "", ""),
        (
            "stamp 9",
            1,
            "",
            'error: "9" is not a version that app.db can be asked to have: '
            "expected base to 0003; nothing was changed\n",
        ),
        ("stamp base", 0, "app.db is stamped base\n", ""),
    ]:
        assert cli(*line.split()) == Answer(*expected), line


def test_alembic_spellings(three: Path, cli: Cli) -> None:
    (three / "0003_index.down.sql").write_text("DROP INDEX by_at;")
    assert cli("upgrade", "head").code == 0
    assert cli("downgrade", "-1", "--no-backup") == (0, "undone 0003 index (T)\napp.db is at 0002\n", "")
    assert cli("current") == (0, "0002\n", "")
    assert cli("upgrade", "+1").out == "applied 0003 index (T)\napp.db is at 0003 (head)\n"
    assert cli("downgrade", "57dc007f6d46", "--no-backup").code == 0
    assert values() == ["57dc007f6d46"]
    assert cli("history").out == cli("status").out != ""
    assert cli("heads") == (0, "0003 (head)\n", "")
    assert cli("stamp", "head") == (0, "app.db is stamped 0003\n", "")
    assert cli("revision", "-m", "add x") == (
        0,
        "migrations/0004_add_x.up.sql\nmigrations/0004_add_x.down.sql\n",
        "",
    )
    assert cli("revision", "--message=add y").out.startswith("migrations/0005_add_y.up.sql\n")


@pytest.mark.parametrize(
    ("start", "words", "end", "error"),
    [
        ("base", "upgrade head", ["0003"], ""),
        ("base", "upgrade base", [], ""),
        ("base", "upgrade 0002", ["0002"], ""),
        ("base", "upgrade 2", ["0002"], ""),
        ("base", "upgrade 57dc007f6d46", FIRST, ""),
        ("base", "upgrade +2", ["0002"], ""),
        ("2", "downgrade", FIRST, ""),
        ("2", "downgrade -2", [], ""),
        ("2", "downgrade 1", FIRST, ""),
        ("base", "upgrade +4", [], "cannot move by +4: app.db is at base, 3 steps from head; " + UNCHANGED),
        ("1", "downgrade -2", FIRST, "cannot move by -2: app.db is at 0001, 1 step from base; " + UNCHANGED),
        ("2", "upgrade 1", ["0002"], f"cannot upgrade to 0001: app.db is already at 0002; {BACK} 0001"),
        ("2", "upgrade -1", ["0002"], f"cannot upgrade to 0001: app.db is already at 0002; {BACK} 0001"),
        ("1", "downgrade head", FIRST, f"cannot downgrade to 0003: app.db is only at 0001; {FORWARD} 0003"),
        ("1", "upgrade nine", FIRST, f'"nine" {NO_VERSION} base to 0003; {UNCHANGED}'),
    ],
)
def test_targets(three: Path, cli: Cli, start: str, words: str, end: list[str], error: str) -> None:
    assert cli("upgrade", start).code == 0
    options = ["--no-backup"] if words.startswith("downgrade") else []
    answer = cli(*words.split(), *options)
    assert (answer.code, answer.err) == ((1, f"error: {error}\n") if error else (0, ""))
    if not (start == "base" and not end):  # nothing was ever written
        assert values() == end
    else:
        assert not Path("app.db").exists()


def test_options_stand_before_or_after_the_command(three: Path, cli: Cli) -> None:
    options = ["--timeout", "5", "-d", "other.db", "--migrations", "migrations", "--verbose"]
    for words in (
        ["upgrade", "2"],
        ["history"],
        ["current"],
        ["downgrade", "-1"],
        ["stamp", "head"],
        ["heads"],
    ):
        extra = ["--no-backup"] if words[0] == "downgrade" else []
        if Path("other.db").exists():
            copy("other.db", "kept.db")
        answers = set()
        for line in (
            [*options, *extra, *words],
            [*words, *options, *extra],
            [words[0], *options, *extra, *words[1:]],
            [*extra, *options[:4], words[0], *options[4:], *words[1:]],
        ):
            answers.add(re.sub(r"  \d+\.\d ms| \d+ ms", "", "\n".join(map(str, cli(*line)))))
            if Path("kept.db").exists():
                copy("kept.db", "other.db")
            else:
                Path("other.db").unlink()
        assert len(answers) == 1, answers
        assert cli(*words, *options, *extra).code == 0
    assert not Path("app.db").exists()


def test_forms_of_the_database_option(three: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("-d", "a.db", "upgrade", "1").out.endswith("\na.db is at 0001\n")
    for option in ("-da.db", "--database=a.db", "--database=sqlite:///a.db", f"-dsqlite:///{tmp_path}/a.db"):
        assert cli("current", option) == (0, "0001\n", "")
    assert cli("current", "-d", "sqlite:///") == (
        1,
        "",
        "error: the path of the database is empty; nothing was changed\n",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "migrations"]


# --- help and wrong usage


def test_version(cli: Cli) -> None:
    for words in (["--version"], ["current", "--version"], ["--version", "stamp"]):
        assert cli(*words) == (0, f"vmpilot {vmpilot.__version__}\n", "")


def test_every_command_is_in_the_help(cli: Cli) -> None:
    for words in (["--help"], ["-h"], ["--json", "--help"]):
        answer = cli(*words)
        assert (answer.code, answer.err) == (0, "")
        table = answer.out.partition("\ncommands ")[2].partition("\n\n")[0]
        lines = table.splitlines()[1:]
        assert {line.split()[0].rstrip(",") for line in lines} <= COMMANDS
        assert {word for line in lines for word in re.findall("[a-z]+", line)} >= COMMANDS


def test_every_command_has_help(cli: Cli) -> None:
    for name in COMMANDS:
        for words in ([name, "--help"], ["-h", name]):
            answer = cli(*words)
            assert (answer.code, answer.err) == (0, "")
            shown = set(re.findall(r"--[a-z-]+", answer.out))
            assert shown >= {"--database", "--migrations", "--timeout", "--json", "--quiet", "--verbose"}


def test_every_command_and_option_is_in_the_readme(cli: Cli) -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md yet")
    text = readme.read_text()
    options = {
        word for name in COMMANDS for word in re.findall(r"--[a-z]+(?:-[a-z]+)*", cli(name, "--help").out)
    }
    missing = [
        word
        for word in sorted(COMMANDS | options - {"--help", "--message"})
        if not re.search(rf"`[^`\n]*(?<![\w-]){word}(?![\w-])", text)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "nonsense",
            '"nonsense" is not a command; expected one of upgrade, downgrade, current, history, heads, '
            "stamp, create, check, verify, restore",
        ),
        ("upgrade 1 2", "unrecognized arguments: 2"),
        ("upgrade --bogus", "unrecognized arguments: --bogus"),
        ("upgrade --data app.db", "unrecognized arguments: --data"),
        ("upgrade --sql --dry-run", "argument --dry-run: not allowed with argument --sql"),
        ("stamp", "the following arguments are required: TARGET"),
        ("restore", "the following arguments are required: BACKUP"),
        ("current --timeout", "argument --timeout: expected one argument"),
        ("current --timeout soon", "argument --timeout: expected a number of seconds, found 'soon'"),
        ("current --timeout -1", "argument --timeout: expected a number of seconds, found '-1'"),
        ("current --timeout nan", "argument --timeout: expected a number of seconds, found 'nan'"),
        ("current --timeout inf", "argument --timeout: expected a number of seconds, found 'inf'"),
        ("check --wait long", "argument --wait: expected a number of seconds, found 'long'"),
    ],
)
def test_wrong_usage(three: Path, cli: Cli, line: str, message: str) -> None:
    answer = cli(*line.split())
    assert (answer.code, answer.out) == (2, "")
    usage, _, said = answer.err.rstrip("\n").rpartition("\n")
    assert usage.startswith("usage: python -m vmpilot.migrate ")
    assert re.sub(r"^python -m vmpilot\.migrate( \w+)?: error: ", "", said) == message
    assert not Path("app.db").exists()


# --- JSON


def from_json(answer: Answer, code: int = 0) -> Any:
    assert (answer.code, answer.err) == (code, "")
    assert answer.out.count("\n") == 1
    return json.loads(answer.out)


def test_json_of_runs(three: Path, cli: Cli) -> None:
    def names(steps: list[dict[str, Any]]) -> list[tuple[str, ...]]:
        assert all(steps and isinstance(step.pop("took_ms"), float) for step in steps)
        return [tuple(step.values()) for step in steps]

    upgraded = from_json(cli("upgrade", "2", "--json"))
    assert names(upgraded.pop("steps")) == [("upgrade", "0001", "notes"), ("upgrade", "0002", "at")]
    assert upgraded == {"database": "app.db", "from": None, "to": "0002", "dry_run": False, "backup": None}
    downgraded = from_json(cli("--json", "downgrade", "base", "--no-backup"))
    assert names(downgraded.pop("steps")) == [("downgrade", "0002", "at"), ("downgrade", "0001", "notes")]
    assert downgraded == {"database": "app.db", "from": "0002", "to": None, "dry_run": False, "backup": None}
    nothing = from_json(cli("downgrade", "base", "--json"))
    assert nothing == {
        "database": "app.db",
        "from": None,
        "to": None,
        "steps": [],
        "dry_run": False,
        "backup": None,
    }
    stamped = from_json(cli("stamp", "1", "--json"))
    assert names(stamped.pop("steps")) == [("stamp", "0001", "notes")]
    assert stamped == {"database": "app.db", "from": None, "to": "0001", "dry_run": False, "backup": None}
    based = from_json(cli("stamp", "base", "--json"))
    assert (based["from"], based["to"]) == ("0001", None)


def test_json_of_looks(three: Path, cli: Cli) -> None:
    base = {"database": "app.db", "version": None, "head": "0003", "at_head": False, "pending": 3}
    assert from_json(cli("current", "--json")).items() >= base.items()
    cli("upgrade", "2")
    at = {"database": "app.db", "version": "0002", "head": "0003", "at_head": False, "pending": 1}
    assert from_json(cli("current", "--json")).items() >= at.items()
    assert from_json(cli("current", "--json", "--check-heads"), 1).items() >= at.items()
    write(three, "0002_at", "ALTER TABLE notes ADD at INTEGER;", None)
    answer = from_json(cli("history", "--json"))
    assert (answer["database"], answer["version"]) == ("app.db", "0002")
    first, second, third = answer["migrations"]
    for entry in (first, second):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("applied_at"))
        assert entry.pop("took_ms") > 0
    assert first == {"version": "0001", "name": "notes", "state": "applied", "reversible": True}
    assert second == {"version": "0002", "name": "at", "state": "edited", "reversible": True}
    assert (third.pop("applied_at"), third.pop("took_ms")) == (None, None)
    assert third == {"version": "0003", "name": "index", "state": "pending", "reversible": False}
    assert from_json(cli("status", "--json")) != {}


def test_states_of_history(three: Path, cli: Cli) -> None:
    cli("upgrade", "2")
    write(three, "0000_late", "SELECT 1;")
    for path in three.glob("0002*"):
        path.unlink()
    states = {entry["version"]: entry["state"] for entry in from_json(cli("history", "--json"))["migrations"]}
    assert states == {"0000": "late", "0001": "applied", "0002": "unknown", "0003": "pending"}
    assert cli("current") == (0, "0002 (unknown)\n", "")


@pytest.mark.parametrize(
    ("up", "words", "failure"),
    [
        (
            "BEGIN;",
            "upgrade",
            {
                "kind": "history",
                "message": "migrations/0002_x.up.sql:1: BEGIN is not allowed here, "
                "the runner owns the transaction; app.db was not touched",
                "file": "migrations/0002_x.up.sql",
                "line": 1,
                "version": None,
            },
        ),
        (
            "SELECT 1;",
            "upgrade 9",
            {
                "kind": "version",
                "message": '"9" is not a version that app.db can be asked to have: '
                "expected base to 0002; nothing was changed",
                "file": None,
                "line": None,
                "version": "9",
            },
        ),
        (
            "-- a comment\nCREATE TABEL x;",
            "upgrade",
            {
                "kind": "step",
                "message": 'migrations/0002_x.up.sql:2: near "TABEL": syntax error; '
                "rolled back, app.db is still at 0001",
                "file": "migrations/0002_x.up.sql",
                "line": 2,
                "version": "0002",
            },
        ),
        (
            "SELECT 1;",
            "current --database .",
            {
                "kind": "access",
                "message": ".: is a directory, expected a database file; nothing was changed",
                "file": None,
                "line": None,
                "version": None,
            },
        ),
    ],
)
def test_failures(migrations: Path, cli: Cli, up: str, words: str, failure: dict[str, object]) -> None:
    write(migrations, "0001_first", "CREATE TABLE first (a);")
    write(migrations, "0002_x", up)
    assert from_json(cli("--json", *words.split()), 1) == {"error": failure}
    answer = cli(*words.split(), "--quiet")
    assert answer == (1, "", f"error: {failure['message']}\n")


def test_the_steps_before_a_failure_are_told(migrations: Path, cli: Cli) -> None:
    write(migrations, "0001_first", "CREATE TABLE first (a);")
    write(migrations, "0002_x", "CREATE TABEL x;")
    said = 'migrations/0002_x.up.sql:1: near "TABEL": syntax error; rolled back, app.db is still at 0001'
    assert cli("upgrade") == (1, "applied 0001 first (T)\n", f"error: {said}\n")
    (migrations / "0002_x.up.sql").write_text("CREATE TABLE x (a);")
    assert cli() == (0, "applied 0002 x (T)\napp.db is at 0002 (head)\n", "")


# --- backups, rehearsals, proofs, health


@pytest.fixture
def reversible(three: Path) -> Path:
    """The three migrations with a way back for the last too."""
    (three / "0003_index.down.sql").write_text("DROP INDEX by_at;")
    return three


def sizeless(answer: Answer) -> Answer:
    return answer._replace(out=re.sub(r"\d+ bytes", "N bytes", answer.out))


def test_backups(reversible: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def backups() -> list[str]:
        return sorted(path.name for path in Path().glob("*.bak"))

    assert (
        cli("upgrade", "1", "--backup").out == "applied 0001 notes (T)\napp.db is at 0001\n"
    )  # nothing to lose
    assert cli("upgrade", "1", "--backup").out == "app.db is at 0001, nothing to do\n"
    assert backups() == []
    backed_up = "backed up to app.db.0001.bak\napplied 0002 at (T)\napp.db is at 0002\n"
    assert cli("--backup", "upgrade", "2") == (0, backed_up, "")
    assert values("app.db.0001.bak") == ["57dc007f6d46"]
    assert cli("downgrade", "--no-backup").out == "undone 0002 at (T)\napp.db is at 0001\n"
    assert cli("downgrade", "1").out == "app.db is at 0001, nothing to do\n"
    assert backups() == ["app.db.0001.bak"]
    os.unlink("app.db.0001.bak")
    for value, expected in (("", None), ("0", None), ("1", "app.db.0001.bak")):
        monkeypatch.setenv("VMPILOT_MIGRATE_BACKUP", value)
        assert from_json(cli("upgrade", "--json"))["backup"] == expected
        assert backups() == [expected] * bool(expected)
        assert from_json(cli("downgrade", "1", "--json"))["backup"] == "app.db.0003.bak"
        os.unlink("app.db.0003.bak")


def test_restore(reversible: Path, cli: Cli) -> None:
    cli("upgrade", "2")
    cli("upgrade", "--backup")
    kept = "kept what was there as app.db.before-restore.bak\n"
    restored = "app.db is at 0002, restored from app.db.0002.bak\n"
    assert cli("restore", "app.db.0002.bak") == (0, kept + restored, "")
    assert (values(), values("app.db.before-restore.bak")) == (["0002"], ["0003"])
    answer = from_json(cli("restore", "app.db.before-restore.bak", "--json"))
    assert (answer["database"], answer["version"], values()) == ("app.db", "0003", ["0003"])
    assert cli("restore", "none.bak") == (1, "", "error: none.bak: no such file; nothing was changed\n")
    assert cli("restore", "app.db.0002.bak", "--quiet") == (0, "", "")


def test_dry_run(reversible: Path, cli: Cli) -> None:
    planned = (
        "copied app.db: N bytes (T)\n"
        "would upgrade 0001 notes (T)\n  + table notes\n  rows of notes: none -> 1\n"
        "would upgrade 0002 at (T)\n  + column notes.at TEXT\napp.db is untouched\n"
    )
    assert sizeless(cli("upgrade", "2", "--dry-run")) == (0, planned, "")
    assert not Path("app.db").exists()
    cli("upgrade", "2")
    answer = from_json(cli("downgrade", "base", "--dry-run", "--json"))
    for step in (answer["copy"], *answer["steps"]):
        assert step.pop("took_ms") > 0
    assert answer.pop("copy") == {"bytes": Path("app.db").stat().st_size}
    second, first = (
        {"action": "downgrade", "version": version, "name": name}
        for version, name in (("0002", "at"), ("0001", "notes"))
    )
    second |= {"changes": ["- column notes.at TEXT"], "rows": [{"table": "notes", "before": 1, "after": 1}]}
    first |= {"changes": ["- table notes"], "rows": [{"table": "notes", "before": 1, "after": None}]}
    assert answer == {
        "database": "app.db",
        "from": "0002",
        "to": None,
        "steps": [second, first],
        "dry_run": True,
        "backup": None,
    }
    assert cli("downgrade", "2", "--dry-run") == (0, "app.db: nothing to do\n", "")
    nothing = from_json(cli("downgrade", "2", "--dry-run", "--json"))
    assert (nothing["from"], nothing["to"], nothing["steps"], nothing["dry_run"]) == (
        "0002",
        "0002",
        [],
        True,
    )
    assert cli("current").out == "0002\n"


def test_dry_run_fails_where_the_run_fails(reversible: Path, cli: Cli) -> None:
    cli("upgrade", "1")
    (reversible / "0003_index.up.sql").write_text("CREATE INDEX by_at ON nowhere (at);")
    rehearsed = sizeless(cli("upgrade", "--dry-run"))
    as_json = from_json(cli("upgrade", "--dry-run", "--json"), 1)
    assert cli("current").out == "0001\n"
    real = cli("upgrade")
    where, reason = "migrations/0003_index.up.sql:1", "no such table: main.nowhere"
    assert real.err == f"error: {where}: {reason}; rolled back, app.db is still at 0002\n"
    assert rehearsed == (
        1,
        "copied app.db: N bytes (T)\nwould upgrade 0002 at (T)\n  + column notes.at TEXT\n",
        real.err[:-1] + "; this was a rehearsal\n",
    )
    assert (as_json["error"]["kind"], as_json["error"]["file"]) == ("step", "migrations/0003_index.up.sql")
    for words in (["upgrade", "1"], ["downgrade", "3"], ["upgrade", "nine"]):
        assert cli(*words, "--dry-run") == cli(*words)


def test_check(reversible: Path, cli: Cli) -> None:
    cli("upgrade", "2")
    pending = "app.db: 1 migration pending (0003_index); run: python -m vmpilot.migrate upgrade"
    assert cli("check") == (1, f"pending: {pending}\n", "")
    assert cli("check", "--wait", "0") == (1, f"pending: {pending}\n", "")
    answer = from_json(cli("check", "--json"), 1)
    expected = {"database": "app.db", "ok": False, "problems": [{"kind": "pending", "message": pending}]}
    assert answer.items() >= expected.items()
    cli("upgrade")
    for words in (["check"], ["check", "--full"], ["--wait", "5", "check"]):
        assert cli(*words) == (0, "app.db is at head and sound\n", "")
    answer = from_json(cli("check", "--json"))
    assert answer.items() >= {"database": "app.db", "ok": True, "problems": []}.items()
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("DROP INDEX by_at")
    assert cli("check", "--quiet") == (1, "", "")
    assert [problem["kind"] for problem in from_json(cli("check", "--json"), 1)["problems"]] == ["drift"]


def test_check_waits_for_another_process(three: Path, cli: Cli) -> None:
    process = start("check", "--wait", str(PATIENCE), stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stderr
        assert "0003" in process.stderr.readline()
        cli("upgrade")
        assert process.wait(PATIENCE) == 0
        assert process.stdout.read() == "app.db is at head and sound\n"
    finally:
        finish(process)


def test_verify(reversible: Path, cli: Cli) -> None:
    good = "ok    0001 notes\nok    0002 at\nok    0003 index\n3 migrations, 0 with problems\n"
    assert cli("verify") == (0, good, "")
    (reversible / "0002_at.down.sql").write_text("SELECT 1;")
    (reversible / "0003_index.down.sql").unlink()
    change = "after up and down the schema is not what it was before: + column notes.at TEXT"
    down = f"migrations/0002_at.down.sql: {change}"
    up = "migrations/0002_at.up.sql:1: duplicate column name: at; only after the down"
    missing = "migrations/0003_index.up.sql: no 0003_index.down.sql beside it"
    bad = (
        f"ok    0001 notes\nFAIL  0002 at\n      {down}\n      {up}\n"
        f"FAIL  0003 index\n      {missing}\n3 migrations, 2 with problems\n"
    )
    assert cli("verify") == (1, bad, "")
    answer = from_json(cli("verify", "--json"), 1)
    assert answer["ok"] is False
    told = [
        (entry["version"], entry["name"], entry["ok"], entry["problems"]) for entry in answer["migrations"]
    ]
    assert told == [
        ("0001", "notes", True, []),
        ("0002", "at", False, [down, up]),
        ("0003", "index", False, [missing]),
    ]
    assert not Path("app.db").exists()


def test_verify_on_copy(reversible: Path, cli: Cli) -> None:
    cli("upgrade", "2")
    proven = "ok    0003 index\n      rows of notes: 1 -> 1\n1 migration, 0 with problems\n"
    assert cli("verify", "--on-copy") == (0, proven, "")
    answer = from_json(cli("--json", "verify", "--on-copy"))
    assert (answer["ok"], [entry["version"] for entry in answer["migrations"]]) == (True, ["0003"])
    assert cli("current").out == "0002\n"


# --- where things are


def test_environment_variables(three: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPILOT_DATABASE", "sqlite:///from_environment.db")
    assert cli("upgrade", "1").out.endswith("\nfrom_environment.db is at 0001\n")
    assert cli("--database", "option.db", "current") == (0, "", "")
    three.rename("elsewhere")
    assert cli("heads").err == "error: migrations: no such file or directory\n"
    assert cli("heads", "--migrations", "elsewhere").out == "0003 (head)\n"
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "elsewhere")
    assert cli("heads").out == "0003 (head)\n"
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "")
    assert cli("heads").out == "0002 (head)\n"  # of the migrations that ship


def test_default_database(three: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.isdir("/app/data"):
        pytest.skip("this is a container with /app/data")
    monkeypatch.setenv("VMPILOT_DATABASE", "")
    home = Path("home").absolute()
    home.mkdir()
    expected = f"{home}/.vmpilot/vmpilot.db"
    for words in READING:
        cli(*words)
        assert list(home.iterdir()) == [], words
    assert cli("current", "--json").out.startswith(json.dumps({"database": expected})[:-1])
    assert cli("upgrade", "1") == (0, f"applied 0001 notes (T)\n{expected} is at 0001\n", "")
    assert values(expected) == ["57dc007f6d46"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_looking_creates_and_changes_nothing(
    three: Path, cli: Cli, words: tuple[str, ...], tmp_path: Path
) -> None:
    (three / "0003_index.down.sql").write_text("DROP INDEX by_at;")
    before = everything(tmp_path)
    cli(*words)
    assert everything(tmp_path) == before
    for version in ("2", "head"):
        cli("upgrade", version)
        before = everything(tmp_path)
        for options in ((), ("--json",), ("--quiet",)):
            answer = cli(*words, *options)
            assert answer.code == (0 if words != ("check",) or version == "head" else 1), answer
        assert everything(tmp_path) == before


# --- create


@pytest.mark.parametrize("words", [["add", "some title"], ["add-some", "TITLE"], ["  add_some__title "]])
def test_create(migrations: Path, cli: Cli, words: list[str]) -> None:
    pair = ["migrations/0001_add_some_title.up.sql", "migrations/0001_add_some_title.down.sql"]
    assert cli("create", *words) == (0, "".join(f"{path}\n" for path in pair), "")
    assert sorted(map(str, Path("migrations").iterdir())) == sorted(pair)
    answer = from_json(cli("create", "next", "--json"))
    assert answer == {"up": "migrations/0002_next.up.sql", "down": "migrations/0002_next.down.sql"}
    assert (
        cli("upgrade").out
        == "applied 0001 add_some_title (T)\napplied 0002 next (T)\napp.db is at 0002 (head)\n"
    )
    assert cli("downgrade", "base", "--no-backup").code == 0


EXPECTED = 'expected letters, digits, spaces, "_" and "-"; nothing was written'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", f"'../x': '.' cannot be part of a name; {EXPECTED}"),
        ("a/b", f"'a/b': '/' cannot be part of a name; {EXPECTED}"),
        ("a\\b", f"'a\\\\b': '\\\\' cannot be part of a name; {EXPECTED}"),
        ("", "'': expected some words for a name; nothing was written"),
        (" _- ", "' _- ': expected some words for a name; nothing was written"),
        ("a" * 300, "a name of 300 characters: expected at most 100; nothing was written"),
        ("Grüße", f"'Gr\\xfc\\xdfe': '\\xfc' cannot be part of a name; {EXPECTED}"),
        ("$(touch x)", f"'$(touch x)': '$' cannot be part of a name; {EXPECTED}"),
        ("a; touch x", f"'a; touch x': ';' cannot be part of a name; {EXPECTED}"),
        ("a\nb", f"'a\\nb': '\\n' cannot be part of a name; {EXPECTED}"),
        ("a\0b", f"'a\\x00b': '\\x00' cannot be part of a name; {EXPECTED}"),
    ],
)
def test_create_refuses(three: Path, cli: Cli, tmp_path: Path, name: str, message: str) -> None:
    before = everything(tmp_path)
    for words in (["create", name], ["revision", "-m", name]):
        assert cli(*words) == (1, "", f"error: {message}\n")
    assert everything(tmp_path) == before


def test_create_needs_a_directory(cli: Cli, tmp_path: Path) -> None:
    assert cli("create", "x") == (1, "", "error: migrations: no such file or directory\n")
    assert list(tmp_path.iterdir()) == []


# --- the history table


def rows(text: str) -> list[list[str]]:
    return [re.split(r"  +", line[3:]) for line in text.splitlines()]


def test_history_is_plain_when_piped(three: Path) -> None:
    command("upgrade", "2")
    listed = command("history", TZ="UTC0")
    assert (listed.returncode, listed.stderr) == (0, "")
    head, first, second, third = listed.stdout.splitlines()
    assert head == "   version  name   state    applied at           took"
    assert re.fullmatch(r"   0001     notes  applied  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d+\.?\d* ms", first)
    assert re.fullmatch(r"\*  0002     at     applied  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d+\.?\d* ms", second)
    assert third == "   0003     index  pending"


def test_history_shows_the_readers_time(three: Path) -> None:
    command("upgrade", "1")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("UPDATE migration_log SET at = '2026-01-31T20:15:16.789Z', took_ms = 61500.4")
    expected = {
        "UTC0": "2026-01-31 20:15:16",
        "IST-5:30": "2026-02-01 01:45:16",
        "EST5": "2026-01-31 15:15:16",
    }
    for zone, shown in expected.items():
        assert rows(command("history", TZ=zone).stdout)[1] == ["0001", "notes", "applied", shown, "1 min 2 s"]


def test_history_is_coloured_on_a_terminal(three: Path) -> None:
    command("upgrade", "2")
    (three / "0001_notes.up.sql").write_text("CREATE TABLE other (a);")
    plain = command("history").stdout
    green, yellow, red, end = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
    head, first, second, third = plain.splitlines()
    coloured = [head, red + first + end, green + second + end, yellow + third + end]
    for environment, expected in (
        ({}, coloured),
        ({"NO_COLOR": ""}, coloured),  # https://no-color.org: present and not empty
        ({"NO_COLOR": "1"}, plain.splitlines()),
        ({"TERM": "dumb"}, plain.splitlines()),
    ):
        with on_terminal("history", **environment) as terminal:
            assert terminal.rest().splitlines() == expected, environment
            assert terminal.process.wait(PATIENCE) == 0


@given(st.floats(0, 1e8))
def test_durations_carry_their_unit(milliseconds: float) -> None:
    shown = duration(milliseconds)
    assert re.fullmatch(r"\d\.\d ms|\d{2,3} ms|\d\d?\.\d s|\d+ min [1-5]?\d s", shown)
    units = {"ms": 1, "s": 1000, "min": 60_000}
    words = shown.split()
    total = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(total - milliseconds) <= max(0.06, milliseconds * 0.06, 501 * ("min" in words))


# --- progress


class Terminal(NamedTuple):
    """A process whose standard output is a pseudo-terminal."""

    process: "subprocess.Popen[str]"
    master: int

    def until(self, pattern: str) -> str:
        """Read until `pattern` has come."""
        seen = ""
        while not re.search(pattern, seen):
            assert select.select([self.master], [], [], PATIENCE)[0], seen
            part = read(self.master)
            assert part, seen
            seen += part
        return seen

    def rest(self) -> str:
        parts = []
        while part := read(self.master):
            parts.append(part)
        return "".join(parts).replace("\r\n", "\n")


def read(descriptor: int) -> str:
    try:
        return os.read(descriptor, 4096).decode()
    except OSError:  # the end of a pseudo-terminal whose other side is closed
        return ""


@contextmanager
def on_terminal(*words: str, **environment: str) -> Iterator[Terminal]:
    """Run a command on a pseudo-terminal; if it still runs at the end, it is killed."""
    master, slave = os.openpty()
    process = start(*words, stdout=slave, **{"TERM": "xterm", **environment})
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        os.close(master)
        finish(process)


def start(*words: str, stdout: int, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "vmpilot.migrate", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def finish(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def test_a_live_line_on_a_terminal(migrations: Path) -> None:
    write(migrations, "0001_quick", "CREATE TABLE a (b);\nCREATE TABLE c (d);")
    write(migrations, "0002_long", f"SELECT 1;\n{FOR_EVER}")
    with on_terminal("upgrade") as terminal:
        seen = terminal.until("0002 long: statement 2 of 2, ")
        assert timeless(seen).startswith(
            "\r\x1b[K0001 quick: statement 1 of 2, 0.0 s\r\x1b[Kapplied 0001 quick (T)\r\n"
            "\r\x1b[K0002 long: statement 1 of 2, 0.0 s\r\x1b[K0002 long: statement 2 of 2, "
        )
        terminal.until("0002 long: statement 2 of 2, [1-9]")  # a second later it still moves
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.rest().endswith("\r\x1b[K")
        assert terminal.process.wait(PATIENCE) == 130
        assert terminal.process.stderr
        assert (
            terminal.process.stderr.read() == "error: app.db: interrupted; rolled back, app.db is at 0001\n"
        )
    assert values() == ["0001"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_piped_a_line_comes_when_its_step_is_committed(migrations: Path, number: int) -> None:
    write(migrations, "0001_quick", "CREATE TABLE a (b);")
    write(migrations, "0002_long", f"CREATE TABLE c (d);\n{FOR_EVER}")
    process = start("upgrade", stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stderr
        assert timeless(process.stdout.readline()) == "applied 0001 quick (T)\n"
        assert values() == ["0001"]
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert process.stdout.read() == ""
        assert process.stderr.read() == "error: app.db: interrupted; rolled back, app.db is at 0001\n"
    finally:
        finish(process)
    assert query(Path("app.db"), "SELECT name FROM sqlite_master WHERE name = 'c'") == []


def test_json_and_quiet_print_no_progress(three: Path) -> None:
    for option in ("--json", "--quiet"):
        with on_terminal("upgrade", option) as terminal:
            said = terminal.rest()
        assert "\x1b" not in said and "applied" not in said
        os.unlink("app.db")


# --- as a process


def test_exit_codes_and_streams_of_a_process(three: Path) -> None:
    for words, code, out, err in (
        (["upgrade", "1"], 0, "applied 0001 notes (T)\napp.db is at 0001\n", ""),
        (["upgrade", "1"], 0, "app.db is at 0001, nothing to do\n", ""),
        (["current", "--check-heads"], 1, "0001\n", ""),
        (
            ["current", "-d", "."],
            1,
            "",
            "error: .: is a directory, expected a database file; nothing was changed\n",
        ),
    ):
        done = command(*words)
        assert (done.returncode, timeless(done.stdout), done.stderr) == (code, out, err)
    done = command("nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m vmpilot.migrate [OPTIONS] [COMMAND] [ARGS]\n")


def test_a_reader_that_has_gone_is_no_crash(three: Path) -> None:
    for words in (
        ["upgrade"],
        ["history"],
        ["current", "--json"],
        ["downgrade", "base", "--sql"],
        ["--help"],
    ):
        reader, writer = os.pipe()
        os.close(reader)
        process = start(*words, stdout=writer)
        os.close(writer)
        try:
            assert process.wait(PATIENCE) in (0, 1)
            assert process.stderr
            assert "Traceback" not in process.stderr.read(), words
        finally:
            finish(process)
    head = f"'{sys.executable}' -m vmpilot.migrate history | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    piped = subprocess.run(["sh", "-c", head], capture_output=True, text=True, check=False, env=environment)
    assert (piped.stdout.split(), piped.stderr) == (["version", "name", "state", "applied", "at", "took"], "")


def test_names_that_the_terminal_cannot_show(migrations: Path) -> None:
    write(migrations, "0001_grüße", "CREATE TABLE a (b);", "DROP TABLE a;")
    write(migrations, "0002_next", "CREATE TABLE c (d);", "DROP TABLE c;")
    done = command("upgrade", "-d", "Ä.db", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert timeless(done.stdout).splitlines()[1] == "applied 0002 next (T)"
    assert values("Ä.db") == ["0002"]


@pytest.mark.parametrize("name", [b"0001_caf\xe9.up.sql", b"0001_\x1b[31mred.up.sql"])
def test_names_that_no_terminal_can_show(migrations: Path, name: bytes) -> None:
    (migrations / os.fsdecode(name)).write_text("CREATE TABLE a (b);")
    done = command("upgrade")
    printable = "0001_caf\\udce9.up.sql" if b"caf" in name else "0001_\\x1b[31mred.up.sql"
    proposed = "0001_caf.up.sql" if b"caf" in name else "0001_31mred.up.sql"
    error = f"error: migrations/{printable}: expected a name like {proposed}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


# --- the command line and the API


class Agreement(RuleBasedStateMachine):
    """Give every wish to the command line and to the API, each with a database of its own."""

    goals = st.sampled_from(["head", "base", "1", "0002", "3", "abc", "+1", "+2", "-1", "-2", "9", "x"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
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
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([*words, "--json", "-d", str(self.mine), "--migrations", str(self.files)])
        assert err.getvalue() == ""
        said = json.loads(out.getvalue().replace("cli.db", "api.db"))
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
