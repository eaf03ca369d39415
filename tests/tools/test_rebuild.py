"""Proves that the rebuild of a table that `create --rebuild` writes is right as it is written, for odd tables too.

Each is proved as a user would: by `verify`, and on a database with rows.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import ROOT, query, write

from vmpilot.migrate import HistoryError, create, downgrade, migrate, verify

GOES_ON = """-- AUTOINCREMENT goes on where it was.
DELETE FROM sqlite_sequence WHERE name = 'new_t';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'new_t', seq FROM sqlite_sequence WHERE name = 't';
"""
COPIED = "INSERT INTO new_t ({0})\nSELECT {0} FROM t;\n"
RENAMED = "DROP TABLE t;\nALTER TABLE new_t RENAME TO t;\n"
# What the files make, and the rebuild of `t` below what is said of it.
TABLES = {
    "rows": (
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 2), (3, 4)",
        "CREATE TABLE new_t (a INTEGER PRIMARY KEY, b);\n" + COPIED.format("a, b") + RENAMED,
    ),
    "names that need quotes": (
        'CREATE TABLE t ("a b", [group], `c"d`, \'e\', é, "é2" CHECK ("a b" <> "x y")); INSERT INTO t VALUES (1, 2, 3, 4, 5, 6)',
        'CREATE TABLE new_t ("a b", [group], `c"d`, \'e\', é, "é2" CHECK ("a b" <> "x y"));\n'
        + COPIED.format('"a b", "group", "c""d", e, "é", "é2"')
        + RENAMED,
    ),
    "no rowid, and types that are kept": (
        "CREATE TABLE t (a TEXT, b ANY, PRIMARY KEY (b, a)) WITHOUT ROWID, STRICT; INSERT INTO t VALUES ('x', 1), ('y', x'00')",
        "CREATE TABLE new_t (a TEXT, b ANY, PRIMARY KEY (b, a)) WITHOUT ROWID, STRICT;\n"
        + COPIED.format("a, b")
        + RENAMED,
    ),
    "computed columns": (
        "CREATE TABLE t (a AS (b + 1), b INT, c AS (b * 2) STORED UNIQUE); INSERT INTO t VALUES (1), (2)",
        "CREATE TABLE new_t (a AS (b + 1), b INT, c AS (b * 2) STORED UNIQUE);\n" + COPIED.format("b") + RENAMED,
    ),
    "numbers that are given once": (
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b); INSERT INTO t VALUES (1, 2), (9, 9); DELETE FROM t WHERE a = 9",
        "CREATE TABLE new_t (a INTEGER PRIMARY KEY AUTOINCREMENT, b);\n" + COPIED.format("a, b") + GOES_ON + RENAMED,
    ),
    "references to itself and from others": (
        "CREATE TABLE t (a INTEGER PRIMARY KEY, up REFERENCES t ON DELETE CASCADE, CHECK (t.a > 0)); "
        "CREATE TABLE kids (t REFERENCES t (a) ON DELETE CASCADE); INSERT INTO t VALUES (1, NULL), (2, 1); "
        "INSERT INTO kids VALUES (1), (2)",
        "CREATE TABLE new_t (a INTEGER PRIMARY KEY, up REFERENCES t ON DELETE CASCADE, CHECK (new_t.a > 0));\n"
        + COPIED.format("a, up")
        + RENAMED,
    ),
    "indexes and triggers, those of others too": (
        "CREATE TABLE t (a, b); CREATE TABLE log (x); CREATE UNIQUE INDEX z ON t (a) WHERE b; CREATE INDEX y ON t (abs(b)); "
        "CREATE TRIGGER mine AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END; "
        "CREATE TRIGGER theirs AFTER DELETE ON log BEGIN DELETE FROM t WHERE a = old.x; END; INSERT INTO t VALUES (1, 2)",
        "DROP TRIGGER theirs;\n\nCREATE TABLE new_t (a, b);\n" + COPIED.format("a, b") + RENAMED + "\n"
        "CREATE INDEX y ON t (abs(b));\nCREATE UNIQUE INDEX z ON t (a) WHERE b;\n"
        "CREATE TRIGGER mine AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END;\n"
        "CREATE TRIGGER theirs AFTER DELETE ON log BEGIN DELETE FROM t WHERE a = old.x; END;\n",
    ),
    "views on views, and their triggers": (
        "CREATE VIEW top AS SELECT a FROM middle -- last\n; CREATE TABLE t (a); CREATE VIEW middle AS SELECT * FROM T; "
        "CREATE VIEW other AS SELECT 1 AS a; CREATE TRIGGER up INSTEAD OF DELETE ON top BEGIN SELECT 1; END; "
        "CREATE TRIGGER on_other INSTEAD OF DELETE ON other BEGIN DELETE FROM top; END",
        "DROP TRIGGER on_other;\nDROP VIEW middle;\nDROP VIEW top;\n\nCREATE TABLE new_t (a);\n"
        + COPIED.format("a") + RENAMED + "\n"
        "CREATE VIEW middle AS SELECT * FROM T;\nCREATE VIEW top AS SELECT a FROM middle;\n"
        "CREATE TRIGGER on_other INSTEAD OF DELETE ON other BEGIN DELETE FROM top; END;\n"
        "CREATE TRIGGER up INSTEAD OF DELETE ON top BEGIN SELECT 1; END;\n",
    ),
    "what does not compile anyway": (
        "-- vmpilot: unguarded for a test\nCREATE TABLE t (a); CREATE VIEW broken AS SELECT * FROM missing",
        "PRAGMA legacy_alter_table = ON; -- RENAME looks at no view or trigger: some do not compile anyway\n\n"
        "CREATE TABLE new_t (a);\n" + COPIED.format("a") + RENAMED,
    ),
    "a name that is taken": (
        "CREATE TABLE t (a -- what it is\n); CREATE TABLE NEW_t (b)",
        "CREATE TABLE new_t_2 (a -- what it is\n);\n"
        + COPIED.format("a").replace("new_t", "new_t_2") + RENAMED.replace("new_t", "new_t_2"),
    ),
    "a table that was altered": (
        "CREATE TABLE old (a PRIMARY KEY); CREATE TABLE kids (x REFERENCES old (a)); ALTER TABLE old RENAME TO t; ALTER TABLE t ADD b",
        "CREATE TABLE new_t (a PRIMARY KEY, b);\n" + COPIED.format("a, b") + RENAMED,
    ),
    "a search in its text": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE VIRTUAL TABLE docs USING fts5(a, content='t', content_rowid='id'); "
        "CREATE TRIGGER added AFTER INSERT ON t BEGIN INSERT INTO docs (rowid, a) VALUES (new.id, new.a); END; "
        "INSERT INTO t (a) VALUES ('one'), ('two')",
        "CREATE TABLE new_t (id INTEGER PRIMARY KEY, a);\n" + COPIED.format("id, a") + RENAMED + "\n"
        "CREATE TRIGGER added AFTER INSERT ON t BEGIN INSERT INTO docs (rowid, a) VALUES (new.id, new.a); END;\n",
    ),
    "a search that knows rows by their number": (
        "CREATE TABLE t (a PRIMARY KEY, rowid); CREATE VIRTUAL TABLE docs USING fts5(a, content=\"T\"); "
        "INSERT INTO t VALUES ('one', 1), ('two', 2), ('three', 3); INSERT INTO docs (docs) VALUES ('rebuild'); "
        "INSERT INTO docs (docs, rowid, a) VALUES ('delete', 1, 'one'); DELETE FROM t WHERE a = 'one'",
        "CREATE TABLE new_t (a PRIMARY KEY, rowid);\n" + COPIED.format("_rowid_, a, rowid") + RENAMED,
    ),
    "a trigger that knows rows by their number": (
        "CREATE TABLE t (a); CREATE TABLE log (x); "
        "CREATE TRIGGER gone AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.RowId); END; "
        "INSERT INTO t VALUES ('one'), ('two'), ('three'); DELETE FROM t WHERE a = 'one'",
        "CREATE TABLE new_t (a);\n" + COPIED.format("rowid, a") + RENAMED + "\n"
        "CREATE TRIGGER gone AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.RowId); END;\n",
    ),
    "a view that knows rows by their number": (
        "CREATE TABLE t (a); CREATE VIEW v AS SELECT oid, a FROM t; INSERT INTO t (rowid, a) VALUES (-5, 1), (7, 2)",
        "DROP VIEW v;\n\nCREATE TABLE new_t (a);\n" + COPIED.format("rowid, a") + RENAMED + "\n"
        "CREATE VIEW v AS SELECT oid, a FROM t;\n",
    ),
    "a trigger of a table without such a number": (
        "CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID; CREATE TABLE log (x); "
        "CREATE TRIGGER gone AFTER DELETE ON log BEGIN INSERT INTO t VALUES (old.rowid); END; INSERT INTO t VALUES (4)",
        "DROP TRIGGER gone;\n\nCREATE TABLE new_t (a PRIMARY KEY) WITHOUT ROWID;\n" + COPIED.format("a") + RENAMED + "\n"
        "CREATE TRIGGER gone AFTER DELETE ON log BEGIN INSERT INTO t VALUES (old.rowid); END;\n",
    ),
}  # fmt: skip
IRREVERSIBLE = "-- vmpilot: irreversible for a test\n"


@pytest.fixture(autouse=True)
def here(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(migrations.parent)


def dumped() -> list[str]:
    with closing(sqlite3.connect("app.db")) as database:
        lines = (line.replace('"t"', "t") for line in database.iterdump())
        return sorted(line for line in lines if "migration_log" not in line and "alembic" not in line)


def test_a_name_with_a_line_break_stays_inside_of_its_comment(migrations: Path) -> None:
    write(migrations, "0001_made", 'CREATE TABLE b (x); CREATE TABLE "a\nDROP TABLE b;--" (x);', IRREVERSIBLE)
    up, _ = create(migrations="migrations", rebuild="a\nDROP TABLE b;--")
    assert "\nDROP TABLE b" not in Path(up).read_text().partition("\n\n")[0]
    assert verify("migrations").migrations[-1].problems == ()


@pytest.mark.parametrize(("sql", "expected"), TABLES.values(), ids=TABLES)
def test_a_rebuild_is_right_as_it_is_written(migrations: Path, sql: str, expected: str) -> None:
    write(migrations, "0001_made", f"{sql};", IRREVERSIBLE)
    up, down = create(migrations="migrations", rebuild="t")
    assert (up, down) == ("migrations/0002_rebuild_t.up.sql", "migrations/0002_rebuild_t.down.sql")
    about, _, body = Path(up).read_text().partition("\n\n")
    assert about.startswith("-- rebuild t: why it is needed\n") and body == expected
    assert Path(down).read_text().partition("\n\n")[2] == expected
    assert verify("migrations").migrations[-1].problems == ()
    migrate("app.db", "migrations", target="1")
    before = dumped()
    for move in (migrate, downgrade):
        move("app.db", "migrations")
        assert dumped() == before
    if "AUTOINCREMENT" in sql:
        assert query(Path("app.db"), "SELECT seq FROM sqlite_sequence") == [(9,)]


def test_a_search_finds_the_rows_of_a_table_that_was_rebuilt(migrations: Path) -> None:
    write(migrations, "0001_made", TABLES["a search that knows rows by their number"][0], IRREVERSIBLE)
    create(migrations="migrations", rebuild="t")
    migrate("app.db", "migrations")
    found = "SELECT t.a FROM docs JOIN t ON t._rowid_ = docs.rowid WHERE docs MATCH '{}'"
    for word in ("two", "three"):
        assert query(Path("app.db"), found.format(word)) == [(word,)]


def test_what_was_edited_is_what_the_table_becomes(migrations: Path) -> None:
    write(migrations, "0001_made", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (NULL);", "DROP TABLE t;")
    up, _ = create("no null", "migrations", rebuild="T")
    assert up == "migrations/0002_no_null.up.sql"
    text = Path(up).read_text().replace("(a);", "(a NOT NULL);").replace("SELECT a", "SELECT ifnull(a, 0)")
    Path(up).write_text(text)
    migrate("app.db", "migrations")
    assert query(Path("app.db"), "SELECT a FROM t") == [(1,), (0,)]
    with pytest.raises(sqlite3.IntegrityError):
        query(Path("app.db"), "INSERT INTO t VALUES (NULL)")


def test_every_table_that_ships_can_be_rebuilt(migrations: Path) -> None:
    for path in (ROOT / "migrations").iterdir():
        (migrations / path.name).write_bytes(path.read_bytes())
    for table in ("chats", "exchanges"):
        create(rebuild=table, migrations="migrations")
    assert verify("migrations").ok


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("x", "migrations: these files make no table x; expected one of a, `b c`; nothing was written"),
        ("v", "migrations: v is a view, expected a table; nothing was written"),
        ("docs", "migrations: docs is a virtual table, expected a table; nothing was written"),
        ("docs_data", "migrations: these files make no table docs_data; expected one of a, `b c`; nothing was written"),
        ("alembic_version", "migrations: these files make no table alembic_version; expected one of a, `b c`; nothing was written"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_the_files_is_refused(migrations: Path, table: str, told: str) -> None:
    made = 'CREATE TABLE a (x); CREATE TABLE "b c" (y); CREATE VIEW v AS SELECT 1; CREATE VIRTUAL TABLE docs USING fts5(x);'
    write(migrations, "0001_made", made)
    with pytest.raises(HistoryError) as caught:
        create(migrations="migrations", rebuild=table)
    assert str(caught.value) == told
    assert len([*migrations.iterdir()]) == 2


@pytest.mark.parametrize(
    ("table", "stem"), [('"; x', "rebuild_x"), ("Größe", "rebuild_gr_e"), ("é", "rebuild")]
)
def test_a_rebuild_has_a_name_whatever_its_table_is_called(migrations: Path, table: str, stem: str) -> None:
    write(
        migrations,
        "0001_made",
        'CREATE TABLE """; x" (a); CREATE TABLE "Größe" (a); CREATE TABLE é (a);',
        IRREVERSIBLE,
    )
    assert create(migrations="migrations", rebuild=table)[0] == f"migrations/0002_{stem}.up.sql"
    assert verify("migrations").ok
