"""`--dry-run` tells what the real run would do, and leaves no trace of itself: not a byte, not a file.

Each prediction is compared with the real run on the same database; the temporary directory is a test's own.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    Said,
    add,
    application,
    change,
    disk,
    ever_later,
    heard,
    in_process,
    pasteable,
    query,
    running,
    unraisable,
    write,
)

from vmpilot.migrate import migrate

MODES = ("delete", "wal")


@pytest.fixture(autouse=True)
def temporary(migrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, which is empty again after each test; another to work in."""
    for name in ("temporary", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("VMPILOT_DATABASE", "app.db")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", str(migrations))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path / "data")
    yield tmp_path / "temporary"
    assert os.listdir(tmp_path / "temporary") == []


def rehearsed(*words: str) -> Any:
    """Have a run rehearsed and return what it tells as JSON."""
    said = in_process(*(words or ("upgrade",)), "--dry-run", "--json", "--timeout", "0")
    answer = json.loads(said.out)
    assert (said.code, said.err) == (int("error" in answer), "")
    return answer


def steps(answer: Any) -> list[tuple[str, str, list[str], list[str]]]:
    """Return action, version, changes and rows of each step, the rows as `table: before -> after`."""
    return [
        (
            step["action"],
            step["version"],
            step["changes"],
            list(map("{table}: {before} -> {after}".format_map, step["rows"])),
        )
        for step in answer["steps"]
    ]


def traces() -> dict[str, str]:
    """Return the files beside the database, with what identifies their content."""
    return {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in sorted(os.listdir())}


def test_what_is_written_into_the_schema_by_hand_is_told(migrations: Path) -> None:
    write(
        migrations,
        "0001_dump",
        "PRAGMA writable_schema = ON;\nINSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql)\n"
        "VALUES ('table', 'docs', 'docs', 0, 'CREATE VIRTUAL TABLE docs USING fts3(a)');\n"
        "CREATE TABLE 'docs_content' (docid INTEGER PRIMARY KEY, 'c0a');\n"
        "CREATE TABLE 'docs_segments' (blockid INTEGER PRIMARY KEY, block BLOB);\n"
        "CREATE TABLE 'docs_segdir' (level INTEGER,idx INTEGER,start_block INTEGER,leaves_end_block INTEGER,"
        "end_block INTEGER,root BLOB,PRIMARY KEY(level, idx));\nPRAGMA writable_schema = OFF;",
    )
    write(migrations, "0002_rows", "INSERT INTO docs VALUES ('one');\nDELETE FROM docs_segments;")
    assert steps(rehearsed()) == [
        ("upgrade", "0001", ["+ virtual table docs"], ["docs: None -> 0"]),
        ("upgrade", "0002", [], ["docs: 0 -> 1"]),
    ]


COSTS = (
    "CREATE TABLE costs (chat INTEGER);"
    "INSERT INTO costs SELECT id FROM chats; DELETE FROM chats WHERE id = 3;"
)
TITLE = "ALTER TABLE chats {} COLUMN title {};"


@pytest.fixture(params=["delete"])
def chats(migrations: Path, request: pytest.FixtureRequest) -> Path:
    """Make a database at 0001 with three rows, and a second and a third migration."""
    change("app.db", f"PRAGMA journal_mode = {request.param}")
    write(migrations, "0001_chats", "CREATE TABLE chats (id INTEGER PRIMARY KEY, text);", "DROP TABLE chats;")
    migrate("app.db", migrations)
    change("app.db", "INSERT INTO chats (text) VALUES ('a'), ('b'), ('c')")
    write(migrations, "0002_costs", COSTS, "DROP TABLE costs;")
    write(migrations, "0003_title", TITLE.format("ADD", "TEXT"), TITLE.format("DROP", ""))
    return migrations


in_both_modes = pytest.mark.parametrize("chats", MODES, indirect=True)
SECOND = ("upgrade", "0002", ["+ table costs"], ["chats: 3 -> 2", "costs: None -> 3"])
THIRD = ("upgrade", "0003", ["+ column chats.title TEXT"], ["chats: 2 -> 2"])


def test_each_step_is_told_with_its_rows_and_its_changes(chats: Path) -> None:
    answer = rehearsed()
    assert steps(answer) == [SECOND, THIRD]
    assert all(step["took_ms"] > 0 for step in (*answer["steps"], answer["copy"]))
    assert answer["copy"]["bytes"] == os.path.getsize("app.db")
    assert (answer["database"], answer["from"], answer["to"], answer["dry_run"]) == (
        "app.db",
        "0001",
        "0003",
        True,
    )
    migrate("app.db", chats)
    assert steps(rehearsed("downgrade", "1")) == [
        ("downgrade", "0003", ["- column chats.title TEXT"], ["chats: 2 -> 2"]),
        ("downgrade", "0002", ["- table costs"], ["costs: 3 -> None"]),
    ]


def test_people_read_the_same_as_lines(chats: Path) -> None:
    said = in_process("upgrade", "--dry-run")
    out = re.sub(r"[0-9.]+ (ms|s)\b", "T", said.out)
    assert (said.code, out, said.err) == (
        0,
        f"copied app.db: {os.path.getsize('app.db')} bytes (T)\n"
        "would upgrade 0002 costs (T)\n  + table costs\n  rows of chats: 3 -> 2\n  rows of costs: none -> 3\n"
        "would upgrade 0003 title (T)\n  + column chats.title TEXT\n"
        "app.db is untouched\n",
        "",
    )


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("INSERT OR IGNORE INTO main.plain VALUES (1)", ["plain: 1 -> 2"]),
        ('REPLACE INTO "main"."two words" VALUES (1)', ["two words: 1 -> 2"]),
        ("INSERT /* not so plain */ INTO [two words] VALUES (';')", ["two words: 1 -> 2"]),
        ("WITH two AS (SELECT 1 UNION SELECT 2) INSERT INTO plain SELECT * FROM two", ["plain: 1 -> 3"]),
        ('INSERT INTO "a""b" VALUES (1)', ['a"b: 1 -> 2']),
        ("DELETE FROM plain", ["plain: 1 -> 0"]),
        ("DELETE FROM [two words] WHERE 1", ["two words: 1 -> 0"]),
        ("UPDATE OR REPLACE lone SET a = 1; INSERT INTO lone(a)VALUES (1)", ["lone: 1 -> 2"]),
        ("UPDATE plain SET a = a + 1", ["plain: 1 -> 1"]),
        ("INSERT INTO watched VALUES (1)", ["plain: 1 -> 2", "watched: 1 -> 2"]),
        ("ALTER TABLE plain RENAME TO simple", ["plain: 1 -> None", "simple: None -> 1"]),
        ("CREATE TABLE copy AS SELECT * FROM plain", ["copy: None -> 1", "plain: 1 -> 1"]),
        (
            "CREATE TABLE new (a); INSERT INTO new SELECT a FROM lone; DROP TABLE lone;"
            "ALTER TABLE new RENAME TO lone",
            ["lone: 1 -> 1"],
        ),
        (
            "ALTER TABLE lone RENAME TO other; ALTER TABLE two RENAME TO lone",
            ["lone: 1 -> 2", "other: None -> 1", "two: 2 -> None"],
        ),
        (
            "ALTER TABLE lone RENAME TO new; ALTER TABLE two RENAME TO lone; ALTER TABLE new RENAME TO two",
            ["lone: 1 -> 2", "two: 2 -> 1"],
        ),
    ],
)
def test_rows_are_counted_wherever_a_step_can_move_them(migrations: Path, sql: str, rows: list[str]) -> None:
    tables = [
        f"CREATE TABLE {name} (a); INSERT INTO {name} VALUES (0);"
        for name in ("plain", '"two words"', "watched", "lone", '"a""b"', "two")
    ]
    trigger = "CREATE TRIGGER onto AFTER INSERT ON watched BEGIN INSERT INTO plain VALUES (new.a); END;"
    write(migrations, "0001_tables", "".join((*tables, "INSERT INTO two VALUES (1);", trigger)))
    migrate("app.db", migrations)
    write(migrations, "0002_moves", sql)
    ((_, _, _, told),) = steps(rehearsed())
    named = {row.partition(":")[0] for row in rows}
    assert [row for row in told if row.partition(":")[0] in named] == rows
    unmoved = [row for row in told if row not in rows]
    assert [row for row in unmoved if len({*row.partition(": ")[2].split(" -> ")}) > 1] == []


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR REPLACE", "REPLACE"])
def test_a_table_that_is_only_read_is_not_told(migrations: Path, verb: str) -> None:
    write(
        migrations, "0001_tables", "CREATE TABLE one (a);\nCREATE TABLE two (a);\nINSERT INTO two VALUES (1);"
    )
    migrate("app.db", migrations)
    write(migrations, "0002_moves", f"{verb} INTO one SELECT a FROM two;")
    ((_, _, _, told),) = steps(rehearsed())
    assert told == ["one: 0 -> 1"]


