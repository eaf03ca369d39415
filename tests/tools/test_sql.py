"""A script of `--sql` does to a database what the run does, and stops where it may not go on.

Each script is played twice: by the real `sqlite3` shell, where it is installed, and by a reader of our own.
"""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import chdir, closing
from itertools import pairwise, permutations
from pathlib import Path
from shutil import copy, which
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import change, command, everything, in_memory, in_process, query, write

from vmpilot import migrate as api
from vmpilot.migrate.tokens import quoted

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


# What a .sqliterc can make of a shell.
SWITCHED = (
    *(
        "PRAGMA foreign_keys = ON;",
        "PRAGMA ignore_check_constraints = ON;",
        "PRAGMA legacy_alter_table = ON;",
    ),
    *("PRAGMA recursive_triggers = ON;", "PRAGMA trusted_schema = OFF;"),
)


def shell(database: Path, script: str) -> bool:
    """Run a script in the sqlite3 shell of somebody with settings; tell whether it succeeded."""
    with TemporaryDirectory(dir=in_memory()) as folder:
        settings = Path(folder, "sqliterc")
        dots = (".dbconfig defensive on", ".dbconfig dqs_ddl off", ".dbconfig dqs_dml off", "")
        settings.write_text("\n".join((*SWITCHED, *dots)))
        words = ["sqlite3", "-batch", "-init", str(settings), str(database)]
        done = subprocess.run(words, input=script.encode(), capture_output=True, check=False)
    return done.returncode == 0


