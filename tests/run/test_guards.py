"""Proves what must hold before a step may commit: no new dangling row, nothing that stopped compiling.

Each refusal is compared with its whole message, and the database with what it was before the step.
"""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from support import change, query, write

from vmpilot.migrate import HistoryError, MigrationError, Progress, StepError, downgrade, migrate


class Case(NamedTuple):
    """What 0001 makes, what others then do to the database, what 0002 does, and the finding, if any.

    In a finding, `...` stands for words of SQLite's own, which differ from version to version.
    """

    setup: str
    legacy: str
    step: str
    finding: str = ""


def rebuilt(table: str, columns: str, select: str = "*") -> str:
    """Return the statements that give a table other columns: create, copy, drop, rename."""
    return (
        f"CREATE TABLE new_{table} {columns};\nINSERT INTO new_{table} SELECT {select} FROM {table};\n"
        f"DROP TABLE {table};\nALTER TABLE new_{table} RENAME TO {table};\n"
    )


def contents(database: Path) -> dict[bytes, list[tuple[object, ...]]]:
    """Return the schema and all rows of a database, texts as bytes because they need not be UTF-8."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        found = {
            b"": connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        }
        for kind, name, _ in found[b""]:
            if kind == b"table":
                quoted = name.decode().replace('"', '""')
                found[name] = connection.execute(f'SELECT * FROM "{quoted}"').fetchall()
        return found


def refusal(run: Callable[[], object], expected: str) -> MigrationError:
    """Return the error of a run, whose message is `expected` but for the words of SQLite's own."""
    with pytest.raises(MigrationError) as caught:
        run()
    pattern = re.escape(expected).replace(re.escape("..."), "[^;]+")
    assert re.fullmatch(pattern, str(caught.value)), f"{caught.value}\nis not\n{expected}"
    return caught.value


def prepared(case: Case, migrations: Path, database: Path) -> None:
    """Make the database of a case, with 0002 pending."""
    write(migrations, "0001_base", case.setup)
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(case.legacy)
    write(migrations, "0002_step", case.step)


def tried(case: Case, migrations: Path, database: Path) -> None:
    """Expect that 0002 is applied, or refused with its finding and leaves nothing."""
    prepared(case, migrations, database)
    if not case.finding:
        assert [step.version for step in migrate(database, migrations)] == ["0002"]
        return
    before = contents(database)
    file = f"{migrations}/0002_step.up.sql"
    message = f"{file}: {case.finding}; rolled back, {database} is still at 0001"
    error = refusal(lambda: migrate(database, migrations), message)
    assert isinstance(error, StepError)
    assert (error.file, error.line, error.version, error.statement) == (file, 0, "0002", "")
    assert contents(database) == before


# --- foreign keys

PARENT = "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);\n"
COLUMNS = "(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id) ON DELETE CASCADE)"
CHILD = f"CREATE TABLE child {COLUMNS};\n"
BARE = f"CREATE TABLE child {COLUMNS} WITHOUT ROWID;\n"
FAMILY = (
    PARENT
    + CHILD
    + "INSERT INTO parent VALUES (1, 'a'), (2, 'b');\nINSERT INTO child VALUES (1, 1), (2, 2);\n"
)
ORPHANS = "INSERT INTO child VALUES (8, 98), (9, 99), (10, 99);"
PAIR = (
    "CREATE TABLE pair (b, a, PRIMARY KEY (a, b));\nINSERT INTO pair (a, b) VALUES (1, 1), (2, 2), (1, 5);\n"
)
TWO = "FOREIGN KEY (x, y) REFERENCES pair (a, b)"
IMPLICIT = "FOREIGN KEY (x, y) REFERENCES pair"
OTHER = "CREATE TABLE other (a);"
NOT_UNIQUE = (
    "CREATE TABLE parent (id INTEGER);\nCREATE TABLE child (parent INTEGER REFERENCES parent (id));\n"
)
MISMATCH = 'foreign key mismatch - "{}" referencing "{}"'