def test_rows_are_counted_anew_when_a_name_passes_on(migrations: Path) -> None:
    tables = "CREATE TABLE one AS SELECT 1 AS a; CREATE TABLE two AS SELECT 1 AS a UNION SELECT 2;"
    write(migrations, "0001_tables", tables)
    migrate("app.db", migrations)
    write(migrations, "0002_drop", "DROP TABLE one")
    write(migrations, "0003_rename", "ALTER TABLE two RENAME TO one")
    write(migrations, "0004_create", "CREATE TABLE two (a)")
    write(migrations, "0005_copy", "INSERT INTO two SELECT a FROM one")
    assert [step[3] for step in steps(rehearsed())] == [
        ["one: 1 -> None"],
        ["one: None -> 2", "two: 2 -> None"],
        ["two: None -> 0"],
        ["two: 0 -> 2"],  # what is only read cannot have changed, and is not counted
    ]


@in_both_modes
def test_the_original_is_not_changed_by_a_byte(chats: Path) -> None:
    before = traces()
    assert steps(rehearsed()) == [SECOND, THIRD]
    assert traces() == before
    assert set(before) == {"app.db"}
    with closing(sqlite3.connect("app.db", isolation_level=None)) as writer:
        writer.execute("INSERT INTO chats (text) VALUES ('committed')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO chats (text) VALUES ('not committed')")
        before = traces()
        assert steps(rehearsed())[0][3][0] == "chats: 4 -> 3"
        after = traces()
    assert after.keys() == before.keys()
    before.pop("app.db-shm", None)  # holds the marks of readers, not data
    after.pop("app.db-shm", None)
    assert after == before


