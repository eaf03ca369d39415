"""Proves what must hold before a step may commit: no new dangling row, nothing that stopped compiling.

Each refusal is compared with its whole message, and the database with what it was before the step.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import query, write

from vmpilot.migrate import AccessError, Progress, StepError, downgrade, history, migrate

PARENT = "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);\n"
CHILD = (
    "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id) ON DELETE CASCADE);\n"
)
FAMILY = (
    PARENT
    + CHILD
    + "INSERT INTO parent VALUES (1, 'a'), (2, 'b');\nINSERT INTO child VALUES (1, 1), (2, 2);\n"
)
WITHOUT_ROWID = CHILD.replace(");", ") WITHOUT ROWID;")


def rebuilt(table: str, columns: str, select: str = "*") -> str:
    return (
        f"CREATE TABLE new_{table} ({columns});\nINSERT INTO new_{table} SELECT {select} FROM {table};\n"
        f"DROP TABLE {table};\nALTER TABLE new_{table} RENAME TO {table};\n"
    )


def prepared(migrations: Path, database: Path, legacy: str, step: str, setup: str = FAMILY) -> None:
    """Make a database at 0001 that then holds `legacy`, with 0002 pending."""
    write(migrations, "0001_base", setup)
    migrate(database, migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(legacy)
    write(migrations, "0002_step", step)


def contents(database: Path) -> dict[bytes, list[tuple[object, ...]]]:
    """Return the schema and all rows of a database, texts as bytes because they need not be UTF-8."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        found = {
            b"": connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        }
        for kind, name, _ in found[b""]:
            if kind == b"table":
                found[name] = connection.execute(f'SELECT * FROM "{name.decode()}"').fetchall()
        return found


def refused(migrations: Path, database: Path, finding: str) -> None:
    """Expect that 0002 is refused with this finding and leaves nothing."""
    before = contents(database)
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    file = f"{migrations}/0002_step.up.sql"
    assert str(caught.value) == f"{file}: {finding}; rolled back, {database} is still at 0001"
    assert (caught.value.file, caught.value.line, caught.value.version) == (file, 0, "0002")
    assert caught.value.statement == ""
    assert contents(database) == before


def accepted(migrations: Path, database: Path) -> None:
    assert [step.version for step in migrate(database, migrations)] == ["0002"]


# --- foreign keys


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"])
@pytest.mark.parametrize("owner", ["path", "connection"])
def test_no_child_is_lost_or_changed_when_its_parent_is_rebuilt(
    migrations: Path, database: Path, owner: str, action: str
) -> None:
    write(migrations, "0001_base", FAMILY.replace("CASCADE", action))
    write(migrations, "0002_step", rebuilt("parent", "id INTEGER PRIMARY KEY, name TEXT NOT NULL"))
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


def test_a_dangling_row_is_refused_with_its_table_row_and_parent(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "", "DELETE FROM parent WHERE id = 2;")
    refused(migrations, database, "1 new foreign key violation: row 2 of child has no parent in parent")


def test_up_to_five_dangling_rows_are_shown(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "", "INSERT INTO child (parent) VALUES (9), (9), (9), (9), (9);")
    rows = ", ".join(f"row {number} of child has no parent in parent" for number in range(3, 8))
    refused(migrations, database, f"5 new foreign key violations: {rows}")


def test_of_more_dangling_rows_the_count_is_shown(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "", "INSERT INTO child (parent) VALUES (9), (9), (9), (9), (9), (9), (9);")
    rows = ", ".join(f"row {number} of child has no parent in parent" for number in range(3, 8))
    refused(migrations, database, f"7 new foreign key violations: {rows} and 2 more")


def test_a_row_without_rowid_is_refused_too(migrations: Path, database: Path) -> None:
    setup = PARENT + WITHOUT_ROWID
    prepared(migrations, database, "", "INSERT INTO child VALUES (5, 9);", setup)
    refused(migrations, database, "1 new foreign key violation: a row of child has no parent in parent")


def test_a_row_whose_number_is_hidden_by_a_column_is_refused_too(migrations: Path, database: Path) -> None:
    setup = PARENT + "CREATE TABLE child (_rowid_ TEXT, parent REFERENCES parent (id));"
    prepared(migrations, database, "", "INSERT INTO child VALUES ('x', 9);", setup)
    refused(migrations, database, "1 new foreign key violation: row 1 of child has no parent in parent")


