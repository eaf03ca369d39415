"""What a start-up with nothing to do does, and that what only looks like one is looked at closely."""

import signal
import sqlite3
from pathlib import Path
from types import FrameType

import pytest
from support import change, write

from vmpilot.migrate import HistoryError, MigrationError, current, migrate, stamp


@pytest.fixture
def three(migrations: Path, database: Path) -> Path:
    """Three migrations, applied."""
    for number in (1, 2, 3):
        write(migrations, f"000{number}_t", f"CREATE TABLE t{number} (a);", f"DROP TABLE t{number};")
    migrate(database, migrations)
    return migrations


def test_a_start_up_with_nothing_to_do_looks_at_the_two_tables_once(three: Path, database: Path) -> None:
    with sqlite3.connect(database) as connection:
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        assert migrate(connection, three) == ()
    connection.close()
    asked = [text for text in statements if not text.startswith("PRAGMA")]
    assert asked[0] == "BEGIN"
    assert asked[-1] == "ROLLBACK"
    assert len(asked) == 4  # between them: what the tables are, and what they say


CLOSELY = {
    "another version": ("UPDATE alembic_version SET version_num = '0002'", "table t3 already exists"),
    "no version": ("DELETE FROM alembic_version", "table t1 already exists"),
    "another name": (
        "UPDATE migration_log SET name = 'u', checksum = 'x' WHERE id = 3",
        "0003 is applied as u",
    ),
    "two versions": ("INSERT INTO alembic_version VALUES ('0002')", "alembic_version holds 2 rows"),
    "a view": (
        "DROP TABLE alembic_version; CREATE VIEW alembic_version AS SELECT '0003' AS version_num",
        "alembic_version is a view",
    ),
}


@pytest.mark.parametrize(("sql", "told"), CLOSELY.values(), ids=CLOSELY)
def test_what_only_looks_as_if_all_were_done_is_looked_at_closely(
    sql: str, told: str, three: Path, database: Path
) -> None:
    change(database, *sql.split(";"))
    with pytest.raises(MigrationError) as caught:
        migrate(database, three)
    assert told in str(caught.value)


def test_however_it_came_to_have_all_the_answer_is_the_same(three: Path, database: Path) -> None:
    before = current(database, three)
    assert migrate(database, three) == ()
    stamp("0001", database, three)
    stamp("head", database, three)
    assert migrate(database, three) == ()
    change(database, "DELETE FROM migration_log")
    assert migrate(database, three) == ()
    assert current(database, three) == before


def test_a_file_that_lies_below_is_noticed(three: Path, database: Path) -> None:
    write(three, "0000_late", "CREATE TABLE late (a);")
    with pytest.raises(HistoryError):
        migrate(database, three)


@pytest.mark.parametrize("target", ["9", "+4", "-1"])
@pytest.mark.parametrize("is_there", [True, False])
def test_an_error_names_its_database_whether_it_is_there_or_not(
    is_there: bool, target: str, three: Path, database: Path
) -> None:
    database.unlink()
    if is_there:
        stamp("base", database, three)
    with pytest.raises(MigrationError) as caught:
        migrate(database, three, target=target)
    assert caught.value.database == str(database)
    assert database.exists() == is_there


def test_a_signal_ends_the_first_look_too(three: Path, database: Path) -> None:
    row = "action, version, name, from_version, to_version, checksum, at, took_ms"
    numbers = "WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
    change(
        database,
        f"INSERT INTO migration_log ({row}) {numbers} SELECT {row} FROM migration_log, n WHERE id = 1",
    )
    at: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        at.clear()
        while frame:
            at.append(frame.f_code.co_name)
            frame = frame.f_back
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for milliseconds in range(1, 60):
            signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
            with pytest.raises(KeyboardInterrupt):
                migrate(database, three)
            if {"is_settled", "_watch"} <= {*at}:  # in the middle of a statement of that
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert {"is_settled", "_watch"} <= {*at}