@in_both_modes
def test_a_disk_that_cannot_be_written_to(chats: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "1m") as mounted:
        (mounted / "app.db").write_bytes(Path("app.db").read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
        database = f"{mounted}/app.db"
        run = in_process("upgrade", "-d", database)
        assert run == (1, "", f"error: {database}: on a read-only file system; nothing was changed\n")
        assert in_process("upgrade", "--dry-run", "-d", database) == run
        assert os.listdir(mounted) == ["app.db"]


@in_both_modes
def test_others_write_meanwhile(chats: Path) -> None:
    said: list[str] = []
    with closing(sqlite3.connect("app.db", timeout=0, isolation_level=None)) as writer:

        def live(text: str) -> None:
            said.append(text)
            writer.execute("INSERT INTO chats (text) VALUES ('meanwhile')")

        out = in_process("upgrade", "--dry-run", live=live).out
    assert "  rows of chats: 3 -> 2\n" in out
    assert len(said) >= 2
    assert query(Path("app.db"), "SELECT count(*) FROM chats WHERE text = 'meanwhile'") == [(len(said),)]


def test_a_process_that_upgrades_between_plan_and_copy(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    original = tempfile.gettempdir

    def slow() -> str:
        if not waited:
            waited.extend(step.version for step in migrate("app.db", chats, target="2"))
        return original()

    monkeypatch.setattr(tempfile, "gettempdir", slow)
    assert steps(rehearsed()) == [THIRD]
    assert waited == ["0002"]


def test_with_nothing_to_do_nothing_is_copied(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert in_process("upgrade", "1", "--dry-run") == (0, "app.db: nothing to do\n", "")
    answer = rehearsed("upgrade", "1")
    assert (answer["steps"], answer["copy"]) == ([], {"bytes": 0, "took_ms": 0.0})


def test_a_database_that_does_not_exist_is_not_made(migrations: Path) -> None:
    write(migrations, "0001_tables", "CREATE TABLE one (a);")
    answer = rehearsed()
    assert steps(answer) == [("upgrade", "0001", ["+ table one"], ["one: None -> 0"])]
    assert answer["copy"]["bytes"] == 0
    assert os.listdir() == []


def same_refusal(*words: str) -> Said:
    """Return what a run says that is refused before it begins; rehearsed, it must say the same."""
    said = in_process(*words, "--dry-run")
    assert in_process(*words) == said
    return said


def test_what_the_run_would_refuse_is_refused(chats: Path) -> None:
    advice = "to go back, run: python3 -m vmpilot.migrate downgrade base"
    refused = pasteable(
        f"error: cannot upgrade to base: app.db is already at 0001; {advice}\n", migrations=chats
    )
    assert same_refusal("upgrade", "base") == (1, "", refused)
    write(chats, "0004_broken", "COMMIT;")
    rule = "COMMIT is not allowed here, the runner owns the transaction"
    refused = f"error: {chats}/0004_broken.up.sql:1: {rule}; app.db was not touched\n"
    assert same_refusal("upgrade") == (1, "", refused)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("CREATE TABLE four (a);\nCREATE TABEL five (a);", ':2: near "TABEL": syntax error'),
        ("INSERT INTO nowhere VALUES (1);", ":1: no such table: nowhere"),
    ],
)
def test_a_failing_step_is_told_in_the_words_of_the_real_run(chats: Path, sql: str, reason: str) -> None:
    write(chats, "0004_wrong", sql)
    answer = rehearsed()
    assert steps(answer) == [SECOND, THIRD]
    message = f"{chats}/0004_wrong.up.sql{reason}; rolled back, app.db is still at 0003"
    assert answer["error"]["message"] == message
    said = in_process("upgrade", "--dry-run")
    assert (said.code, said.err) == (1, f"error: {message}; this was a rehearsal\n")
    real = json.loads(in_process("upgrade", "--json").out)
    assert real["error"] == answer["error"]


def test_guards_and_adoption_speak_too(migrations: Path) -> None:
    write(migrations, "0001_tables", "CREATE TABLE IF NOT EXISTS one (a);")
    change("app.db", "CREATE TABLE one (b)")
    found = "app.db is not as this file makes it: - column one.a, + column one.b"
    remedy = "to take it over as it is, run: python3 -m vmpilot.migrate stamp 0001"
    said = f"{migrations}/0001_tables.up.sql: {found}; rolled back, app.db is still at base; {remedy}"
    assert rehearsed()["error"]["message"] == pasteable(said, migrations=migrations)


def test_files_that_ask_for_no_transaction(chats: Path) -> None:
    write(chats, "0004_wal", "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL; VACUUM;")
    write(chats, "0005_more", "INSERT INTO chats (text) VALUES ('in the log of the copy');")
    assert steps(rehearsed())[-1] == ("upgrade", "0005", [], ["chats: 2 -> 3"])
    assert query(Path("app.db"), "PRAGMA journal_mode") == [("delete",)]


def test_an_upgrade_by_newer_code_is_taken_back_with_the_kept_scripts(chats: Path) -> None:
    migrate("app.db", chats)
    for path in chats.glob("000[23]*"):
        path.unlink()
    changes = [step[2] for step in steps(rehearsed("downgrade", "head"))]
    assert changes == [["- column chats.title TEXT"], ["- table costs"]]


def test_the_copy_is_opened_by_the_application(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    application(
        "import sqlite3\n\ndef connect(path):\n    connection = sqlite3.connect(path)\n"
        "    connection.create_function('answer', 0, lambda: 42)\n    return connection\n\n"
        "def broken(path):\n    raise ValueError('no key')\n",
        monkeypatch,
    )
    write(chats, "0004_answer", "CREATE TABLE answers AS SELECT answer() AS a;")
    assert "no such function: answer" in rehearsed()["error"]["message"]
    with_it = rehearsed("upgrade", "--connect", "application:connect")
    assert steps(with_it)[-1] == ("upgrade", "0004", ["+ table answers"], ["answers: None -> 1"])
    for words, where, reason in (
        ("application:broken", "app.db: ", "no key"),
        ("application:nothing", "", "module 'application' has no attribute 'nothing'"),
        ("no_application:connect", "", "No module named 'no_application'"),
    ):
        said = in_process("upgrade", "--dry-run", "--connect", words)
        assert said == (1, "", f"error: {where}--connect {words}: {reason}; nothing was changed\n")


# --- the copy


@pytest.mark.parametrize("chats", ["wal"], indirect=True)
def test_only_the_user_can_read_the_copy(chats: Path, temporary: Path) -> None:
    os.chmod("app.db", 0o666)
    seen = set()

    def live(text: str) -> None:
        seen.update((path.name[-8:], path.stat().st_mode & 0o777) for path in temporary.rglob("*"))

    umask = os.umask(0)
    try:
        assert in_process("upgrade", "--dry-run", live=live).code == 0
    finally:
        os.umask(umask)
    (directory,) = {(name, mode) for name, mode in seen if name.endswith(".tmp")}
    assert directory[1] == 0o700
    assert seen - {directory} == {("copy", 0o600), ("copy-wal", 0o600), ("copy-shm", 0o600)}


def test_no_room_for_the_copy(chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = os.path.getsize("app.db")
    with disk(tmp_path / "disk", "8k") as mounted:
        monkeypatch.setenv("TMPDIR", str(mounted))
        said = in_process("upgrade", "--dry-run")
        assert os.listdir(mounted) == []
    words = f"{mounted}: a copy of app.db needs {size} bytes, 8192 are free; nothing was changed"
    assert said == (1, "", f"error: {words}; to have the copy elsewhere, set TMPDIR\n")


def test_no_room_for_what_the_copy_becomes(
    chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(chats, "0004_blob", "INSERT INTO chats (text) VALUES (zeroblob(200000));")
    with disk(tmp_path / "disk", "100k") as mounted:
        monkeypatch.setenv("TMPDIR", str(mounted))
        said = in_process("upgrade", "--dry-run")
        assert os.listdir(mounted) == []
    words = f"{mounted}: no room for the changed copy of app.db: database or disk is full"
    assert said == (1, "", f"error: {words}; nothing was changed; to have the copy elsewhere, set TMPDIR\n")
    assert len(migrate("app.db", chats)) == 3


@pytest.mark.parametrize(
    ("last", "first", "free"),
    [(2**63 - 1, "SELECT 1", None), (2**63 - 1, "SELECT 1", 2**16), (1, "PRAGMA max_page_count = 1", 2**62)],
    ids=["numbers", "numbers, and little room", "pages"],
)
def test_numbers_and_pages_that_run_out_are_no_matter_of_room(
    last: int, first: str, free: int | None, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says of all that the disk is full; here the run itself fails, and in the same words."""
    usage = shutil.disk_usage(".")
    if free is not None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=free))
    write(migrations, "0001_n", "CREATE TABLE n (id INTEGER PRIMARY KEY AUTOINCREMENT, x);", "DROP TABLE n;")
    migrate("app.db", migrations)
    change("app.db", f"INSERT INTO n VALUES ({last}, 1)")
    write(migrations, "0002_more", f"{first};\nINSERT INTO n (x) VALUES (zeroblob(100000));")
    told = in_process("upgrade", "--dry-run")
    done = in_process("upgrade")
    assert done.err.startswith(f"error: {migrations}/0002_more.up.sql:2: ")
    assert done.err.endswith("; rolled back, app.db is still at 0001\n")
    assert told.err == done.err.replace("\n", "; this was a rehearsal\n")
    assert (told.code, done.code) == (1, 1)


LIMITED = """
import resource
from vmpilot.migrate.cli.commands import main
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
main(["upgrade", "--dry-run"])
"""


def test_a_file_system_that_takes_no_more(chats: Path, temporary: Path) -> None:
    size = os.path.getsize("app.db")
    with running("-c", LIMITED) as limited:
        said = limited.communicate()
    words = f"{temporary}: a copy of app.db needs {size} bytes: disk I/O error; nothing was changed"
    assert said == ("", f"error: {words}; to have the copy elsewhere, set TMPDIR\n")


# --- interrupted

# On a terminal, the line about a step that goes on is written again and again.
REHEARSING = """
import runpy, sys
from watched import Watched

def live(text):
    if text.count("0004") and not text.endswith(" 0.0 s"):
        sys.__stdout__.write("busy\\n")
        sys.__stdout__.flush()

class Terminal(Watched):
    def reconfigure(self, **options):
        pass

sys.stdout = Terminal(live, True)
sys.argv = ["migrate", "upgrade", "--dry-run"]
runpy.run_module("vmpilot.migrate", run_name="__main__")
"""
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_a_long_statement(chats: Path, number: int, code: int) -> None:
    write(chats, "0004_endless", ENDLESS)
    before = traces()
    with running("-c", REHEARSING, TERM="xterm") as process:
        assert heard(process) == "busy\n"
        process.send_signal(number)
        err = process.communicate()[1]
    assert (process.returncode, err) == (code, "error: app.db: interrupted; nothing was changed\n")
    assert traces() == before


def swept(temporary: Path, factor: float) -> None:
    add(4000)
    before = traces()
    assert tempfile.gettempdir() == str(temporary)  # Python itself tries what it finds with a file
    for _ in ever_later(lambda: in_process("upgrade", "--dry-run"), factor):
        assert os.listdir(temporary) == []
    assert traces() == before


@unraisable
def test_a_signal_at_any_moment(chats: Path, temporary: Path) -> None:
    swept(temporary, 1.15)


@pytest.mark.full
@unraisable
def test_a_signal_at_any_moment_thoroughly(chats: Path, temporary: Path) -> None:
    swept(temporary, 1.01)


# --- predictions

STATEMENTS = st.sampled_from(
    [
        "CREATE TABLE {0} (a);",
        "CREATE TABLE {0} (a PRIMARY KEY, b REFERENCES {1});",
        "DROP TABLE {0};",
        "INSERT INTO {0} VALUES (1);",
        "INSERT INTO {0} (a) VALUES (2), (3);",
        "DELETE FROM {0} WHERE a = 2;",
        "UPDATE {0} SET a = 1;",
        "ALTER TABLE {0} ADD COLUMN c TEXT;",
        "ALTER TABLE {0} RENAME TO {1};",
        "CREATE INDEX {0}_by_a ON {0} (a);",
        "CREATE VIEW {1}_seen AS SELECT * FROM {0};",
        "CREATE TRIGGER {0}_copied AFTER INSERT ON {0} BEGIN INSERT INTO {1} (a) VALUES (new.a); END;",
        "SELECT * FROM {0};",
        "nonsense;",
    ]
)
TABLES = st.sampled_from(["one", "two"])
SCRIPTS = st.lists(st.builds(str.format, STATEMENTS, TABLES, TABLES), max_size=4).map("\n".join)
HISTORIES = st.lists(st.tuples(SCRIPTS, st.one_of(st.none(), SCRIPTS)), min_size=1, max_size=5)
TARGETS = st.tuples(st.sampled_from(["head", "+1", "1", "2"]), st.sampled_from(["-1", "base", "1"]))


@given(HISTORIES, TARGETS)
def test_a_rehearsal_predicts_the_real_run(
    history: list[tuple[str, str | None]], targets: tuple[str, str]
) -> None:
    before = os.getcwd()
    with tempfile.TemporaryDirectory(dir=before) as place:
        os.chdir(place)
        try:
            os.mkdir("migrations")
            for number, (script, undo) in enumerate(history, 1):
                write(Path("migrations"), f"{number:04}_x", script, undo)
            compare("upgrade", targets[0])
            compare("downgrade", targets[1], "--no-backup")
        finally:
            os.chdir(before)


def compare(action: str, target: str, *options: str) -> None:
    """Rehearse a run, do it, and find what was told: the steps, the error word for word, the rows."""
    arguments = (action, target, "--migrations", "migrations", "--json")
    before = {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)}
    told = in_process(*arguments, "--dry-run")
    assert {name: Path(name).read_bytes() for name in os.listdir() if os.path.isfile(name)} == before
    done = in_process(*arguments, *options)
    expected, found = json.loads(told.out), json.loads(done.out)
    assert (done.code, found.get("error")) == (told.code, expected.get("error"))
    if "error" not in found:
        names = ("from", "to", "database")
        assert [found[name] for name in names] == [expected[name] for name in names]
        assert [step["version"] for step in found["steps"]] == [step["version"] for step in expected["steps"]]
    if "to" in expected:  # how far a run comes that fails is told too
        current = json.loads(in_process("current", "--migrations", "migrations", "--json").out)
        assert current["version"] == expected["to"]
    left = {row["table"]: row["after"] for step in expected.get("steps", ()) for row in step["rows"]}
    counted = {table: count for table, count in left.items() if count is not None}
    assert {
        table: query(Path("app.db"), f'SELECT count(*) FROM "{table}"')[0][0] for table in counted
    } == counted
    if os.path.exists("app.db"):
        tables = {name for (name,) in query(Path("app.db"), "SELECT name FROM sqlite_master")}
        assert tables.isdisjoint(left.keys() - counted.keys())