def test_a_key_of_two_columns_is_checked(migrations: Path, database: Path) -> None:
    setup = (
        "CREATE TABLE pair (a, b, PRIMARY KEY (a, b));\n"
        'CREATE TABLE "a child" (x, y, FOREIGN KEY (x, y) REFERENCES pair (a, b));\n'
    )
    prepared(
        migrations,
        database,
        'INSERT INTO "a child" VALUES (1, 1)',
        'INSERT INTO "a child" VALUES (1, 2);',
        setup,
    )
    refused(migrations, database, "1 new foreign key violation: row 2 of a child has no parent in pair")


def test_a_key_that_the_step_declares_is_checked(migrations: Path, database: Path) -> None:
    setup = (
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);\n"
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent);\n"
    )
    step = rebuilt("child", "id INTEGER PRIMARY KEY, parent references parent")
    prepared(migrations, database, "INSERT INTO child VALUES (4, 9)", step, setup)
    refused(migrations, database, "1 new foreign key violation: row 4 of child has no parent in parent")


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("INSERT INTO parent VALUES (3, 'c');", id="unrelated"),
        pytest.param("INSERT INTO parent VALUES (98, 'x');", id="repairs one"),
        pytest.param("DELETE FROM child WHERE parent > 2;", id="repairs all"),
        pytest.param(rebuilt("child", CHILD[20:-3]), id="rebuilt"),
        pytest.param(rebuilt("child", CHILD[20:-3], "id + 100, parent"), id="rows renumbered"),
        pytest.param(rebuilt("child", CHILD[20:-3].replace("parent INTEGER", "parent TEXT")), id="retyped"),
        pytest.param(
            rebuilt("child", CHILD[20:-3] + " WITHOUT ROWID").replace(" WITHOUT ROWID)", ") WITHOUT ROWID"),
            id="rebuilt without rowid",
        ),
        pytest.param("ALTER TABLE child RENAME TO kid;", id="child renamed"),
        pytest.param("ALTER TABLE parent RENAME TO mother;", id="parent renamed"),
        pytest.param("ALTER TABLE child RENAME COLUMN parent TO mother;", id="key renamed"),
    ],
)
def test_rows_that_were_dangling_before_stop_no_step(migrations: Path, database: Path, step: str) -> None:
    prepared(migrations, database, "INSERT INTO child VALUES (8, 98), (9, 99), (10, 99);", step)
    accepted(migrations, database)


@pytest.mark.parametrize("child", [CHILD, WITHOUT_ROWID], ids=["rowid", "without rowid"])
def test_a_repaired_row_does_not_pay_for_a_new_dangling_one(
    migrations: Path, database: Path, child: str
) -> None:
    step = "DELETE FROM child WHERE parent = 98;\nINSERT INTO child VALUES (30, 77);"
    prepared(migrations, database, "INSERT INTO child VALUES (8, 98), (9, 99);", step, PARENT + child)
    row = "row 30" if child == CHILD else "a row"
    refused(migrations, database, f"1 new foreign key violation: {row} of child has no parent in parent")


def test_one_more_row_with_a_key_that_dangled_before_is_refused(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "INSERT INTO child VALUES (9, 99);", "INSERT INTO child VALUES (10, 99);")
    refused(migrations, database, "1 new foreign key violation: row 10 of child has no parent in parent")


def test_a_key_that_is_not_utf8_is_compared_like_any_other(migrations: Path, database: Path) -> None:
    setup = (
        "CREATE TABLE parent (id TEXT PRIMARY KEY);\nCREATE TABLE child (parent TEXT REFERENCES parent);\n"
    )
    legacy = "INSERT INTO child VALUES (CAST(x'41ff' AS TEXT))"
    prepared(migrations, database, legacy, "INSERT INTO child VALUES (CAST(x'42ff' AS TEXT));", setup)
    refused(migrations, database, "1 new foreign key violation: row 2 of child has no parent in parent")


MISMATCH = 'foreign key mismatch - "child" referencing "parent"'
NOT_UNIQUE = (
    "CREATE TABLE parent (id INTEGER);\nCREATE TABLE child (parent INTEGER REFERENCES parent (id));\n"
)


