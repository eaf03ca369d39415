"""Proves that a database with tables of its own is taken over only if they are the ones that the files mean.

Refused: its tables differ from what the same migrations make of an empty database. The database keeps
every byte then, and the message shows each column that differs.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import ROOT, query, write

from vmpilot.migrate import Progress, Step, StepError, current, migrate, stamp

BUNDLED = ROOT / "migrations"
CHATS = """CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY, initial_request TEXT, project_root TEXT, messages TEXT NOT NULL,
    cache_info TEXT NOT NULL, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO chats VALUES ('c', 'hello', '/srv', '[]', '{}', '2024-01-01 00:00:00');
"""
EXCHANGES = """CREATE TABLE exchanges (
    exchange_id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, model TEXT NOT NULL, request TEXT,
    cost JSON, start TIMESTAMP DEFAULT CURRENT_TIMESTAMP, end TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO exchanges (chat_id, model, request) VALUES ('c', 'm', 'what?');
"""
ALEMBIC = """CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('57dc007f6d46');
"""


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


def versions(steps: tuple[Step, ...]) -> list[str]:
    return [step.version for step in steps]


# --- VMPilot's own past


@pytest.mark.parametrize(
    ("past", "run"),
    [
        pytest.param("", ["0001", "0002"], id="empty file"),
        pytest.param(CHATS, ["0001", "0002"], id="0.5"),
        pytest.param(CHATS + EXCHANGES, ["0001", "0002"], id="0.6"),
        pytest.param(CHATS + EXCHANGES + ALEMBIC, ["0002"], id="0.6 managed by Alembic"),
    ],
)
def test_every_release_is_taken_over_with_its_rows(database: Path, past: str, run: list[str]) -> None:
    made(database, past)
    assert versions(migrate(database, BUNDLED)) == run
    assert query(database, "SELECT chat_id, messages FROM chats") == ([("c", "[]")] if CHATS in past else [])
    assert query(database, "SELECT exchange_id, model FROM exchanges") == (
        [(1, "m")] if EXCHANGES in past else []
    )
    assert current(database, BUNDLED).at_head


def test_a_snapshot_before_release_0_5_is_refused(database: Path) -> None:
    made(
        database,
        "CREATE TABLE chats (id TEXT PRIMARY KEY, initial_request TEXT, project_root TEXT, "
        "current_issue TEXT,"
        " created_at TIMESTAMP, metadata TEXT);"
        "CREATE TABLE chat_histories (id INTEGER PRIMARY KEY, chat_id TEXT, messages TEXT);"
        "INSERT INTO chats (id) VALUES ('c');",
    )
    refused(
        BUNDLED,
        database,
        "0001_initial_schema",
        "base",
        "no column chats.chat_id TEXT PRIMARY KEY; no column chats.messages TEXT NOT NULL; "
        "no column chats.cache_info TEXT NOT NULL; "
        "no column chats.updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP; "
        "unexpected column chats.id TEXT PRIMARY KEY; unexpected column chats.current_issue TEXT; "
        "unexpected column chats.created_at TIMESTAMP; unexpected column chats.metadata TEXT",
    )


def test_a_snapshot_between_releases_0_5_and_0_6_is_refused(database: Path) -> None:
    made(
        database,
        CHATS + EXCHANGES.replace(" model TEXT NOT NULL,", "").replace("model, ", "").replace("'m', ", ""),
    )
    refused(BUNDLED, database, "0001_initial_schema", "base", "no column exchanges.model TEXT NOT NULL")


# --- what makes a difference

WANTED = "CREATE TABLE IF NOT EXISTS t (a TEXT, b INTEGER NOT NULL DEFAULT 1, c, PRIMARY KEY (a, c));"


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ("a TEXT, b INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (a)", "no column t.c PRIMARY KEY (2)"),
        (
            "a TEXT, b INTEGER NOT NULL DEFAULT 1, c, d BLOB, PRIMARY KEY (a, c)",
            "unexpected column t.d BLOB",
        ),
        (
            "a TEXT, b TEXT NOT NULL DEFAULT 1, c, PRIMARY KEY (a, c)",
            "column t.b TEXT NOT NULL DEFAULT 1, expected b INTEGER NOT NULL DEFAULT 1",
        ),
        (
            "a TEXT, b INTEGER DEFAULT 1, c, PRIMARY KEY (a, c)",
            "column t.b INTEGER DEFAULT 1, expected b INTEGER NOT NULL DEFAULT 1",
        ),
        (
            "a TEXT, b INTEGER NOT NULL, c, PRIMARY KEY (a, c)",
            "column t.b INTEGER NOT NULL, expected b INTEGER NOT NULL DEFAULT 1",
        ),
        (
            "a TEXT, b INTEGER NOT NULL DEFAULT 2, c, PRIMARY KEY (a, c)",
            "column t.b INTEGER NOT NULL DEFAULT 2, expected b INTEGER NOT NULL DEFAULT 1",
        ),
        (
            "a TEXT, b INTEGER NOT NULL DEFAULT 1, c, PRIMARY KEY (c, a)",
            "column t.a TEXT PRIMARY KEY (2), expected a TEXT PRIMARY KEY; "
            "column t.c PRIMARY KEY, expected c PRIMARY KEY (2)",
        ),
        (
            "a TEXT, b INTEGER NOT NULL DEFAULT 1, c",
            "column t.a TEXT, expected a TEXT PRIMARY KEY; column t.c, expected c PRIMARY KEY (2)",
        ),
        (
            "a TEXT, b INTEGER NOT NULL DEFAULT 1, c AS (1), PRIMARY KEY (a)",
            "column t.c GENERATED, expected c PRIMARY KEY (2)",
        ),
    ],
)
def test_each_property_of_a_column_counts(
    migrations: Path, database: Path, found: str, difference: str
) -> None:
    write(migrations, "0001_t", WANTED)
    made(database, f"CREATE TABLE t ({found});")
    refused(migrations, database, "0001_t", "base", difference)


def test_the_letters_of_a_default_count(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (state TEXT DEFAULT 'Open');")
    made(database, "CREATE TABLE t (state TEXT DEFAULT 'open');")
    difference = "column t.state TEXT DEFAULT 'open', expected state TEXT DEFAULT 'Open'"
    refused(migrations, database, "0001_t", "base", difference)


@pytest.mark.parametrize(
    "found",
    [
        'create table "T" (A text, B integer not null default 1, C, primary key (A, C))',
        "CREATE TABLE t (c, b INTEGER DEFAULT 1 NOT NULL, a TEXT, PRIMARY KEY (a, c))",
        "CREATE TABLE t (a TEXT UNIQUE, b INTEGER NOT NULL DEFAULT 1 CHECK (b), c, PRIMARY KEY (a, c))",
    ],
    ids=["letters", "order", "constraints"],
)
def test_what_is_written_otherwise_makes_no_difference(migrations: Path, database: Path, found: str) -> None:
    write(migrations, "0001_t", WANTED)
    made(database, found)
    assert versions(migrate(database, migrations)) == ["0001"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE IF NOT EXISTS t (a TEXT);",
        "create table if not exists main.t (a TEXT);",
        'CREATE TABLE IF NOT EXISTS "t" (a TEXT);',
        'CREATE TABLE IF NOT EXISTS"t"(a TEXT);',
        "CREATE /* 1 */ TABLE -- 2\n IF NOT EXISTS main . [t] (a TEXT);",
        "CREATE TABLE IF NOT EXISTS t AS SELECT CAST('x' AS TEXT) AS a;",
    ],
)
def test_every_way_to_write_a_create_table_is_seen(migrations: Path, database: Path, statement: str) -> None:
    write(migrations, "0001_t", statement)
    made(database, "CREATE TABLE t (b TEXT);")
    refused(migrations, database, "0001_t", "base", "no column t.a TEXT; unexpected column t.b TEXT")


def test_a_view_is_not_taken_for_the_table(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);")
    made(database, "CREATE TABLE u (a TEXT); CREATE VIEW t AS SELECT a FROM u;")
    refused(migrations, database, "0001_t", "base", "t is a view, expected a table")


# --- what is nobody's business


def test_other_tables_are_left_alone(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);")
    made(database, "CREATE TABLE t (a TEXT); CREATE TABLE u (x, y, z); CREATE VIEW w AS SELECT * FROM u;")
    assert versions(migrate(database, migrations)) == ["0001"]


def test_a_table_that_a_step_makes_and_drops_is_left_alone(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);\nDROP TABLE t;")
    made(database, "CREATE TABLE t (b TEXT); CREATE TABLE u (a);")
    assert versions(migrate(database, migrations)) == ["0001"]


def test_a_table_that_a_step_rebuilds_passes(migrations: Path, database: Path) -> None:
    up = (
        "CREATE TABLE new_t (a TEXT, b TEXT);\nINSERT INTO new_t (b) SELECT b FROM t;\n"
        "DROP TABLE t;\nALTER TABLE new_t RENAME TO t;"
    )
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (b TEXT);")
    write(migrations, "0002_t", up)
    made(database, "CREATE TABLE t (b TEXT); INSERT INTO t VALUES ('x');")
    assert versions(migrate(database, migrations)) == ["0001", "0002"]


def test_the_applications_own_functions_end_no_adoption(migrations: Path, database: Path) -> None:
    up = (
        "CREATE TABLE IF NOT EXISTS t (a TEXT);\nUPDATE t SET a = shout(a);\nALTER TABLE t ADD COLUMN b TEXT;"
    )
    write(migrations, "0001_t", up)
    write(migrations, "0002_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TABLE u AS SELECT * FROM t;")
    made(database, "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x');")
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("shout", 1, str.upper)
        assert versions(migrate(connection, migrations)) == ["0001", "0002"]
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


def test_what_was_refused_is_refused_again(migrations: Path, database: Path) -> None:
    difference = two_steps(migrations, database)
    with pytest.raises(StepError):
        migrate(database, migrations)
    for _ in range(2):
        refused(migrations, database, "0002_u", "0001", difference)


def test_what_was_refused_passes_once_it_is_mended(migrations: Path, database: Path) -> None:
    two_steps(migrations, database)
    with pytest.raises(StepError):
        migrate(database, migrations)
    made(database, "ALTER TABLE u RENAME COLUMN b TO a;")
    assert versions(migrate(database, migrations)) == ["0002"]


def test_a_table_is_compared_with_what_the_steps_before_made_of_it(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);")
    write(migrations, "0002_t", "ALTER TABLE t ADD COLUMN b TEXT;")
    write(migrations, "0003_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TABLE u AS SELECT * FROM t;")
    made(database, "CREATE TABLE t (a TEXT);")
    assert versions(migrate(database, migrations)) == ["0001", "0002", "0003"]


def test_a_process_that_does_some_of_the_steps_does_not_confuse_the_comparison(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);")
    write(migrations, "0002_t", "ALTER TABLE t ADD COLUMN b TEXT;")
    write(migrations, "0003_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);\nCREATE TABLE u AS SELECT * FROM t;")
    made(database, "CREATE TABLE t (a TEXT);")

    def another(progress: Progress) -> None:
        if progress.done and progress.step.version == "0001":
            assert versions(migrate(database, migrations, target="0002")) == ["0002"]

    assert versions(migrate(database, migrations, progress=another)) == ["0001", "0003"]


def test_a_step_after_those_that_another_process_did_is_checked_too(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE IF NOT EXISTS t (a TEXT);")
    write(migrations, "0002_t", "ALTER TABLE t ADD COLUMN b TEXT;")
    write(migrations, "0003_u", "CREATE TABLE IF NOT EXISTS u (a TEXT);")
    made(database, "CREATE TABLE t (a TEXT); CREATE TABLE u (b TEXT);")

    def another(progress: Progress) -> None:
        if progress.done and progress.step.version == "0001":
            assert versions(migrate(database, migrations, target="0002")) == ["0002"]

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
