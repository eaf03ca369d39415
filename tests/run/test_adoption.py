"""Proves that a database with tables of its own is taken over only if they are the ones that the files mean.

Refused: its tables differ from what the same migrations make of an empty database. The database keeps
every byte then, and the message shows each column that differs. VMPilot's own past is tested with the
migrations that ship.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import change, query, ran, write

from vmpilot.migrate import Progress, StepError, current, migrate, stamp


def made(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(sql)


def refused(migrations: Path, database: Path, name: str, at: str, differences: str) -> None:
    """Expect that the up file `name` is refused with these differences, and that no byte changes."""
    before = database.read_bytes()
    with pytest.raises(StepError) as caught:
        migrate(database, migrations)
    file = f"{migrations}/{name}.up.sql"
    assert str(caught.value) == f"{file}: {differences}; rolled back, {database} is still at {at}"
    assert (caught.value.file, caught.value.line, caught.value.version) == (file, 0, name[:4])
    assert database.read_bytes() == before


# --- what makes a difference

T = "CREATE TABLE IF NOT EXISTS t (a TEXT);"
WANTED = "CREATE TABLE IF NOT EXISTS t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, PRIMARY KEY (a, c));"
CASES = {
    # What 0001 says, what the database has, and the difference, if it is one
    "a column less": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (a))",
        "no column t.c PRIMARY KEY (2)",
    ),
    "a column more": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, d BLOB, PRIMARY KEY (a, c))",
        "unexpected column t.d BLOB",
    ),
    "type": (
        WANTED,
        "CREATE TABLE t (a TEXT, b TEXT NOT NULL DEFAULT 1, c, PRIMARY KEY (a, c))",
        "column t.b TEXT NOT NULL DEFAULT 1, expected b INTEGER NOT NULL DEFAULT 1",
    ),
    "NOT NULL": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER DEFAULT 1, c, PRIMARY KEY (a, c))",
        "column t.b INTEGER DEFAULT 1, expected b INTEGER NOT NULL DEFAULT 1",
    ),
    "no default": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL, c, PRIMARY KEY (a, c))",
        "column t.b INTEGER NOT NULL, expected b INTEGER NOT NULL DEFAULT 1",
    ),
    "another default": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 2, c, PRIMARY KEY (a, c))",
        "column t.b INTEGER NOT NULL DEFAULT 2, expected b INTEGER NOT NULL DEFAULT 1",
    ),
    "the letters of a default": (
        "CREATE TABLE IF NOT EXISTS t (state TEXT DEFAULT 'Open');",
        "CREATE TABLE t (state TEXT DEFAULT 'open')",
        "column t.state TEXT DEFAULT 'open', expected state TEXT DEFAULT 'Open'",
    ),
    "the order of a key": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, PRIMARY KEY (c, a))",
        "column t.a TEXT PRIMARY KEY (2), expected a TEXT PRIMARY KEY; "
        "column t.c PRIMARY KEY, expected c PRIMARY KEY (2)",
    ),
    "no key": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c)",
        "column t.a TEXT, expected a TEXT PRIMARY KEY; column t.c, expected c PRIMARY KEY (2)",
    ),
    "a generated column": (
        WANTED,
        "CREATE TABLE t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c AS (1), PRIMARY KEY (a))",
        "column t.c GENERATED, expected c PRIMARY KEY (2)",
    ),
    **{
        f"written {statement}": (
            statement,
            "CREATE TABLE t (b TEXT)",
            "no column t.a TEXT; unexpected column t.b TEXT",
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
        "t is a view, expected a table",
    ),
    # What is written otherwise
    "letters": (WANTED, 'create table "T" (A text, b integer not null default 1, C, primary key (A, C))', ""),
    "order": (WANTED, "CREATE TABLE t (c, b INTEGER DEFAULT 1 NOT NULL, a TEXT, PRIMARY KEY (a, c))", ""),
    "constraints": (
        WANTED,
        "CREATE TABLE t (a TEXT UNIQUE, b INTEGER NOT NULL DEFAULT 1 CHECK (b), c, PRIMARY KEY (a, c))",
        "",
    ),
    "blanks": ("CREATE TABLE IF NOT EXISTS t (a BIG INT);", "CREATE TABLE t (a BIG  \n INT)", ""),
    # What is nobody's business
    "others": (T, "CREATE TABLE t (a TEXT); CREATE TABLE u (x); CREATE VIEW w AS SELECT * FROM u", ""),
    "a trigger of that name": (
        T,
        "CREATE TABLE u (a); CREATE TRIGGER t AFTER INSERT ON u BEGIN SELECT 1; END; CREATE TABLE t (a TEXT)",
        "",
    ),
    "made and dropped": (T + "\nDROP TABLE t;", "CREATE TABLE t (b TEXT); CREATE TABLE u (a)", ""),
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


def test_what_others_add_to_a_table_between_two_steps_makes_none(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", T)
    write(migrations, "0002_t", "ALTER TABLE t ADD COLUMN b TEXT;")
    made(database, "CREATE TABLE t (a TEXT);")
    migrate(database, migrations, target="0001")
    change(database, "ALTER TABLE t ADD COLUMN own TEXT")
    assert ran(migrate(database, migrations)) == ["0002"]


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
    return "no column u.a TEXT; unexpected column u.b TEXT"


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
    assert str(caught.value) == (
        f"{migrations}/0003_u.up.sql: no column u.a TEXT; unexpected column u.b TEXT; "
        f"rolled back, {database} is still at 0002"
    )


def test_the_steps_that_another_process_leaves_are_checked_too(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    file = f"{migrations}/0002_u.up.sql"

    def another(progress: Progress) -> None:
        if not progress.done:
            return
        with pytest.raises(StepError) as caught:
            migrate(database, migrations)
        assert str(caught.value) == f"{file}: {difference}; rolled back, {database} is still at 0001"

    with pytest.raises(StepError) as caught:
        migrate(database, migrations, progress=another)
    assert str(caught.value) == f"{file}: {difference}; rolled back, {database} is still at 0001"


def test_a_file_outside_a_transaction_is_compared_and_says_what_it_did(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS t (a TEXT);\nVACUUM;")
    made(database, "CREATE TABLE t (b TEXT);")
    for _ in range(2):
        with pytest.raises(StepError) as caught:
            migrate(database, migrations)
        assert str(caught.value) == (
            f"{migrations}/0001_t.up.sql: no column t.a TEXT; unexpected column t.b TEXT; "
            f"statements 1 to 2 (lines 2 to 3) have taken effect already, {database} is still at base, "
            "and the file will run again from its start"
        )
    assert current(database, migrations).version is None
