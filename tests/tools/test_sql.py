"""A script of `--sql` does to a database what the run does, and stops where it may not go on.

Each script is played twice: by the real `sqlite3` shell, where it is installed, and by a reader of our own.
"""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise, permutations
from pathlib import Path
from shutil import copy, which

import pytest
from support import command, everything, in_process, query, write

from vmpilot import migrate as api

PIECES = {
    "0001_tables": (
        "CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);\r\n"
        "CREATE TABLE children (\r\n    id INTEGER PRIMARY KEY AUTOINCREMENT,\r\n"
        "    parent INTEGER REFERENCES parents (id) ON DELETE CASCADE\r\n);\r\n"
        "INSERT INTO parents VALUES (1, 'one'), (2, NULL);\r\n"
        "INSERT INTO children (parent) VALUES (1), (1), (2);\r\n",
        "DROP TABLE children;\r\nDROP TABLE parents;\r\n",
    ),
    "0002_trigger": (
        "-- vmpilot: revision 57dc007f6d46\n"
        "CREATE TABLE seen (what TEXT);\n"
        "CREATE TRIGGER look AFTER INSERT ON parents BEGIN\n"
        "    INSERT INTO seen VALUES (CASE WHEN new.id > 2 THEN 'it''s; END;' ELSE '--' END);\n"
        "    UPDATE parents SET name = 'seen' WHERE id = new.id;\nEND;\n"
        "INSERT INTO parents VALUES (3, 'x');",
        "DROP TRIGGER look; DROP TABLE seen; DELETE FROM parents WHERE id = 3;",
    ),
    "0003_text": (
        "INSERT INTO parents VALUES (4, '\n.quit\ngo\n/\n-- no comment\n;\n'), (5, 'Grüße, 漢字');;\n"
        "UPDATE parents SET name = name || '\n.exit\n' WHERE id = 4 -- the end",
        "DELETE FROM parents WHERE id IN (4, 5)\n; -- the end",
    ),
    "0004_outside": (
        "-- vmpilot: no-transaction\nPRAGMA foreign_keys = ON;\nVACUUM;\n",
        "-- vmpilot: no-transaction\nVACUUM;\nPRAGMA foreign_keys = ON;\n",
    ),
    "0005_rebuild": (
        "PRAGMA foreign_keys = OFF;\nBEGIN;\n"
        "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT, at TEXT DEFAULT '');\n"
        "INSERT INTO new (id, name) SELECT id, name FROM parents;\n"
        "DROP TABLE parents;\nALTER TABLE new RENAME TO parents;\nCOMMIT;\nPRAGMA foreign_keys = ON;\n",
        "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT);\n"
        "INSERT INTO new SELECT id, name FROM parents;\n"
        "DROP TABLE parents;\nALTER TABLE new RENAME TO parents;\n"
        "CREATE TRIGGER look AFTER INSERT ON parents BEGIN\n"
        "    INSERT INTO seen VALUES (CASE WHEN new.id > 2 THEN 'it''s; END;' ELSE '--' END);\n"
        "    UPDATE parents SET name = 'seen' WHERE id = new.id;\nEND;\n",
    ),
    "0006_nothing": ("-- nothing yet", "/* nothing */"),
}


def shell(database: Path, script: str) -> bool:
    """Run a script in the sqlite3 shell; tell whether it succeeded."""
    words = ["sqlite3", "-batch", str(database)]
    return subprocess.run(words, input=script.encode(), capture_output=True, check=False).returncode == 0


