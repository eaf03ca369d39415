"""The two tables: alembic_version is Alembic's own to the byte and moves by compare-and-swap; migration_log
remembers every action, so that edited, late and missing files are told apart, also after others were here.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import query, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    StepError,
    VersionError,
    current,
    downgrade,
    history,
    migrate,
    stamp,
)
from vmpilot.migrate.database.tables import Applied, Record, State, applied, move
from vmpilot.migrate.files.script import checksum, parse

ALEMBIC_DDL = (
    "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
)


@pytest.fixture(autouse=True)
def here(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside `app.db` and `migrations`, which holds three of them."""
    monkeypatch.chdir(migrations.parent)
    for number, name in enumerate(("one", "two", "three"), 1):
        write(migrations, f"000{number}_{name}", f"CREATE TABLE {name} (a);", f"DROP TABLE {name};")


def versions(database: Path) -> list[object]:
    return [value for (value,) in query(database, "SELECT version_num FROM alembic_version ORDER BY rowid")]


def log(
    database: Path, columns: str = "action, version, from_version, to_version"
) -> list[tuple[object, ...]]:
    return query(database, f"SELECT {columns} FROM migration_log ORDER BY id")


def tables(database: Path) -> set[object]:
    return {name for (name,) in query(database, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def change(database: Path, *statements: str) -> None:
    """Do what another program does to the database."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def states(database: Path) -> list[tuple[str, str]]:
    return [(entry.version, entry.state) for entry in history(database, "migrations")]


def mark(sql: str) -> str:
    return checksum(parse("", sql.encode(), "up"))


# alembic_version


def test_the_version_table_is_alembics_to_the_byte(database: Path) -> None:
    migrate(database, "migrations")
    assert query(database, "SELECT sql FROM sqlite_master WHERE name = 'alembic_version'") == [(ALEMBIC_DDL,)]


def test_there_is_one_row_and_none_at_base(database: Path) -> None:
    migrate(database, "migrations", target="2")
    assert versions(database) == ["0002"]
    migrate(database, "migrations")
    assert versions(database) == ["0003"]
    downgrade(database, "migrations", target="0001", backup=False)
    assert versions(database) == ["0001"]
    downgrade(database, "migrations", target="base", backup=False)
    assert versions(database) == []
    migrate(database, "migrations")
    assert versions(database) == ["0003"]


def test_a_declared_revision_stands_in_place_of_the_number(database: Path, migrations: Path) -> None:
    write(
        migrations, "0002_two", "-- vmpilot: revision ae1027a6acf\nCREATE TABLE two (a);", "DROP TABLE two;"
    )
    migrate(database, "migrations", target="ae1027a6acf")
    assert versions(database) == ["ae1027a6acf"]
    assert current(database, "migrations").version == "0002"
    migrate(database, "migrations")
    assert versions(database) == ["0003"]
    downgrade(database, "migrations", backup=False)
    assert versions(database) == ["ae1027a6acf"]
    downgrade(database, "migrations", backup=False)
    assert versions(database) == ["0001"]
    stamp("ae10", database, "migrations")
    assert versions(database) == ["ae1027a6acf"]


@pytest.mark.parametrize(
    ("rows", "before", "after", "left"),
    [
        ([], "", "0001", ["0001"]),
        (["0001"], "0001", "0002", ["0002"]),
        (["0001"], "0001", "", []),
    ],
)
def test_the_row_moves_from_what_was_found(rows: list[str], before: str, after: str, left: list[str]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(ALEMBIC_DDL)
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(row,) for row in rows])
        move(connection.cursor(), before, after, "app.db")
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (row,) for row in left
        ]


@pytest.mark.parametrize(
    ("rows", "before", "after", "moved"),
    [
        (["0001"], "", "0002", "0 rows of alembic_version changed from base to 0002"),
        ([], "0001", "0002", "0 rows of alembic_version changed from 0001 to 0002"),
        (["0003"], "0001", "0002", "0 rows of alembic_version changed from 0001 to 0002"),
        (["0002"], "0001", "", "0 rows of alembic_version changed from 0001 to base"),
        (["0001", "0001"], "0001", "0002", "2 rows of alembic_version changed from 0001 to 0002"),
        (["0001", "0001"], "0001", "", "2 rows of alembic_version changed from 0001 to base"),
    ],
)
def test_it_does_not_move_from_anything_else(rows: list[str], before: str, after: str, moved: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(row,) for row in rows])
        with pytest.raises(AccessError) as caught:
            move(connection.cursor(), before, after, "app.db")
    assert str(caught.value) == f"app.db: {moved}, expected one; rolled back"
    assert caught.value.database == "app.db"


def test_a_migration_that_moves_the_row_itself_is_rolled_back(database: Path, migrations: Path) -> None:
    write(
        migrations, "0003_three", "CREATE TABLE three (a); UPDATE alembic_version SET version_num = '0003';"
    )
    with pytest.raises(AccessError) as caught:
        migrate("app.db", "migrations")
    assert str(caught.value) == (
        "app.db: 0 rows of alembic_version changed from 0002 to 0003, expected one; rolled back"
    )
    assert versions(database) == ["0002"]
    assert "three" not in tables(database)


# Values that make no sense, and the way out

NONSENSE = {
    "two rows": ["'0001'", "'0002'"],
    "a number": ["2"],
    "a blob": ["x'30303031'"],
    "nothing": ["''"],
    "an unknown version": ["'0009'"],
    "an unknown revision": ["'57dc007f6d46'"],
    "no digits": ["'²'"],
    "too many digits": ["'" + 5000 * "9" + "'"],
}


def spoil(database: Path, values: list[str]) -> None:
    """Put values into a version table that takes anything, as a foreign one might."""
    change(
        database,
        "DROP TABLE IF EXISTS alembic_version",
        "CREATE TABLE alembic_version (version_num)",
        *(f"INSERT INTO alembic_version VALUES ({value})" for value in values),
    )


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize(("target", "row"), [("2", ["0002"]), ("head", ["0003"]), ("base", [])])
def test_a_stamp_works_from_any_state(
    nonsense: str, logged: bool, target: str, row: list[str], database: Path
) -> None:
    if logged:
        migrate(database, "migrations", target="0001")
    spoil(database, NONSENSE[nonsense])
    before = tables(database)
    step = stamp(target, database, "migrations")
    assert (step.action, step.version, step.after) == ("stamp", *2 * (row or ["base"]))
    assert versions(database) == row
    assert tables(database) == before | {"migration_log"}
    assert current(database, "migrations").version == (row[0] if row else None)
    assert log(database)[-1][:2] == ("stamp", row[0] if row else "")
    assert migrate(database, "migrations", target="base" if target == "base" else target) == ()


def test_a_stamp_creates_both_tables_and_runs_nothing(database: Path) -> None:
    stamp("0002", database, "migrations")
    assert tables(database) == {"alembic_version", "migration_log"}
    assert log(database) == [("stamp", "0002", "", "0002")]


garbage = st.one_of(
    st.sampled_from(
        ["", "0001", "0002", "0009", "1", "²", "-1", "head", "upgrade", "downgrade", "stamp", "start"]
    ),
    st.text(max_size=3),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.binary(max_size=2),
    st.just("9" * 33),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it only reads their files
@given(
    values=st.lists(garbage | st.none(), max_size=2),
    rows=st.lists(st.tuples(*10 * [garbage]), max_size=4),
)
def test_whatever_the_tables_hold_only_our_errors_come_out(
    values: list[object], rows: list[tuple[object, ...]]
) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        stamp("0002", connection, "migrations")
        connection.executescript("DROP TABLE alembic_version; CREATE TABLE alembic_version (version_num);")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(value,) for value in values])
        marks = ", ".join("?" * 10)
        connection.executemany(f"INSERT INTO migration_log VALUES (NULL, {marks})", rows)
        connection.commit()
        before = list(connection.iterdump())
        commands: list[Callable[[], object]] = [
            lambda: current(connection, "migrations"),
            lambda: history(connection, "migrations"),
            lambda: migrate(connection, "migrations", target="9"),
            lambda: downgrade(connection, "migrations", target="9", backup=False),
        ]
        for command in commands:
            with suppress(MigrationError):
                command()
        assert list(connection.iterdump()) == before
        stamp("0001", connection, "migrations")
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert current(connection, "migrations").version == "0001"


# migration_log


def test_each_action_leaves_its_row(database: Path, migrations: Path) -> None:
    up, down = "-- why\nCREATE TABLE one (a);", "-- back\r\nDROP TABLE one;\r\n"
    write(migrations, "0001_one", up, down)
    write(migrations, "0003", "CREATE TABLE three (a);", None)
    (migrations / "0003_three.up.sql").unlink()
    (migrations / "0003_three.down.sql").unlink()
    migrate(database, "migrations")
    stamp("0002", database, "migrations")
    downgrade(database, "migrations", backup=False)
    stamp("base", database, "migrations")
    columns = "action, version, name, from_version, to_version, checksum, down_sql, down_checksum"
    one, two, three = mark(up), mark("CREATE TABLE two (a);"), mark("CREATE TABLE three (a);")
    assert log(database, columns) == [
        ("upgrade", "0001", "one", "", "0001", one, down, mark(down)),
        ("upgrade", "0002", "two", "0001", "0002", two, "DROP TABLE two;", mark("DROP TABLE two;")),
        ("upgrade", "0003", "", "0002", "0003", three, None, None),
        ("stamp", "0002", "two", "0003", "0002", two, None, None),
        ("downgrade", "0002", "two", "0002", "0001", "", None, None),
        ("stamp", "", "", "0001", "", "", None, None),
    ]


def test_the_log_tells_when_and_how_long(database: Path) -> None:
    before = query(database, "SELECT strftime('%Y-%m-%dT%H:%M:%fZ')")[0][0]
    steps = migrate(database, "migrations")
    after = query(database, "SELECT strftime('%Y-%m-%dT%H:%M:%fZ')")[0][0]
    rows = log(database, "at, took_ms")
    assert len(rows) == len(steps) == 3
    times = [str(at) for at, _ in rows]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert [before, *times, after] == sorted([before, *times, after])
    for (_, took_ms), step in zip(rows, steps, strict=True):
        assert isinstance(took_ms, float)
        assert 0 < took_ms <= 1000 * step.took + 0.001  # rounded
    assert [(entry.applied_at, entry.took_ms) for entry in history(database, "migrations")] == rows


def test_a_stamp_has_a_time_but_took_none(database: Path) -> None:
    stamp("0002", database, "migrations")
    one, two, three = history(database, "migrations")
    assert (one.applied_at, one.took_ms) == (three.applied_at, three.took_ms) == (None, None)
    assert (two.applied_at, two.took_ms) == (log(database, "at")[0][0], None)


def test_rows_are_appended_and_never_changed(database: Path, migrations: Path) -> None:
    seen: list[tuple[object, ...]] = []

    def look() -> None:
        rows = log(database, "*")
        assert rows[: len(seen)] == seen
        assert len(rows) > len(seen)
        seen[:] = rows

    for target in ("1", "3"):
        migrate(database, "migrations", target=target)
        look()
    for target in ("2", "base"):
        downgrade(database, "migrations", target=target, backup=False)
        look()
    stamp("head", database, "migrations")
    look()
    write(migrations, "0002_two", "CREATE TABLE two (b);", "DROP TABLE two;")
    stamp("head", database, "migrations")
    look()
    assert migrate(database, "migrations") == ()
    assert log(database, "*") == seen


def test_a_failed_step_leaves_no_row(database: Path, migrations: Path) -> None:
    write(migrations, "0002_two", "CREATE TABLE two (a); nonsense;")
    with pytest.raises(StepError):
        migrate(database, "migrations")
    assert log(database) == [("upgrade", "0001", "", "0001")]


# What the log proves


def records(*rows: tuple[str, str, str, str] | tuple[str, str, str, str, str]) -> tuple[Record, ...]:
    return tuple(Record(row[0], row[1], "", *row[2:]) for row in rows)


UP1, UP2, UP3 = ("upgrade", "1", "", "1"), ("upgrade", "2", "1", "2"), ("upgrade", "3", "2", "3")
EVERYTHING = 10**32


@pytest.mark.parametrize(
    ("value", "log", "numbers", "floor"),
    [
        ("", (), [], -1),
        ("1", (UP1,), [1], -1),
        ("3", (UP1, UP2, UP3), [1, 2, 3], -1),
        ("2", (UP1, UP2, UP3, ("downgrade", "3", "3", "2")), [1, 2], -1),
        ("3", (UP1, ("upgrade", "3", "1", "3")), [1, 3], -1),
        ("abc", (UP1, ("upgrade", "2", "1", "abc")), [1, 2], -1),
        # a stamp vouches for everything up to it
        ("2", (("stamp", "2", "", "2"),), [2], 2),
        ("3", (("stamp", "2", "", "2"), UP3), [2, 3], 2),
        ("2", (UP1, UP2, UP3, ("stamp", "2", "3", "2")), [1, 2], 2),
        ("", (UP1, ("stamp", "", "1", "")), [], -1),
        ("1", (("stamp", "2", "", "2"), ("downgrade", "2", "2", "1")), [], 1),
        # an accepted edit
        ("2", (UP1, UP2, ("stamp", "2", "2", "2"), ("accept", "1", "2", "2", "new")), [1, 2], 2),
        # a no-transaction file notes its beginning
        ("1", (("start", "1", "", "1"), UP1), [1], -1),
        ("2", (UP1, ("start", "2", "1", "2"), UP2), [1, 2], -1),
        ("1", (UP1, ("start", "2", "1", "2")), [1], -1),
        ("2", (UP1, ("start", "2", "1", "2"), ("start", "2", "1", "2"), UP2), [1, 2], -1),
        ("3", (UP1, UP2, ("start", "3", "2", "3"), UP3), [1, 2, 3], -1),
        # Alembic was here before the log, in the middle of it, or behind it
        ("1", (), [], 1),
        ("abc", (), [], EVERYTHING),
        ("3", (UP3,), [3], 2),
        ("3", (("upgrade", "3", "abc", "3"),), [3], 2),
        ("4", (UP1, ("upgrade", "4", "3", "4")), [1, 4], 3),
        ("2", (UP1,), [1], 2),
        ("1", (UP1, UP2), [1], 1),
        ("", (UP1, UP2), [], -1),
        ("abc", (UP1, UP2), [1, 2], EVERYTHING),
        ("²", (UP1,), [1], EVERYTHING),
        ("9" * 5000, (UP1,), [1], EVERYTHING),
        ("2", (UP1, ("upgrade", "2", "", "2")), [2], -1),
    ],
)
def test_what_is_applied_follows_from_the_log_and_the_value(
    value: str, log: tuple[tuple[str, str, str, str], ...], numbers: list[int], floor: int
) -> None:
    proof = applied(State(value, records(*log)))
    assert isinstance(proof, Applied)
    assert (sorted(proof.records), proof.floor) == (numbers, floor)


def test_the_newest_record_of_a_version_counts() -> None:
    again = ("upgrade", "2", "1", "2", "b")
    rows = (UP1, (*UP2, "a"), ("downgrade", "2", "2", "1"), again)
    assert applied(State("2", records(*rows))).records[2].checksum == "b"
    accepted = (*rows, ("stamp", "2", "2", "2", "b"), ("accept", "1", "2", "2", "c"))
    assert applied(State("2", records(*accepted))).records[1].checksum == "c"


def test_a_late_file_is_seen_below_what_was_applied(database: Path, migrations: Path) -> None:
    for direction in ("up", "down"):
        (migrations / f"0002_two.{direction}.sql").unlink()
    migrate(database, "migrations")
    write(migrations, "0002_two", "CREATE TABLE two (a);")
    assert states(database) == [("0001", "applied"), ("0002", "late"), ("0003", "applied")]
    write(migrations, "0000_nil", "CREATE TABLE nil (a);")
    assert [state for _, state in states(database)] == ["late", "applied", "late", "applied"]
    assert not current(database, "migrations").at_head


def test_a_late_file_is_seen_below_a_no_transaction_file_too(database: Path, migrations: Path) -> None:
    write(migrations, "0002_two", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS two (a);", "")
    migrate(database, "migrations")
    write(migrations, "0000_nil", "CREATE TABLE nil (a);")
    assert states(database)[0] == ("0000", "late")
    with pytest.raises(HistoryError):
        migrate(database, "migrations")


def test_a_downgrade_passes_a_late_file_by(database: Path, migrations: Path) -> None:
    migrate(database, "migrations")
    write(migrations, "0000_nil", "-- vmpilot: revision abc\nCREATE TABLE nil (a);", "DROP TABLE nil;")
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", "migrations", target="abc", backup=False)
    assert str(caught.value) == (
        '"abc" is not a version that app.db can be asked to have: expected base to 0003; nothing was changed'
    )
    steps = downgrade(database, "migrations", target="base", backup=False)
    assert [step.version for step in steps] == ["0003", "0002", "0001"]
    assert [step.version for step in migrate(database, "migrations")] == ["0000", "0001", "0002", "0003"]


def test_without_a_log_the_value_alone_is_trusted(database: Path, migrations: Path) -> None:
    change(database, ALEMBIC_DDL, "INSERT INTO alembic_version VALUES ('0002')", "CREATE TABLE two (a)")
    assert [state for _, state in states(database)] == ["applied", "applied", "pending"]
    assert current(database, "migrations").pending == 1
    write(migrations, "0000_nil", "CREATE TABLE nil (a);")
    assert [state for _, state in states(database)] == ["applied", "applied", "applied", "pending"]
    assert [step.version for step in migrate(database, "migrations")] == ["0003"]
    write(migrations, "0001_one", "CREATE TABLE one (b);")
    assert [state for _, state in states(database)] == ["applied"] * 4


@pytest.mark.parametrize(("value", "expected"), [("0001", 1), ("0003", 3), (None, 0)])
def test_what_alembic_did_behind_our_back_is_believed(
    value: str | None, expected: int, database: Path
) -> None:
    migrate(database, "migrations", target="2")
    change(database, "DELETE FROM alembic_version")
    if value:
        change(database, f"INSERT INTO alembic_version VALUES ('{value}')")
    assert [state for _, state in states(database)] == ["applied"] * expected + ["pending"] * (3 - expected)
    assert current(database, "migrations").version == value


def test_an_edited_file_is_seen_and_a_cosmetic_edit_is_not(database: Path, migrations: Path) -> None:
    migrate(database, "migrations", target="2")
    for cosmetic in (
        "-- why\r\nCREATE TABLE one(a);\r\n",
        "\ufeffCREATE TABLE one (a)",
        "BEGIN;CREATE TABLE one (a);END",
    ):
        write(migrations, "0001_one", cosmetic, "DROP TABLE one;")
        assert states(database)[0] == ("0001", "applied")
    write(migrations, "0001_one", "CREATE TABLE one (a, b);", "DROP TABLE one;")
    write(migrations, "0003_three", "CREATE TABLE three (b);", "DROP TABLE three;")
    assert states(database) == [("0001", "edited"), ("0002", "applied"), ("0003", "pending")]
    assert migrate(database, "migrations", target="2") == ()  # nothing to do, so no file is read
    with pytest.raises(HistoryError):
        migrate(database, "migrations")


def test_a_stamp_accepts_every_edit_up_to_it(database: Path, migrations: Path) -> None:
    migrate(database, "migrations")
    for number, name in enumerate(("one", "two", "three"), 1):
        write(migrations, f"000{number}_{name}", f"CREATE TABLE {name} (b);", f"DROP TABLE {name};")
    assert [state for _, state in states(database)] == ["edited"] * 3
    stamp("2", database, "migrations")
    assert [state for _, state in states(database)] == ["applied", "applied", "pending"]
    stamp("3", database, "migrations")
    assert [state for _, state in states(database)] == ["applied"] * 3
    one, two = mark("CREATE TABLE one (b);"), mark("CREATE TABLE two (b);")
    assert log(database, "action, version, from_version, to_version, checksum")[3:5] == [
        ("stamp", "0002", "0003", "0002", two),
        ("accept", "0001", "0002", "0002", one),
    ]


def test_an_edited_file_counts_as_it_is_after_a_downgrade_and_an_upgrade(
    database: Path, migrations: Path
) -> None:
    migrate(database, "migrations")
    write(migrations, "0003_three", "CREATE TABLE three (b);", "DROP TABLE three;")
    assert states(database)[2] == ("0003", "edited")
    downgrade(database, "migrations", backup=False)
    migrate(database, "migrations")
    assert states(database)[2] == ("0003", "applied")


def test_another_name_is_no_edit(database: Path, migrations: Path) -> None:
    migrate(database, "migrations")
    for direction in ("up", "down"):
        (migrations / f"0003_three.{direction}.sql").rename(migrations / f"03-drei.{direction}.sql")
    assert states(database)[2] == ("03", "applied")
    assert migrate(database, "migrations") == ()
    assert current(database, "migrations").at_head


# Kept down scripts


@pytest.fixture
def older(migrations: Path) -> Iterator[Path]:
    """The migrations of the release before: they end at 0001."""
    folder = migrations.parent / "older"
    folder.mkdir()
    write(folder, "0001_one", "CREATE TABLE one (a);", "DROP TABLE one;")
    return folder


def test_an_older_release_takes_back_what_a_newer_one_did(database: Path, older: Path) -> None:
    migrate(database, "migrations")
    assert [
        (entry.version, entry.name, entry.state, entry.reversible) for entry in history(database, older)
    ] == [
        ("0001", "one", "applied", True),
        ("0002", "two", "unknown", True),
        ("0003", "three", "unknown", True),
    ]
    assert current(database, older)[1:] == ("0003", "0001", False, 0, False)
    with pytest.raises(VersionError):
        migrate(database, older)
    steps = downgrade(database, older, target="head", backup=False)
    assert [(step.version, step.name, step.before, step.after) for step in steps] == [
        ("0003", "three", "0003", "0002"),
        ("0002", "two", "0002", "0001"),
    ]
    assert tables(database) == {"one", "alembic_version", "migration_log"}
    assert versions(database) == ["0001"]
    assert migrate(database, older) == ()
    assert [step.version for step in migrate(database, "migrations")] == ["0002", "0003"]


def test_the_script_that_was_kept_last_is_run(database: Path, migrations: Path, older: Path) -> None:
    migrate(database, "migrations")
    downgrade(database, "migrations", backup=False)
    write(migrations, "0003_three", "CREATE TABLE three (a);", "DROP TABLE three; CREATE TABLE trace (a);")
    migrate(database, "migrations")
    downgrade(database, older, backup=False)
    assert "trace" in tables(database)


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        (
            "UPDATE migration_log SET down_sql = 'DROP TABLE one;' WHERE version = '0003'",
            "cannot downgrade 0003: the down script that app.db kept was changed since; nothing was changed",
        ),
        (
            "UPDATE migration_log SET down_checksum = NULL WHERE version = '0003'",
            "cannot downgrade 0003: the down script that app.db kept was changed since; nothing was changed",
        ),
        (
            "UPDATE migration_log SET down_sql = NULL WHERE version = '0002'",
            "cannot downgrade 0002: no file for it, and app.db kept no down script; nothing was changed",
        ),
    ],
)
def test_a_kept_script_that_is_not_what_it_was_is_not_run(
    tampering: str, expected: str, database: Path, older: Path
) -> None:
    migrate(database, "migrations")
    change(database, tampering)
    before = query(database, "SELECT * FROM sqlite_master"), log(database, "*")
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", older, target="head", backup=False)
    assert str(caught.value) == expected
    assert caught.value.version == expected[17:21]
    assert (query(database, "SELECT * FROM sqlite_master"), log(database, "*")) == before


def test_a_kept_script_may_say_that_there_is_no_way_back(
    database: Path, migrations: Path, older: Path
) -> None:
    write(migrations, "0003_three", "CREATE TABLE three (a);", "-- vmpilot: irreversible the rows are merged")
    migrate(database, "migrations")
    assert [entry.reversible for entry in history(database, older)] == [True, True, False]
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", older, target="head", backup=False)
    assert str(caught.value) == (
        "cannot downgrade 0003: migration_log/0003_three.down.sql is irreversible: the rows are merged; "
        "nothing was changed"
    )


def test_what_was_never_logged_cannot_be_taken_back(database: Path, older: Path) -> None:
    change(database, ALEMBIC_DDL, "INSERT INTO alembic_version VALUES ('0003')")
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", older, target="head", backup=False)
    assert str(caught.value) == (
        "cannot downgrade: app.db is at 0003, which has no file here and no row in its log; "
        "nothing was changed"
    )
    assert caught.value.version == "0003"


def test_a_stamp_of_a_newer_release_kept_no_script(database: Path, older: Path) -> None:
    stamp("0003", database, "migrations")
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", older, target="head", backup=False)
    assert str(caught.value) == (
        "cannot downgrade 0003: no file for it, and app.db kept no down script; nothing was changed"
    )
