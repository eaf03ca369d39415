"""Proves what must hold before a step may commit: no new dangling row, nothing that stopped compiling.

Each refusal is compared with its whole message, and the database with what it was before the step.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from support import APART, change, numbers, query, write

from vmpilot.migrate import HistoryError, MigrationError, Progress, StepError, downgrade, migrate
from vmpilot.migrate.database.opening import scratch
from vmpilot.migrate.files.script import parse
from vmpilot.migrate.run import catalog
from vmpilot.migrate.run.effects import NO_KEYS, keys_after, keys_known, keys_now
from vmpilot.migrate.run.play import play


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


ACTIONS = "; ON DELETE and ON UPDATE actions do not run during a step"
KEYS_ON = f'{ACTIONS}; to have them run, begin the file with "-- vmpilot: foreign-keys-on REASON"'
UNGUARDED = '; to leave that to a later file, begin the file with "-- vmpilot: unguarded REASON"'


def advice(case: Case) -> str:
    """Return the end of the message: the directive that fits the finding of a case."""
    if "has no parent in" not in case.finding:
        return "" if "cannot be read" in case.finding else UNGUARDED
    rebuilds = "DROP TABLE" in case.step or " RENAME TO " in case.step
    parents = "|".join(map(re.escape, set(re.findall("has no parent in ([a-z]+)", case.finding))))
    lost = (
        rf"(DELETE FROM|UPDATE|REPLACE INTO|DROP TABLE|RENAME TO) ({parents})\b|TABLE ({parents}) RENAME TO"
        r"|REPLACE INTO log\b|DO UPDATE SET id"  # which a trigger does to rows of the parent, or an upsert
    )
    if not re.search(lost, case.step):
        return UNGUARDED
    return KEYS_ON if "CASCADE" in case.setup + case.legacy and not rebuilds else ACTIONS + UNGUARDED


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
    message = f"{file}: {case.finding}; rolled back, {database} is still at 0001{advice(case)}"
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
    "the number of the other row, in a column that hides it": Case(
        PARENT + "CREATE TABLE child (_rowid_ INTEGER, parent REFERENCES parent (id));",
        "INSERT INTO child VALUES (7, 8);",
        "DELETE FROM child;\nINSERT INTO child VALUES (7, 9);",
        orphans("row 1"),
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
    "a parent under another name, and an empty one in its place": Case(
        FAMILY,
        "",
        "PRAGMA legacy_alter_table = ON;\nALTER TABLE parent RENAME TO past;\n" + PARENT,
        orphans("row 1", "row 2"),
    ),
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
    # What is replaced, where and how that is said
    **{
        f"{step.split(' INTO')[0]} in front, {body.split(' ')[0]} behind": Case(
            FAMILY + f"CREATE TABLE log (a);\nCREATE TRIGGER t AFTER INSERT ON log BEGIN {body}; END;\n"
            "CREATE UNIQUE INDEX named ON parent (name);",
            *("", step, orphans("row 2")),
        )
        for step in ("INSERT OR REPLACE INTO log VALUES (9);", "REPLACE INTO log VALUES (9);")
        for body in (
            "INSERT INTO parent SELECT new.a, name FROM parent WHERE id = 2",
            "UPDATE parent SET name = (SELECT name FROM parent WHERE id = 2) WHERE id = 1",
        )
    },
    "a row that is replaced in a table before that has another name": Case(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, code UNIQUE);\n"
        "INSERT INTO parent VALUES (1, 'a');\nCREATE TABLE child (a REFERENCES parent (code));\n"
        "INSERT INTO child VALUES ('a');",
        *("", "INSERT INTO parent VALUES (1, 'b');\nALTER TABLE parent RENAME TO elder;"),
        orphans("row 1", parent="elder"),
    ),
    "a REPLACE that updates the row in its way, and fires that": Case(
        FAMILY + "CREATE TABLE log (a INTEGER PRIMARY KEY);\nINSERT INTO log VALUES (1);\n"
        "CREATE TRIGGER t AFTER UPDATE ON log BEGIN DELETE FROM parent WHERE id = 2; END;",
        *("", "REPLACE INTO log VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 3;", orphans("row 2")),
    ),
    "an upsert behind a plain row": Case(
        FAMILY,
        "",
        "INSERT INTO parent (id, name) VALUES (3, 'x');\n"
        "INSERT INTO parent (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET id = 7;",
        orphans("row 1"),
    ),
    "a list of columns that FROM does not end": Case(
        FAMILY,
        "",
        "UPDATE parent SET name = name IS DISTINCT FROM 'x', id = id + 7;",
        orphans("row 1", "row 2"),
    ),
    "a column that is set under its old name": Case(
        FAMILY,
        *("", "UPDATE child SET parent = 9 WHERE id = 1;\nALTER TABLE child RENAME COLUMN parent TO elder;"),
        orphans("row 1"),
    ),
    "a trigger of a table that has another name": Case(
        FAMILY + "CREATE TABLE log (a);\nCREATE TABLE told (a);\n"
        "CREATE TRIGGER t AFTER INSERT ON log BEGIN INSERT INTO told VALUES (1); END;",
        "",
        "ALTER TABLE told RENAME TO said;\n"
        "CREATE TRIGGER u AFTER INSERT ON said BEGIN UPDATE child SET parent = 9 WHERE id = 1; END;\n"
        "INSERT INTO log VALUES (1);\nDROP TRIGGER u;",
        orphans("row 1"),
    ),
    **{
        f"a trigger that says the old name of a table, {when} it has another": Case(
            FAMILY + "CREATE TABLE log (a);\nCREATE TRIGGER t AFTER INSERT ON log BEGIN "
            "UPDATE child SET parent = 9 WHERE id = 1; END;",
            *("", "\n".join(steps), orphans("row 1", of="kid")),
        )
        for when, steps in (
            ("before", ("INSERT INTO log VALUES (1);", "ALTER TABLE child RENAME TO kid;")),
            ("after", ("ALTER TABLE child RENAME TO kid;", "INSERT INTO log VALUES (1);")),
        )
    },
    "a table expression called replace": Case(
        FAMILY,
        *("", "WITH replace AS (SELECT 2 AS a) DELETE FROM parent WHERE id IN (SELECT a FROM replace);"),
        orphans("row 2"),
    ),
    "a bracket in a comment": Case(
        FAMILY + OTHER,
        "",
        "INSERT /* (a) */ INTO other VALUES (1);\nINSERT /* (a) */ INTO child (parent) VALUES (9);",
        orphans("row 3"),
    ),
    "the table in which a virtual one keeps its rows": Case(
        "CREATE VIRTUAL TABLE docs USING fts5(x);\nINSERT INTO docs VALUES ('a');\n"
        "CREATE TABLE child (a REFERENCES docs_content (id));\nINSERT INTO child VALUES (1);",
        *("", "DELETE FROM docs;", orphans("row 1", parent="docs_content")),
    ),
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
    "two columns for one": Case(
        "CREATE TABLE parent (id UNIQUE);",
        *("", "CREATE TABLE child (a, b, FOREIGN KEY (a, b) REFERENCES parent (id, id));"),
        "1 new foreign key violation: " + MISMATCH.format("child", "parent"),
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


def test_the_actions_of_another_key_of_the_table_are_no_advice(migrations: Path, database: Path) -> None:
    child = "CREATE TABLE child (a REFERENCES parent (id) ON DELETE CASCADE, b REFERENCES parent (id));"
    rows = "INSERT INTO parent VALUES (9, 'i');\nINSERT INTO child (b) VALUES (9);"
    prepared(Case(PARENT + child + rows, "", "DELETE FROM parent;"), migrations, database)
    message = f"{migrations}/0002_step.up.sql: {orphans('row 1')}; rolled back, {database} is still at 0001"
    refusal(lambda: migrate(database, migrations), f"{message}{ACTIONS}{UNGUARDED}")


def test_a_downgrade_is_guarded_too(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_step", "", "DELETE FROM parent WHERE id = 1;")
    migrate(database, migrations)
    with pytest.raises(StepError) as caught:
        downgrade(database, migrations, backup=False)
    assert str(caught.value) == (
        f"{migrations}/0002_step.down.sql: 1 new foreign key violation: row 1 of child has no parent "
        "in parent; "
        f"rolled back, {database} is still at 0002{KEYS_ON}"
    )


def test_each_step_answers_for_its_own_rows(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_good", "INSERT INTO child VALUES (3, 1);")
    write(migrations, "0003_bad", "INSERT INTO child VALUES (4, 99);")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0003_bad.up.sql: 1 new foreign key violation: row 4 of child has no parent in parent; "
        f"rolled back, {database} is still at 0002{UNGUARDED}"
    )
    assert query(database, "SELECT count(*) FROM child") == [(3,)]


def test_what_another_connection_leaves_between_two_steps_is_not_held_against_the_next(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_next", f"{APART}INSERT INTO child VALUES (5, 1);")

    def disturb(progress: Progress) -> None:
        if progress.done and progress.step.version == "0001":
            change(database, "INSERT INTO child VALUES (4, 99)", "CREATE VIEW v AS SELECT * FROM nowhere")

    assert len(migrate(database, migrations, progress=disturb)) == 2
    assert query(database, "SELECT count(*) FROM child") == [(4,)]


def test_a_child_that_another_connection_makes_between_two_steps_is_guarded(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_next", f"{APART}DELETE FROM parent WHERE id = 2;")

    def disturb(progress: Progress) -> None:
        if progress.done and progress.step.version == "0001":
            change(database, "CREATE TABLE late (p REFERENCES parent)", "INSERT INTO late VALUES (2)")

    message = (
        f"{migrations}/0002_next.up.sql: 2 new foreign key violations: row 2 of child has no parent in parent, "
        f"row 1 of late has no parent in parent; rolled back, {database} is still at 0001{KEYS_ON}"
    )
    refusal(lambda: migrate(database, migrations, progress=disturb), message)


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
        f"{ddl('parent')}; rolled back, {database} is still at 0001{UNGUARDED}"
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
    "table whose name is a keyword": Case(
        SHOP + 'CREATE TABLE "Order" (a);\nCREATE VIEW taken AS SELECT a FROM "order";',
        *("", 'DROP TABLE "order";', stops("taken", words="...order")),
    ),
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
        SHOP + noted("AFTER INSERT ON sold"),
        *("CREATE VIEW note AS SELECT * FROM nowhere;", "DROP TABLE audit;", stops("note")),
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
    "a string that is a table": Case(
        SHOP + "CREATE VIEW both AS SELECT 1 FROM audit, 'sold', ('goods');",
        *("", LEGACY + "DROP TABLE sold;", stops("both", words="...sold")),
    ),
    "the table in which a virtual one keeps its rows": Case(
        SHOP + "CREATE VIRTUAL TABLE docs USING fts5(x);\nCREATE VIEW seen AS SELECT * FROM docs_content;",
        *("", "DROP TABLE docs;", stops("seen", words="...docs_content")),
    ),
    "a trigger that goes with its table, and is made anew for another": Case(
        SHOP + "CREATE TRIGGER tr AFTER INSERT ON audit BEGIN SELECT 1; END;",
        "",
        "DROP TABLE audit;\nCREATE TRIGGER tr AFTER INSERT ON sold BEGIN DELETE FROM audit; END;",
        stops("tr"),
    ),
    "the trigger that lets a trigger write to a view": Case(
        SHOP + "CREATE TRIGGER into_view INSTEAD OF DELETE ON offer BEGIN SELECT 1; END;\n"
        "CREATE TRIGGER via AFTER INSERT ON sold BEGIN DELETE FROM offer; END;",
        *("", "DROP TRIGGER into_view;", stops("via", words="...offer...")),
    ),
    "a view in place of the table to which a trigger writes": Case(
        SHOP + noted("AFTER INSERT ON goods"),
        *("", "DROP TABLE audit;\nCREATE VIEW audit AS SELECT 1 AS x;", stops("note", words="...audit...")),
    ),
    # What was broken before
    "one trigger of a view that another one fires": Case(
        SHOP + "CREATE TABLE notes (a);"
        "CREATE TRIGGER first INSTEAD OF INSERT ON offer BEGIN DELETE FROM offer; DELETE FROM audit; END;"
        "CREATE TRIGGER second INSTEAD OF DELETE ON offer BEGIN SELECT 1; END;"
        "CREATE TRIGGER third INSTEAD OF UPDATE ON offer BEGIN INSERT INTO notes VALUES (1); END;",
        *("DROP TABLE notes;", "DROP TABLE audit;", stops("first")),
    ),
    "a trigger on a view": Case(
        SHOP,
        "CREATE VIEW lost AS SELECT x FROM goods; CREATE TRIGGER t INSTEAD OF UPDATE ON lost BEGIN SELECT 1; END;",
        "ALTER TABLE goods ADD COLUMN more;",
    ),
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
    message = f"{migrations}/0003_drop.up.sql: {finding}; rolled back, {database} is still at 0002{UNGUARDED}"
    refusal(lambda: migrate(database, migrations), message)


def test_what_an_index_mends_the_next_step_may_not_break(migrations: Path, database: Path) -> None:
    write(migrations, "0001_goods", "CREATE TABLE goods (name); CREATE TABLE sold (a);")
    upsert = "BEGIN INSERT INTO goods VALUES ('x') ON CONFLICT (name) DO NOTHING; END"
    write(migrations, "0002_trigger", f"{LEAVES}CREATE TRIGGER g AFTER INSERT ON sold {upsert};")
    write(migrations, "0003_index", "CREATE UNIQUE INDEX goods_name ON goods (name);")
    write(migrations, "0004_drop", "DROP INDEX goods_name;")
    finding = stops("g", words="...constraint")
    message = f"{migrations}/0004_drop.up.sql: {finding}; rolled back, {database} is still at 0003{UNGUARDED}"
    refusal(lambda: migrate(database, migrations), message)


def test_what_an_unguarded_file_breaks_is_known_of_all_that_fires_it(
    migrations: Path, database: Path
) -> None:
    views = "CREATE VIEW v AS SELECT 1 AS x;\nCREATE VIEW w AS SELECT 1 AS x;\n"
    chain = (
        "CREATE TRIGGER a AFTER INSERT ON sold BEGIN INSERT INTO v VALUES (1); END;\n"
        "CREATE TRIGGER b INSTEAD OF INSERT ON v BEGIN INSERT INTO w VALUES (1); END;\n"
        "CREATE TRIGGER c INSTEAD OF INSERT ON w BEGIN DELETE FROM audit; END;\n"
    )
    write(migrations, "0001_base", SHOP + views + chain)
    write(migrations, "0002_leaves", f"{LEAVES}DROP TABLE audit;")
    write(migrations, "0003_touch", "ALTER TABLE sold ADD COLUMN b;")
    assert len(migrate(database, migrations)) == 3


def test_what_one_step_makes_reaches_the_runners_tables_in_the_next(migrations: Path, database: Path) -> None:
    write(migrations, "0001_table", "CREATE TABLE t (a);")
    trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM migration_log; END"
    by_hand = f"INSERT INTO sqlite_schema VALUES ('trigger', 'g', 't', 0, '{trigger}');"
    write(migrations, "0002_trigger", f"PRAGMA writable_schema = ON;\n{by_hand}")
    write(migrations, "0003_row", "INSERT INTO t VALUES (1);")
    message = (
        f"{migrations}/0003_row.up.sql: changes migration_log, which only the runner may change; "
        f"rolled back, {database} is still at 0002"
    )
    refusal(lambda: migrate(database, migrations), message)


@pytest.mark.parametrize(
    ("hiding", "step", "finding"),
    [
        ("CREATE TEMP TABLE sold (a)", "DROP TABLE audit;", stops("note")),
        ("CREATE TEMP TABLE offer (a)", "DROP TABLE goods;", stops("offer", words="...goods")),
    ],
)
def test_what_a_temporary_table_of_the_caller_hides_is_guarded_too(
    hiding: str, step: str, finding: str, migrations: Path, database: Path
) -> None:
    prepared(Case(SHOP + noted("AFTER DELETE ON sold"), "", step), migrations, database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(hiding)
        message = (
            f"{migrations}/0002_step.up.sql: {finding}; rolled back, {database} is still at 0001{UNGUARDED}"
        )
        refusal(lambda: migrate(connection, migrations), message)


def test_what_a_temporary_trigger_of_the_caller_lacks_is_the_callers_affair(
    migrations: Path, database: Path
) -> None:
    step = f"DROP TABLE audit;\n{noted('AFTER INSERT ON sold', 'BEGIN SELECT 1; END;')}"
    prepared(Case(SHOP, "", step), migrations, database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"CREATE TEMP TRIGGER told AFTER INSERT ON main.sold {AUDITED}")
        assert len(migrate(connection, migrations)) == 1
        assert connection.execute("SELECT name FROM sqlite_temp_master").fetchall() == [("told",)]


def test_the_look_at_triggers_changes_nothing(migrations: Path, database: Path) -> None:
    triggers = "".join(
        f"CREATE TRIGGER t{number} AFTER INSERT ON sold BEGIN INSERT INTO {table} VALUES ('x'); END;"
        for number, table in enumerate(["audit", "nowhere", "audit"])
    )
    goods = "INSERT INTO goods (name) VALUES ('x');"
    tried(Case(SHOP + goods, triggers, "ALTER TABLE sold ADD COLUMN more;"), migrations, database)
    schema = query(database, "SELECT type, name FROM sqlite_master WHERE name NOT LIKE '%_autoindex_%'")
    assert {name for kind, name in schema if kind == "trigger"} == {"t0", "t1", "t2"}
    assert query(database, "SELECT name FROM goods") == [("x",)]
    assert query(database, "SELECT * FROM sold UNION SELECT *, 1, 1, 1 FROM audit") == []


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
    assert count(seen, "PRAGMA main.foreign_key_check") == 0
    assert 0 < len(seen) < 5 * 40


@pytest.mark.parametrize(("rows", "more"), [("", 0), (ORPHANS, 2)], ids=["sound", "rows that dangled before"])
def test_foreign_keys_cost_one_check_a_step_and_what_dangled_before_two_more(
    rows: str, more: int, migrations: Path, database: Path
) -> None:
    prepared(Case(FAMILY, rows, "INSERT INTO child VALUES (3, 1);"), migrations, database)
    write(migrations, "0003_more", "INSERT INTO child VALUES (4, 1);")
    write(migrations, "0004_more", "INSERT INTO child VALUES (5, 1);")
    assert count(executed(database, migrations), "PRAGMA main.foreign_key_check") == 3 + more


def test_many_rows_that_dangled_before_are_asked_for_together(migrations: Path, database: Path) -> None:
    legacy = numbers(1200, "100 + i, 5000 + i")
    prepared(
        Case(FAMILY, f"INSERT INTO child {legacy}", "INSERT INTO child VALUES (3, 1);"), migrations, database
    )
    assert 0 < len(executed(database, migrations)) < 100


def test_what_dangled_before_is_not_gone_through_where_a_step_is_far_from_it() -> None:
    near, far = (
        parse("0002_step.up.sql", text, "up")
        for text in (
            b"INSERT INTO child VALUES (3, 1);",
            b"CREATE TABLE more (a); INSERT INTO more VALUES (1);",
        )
    )
    with scratch() as session:
        session.connection.executescript(FAMILY + ORPHANS)
        before = catalog.read(session)
        known = keys_known(session, near, before, keys_now(session, before, NO_KEYS))
        session.run("BEGIN")
        play(session, far)
        now = keys_after(session, far, before, catalog.read_after(session, far, before), known).now
        assert now.dangling is known.dangling
        assert sum(now.dangling.values()) == 3


def test_views_are_compiled_only_where_a_step_could_break_them(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", SHOP + "CREATE VIEW other AS SELECT 1;")
    migrate(database, migrations)
    write(migrations, "0002_rows", "INSERT INTO goods (name) VALUES ('a');")
    write(migrations, "0003_rows", "UPDATE goods SET price = 1;")
    assert count(executed(database, migrations), "EXPLAIN") <= 2  # each view, once before the run
    write(migrations, "0004_table", "CREATE TABLE more (a);")
    assert count(executed(database, migrations), "EXPLAIN") <= 4


COMPILES = {
    "CREATE TABLE IF NOT EXISTS goods (a); CREATE TABLE more (a);": 0,
    "CREATE VIEW IF NOT EXISTS offer AS SELECT 1; CREATE VIEW more AS SELECT 1;": 1,
    "CREATE INDEX more ON goods (price);": 0,
    "CREATE UNIQUE INDEX more ON goods (price); DROP INDEX more;": 0,
    "DROP INDEX goods_name;": 0,
    "CREATE TRIGGER more AFTER INSERT ON goods BEGIN SELECT 1; END;": 1,
    "CREATE VIEW more AS SELECT * FROM goods, offer;": 1,
    "ALTER TABLE goods ADD COLUMN more;": 2,
    "DROP VIEW other; DROP TABLE goods; CREATE TABLE goods (name, price);": 1,
}


@pytest.mark.parametrize("step", COMPILES)
def test_no_more_is_compiled_than_a_step_can_have_stopped(
    step: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", SHOP + "CREATE VIEW other AS SELECT * FROM goods;")
    migrate(database, migrations)
    write(migrations, "0002_step", step)
    assert count(executed(database, migrations), "EXPLAIN") == COMPILES[step]


def test_a_table_that_is_there_already_asks_for_no_key(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", FAMILY)
    migrate(database, migrations)
    write(migrations, "0002_more", "CREATE TABLE more (a);")
    asked = count(executed(database, migrations), "PRAGMA main.foreign_key_list")
    write(migrations, "0003_again", "CREATE TABLE IF NOT EXISTS parent (a); CREATE TABLE again (a);")
    assert count(executed(database, migrations), "PRAGMA main.foreign_key_list") == asked


SMALL_STEPS = (
    "UPDATE t1 SET n = 'from here on';",
    "CREATE TABLE more (id INTEGER PRIMARY KEY, up REFERENCES t1); INSERT INTO more VALUES (1, NULL);",
    "ALTER TABLE more ADD COLUMN other REFERENCES t2;",
    "CREATE TABLE IF NOT EXISTS More (a); CREATE TABLE IF NOT EXISTS plain (a); DROP TABLE plain;",
    "CREATE VIEW of_more AS SELECT * FROM more;",
    "CREATE TRIGGER on_more AFTER INSERT ON more BEGIN DELETE FROM more WHERE id = 7; END;",
    "INSERT INTO more VALUES (2, NULL, NULL); UPDATE more SET id = 3 WHERE id = 2;",
    "CREATE INDEX IF NOT EXISTS by_up ON more (up);",
    "DROP INDEX by_up;",
    "DROP TRIGGER on_more; DROP VIEW of_more;",
    "DROP TABLE more;",
)


def test_a_small_step_asks_as_much_in_a_schema_of_any_size(tmp_path: Path) -> None:
    asked = []
    for size in (3, 40):
        migrations, database = tmp_path / f"migrations{size}", tmp_path / f"app{size}.db"
        migrations.mkdir()
        each = (
            f"CREATE TABLE t{at} (id INTEGER PRIMARY KEY, p REFERENCES t{at - 1 or 1}, n);\n"
            f"CREATE VIEW v{at} AS SELECT * FROM t{at};\nCREATE INDEX i{at} ON t{at} (n);\n"
            f"CREATE TRIGGER g{at} AFTER DELETE ON t{at} BEGIN UPDATE t{at} SET n = 1; END;\n"
            for at in range(1, size + 1)
        )
        write(migrations, "0001_base", "".join(each))
        migrate(database, migrations)
        for number, step in enumerate(SMALL_STEPS, 2):
            write(migrations, f"{number:04}_step", step)
        seen = executed(database, migrations)
        asked.append(seen[seen.index(SMALL_STEPS[0].rstrip(";")) :])
    few, many = asked
    assert [sql.partition(" -- ")[0] for sql in few] == [sql.partition(" -- ")[0] for sql in many]
    assert count(few, "EXPLAIN") < 15
    assert all("ORDER BY rowid DESC LIMIT" in sql for sql in many if "sqlite_" in sql)


# --- a foreign key whose parent table is missing

TEAM = "CREATE TABLE team (id INTEGER PRIMARY KEY);\nINSERT INTO team VALUES (1), (2);\n"
PLAYER = (
    "CREATE TABLE player (id INTEGER PRIMARY KEY, team_id REFERENCES team);\n"
    "INSERT INTO player VALUES (1, 1), (2, 2);\n"
)
NOWHERE = "CREATE TABLE orphan (a REFERENCES nowhere); INSERT INTO orphan VALUES (1);"
LEAVES = "-- vmpilot: unguarded a later file mends it\n"
NO_TEAM = "foreign key (team_id) of player has no table team"


class Run(NamedTuple):
    """Files that are applied one by one in one run, and the finding that stops the last, if any.

    In a finding `{}` stands for the directory. `legacy` is done before 0002.
    """

    files: tuple[str, ...]
    finding: str = ""
    legacy: str = ""


RUNS = {
    "the only step": Run((TEAM + PLAYER, "DROP TABLE team;"), NO_TEAM + ": {}/0002_step.up.sql took it away"),
    "an earlier step": Run(
        (TEAM + PLAYER, "DROP TABLE team;", "CREATE TABLE more (a);"),
        NO_TEAM + ": {}/0002_step.up.sql took it away",
    ),
    "renamed first": Run(
        (
            TEAM + PLAYER,
            "ALTER TABLE team RENAME TO old;\nCREATE TABLE team (id INTEGER PRIMARY KEY);\n"
            "INSERT INTO team SELECT * FROM old;\nDROP TABLE old;",
        ),
        "foreign key (team_id) of player has no table old: {}/0002_step.up.sql took it away",
    ),
    "a misspelled parent": Run(
        (
            "CREATE TABLE users (id INTEGER PRIMARY KEY);\nCREATE TABLE post (a, b, who REFERENCES user (id));",
        ),
        "foreign key (who) of post has no table user: {}/0001_step.up.sql declared it so",
    ),
    "of two columns, by ALTER TABLE": Run(
        ("CREATE TABLE post (a);", "ALTER TABLE post ADD COLUMN who REFERENCES user;"),
        "foreign key (who) of post has no table user: {}/0002_step.up.sql declared it so",
    ),
    "renamed as it was long ago": Run(
        (TEAM + PLAYER, f"{LEGACY}ALTER TABLE team RENAME TO old;"),
        NO_TEAM + ": {}/0002_step.up.sql took it away",
    ),
    "written by hand": Run(
        (
            "CREATE TABLE player (team_id);",
            "PRAGMA writable_schema = ON;\nUPDATE sqlite_master SET sql = "
            "'CREATE TABLE player (team_id REFERENCES team)' WHERE name = 'player';",
        ),
        NO_TEAM + ": {}/0002_step.up.sql declared it so",
    ),
    "a new one beside an old one": Run(
        ("CREATE TABLE post (a);", "CREATE TABLE b (a REFERENCES nowhere);"),
        *("foreign key (a) of b has no table nowhere: {}/0002_step.up.sql declared it so", NOWHERE),
    ),
    # let pass
    "back in a later step": Run((TEAM + PLAYER, "DROP TABLE team;", TEAM)),
    "renamed into place in a later step": Run(
        (
            TEAM + PLAYER,
            "CREATE TABLE new_team (id INTEGER PRIMARY KEY);\nINSERT INTO new_team SELECT id FROM team;\n"
            "DROP TABLE team;",
            "INSERT INTO player VALUES (3, 1);",
            "ALTER TABLE new_team RENAME TO team;",
        )
    ),
    "parent created later": Run((PLAYER, TEAM)),
    "both are dropped": Run((TEAM + PLAYER, "DROP TABLE team;", "DROP TABLE player;")),
    "said to be so": Run((TEAM + PLAYER, f"{LEAVES}DROP TABLE team;", "CREATE TABLE more (a);")),
    "said to be so, and a row is gone when it is back": Run(
        (TEAM + PLAYER, f"{LEAVES}DROP TABLE team;", TEAM.replace(", (2)", ""))
    ),
    "said by the last": Run((TEAM + PLAYER, "DROP TABLE team;", f"{LEAVES}CREATE TABLE more (a);")),
    "legacy": Run(("CREATE TABLE a (a);", "INSERT INTO orphan VALUES (2);"), "", NOWHERE),
    "legacy, rebuilt": Run(
        ("CREATE TABLE a (a);", rebuilt("orphan", "(a REFERENCES nowhere, b)", "a, 1")), "", NOWHERE
    ),
    "legacy, renamed": Run(("CREATE TABLE a (a);", "ALTER TABLE orphan RENAME TO lone;"), "", NOWHERE),
    "legacy, its rows come to light": Run(
        ("CREATE TABLE a (a);", "CREATE TABLE nowhere (id INTEGER PRIMARY KEY);"), "", NOWHERE
    ),
    # its rows are held against what dangled before
    "a row is gone when it is back": Run(
        (TEAM + PLAYER, "DROP TABLE team;", TEAM.replace(", (2)", "")),
        orphans("row 2", of="player", parent="team"),
    ),
    "a row came while it was away": Run(
        (TEAM + PLAYER, "DROP TABLE team;", "INSERT INTO player VALUES (3, 9);", TEAM),
        orphans("row 3", of="player", parent="team"),
    ),
    "a row dangled before it went": Run(
        (TEAM + PLAYER, "DROP TABLE team;", "CREATE TABLE more (a);", TEAM),
        *("", "INSERT INTO player VALUES (3, 9);"),
    ),
    "a row dangled before it went, and its column has another name when it is back": Run(
        (
            TEAM + PLAYER,
            "DROP TABLE team;",
            rebuilt("player", "(id INTEGER PRIMARY KEY, team REFERENCES team)", "id, team_id"),
            TEAM,
        ),
        *("", "INSERT INTO player VALUES (3, 9);"),
    ),
    "a row dangled before a virtual table had another name": Run(
        (
            "CREATE VIRTUAL TABLE docs USING fts5(x);\nCREATE TABLE child (a REFERENCES docs_content (id));",
            *("ALTER TABLE docs RENAME TO papers;", "ALTER TABLE papers RENAME TO docs;\nDELETE FROM docs;"),
        ),
        *("", "INSERT INTO child VALUES (9);"),
    ),
    "two rows with one key dangled before it went": Run(
        (TEAM + PLAYER, "DROP TABLE team;", "CREATE TABLE more (a);", TEAM),
        *("", "INSERT INTO player VALUES (3, 9), (4, 9);"),
    ),
    "it was no key before it went": Run(
        ("CREATE TABLE a (a);", "DROP TABLE parent;", "CREATE TABLE parent (id INTEGER);"), "", NOT_UNIQUE
    ),
    "and was renamed meanwhile": Run(
        (TEAM + PLAYER, "DROP TABLE team;", "ALTER TABLE player RENAME TO member;", TEAM),
        *("", "INSERT INTO player VALUES (3, 9);"),
    ),
    "a view comes in its place, and the child was renamed meanwhile": Run(
        (
            "CREATE TABLE a (a);",
            "ALTER TABLE orphan RENAME TO lone;",
            "CREATE VIEW nowhere AS SELECT 1 AS a;",
        ),
        *("", NOWHERE),
    ),
    "and was its own parent, renamed as it was long ago": Run(
        (
            "CREATE TABLE a (a);",
            f"{LEGACY}ALTER TABLE member RENAME TO old;",
            "CREATE TABLE member (id INTEGER PRIMARY KEY);",
        ),
        *(
            "",
            "CREATE TABLE member (id INTEGER PRIMARY KEY, a REFERENCES member); INSERT INTO member VALUES (1, 9);",
        ),
    ),
    "another key of the child": Run(
        (
            TEAM + "CREATE TABLE cup (id TEXT PRIMARY KEY);\nINSERT INTO cup VALUES ('1');\n"
            "CREATE TABLE player (team_id REFERENCES team, cup INTEGER REFERENCES cup);\n"
            "INSERT INTO player VALUES (1, 1);",
            "DROP TABLE team;",
            "INSERT INTO player VALUES (1, 1), (1, 7);",
        ),
        "1 new foreign key violation: row 3 of player has no parent in cup; "
        + f"{NO_TEAM}: {{}}/0002_step.up.sql took it away",
    ),
}


@pytest.mark.parametrize("owner", ["path", "connection"])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_does_not_end_with_a_key_that_lost_its_parent_table(
    name: str, owner: str, migrations: Path, database: Path
) -> None:
    files, finding, legacy = RUNS[name]
    if legacy:
        write(migrations, "0001_step", files[0])
        migrate(database, migrations)
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(legacy)
    for number, up in enumerate(files, 1):
        write(migrations, f"000{number}_step", up)
    with closing(sqlite3.connect(database)) as connection:
        where = database if owner == "path" else connection
        if not finding:
            assert len(migrate(where, migrations)) == len(files) - bool(legacy)
            assert migrate(where, migrations) == ()
            return
        last = len(files)
        still = f"000{last - 1}" if last > 1 else "base"
        told = ACTIONS + UNGUARDED if "has no parent in team" in finding else UNGUARDED
        message = (
            f"{migrations}/000{last}_step.up.sql: {finding.replace('{}', str(migrations))}; "
            f"rolled back, {database} is still at {still}{told}"
        )
        error = refusal(lambda: migrate(where, migrations), message)
    assert [step.version for step in error.steps] == [f"000{at}" for at in range(1 + bool(legacy), last)]


def test_what_others_write_between_two_steps_makes_no_lost_parent_a_legacy(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_step", TEAM + PLAYER)
    write(migrations, "0002_step", "DROP TABLE team;")
    write(migrations, "0003_step", f"{APART}CREATE TABLE more (a);")

    def disturb(progress: Progress) -> None:
        if progress.done and progress.step.version == "0002":
            change(database, "CREATE TABLE other (a)")

    message = (
        f"{migrations}/0003_step.up.sql: {NO_TEAM}: {migrations}/0002_step.up.sql took it away; "
        f"rolled back, {database} is still at 0002{UNGUARDED}"
    )
    refusal(lambda: migrate(database, migrations, progress=disturb), message)


@pytest.mark.parametrize("back", [TEAM, TEAM.replace(", (2)", "")])
def test_what_others_write_meanwhile_hides_no_row_behind_a_parent_that_is_back(
    back: str, migrations: Path, database: Path
) -> None:
    steps = [TEAM + PLAYER, f"{LEAVES}INSERT INTO player VALUES (3, 9);", "INSERT INTO player VALUES (4, 1);"]
    for number, step in enumerate([*steps, "DROP TABLE team;", APART + back], 1):
        write(migrations, f"{number:04}_step", step)

    def disturb(progress: Progress) -> None:
        if progress.done and progress.step.version == "0004":
            change(database, "CREATE TABLE other (a)")

    if back == TEAM:
        assert len(migrate(database, migrations, progress=disturb)) == 5
        return
    with pytest.raises(StepError) as caught:
        migrate(database, migrations, progress=disturb)
    finding = orphans("row 2", of="player", parent="team")
    assert f"0005_step.up.sql: {finding}; rolled back" in str(caught.value)


# --- keys one by one

MISMATCHED = NOT_UNIQUE.replace("CREATE TABLE child", "INSERT INTO parent VALUES (1);\nCREATE TABLE child")
TWICE = (
    "CREATE TABLE p (id INTEGER PRIMARY KEY);\nCREATE TABLE a (x REFERENCES p);\n"
    "CREATE TABLE b (x REFERENCES p);\nCREATE TABLE w (q);"
)
PAIR = (
    PARENT
    + "INSERT INTO parent (id) VALUES (1);"
    + "CREATE TABLE child (a REFERENCES parent, b REFERENCES parent);"
)
EXCHANGED = "".join(
    f"ALTER TABLE child RENAME COLUMN {old} TO {new};\n" for old, new in (("a", "c"), ("b", "a"), ("c", "b"))
)
ONE_BY_ONE = {
    "a mismatch behind an old one": Case(
        OTHER,
        MISMATCHED,
        rebuilt("child", "(b REFERENCES other (a), parent INTEGER REFERENCES parent (id))", "NULL, parent"),
        "1 new foreign key violation: " + MISMATCH.format("child", "other"),
    ),
    "a row behind an old mismatch": Case(
        OTHER + PARENT.replace("parent", "good"),
        MISMATCHED + "ALTER TABLE child ADD COLUMN good REFERENCES good;",
        "INSERT INTO child VALUES (1, 7);",
        orphans("row 1", parent="good"),
    ),
    **{
        f"a row behind a parent {what}": Case(
            OTHER + PARENT.replace("parent", "good"),
            f"CREATE TABLE half (id); {index}"
            f"CREATE TABLE child (half REFERENCES half {columns}, good REFERENCES good);",
            "INSERT INTO child VALUES (1, 7);",
            orphans("row 1", parent="good"),
        )
        for what, index, columns in (
            ("without a key", "", ""),
            ("whose key is partial", "CREATE UNIQUE INDEX i ON half (id) WHERE id > 0;", "(id)"),
        )
    },
    "a view is a parent, but no key": Case(
        "CREATE TABLE t (id INTEGER PRIMARY KEY);\nCREATE VIEW v AS SELECT id FROM t;",
        *("", "CREATE TABLE child (a REFERENCES v (id));"),
        "1 new foreign key violation: " + MISMATCH.format("child", "v"),
    ),
    "a unique index that sorts otherwise makes no key": Case(
        "CREATE TABLE parent (id TEXT); CREATE UNIQUE INDEX i ON parent (id COLLATE NOCASE);",
        *("", "CREATE TABLE child (a REFERENCES parent (id));"),
        "1 new foreign key violation: " + MISMATCH.format("child", "parent"),
    ),
    "a row in another key of the table pays for nothing": Case(
        PARENT + "CREATE TABLE child (a REFERENCES parent (id), b REFERENCES parent (id), c);",
        "INSERT INTO child VALUES (9, NULL, 1);",
        "UPDATE child SET a = NULL, b = 9;\nALTER TABLE child RENAME COLUMN c TO d;",
        orphans("row 1"),
    ),
    "a row behind a parent whose key sorts otherwise": Case(
        OTHER + PARENT.replace("parent", "good"),
        "CREATE TABLE half (id TEXT, PRIMARY KEY (id COLLATE NOCASE));"
        "CREATE TABLE child (half REFERENCES half (id), good REFERENCES good);",
        *("INSERT INTO child VALUES (NULL, 7);", orphans("row 1", parent="good")),
    ),
    "a row behind a parent with a quote in its name": Case(
        OTHER + PARENT.replace("parent", "good"),
        'CREATE TABLE "ha""lf" (id TEXT); CREATE TABLE child (half REFERENCES "ha""lf" (id), good REFERENCES good);',
        *("INSERT INTO child VALUES (1, 7);", orphans("row 1", parent="good")),
    ),
    "only an index that sorts otherwise is left": Case(
        "CREATE TABLE parent (id TEXT COLLATE NOCASE);\nCREATE UNIQUE INDEX i ON parent (id);\n"
        "CREATE UNIQUE INDEX j ON parent (id COLLATE BINARY);\nCREATE TABLE child (a REFERENCES parent (id));",
        *("", "DROP INDEX i;", "1 new foreign key violation: " + MISMATCH.format("child", "parent")),
    ),
    "the index of a key goes, and another table gets one of its name": Case(
        "CREATE TABLE parent (id TEXT);\nCREATE UNIQUE INDEX i ON parent (id);\nCREATE TABLE other (a);\n"
        "CREATE TABLE child (a REFERENCES parent (id));",
        "",
        "DROP INDEX i;\nCREATE INDEX i ON other (a);",
        "1 new foreign key violation: " + MISMATCH.format("child", "parent"),
    ),
    "the old mismatch under another name": Case(OTHER, MISMATCHED, "ALTER TABLE child RENAME TO kid;"),
    **{
        f"a row in one of two keys of a column, {what}": Case(
            PARENT.replace("name TEXT", "name TEXT UNIQUE, more"),
            f"CREATE TABLE child (a REFERENCES parent ({other}), FOREIGN KEY (a) REFERENCES parent (id));"
            f"INSERT INTO parent VALUES (1, '{name}', 1); INSERT INTO child VALUES (1);",
            "INSERT INTO child VALUES (2);",
            found,
        )
        for what, other, name, found in (
            ("beside one that cannot be checked", "more", "x", orphans("row 2")),
            ("which one of the other does not pay for", "name", "2", orphans("row 2")),
        )
    },
    "names of two columns that are exchanged": Case(
        PAIR, "INSERT INTO child VALUES (9, 1);", "INSERT INTO child VALUES (1, 1);\n" + EXCHANGED
    ),
    "a row that has the old value under the exchanged name": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        EXCHANGED + "UPDATE child SET b = 1;\nINSERT INTO child (a) VALUES (9);",
        orphans("row 2"),
    ),
    "a key that goes pays for no other beside a rename": Case(
        PAIR + "CREATE TABLE other (x);",
        "INSERT INTO child VALUES (9, 1);",
        "ALTER TABLE other RENAME TO another;\nCREATE TABLE IF NOT EXISTS child (c);\n"
        "ALTER TABLE child DROP COLUMN a;\nALTER TABLE child ADD COLUMN c DEFAULT 9 REFERENCES parent;",
        orphans("row 1"),
    ),
    "an old row, rebuilt with another name for its column": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        rebuilt("child", "(c REFERENCES parent, d REFERENCES parent)"),
    ),
    "an old row, its column renamed, its table renamed away and made anew": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        "ALTER TABLE child RENAME COLUMN a TO c;\nALTER TABLE child RENAME TO old;\n"
        "CREATE TABLE child (c REFERENCES parent, b REFERENCES parent);\n"
        "INSERT INTO child SELECT * FROM old;\nDROP TABLE old;",
    ),
    "an old row, its column renamed and made anew under the old name": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        "ALTER TABLE child RENAME COLUMN a TO c;\n"
        + rebuilt("child", "(a REFERENCES parent, b REFERENCES parent)"),
    ),
    "a row in another key of a table that is rebuilt pays for nothing": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        rebuilt("child", "(a REFERENCES parent, b REFERENCES parent)", "b, a"),
        orphans("row 1"),
    ),
    "an old row whose table has another name": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        "ALTER TABLE child RENAME TO kid;\nINSERT INTO kid VALUES (1, 1);",
    ),
    "an old row whose parent has another name": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        "ALTER TABLE parent RENAME TO elder;\nINSERT INTO child VALUES (1, 1);",
    ),
    "an old row whose parent is renamed away and made anew": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        f"ALTER TABLE parent RENAME TO old;\n{PARENT}INSERT INTO parent SELECT * FROM old;\n"
        + rebuilt("child", "(a REFERENCES parent, b REFERENCES parent)")
        + "DROP TABLE old;",
    ),
    "an old row beside a column of that name in another table": Case(
        PAIR + "CREATE TABLE other (a);",
        "INSERT INTO child VALUES (9, 1);",
        "ALTER TABLE other RENAME COLUMN a TO b;\nINSERT INTO child VALUES (1, 1);",
    ),
    "an old row in a table that has taken its place under another name": Case(
        PAIR,
        "INSERT INTO child VALUES (9, 1);",
        "CREATE TABLE young (c REFERENCES parent, b REFERENCES parent);\n"
        "INSERT INTO young SELECT * FROM child;\nDROP TABLE child;\n"
        "ALTER TABLE young RENAME TO child;\nALTER TABLE child RENAME TO kid;",
    ),
    "a new mismatch beside an old one and a rename": Case(
        OTHER,
        MISMATCHED,
        "ALTER TABLE other RENAME TO another;\nALTER TABLE child ADD COLUMN b REFERENCES parent (id);",
        "1 new foreign key violation: " + MISMATCH.format("child", "parent"),
    ),
    "the old mismatch, its column under another name": Case(
        OTHER, MISMATCHED, "ALTER TABLE child RENAME COLUMN parent TO other;"
    ),
    "an old row comes to be looked at by what the file makes of its table": Case(
        PARENT + "CREATE TABLE child (a REFERENCES parent (id), b);",
        "INSERT INTO child VALUES (9, 'x');",
        "UPDATE child SET b = 'y';\nALTER TABLE child ADD COLUMN c AS (lower(b));",
    ),
    "the old mismatch, rebuilt": Case(
        OTHER, MISMATCHED, rebuilt("child", "(x, parent REFERENCES parent (id))", "1, parent")
    ),
    "an old row, rebuilt and renamed": Case(
        TWICE,
        "INSERT INTO a VALUES (9);",
        rebuilt("a", "(x REFERENCES p, y)", "x, 1") + "ALTER TABLE a RENAME TO z;",
    ),
    "a partial index makes no key": Case(
        "CREATE TABLE parent (id); CREATE UNIQUE INDEX i ON parent (id) WHERE id > 0;",
        *("", "CREATE TABLE child (a REFERENCES parent (id), b REFERENCES parent (id));"),
        "1 new foreign key violation: " + MISMATCH.format("child", "parent"),
    ),
    "a rename elsewhere pays for nothing": Case(
        TWICE,
        "INSERT INTO a VALUES (9);",
        "DELETE FROM a;\nINSERT INTO b VALUES (9);\nALTER TABLE w RENAME TO w2;",
        orphans("row 1", of="b", parent="p"),
    ),
    "the row that is new is named, not the renamed": Case(
        TWICE,
        "INSERT INTO a VALUES (9);",
        "ALTER TABLE b RENAME TO c;\nALTER TABLE a RENAME TO b;\nINSERT INTO c VALUES (9);",
        orphans("row 1", of="c", parent="p"),
    ),
    "names that are exchanged": Case(
        TWICE,
        "INSERT INTO a VALUES (9);",
        "ALTER TABLE a RENAME TO x;\nALTER TABLE b RENAME TO a;\nALTER TABLE x RENAME TO b;",
    ),
    "renamed away and made anew": Case(
        TWICE,
        "INSERT INTO a VALUES (9);",
        "ALTER TABLE a RENAME TO old;\nCREATE TABLE a (x REFERENCES p);\nINSERT INTO a SELECT * FROM old;\n"
        "DROP TABLE old;",
    ),
    "another letter case": Case(
        TWICE, "INSERT INTO a VALUES (9);", "ALTER TABLE a RENAME TO z;\nALTER TABLE Z RENAME TO A;"
    ),
}


# What is done in two files to a family whose row 3 dangles, which is known, and is found of the second.
AGED = "INSERT INTO child VALUES (3, 99);"
LATER = {
    "the row goes": ("DELETE FROM child WHERE id = 3;", "INSERT INTO child VALUES (5, 99);", "row 5"),
    "its parent comes": (
        "INSERT INTO parent VALUES (99, 'x');",
        "DELETE FROM parent WHERE id = 99;",
        "row 3",
    ),
    "its table goes": ("DROP TABLE child;", CHILD + AGED, "row 3"),
    "it stays": ("DELETE FROM child WHERE id = 1;", "UPDATE child SET id = 7 WHERE id = 3;", ""),
    "its column has another name": (
        *("ALTER TABLE child RENAME COLUMN parent TO elder;", "INSERT INTO child VALUES (5, 1);", ""),
    ),
    "its column is called by a keyword": (
        'ALTER TABLE child RENAME COLUMN parent TO "default" /* as */;',
        *("INSERT INTO child VALUES (5, 1);", ""),
    ),
    "another row is there": (
        "INSERT INTO child VALUES (5, 1);",
        "INSERT INTO child VALUES (6, 99);",
        "row 6",
    ),
}


def later(family: str, steps: Sequence[str], migrations: Path, database: Path) -> None:
    """Make a family with old rows, and three files, of which the first makes them known."""
    prepared(Case(FAMILY, family + AGED, "INSERT INTO child VALUES (4, 1);"), migrations, database)
    for number, step in enumerate(steps, 3):
        write(migrations, f"{number:04}_step", step)


@pytest.mark.parametrize("name", LATER)
def test_a_row_that_dangles_no_more_pays_for_nothing(name: str, migrations: Path, database: Path) -> None:
    *steps, found = LATER[name]
    later("", steps, migrations, database)
    if not found:
        assert migrate(database, migrations)[-1].version == "0004"
        return
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert f"0004_step.up.sql: {orphans(found)}; rolled back" in str(caught.value)


def test_a_table_that_takes_the_place_of_another_keeps_its_old_rows(migrations: Path, database: Path) -> None:
    other = CHILD.replace("child", "other") + "INSERT INTO other VALUES (1, 98);"
    later(other, ["DROP TABLE child;", "ALTER TABLE other RENAME TO child;"], migrations, database)
    assert migrate(database, migrations)[-1].version == "0004"


@pytest.mark.parametrize(
    "away", ["-- vmpilot: foreign-keys-on x\n", "-- vmpilot: no-transaction\nPRAGMA foreign_keys = ON;\n"]
)
def test_what_goes_with_its_parent_by_an_action_pays_for_nothing(
    away: str, migrations: Path, database: Path
) -> None:
    toy = (
        "CREATE TABLE toy (child REFERENCES child ON DELETE CASCADE, shelf REFERENCES shelf);\n"
        "CREATE TABLE shelf (id INTEGER PRIMARY KEY);\nINSERT INTO shelf VALUES (1);\n"
    )
    old = f"{LEAVES}INSERT INTO toy VALUES (2, 99);"
    steps = [FAMILY + toy, old, "INSERT INTO toy VALUES (1, 1);", f"{away}DELETE FROM parent WHERE id = 2;"]
    for number, step in enumerate([*steps, "INSERT INTO toy VALUES (1, 99);"], 1):
        write(migrations, f"{number:04}_step", step)
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert orphans("row 3", of="toy", parent="shelf") in str(caught.value)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_no_finding_hides_another_or_pays_for_it(name: str, migrations: Path, database: Path) -> None:
    tried(ONE_BY_ONE[name], migrations, database)


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("TEXT", "'01'"), ("TEXT", "1"), ("INTEGER", "'1'"), ("INTEGER", "'01'"), ("INTEGER", "1.0"),
        ("", "'1'"), ("", "1"), ("NUMERIC", "' 1'"), ("TEXT COLLATE NOCASE", "'A'"), ("BLOB", "x'31'"),
        ("REAL", "1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["", "TEXT", "INTEGER"])
def test_a_row_is_judged_alike_with_and_without_another_key_that_cannot_be_checked(
    parent: str, child: str, kind: str, migrations: Path, database: Path
) -> None:
    values = (
        "INSERT OR IGNORE INTO p VALUES (1), ('a'), ('x'), ('01');"
        if "INTEGER" not in parent
        else "INSERT OR IGNORE INTO p VALUES (1);"
    )
    tables = f"CREATE TABLE p (id {parent} PRIMARY KEY);\n{values}\nCREATE TABLE c (x {kind} REFERENCES p);\n"
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{tables}INSERT INTO c VALUES ({child});")
        expected = connection.execute("PRAGMA main.foreign_key_check").fetchall()
    write(migrations, "0001_base", tables.replace("REFERENCES p);", "REFERENCES p, y);"))
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("CREATE TABLE bad (i); ALTER TABLE c ADD COLUMN z REFERENCES bad (i);")
    write(migrations, "0002_step", f"INSERT INTO c (x) VALUES ({child});")
    try:
        migrate(database, migrations)
        found = []
    except StepError:
        found = [1]
    assert len(found) == len(expected)


# --- new views and triggers

NEW = {
    "a trigger without its table": Case(
        SHOP,
        *("", "CREATE TRIGGER tr AFTER INSERT ON goods BEGIN INSERT INTO audits VALUES (1); END;"),
        "tr does not compile: ...audits",
    ),
    "a view without its table": Case(
        SHOP, "", "CREATE VIEW v AS SELECT * FROM nowhere;", "v does not compile: ...nowhere"
    ),
    "a view without its column": Case(
        SHOP, "", "CREATE VIEW v AS SELECT absent FROM goods;", "v does not compile: ...absent"
    ),
    "only the broken one of two": Case(
        SHOP,
        "",
        noted("AFTER INSERT ON sold")
        + "\nCREATE TRIGGER bad AFTER INSERT ON sold BEGIN DELETE FROM nowhere; END;",
        "bad does not compile: ...nowhere",
    ),
    "a good one with the name of a keyword, beside an old one": Case(
        SHOP,
        noted("AFTER INSERT ON sold").replace("audit", "nowhere"),
        'CREATE TRIGGER "TRIGGER" AFTER INSERT ON sold BEGIN SELECT 1; END;',
    ),
    "a trigger that writes to a view": Case(
        SHOP,
        *("", "CREATE TRIGGER tr AFTER INSERT ON sold BEGIN DELETE FROM offer; END;"),
        "tr does not compile: ...offer...",
    ),
    "made before its table": Case(SHOP, "", "CREATE VIEW v AS SELECT * FROM n;\nCREATE TABLE n (a);"),
    "made and dropped": Case(SHOP, "", "CREATE VIEW v AS SELECT * FROM n;\nDROP VIEW v;"),
    "temporary": Case(SHOP, "", "CREATE TEMP VIEW v AS SELECT * FROM n;"),
    "made again as it was": Case(SHOP, LOST, "DROP VIEW lost;\nCREATE VIEW lost AS SELECT y FROM nowhere;"),
    "said to be so": Case(SHOP, "", f"{LEAVES}CREATE VIEW v AS SELECT * FROM nowhere;"),
}


@pytest.mark.parametrize("name", NEW)
def test_new_views_and_triggers_compile(name: str, migrations: Path, database: Path) -> None:
    tried(NEW[name], migrations, database)


# --- directives


@pytest.mark.parametrize(
    ("leaves", "later"),
    [
        ("DELETE FROM parent WHERE id = 2;", "INSERT INTO child VALUES (3, 1);"),
        ("DROP TABLE parent;", "INSERT INTO child VALUES (3, 9);"),
        ("CREATE VIEW v AS SELECT * FROM nowhere;", "CREATE VIEW w AS SELECT 1;"),
        (NOT_UNIQUE.replace("parent", "p2").replace("child", "c2"), "INSERT INTO c2 VALUES (9);"),
    ],
)
@pytest.mark.parametrize("together", ["in one run", "in another run"])
def test_what_an_unguarded_file_leaves_is_not_held_against_later_ones(
    leaves: str, later: str, together: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", FAMILY)
    write(migrations, "0002_leaves", LEAVES + leaves, f"{LEAVES}DELETE FROM parent WHERE id = 1;")
    if together == "in another run":
        migrate(database, migrations)
    write(migrations, "0003_later", later)
    migrate(database, migrations)
    if leaves.startswith("DELETE"):
        assert len(downgrade(database, migrations, target="0001", backup=False)) == 2


def test_an_unguarded_file_answers_for_tables_that_cannot_be_read(migrations: Path, database: Path) -> None:
    step = f"{LEAVES}ALTER TABLE sold ADD COLUMN slug AS (slugify(at));"
    tried(Case(SHOP, "", step, "table sold cannot be read any more: ...slugify..."), migrations, database)


CASCADE = "-- vmpilot: foreign-keys-on children go with their parents\n"


@pytest.mark.parametrize("kind", ["", "-- vmpilot: no-transaction\n"])
@pytest.mark.parametrize("owner", ["path", "connection", "connection with keys"])
def test_actions_happen_where_foreign_keys_are_on_and_nowhere_else(
    kind: str, owner: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", FAMILY)
    write(
        migrations,
        "0002_step",
        f"{kind}{CASCADE}DELETE FROM parent WHERE id = 2;",
        f"{CASCADE}DELETE FROM parent;",
    )
    write(migrations, "0003_rebuild", rebuilt("parent", "(id INTEGER PRIMARY KEY, name, more)", "*, 1"))
    keys = int("with keys" in owner)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA foreign_keys = {keys}")
        where = database if owner == "path" else connection
        assert len(migrate(where, migrations)) == 3
        assert query(database, "SELECT id, parent FROM child") == [(1, 1)]
        assert len(downgrade(where, migrations, target="0001", backup=False)) == 2
        assert query(database, "SELECT * FROM child") == []
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (keys,)


@pytest.mark.parametrize(
    ("base", "event"),
    [
        ("CREATE TABLE child (a REFERENCES parent (name));\n", "DELETE ON parent"),
        ("CREATE TABLE child (a REFERENCES nowhere);\n", "INSERT ON child"),
    ],
)
@pytest.mark.parametrize("known", ["known before", "not known before"])
def test_with_foreign_keys_on_a_trigger_does_not_answer_for_a_key(
    known: str, base: str, event: str, migrations: Path, database: Path
) -> None:
    trigger = f"CREATE TRIGGER t AFTER {event} BEGIN DELETE FROM other; END;"
    prepared(Case("SELECT 1;", f"{PARENT}{OTHER}{base}", trigger), migrations, database)
    if known == "not known before":
        migrate(database, migrations)
    write(migrations, "0003_keys", f"{CASCADE}ALTER TABLE {event.split()[-1]} ADD COLUMN more;\n")
    write(migrations, "0004_breaks", "DROP TABLE other;")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert (caught.value.version, [step.version for step in caught.value.steps][-1]) == ("0004", "0003")
    assert "0004_breaks.up.sql: t does not compile any more: " in str(caught.value)


def test_what_a_key_hid_while_foreign_keys_were_on_is_no_fault_of_a_later_step(
    migrations: Path, database: Path
) -> None:
    legacy = (
        f"{PARENT}CREATE TABLE child (a REFERENCES parent (name));\nCREATE VIEW lost AS SELECT y FROM parent;\n"
        "CREATE TRIGGER t AFTER DELETE ON parent BEGIN DELETE FROM nowhere; END;"
    )
    step = f"{CASCADE}ALTER TABLE parent ADD COLUMN more;\n"
    prepared(Case("SELECT 1;", legacy, step), migrations, database)
    write(migrations, "0003_step", "ALTER TABLE parent ADD COLUMN even_more;")
    assert len(migrate(database, migrations)) == 2


def test_with_foreign_keys_on_a_child_without_parent_is_sqlites_own_error(
    migrations: Path, database: Path
) -> None:
    prepared(Case(FAMILY, "", f"{CASCADE}INSERT INTO child VALUES (3, 99);"), migrations, database)
    message = (
        f"{migrations}/0002_step.up.sql:2: FOREIGN KEY constraint failed; "
        f"rolled back, {database} is still at 0001"
    )
    refusal(lambda: migrate(database, migrations), message)
    assert query(database, "SELECT count(*) FROM child") == [(2,)]


@pytest.mark.parametrize(
    ("body", "names", "version"),
    [
        ("DELETE FROM alembic_version;", "alembic_version", [("0001",)]),
        ("INSERT INTO alembic_version VALUES ('x');", "alembic_version", [("0001",)]),
        ("UPDATE alembic_version SET version_num = 'x';", "alembic_version", [("0001",)]),
        ("UPDATE migration_log SET name = 'x';", "migration_log", [("0001",)]),
    ],
)
def test_outside_a_transaction_a_trigger_on_the_runners_tables_is_found_out_at_once(
    body: str, names: str, version: list[tuple[str]], migrations: Path, database: Path
) -> None:
    trigger = f"CREATE TRIGGER g AFTER INSERT ON t BEGIN {body} END;"
    step = "-- vmpilot: no-transaction\nSELECT 1;\nINSERT INTO t VALUES (1);\nDROP TABLE t;"
    prepared(Case("CREATE TABLE t (a);", trigger, step), migrations, database)
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0002_step.up.sql:3: changes {names}, which only the runner may change; statements 1 to 2 "
        f"(lines 2 to 3) have taken effect already, {database} is still at 0001, and the file will run again "
        "from its start"
    )
    assert query(database, "SELECT * FROM alembic_version") == version
    assert query(database, "SELECT name FROM sqlite_master WHERE name = 't'")


# --- the schema, written by hand

NOT_NULL = (
    "PRAGMA writable_schema = ON;\n"
    "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a NOT NULL)' WHERE name = 't';\n"
    "PRAGMA writable_schema = OFF;"
)
DUMPED = """PRAGMA writable_schema=ON;
INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql) VALUES('table','docs','docs',0,
  'CREATE VIRTUAL TABLE docs USING fts5(body)');