def orphans(*rows: str, of: str = "child", parent: str = "parent", more: int = 0) -> str:
    """Return the finding for rows that lack a parent, given as `row 1` or `a row`."""
    total = len(rows) + more
    told = ", ".join(f"{row} of {of} has no parent in {parent}" for row in rows)
    noun = "violation" if total == 1 else "violations"
    return f"{total} new foreign key {noun}: {told}" + (f" and {more} more" if more else "")


def bare(key: str, step: str) -> Case:
    """Return the case of a child without row numbers whose key of two columns is partly NULL and lacks rows."""
    child = f"CREATE TABLE child (id INTEGER PRIMARY KEY, y, x, {key}) WITHOUT ROWID;\n"
    rows = "INSERT INTO child (id, x, y) VALUES (0, 1, 5), (1, 1, 1), (2, 1, NULL), (3, NULL, 9), (4, 1, 2), (5, 2, 1);"
    return Case(PAIR + child, rows, step)


DANGLING = {
    "a parent goes": Case(FAMILY, "", "DELETE FROM parent WHERE id = 2;", orphans("row 2")),
    "five are shown": Case(
        FAMILY,
        "",
        "INSERT INTO child (parent) VALUES (9), (9), (9), (9), (9);",
        orphans("row 3", "row 4", "row 5", "row 6", "row 7"),
    ),
    "more are counted": Case(
        FAMILY,
        "",
        "INSERT INTO child (parent) VALUES (9), (9), (9), (9), (9), (9);",
        orphans("row 3", "row 4", "row 5", "row 6", "row 7", more=1),
    ),
    "without row numbers": Case(PARENT + BARE, "", "INSERT INTO child VALUES (5, 9);", orphans("a row")),
    "a column hides the row's number": Case(
        PARENT + "CREATE TABLE child (_rowid_ TEXT, parent REFERENCES parent (id));",
        "INSERT INTO child VALUES ('x', 8);",
        "INSERT INTO child VALUES ('x', 9);",
        orphans("row 2"),
    ),
    "names in quotes": Case(
        f'{PAIR}CREATE TABLE "a ""child" ("x y" REFERENCES parent, x, y, {TWO}); {PARENT}',
        'INSERT INTO "a ""child" (x, y) VALUES (1, 1);',
        'INSERT INTO "a ""child" ("x y", x, y) VALUES (5, 1, 2);',
        '2 new foreign key violations: row 2 of a "child has no parent in pair, '
        'row 2 of a "child has no parent in parent',
    ),
    "a key that the step declares": Case(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);\nCREATE TABLE child (id INTEGER PRIMARY KEY, parent);",
        "INSERT INTO child VALUES (4, 9)",
        rebuilt("child", "(id INTEGER PRIMARY KEY, parent references parent)"),
        orphans("row 4"),
    ),
    "a key that is not UTF-8": Case(
        "CREATE TABLE parent (id TEXT PRIMARY KEY);\nCREATE TABLE child (parent TEXT REFERENCES parent);",
        "INSERT INTO child VALUES (CAST(x'41ff' AS TEXT))",
        "INSERT INTO child VALUES (CAST(x'42ff' AS TEXT));",
        orphans("row 2"),
    ),
    # What dangled before
    "unrelated": Case(FAMILY, ORPHANS, "INSERT INTO parent VALUES (3, 'c');"),
    "repairs one": Case(FAMILY, ORPHANS, "INSERT INTO parent VALUES (98, 'x');"),
    "repairs all": Case(FAMILY, ORPHANS, "DELETE FROM child WHERE parent > 2;"),
    "rebuilt": Case(FAMILY, ORPHANS, rebuilt("child", COLUMNS)),
    "renumbered": Case(FAMILY, ORPHANS, rebuilt("child", COLUMNS, "id + 100, parent")),
    "retyped": Case(FAMILY, ORPHANS, rebuilt("child", COLUMNS.replace("parent INTEGER", "parent TEXT"))),
    "rebuilt without row numbers": Case(FAMILY, ORPHANS, rebuilt("child", COLUMNS + " WITHOUT ROWID")),
    "child renamed": Case(FAMILY, ORPHANS, "ALTER TABLE child RENAME TO kid;"),
    "parent renamed": Case(FAMILY, ORPHANS, "ALTER TABLE parent RENAME TO mother;"),
    "key renamed": Case(FAMILY, ORPHANS, "ALTER TABLE child RENAME COLUMN parent TO mother;"),
    # What is new all the same
    "one more with an old key": Case(
        FAMILY, ORPHANS, "INSERT INTO child VALUES (11, 99);", orphans("row 11")
    ),
    "one of two with an old key": Case(
        FAMILY,
        ORPHANS,
        "ALTER TABLE child RENAME TO kid;\nINSERT INTO kid VALUES (11, 99);",
        orphans("row 11", of="kid"),
    ),
    "old for new": Case(
        FAMILY,
        ORPHANS,
        "DELETE FROM child WHERE parent = 98;\nINSERT INTO child VALUES (30, 77);",
        orphans("row 30"),
    ),
    "old for new in its row": Case(
        FAMILY, ORPHANS, "UPDATE child SET parent = 77 WHERE parent = 98;", orphans("row 8")
    ),
    "old for new under another name": Case(
        FAMILY,
        ORPHANS,
        "ALTER TABLE child RENAME TO kid;\nUPDATE kid SET parent = 77 WHERE parent = 98;",
        orphans("row 8", of="kid"),
    ),
    "renamed, and the same key elsewhere": Case(
        FAMILY + CHILD.replace("child", "cousin"),
        ORPHANS,
        "ALTER TABLE child RENAME TO kid;\nINSERT INTO cousin VALUES (1, 99);",
        "1 new foreign key violation: ... has no parent in parent",
    ),
    "old for new without row numbers": Case(
        PARENT + BARE,
        ORPHANS,
        "DELETE FROM child WHERE parent = 98;\nINSERT INTO child VALUES (30, 77);",
        orphans("a row"),
    ),
    "old for new in the second key": Case(
        f"{PARENT}{PAIR}CREATE TABLE child (a REFERENCES parent, x, y, {TWO});",
        "INSERT INTO child VALUES (5, 1, 2);",
        "UPDATE child SET y = 3;",
        orphans("row 1", parent="pair"),
    ),
    "old for new in the first key": Case(
        f"{PARENT}{PAIR}CREATE TABLE child (a REFERENCES parent, x, y, {TWO});",
        "INSERT INTO child VALUES (5, 1, 2);",
        "UPDATE child SET a = 6;",
        orphans("row 1"),
    ),
    # Keys of two columns without row numbers, with rows that are partly NULL
    **{
        f"{kind}: {name}": bare(key, step)._replace(finding=finding)
        for kind, key in (("named", TWO), ("implicit", IMPLICIT))
        for name, step, finding in (
            ("unrelated", "INSERT INTO child (id, x, y) VALUES (-1, 2, 2), (7, NULL, 7);", ""),
            ("repaired", "INSERT INTO pair (a, b) VALUES (1, 2);", ""),
            ("rebuilt", rebuilt("child", f"(id, y, x, {key})"), ""),
            ("one more", "INSERT INTO child (id, x, y) VALUES (6, 1, 2);", orphans("a row", parent="pair")),
            ("old for new", "UPDATE child SET y = 3 WHERE id = 4;", orphans("a row", parent="pair")),
            ("old for new behind", "UPDATE child SET x = 3 WHERE id = 5;", orphans("a row", parent="pair")),
        )
    },
    # Parents that cannot be looked up
    "not unique": Case(
        OTHER, "", NOT_UNIQUE, "1 new foreign key violation: " + MISMATCH.format("child", "parent")
    ),
    "was not unique": Case(OTHER, NOT_UNIQUE, "INSERT INTO child VALUES (1);"),
    "was not unique, and another row elsewhere": Case(
        OTHER,
        NOT_UNIQUE.replace("parent", "p2").replace("child", "c2") + FAMILY,
        "DELETE FROM parent;",
        orphans("row 1", "row 2"),
    ),
    "unique now, which brings old rows to light": Case(
        OTHER, NOT_UNIQUE + "INSERT INTO child VALUES (1);", "CREATE UNIQUE INDEX parent_id ON parent (id);"
    ),
    "a second mismatch": Case(
        OTHER,
        NOT_UNIQUE,
        "ALTER TABLE child ADD COLUMN b REFERENCES other (a);",
        "1 new foreign key violation: " + MISMATCH.format("child", "other"),
    ),
}