def statement_by_statement(database: Path, script: str) -> bool:
    """Run a script as the shell does, without the shell, with what a .sqliterc can have switched."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for sql in SWITCHED:
            connection.execute(sql)
        open_statement = ""
        for line in script.split("\n"):
            line = line.removesuffix("\r")
            if not open_statement and line.startswith((".", "#", "--")):
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
    """Return the schema and all rows, less the times in the log."""
    found = {"schema": query(database, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2")}
    tables = [str(name) for kind, name, *_ in found["schema"] if kind == "table"]
    for name in tables:
        what = LOGGED if name == "migration_log" else "*"
        found[name] = query(database, f"SELECT {what} FROM {quoted(name)}")
    found["settings"] = [*query(database, "PRAGMA journal_mode"), *query(database, "PRAGMA user_version")]
    return found


LOGGED = "id, action, version, name, from_version, to_version, checksum, down_sql, down_checksum"
VERSION = "SELECT version_num FROM alembic_version"


def assert_the_same(play: Player) -> bool:
    """Play the script of an upgrade from nothing, run the upgrade, and compare; tell whether both went well."""
    succeeded = play(Path("played.db"), script_of("upgrade"))
    assert succeeded == (in_process("upgrade").code == 0)
    assert contents(Path("played.db")) == contents(Path("app.db"))
    assert not Path("hurt").exists()
    return succeeded


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
def test_a_script_does_what_the_run_does(snapshots: list[Path], play: Player) -> None:
    with TemporaryDirectory(dir=in_memory()) as folder:
        ran, scripted = Path(folder, "ran.db"), Path(folder, "scripted.db")
        for position, goal in permutations(range(len(snapshots)), 2):
            script = script_of(*move(snapshots, position, goal))
            copy(snapshots[position], ran)
            copy(snapshots[position], scripted)
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
def test_a_script_that_would_run_anywhere_is_refused_at_base(migrations: Path, play: Player) -> None:
    write(migrations, "0001_one", "CREATE TABLE one (a);", "DROP TABLE one;")
    write(migrations, "0002_two", "CREATE TABLE two (a);")
    api.migrate("app.db", "migrations", target="0001")
    script = script_of("upgrade")
    api.downgrade("app.db", "migrations", backup=False)
    before = contents(Path("app.db"))
    assert not play(Path("app.db"), script)
    assert contents(Path("app.db")) == before


@played
def test_a_script_leaves_no_journal_beside_the_database(migrations: Path, play: Player) -> None:
    write(migrations, "0001_one", "-- vmpilot: no-transaction\nPRAGMA journal_mode = PERSIST;")
    write(migrations, "0002_two", "CREATE TABLE two (a);")
    assert play(Path("played.db"), script_of("upgrade"))
    assert sorted(os.listdir()) == ["migrations", "played.db"]


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
    assert assert_the_same(play)


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
    assert assert_the_same(play)
    assert query(Path("app.db"), "SELECT b FROM a") == [("one\r\ntwo'\r\n",), ("x\r\ny",)]


SAME = {
    "a TEMP table of a schema": (
        "CREATE TABLE temp.m (a);",
        "CREATE TABLE m (a);\nINSERT INTO m VALUES (1);",
    ),
    "a TEMP table of a quoted schema": (
        'CREATE TABLE "temp".m (a);',
        "CREATE TABLE m (a);\nINSERT INTO m VALUES (1);",
    ),
    "a TEMP view": ("CREATE TEMP VIEW m AS SELECT 1 AS a;", "CREATE TABLE m (a);\nINSERT INTO m VALUES (1);"),
    "a TEMP virtual table": (
        "CREATE VIRTUAL TABLE temp.m USING fts5 (a);\nINSERT INTO m VALUES ('x');",
        "CREATE TABLE m (a);\nINSERT INTO m VALUES (1);\nCREATE TABLE m_data (a);\nINSERT INTO m_data VALUES (2);",
    ),
    "a TEMP table that is renamed": (
        "CREATE TEMP TABLE first (a);\nALTER TABLE first RENAME TO m;",
        "CREATE TABLE m (a);\nINSERT INTO m VALUES (1);",
    ),
    "a TEMP index and a TEMP trigger": (
        "CREATE TABLE a (b);\nCREATE TEMP TABLE m (c);\nCREATE INDEX temp.i ON m (c);\n"
        "CREATE TEMP TRIGGER g AFTER INSERT ON main.a BEGIN INSERT INTO a VALUES (2); END;",
        "INSERT INTO a VALUES (1);\nCREATE TABLE m (c);\nCREATE INDEX i ON m (c);",
    ),
    "a TEMP name that is first a view, then a table": (
        "CREATE TEMP VIEW m AS SELECT 1;\nDROP VIEW m;\nCREATE TEMP TABLE m (a);\nINSERT INTO m VALUES (1);",
        "CREATE TABLE m (a);\nINSERT INTO m VALUES (1);",
    ),
    "a view that only a trusted schema may have": (
        "CREATE TABLE a (b);\nCREATE VIEW v AS SELECT name FROM pragma_table_info('a');",
        "CREATE TABLE c AS SELECT * FROM v;",
    ),
    "foreign keys on": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY);\nINSERT INTO p VALUES (1), (2);\n"
        "CREATE TABLE c (p REFERENCES p ON DELETE CASCADE);\nINSERT INTO c VALUES (1), (2);",
        "-- vmpilot: foreign-keys-on the children go too\nDELETE FROM p WHERE id = 1;",
    ),
    "the last of several journals": (
        "-- vmpilot: no-transaction\nPRAGMA journal_mode = TRUNCATE;\nPRAGMA journal_mode = WAL;",
    ),
    "TEMP tables named as the runner's, and a version before them": (
        "CREATE TABLE m (a);",
        "CREATE TEMP TABLE alembic_version (a);\nCREATE TEMP TABLE migration_log (a);",
    ),
    "TEMP tables named as the runner's": (
        "CREATE TEMP TABLE alembic_version (a);\nCREATE TEMP TABLE migration_log (a);",
        "CREATE TABLE m (a);",
    ),
    "CR LF in a trigger and in a default": (
        "CREATE TABLE a (\r\n  b TEXT DEFAULT 'x\r\ny' -- why\r\n);\r\n"
        "CREATE TRIGGER g AFTER INSERT ON a BEGIN\r\n  UPDATE a SET b = b || 'one\r\ntwo';\r\nEND;\r\n"
        "CREATE VIEW v AS\r\nSELECT 'x\r\n\r\r\n' AS \"c\r\nd\";\r\nINSERT INTO a DEFAULT VALUES;",
    ),
    "CR alone": ("CREATE TABLE a (\rb\rDEFAULT 'x\ry\r'\r);\rINSERT INTO a DEFAULT VALUES;\r",),
    "lines that look like commands": (
        "CREATE TABLE a (b DEFAULT '\n.shell touch hurt\n/\ngo\n#\n;\n');\n"
        "INSERT INTO a VALUES (\n.5\n), ( /*\n.shell touch hurt\n/\ngo\n;\n*/ 6 /\n2), (6\n/ 2);\n"
        "/*\n.shell touch hurt\n*/\n-- ;\n;\nINSERT INTO a\nSELECT 1 AS\ngo;\n"
        'CREATE TABLE "\n.shell touch hurt\n" ([\ngo\n]);\nINSERT INTO a DEFAULT VALUES;',
    ),
    "comments behind the last token": (
        "CREATE TABLE a (b) -- it's\n;\nCREATE TABLE w (a PRIMARY KEY) WITHOUT ROWID -- it's\r\n;\n"
        "CREATE INDEX i ON a (b) WHERE b > 1 /* ; */ -- it's\n;\nCREATE VIEW v AS SELECT 1 -- it's\n;\n"
        "ALTER TABLE a ADD COLUMN c -- it's\n;\nINSERT INTO a VALUES (1, 2) -- it's",
        "ALTER TABLE a ADD COLUMN d DEFAULT 7 -- it's",
    ),
    "strings in double quotes": (
        'CREATE TABLE a (b DEFAULT "x", CHECK (b <> "y"));\nINSERT INTO a SELECT "z" || "it\'s";\n'
        'CREATE VIEW v AS SELECT "no column";',
    ),
    "a schema that is written by hand": (
        "CREATE TABLE a (b);\nPRAGMA writable_schema = ON;\n"
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE a (b NOT NULL)' WHERE name = 'a';\n"
        "PRAGMA writable_schema = OFF;",
        "CREATE TABLE c (d);",
    ),
    "a virtual table of a dump": (
        "PRAGMA writable_schema=ON;\nINSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql)\n"
        "VALUES ('table', 'r', 'r', 0, 'CREATE VIRTUAL TABLE r USING rtree(id,a,b)');\n"
        'CREATE TABLE IF NOT EXISTS "r_rowid"(rowid INTEGER PRIMARY KEY,nodeno);\n'
        'CREATE TABLE IF NOT EXISTS "r_node"(nodeno INTEGER PRIMARY KEY,data);\n'
        "INSERT INTO r_node VALUES (1, zeroblob(976));\n"
        'CREATE TABLE IF NOT EXISTS "r_parent"(nodeno INTEGER PRIMARY KEY,parentnode);\n'
        "PRAGMA writable_schema=OFF;",
        "INSERT INTO r VALUES (1, 2, 3);",
    ),
    "settings that would stop the next statement": (
        "CREATE TABLE a (b);\nPRAGMA query_only = ON;",
        "PRAGMA recursive_triggers = ON;\nPRAGMA ignore_check_constraints = ON;\nPRAGMA mmap_size = 65536;",
        "CREATE TABLE c (d CHECK (d > 0));\nINSERT OR IGNORE INTO c VALUES (0), (1);",
    ),
    "a write-ahead log": (
        "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL;\nCREATE TABLE IF NOT EXISTS a (b);",
        "CREATE TABLE c (d);",
    ),
    "a write-ahead log that ends": (
        "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL;",
        "-- vmpilot: no-transaction\nPRAGMA journal_mode = TRUNCATE;\nCREATE TABLE IF NOT EXISTS a (b);",
    ),
    "a write-ahead log that there is": (
        "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL;",
        "CREATE TABLE a (b);\nPRAGMA journal_mode = WAL;",
    ),
    "where TEMP objects are kept": (
        "PRAGMA temp_store = MEMORY;\nCREATE VIEW v AS SELECT 1;",
        "PRAGMA temp_store = FILE;\nCREATE TABLE a (b);",
    ),
    "what was changed last": (
        "CREATE TABLE a (b);\nINSERT INTO a SELECT changes();\nINSERT INTO a SELECT last_insert_rowid() + changes();",
        "CREATE TABLE w (n);\nCREATE TRIGGER g AFTER INSERT ON w BEGIN INSERT INTO a SELECT changes(); END;\n"
        "INSERT INTO a SELECT changes() + 10;\nINSERT INTO a SELECT last_insert_rowid();",
        "INSERT INTO w VALUES (1);",
        "-- vmpilot: no-transaction\nINSERT INTO a SELECT changes() + 20;\nINSERT INTO a SELECT last_insert_rowid();",
        "INSERT INTO a SELECT last_insert_rowid();\nDELETE FROM a WHERE b > 1;\nINSERT INTO a SELECT changes();",
    ),
    "where TEMP objects are kept, where keys have been looked at": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY);\nCREATE TABLE c (p REFERENCES p);\nINSERT INTO p VALUES (1);",
        "DELETE FROM p;",
        "PRAGMA temp_store = MEMORY;\nINSERT INTO p VALUES (2);",
    ),
    "a line of a megabyte": (
        "CREATE TABLE a (b);\nINSERT INTO a VALUES ('" + 100_000 * "it''s ; -- " + "');",
    ),
    "quotes, blanks and other letters": (
        "CREATE TABLE `a ``b` ([c d] DEFAULT '''', \"é\"\"\" DEFAULT x'0d0a');\n"
        "INSERT INTO `a ``b` DEFAULT VALUES;\fSELECT\f1 AS\r\u00a0FROM;",
    ),
}


@played
@pytest.mark.parametrize("case", SAME)
def test_a_script_leaves_the_same_bytes_as_the_run(migrations: Path, play: Player, case: str) -> None:
    for number, up in enumerate(SAME[case], start=1):
        write(migrations, f"{number:04}_part", up, f"-- what\r\n{up}")
    assert assert_the_same(play)


LINE = "ends a statement there"
OWN = "is the shell's own, and not in a run"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 6\n/\n2;", f'2: a line of only "/" {LINE}'),
        ("SELECT 1;\nSELECT 6 -- six\r\n \t/ -- by\r\n2;", f'3: a line of only "/" {LINE}'),
        ("SELECT 6\n/ /* by */\n2;", f'2: a line of only "/" {LINE}'),
        ("SELECT a AS\ngo\nFROM (SELECT 1 AS a);", f'2: a line of only "go" {LINE}'),
        ("SELECT a AS\n\n  Go  \nFROM (SELECT 1 AS a);", f'3: a line of only "Go" {LINE}'),
        ("SELECT\n:a;", "2: :a is a parameter, and NULL there"),
        ("SELECT ?;", "1: ? is a parameter, and NULL there"),
        ("CREATE \ufeff TABLE a (b);", "1: U+FEFF is no blank there"),
        ("CREATE TABLE a (\n\v\n.shell touch hurt\n);", "2: \\x0b is no blank there"),
        ("\v.shell touch hurt", "1: \\x0b is no blank there"),
        ("SELECT 1,\ntotal_changes();", "2: total_changes() tells there of another connection"),
        ("SELECT * FROM pragma_busy_timeout;", "1: pragma_busy_timeout tells there of another connection"),
        ("SELECT 1; SELECT SHA3('a');", f"1: sha3() {OWN}"),
        ("CREATE TABLE a (b\nCHECK (b NOT REGEXP 'x'));", f"2: regexp() {OWN}"),
        (
            "WITH edit (a) AS (SELECT 1) SELECT a FROM edit, generate_series(1, 3);",
            f"1: generate_series() {OWN}",
        ),
        ("CREATE TABLE a (b COLLATE Uint);", f"1: the collation uint {OWN}"),
        ("CREATE VIRTUAL TABLE a USING zipfile('b.zip');", f"1: the module zipfile {OWN}"),
        (
            "CREATE TRIGGER g AFTER INSERT ON first BEGIN\n SELECT 1, \"writefile\"('x', 1); END;",
            f"2: writefile() {OWN}",
        ),
        ("SELECT load_extension('x');", f"1: load_extension() {OWN}"),
    ],
)
def test_what_the_shell_would_read_otherwise_is_refused(migrations: Path, text: str, expected: str) -> None:
    write(migrations, "0001_first", "CREATE TABLE first (a);")
    write(migrations, "0002_odd", text)
    number, _, reason = expected.partition(": ")
    said = f"migrations/0002_odd.up.sql:{number}: --sql cannot say this to the sqlite3 shell: {reason}"
    assert in_process("upgrade", "--sql") == (1, "", f"error: {said}\n")
    assert not Path("app.db").exists()


def application(path: str) -> sqlite3.Connection:
    """Open a database as an application does that has a function and a collation of its own."""
    connection = sqlite3.connect(path)
    connection.create_function("regexp", 2, lambda pattern, text: pattern in text, deterministic=True)
    connection.create_collation("german", lambda one, other: (one > other) - (one < other))
    return connection


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT 'x' REGEXP 'x';", "migrations/0002_step.up.sql:1: {}: regexp() is the application's own"),
        (
            "SELECT 'x'\nCOLLATE german;",
            "migrations/0002_step.up.sql:2: {}: the collation german is the application's own",
        ),
        (
            "INSERT INTO fires VALUES (1);",
            "app.db: {}: table checked: regexp() is the application's own; nothing was changed",
        ),
        (
            "DELETE FROM kept;",
            "app.db: {}: trigger h: it changes migration_log, which a run refuses; nothing was changed",
        ),
        ("CREATE TABLE edit (decimal DECIMAL (10, 2), regexp);\nCREATE INDEX i ON edit (regexp);", ""),
    ],
)
def test_what_only_the_application_has_is_refused_where_a_step_can_reach_it(
    migrations: Path, text: str, said: str
) -> None:
    with closing(application("app.db")) as connection:
        connection.executescript(
            "CREATE TABLE checked (a CHECK (a REGEXP 'x')); CREATE TABLE fires (a);"
            "CREATE TRIGGER g AFTER INSERT ON fires BEGIN INSERT INTO checked VALUES ('x'); END;"
            "CREATE TABLE kept (a); CREATE TRIGGER h AFTER DELETE ON kept BEGIN DELETE FROM migration_log; END;"
        )
    write(migrations, "0001_first", "CREATE TABLE first (a);")
    api.stamp("0001", "app.db", migrations)
    write(migrations, "0002_step", text)
    code, out, error = in_process("upgrade", "--sql", "--connect", f"{__name__}:application")
    told = said.format("--sql cannot say this to the sqlite3 shell")
    assert (code, error) == ((1, f"error: {told}\n") if said else (0, ""))
    assert bool(said) != (text.partition("\n")[0] in out)


def test_where_temporary_objects_are_kept_is_refused_behind_some_as_by_the_run(migrations: Path) -> None:
    write(migrations, "0001_first", "CREATE TEMP TABLE m (a);")
    write(migrations, "0002_place", "SELECT 1;\nPRAGMA temp_store = MEMORY;")
    said = "migrations/0002_place.up.sql:2: temporary storage cannot be changed from within a transaction"
    how = 'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'
    assert in_process("upgrade", "--sql") == (1, "", f"error: {said}; {how}\n")
    failed = f"error: {said}; rolled back, app.db is still at 0001; {how}\n"
    assert in_process("upgrade").err == failed
    assert in_process("upgrade", "--sql").code == 0


def test_what_a_transaction_keeps_from_having_effect_is_refused_as_by_the_run(migrations: Path) -> None:
    write(migrations, "0001_first", "CREATE TABLE first (a);")
    write(migrations, "0002_log", "CREATE TABLE second (a);\nPRAGMA main.journal_mode('WAL');")
    said = "migrations/0002_log.up.sql:2: cannot change into wal mode from within a transaction"
    how = 'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'
    assert in_process("upgrade", "--sql") == (1, "", f"error: {said}; {how}\n")
    assert in_process("upgrade").err == f"error: {said}; rolled back, app.db is still at 0001; {how}\n"


@played
@pytest.mark.parametrize("target", ["1", "2", "head"])
def test_a_script_notes_the_same_of_tables_without_a_version(
    migrations: Path, play: Player, target: str
) -> None:
    for name in ("0001_one", "0002_two", "0003_three"):
        write(migrations, name, f"CREATE TABLE IF NOT EXISTS {name[5:]} (a);")
    for path in ("played.db", "app.db"):
        change(path, "CREATE TABLE one (a)")
    for goal in (target, "head"):
        script = script_of("upgrade", goal)
        assert in_process("upgrade", goal).code == 0
        assert play(Path("played.db"), script)
        assert contents(Path("played.db")) == contents(Path("app.db"))


PARTS = (
    'CREATE TABLE t{} (a TEXT DEFAULT \'x\r\ny\', b DEFAULT "it\'s", CHECK (a <> "\r\n"))',
    "CREATE TABLE w{} (a PRIMARY KEY) WITHOUT ROWID -- it's; /*\n",
    "CREATE VIEW v{} AS\r\nSELECT '\n.shell touch hurt\n#\ngo\n/\n;\n' AS \"a\r\nb\" -- the end\r\n",
    "CREATE TRIGGER g{} AFTER INSERT ON base BEGIN\r\n"
    "  INSERT INTO seen VALUES ('a\r\nb;\nEND;\r\n'); -- c\r\nEND",
    "CREATE INDEX i{} ON base (a) WHERE a > '\r\n' /*\n.quit\n*/ -- why\n",
    "ALTER TABLE base ADD COLUMN c{} DEFAULT (1) -- why\r\n",
    "INSERT INTO base (a) VALUES ('one\rtwo\r\n\r\r\nthree\r'), (\"it's\" || {}), (x'0d'), (\n.5\n)",
    "UPDATE base SET a = a || '\n.exit\n' || \"\\\" /* ' */ WHERE a IS NOT NULL",
    "CREATE TEMP TABLE m (a)",
    "CREATE TABLE [temp].m (a)",
    "CREATE TEMP VIEW m AS SELECT 1 AS a",
    "ALTER TABLE m RENAME TO n",
    "CREATE TEMP TRIGGER m AFTER INSERT ON main.base BEGIN INSERT INTO seen VALUES ({}); END",
    "CREATE TABLE IF NOT EXISTS m (a)",
    "INSERT INTO m (a) VALUES ({})",
    "PRAGMA recursive_triggers = ON",
    "PRAGMA query_only = ON",
    "PRAGMA user_version = {}",
    "PRAGMA foreign_keys = ON",
)
BETWEEN = (
    *(";", ";\n", ";\r\n", " ; ;\r\n", "\n;\n-- .quit\n"),
    *(";\n/*\n.quit\n;\n*/\n", " -- it's\r\n;\r\n"),
)
parts = st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(BETWEEN)), max_size=5)
headers = st.sampled_from(("", "-- vmpilot: no-transaction\n"))


@pytest.mark.skipif(not which("sqlite3"), reason="no sqlite3 shell")
@given(files=st.lists(st.tuples(headers, parts), max_size=3))
def test_any_script_in_the_shell_leaves_the_same_bytes_as_the_run(
    files: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    with TemporaryDirectory(dir=in_memory()) as folder, chdir(folder):
        directory = Path("migrations")
        directory.mkdir()
        write(directory, "0000_base", "CREATE TABLE base (a);\nCREATE TABLE seen (what);")
        for number, (header, pieces) in enumerate(files, start=1):
            text = "".join(part.format(number * 10 + at) + end for at, (part, end) in enumerate(pieces))
            write(directory, f"{number:04}", header + text, header + text)
        assert_the_same(shell)


def forgotten(migrations: Path, change_log: str) -> None:
    """Be an older release: a migration is applied whose files are not there, and the log says anything."""
    write(migrations, "0001_first", "CREATE TABLE a (b);", "DROP TABLE a;")
    write(migrations, "0002_second", "CREATE TABLE c (d);", "DROP TABLE c;\r\n-- .shell touch hurt\n")
    in_process("upgrade")
    for path in migrations.glob("0002*"):
        path.unlink()
    change("app.db", f"UPDATE migration_log SET {change_log} WHERE version = '0002'")


@played
def test_what_a_database_says_is_no_line_of_a_script(migrations: Path, play: Player) -> None:
    forgotten(migrations, "name = 'x' || char(8232) || '.shell touch hurt' || char(8232, 155)")
    script = script_of("downgrade", "head")
    assert "\n-- downgrade 0002 xU+2028.shell touch hurtU+2028\\x9b\n" in script
    copy("app.db", "played.db")
    assert play(Path("played.db"), script)
    assert in_process("downgrade", "head", "--no-backup").code == 0
    assert contents(Path("played.db")) == contents(Path("app.db"))
    assert not Path("hurt").exists()


@pytest.mark.parametrize(
    "kept", [".shell touch hurt", "\n\n-- x\n.shell touch hurt\n;", "DROP TABLE c;\n.shell x"]
)
def test_a_kept_script_that_is_a_command_is_refused(migrations: Path, kept: str) -> None:
    forgotten(migrations, f"down_sql = '{kept}'")
    number = kept[: kept.index(".shell")].count("\n") + 1
    assert in_process("downgrade", "head", "--sql") == (
        1,
        "",
        f"error: cannot downgrade 0002: migration_log/0002_second.down.sql:{number}: .shell is not allowed here, "
        "it is a command of the sqlite3 shell and no SQL; nothing was changed\n",
    )


NAMES = [
    "a\nCREATE TABLE hurt (a);\n.db",
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