def statement_by_statement(database: Path, script: str) -> bool:
    """Run a script as the shell does, without the shell, as if a .sqliterc had switched foreign keys on."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        open_statement = ""
        for line in script.split("\n"):
            if not open_statement and line.startswith((".", "--")):
                continue
            open_statement += line + "\n"
            if sqlite3.complete_statement(open_statement):
                try:
                    connection.execute(open_statement)
                except sqlite3.Error:
                    return False
                open_statement = ""
        assert not open_statement.strip()
    return True


Player = Callable[[Path, str], bool]

played = pytest.mark.parametrize(
    "play",
    [
        pytest.param(shell, marks=pytest.mark.skipif(not which("sqlite3"), reason="no sqlite3 shell")),
        statement_by_statement,
    ],
)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of one's own, and name its database and migrations in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VMPILOT_DATABASE", "app.db")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "migrations")


def script_of(*words: str | Path) -> str:
    """Return the script that `--sql` prints, and prove that printing it touched no file."""
    before = everything(Path())
    answer = in_process(*words, "--sql")
    assert (answer.code, answer.err) == (0, "")
    assert everything(Path()) == before
    return answer.out


def contents(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the schema and all rows; less the times in the log, and the line ends of the schema's text."""
    unix = "replace(sql, char(13, 10), char(10))"
    found = {
        "schema": query(database, f"SELECT type, name, tbl_name, {unix} FROM sqlite_master ORDER BY 1, 2")
    }
    tables = [str(name) for kind, name, *_ in found["schema"] if kind == "table"]
    for name in tables:
        what = LOGGED if name == "migration_log" else "*"
        found[name] = query(database, f"SELECT {what} FROM {name}")
    return found


LOGGED = "id, action, version, name, from_version, to_version, checksum, down_sql, down_checksum"
VERSION = "SELECT version_num FROM alembic_version"


def assert_the_same(play: Player) -> None:
    """Play the script of an upgrade from nothing, run the upgrade, and compare what they leave."""
    assert play(Path("played.db"), script_of("upgrade"))
    assert in_process("upgrade").code == 0
    assert contents(Path("played.db")) == contents(Path("app.db"))


# --- from every version to every other


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One database at each version of PIECES, base first; the migrations lie beside them."""
    folder = tmp_path_factory.mktemp("snapshots")
    (folder / "migrations").mkdir()
    for stem, (up, down) in PIECES.items():
        write(folder / "migrations", stem, up, down)
    paths = [folder / f"at-{position}.db" for position in range(len(PIECES) + 1)]
    sqlite3.connect(paths[0]).close()
    for before, after in pairwise(paths):
        copy(before, after)
        api.migrate(after, folder / "migrations", target="+1")
    return paths


def move(snapshots: list[Path], position: int, goal: int) -> list[str | Path]:
    """Return the words that move a snapshot; the snapshots' directory becomes the current one."""
    os.chdir(snapshots[0].parent)
    return ["upgrade" if goal > position else "downgrade", f"{goal - position:+}", "-d", snapshots[position]]


@played
def test_a_script_does_what_the_run_does(snapshots: list[Path], play: Player, tmp_path: Path) -> None:
    for position, goal in permutations(range(len(snapshots)), 2):
        script = script_of(*move(snapshots, position, goal))
        ran = Path(copy(snapshots[position], tmp_path / "ran.db"))
        scripted = Path(copy(snapshots[position], tmp_path / "scripted.db"))
        if goal > position:
            api.migrate(ran, "migrations", target=f"{goal - position:+}")
        else:
            api.downgrade(ran, "migrations", target=f"{goal - position:+}", backup=False)
        assert play(scripted, script), (position, goal)
        assert contents(scripted) == contents(ran), (position, goal)


@played
def test_a_script_is_refused_elsewhere(snapshots: list[Path], play: Player, tmp_path: Path) -> None:
    last = len(snapshots) - 1
    for start, goal in ((0, last), (last, 0)):
        script = script_of(*move(snapshots, start, goal))
        for snapshot in snapshots:
            if snapshot != snapshots[start]:
                other = Path(copy(snapshot, tmp_path / "other.db"))
                before = contents(other)
                assert not play(other, script)
                assert contents(other) == before


