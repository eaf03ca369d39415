"""Proves that a database with tables of its own is taken over only if they are the ones that the files mean.

Refused: what a step creates has another structure than what the same migrations make of an empty database.
The database keeps every byte then, and the message shows each difference. VMPilot's own past is tested with
the migrations that ship.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import change, pasteable, query, ran, write

from vmpilot.migrate import Progress, StepError, current, downgrade, migrate, stamp


def made(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(sql)


def refused(migrations: Path, database: Path, name: str, at: str, differences: str) -> None:
    """Expect that the up file `name` is refused with these differences, and that no byte changes."""
    before = database.read_bytes()
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    file = f"{migrations}/{name}.up.sql"
    assert str(caught.value) == told(file, database, differences, f"rolled back, {database} is still at {at}")
    assert (caught.value.file, caught.value.line, caught.value.version) == (file, 0, name[:4])
    assert database.read_bytes() == before


def told(file: object, database: Path, differences: str, fate: str) -> str:
    """Return the message that refuses an up file."""
    version = str(file).rpartition("/")[2][:4]
    return pasteable(
        f"{file}: {database} is not as this file makes it: {differences}; {fate}; "
        f"to take it over as it is, run: python3 -m vmpilot.migrate stamp {version}",
        database,
        Path(str(file)).parent,
    )


# --- what makes a difference

T = "CREATE TABLE IF NOT EXISTS t (a TEXT);"
WANTED = "CREATE TABLE IF NOT EXISTS t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, PRIMARY KEY (a, c));"
CASES = {
    # What 0001 says, what the database has, and the difference, if it is one
    "a column less": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (a))",
        "~ table t PRIMARY KEY (a, c) -> PRIMARY KEY (a), - column t.c",
    ),
    "a column more": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, d BLOB, PRIMARY KEY (a, c))",
        "+ column t.d BLOB",
    ),
    "type": (
        WANTED,
        "CREATE TABLE t (a TEXT, b TEXT NOT NULL DEFAULT 1, c, PRIMARY KEY (a, c))",
        "~ column t.b INTEGER NOT NULL DEFAULT 1 -> TEXT NOT NULL DEFAULT 1",
    ),
    "NOT NULL": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER DEFAULT 1, c, PRIMARY KEY (a, c))",
        "~ column t.b INTEGER NOT NULL DEFAULT 1 -> INTEGER DEFAULT 1",
    ),
    "no default": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL, c, PRIMARY KEY (a, c))",
        "~ column t.b INTEGER NOT NULL DEFAULT 1 -> INTEGER NOT NULL",
    ),
    "another default": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 2, c, PRIMARY KEY (a, c))",
        "~ column t.b INTEGER NOT NULL DEFAULT 1 -> INTEGER NOT NULL DEFAULT 2",
    ),
    "the letters of a default": (
        "CREATE TABLE IF NOT EXISTS t (state TEXT DEFAULT 'Open');",
        "CREATE TABLE t (state TEXT DEFAULT 'open')",
        "~ column t.state TEXT DEFAULT 'Open' -> TEXT DEFAULT 'open'",
    ),
    "the order of a key": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, PRIMARY KEY (c, a))",
        "~ table t PRIMARY KEY (a, c) -> PRIMARY KEY (c, a)",
    ),
    "no key": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c)",
        "~ table t PRIMARY KEY (a, c) -> (none)",
    ),
    "a generated column": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c AS (1), PRIMARY KEY (a))",
        "~ table t PRIMARY KEY (a, c) -> PRIMARY KEY (a), ~ column t.c (none) -> GENERATED ALWAYS AS (1) VIRTUAL",
    ),
    **{
        f"written {statement}": (
            statement,
            "CREATE TABLE t (b TEXT)",
            "- column t.a TEXT, + column t.b TEXT",
        )
        for statement in (
            T,
            "create table if not exists main.t (a TEXT);",
            'CREATE TABLE IF NOT EXISTS "t" (a TEXT);',
            'CREATE TABLE IF NOT EXISTS"t"(a TEXT);',
            "CREATE /* 1 */ TABLE -- 2\n IF NOT EXISTS main . [t] (a TEXT);",
            "CREATE TABLE IF NOT EXISTS t AS SELECT CAST('x' AS TEXT) AS a;",
        )
    },
    "a view": (
        T,
        "CREATE TABLE u (a TEXT); CREATE VIEW t AS SELECT a FROM u",
        "- table t, + view t",
    ),
    **{
        f"another {what}": (
            f"CREATE TABLE IF NOT EXISTS t {meant};",
            f"CREATE TABLE u (id INTEGER PRIMARY KEY); CREATE TABLE t {found}",
            difference,
        )
        for what, meant, found, difference in (
            ("UNIQUE", "(a UNIQUE)", "(a)", "- unique on t (a)"),
            ("CHECK", "(a CHECK (a > 0))", "(a)", "- check on t (a > 0)"),
            ("foreign key", "(a REFERENCES u)", "(a)", "- foreign key t (a) -> u"),
            ("collation", "(a COLLATE NOCASE)", "(a)", "~ column t.a COLLATE NOCASE -> (none)"),
            ("table option", "(a INT) STRICT", "(a INT)", "~ table t STRICT -> (none)"),
            (
                "numbering",
                "(a INTEGER PRIMARY KEY AUTOINCREMENT)",
                "(a INTEGER PRIMARY KEY)",
                "~ table t PRIMARY KEY (a) AUTOINCREMENT -> PRIMARY KEY (a)",
            ),
            ("order", "(a, b)", "(b, a)", "~ table t columns in order (a, b) -> (b, a)"),
        )
    },
    **{
        f"another {kind}": (
            f"{T}\nCREATE {kind} IF NOT EXISTS {meant};",
            f"CREATE TABLE t (a TEXT); CREATE TABLE other (a); CREATE {kind} {found}",
            difference,
        )
        for kind, meant, found, difference in (
            ("INDEX", "i ON t (a)", "i ON t (a DESC)", "~ index i on t (a) -> (a DESC)"),
            ("INDEX", "j ON t (a)", "j ON other (a)", "- index j on t (a)"),
            ("VIEW", "v AS SELECT a FROM t", "v AS SELECT 1 AS a", "~ view v"),
            (
                "TRIGGER",
                "g AFTER INSERT ON t BEGIN SELECT 1; END",
                "g AFTER INSERT ON t BEGIN SELECT 2; END",
                "~ trigger g on t",
            ),
            ("VIRTUAL TABLE", "f USING fts5(a)", "f USING fts5(a, b)", "~ virtual table f"),
        )
    },
    # What is written otherwise
    "letters": (WANTED, 'create table "T" (A text, b integer not null default 1, C, primary key (A, C))', ""),
    "spelling": (
        "CREATE TABLE IF NOT EXISTS u (id INTEGER PRIMARY KEY);\n"
        "CREATE TABLE IF NOT EXISTS t (a TEXT DEFAULT 'x', b REFERENCES u, c CHECK (c > 0) DEFAULT FALSE);",
        'CREATE TABLE u (id INTEGER PRIMARY KEY); CREATE TABLE "t" (a text DEFAULT "x" COLLATE BINARY, b, '
        "c DEFAULT 0, CHECK ((c > 0)), FOREIGN KEY (b) REFERENCES u (id))",
        "",
    ),
    "blanks": ("CREATE TABLE IF NOT EXISTS t (a BIG INT);", "CREATE TABLE t (a BIG  \n INT)", ""),
    # What is nobody's business
    "an index that a later step can make": (T, "CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a)", ""),
    "a trigger that a later step can make": (
        T,
        "CREATE TABLE t (a TEXT); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "",
    ),
    "others": (T, "CREATE TABLE t (a TEXT); CREATE TABLE u (x); CREATE VIEW w AS SELECT * FROM u", ""),
    "a trigger of that name": (
        T,
        "CREATE TABLE u (a); CREATE TRIGGER t AFTER INSERT ON u BEGIN SELECT 1; END; CREATE TABLE t (a TEXT)",
        "",
    ),
    "made and dropped": (T + "\nDROP TABLE t;", "CREATE TABLE t (b TEXT); CREATE TABLE u (a)", ""),
    "a trigger that went with its table": (
        "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TABLE IF NOT EXISTS u (a TEXT);\n"
        "CREATE TRIGGER IF NOT EXISTS g AFTER INSERT ON u BEGIN SELECT 1; END;\nDROP TABLE u;",
        "CREATE TABLE t (a TEXT); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "",
    ),
    "a TEMP table of that name": (
        T + "\nCREATE TEMP TABLE u (a);",
        "CREATE TABLE t (a TEXT); CREATE TABLE u (b)",
        "",
    ),
    "rebuilt": (
        "CREATE TABLE IF NOT EXISTS t (b TEXT);\nCREATE TABLE new_t (a TEXT, b TEXT);\n"
        "INSERT INTO new_t (b) SELECT b FROM t;\nDROP TABLE t;\nALTER TABLE new_t RENAME TO t;",
        "CREATE TABLE t (b TEXT); INSERT INTO t VALUES ('x')",
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_makes_a_difference_and_what_makes_none(name: str, migrations: Path, database: Path) -> None:
    up, found, difference = CASES[name]
    write(migrations, "0001_t", up)
    made(database, f"{found};")
    if difference:
        refused(migrations, database, "0001_t", "base", difference)
    else:
        assert ran(migrate(database, migrations)) == ["0001"]


def test_a_table_that_a_later_step_rebuilds_passes(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (b TEXT);")
    write(migrations, "0002_t", CASES["rebuilt"][0])
    made(database, "CREATE TABLE t (b TEXT); INSERT INTO t VALUES ('x');")
    assert ran(migrate(database, migrations)) == ["0001", "0002"]


@pytest.mark.parametrize(
    "second",
    [
        "ALTER TABLE t ADD COLUMN b TEXT;",
        "CREATE TABLE new (a);\nALTER TABLE t RENAME TO u;",
        "CREATE TEMP TABLE t (b);",
        "CREATE INDEX IF NOT EXISTS i ON t (a);",
    ],
)
def test_what_others_add_to_a_table_between_two_steps_makes_none(
    second: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", T)
    write(migrations, "0002_t", second)
    made(database, "CREATE TABLE t (a TEXT);")
    migrate(database, migrations, target="0001")
    change(database, "ALTER TABLE t ADD COLUMN own TEXT")
    assert ran(migrate(database, migrations)) == ["0002"]


def test_an_index_is_compared_also_on_a_table_of_an_earlier_step(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", T)
    write(migrations, "0002_i", "CREATE INDEX IF NOT EXISTS i ON t (a);")
    made(database, "CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a DESC);")
    migrate(database, migrations, target="0001")
    refused(migrations, database, "0002_i", "0001", "~ index i on t (a) -> (a DESC)")


def test_a_step_that_runs_only_on_what_others_made_ends_the_comparison(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", T)
    write(migrations, "0002_t", "ALTER TABLE t ADD COLUMN b TEXT;\nINSERT INTO theirs VALUES (1);")
    write(migrations, "0003_t", f"{T}\nCREATE TABLE u AS SELECT * FROM t;")
    made(database, "CREATE TABLE t (a TEXT); CREATE TABLE theirs (a);")
    assert ran(migrate(database, migrations)) == ["0001", "0002", "0003"]


def test_only_an_upgrade_to_head_ends_the_comparison(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    migrate(database, migrations, target="0001")
    kept = {path: path.read_text() for path in migrations.glob("0002*")}
    for path in kept:
        path.unlink()
    downgrade(database, migrations, backup=False)
    for path, text in kept.items():
        path.write_text(text)
    migrate(database, migrations, target="0001")
    refused(migrations, database, "0002_u", "0001", difference)


def test_the_applications_own_functions_end_no_adoption(migrations: Path, database: Path) -> None:
    up = (
        "CREATE TABLE IF NOT EXISTS t (a TEXT);\nUPDATE t SET a = shout(a);\nALTER TABLE t ADD COLUMN b TEXT;"
    )
    write(migrations, "0001_t", up)
    write(migrations, "0002_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TABLE u AS SELECT * FROM t;")
    made(database, "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x');")
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("shout", 1, str.upper)
        assert ran(migrate(connection, migrations)) == ["0001", "0002"]
    assert query(database, "SELECT a, b FROM u") == [("X", None)]


def test_stamp_takes_a_database_over_as_it_is(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);")
    made(database, "CREATE TABLE t (b TEXT);")
    stamp("0001", database, migrations)
    assert migrate(database, migrations) == ()


def test_the_stamp_of_the_message_is_a_way_out_for_all_that_follows(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    write(migrations, "0003_u", "CREATE TABLE v AS SELECT * FROM u;")
    migrate(database, migrations, target="0001")
    refused(migrations, database, "0002_u", "0001", difference)
    stamp("0002", database, migrations)
    assert ran(migrate(database, migrations)) == ["0003"]


def test_what_has_been_compared_up_to_head_is_never_compared_again(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", T)
    made(database, "CREATE TABLE t (a TEXT); CREATE TABLE u (b TEXT);")
    migrate(database, migrations)
    notes = query(
        database, "SELECT version, to_version FROM migration_log WHERE action = 'adopt' ORDER BY id"
    )
    assert notes == [("", ""), ("0001", "0001")]
    write(migrations, "0002_u", "CREATE TABLE IF NOT EXISTS u (a TEXT);")
    assert ran(migrate(database, migrations)) == ["0002"]


@pytest.mark.parametrize(
    "others",
    [
        "_litestream_seq (id INTEGER)",
        "_litestream_lock (id)",
        "_cf_KV (key, value)",
        "d1_migrations (id, name)",
    ],
)
def test_tables_of_tools_make_no_adoption(others: str, migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", T)
    made(database, f"CREATE TABLE {others};")
    migrate(database, migrations)
    assert query(database, "SELECT action FROM migration_log") == [("upgrade",)]


def test_a_view_alone_makes_an_adoption(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", T)
    made(database, "CREATE VIEW t AS SELECT 1 AS a;")
    refused(migrations, database, "0001_t", "base", "- table t, + view t")


def test_the_applications_functions_are_used_to_compare(migrations: Path, database: Path) -> None:
    up = "CREATE TABLE IF NOT EXISTS t (a TEXT, b AS (shout(a)));"
    write(migrations, "0001_t", up)
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("shout", 1, str.upper, deterministic=True)
        connection.execute("CREATE TABLE t (a TEXT, b AS (shout(a || '!')))")
        with pytest.raises(StepError) as caught:
            migrate(connection, migrations)
    difference = (
        "~ column t.b GENERATED ALWAYS AS (shout(a)) VIRTUAL -> GENERATED ALWAYS AS (shout(a || '!')) VIRTUAL"
    )
    fate = f"rolled back, {database} is still at base"
    assert str(caught.value) == told(f"{migrations}/0001_t.up.sql", database, difference, fate)


def test_a_table_that_exists_and_may_not_is_sqlites_own_affair(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "SELECT 1;\nCREATE TABLE t (a TEXT);")
    made(database, "CREATE TABLE t (a TEXT);")
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == (
        f"{migrations}/0001_t.up.sql:2: table t already exists; rolled back, {database} is still at base"
    )


# --- more than one step


def two_steps(migrations: Path, database: Path) -> str:
    """Make a database whose second table differs, and return the difference."""
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TEMP TABLE scratch (a);")
    write(migrations, "0002_u", "CREATE TEMP TABLE scratch (b);\nCREATE TABLE IF NOT EXISTS u (a TEXT);")
    made(database, "CREATE TABLE t (a TEXT); CREATE TABLE u (b TEXT);")
    return "- column u.a TEXT, + column u.b TEXT"


def test_a_later_step_is_checked_too(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    migrate(database, migrations, target="0001")
    refused(migrations, database, "0002_u", "0001", difference)


def test_what_was_refused_is_refused_again_until_it_is_mended(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    with pytest.raises(StepError):
        migrate(database, migrations)
    for _ in range(2):
        refused(migrations, database, "0002_u", "0001", difference)
    made(database, "ALTER TABLE u RENAME COLUMN b TO a;")
    assert ran(migrate(database, migrations)) == ["0002"]


SAME = "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TABLE v AS SELECT * FROM t;"
OTHER = "CREATE TABLE IF NOT EXISTS u (a TEXT);"


@pytest.mark.parametrize(("third", "passes"), [(SAME, True), (OTHER, False)])
@pytest.mark.parametrize("faster", [False, True], ids=["alone", "another process does the second"])
def test_a_table_is_compared_with_what_all_steps_before_made_of_it(
    third: str, passes: bool, faster: bool, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", T)
    write(migrations, "0002_t", "ALTER TABLE t ADD COLUMN b TEXT;")
    write(migrations, "0003_u", third)
    made(database, "CREATE TABLE t (a TEXT); CREATE TABLE u (b TEXT);")

    def another(progress: Progress) -> None:
        if faster and progress.done and progress.step.version == "0001":
            assert ran(migrate(database, migrations, target="0002")) == ["0002"]

    if passes:
        done = ran(migrate(database, migrations, progress=another))
        assert done == (["0001", "0003"] if faster else ["0001", "0002", "0003"])
        return
    with pytest.raises(StepError) as caught:
        migrate(database, migrations, progress=another)
    fate = f"rolled back, {database} is still at 0002"
    difference = "- column u.a TEXT, + column u.b TEXT"
    assert str(caught.value) == told(f"{migrations}/0003_u.up.sql", database, difference, fate)


def test_the_steps_that_another_process_leaves_are_checked_too(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    file, fate = f"{migrations}/0002_u.up.sql", f"rolled back, {database} is still at 0001"

    def another(progress: Progress) -> None:
        if not progress.done:
            return
        with pytest.raises(StepError) as caught:
            migrate(database, migrations)
        assert str(caught.value) == told(file, database, difference, fate)

    with pytest.raises(StepError) as caught:
        migrate(database, migrations, progress=another)
    assert str(caught.value) == told(file, database, difference, fate)


def test_a_file_outside_a_transaction_is_compared_and_says_what_it_did(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS t (a TEXT);\nVACUUM;")
    made(database, "CREATE TABLE t (b TEXT);")
    file, difference = f"{migrations}/0001_t.up.sql", "- column t.a TEXT, + column t.b TEXT"
    fate = (
        f"statements 1 to 2 (lines 2 to 3) have taken effect already, {database} is still at base, "
        "and the file will run again from its start"
    )
    for _ in range(2):
        with pytest.raises(StepError) as caught:
            migrate(database, migrations)
        assert str(caught.value) == told(file, database, difference, fate)
    assert current(database, migrations).version is None