def test_a_parent_key_that_is_not_unique_is_a_finding(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "", NOT_UNIQUE, "CREATE TABLE other (a);")
    refused(migrations, database, f"1 new foreign key violation: {MISMATCH}")


def test_a_parent_key_that_was_not_unique_before_stops_no_step(migrations: Path, database: Path) -> None:
    prepared(migrations, database, NOT_UNIQUE, "INSERT INTO child VALUES (1);", "CREATE TABLE other (a);")
    accepted(migrations, database)


def test_a_parent_key_that_is_not_unique_hides_no_other_table(migrations: Path, database: Path) -> None:
    other = NOT_UNIQUE.replace("parent", "p2").replace("child", "c2")
    prepared(migrations, database, other + FAMILY, "DELETE FROM parent;", "CREATE TABLE other (a);")
    rows = "row 1 of child has no parent in parent, row 2 of child has no parent in parent"
    refused(migrations, database, f"2 new foreign key violations: {rows}")


def test_making_a_parent_key_unique_is_welcome_though_it_brings_old_rows_to_light(
    migrations: Path, database: Path
) -> None:
    legacy = NOT_UNIQUE + "INSERT INTO child VALUES (1);"
    prepared(
        migrations,
        database,
        legacy,
        "CREATE UNIQUE INDEX parent_id ON parent (id);",
        "CREATE TABLE other (a);",
    )
    accepted(migrations, database)


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
            with closing(sqlite3.connect(database)) as other:
                other.executescript(
                    "INSERT INTO child VALUES (4, 99); CREATE VIEW v AS SELECT * FROM nowhere;"
                )

    assert len(migrate(database, migrations, progress=disturb)) == 2
    assert query(database, "SELECT count(*) FROM child") == [(4,)]


