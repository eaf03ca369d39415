"""The two tables: alembic_version is Alembic's own to the byte and moves by compare-and-swap; migration_log
remembers every action, so that edited, late and missing files are told apart, also after others were here.
"""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import change, pasteable, query, ran, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    StepError,
    VersionError,
    check,
    current,
    downgrade,
    history,
    migrate,
    stamp,
)
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


@pytest.fixture
def far_east() -> Iterator[None]:
    """Let this process be in another time zone: what is logged is UTC."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("TZ", "EAST-9")
        time.tzset()
        yield
    time.tzset()


def states(database: Path) -> str:
    """Return the states of all migrations by their initials: Applied, Pending, Edited, Late, Unknown."""
    return "".join(entry.state[0].upper() for entry in history(database, "migrations"))


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
    stamp("ae1027a6acf", database, "migrations")
    assert versions(database) == ["ae1027a6acf"]


LOOSE = "DROP TABLE alembic_version; CREATE TABLE alembic_version (version_num);"


@pytest.mark.parametrize(
    ("stem", "up", "down", "moved"),
    [
        ("0001_one", "INSERT INTO alembic_version VALUES ('0042');", "", "0 rows from base to 0001"),
        ("0003_three", "UPDATE alembic_version SET version_num = '0003';", "", "0 rows from 0002 to 0003"),
        ("0003_three", "DELETE FROM alembic_version;", "", "0 rows from 0002 to 0003"),
        (
            *("0003_three", f"{LOOSE} INSERT INTO alembic_version VALUES ('0002'), ('0002');"),
            *("", "2 rows from 0002 to 0003"),
        ),
        ("0003_three", "", "UPDATE alembic_version SET version_num = '0001';", "0 rows from 0003 to 0002"),
        ("0001_one", "", "DELETE FROM alembic_version;", "0 rows from 0001 to base"),
        ("0001_one", "", "UPDATE alembic_version SET version_num = '0002';", "0 rows from 0001 to base"),
        (
            *("0001_one", "", f"{LOOSE} INSERT INTO alembic_version VALUES ('0001'), ('0001');"),
            "2 rows from 0001 to base",
        ),
    ],
)
def test_the_row_moves_from_what_was_found_and_from_nothing_else(
    stem: str, up: str, down: str, moved: str, database: Path, migrations: Path
) -> None:
    name = stem[5:]
    write(migrations, stem, f"CREATE TABLE {name} (a);\nSELECT up();", f"DROP TABLE {name};\nSELECT down();")
    rows, way = moved.split(" from ")
    with closing(sqlite3.connect("app.db")) as connection:
        # Behind the back of the runner, which looks at its tables where a file names them.
        for function, script in (("up", up), ("down", down)):
            parts = [part for part in script.split(";") if part]
            connection.create_function(function, 0, partial(all, map(connection.execute, parts)))
        with pytest.raises(AccessError) as caught:
            migrate(connection, "migrations")
            downgrade(connection, "migrations", target="base", backup=False)
    assert str(caught.value) == (
        f"{database}: {rows} of alembic_version changed from {way}, expected one; rolled back"
    )
    assert caught.value.database == str(database)
    before = way.split(" to ")[0]
    assert (current(database, "migrations").version or "base") == before
    assert (name in tables(database)) == bool(down)


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
    values=st.lists(garbage | st.none(), max_size=2), rows=st.lists(st.tuples(*10 * [garbage]), max_size=4)
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


def test_the_log_tells_when_and_how_long(database: Path, far_east: None) -> None:
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

Row = tuple[str, ...]  # action, version, value before, value after and, if it matters, the checksum
UP1, UP2, UP3 = (
    ("upgrade", "0001", "", "0001"),
    ("upgrade", "0002", "0001", "0002"),
    ("upgrade", "0003", "0002", "0003"),
)
DOWN2 = ("downgrade", "0002", "0002", "0001")
STAMP2 = ("stamp", "0002", "", "0002")
START2 = ("start", "0002", "0001", "0002")
ADOPT = ("adopt", "", "", "")
GOOD, BAD = mark("CREATE TABLE two (a);"), mark("CREATE TABLE two (b);")
FOLDS: list[tuple[str, tuple[Row, ...], str]] = [
    # What alembic_version holds, the log, and the states of 0000 to 0004
    ("", (), "PPPPP"),
    ("0001", (UP1,), "LAPPP"),
    ("0003", (UP1, UP2, UP3), "LAAAP"),
    ("0002", (UP1, UP2, UP3, ("downgrade", "0003", "0003", "0002")), "LAAPP"),
    ("0003", (UP1, ("upgrade", "0003", "0001", "0003")), "LALAP"),
    ("abc", (UP1, ("upgrade", "0002", "0001", "abc")), "LAAPP"),
    ("0003", (UP1, ("upgrade", "0002", "0001", "abc"), ("upgrade", "0003", "abc", "0003")), "LAAAP"),
    # A stamp vouches for everything up to it
    ("0002", (STAMP2,), "AAAPP"),
    ("abc", (("stamp", "0002", "", "abc"),), "AAAPP"),
    ("0003", (STAMP2, UP3), "AAAAP"),
    ("0004", (STAMP2, ("upgrade", "0004", "0002", "0004")), "AAALA"),
    ("0002", (UP1, UP2, UP3, ("stamp", "0002", "0003", "0002")), "AAAPP"),
    (
        "0003",
        (UP1, UP2, UP3, ("stamp", "0001", "0003", "0001"), ("upgrade", "0003", "0001", "0003")),
        "AALAP",
    ),
    ("", (UP1, ("stamp", "", "0001", "")), "PPPPP"),
    ("0001", (UP1, ("stamp", "", "0001", ""), UP1), "LAPPP"),
    ("0001", (STAMP2, DOWN2), "AAPPP"),
    ("0003", (STAMP2, DOWN2, ("upgrade", "0003", "0001", "0003")), "AALAP"),
    # A no-transaction file and an adoption note their beginning
    ("0001", (("start", "0001", "", "0001"), UP1), "LAPPP"),
    ("0002", (UP1, START2, UP2), "LAAPP"),
    ("0002", (UP1, START2, START2, UP2), "LAAPP"),
    ("0001", (UP1, START2), "LAPPP"),
    ("0001", (UP1, UP2, ("start", "0002", "0002", "0001"), DOWN2), "LAPPP"),
    ("", (ADOPT,), "PPPPP"),
    ("0001", (ADOPT, UP1), "LAPPP"),
    # Alembic was here before the log, in the middle of it, or behind it
    ("0001", (), "AAPPP"),
    ("abc", (), "PPPPPU"),
    ("0003", (UP3,), "AAAAP"),
    ("0003", (("upgrade", "0003", "abc", "0003"),), "AAAAP"),
    ("0003", (UP1, ("upgrade", "0002", "0001", "abc"), DOWN2, UP3), "AAAAP"),
    ("0004", (UP1, ("upgrade", "0004", "0003", "0004")), "AAAAA"),
    ("0003", (UP1, UP2, ("upgrade", "0003", "0001", "0003")), "AALAP"),
    ("0002", (UP1,), "AAAPP"),
    ("0001", (UP1, UP2), "AAPPP"),
    ("", (UP1, UP2), "PPPPP"),
    ("abc", (UP1, UP2), "AAAPPU"),
    ("²", (UP1,), "AAPPPU"),
    ("9" * 255, (UP1,), "AAPPPU"),
    ("0002", (UP1, ("upgrade", "0002", "", "0002")), "LLAPP"),
    # The newest checksum of a version counts
    ("0002", (UP1, (*UP2, GOOD)), "LAAPP"),
    ("0002", (UP1, (*UP2, BAD)), "LAEPP"),
    ("0002", (UP1, (*UP2, BAD), DOWN2, (*UP2, GOOD)), "LAAPP"),
    ("0002", (UP1, (*UP2, GOOD), DOWN2, (*UP2, BAD)), "LAEPP"),
    ("0002", (UP1, (*UP2, GOOD), ("stamp", "0002", "0002", "0002", BAD)), "AAEPP"),
    (
        "0003",
        ((*UP2, BAD), ("stamp", "0003", "0002", "0003"), ("accept", "0002", "0003", "0003", GOOD)),
        "AAAAP",
    ),
    ("0003", (("stamp", "0003", "", "0003"), ("accept", "0002", "0003", "0003", BAD)), "AAEAP"),
    # Rows that were not written here are passed over
    ("0001", (UP1, ("upgrade", "x", "0001", "0002"), ("upgrade", "0002", "0001", "")), "LAPPP"),
    ("0001", (UP1, ("upgrade", "", "0001", "0002"), ("upgrade", "²", "0001", "0002")), "LAPPP"),
    ("0001", (UP1, ("downgrade", "9" * 33, "0002", "0002")), "LAPPP"),
]


@pytest.mark.parametrize(("value", "log", "expected"), FOLDS)
def test_what_is_applied_follows_from_the_log_and_the_value(
    value: str, log: tuple[Row, ...], expected: str, database: Path, migrations: Path
) -> None:
    write(migrations, "0000_nil", "CREATE TABLE nil (a);")
    write(migrations, "0004_four", "CREATE TABLE four (a);")
    stamp("base", database, "migrations")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM migration_log")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(value,)] * bool(value))
        connection.executemany(
            "INSERT INTO migration_log (action, version, from_version, to_version, checksum, name, at, took_ms)"
            " VALUES (?, ?, ?, ?, ?, '', 'then', 0)",
            [(*row, "")[:5] for row in log],
        )
    assert states(database) == expected
    waiting = [entry for entry in history(database, "migrations") if entry.state in ("pending", "late")]
    assert {entry.applied_at for entry in waiting} <= {None}
    seen = current(database, "migrations")
    assert seen.known == ("U" not in expected)
    assert seen.pending == expected.count("P")
    assert seen.at_head == (not set(expected) & set("PLU"))
    kinds = {problem.kind for problem in check(database, "migrations").problems}
    for kind in ("late", "edited", "unknown"):
        assert (kind in kinds) == (kind[0].upper() in expected)
    assert "pending" in kinds or "P" not in expected or "U" in expected


@pytest.mark.parametrize(
    "column", ["version", "name", "from_version", "to_version", "checksum", "at", "took_ms"]
)
def test_a_row_that_was_not_written_here_is_passed_over(column: str, database: Path) -> None:
    migrate(database, "migrations")
    change(database, f"UPDATE migration_log SET {column} = x'30303031' WHERE version = '0002'")
    assert states(database) == "AAA"
    told = [(entry.applied_at is None, entry.took_ms is None) for entry in history(database, "migrations")]
    assert told == [(False, False), (True, True), (False, False)]
    assert ran(downgrade(database, "migrations", target="base", backup=False)) == ["0003", "0002", "0001"]


def test_the_first_file_that_comes_too_late_is_named(database: Path, migrations: Path) -> None:
    write(migrations, "0004_four", "CREATE TABLE four (a);")
    for direction in ("up", "down"):
        (migrations / f"0002_two.{direction}.sql").unlink()
    migrate(database, "migrations", target="3")
    write(migrations, "0002_two", "CREATE TABLE two (a);")
    assert states(database) == "ALAP"
    with pytest.raises(HistoryError) as caught:
        migrate("app.db", "migrations")
    assert caught.value.file == "migrations/0002_two.up.sql"
    write(migrations, "0000_nil", "-- vmpilot: no-transaction\nCREATE TABLE nil (a);")
    assert states(database) == "LALAP"
    assert not current(database, "migrations").at_head
    with pytest.raises(HistoryError) as caught:
        migrate("app.db", "migrations")
    assert caught.value.file == "migrations/0000_nil.up.sql"


def test_a_downgrade_passes_a_late_file_by(database: Path, migrations: Path) -> None:
    migrate(database, "migrations")
    write(migrations, "0000_nil", "-- vmpilot: revision abc\nCREATE TABLE nil (a);", "DROP TABLE nil;")
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", "migrations", target="abc", backup=False)
    assert str(caught.value) == (
        '"abc" is not a version that app.db can be asked to have: expected base to 0003; nothing was changed'
    )
    assert ran(downgrade(database, "migrations", target="base", backup=False)) == ["0003", "0002", "0001"]
    assert ran(migrate(database, "migrations")) == ["0000", "0001", "0002", "0003"]


def test_without_a_log_the_value_alone_is_trusted(database: Path, migrations: Path) -> None:
    change(database, ALEMBIC_DDL, "INSERT INTO alembic_version VALUES ('0002')", "CREATE TABLE two (a)")
    assert states(database) == "AAP"
    write(migrations, "0000_nil", "CREATE TABLE nil (a);")
    assert states(database) == "AAAP"
    assert ran(migrate(database, "migrations")) == ["0003"]
    write(migrations, "0001_one", "CREATE TABLE one (b);")
    assert states(database) == "AAAA"


def test_what_alembic_did_in_between_is_done_again(database: Path) -> None:
    migrate(database, "migrations")
    change(database, "DROP TABLE three", "UPDATE alembic_version SET version_num = '0002'")
    assert states(database) == "AAP"
    assert [bool(entry.applied_at) for entry in history(database, "migrations")] == [True, True, False]
    assert ran(migrate(database, "migrations")) == ["0003"]
    downgrade(database, "migrations", target="1", backup=False)
    change(database, "CREATE TABLE two (a)", "UPDATE alembic_version SET version_num = '0002'")
    assert states(database) == "AAP"
    assert ran(downgrade(database, "migrations", backup=False)) == ["0002"]
    assert states(database) == "APP"
    assert ran(migrate(database, "migrations")) == ["0002", "0003"]
    change(database, "DROP TABLE three", "UPDATE alembic_version SET version_num = '0002'")
    assert ran(migrate(database, "migrations")) == ["0003"]
    assert {"one", "two", "three"} < tables(database)


def test_what_alembic_did_last_and_we_took_back_is_pending(database: Path, migrations: Path) -> None:
    (migrations / "0003_three.up.sql").unlink()
    (migrations / "0003_three.down.sql").unlink()
    migrate(database, "migrations", target="1")
    change(database, "CREATE TABLE two (a)", "UPDATE alembic_version SET version_num = '0002'")
    assert ran(downgrade(database, "migrations", backup=False)) == ["0002"]
    assert ran(migrate(database, "migrations")) == ["0002"]


def test_a_log_without_a_version_table_is_at_base(database: Path) -> None:
    migrate(database, "migrations", target="1")
    change(database, "DROP TABLE alembic_version", "DROP TABLE one")
    assert states(database) == "PPP"
    assert ran(migrate(database, "migrations", target="1")) == ["0001"]


def test_what_sqlite_keeps_for_itself_makes_no_database_of_another_age(database: Path) -> None:
    change(database, "ANALYZE")
    assert tables(database) - {"sqlite_stat4"} == {"sqlite_stat1"}
    migrate(database, "migrations", target="1")
    assert log(database, "action, version") == [("upgrade", "0001")]


def test_an_edited_file_is_seen_and_a_cosmetic_edit_is_not(database: Path, migrations: Path) -> None:
    migrate(database, "migrations", target="2")
    for cosmetic in (
        "-- why\r\nCREATE TABLE one(a);\r\n",
        "\ufeffCREATE TABLE one (a)",
        "BEGIN;CREATE TABLE one (a);END",
    ):
        write(migrations, "0001_one", cosmetic, "DROP TABLE one;")
        assert states(database) == "AAP"
    write(migrations, "0001_one", "CREATE TABLE one (a, b);", "DROP TABLE one;")
    write(migrations, "0003_three", "CREATE TABLE three (b);", "DROP TABLE three;")
    assert states(database) == "EAP"
    assert migrate(database, "migrations", target="2") == ()  # nothing to do, so no file is read
    with pytest.raises(HistoryError):
        migrate(database, "migrations")
    downgrade(database, "migrations", target="base", backup=False)
    migrate(database, "migrations")
    assert states(database) == "AAA"


def test_a_stamp_accepts_every_edit_up_to_it(database: Path, migrations: Path) -> None:
    migrate(database, "migrations")
    times = [(entry.applied_at, entry.took_ms) for entry in history(database, "migrations")]
    for number, name in enumerate(("one", "two", "three"), 1):
        write(migrations, f"000{number}_{name}", f"CREATE TABLE {name} (b);", f"DROP TABLE {name};")
    assert states(database) == "EEE"
    stamp("2", database, "migrations")
    assert states(database) == "AAP"
    assert history(database, "migrations")[0][3:5] == times[0]  # when it was applied, not accepted
    stamp("3", database, "migrations")
    assert states(database) == "AAA"
    one, two = mark("CREATE TABLE one (b);"), mark("CREATE TABLE two (b);")
    assert log(database, "action, version, from_version, to_version, checksum")[3:5] == [
        ("stamp", "0002", "0003", "0002", two),
        ("accept", "0001", "0002", "0002", one),
    ]


def test_another_name_is_no_edit(database: Path, migrations: Path) -> None:
    migrate(database, "migrations")
    for direction in ("up", "down"):
        (migrations / f"0003_three.{direction}.sql").rename(migrations / f"03-drei.{direction}.sql")
    assert states(database) == "AAA"
    assert migrate(database, "migrations") == ()
    assert current(database, "migrations").at_head


# Kept down scripts


@pytest.fixture
def older(migrations: Path) -> Path:
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


def test_a_stamp_counts_its_steps_among_the_files(database: Path, older: Path) -> None:
    migrate(database, "migrations")
    assert stamp("-1", database, older)[:5] == ("stamp", "base", "", "0003", "base")


def test_the_script_that_was_kept_last_is_run(database: Path, migrations: Path, older: Path) -> None:
    migrate(database, "migrations")
    downgrade(database, "migrations", backup=False)
    write(migrations, "0003_three", "CREATE TABLE three (a);", "DROP TABLE three; CREATE TABLE trace (a);")
    migrate(database, "migrations")
    stamp("head", database, "migrations")  # which keeps none
    downgrade(database, older, backup=False)
    assert "trace" in tables(database)


def set_to(column: str, value: str, version: str = "0003") -> str:
    return f"UPDATE migration_log SET {column} = {value} WHERE version = '{version}'"


CHANGED = "the down script that app.db kept was changed since"
PAST = "to record 0001 and leave the rest as it is, run: python3 -m vmpilot.migrate stamp 0001"
NONE = "no file for it, and app.db kept no down script"


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        (set_to("down_sql", "'DROP TABLE one;'"), f"0003: {CHANGED}"),
        (set_to("down_checksum", "NULL"), f"0003: {CHANGED}"),
        (set_to("down_sql", "NULL", "0002"), f"0002: {NONE}"),
        (set_to("down_sql", "CAST(down_sql AS BLOB)", "0002"), f"0002: {NONE}"),
    ],
)
def test_a_kept_script_that_is_not_what_it_was_is_not_run(
    tampering: str, expected: str, database: Path, older: Path
) -> None:
    migrate(database, "migrations")
    change(database, tampering)
    before = query(database, "SELECT * FROM sqlite_master"), log(database, "*")
    message = f"cannot downgrade {expected}; nothing was changed"
    assert no_way_back(older) == (
        message if CHANGED in expected else pasteable(f"{message}; {PAST}", migrations=older)
    )
    assert (query(database, "SELECT * FROM sqlite_master"), log(database, "*")) == before


def no_way_back(older: Path) -> str:
    """Return the message with which an older release refuses to take the database back to its head."""
    with pytest.raises(VersionError) as caught:
        downgrade("app.db", older, target="head", backup=False)
    assert caught.value.version in str(caught.value)
    return str(caught.value)


def test_a_kept_script_may_say_that_there_is_no_way_back(
    database: Path, migrations: Path, older: Path
) -> None:
    write(migrations, "0003_three", "CREATE TABLE three (a);", "-- vmpilot: irreversible the rows are merged")
    migrate(database, "migrations")
    assert [entry.reversible for entry in history(database, older)] == [True, True, False]
    assert no_way_back(older) == pasteable(
        "cannot downgrade 0003: migration_log/0003_three.down.sql is irreversible: the rows are merged; "
        f"nothing was changed; {PAST}",
        migrations=older,
    )


def test_what_was_never_logged_or_only_stamped_cannot_be_taken_back(database: Path, older: Path) -> None:
    change(database, ALEMBIC_DDL, "INSERT INTO alembic_version VALUES ('0003')")
    assert no_way_back(older) == pasteable(
        "app.db is at 0003, but this code knows only base to 0001; it was upgraded by newer code; "
        f"nothing was changed; {PAST}",
        migrations=older,
    )
    stamp("0003", database, "migrations")
    assert no_way_back(older) == pasteable(
        f"cannot downgrade 0003: {NONE}; nothing was changed; {PAST}", migrations=older
    )
    stamp("0001", database, older)  # as it says
    assert migrate(database, older) == ()


def test_the_values_that_a_newer_release_stored_are_restored(
    database: Path, migrations: Path, older: Path
) -> None:
    write(migrations, "0002_two", "-- vmpilot: revision abc\nCREATE TABLE two (a);", "DROP TABLE two;")
    migrate(database, "migrations")
    assert [step.after for step in downgrade(database, older, backup=False)] == ["0002"]
    assert versions(database) == ["abc"]
    assert states(database) == "AAP"