CREATE TABLE IF NOT EXISTS 'docs_data'(id INTEGER PRIMARY KEY, block BLOB);
INSERT INTO docs_data VALUES(1,X''), (10,X'00000000000000');
CREATE TABLE IF NOT EXISTS 'docs_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS 'docs_content'(id INTEGER PRIMARY KEY, c0);
CREATE TABLE IF NOT EXISTS 'docs_docsize'(id INTEGER PRIMARY KEY, sz BLOB);
CREATE TABLE IF NOT EXISTS 'docs_config'(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO docs_config VALUES('version',4);
PRAGMA writable_schema=OFF;"""


@pytest.mark.parametrize("owner", ["path", "connection"])
@pytest.mark.parametrize("kind", ["", "-- vmpilot: no-transaction\n"])
def test_a_schema_that_was_written_by_hand_is_known_to_the_next_step(
    kind: str, owner: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_dump", f"{kind}CREATE TABLE t (a);\n{DUMPED}\n{NOT_NULL}")
    write(migrations, "0002_uses", "INSERT INTO docs VALUES ('hello');")
    write(migrations, "0003_null", "INSERT INTO t VALUES (NULL);")
    with closing(sqlite3.connect(database)) as connection:
        with pytest.raises(StepError) as caught:
            migrate(database if owner == "path" else connection, migrations)
        assert [step.version for step in caught.value.steps] == ["0001", "0002"]
        assert caught.value.line == 1
        assert connection.execute("SELECT body FROM docs WHERE docs MATCH 'hello'").fetchall() == [("hello",)]
        assert connection.execute("PRAGMA writable_schema").fetchone() == (0,)
    assert query(database, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("more", ["oops;", "PRAGMA writable_schema = RESET;\nDELETE FROM nowhere;"])
def test_a_schema_that_was_written_by_hand_is_forgotten_after_a_failure(
    more: str, migrations: Path, database: Path
) -> None:
    prepared(Case("CREATE TABLE t (a);", "", f"{NOT_NULL}\n{more}"), migrations, database)
    with closing(sqlite3.connect(database)) as connection:
        with pytest.raises(StepError):
            migrate(connection, migrations)
        connection.execute("INSERT INTO t VALUES (NULL)")


def test_a_schema_that_was_written_wrong_is_the_steps_error(migrations: Path, database: Path) -> None:
    prepared(Case("CREATE TABLE t (a);", "", NOT_NULL.replace("NULL)", "NU")), migrations, database)
    message = f"{migrations}/0002_step.up.sql: malformed ...; rolled back, {database} is still at 0001"
    assert isinstance(refusal(lambda: migrate(database, migrations), message), StepError)
    assert query(database, "SELECT sql FROM sqlite_master WHERE name = 't'") == [("CREATE TABLE t (a)",)]


def test_a_view_over_a_table_that_was_written_by_hand_is_guarded(migrations: Path, database: Path) -> None:
    setup = "CREATE TABLE t (b);\nCREATE VIEW v AS SELECT b FROM t;"
    tried(Case(setup, "", NOT_NULL, stops("v", words="...b")), migrations, database)


def test_a_key_that_was_written_by_hand_is_guarded(migrations: Path, database: Path) -> None:
    finding = "1 new foreign key violation: " + MISMATCH.format("t", "t")
    step = NOT_NULL.replace("a NOT NULL", "a REFERENCES t (a)")
    tried(Case("CREATE TABLE t (a);", "", step, finding), migrations, database)


# --- the runner's own tables

OURS = {
    "a row": (1, "INSERT INTO alembic_version VALUES ('x');", "alembic_version"),
    "a value": (2, "SELECT 1;\nUPDATE main.[Alembic_Version] SET version_num = 'y';", "alembic_version"),
    "no row": (1, "DELETE FROM alembic_version;", "alembic_version"),
    "dropped": (2, "\nDROP TABLE IF EXISTS migration_log;", "migration_log"),
    "dropped and made again": (
        *(1, "DROP TABLE alembic_version;\nCREATE TABLE alembic_version (version_num);"),
        "alembic_version",
    ),
    "renamed": (1, "ALTER TABLE alembic_version RENAME TO version;", "alembic_version"),
    "a column": (1, "ALTER TABLE migration_log ADD COLUMN x;", "migration_log"),
    "an index": (1, "CREATE INDEX i ON migration_log (at);", "migration_log"),
    "a trigger on it": (
        1,
        "CREATE TRIGGER spy AFTER INSERT ON migration_log BEGIN SELECT 1; END;",
        "migration_log",
    ),
    "a row of the log": (
        1,
        "UPDATE migration_log SET checksum = '' WHERE version = '0001';",
        "migration_log",
    ),
    "both": (
        *(1, "DELETE FROM migration_log;\nDELETE FROM alembic_version;"),
        "alembic_version and migration_log",
    ),
    "through a trigger": (0, "INSERT INTO t VALUES (1);", "migration_log"),
    "through a view": (0, "INSERT INTO door VALUES ('z');", "alembic_version"),
    "through a new trigger": (
        0,
        "CREATE TRIGGER n AFTER DELETE ON t BEGIN INSERT INTO door VALUES ('z'); END;\n"
        "INSERT INTO t VALUES (0); DELETE FROM t;",
        "alembic_version",
    ),
    "through WITH": (1, "WITH x AS (SELECT 1) DELETE FROM alembic_version;", "alembic_version"),
    "behind a TEMP table": (
        2,
        "CREATE TEMP TABLE alembic_version (a);\nDROP TABLE main.alembic_version;",
        "alembic_version",
    ),
    "by hand": (
        0,
        "PRAGMA writable_schema = ON;\nUPDATE sqlite_master SET sql = replace(sql, 'TEXT', 'ANY');",
        "migration_log",
    ),
}
BASE = "CREATE TABLE t (a);\nCREATE VIEW door AS SELECT version_num FROM alembic_version;"
# What no file may make.
DOORS = (
    "CREATE TRIGGER g AFTER INSERT ON t WHEN new.a > 0 BEGIN DELETE FROM migration_log; END;\n"
    "CREATE TRIGGER h INSTEAD OF INSERT ON door "
    "BEGIN UPDATE alembic_version SET version_num = new.version_num; END;"
)


@pytest.mark.parametrize("owner", ["path", "connection"])
@pytest.mark.parametrize("name", OURS)
def test_a_migration_that_changes_the_runners_tables_is_refused(
    name: str, owner: str, migrations: Path, database: Path
) -> None:
    line, step, tables = OURS[name]
    prepared(Case(BASE, DOORS, step), migrations, database)
    before = contents(database)
    file = f"{migrations}/0002_step.up.sql"
    where = f"{file}:{line}" if line else file
    with closing(sqlite3.connect(database)) as connection, pytest.raises(MigrationError) as caught:
        migrate(database if owner == "path" else connection, migrations)
    error = caught.value
    if line:  # the text tells it, so it is refused before the database is touched
        assert isinstance(error, HistoryError)
        assert re.match(re.escape(f"{where}: leave ") + ".*" + re.escape(tables.split()[-1]), str(error))
        assert str(error).endswith(f"; {database} was not touched")
    else:
        assert isinstance(error, StepError)
        assert error.version == "0002"
        assert str(error) == (
            f"{where}: changes {tables}, which only the runner may change; "
            f"rolled back, {database} is still at 0001"
        )
    assert (error.file, error.line) == (file, line)
    assert contents(database) == before


@pytest.mark.parametrize(
    "step",
    [
        "CREATE TABLE seen AS SELECT * FROM alembic_version;",
        "INSERT INTO t SELECT -count(*) FROM migration_log;",
        "-- alembic_version\nINSERT INTO t VALUES ('alembic_version' || -1);",
        "-- vmpilot: no-transaction\nPRAGMA reverse_unordered_selects = ON;\nSELECT * FROM migration_log;",
    ],
)
def test_a_migration_may_look_at_the_runners_tables(step: str, migrations: Path, database: Path) -> None:
    legacy = DOORS.replace("new.a > 0", "typeof(new.a) = 'integer' AND new.a > 0")
    tried(Case(BASE, legacy, step), migrations, database)


@pytest.mark.parametrize(
    ("legacy", "step", "tables"),
    [
        ("", OURS["by hand"][1], "migration_log"),
        (
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE Alembic_Version SET version_num = 1; END;",
            "INSERT INTO t VALUES (1);",
            "alembic_version",
        ),
        (
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM alembic_version; DELETE FROM migration_log; END;",
            "INSERT INTO t VALUES (1);",
            "alembic_version and migration_log",
        ),
    ],
)
def test_a_change_of_the_runners_tables_is_seen_where_nothing_else_reaches_them(
    legacy: str, step: str, tables: str, migrations: Path, database: Path
) -> None:
    prepared(Case("CREATE TABLE t (a);", legacy, step), migrations, database)
    message = (
        f"{migrations}/0002_step.up.sql: changes {tables}, which only the runner may change; "
        f"rolled back, {database} is still at 0001"
    )
    refusal(lambda: migrate(database, migrations), message)


def test_a_temporary_trigger_of_the_caller_reaches_the_runners_tables(
    migrations: Path, database: Path
) -> None:
    prepared(Case("CREATE TABLE t (a);", "", "INSERT INTO t VALUES (1);"), migrations, database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM migration_log; END")
        message = (
            f"{migrations}/0002_step.up.sql: changes migration_log, which only the runner may change; "
            f"rolled back, {database} is still at 0001"
        )
        refusal(lambda: migrate(connection, migrations), message)


def test_the_runners_tables_are_not_touched_outside_a_transaction(migrations: Path, database: Path) -> None:
    alone = "-- vmpilot: no-transaction\nVACUUM;\nUPDATE alembic_version SET version_num = '0002';"
    prepared(Case("CREATE TABLE t (a);", "", alone), migrations, database)
    message = (
        f"{migrations}/0002_step.up.sql:3: leave this line out: the runner keeps alembic_version itself; "
        f"{database} was not touched"
    )
    with pytest.raises(HistoryError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == message


def test_a_step_that_cannot_reach_the_runners_tables_does_not_pay_for_them(
    migrations: Path, database: Path
) -> None:
    prepared(Case(SHOP, "", "INSERT INTO goods (name) VALUES ('a');"), migrations, database)
    assert [sql for sql in executed(database, migrations) if "hex(version_num)" in sql] == []


def test_many_broken_triggers_of_a_table_cost_as_many_looks(migrations: Path, database: Path) -> None:
    """Whoever writes a database could keep a start-up busy for hours otherwise."""
    write(migrations, "0001_base", "CREATE TABLE t (a);")
    migrate(database, migrations)
    many = "".join(
        f"CREATE TRIGGER g{at} AFTER INSERT ON t BEGIN SELECT nope FROM nowhere; END;" for at in range(50)
    )
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(many)
    write(migrations, "0002_step", "CREATE INDEX i ON t (a);")
    # Each is dropped, made, looked at for one statement and dropped again; before the step, and after it.
    assert count(executed(database, migrations), "") < 2 * 50 * 8


def test_what_did_not_compile_before_is_no_fault_of_a_later_step_either(
    migrations: Path, database: Path
) -> None:
    """The first of them looks at another view only."""
    write(migrations, "0001_base", "CREATE TABLE t (a);\nCREATE TABLE u (a);")
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE VIEW old AS SELECT * FROM t, gone")
    write(migrations, "0002_view", "CREATE VIEW fine AS SELECT * FROM u;")
    write(migrations, "0003_column", "ALTER TABLE t ADD COLUMN b;")
    assert len(migrate(database, migrations)) == 2


@pytest.mark.parametrize("name", ['q"x', "q`x", "q]x", "Q x"])
def test_a_name_with_a_quote_is_that_name_however_it_is_spelled(
    name: str, migrations: Path, database: Path
) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    base = f"CREATE TABLE {quoted} (a);\nCREATE TABLE u (a);\nCREATE VIEW w AS SELECT a FROM {quoted};"
    write(migrations, "0001_base", f"{base}\nCREATE VIEW other AS SELECT * FROM u;")
    migrate(database, migrations)
    write(migrations, "0002_step", f"ALTER TABLE u ADD COLUMN b;\nDROP TABLE {quoted};")
    with pytest.raises(StepError, match="w does not compile any more"):
        migrate(database, migrations)


FIRED = (
    "CREATE TRIGGER t AFTER DELETE ON other BEGIN DELETE FROM parent; END;\nINSERT INTO other VALUES (1);\n"
)


@pytest.mark.parametrize(
    ("step", "rows", "advice"),
    [
        ("INSERT INTO child VALUES (9, 9);", ["row 9"], UNGUARDED),
        ("UPDATE child SET parent = 9 WHERE id = 1;", ["row 1"], UNGUARDED),
        ("REPLACE INTO child VALUES (1, 9);", ["row 1"], UNGUARDED),
        ("UPDATE parent SET id = 9 WHERE id = 1;", ["row 1"], KEYS_ON),
        ("INSERT OR REPLACE INTO child VALUES (1, 2); DELETE FROM parent WHERE id = 2;", ["row 1", "row 2"], KEYS_ON),
        ("DELETE FROM other;", ["row 1", "row 2"], KEYS_ON),
    ],
)  # fmt: skip
def test_actions_are_an_advice_only_where_parents_can_have_gone(
    step: str, rows: list[str], advice: str, migrations: Path, database: Path
) -> None:
    prepared(Case(FAMILY + OTHER + FIRED, "", step), migrations, database)
    message = (
        f"{migrations}/0002_step.up.sql: {orphans(*rows)}; rolled back, {database} is still at 0001{advice}"
    )
    refusal(lambda: migrate(database, migrations), message)
    if advice == KEYS_ON:  # which works
        write(migrations, "0002_step", f"{CASCADE}{step}")
        if "UPDATE" not in step:  # of the key only ON DELETE is declared
            assert [found.version for found in migrate(database, migrations)] == ["0002"]


def test_the_version_is_put_back_whatever_letters_a_database_keeps(migrations: Path, database: Path) -> None:
    change(database, "PRAGMA encoding = 'UTF-16'", "CREATE TABLE t (a)")
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a);")
    migrate(database, migrations)
    sets = "UPDATE alembic_version SET version_num = '9'"
    change(database, f"CREATE TRIGGER g AFTER INSERT ON t BEGIN {sets}; END")
    write(migrations, "0002_u", "-- vmpilot: no-transaction\nINSERT INTO t VALUES (1);")
    with pytest.raises(StepError, match="changes alembic_version"):
        migrate(database, migrations)
    assert query(database, "SELECT version_num FROM alembic_version") == [("0001",)]
