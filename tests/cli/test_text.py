"""How results show themselves: as objects whose keys are promised, with the same facts as the lines.

The lines are in the transcripts.
"""

import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import change, in_process, write

from vmpilot.migrate import Current, HistoryError
from vmpilot.migrate.cli.text import duration, failure, position
from vmpilot.migrate.errors import MigrationError, printable


def from_json(*words: str, code: int = 0) -> Any:
    """Return the one object that a command answers with; what it says of times is checked and left out."""
    answer = in_process(*words, "--json")
    assert (answer.code, answer.err) == (code, "")
    assert answer.out.count("\n") == 1
    return json.loads(answer.out, object_hook=timeless)


def timeless(data: dict[str, Any]) -> dict[str, Any]:
    took, at = data.pop("took_ms", None), data.pop("applied_at", None)
    assert took is None or took >= 0
    assert at is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    return data


def step(action: str, version: str, name: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "version": version, "name": name, **more}


def moved(before: str | None, after: str | None, *steps: Any, backup: str | None = None) -> dict[str, Any]:
    return {
        "database": "app.db",
        "from": before,
        "to": after,
        "steps": [*steps],
        "dry_run": False,
        "backup": backup,
    }


def assert_holds(found: Any, expected: Any) -> None:
    """Assert that all of `expected` is there: keys may be added, but not renamed."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_holds(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected), found
        for one, other in zip(found, expected, strict=True):
            assert_holds(one, other)
    else:
        assert found == expected


def test_runs(three: Path) -> None:
    first, second = step("upgrade", "0001", "notes"), step("upgrade", "0002", "at")
    assert_holds(from_json("upgrade", "2"), moved(None, "0002", first, second))
    back = [step("downgrade", "0002", "at"), step("downgrade", "0001", "notes")]
    assert_holds(from_json("downgrade", "base", "--no-backup"), moved("0002", None, *back))
    assert_holds(from_json("downgrade", "base"), moved(None, None))
    assert_holds(from_json("stamp", "1"), moved(None, "0001", step("stamp", "0001", "notes")))
    assert_holds(from_json("stamp", "base"), moved("0001", None, step("stamp", "base", "")))
    assert_holds(from_json("upgrade"), moved(None, "0003", first, second, step("upgrade", "0003", "index")))
    assert_holds(from_json("upgrade"), moved("0003", "0003"))
    assert_holds(from_json("upgrade", "3"), moved("0003", "0003"))


def test_backups(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process("upgrade", "1")
    for value in ("0", ""):
        monkeypatch.setenv("VMPILOT_MIGRATE_BACKUP", value)
        assert from_json("upgrade")["backup"] is None
        kept = from_json("downgrade", "1")["backup"]
        assert kept is None if value else kept.startswith("app.db.0003.") and os.path.exists(kept)
    assert from_json("upgrade", "2", "--backup")["backup"].startswith("app.db.0001.")
    monkeypatch.setenv("VMPILOT_MIGRATE_BACKUP", "1")
    kept = from_json("upgrade")["backup"]
    assert kept.startswith("app.db.0002.")
    restored = from_json("restore", kept)
    assert_holds(restored, {"database": "app.db", "backup": kept, "version": "0002"})
    assert from_json("restore", restored["kept"])["version"] == "0003"
    listed = from_json("restore")
    assert_holds(listed, {"database": "app.db"})
    assert [backup["path"] for backup in listed["backups"] if backup["name"] == "0002"] == [kept]
    assert listed["backups"][0].keys() == {"path", "name", "taken_at", "bytes"}
    write(three, "0004_broken", "CREATE TABEL x;")
    failed = from_json("upgrade", code=1)
    assert failed["backup"].startswith("app.db.0003.") and os.path.exists(failed["backup"])
    assert from_json("restore", "none.bak", code=1)["backup"] is None


def test_where_a_database_is(three: Path) -> None:
    base = {"database": "app.db", "version": None, "head": "0003", "at_head": False, "pending": 3}
    assert_holds(from_json("current"), base)
    assert from_json("heads") == from_json("heads", "--quiet") == {"head": "0003"}
    in_process("upgrade", "2")
    at = {"database": "app.db", "version": "0002", "head": "0003", "at_head": False, "pending": 1}
    assert_holds(from_json("current"), at)
    assert_holds(from_json("current", "--check-heads", code=1), at)
    in_process("upgrade")
    assert_holds(from_json("current", "--check-heads"), {"version": "0003", "at_head": True, "pending": 0})


def test_history(three: Path) -> None:
    in_process("upgrade", "2")
    write(three, "0002_at", "ALTER TABLE notes ADD at INTEGER;", None)
    write(three, "0003_index", "CREATE INDEX by_at ON notes (at);", "-- vmpilot: irreversible no way back")
    entries = [
        {"version": "0001", "name": "notes", "state": "applied", "reversible": True},
        {"version": "0002", "name": "at", "state": "edited", "reversible": True},
        {"version": "0003", "name": "index", "state": "pending", "reversible": False},
    ]
    expected = {"database": "app.db", "version": "0002", "migrations": entries}
    assert_holds(from_json("history"), expected)
    assert from_json("status") == from_json("history")
    when = [
        (entry["applied_at"], entry["took_ms"])
        for entry in json.loads(in_process("history", "--json").out)["migrations"]
    ]
    assert all(at and took > 0 for at, took in when[:2])
    assert when[2] == (None, None)


def test_rehearsals(three: Path) -> None:
    in_process("upgrade", "2")
    rows = {"table": "notes", "before": 1}
    expected = moved(
        "0002",
        None,
        step("downgrade", "0002", "at", changes=["- column notes.at TEXT"], rows=[{**rows, "after": 1}]),
        step("downgrade", "0001", "notes", changes=["- table notes"], rows=[{**rows, "after": None}]),
    )
    copy = {"bytes": Path("app.db").stat().st_size}
    assert_holds(from_json("downgrade", "base", "--dry-run"), expected | {"dry_run": True, "copy": copy})
    nothing = moved("0002", "0002") | {"dry_run": True}
    assert_holds(from_json("downgrade", "2", "--dry-run"), nothing)
    write(three, "0003_index", "CREATE INDEX by_at ON nowhere (at);")
    failed = from_json("upgrade", "--dry-run", code=1)
    assert_holds(failed, moved("0002", "0002") | {"dry_run": True})
    assert_holds(failed["error"], {"kind": "step", "file": "migrations/0003_index.up.sql", "line": 1})


def test_checks(three: Path) -> None:
    in_process("upgrade", "2")
    pending = in_process("check").out.removeprefix("pending: ").rstrip("\n")
    problems = [{"kind": "pending", "message": pending}]
    assert_holds(from_json("check", code=1), {"database": "app.db", "ok": False, "problems": problems})
    in_process("upgrade")
    assert_holds(from_json("check"), {"database": "app.db", "ok": True, "problems": []})
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("DROP INDEX by_at")
    assert_holds(from_json("check", code=1)["problems"], [{"kind": "drift"}])


def test_proofs(three: Path) -> None:
    write(three, "0002_at", "ALTER TABLE notes ADD at TEXT;", "SELECT 1;")
    proof = from_json("verify", code=1)
    told = [(entry["version"], entry["name"], entry["ok"]) for entry in proof["migrations"]]
    assert (proof["ok"], told[:2]) == (False, [("0001", "notes", True), ("0002", "at", False)])
    lines = [line.strip() for line in in_process("verify").out.splitlines()]
    assert [*proof["migrations"][0]["problems"], *proof["migrations"][1]["problems"]] == lines[2:4]
    write(three, "0002_at", "ALTER TABLE notes ADD at TEXT;", "ALTER TABLE notes DROP at;")
    in_process("upgrade", "2")
    proven = {"ok": True, "migrations": [{"version": "0003", "name": "index", "ok": True, "problems": []}]}
    assert_holds(from_json("verify", "--on-copy"), proven)


def test_new_files_and_scripts(three: Path) -> None:
    assert from_json("create", "next") == {
        "up": "migrations/0004_next.up.sql",
        "down": "migrations/0004_next.down.sql",
    }
    assert from_json("upgrade", "--sql")["sql"] + "\n" == in_process("upgrade", "--sql").out


@pytest.mark.parametrize(
    ("up", "line", "facts"),
    [
        (
            "BEGIN;",
            "upgrade",
            {"kind": "history", "file": "migrations/0002_x.up.sql", "line": 1, "version": None},
        ),
        ("SELECT 1;", "upgrade 9", {"kind": "version", "file": None, "line": None, "version": "9"}),
        (
            "-- a comment\nCREATE TABEL x;",
            "upgrade",
            {"kind": "step", "file": "migrations/0002_x.up.sql", "line": 2, "version": "0002"},
        ),
        ("SELECT 1;", "current -d .", {"kind": "access", "file": None, "line": None, "version": None}),
    ],
)
def test_failures(migrations: Path, up: str, line: str, facts: dict[str, object]) -> None:
    write(migrations, "0001_first", "CREATE TABLE first (a);")
    write(migrations, "0002_x", up)
    in_process("upgrade", "1")
    error = from_json(*line.split(), code=1)["error"]
    assert_holds(error, facts)
    for options in ((), ("--quiet",), ("--verbose",)):
        answer = in_process(*line.split(), *options)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.endswith(f"error: {error['message']}\n")


@given(st.floats(0, 1e8))
def test_durations_carry_their_unit(milliseconds: float) -> None:
    shown = duration(milliseconds)
    assert re.fullmatch(r"\d\.\d ms|\d{2,3} ms|\d\d?\.\d s|\d+ min [1-5]?\d s", shown)
    units = {"ms": 1, "s": 1000, "min": 60_000}
    words = shown.split()
    total = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(total - milliseconds) <= max(0.06, milliseconds * 0.06, 501 * ("min" in words))


HOSTILE = "x\x1b[2J\nerror: \u202e\u200b"
SHOWN = "x\\x1b[2J\\nerror: U+202EU+200B"


def test_names_from_files_and_databases_are_shown_as_printable_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("migrations").mkdir()
    write(Path("migrations"), "0001_one", "CREATE TABLE a (b);", "DROP TABLE a;")
    words = ["--database", f"{HOSTILE}.db", "--migrations", "migrations"]
    assert in_process("upgrade", *words).out.endswith(f"\n{SHOWN}.db is at 0001 (head)\n")
    assert in_process("stamp", "1", *words).out == f"{SHOWN}.db is stamped 0001\n"
    change(
        f"{HOSTILE}.db",
        "UPDATE migration_log SET name = 'one' || char(8203, 8238) || 'two', version = '0002'",
    )
    change(f"{HOSTILE}.db", "UPDATE alembic_version SET version_num = '0002'")
    for command in ("history", "check", "upgrade", "current"):
        answer = in_process(command, *words)
        assert all(line.isprintable() for line in (answer.out + answer.err).split("\n"))
    assert "oneU+200BU+202Etwo\n" in in_process("history", *words).out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Grüße, 漢字 \u201c\\n\u201d", "Grüße, 漢字 \u201c\\n\u201d"),
        (HOSTILE, SHOWN),
        ("a\tb\r\n\x00\x7f\x85", "a\\tb\\r\\n\\x00\\x7f\\x85"),
        ("\u00a0\u2028\ufeff\U000e0001", "U+00A0U+2028U+FEFFU+E0001"),
        ("\udcff\ud800", "\\xffU+D800"),
        ("a" * 5000 + "b" * 5000, "a" * 4000 + " ... " + "b" * 4000),
    ],
)
def test_any_text_becomes_one_printable_line(text: str, expected: str) -> None:
    assert printable(text) == expected == str(MigrationError(text))
    assert printable(expected[:4000]) == expected[:4000]


def test_what_is_shown_longer_than_it_is_loses_its_middle_once_more() -> None:
    assert printable(3000 * "\u202e") == f"{666 * 'U+202E'}U+20 ... 202E{666 * 'U+202E'}"
    assert len(printable(30_000 * "\n")) == 8005


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        *((0, "0.0 ms"), (9.94, "9.9 ms"), (9.95, "10 ms"), (999.4, "999 ms"), (999.5, "1.0 s")),
        *((59_949, "59.9 s"), (59_950, "1 min 0 s"), (119_600, "2 min 0 s")),
    ],
)
def test_a_duration_is_rounded_before_its_unit_is_chosen(milliseconds: float, shown: str) -> None:
    assert duration(milliseconds) == shown


def test_the_newest_version_is_head_only_where_all_files_are_what_was_applied() -> None:
    assert position(Current("app.db", "0003", "0003", True, 0, True)) == "0003 (head)"
    assert (
        position(Current("app.db", "0003", "0003", False, 0, True)) == "0003"
    )  # a late file, or another one


def test_what_an_error_does_not_tell_is_null() -> None:
    error = {"kind": "history", "message": "x", "file": None, "line": None, "version": None}
    error |= {"database": None, "statement": None}
    assert failure(HistoryError("x")).data == {"error": error, "steps": [], "backup": None}


def test_an_error_tells_what_was_committed_before_it(three: Path) -> None:
    write(three, "0004_broken", "CREATE TABLE y (z);\nCREATE TABEL x;")
    told = from_json("upgrade", code=1)
    assert [step["version"] for step in told["steps"]] == ["0001", "0002", "0003"]
    assert_holds(told["steps"][0], {"action": "upgrade", "version": "0001", "name": "notes"})
    assert_holds(
        told["error"], {"kind": "step", "database": "app.db", "statement": "CREATE TABEL x", "line": 2}
    )
    assert told["backup"] is None
    rehearsed = from_json("upgrade", "--dry-run", code=1)
    assert (rehearsed["steps"], rehearsed["from"], rehearsed["error"]["database"]) == ([], "0003", "app.db")
