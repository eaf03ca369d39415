"""Proves that `renumber` gives what nobody has applied the next free number, both files or none, and overwrites nothing.

What it prints is among the transcripts.
"""

import os
from pathlib import Path

import pytest
from support import change, denied, nobody, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    VersionError,
    current,
    migrate,
    renumber,
    stamp,
)


@pytest.fixture(autouse=True)
def two(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(migrations.parent)
    write(migrations, "0001_a", "CREATE TABLE a (x);", "DROP TABLE a;")
    write(migrations, "0002_b", "CREATE TABLE b (y);", "DROP TABLE b;")
    return migrations


def files() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path("migrations").iterdir()}


def again(name: str) -> tuple[str, str | None]:
    return renumber(name, "app.db", "migrations")


# What is there beside the two, which name is given, and what the files are called afterwards.
NAMES = {
    "a file": (["0002_c"], "0002_c.up.sql", "0003_c"),
    "the other file": (["0002_c"], "0002_c.down.sql", "0003_c"),
    "its path": (["0002_c"], "migrations/0002_c.up.sql", "0003_c"),
    "what both begin with": (["0002_c"], "0002_c", "0003_c"),
    "a version": (["0000_c"], "0", "0003_c"),
    "a whole version": (["0000_c"], "0000", "0003_c"),
    "only a number": (["0000"], "0000", "0003"),
    "a hyphen": (["0002-c-d"], "0002-c-d", "0003-c-d"),
    "one of three with a number": (["2_c", "002_d"], "2_c", "0003_c"),
    "one in the middle": (["0004_d"], "0002_b", "0005_b"),
    "a time": (["20261122093000_c", "20261122093000_d"], "20261122093000_d", "20261122093001_d"),
    "a narrow number": (["3_c", "3_d"], "3_d", "0004_d"),
    "a wide number": (["000003_c", "000003_d"], "000003_c", "000004_c"),
    "what is wrong elsewhere": (["0002_c", "0001_z", "0003_x_up"], "0002_c", "0004_c"),
}


@pytest.mark.parametrize(("more", "name", "expected"), NAMES.values(), ids=NAMES)
def test_the_files_that_are_named_get_the_next_free_number(
    two: Path, more: list[str], name: str, expected: str
) -> None:
    for stem in more:
        write(two, stem, f"-- up {stem}\n", f"-- down {stem}\n")
    before = files()
    up, down = again(name)
    assert (up, down) == (f"migrations/{expected}.up.sql", f"migrations/{expected}.down.sql")
    after = files()
    moved = {f"{expected}.up.sql", f"{expected}.down.sql"}
    assert after.keys() - before.keys() == moved and len(before.keys() - after.keys()) == 2
    assert sorted(after.values()) == sorted(before.values())


def test_a_missing_down_is_no_hindrance(two: Path) -> None:
    write(two, "0002_c", "", None)
    assert again("0002_c") == ("migrations/0003_c.up.sql", None)
    assert not Path("migrations/0003_c.down.sql").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("0002", 'migrations: "0002" can mean 0002_b and 0002_c; nothing was changed; say which'),
        ("9", "migrations: no migration is named '9'; expected a version or a name like 0003_add_title; nothing was changed"),
        ("c", "migrations: no migration is named 'c'; expected a version or a name like 0003_add_title; nothing was changed"),
        ("", "migrations: no migration is named ''; expected a version or a name like 0003_add_title; nothing was changed"),
    ],
)  # fmt: skip
def test_a_name_that_there_is_not_or_that_means_two_is_refused(two: Path, name: str, told: str) -> None:
    write(two, "0002_c", "", "")
    with pytest.raises(HistoryError) as caught:
        again(name)
    assert str(caught.value) == told


def test_after_a_merge_each_database_gets_what_it_lacks(two: Path) -> None:
    migrate("app.db", "migrations")
    migrate("other.db", "migrations", target="1")
    write(two, "0002_c", "CREATE TABLE c (z);", "DROP TABLE c;")
    again("0002_c")
    for database in ("app.db", "other.db"):
        migrate(database, "migrations")
        assert current(database, "migrations").at_head