@pytest.mark.parametrize("ddl", [str.upper, str.lower], ids=["upper case", "lower case"])
def test_foreign_keys_are_seen_whatever_like_means_to_the_caller(
    migrations: Path, database: Path, ddl
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


@pytest.mark.parametrize(
    ("extra", "step", "finding"),
    [
        pytest.param(
            "", "DROP TABLE goods;", "offer does not compile any more: no such table: main.goods", id="table"
        ),
        pytest.param(
            "CREATE VIEW cheap AS SELECT * FROM offer;",
            "DROP VIEW offer;",
            "cheap does not compile any more: no such table: main.offer",
            id="view",
        ),
        pytest.param(
            "",
            "PRAGMA legacy_alter_table = ON;\nALTER TABLE goods DROP COLUMN price;",
            "offer does not compile any more: no such column: price",
            id="column",
        ),
        pytest.param(
            "",
            "PRAGMA legacy_alter_table = ON;\nALTER TABLE goods RENAME TO things;",
            "offer does not compile any more: no such table: main.goods",
            id="rename",
        ),
        pytest.param(
            "CREATE VIEW named AS SELECT name FROM goods INDEXED BY goods_name WHERE name = 'x';",
            "DROP INDEX goods_name;",
            "named does not compile any more: no such index: goods_name",
            id="index",
        ),
        pytest.param(
            "CREATE TRIGGER note AFTER INSERT ON sold BEGIN INSERT INTO audit VALUES ('sold'); END;",
            "DROP TABLE audit;",
            "note does not compile any more: no such table: main.audit",
            id="trigger's table",
        ),
        pytest.param(
            "CREATE TRIGGER note AFTER INSERT ON sold BEGIN "
            "INSERT INTO goods (name) VALUES ('x') ON CONFLICT (name) DO NOTHING; END;",
            "DROP INDEX goods_name;",
            "note does not compile any more: ON CONFLICT clause does not match any PRIMARY KEY or "
            "UNIQUE constraint",
            id="trigger's index",
        ),
        pytest.param(
            "CREATE TRIGGER note INSTEAD OF INSERT ON offer BEGIN INSERT INTO audit VALUES ('x'); END;",
            "DROP TABLE audit;",
            "note does not compile any more: no such table: main.audit",
            id="trigger on a view",
        ),
        pytest.param(
            "CREATE TRIGGER note INSTEAD OF UPDATE OF price ON offer WHEN new.price > 1 "
            "BEGIN INSERT INTO audit VALUES ('x'); END;",
            "DROP TABLE audit;",
            "note does not compile any more: no such table: main.audit",
            id="update trigger on a view",
        ),
        pytest.param(
            "CREATE TRIGGER note AFTER UPDATE OF at ON sold BEGIN INSERT INTO audit VALUES ('x'); END;",
            "DROP TABLE audit;",
            "note does not compile any more: no such table: main.audit",
            id="update trigger",
        ),
        pytest.param(
            "CREATE TRIGGER note BEFORE DELETE ON sold BEGIN INSERT INTO audit VALUES ('x'); END;",
            "DROP TABLE audit;",
            "note does not compile any more: no such table: main.audit",
            id="delete trigger",
        ),
        pytest.param(
            "CREATE TRIGGER note BEFORE DELETE ON sold BEGIN INSERT INTO audit VALUES ('x'); END;",
            "CREATE TEMP TABLE sold AS SELECT * FROM sold;\nDROP TABLE audit;",
            "note does not compile any more: no such table: main.audit",
            id="behind a TEMP table",
        ),
        pytest.param(
            "",
            "CREATE TEMP TABLE offer AS SELECT * FROM offer;\nDROP TABLE goods;",
            "offer does not compile any more: no such table: main.goods",
            id="view behind a TEMP table",
        ),
    ],
)
def test_what_compiled_before_and_does_not_after_is_refused(
    migrations: Path, database: Path, extra: str, step: str, finding: str
) -> None:
    prepared(migrations, database, "", step, SHOP + extra)
    refused(migrations, database, finding)


def test_all_that_a_step_breaks_is_named(migrations: Path, database: Path) -> None:
    extra = (
        "CREATE VIEW dear AS SELECT * FROM goods WHERE price > 9;"
        "CREATE TRIGGER gone AFTER DELETE ON sold BEGIN DELETE FROM goods WHERE id = old.good; END;"
    )
    prepared(migrations, database, "", "DROP TABLE goods;", SHOP + extra)
    words = "does not compile any more: no such table: main.goods"
    refused(migrations, database, f"dear {words}; offer {words}; gone {words}")


def test_of_several_triggers_on_a_table_the_one_that_breaks_is_named(
    migrations: Path, database: Path
) -> None:
    body = "BEGIN INSERT INTO {} VALUES ('x'); END;"
    extra = (
        "CREATE TABLE notes (a);"
        + "CREATE TRIGGER first AFTER INSERT ON sold "
        + body.format("notes")
        + "CREATE TRIGGER second AFTER INSERT ON sold "
        + body.format("audit")
        + "CREATE TRIGGER third BEFORE UPDATE ON sold "
        + body.format("notes")
        + "CREATE TRIGGER fourth AFTER DELETE ON sold "
        + body.format("notes")
    )
    prepared(migrations, database, "", "DROP TABLE audit;", SHOP + extra)
    refused(migrations, database, "second does not compile any more: no such table: main.audit")


def test_two_triggers_that_break_are_both_named(migrations: Path, database: Path) -> None:
    extra = (
        "CREATE TRIGGER first AFTER INSERT ON sold BEGIN DELETE FROM audit; END;"
        "CREATE TRIGGER second AFTER INSERT ON sold BEGIN DELETE FROM audit; END;"
        "CREATE TRIGGER third AFTER INSERT ON sold BEGIN DELETE FROM goods; END;"
    )
    prepared(migrations, database, "", "DROP TABLE audit;", SHOP + extra)
    words = "does not compile any more: no such table: main.audit"
    refused(migrations, database, f"first {words}; second {words}")


def test_a_view_and_a_trigger_of_one_name_are_told_apart(migrations: Path, database: Path) -> None:
    extra = (
        "CREATE VIEW note AS SELECT * FROM nowhere;"
        "CREATE TRIGGER note AFTER INSERT ON sold BEGIN INSERT INTO audit VALUES ('x'); END;"
    )
    prepared(migrations, database, "", "DROP TABLE audit;", SHOP + extra)
    refused(migrations, database, "note does not compile any more: no such table: main.audit")


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("CREATE TABLE another (a);", id="unrelated"),
        pytest.param("DROP TABLE audit;", id="drops its table"),
        pytest.param("CREATE TABLE nowhere (x);", id="mends one"),
        pytest.param("CREATE TRIGGER more AFTER INSERT ON goods BEGIN SELECT 1; END;", id="adds a trigger"),
        pytest.param("CREATE VIEW another AS SELECT 1;", id="adds a view"),
        pytest.param("DROP VIEW lost;", id="drops it"),
    ],
)
def test_what_was_broken_before_stops_no_step(migrations: Path, database: Path, step: str) -> None:
    legacy = (
        "CREATE VIEW lost AS SELECT x FROM nowhere;"
        "CREATE TRIGGER lost_too AFTER INSERT ON sold BEGIN INSERT INTO nowhere VALUES (1); END;"
        "CREATE TRIGGER fine AFTER DELETE ON sold BEGIN INSERT INTO goods (name) VALUES ('x'); END;"
    )
    prepared(migrations, database, legacy, step, SHOP)
    accepted(migrations, database)
    assert query(database, "SELECT count(*) FROM sqlite_master WHERE name = 'fine'") == [(1,)]


