"""Proves that `redo` begins only what it can end, undoes what was applied, and applies today's file.

What it prints is among the transcripts.
"""

from pathlib import Path

import pytest
from support import change, pasteable, query, write

from vmpilot.migrate import HistoryError, MigrationError, StepError, VersionError, downgrade, migrate, redo


@pytest.fixture(autouse=True)
def two(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(migrations.parent)
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    write(migrations, "0002_b", "CREATE TABLE b (y);", "DROP TABLE b;")
    migrate("app.db", "migrations")
    return migrations


def columns() -> list[tuple[object, ...]]:
    return query(Path("app.db"), "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c "
                 "WHERE m.name < 'ab' OR m.name BETWEEN 'b' AND 'bz' ORDER BY 1, 2")  # fmt: skip


def test_the_newest_migration_is_undone_and_applied_again() -> None:
    steps = redo("app.db", "migrations")
    assert [(step.action, step.version) for step in steps] == [("downgrade", "0002"), ("upgrade", "0002")]
    assert len([*Path().glob("app.db.0002.*.bak")]) == 1
    redo("app.db", "migrations", backup=False)
    assert len([*Path().glob("app.db.0002.*.bak")]) == 1


def test_what_was_applied_is_undone_and_todays_file_is_applied(two: Path) -> None:
    write(two, "0002_b", "CREATE TABLE bc (z);", "DROP TABLE bc;")
    redo("app.db", "migrations", backup=False)
    assert columns() == [("a", "x"), ("bc", "z")]


def test_a_migration_that_is_not_the_newest_file_can_be_the_newest_applied(two: Path) -> None:
    write(two, "0003_c", "CREATE TABLE c (z);", "DROP TABLE c;")
    assert [step.version for step in redo("app.db", "migrations", backup=False)] == ["0002", "0002"]
    assert columns() == [("a", "x"), ("b", "y")]


def test_what_fails_the_second_time_leaves_the_first_step_and_says_so(two: Path) -> None:
    write(two, "0002_b", "CREATE TABEL b;", "DROP TABLE b;")
    with pytest.raises(StepError) as caught:
        redo("app.db", "migrations", backup=False)
    assert [step.action for step in caught.value.steps] == ["downgrade"]
    assert columns() == [("a", "x")]


EDITED = (
    "migrations/0001_a.up.sql: edited after it was applied; nothing was changed; write a new migration instead, "
    "or downgrade below it and upgrade again, or accept the edit, run: python3 -m vmpilot.migrate stamp 0001"
)
# What is written over the files, and the refusal.
REFUSED = {
    "a file that is not whole": (
        ("0002_b", "COMMIT;", ""),
        HistoryError,
        "migrations/0002_b.up.sql:1: COMMIT is not allowed here, the runner owns the transaction; app.db was not touched",
    ),
    "a down that is not whole": (
        ("0002_b", "CREATE TABLE b (y);", "COMMIT;"),
        HistoryError,
        "migrations/0002_b.down.sql:1: COMMIT is not allowed here, the runner owns the transaction; "
        "app.db was not touched",
    ),
    "what cannot be undone": (
        ("0002_b", "CREATE TABLE b (y);", "-- vmpilot: irreversible no way"),
        VersionError,
        "cannot downgrade 0002: migrations/0002_b.down.sql is irreversible: no way; nothing was changed",
    ),
    "an older file that was edited": (("0001_a", "CREATE TABLE a (z);", ""), HistoryError, EDITED),
    "a file that was merged late": (
        ("0000_z", "CREATE TABLE z (z);", ""),
        HistoryError,
        "migrations/0000_z.up.sql: never applied, and app.db is already at 0002; nothing was changed; "
        "to give it the next free number, run: python3 -m vmpilot.migrate renumber 0000_z",
    ),
}


@pytest.mark.parametrize(("file", "kind", "told"), REFUSED.values(), ids=REFUSED)
def test_what_would_keep_it_from_ending_keeps_it_from_beginning(
    two: Path, file: tuple[str, str, str], kind: type[MigrationError], told: str
) -> None:
    write(two, *file)
    with pytest.raises(kind) as caught:
        redo("app.db", "migrations")
    assert str(caught.value) == pasteable(told)
    assert columns() == [("a", "x"), ("b", "y")]
    assert [*Path().glob("*.bak")] == []


def test_a_version_without_files_is_refused(two: Path) -> None:
    (two / "0002_b.up.sql").unlink()
    (two / "0002_b.down.sql").unlink()
    with pytest.raises(VersionError) as caught:
        redo("app.db", "migrations")
    assert str(caught.value) == pasteable(
        "app.db is at 0002, but this code knows only base to 0001; it was upgraded by newer code; nothing was "
        "changed; to take it back, run: python3 -m vmpilot.migrate downgrade head"
    )


def test_with_nothing_applied_there_is_nothing_to_do_again(two: Path) -> None:
    with pytest.raises(VersionError) as caught:
        redo("other.db", "migrations")
    assert str(caught.value) == pasteable(
        "other.db is at base: nothing to do again; nothing was changed; to apply 0001_a, "
        "run: python3 -m vmpilot.migrate upgrade 0001",
        "other.db",
    )
    assert not Path("other.db").exists()


def test_after_a_second_step_that_failed_the_one_below_is_left_alone(two: Path) -> None:
    good = (two / "0002_b.up.sql").read_text()
    write(two, "0002_b", "CREATE TABEL b (y);", "DROP TABLE b;")
    with pytest.raises(StepError):
        redo("app.db", "migrations", backup=False)
    change("app.db", "INSERT INTO a VALUES ('kept')")
    (two / "0002_b.up.sql").write_text(good)
    with pytest.raises(VersionError) as caught:
        redo("app.db", "migrations")
    assert str(caught.value) == pasteable(
        "app.db: 0002_b was undone last, so 0001_a is not the one to do again; nothing was changed; "
        "to apply 0002_b, run: python3 -m vmpilot.migrate upgrade 0002"
    )
    assert query("app.db", "SELECT x FROM a") == [("kept",)]
    # As it is told; and where the files of that one are gone, the one below is the newest again.
    migrate("app.db", "migrations", target="2")
    downgrade("app.db", "migrations", backup=False)
    for path in two.glob("0002_b.*"):
        path.unlink()
    assert [step.version for step in redo("app.db", "migrations", backup=False)] == ["0001", "0001"]


def test_what_is_unfinished_is_told(two: Path) -> None:
    write(two, "0003_c", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS c (z);\nSELECT missing;", "")
    with pytest.raises(StepError):
        migrate("app.db", "migrations")
    with pytest.raises(VersionError) as caught:
        redo("app.db", "migrations")
    assert "0003_c began outside a transaction at " in str(caught.value)