# Where the database is, what is there then, and why the files keep their number.
APPLIED = {
    "applied": ("0002_b", "0002_b", "migrations/0002_b.up.sql: applied to app.db; nothing was changed"),
    "applied and edited": ("0001_a", "0001_a", "migrations/0001_a.up.sql: applied to app.db; nothing was changed"),
    "applied under another name": ("0002_z", "0002_b", "migrations/0002_z.up.sql: applied to app.db; nothing was changed"),
    "applied under another number": (
        "0009_b",
        "0002_b",
        "migrations/0009_b.up.sql: applied as 0002_b; nothing was changed; "
        "rename its files back to 0002_b.up.sql and 0002_b.down.sql",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "was", "told"), APPLIED.values(), ids=APPLIED)
def test_what_is_applied_keeps_its_number(two: Path, name: str, was: str, told: str) -> None:
    migrate("app.db", "migrations")
    for direction in ("up", "down"):
        os.rename(f"migrations/{was}.{direction}.sql", f"migrations/{name}.{direction}.sql")
    if name == "0001_a":
        write(two, "0001_a", "CREATE TABLE a (z);", "DROP TABLE a;")
    before = files()
    with pytest.raises(MigrationError) as caught:
        again(name)
    assert str(caught.value) == told
    assert files() == before


def test_what_the_log_does_not_tell_is_refused(two: Path) -> None:
    stamp("2", "app.db", "migrations")
    change(Path("app.db"), "DELETE FROM migration_log")
    with pytest.raises(VersionError) as caught:
        again("0001_a")
    told = "migrations/0001_a.up.sql: nothing tells that it is not applied to app.db; nothing was changed"
    assert str(caught.value) == told


def test_a_file_that_came_late_goes_above_all_that_the_database_has(two: Path) -> None:
    write(two, "0003_c", "CREATE TABLE c (z);", "DROP TABLE c;")
    migrate("app.db", "migrations")
    for direction in ("up", "down"):
        os.remove(f"migrations/0003_c.{direction}.sql")
    write(two, "0000_z", "", "")
    assert again("0000_z")[0] == "migrations/0004_z.up.sql"


def test_the_newest_one_keeps_its_number(two: Path) -> None:
    with pytest.raises(VersionError) as caught:
        again("0002_b")
    assert str(caught.value) == "migrations/0002_b.up.sql: has the newest number; nothing was changed"


@pytest.mark.parametrize("taken", ["0003_b.up.sql", "0003_b.down.sql"])
def test_nothing_is_overwritten_and_both_files_are_renamed_or_none(two: Path, taken: str) -> None:
    """A link to nowhere is no migration file, but it has the name."""
    write(two, "0001_b", "-- late", "-- late")
    (two / taken).symlink_to("nowhere")
    if taken.endswith("up.sql"):
        (two / taken).rename(two / "0003_b.up.sql")
    before = sorted(os.listdir(two))
    with pytest.raises(HistoryError) as caught:
        again("0001_b")
    assert str(caught.value) == f"migrations/{taken}: file exists; nothing was renamed"
    assert sorted(os.listdir(two)) == before


def test_one_that_was_cut_short_is_seen_by_every_command_and_ended_by_the_next_call(two: Path) -> None:
    write(two, "0001_c", "-- up", "-- down")
    os.rename("migrations/0001_c.down.sql", "migrations/0003_c.down.sql")
    with pytest.raises(HistoryError):
        migrate("app.db", "migrations")
    assert again("0001_c") == ("migrations/0003_c.up.sql", "migrations/0003_c.down.sql")
    assert migrate("app.db", "migrations")[-1].version == "0003"


@pytest.mark.parametrize("lone", ["0002_c", "0000_c", "0009"])
def test_the_down_of_another_migration_is_left_alone(two: Path, lone: str) -> None:
    """One that somebody forgot to rename is below, or on a number that is taken; without a name it is anybody's."""
    write(two, "0002_y", "", "")
    write(two, "0003_c" if "_" in lone else "0003", "-- up", None)
    Path(f"migrations/{lone}.down.sql").write_text("-- another")
    write(two, "0003_z", "", "")
    up, down = again("0003_c" if "_" in lone else "0003.up.sql")
    assert (up.startswith("migrations/0004") or "_" not in lone, down) == (True, None)
    assert Path(f"migrations/{lone}.down.sql").read_text() == "-- another"


def test_a_directory_that_may_not_be_written_to_is_named(two: Path) -> None:
    write(two, "0002_c", "", "")
    two.parent.chmod(0o755)
    two.chmod(0o555)
    with nobody():
        with pytest.raises(AccessError) as caught:
            again("0002_c")
        assert str(caught.value) == denied("migrations", "write to", fate="nothing was renamed")