def test_a_view_that_is_created_broken_and_mended_by_the_next_step_passes(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_view", "CREATE VIEW v AS SELECT * FROM t;")
    write(migrations, "0002_table", "CREATE TABLE t (a);")
    write(migrations, "0003_drop", "DROP TABLE t;")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0003_drop.up.sql: v does not compile any more: no such table: main.t; "
        f"rolled back, {database} is still at 0002"
    )


def test_a_view_that_the_step_drops_and_creates_again_passes(migrations: Path, database: Path) -> None:
    step = "DROP VIEW offer;\n" + rebuilt("goods", "id INTEGER PRIMARY KEY, title TEXT, price INTEGER")
    prepared(migrations, database, "", step + "CREATE VIEW offer AS SELECT title FROM goods;", SHOP)
    accepted(migrations, database)


def test_a_view_that_the_step_drops_and_creates_broken_is_refused(migrations: Path, database: Path) -> None:
    step = "DROP VIEW offer;\nDROP TABLE goods;\nCREATE VIEW offer AS SELECT name FROM goods;"
    prepared(migrations, database, "", step, SHOP)
    refused(migrations, database, "offer does not compile any more: no such table: main.goods")


def test_the_look_at_triggers_changes_nothing(migrations: Path, database: Path) -> None:
    extra = "".join(
        f"CREATE TRIGGER t{number} AFTER INSERT ON sold BEGIN INSERT INTO {table} VALUES ('x'); END;"
        for number, table in enumerate(["audit", "nowhere", "audit"])
    )
    prepared(
        migrations, database, "INSERT INTO goods (name) VALUES ('x')", "CREATE TABLE more (a);", SHOP + extra
    )
    before = contents(database)
    accepted(migrations, database)
    after = contents(database)
    assert {row for row in after[b""] if row not in before[b""]} == {
        (b"table", b"more", b"CREATE TABLE more (a)")
    }
    assert [row for row in before[b""] if row not in after[b""]] == []
    assert {name for name in before if name and before[name] != after[name]} == {
        b"alembic_version",
        b"migration_log",
    }


# --- tables that cannot be read


@pytest.mark.parametrize("name", ["sold", "main . sold", '"sold"', "[sold] ", "/* sold */ `sold`", "'sold'"])
@pytest.mark.parametrize("column", ["AS (slugify(at))", "GENERATED ALWAYS AS (slugify(at)) VIRTUAL"])
def test_a_generated_column_with_an_unknown_function_is_refused(
    migrations: Path, database: Path, name: str, column: str
) -> None:
    prepared(migrations, database, "", f"ALTER TABLE {name} ADD COLUMN slug TEXT {column};", SHOP)
    refused(migrations, database, "table sold cannot be read any more: unknown function: slugify()")


def test_a_quoted_name_needs_no_blank_before_it(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "", 'ALTER TABLE"sold"ADD COLUMN slug TEXT AS (slugify(at));', SHOP)
    refused(migrations, database, "table sold cannot be read any more: unknown function: slugify()")