@played
@pytest.mark.parametrize(
    ("theirs", "left"),
    [("INSERT INTO alembic_version VALUES ('0009')", [("0009",)]), ("SELECT 1", [("0001",)])],
    ids=["another version", "nothing"],
)
def test_a_script_looks_again_after_what_ran_outside_of_a_transaction(
    migrations: Path, play: Player, theirs: str, left: list[tuple[str]]
) -> None:
    write(
        migrations, "0001_outside", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS a (b);\nVACUUM;"
    )
    first, begin, last = script_of("upgrade").rpartition("BEGIN IMMEDIATE;")
    assert first.rstrip().endswith("VACUUM;")
    assert play(Path("app.db"), first)
    with closing(sqlite3.connect("app.db")) as other, other:
        other.execute(theirs)  # another process, while the script is at work
    before = contents(Path("app.db"))
    finished = play(Path("app.db"), f".bail on\n{begin}{last}")
    assert finished == (left == [("0001",)])
    assert query(Path("app.db"), VERSION) == left
    assert finished or contents(Path("app.db")) == before


@played
def test_a_script_stops_where_the_run_stops(migrations: Path, play: Player) -> None:
    write(migrations, "0001_good", "CREATE TABLE good (a);")
    write(
        migrations,
        "0002_bad",
        "CREATE TABLE bad (a);\nINSERT INTO nowhere VALUES (1);\nCREATE TABLE worse (a);",
    )
    assert not play(Path("played.db"), script_of("upgrade"))
    assert in_process("upgrade").code == 1
    assert contents(Path("played.db")) == contents(Path("app.db"))
    assert query(Path("played.db"), VERSION) == [("0001",)]


# --- from step to step


LEAKS = {
    "settings": (
        "CREATE TABLE a (b);\nCREATE VIEW v AS SELECT b FROM a;\nPRAGMA legacy_alter_table = ON;",
        "ALTER TABLE a RENAME TO c;",
    ),
    "temp": (
        'CREATE TABLE a (b);\nCREATE TEMP TABLE "the scratch" (a);\n'
        "CREATE TEMP VIEW v AS SELECT 1;\nCREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;",
        'CREATE TEMP TABLE "the scratch" (a);\nCREATE TABLE v (b);\nCREATE TABLE t (b);',
    ),
    "temporary": (
        "CREATE TABLE a (b);\nCREATE TEMPORARY TABLE scratch (a);\n"
        "create /* for now */ temporary -- only\n table if not exists [other one] (a);\n"
        "CREATE TEMPORARY VIEW v AS SELECT 1;\n"
        "CREATE TEMPORARY TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;",
        "CREATE TEMPORARY TABLE scratch (b);\nINSERT INTO scratch (b) VALUES (1);\n"
        "CREATE TEMPORARY TABLE [other one] (b);\nCREATE TEMPORARY VIEW v AS SELECT 2;\n"
        "CREATE TEMPORARY TRIGGER t AFTER INSERT ON a BEGIN SELECT 2; END;\nINSERT INTO a SELECT b FROM scratch;",
    ),
    "foreign keys": (
        "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS a (b PRIMARY KEY);\n"
        "CREATE TABLE IF NOT EXISTS c (d REFERENCES a (b) ON DELETE CASCADE);\n"
        "INSERT OR IGNORE INTO a VALUES (1);\nINSERT INTO c VALUES (1);\nPRAGMA foreign_keys = ON;",
        "CREATE TABLE e (b PRIMARY KEY);\nINSERT INTO e SELECT b FROM a;\nDROP TABLE a;\n"
        "ALTER TABLE e RENAME TO a;",
    ),
}


@played
@pytest.mark.parametrize("leak", LEAKS)
def test_a_step_of_a_script_leaks_nothing_to_the_next(migrations: Path, play: Player, leak: str) -> None:
    first, second = LEAKS[leak]
    write(migrations, "0001_first", first)
    write(migrations, "0002_second", second)
    assert_the_same(play)


# --- text