@pytest.mark.parametrize("name", DANGLING)
def test_a_step_answers_for_the_rows_that_it_leaves_without_a_parent(
    name: str, migrations: Path, database: Path
) -> None:
    tried(DANGLING[name], migrations, database)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"])
@pytest.mark.parametrize("owner", ["path", "connection"])
def test_no_child_is_lost_or_changed_when_its_parent_is_rebuilt(
    migrations: Path, database: Path, owner: str, action: str
) -> None:
    write(migrations, "0001_base", FAMILY.replace("CASCADE", action))
    write(migrations, "0002_step", rebuilt("parent", "(id INTEGER PRIMARY KEY, name TEXT NOT NULL)"))
    if owner == "path":
        migrate(database, migrations)
    else:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, migrations)
            assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute("INSERT INTO child VALUES (3, 99)")
    assert query(database, "SELECT * FROM child ORDER BY id") == [(1, 1), (2, 2)]
    assert query(database, "SELECT count(*) FROM parent") == [(2,)]


def test_a_downgrade_is_guarded_too(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_step", "", "DELETE FROM parent WHERE id = 1;")
    migrate(database, migrations)
    with pytest.raises(StepError) as caught:
        downgrade(database, migrations, backup=False)
    assert str(caught.value) == (
        f"{migrations}/0002_step.down.sql: 1 new foreign key violation: row 1 of child has no parent "
        "in parent; "
        f"rolled back, {database} is still at 0002"
    )


def test_each_step_answers_for_its_own_rows(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_good", "INSERT INTO child VALUES (3, 1);")
    write(migrations, "0003_bad", "INSERT INTO child VALUES (4, 99);")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0003_bad.up.sql: 1 new foreign key violation: row 4 of child has no parent in parent; "
        f"rolled back, {database} is still at 0002"
    )
    assert query(database, "SELECT count(*) FROM child") == [(3,)]


def test_what_another_connection_leaves_between_two_steps_is_not_held_against_the_next(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_next", "INSERT INTO child VALUES (5, 1);")

    def disturb(progress: Progress) -> None:
        if progress.done and progress.step.version == "0001":
            change(database, "INSERT INTO child VALUES (4, 99)", "CREATE VIEW v AS SELECT * FROM nowhere")

    assert len(migrate(database, migrations, progress=disturb)) == 2
    assert query(database, "SELECT count(*) FROM child") == [(4,)]


@pytest.mark.parametrize("ddl", [str.upper, str.lower], ids=["upper case", "lower case"])
def test_foreign_keys_are_seen_whatever_like_means_to_the_caller(
    migrations: Path, database: Path, ddl: Callable[[str], str]
) -> None:
    write(migrations, "0001_base", ddl(PARENT + CHILD))
    migrate(database, migrations)
    write(migrations, "0002_step", "INSERT INTO child VALUES (1, 99);")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA case_sensitive_like = ON")
        with pytest.raises(StepError) as caught:
            migrate(connection, migrations)
    table = ddl("child")
    assert str(caught.value) == (
        f"{migrations}/0002_step.up.sql: 1 new foreign key violation: row 1 of {table} has no parent in "
        f"{ddl('parent')}; rolled back, {database} is still at 0001"
    )


# --- views and triggers

SHOP = """
CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT, price INTEGER);
CREATE TABLE sold (id INTEGER PRIMARY KEY, good INTEGER, at TEXT);
CREATE TABLE audit (what TEXT);
CREATE UNIQUE INDEX goods_name ON goods (name);
CREATE VIEW offer AS SELECT name, price FROM goods;
"""
AUDITED = "BEGIN INSERT INTO audit VALUES ('x'); END;"
LOST = (
    "CREATE VIEW lost AS SELECT x FROM nowhere;"
    "CREATE TRIGGER lost_too AFTER INSERT ON sold BEGIN INSERT INTO nowhere VALUES (1); END;"
    "CREATE TRIGGER fine AFTER DELETE ON sold BEGIN INSERT INTO goods (name) VALUES ('x'); END;"
)
LEGACY = "PRAGMA legacy_alter_table = ON;\n"


def stops(*names: str, words: str = "... audit") -> str:
    """Return the finding for views and triggers that compile no more, by their names."""
    return "; ".join(f"{name} does not compile any more: {words.replace(' ', '')}" for name in names)


def noted(event: str, body: str = AUDITED) -> str:
    return f"CREATE TRIGGER note {event} {body}"


COMPILED = {
    "table": Case(SHOP, "", "DROP TABLE goods;", stops("offer", words="...goods")),
    "view": Case(
        SHOP + "CREATE VIEW cheap AS SELECT * FROM offer;",
        *("", "DROP VIEW offer;", stops("cheap", words="...offer")),
    ),
    "column": Case(
        SHOP, "", LEGACY + "ALTER TABLE goods DROP COLUMN price;", stops("offer", words="...price")
    ),
    "rename": Case(
        SHOP, "", LEGACY + "ALTER TABLE goods RENAME TO things;", stops("offer", words="...goods")
    ),
    "index": Case(
        SHOP + "CREATE VIEW named AS SELECT name FROM goods INDEXED BY goods_name WHERE name = 'x';",
        *("", "DROP INDEX goods_name;", stops("named", words="...goods_name")),
    ),
    "trigger's index": Case(
        SHOP
        + noted(
            "AFTER INSERT ON sold",
            "BEGIN INSERT INTO goods (name) VALUES ('x') ON CONFLICT (name) DO NOTHING; END;",
        ),
        *("", "DROP INDEX goods_name;", stops("note", words="...CONFLICT...")),
    ),
    **{
        f"trigger {event}": Case(SHOP + noted(event), "", "DROP TABLE audit;", stops("note"))
        for event in (
            "AFTER INSERT ON sold",
            "AFTER UPDATE OF at ON sold",
            "BEFORE DELETE ON sold",
            "INSTEAD OF INSERT ON offer",
            "INSTEAD OF UPDATE OF price ON offer WHEN new.price > 1",
            "INSTEAD OF DELETE ON offer",
        )
    },
    "trigger on a table with a generated column": Case(
        SHOP + "ALTER TABLE sold ADD COLUMN twice AS (id * 2);" + noted("AFTER UPDATE ON sold"),
        *("", "DROP TABLE audit;", stops("note")),
    ),
    "trigger behind a TEMP table": Case(
        SHOP + noted("BEFORE DELETE ON sold"),
        "",
        "CREATE TEMP TABLE sold AS SELECT * FROM sold;\nDROP TABLE audit;",
        stops("note"),
    ),
    "view behind a TEMP table": Case(
        SHOP,
        "",
        "CREATE TEMP TABLE offer AS SELECT * FROM offer;\nDROP TABLE goods;",
        stops("offer", words="...goods"),
    ),
    "names in quotes": Case(
        SHOP + 'CREATE VIEW "an ""offer" AS SELECT * FROM audit;'
        'CREATE TABLE "a ""b" (a); CREATE TRIGGER "a ""trigger" AFTER INSERT ON "a ""b" ' + AUDITED,
        *("", "DROP TABLE audit;", stops('an "offer', 'a "trigger')),
    ),
    "all that breaks": Case(
        SHOP + "CREATE VIEW dear AS SELECT * FROM goods WHERE price > 9;"
        "CREATE TRIGGER gone AFTER DELETE ON sold BEGIN DELETE FROM goods WHERE id = old.good; END;",
        *("", "DROP TABLE goods;", stops("dear", "offer", "gone", words="...goods")),
    ),
    "one of several triggers": Case(
        SHOP + "CREATE TABLE notes (a);"
        "CREATE TRIGGER first AFTER INSERT ON sold BEGIN INSERT INTO notes VALUES ('x'); END;"
        f"CREATE TRIGGER second AFTER INSERT ON sold {AUDITED}"
        "CREATE TRIGGER third BEFORE UPDATE ON sold BEGIN INSERT INTO notes VALUES ('x'); END;"
        "CREATE TRIGGER fourth AFTER DELETE ON sold BEGIN INSERT INTO notes VALUES ('x'); END;",
        *("", "DROP TABLE audit;", stops("second")),
    ),
    "two of several triggers": Case(
        SHOP + "CREATE TRIGGER first AFTER INSERT ON sold BEGIN DELETE FROM audit; END;"
        "CREATE TRIGGER second AFTER INSERT ON sold BEGIN DELETE FROM audit; END;"
        "CREATE TRIGGER third AFTER INSERT ON sold BEGIN DELETE FROM goods; END;",
        *("", "DROP TABLE audit;", stops("first", "second")),
    ),
    "a trigger with the name of a broken view": Case(
        f"{SHOP}CREATE VIEW note AS SELECT * FROM nowhere;{noted('AFTER INSERT ON sold')}",
        *("", "DROP TABLE audit;", stops("note")),
    ),
    "dropped and created again": Case(
        SHOP,
        "",
        "DROP VIEW offer;\n"
        + rebuilt("goods", "(id INTEGER PRIMARY KEY, title TEXT, price INTEGER)")
        + "CREATE VIEW offer AS SELECT title FROM goods;",
    ),
    "dropped and created broken": Case(
        SHOP,
        "",
        "DROP VIEW offer;\nDROP TABLE goods;\nCREATE VIEW offer AS SELECT name FROM goods;",
        stops("offer", words="...goods"),
    ),
    # What was broken before
    "unrelated": Case(SHOP, LOST, "CREATE TABLE another (a);"),
    "drops its table": Case(SHOP, LOST, "DROP TABLE audit;"),
    "mends one": Case(SHOP, LOST, "CREATE TABLE nowhere (x);"),
    "adds a trigger": Case(SHOP, LOST, "CREATE TRIGGER more AFTER INSERT ON goods BEGIN SELECT 1; END;"),
    "adds a view": Case(SHOP, LOST, "CREATE VIEW another AS SELECT 1;"),
    "drops it": Case(SHOP, LOST, "DROP VIEW lost;"),
    "breaks another": Case(SHOP, LOST, "DROP TABLE goods;", stops("offer", "fine", words="...goods")),
}


@pytest.mark.parametrize("name", COMPILED)
def test_a_step_answers_for_the_views_and_triggers_that_it_breaks(
    name: str, migrations: Path, database: Path
) -> None:
    tried(COMPILED[name], migrations, database)


def test_what_one_step_mends_or_makes_the_next_may_not_break(migrations: Path, database: Path) -> None:
    write(migrations, "0001_nowhere", "CREATE TABLE nowhere (a);")
    migrate(database, migrations)
    change(database, "CREATE VIEW v AS SELECT * FROM t")
    write(migrations, "0002_table", "CREATE TABLE t (a); CREATE VIEW w AS SELECT * FROM t;")
    write(migrations, "0003_drop", "DROP TABLE t;")
    finding = stops("v", "w", words="...t")
    message = f"{migrations}/0003_drop.up.sql: {finding}; rolled back, {database} is still at 0002"
    refusal(lambda: migrate(database, migrations), message)


def test_what_a_temporary_table_of_the_caller_hides_is_guarded_too(migrations: Path, database: Path) -> None:
    prepared(Case(SHOP + noted("AFTER DELETE ON sold"), "", "DROP TABLE audit;"), migrations, database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TEMP TABLE sold (a)")
        message = f"{migrations}/0002_step.up.sql: {stops('note')}; rolled back, {database} is still at 0001"
        refusal(lambda: migrate(connection, migrations), message)


def test_the_look_at_triggers_changes_nothing(migrations: Path, database: Path) -> None:
    triggers = "".join(
        f"CREATE TRIGGER t{number} AFTER INSERT ON sold BEGIN INSERT INTO {table} VALUES ('x'); END;"
        for number, table in enumerate(["audit", "nowhere", "audit"])
    )
    goods = "INSERT INTO goods (name) VALUES ('x');"
    tried(Case(SHOP + goods, triggers, "CREATE TABLE more (a);"), migrations, database)
    schema = query(database, "SELECT type, name FROM sqlite_master WHERE name NOT LIKE '%_autoindex_%'")
    assert {name for kind, name in schema if kind == "trigger"} == {"t0", "t1", "t2"}
    assert query(database, "SELECT name FROM goods") == [("x",)]
    assert query(database, "SELECT * FROM sold UNION SELECT *, 1, 1 FROM audit") == []


# --- tables that cannot be read

SLUG = "TEXT AS (slugify(at))"
UNREADABLE = {
    **{
        name: Case(
            SHOP,
            "",
            f"ALTER TABLE {name} ADD COLUMN slug {column};",
            "table sold cannot be read any more: ...slugify...",
        )
        for name in ("sold", "main . sold", '"sold"', "[sold] ", "/* sold */ `sold`", "'sold'")
        for column in (SLUG, "TEXT GENERATED ALWAYS AS (slugify(at)) VIRTUAL")
    },
    "no blank before the name": Case(
        SHOP,
        "",
        f'alter table"sold"add column slug {SLUG};',
        "table sold cannot be read any more: ...slugify...",
    ),
    "under another name": Case(
        SHOP,
        "",
        f"{LEGACY}ALTER TABLE sold ADD COLUMN slug {SLUG};\nALTER TABLE sold RENAME TO bought;",
        "table bought cannot be read any more: ...slugify...",
    ),
    "it was so before": Case(
        SHOP, f"ALTER TABLE sold ADD COLUMN slug {SLUG};", "ALTER TABLE sold ADD COLUMN one AS (1);"
    ),
    "it is gone again": Case(SHOP, "", "CREATE TABLE new AS SELECT * FROM sold;\nDROP TABLE new;"),
    "a readable one": Case(SHOP, "", "ALTER TABLE sold ADD COLUMN twice AS (id * 2);"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_step_answers_for_the_tables_that_it_makes_unreadable(
    name: str, migrations: Path, database: Path
) -> None:
    tried(UNREADABLE[name], migrations, database)


def test_a_generated_column_with_the_callers_function_passes(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", "CREATE TABLE t (a TEXT, b TEXT AS (slugify(a)));")
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("slugify", 1, str.lower, deterministic=True)
        assert len(migrate(connection, migrations)) == 1


# --- the transaction


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("INSERT OR ROLLBACK INTO t VALUES (1)", "UNIQUE constraint failed: t.a"),
        ("INSERT INTO guarded VALUES (1)", "not here"),
    ],
)
def test_a_statement_that_ends_the_transaction_is_reported_with_its_own_reason(
    statement: str, reason: str, migrations: Path, database: Path
) -> None:
    setup = (
        "CREATE TABLE t (a UNIQUE);\nINSERT INTO t VALUES (1);\nCREATE TABLE guarded (a);\n"
        "CREATE TRIGGER no BEFORE INSERT ON guarded BEGIN SELECT RAISE(ROLLBACK, 'not here'); END;"
    )
    step = f"CREATE TABLE lost (a);\n{statement};\nCREATE TABLE later (a);"
    prepared(Case(setup, "", step), migrations, database)
    before = contents(database)
    message = f"{migrations}/0002_step.up.sql:2: {reason}; rolled back, {database} is still at 0001"
    error = refusal(lambda: migrate(database, migrations), message)
    assert isinstance(error, StepError)
    assert (error.line, error.statement) == (2, statement)
    assert contents(database) == before


def test_a_function_that_ends_the_transaction_is_found_out(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", "CREATE TABLE lost (a);\nSELECT undo();\nCREATE TABLE later (a);")
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("undo", 0, connection.rollback)
        with pytest.raises(StepError) as caught:
            migrate(connection, migrations)
        assert not connection.in_transaction
    assert str(caught.value) == (
        f"{migrations}/0001_base.up.sql:2: this statement ended the transaction that it ran in; "
        f"rolled back, {database} is still at base"
    )
    assert query(database, "SELECT name FROM sqlite_master") == []


# --- the version


def test_a_step_that_drops_the_version_table_is_refused(migrations: Path, database: Path) -> None:
    write(migrations, "0001_first", "DROP TABLE alembic_version;")
    with pytest.raises(HistoryError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0001_first.up.sql:1: leave this line out: the runner keeps alembic_version itself; "
        f"{database} was not touched"
    )
    assert query(database, "SELECT name FROM sqlite_master") == []


# --- what the guards cost


def executed(database: Path, migrations: Path) -> list[str]:
    """Migrate a caller's connection and return every statement; a trace callback is not told of EXPLAIN."""
    seen: list[str] = []

    class Recorder(sqlite3.Cursor):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            seen.append(sql)
            return super().execute(sql, *parameters)

    class Connection(sqlite3.Connection):
        def cursor(self) -> sqlite3.Cursor:
            return super().cursor(Recorder)

    with closing(sqlite3.connect(database, factory=Connection)) as connection:
        assert migrate(connection, migrations)
    return seen


def count(statements: list[str], start: str) -> int:
    return sum(statement.startswith(start) for statement in statements)


def test_a_thousand_tables_without_views_and_keys_cost_no_guard(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", "".join(f"CREATE TABLE t{number} (a);\n" for number in range(1000)))
    migrate(database, migrations)
    for number in range(2, 7):
        write(migrations, f"000{number}_more", f"CREATE TABLE more{number} (a);\nDROP TABLE t{number};")
    seen = executed(database, migrations)
    assert count(seen, "EXPLAIN") == 0
    assert count(seen, "PRAGMA foreign_key_check") == 0
    assert 0 < len(seen) < 5 * 40


def test_foreign_keys_cost_at_most_one_check_before_the_run_and_one_a_step(
    migrations: Path, database: Path
) -> None:
    prepared(Case(FAMILY, ORPHANS, "INSERT INTO child VALUES (3, 1);"), migrations, database)
    write(migrations, "0003_more", "INSERT INTO child VALUES (4, 1);")
    write(migrations, "0004_more", "INSERT INTO child VALUES (5, 1);")
    assert count(executed(database, migrations), "PRAGMA foreign_key_check") <= 1 + 3


def test_views_are_compiled_only_where_a_step_could_break_them(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", SHOP + "CREATE VIEW other AS SELECT 1;")
    migrate(database, migrations)
    write(migrations, "0002_rows", "INSERT INTO goods (name) VALUES ('a');")
    write(migrations, "0003_rows", "UPDATE goods SET price = 1;")
    assert count(executed(database, migrations), "EXPLAIN") <= 2  # each view, once before the run
    write(migrations, "0004_table", "CREATE TABLE more (a);")
    assert count(executed(database, migrations), "EXPLAIN") <= 4
