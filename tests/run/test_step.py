"""Proves how the steps of a run follow each other: planned again when others were faster, each statement
run to its end, progress told, and outside a transaction never begun once another process is done with it.
"""

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from support import APART, change, numbers, query, ran, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    Progress,
    StepError,
    VersionError,
    current,
    downgrade,
    history,
    migrate,
)

ALONE = "-- vmpilot: no-transaction\n"


@pytest.fixture(autouse=True)
def three(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside `migrations`, which holds three that say how often they were run."""
    monkeypatch.chdir(migrations.parent)
    write(migrations, "0001_log", "CREATE TABLE ran (step);", "DROP TABLE ran;")
    for number in (2, 3):
        up, down = f"INSERT INTO ran VALUES ({number});", f"DELETE FROM ran WHERE step = {number};"
        write(migrations, f"000{number}_step", up, down)


@pytest.fixture
def apart(migrations: Path) -> None:
    """Let each step of the three have a transaction of its own, so that there is a time between two."""
    write(migrations, "0001_log", f"{APART}CREATE TABLE ran (step);", f"{APART}DROP TABLE ran;")
    for number in (2, 3):
        up, down = f"INSERT INTO ran VALUES ({number});", f"DELETE FROM ran WHERE step = {number};"
        write(migrations, f"000{number}_step", APART + up, APART + down)


def log(database: Path) -> list[tuple[object, ...]]:
    return query(database, "SELECT action, version FROM migration_log ORDER BY id")


def once(when: Callable[[Progress], bool], act: Callable[[], object]) -> Callable[[Progress], None]:
    """Return a progress function that acts the first time that its condition holds."""
    acted: list[bool] = []

    def report(progress: Progress) -> None:
        if not acted and when(progress):
            acted.append(True)
            act()

    return report


def done(version: str) -> Callable[[Progress], bool]:
    return lambda progress: progress.done and progress.step.version == version


def begins(version: str) -> Callable[[Progress], bool]:
    return lambda progress: not progress.done and progress.step.version == version


# Others are faster


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (lambda: migrate("app.db", "migrations", target="2"), ["0001", "0003"]),
        (lambda: migrate("app.db", "migrations"), ["0001"]),
        (
            lambda: downgrade("app.db", "migrations", target="base", backup=False),
            ["0001", "0001", "0002", "0003"],
        ),
        (lambda: change("app.db", "CREATE TABLE other (a)"), ["0001", "0002", "0003"]),
        (lambda: change("app.db", "UPDATE alembic_version SET version_num = '0002'"), ["0001", "0003"]),
    ],
    ids=["one step", "all steps", "back to base", "something else", "Alembic"],
)
def test_what_others_did_between_two_steps_is_planned_for(
    other: Callable[[], object], expected: list[str], database: Path
) -> None:
    assert ran(migrate(database, "migrations", progress=once(done("0001"), other))) == expected
    assert query(database, "SELECT version_num FROM alembic_version") == [("0003",)]
    assert migrate(database, "migrations") == ()


@pytest.mark.usefixtures("apart")
def test_a_run_never_turns_back_when_others_went_further(database: Path) -> None:
    report = once(done("0001"), lambda: migrate("app.db", "migrations"))
    assert ran(migrate(database, "migrations", target="2", progress=report)) == ["0001"]
    assert current(database, "migrations").at_head
    report = once(done("0003"), lambda: downgrade("app.db", "migrations", target="base", backup=False))
    steps = downgrade(database, "migrations", target="1", backup=False, progress=report)
    assert ran(steps) == ["0003"]
    assert current(database, "migrations").version is None


@pytest.mark.usefixtures("apart")
def test_a_file_that_others_applied_anew_and_that_was_edited_is_noticed(
    database: Path, migrations: Path
) -> None:
    def another_release() -> None:
        write(migrations, "0001_log", "CREATE TABLE ran (step, more);", "DROP TABLE ran;")
        downgrade("app.db", "migrations", backup=False)
        migrate("app.db", "migrations", target="1")

    with pytest.raises(HistoryError) as caught:
        migrate(database, "migrations", progress=once(done("0001"), another_release))
    assert str(caught.value).startswith("migrations/0001_log.up.sql: edited after it was applied; ")
    assert current(database, "migrations").version == "0001"


@pytest.mark.usefixtures("apart")
def test_a_long_log_is_read_between_two_steps(database: Path) -> None:
    row = "'upgrade', '0001', 'log', '', '0001', '', '', 0"
    columns = "action, version, name, from_version, to_version, checksum, at, took_ms"
    long = f"INSERT INTO migration_log ({columns}) {numbers(20_000, row)}"
    report = once(done("0001"), lambda: change("app.db", long))
    assert ran(migrate("app.db", "migrations", progress=report)) == ["0001", "0002", "0003"]


@pytest.mark.usefixtures("apart")
def test_what_others_did_between_two_steps_down_is_planned_for(database: Path) -> None:
    migrate(database, "migrations")
    report = once(done("0003"), lambda: downgrade("app.db", "migrations", backup=False))
    steps = downgrade(database, "migrations", target="base", backup=False, progress=report)
    assert ran(steps) == ["0003", "0001"]
    assert current(database, "migrations").version is None


def test_a_file_without_a_transaction_that_another_process_ran_is_not_begun(
    database: Path, migrations: Path
) -> None:
    write(migrations, "0002_step", f"{ALONE}INSERT INTO ran VALUES (2);")
    report = once(begins("0002"), lambda: migrate("app.db", "migrations", target="2"))
    assert ran(migrate(database, "migrations", progress=report)) == ["0001", "0003"]
    assert query(database, "SELECT step FROM ran") == [(2,), (3,)]
    assert log(database) == [
        *(("upgrade", "0001"), ("start", "0002"), ("start", "0002"), ("upgrade", "0002"), ("upgrade", "0003"))
    ]


def test_a_file_without_a_transaction_that_another_process_finished_is_not_recorded_twice(
    database: Path, migrations: Path
) -> None:
    write(migrations, "0002_step", f"{ALONE}SELECT 1;\nSELECT overtaken();")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.create_function(
            "overtaken", 0, lambda: change(database, "UPDATE alembic_version SET version_num = '0002'")
        )
        assert ran(migrate(connection, "migrations")) == ["0001", "0003"]
        assert not connection.in_transaction
    assert log(database) == [("upgrade", "0001"), ("start", "0002"), ("upgrade", "0003")]


def test_a_statement_outside_a_transaction_waits_for_a_lock(database: Path, migrations: Path) -> None:
    write(migrations, "0002_step", f"{ALONE}INSERT INTO ran VALUES (2);")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        report = once(begins("0002"), lambda: other.execute("BEGIN IMMEDIATE"))
        with pytest.raises(AccessError) as caught:
            migrate("app.db", "migrations", timeout=0.1, progress=report)
    assert str(caught.value) == (
        "app.db: locked by another process for 0.1 s; no statement has taken effect, app.db is still at 0001"
    )
    assert ran(migrate(database, "migrations")) == ["0002", "0003"]


# Statements


@pytest.mark.parametrize("kind", ["", ALONE], ids=["transaction", "no transaction"])
def test_a_statement_that_returns_rows_is_run_to_its_end(kind: str, database: Path, migrations: Path) -> None:
    rows = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 200)"
    write(migrations, "0002_step", f"{kind}{rows} SELECT seen(n), CAST(x'ff' AS TEXT) FROM t;")
    seen: list[int] = []
    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("seen", 1, seen.append)
        connection.text_factory = bytes
        assert ran(migrate(connection, "migrations")) == ["0001", "0002", "0003"]
        assert connection.text_factory is bytes
    assert seen == [*range(1, 201)]


@pytest.mark.parametrize("kind", ["", ALONE], ids=["transaction", "no transaction"])
def test_progress_counts_the_statements_that_are_done(kind: str, database: Path, migrations: Path) -> None:
    write(migrations, "0002_step", kind + "SELECT counted();\n" * 200)
    calls: list[float] = []
    told: list[Progress] = []

    def counted() -> None:
        calls.append(time.monotonic())
        while len(calls) == 10 and time.monotonic() < calls[-1] + 0.1:
            time.sleep(0.01)  # so that there is something to tell

    def report(progress: Progress) -> None:
        if progress.step.version == "0002":
            told.append(progress)
            assert progress.done or (progress.statement, progress.statements) == (len(calls), 200)

    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("counted", 0, counted)
        steps = migrate(connection, "migrations", progress=report)
    first, *between, last = told
    assert (first.statement, first.done) == (0, False)
    assert between
    assert all(0 < progress.statement <= 200 and not progress.done for progress in between)
    assert last.done
    assert last.step == steps[1]
    assert last.elapsed == steps[1].took
    # Not each of many statements: whoever draws a line for it would take longer than the step.
    told_at = [progress.elapsed for progress in (first, *between)]
    assert all(later - earlier > 0.0999 for earlier, later in pairwise(told_at))


def test_each_step_is_logged_if_anybody_listens(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "vmpilot.migrate"):
        steps = migrate("app.db", "migrations", target="2")
        downgrade("app.db", "migrations", backup=False)
    told = [re.sub(r"[0-9.]+ s$", "N s", record.getMessage()) for record in caplog.records]
    assert told == [
        "app.db: upgrade 0001 log, N s",
        "app.db: upgrade 0002 step, N s",
        "app.db: downgrade 0002 step, N s",
    ]
    assert f", {steps[0].took:.3f} s" in caplog.records[0].getMessage()
    assert {(record.name, record.levelname) for record in caplog.records} == {("vmpilot.migrate", "INFO")}


def test_a_database_in_memory_has_no_write_ahead_log_to_refuse(migrations: Path) -> None:
    write(migrations, "0002_step", "INSERT INTO ran VALUES (2);\nPRAGMA journal_mode = WAL;")
    with closing(sqlite3.connect(":memory:")) as connection:
        assert len(migrate(connection, "migrations")) == 3


@pytest.mark.parametrize(
    ("before", "asked", "after"), [("WAL", "DELETE", "delete"), ("DELETE", "WAL", "wal")]
)
def test_a_write_ahead_log_is_a_property_of_the_file_that_a_step_can_change(
    before: str, asked: str, after: str, database: Path, migrations: Path
) -> None:
    change(database, f"PRAGMA journal_mode = {before}")
    write(migrations, "0002_step", f"{ALONE}PRAGMA journal_mode = {asked};")
    assert len(migrate(database, "migrations")) == 3
    assert query(database, "PRAGMA journal_mode") == [(after,)]


def test_a_temporary_virtual_table_goes_with_the_tables_that_it_owns(migrations: Path) -> None:
    write(migrations, "0002_step", "CREATE VIRTUAL TABLE temp.words USING fts5 (a);")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE words_data (a)")  # not to be taken for one of those tables
        assert len(migrate(connection, "migrations")) == 3
        assert connection.execute("SELECT * FROM main.words_data").fetchall() == []
        assert connection.execute("SELECT name FROM sqlite_temp_master").fetchall() == []


@pytest.mark.parametrize("stored", [None, "abc"])
def test_the_log_holds_what_each_step_took(stored: str | None, database: Path, migrations: Path) -> None:
    if stored:
        write(migrations, "0002_step", f"-- vmpilot: revision {stored}\nINSERT INTO ran VALUES (2);", "")
    steps = migrate(database, "migrations")
    assert [(step.before, step.after) for step in steps] == [
        *(("base", "0001"), ("0001", "0002"), ("0002", "0003"))
    ]
    for entry, step in zip(history(database, "migrations"), steps, strict=True):
        assert entry.took_ms is not None
        assert entry.took_ms == pytest.approx(1000 * step.took, abs=0.001)


def test_a_downgrade_that_was_cut_short_is_told_where_nothing_else_is_to_be_done(
    migrations: Path, database: Path
) -> None:
    migrations = migrations.with_name("own")
    migrations.mkdir()
    write(migrations, "0001_a", "CREATE TABLE a (b);", f"{ALONE}DROP TABLE a;\nDROP TABLE none;")
    migrate(database, migrations)
    with pytest.raises(StepError):
        downgrade(database, migrations, backup=False)
    for _ in range(2):
        with pytest.raises(VersionError) as caught:
            migrate(database, migrations)
        assert "0001_a began outside a transaction at " in str(caught.value)
        assert str(caught.value).endswith(" downgrade base")
    write(migrations, "0001_a", "CREATE TABLE a (b);", f"{ALONE}DROP TABLE IF EXISTS a;")
    assert [step.after for step in downgrade(database, migrations, backup=False)] == ["base"]
    assert len(migrate(database, migrations)) == 1