def test_a_generated_column_with_the_callers_function_passes(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", "CREATE TABLE t (a TEXT, b TEXT AS (slugify(a)));")
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("slugify", 1, str.lower, deterministic=True)
        assert len(migrate(connection, migrations)) == 1


def test_a_table_that_could_not_be_read_before_stops_no_step(migrations: Path, database: Path) -> None:
    setup = "CREATE TABLE t (a TEXT);"
    legacy = "ALTER TABLE t ADD COLUMN b TEXT AS (slugify(a));"
    prepared(migrations, database, legacy, "ALTER TABLE t ADD COLUMN c TEXT AS (1);", setup)
    accepted(migrations, database)


# --- the transaction


@pytest.mark.parametrize(
    "statement",
    ["INSERT OR ROLLBACK INTO t VALUES (1)", "INSERT INTO guarded VALUES (1)"],
    ids=["OR ROLLBACK", "RAISE ROLLBACK"],
)
def test_a_statement_that_ends_the_transaction_is_reported_with_its_own_reason(
    migrations: Path, database: Path, statement: str
) -> None:
    setup = (
        "CREATE TABLE t (a UNIQUE);\nINSERT INTO t VALUES (1);\nCREATE TABLE guarded (a);\n"
        "CREATE TRIGGER no BEFORE INSERT ON guarded BEGIN SELECT RAISE(ROLLBACK, 'not here'); END;"
    )
    prepared(
        migrations, database, "", f"CREATE TABLE lost (a);\n{statement};\nCREATE TABLE later (a);", setup
    )
    before = contents(database)
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    reason = "UNIQUE constraint failed: t.a" if "OR" in statement else "not here"
    assert str(caught.value) == (
        f"{migrations}/0002_step.up.sql:2: {reason}; rolled back, {database} is still at 0001"
    )
    assert (caught.value.line, caught.value.statement) == (2, statement)
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


@pytest.mark.parametrize(
    ("at", "statement", "reason"),
    [
        (
            1,
            "INSERT INTO alembic_version VALUES ('0042');",
            "0 rows of alembic_version changed from base to 0001",
        ),
        (
            2,
            "UPDATE alembic_version SET version_num = '0042';",
            "0 rows of alembic_version changed from 0001 to 0002",
        ),
        (2, "DELETE FROM alembic_version;", "0 rows of alembic_version changed from 0001 to 0002"),
    ],
)
def test_a_step_that_moves_the_version_itself_is_refused(
    migrations: Path, database: Path, at: int, statement: str, reason: str
) -> None:
    """As scripts do that another tool wrote."""
    write(migrations, "0001_first", "CREATE TABLE t (a);" + statement * (at == 1))
    write(migrations, "0002_second", "CREATE TABLE u (a);" + statement * (at == 2))
    with pytest.raises(AccessError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == f"{database}: {reason}, expected one; rolled back"
    rows = [("0001",)] if at == 2 else []
    assert [entry.version for entry in history(database, migrations) if entry.state == "applied"] == [
        version for (version,) in rows
    ]


def test_a_step_that_drops_the_version_table_is_refused(migrations: Path, database: Path) -> None:
    write(migrations, "0001_first", "DROP TABLE alembic_version;")
    with pytest.raises(AccessError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{database}: no such table: main.alembic_version; rolled back, nothing was changed"
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
    assert count(seen, "SAVEPOINT") == 0
    steps = count(seen, "BEGIN IMMEDIATE")
    assert steps == 5
    assert len(seen) < 40 * steps


def test_foreign_keys_cost_one_check_before_the_run_and_one_a_step(migrations: Path, database: Path) -> None:
    prepared(migrations, database, "INSERT INTO child VALUES (9, 99)", "INSERT INTO child VALUES (3, 1);")
    write(migrations, "0003_more", "INSERT INTO child VALUES (4, 1);")
    write(migrations, "0004_more", "INSERT INTO child VALUES (5, 1);")
    assert count(executed(database, migrations), "PRAGMA foreign_key_check") == 4


def test_views_are_compiled_only_where_a_step_could_break_them(migrations: Path, database: Path) -> None:
    write(migrations, "0001_base", SHOP + "CREATE VIEW other AS SELECT 1;")
    migrate(database, migrations)
    write(migrations, "0002_rows", "INSERT INTO goods (name) VALUES ('a');")
    write(migrations, "0003_rows", "UPDATE goods SET price = 1;")
    assert count(executed(database, migrations), "EXPLAIN") == 2  # each view, once before the run
    write(migrations, "0004_table", "CREATE TABLE more (a);")
    assert count(executed(database, migrations), "EXPLAIN") == 4