TEXTS = {
    "between statements": (
        "CREATE TABLE a (b TEXT DEFAULT 'x\r\ny');\r\n-- it's\r\nINSERT INTO a VALUES ('one\r\ntwo''\r\n');\r\n"
        "INSERT INTO a DEFAULT VALUES;\r\n"
    ),
    "inside a statement": (
        "CREATE TABLE a ( -- it's\r\n  b TEXT DEFAULT 'x\r\ny' /* it's\r\n */\r\n);\r\n"
        "INSERT INTO a -- it's\r\nVALUES -- 'quoted'\r\n  ('one\r\ntwo''\r\n'); -- it's\r\n"
        "INSERT INTO a -- it's\r\nDEFAULT VALUES -- it's\r\n"
    ),
    "inside a quoted name": (
        "CREATE TABLE a (\"it's\" TEXT DEFAULT 1, b TEXT DEFAULT 'x\r\ny');\r\n"
        "INSERT INTO a ([it's],\r\n b) VALUES ('',\r\n 'one\r\ntwo''\r\n');\r\n"
        "INSERT INTO a (`it's`)\r\nVALUES ('');\r\n"
    ),
}


@played
@pytest.mark.parametrize("text", TEXTS)
def test_a_script_keeps_the_line_ends_inside_text(migrations: Path, play: Player, text: str) -> None:
    write(migrations, "0001_text", TEXTS[text], "DELETE FROM a;\r\nDROP TABLE a;\r\n")
    assert play(Path("played.db"), script_of("upgrade"))
    assert in_process("upgrade").code == 0
    rows = query(Path("app.db"), "SELECT b FROM a")
    assert rows == [("one\r\ntwo'\r\n",), ("x\r\ny",)]
    assert query(Path("played.db"), "SELECT b FROM a") == rows
    logged = f"SELECT {LOGGED} FROM migration_log"
    assert query(Path("played.db"), logged) == query(Path("app.db"), logged)


NAMES = [
    "a\nCREATE TABLE hurt (a);\n.db",
    "a\r.quit\r.db",
    "it's; CREATE TABLE hurt (a); --.db",
    "é\udcff.db",
]


@played
@pytest.mark.parametrize("name", NAMES)
def test_the_path_of_a_database_stays_in_its_comment(migrations: Path, play: Player, name: str) -> None:
    write(migrations, "0001_first", "CREATE TABLE b (c);")
    (header, rest), (_, plain) = (
        script_of("upgrade", "-d", path).split("\n", 1) for path in (name, "app.db")
    )
    assert header == f"-- {name!a}: from base to 0001; to run it: sqlite3 DATABASE < SCRIPT"
    assert rest == plain
    assert play(Path("played.db"), f"{header}\n{rest}")
    assert query(Path("played.db"), "SELECT name FROM sqlite_master WHERE name IN ('b', 'hurt')") == [("b",)]


def test_nothing_to_do_is_one_comment(migrations: Path) -> None:
    write(migrations, "0001_first", "CREATE TABLE b (c);")
    in_process("upgrade", "-d", NAMES[0])
    assert in_process("upgrade", "--sql", "-d", NAMES[0]).out.count("\n") == 1


def test_a_script_is_utf_8_in_every_locale(migrations: Path) -> None:
    write(migrations, "0001_text", "CREATE TABLE a (b TEXT);\nINSERT INTO a VALUES ('Grüße, 漢字');")
    for encoding in ("utf-8", "ascii"):
        # The pipe is read as UTF-8 here, whatever the locale.
        done = command("upgrade", "--sql", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (done.returncode, done.stderr) == (0, "")
        assert statement_by_statement(Path(f"{encoding}.db"), done.stdout)
        assert query(Path(f"{encoding}.db"), "SELECT b FROM a") == [("Grüße, 漢字",)]


# --- what there is no script for


def test_sql_with_nothing_to_do_and_with_no_way(migrations: Path) -> None:
    write(migrations, "0001_first", "CREATE TABLE a (b);")
    write(migrations, "0002_second", "CREATE TABLE c (d);", "-- vmpilot: irreversible no way back")
    assert json.loads(in_process("upgrade", "--sql", "--json").out)["sql"] + "\n" == script_of("upgrade")
    in_process("upgrade")
    assert in_process("upgrade", "--sql") == (0, "-- 'app.db': nothing to do\n", "")
    for words in (["upgrade", "1"], ["downgrade"], ["upgrade", "nine"]):
        answer = in_process(*words, "--sql")
        assert (answer.code, answer) == (1, in_process(*words))
