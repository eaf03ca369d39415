"""Every message of the core, word for word, with its error's attributes and the database left as it was.

A message reads `where: what[; what happened to the database][; what to do]`. What the guards say, and the
modules beyond the core, is tested beside them.
"""

import os
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support import APART, change, denied_both, nobody, pasteable, query, running, write

import vmpilot.migrate
from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    Progress,
    StepError,
    VersionError,
    check,
    current,
    downgrade,
    history,
    migrate,
    migrate_all,
    renumber,
    restore,
    stamp,
)

# The commands in their simplest form, each on `app.db` with the files in `migrations`.
Command = Callable[[], object]
COMMANDS: dict[str, Command] = {
    "upgrade": lambda: migrate("app.db", "migrations", timeout=0.1),
    "downgrade": lambda: downgrade("app.db", "migrations", backup=False, timeout=0.1),
    "stamp": lambda: stamp("0001", "app.db", "migrations", timeout=0.1),
    "current": lambda: current("app.db", "migrations", timeout=0.1),
    "history": lambda: history("app.db", "migrations", timeout=0.1),
}
upgrade = COMMANDS["upgrade"]
ONE = "CREATE TABLE one (a UNIQUE);\nINSERT INTO one VALUES (1);"


@pytest.fixture(autouse=True)
def here(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside `migrations`, which holds two of them, and `app.db`, which is at the first."""
    monkeypatch.chdir(migrations.parent)
    write(migrations, "0001_one", ONE, "DROP TABLE one;")
    migrate("app.db", "migrations")
    write(migrations, "0002_two", "CREATE TABLE two (a);", "DROP TABLE two;")


def remove(migrations: Path, *stems: str) -> None:
    for stem in stems:
        (migrations / f"{stem}.up.sql").unlink()
        (migrations / f"{stem}.down.sql").unlink()


def content() -> dict[str, bytes]:
    """Return the content of every file at hand, migrations excepted."""
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def refused(command: Command, of: type[MigrationError], message: str, **attributes: object) -> MigrationError:
    """Expect that a command is refused with this message, having changed nothing at all; return the cause."""
    before = content()
    error = failed(command, of, message, **attributes)
    assert content() == before
    return error


def failed(command: Command, of: type[MigrationError], message: str, **attributes: object) -> MigrationError:
    """Expect that a command fails with this message, and that the error has these attributes.

    `...` stands for words of SQLite's own: those of the error that is the cause.
    """
    with pytest.raises(MigrationError) as caught:
        command()
    error = caught.value
    assert type(error) is of
    assert str(error) == pasteable(message.replace("...", str(error.__cause__)))
    assert {name: getattr(error, name) for name in attributes} == attributes
    return error


# Files

UNTOUCHED = "app.db was not touched"
LATE = (
    "never applied, and app.db is already at 0001; nothing was changed; "
    "to give it the next free number, run: python3 -m vmpilot.migrate renumber"
)


class Case(NamedTuple):
    """Up files that are written, and the message with which each of the commands is refused."""

    files: dict[str, str]
    message: str
    line: int = 0
    commands: tuple[str, ...] = ("upgrade",)


FILES = {
    "a number twice": Case(
        {"2_zwei": ""},
        *("has the number of 0002_two.up.sql; the next free number is 0003", 0, tuple(COMMANDS)),
    ),
    "a statement that is not allowed": Case(
        {"0003_add_title": "SELECT 1;\n\n\n\nCOMMIT;"},
        *(f"COMMIT is not allowed here, the runner owns the transaction; {UNTOUCHED}", 5),
    ),
    "a revision twice": Case(
        {"0003_x": "-- vmpilot: revision abc\n", "0004_y": "-- vmpilot: revision abc\n"},
        f"revision abc is declared by another migration too; {UNTOUCHED}",
    ),
    "late": Case({"0000_nil": ""}, f"{LATE} 0000_nil"),
    "late without a name": Case({"0": ""}, f"{LATE} 0"),
    "late with a hyphen": Case({"0000-two-words": ""}, f"{LATE} 0000-two-words"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(name: str, migrations: Path) -> None:
    files, message, line, commands = FILES[name]
    for stem, up in files.items():
        write(migrations, stem, up)
    file = f"migrations/{max(files)}.up.sql"
    where = f"{file}:{line}" if line else file
    for command in commands:
        refused(COMMANDS[command], HistoryError, f"{where}: {message}", kind="history", file=file, line=line)


@pytest.mark.parametrize(
    ("sql", "line", "words"),
    [
        ("SELECT 1;\nSELECT 'a;", 2, "this string is never closed"),
        ('SELECT 1;\nSELECT "a;', 2, "this quoted name is never closed"),
        ("SELECT 1;\n/* why", 2, "this comment is never closed"),
        ("SELECT 1;\nCREATE TRIGGER x AFTER INSERT ON one BEGIN SELECT 1;", 2, "this trigger has no END;"),
        ("SELECT 1;\0", 1, "a NUL byte is not allowed here"),
        ("ATTACH 'x' AS x;", 1, "ATTACH is not allowed here, a migration has one database"),
        (
            *("-- vmpilot: nonsense", 1),
            '"nonsense" is not a directive; '
            "expected revision, no-transaction, irreversible, unguarded or foreign-keys-on",
        ),
        (
            *("-- migrate:up\nSELECT 1;", 1),
            '"-- migrate:up" belongs to a file that holds both directions; put them into two files',
        ),
        (
            *("-- +goose Up\nSELECT 1;", 1),
            '"-- +goose" belongs to a file that holds both directions; put them into two files',
        ),
    ],
)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_file_that_breaks_a_rule(sql: str, line: int, words: str, direction: str, migrations: Path) -> None:
    write(migrations, "0003_three", "nonsense")
    file = f"migrations/0003_three.{direction}.sql"
    Path(file).write_bytes(sql.encode())
    # Nor does 0002 run, which is good.
    refused(upgrade, HistoryError, f"{file}:{line}: {words}; {UNTOUCHED}", file=file, line=line)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_that_nearly_matches(name: str, migrations: Path) -> None:
    file = "migrations/3_add_title.up..sql"
    Path(file).touch()
    message = f"{file}: expected a name like 0003_add_title.up.sql"
    refused(COMMANDS[name], HistoryError, message, kind="history", file=file, line=0)


def test_a_bad_file_of_a_new_database_does_not_even_create_it(migrations: Path) -> None:
    write(migrations, "0002_two", "ROLLBACK;")
    refused(
        lambda: migrate("new.db", "migrations"),
        HistoryError,
        "migrations/0002_two.up.sql:1: ROLLBACK is not allowed here, the runner owns the transaction; "
        "new.db was not touched",
    )
    assert not Path("new.db").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_directory_that_is_none(name: str, migrations: Path) -> None:
    shutil.rmtree(migrations)
    refused(COMMANDS[name], HistoryError, "migrations: no such file or directory", file="migrations", line=0)
    migrations.touch()
    refused(COMMANDS[name], HistoryError, "migrations: not a directory", file="migrations", line=0)


def test_files_that_were_edited_after_they_were_applied(migrations: Path) -> None:
    ways = (
        "edited after it was applied; nothing was changed; write a new migration instead, or downgrade "
        "below it and upgrade again, or accept the edit, run: python3 -m vmpilot.migrate stamp"
    )
    one = "migrations/0001_one.up.sql"
    write(migrations, "0001_one", "CREATE TABLE one (b);")
    refused(upgrade, HistoryError, f"{one}: {ways} 0001", file=one, line=0)
    write(migrations, "0001_one", ONE)
    upgrade()
    for name in ("0001_one", "0002_two"):
        write(migrations, name, "SELECT 1;")
    write(migrations, "0003_three", "")
    refused(upgrade, HistoryError, f"{one}: {ways} 0002", file=one)
    stamp("0002", "app.db", "migrations")
    assert len(migrate("app.db", "migrations")) == 1


def test_a_late_file_that_was_renamed_as_told_is_applied(migrations: Path) -> None:
    write(migrations, "0003_nil", "CREATE TABLE nil (a);")
    assert [step.version for step in migrate("app.db", "migrations")] == ["0002", "0003"]


# Versions


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["'0001'", "'0002'"], "2 rows ('0001', '0002')"),
        ([f"'000{at}'" for at in range(7)], "7 rows ('0000', '0001', '0002', '0003', '0004')"),
        (["1"], "a value of type int (1)"),
        (["1.0"], "a value of type float (1.0)"),
        (["x'30'"], "a value of type bytes (b'0')"),
        (["NULL"], "a value of type NoneType (None)"),
        (["''"], "a value of type str ('')"),
        (["printf('%.*c', 256, 'x')"], f"a value of type str ('{20 * 'x'}' and 236 more)"),
        (["zeroblob(256)"], f"a value of type bytes ({bytes(20)!r} and 236 more)"),
    ],
)
def test_a_version_table_that_makes_no_sense(values: list[str], found: str) -> None:
    change("app.db", "DROP TABLE alembic_version", "CREATE TABLE alembic_version (version_num)")
    change("app.db", *(f"INSERT INTO alembic_version VALUES ({value})" for value in values))
    message = (
        f"app.db: alembic_version holds {found}, expected one text; nothing was changed; "
        "to set the version, run: python3 -m vmpilot.migrate stamp VERSION"
    )
    for name in ("upgrade", "downgrade", "current", "history"):
        refused(
            COMMANDS[name], VersionError, message, kind="version", version="", database="app.db", steps=()
        )


NEWER = (
    "it was upgraded by newer code; nothing was changed; "
    "to take it back, run: python3 -m vmpilot.migrate downgrade head"
)


BELOW = "to record 0002 and leave the rest as it is, run: python3 -m vmpilot.migrate stamp 0002"
STAMP = "to record another version, run: python3 -m vmpilot.migrate stamp VERSION"


@pytest.mark.parametrize(
    ("value", "fate"),
    [
        *(
            (
                value,
                "nothing was changed; "
                f"declare it in the up file with the same effect: -- vmpilot: revision {value}",
            )
            for value in ("57dc007f6d46", "x", "²", "9" * 33)
        ),
        *((value, f"nothing was changed; {STAMP}") for value in ("0000", "a b", "a\tb")),
        *(
            (value, f"it was upgraded by newer code; nothing was changed; {BELOW}")
            for value in ("0003", "20261122093000", "9" * 32)
        ),
    ],
)
def test_a_version_that_nothing_knows(value: str, fate: str) -> None:
    change("app.db", f"UPDATE alembic_version SET version_num = '{value}'")
    shown = value.replace("\t", "\\t")
    message = f"app.db is at {shown}, but this code knows only base to 0002; {fate}"
    for name in ("upgrade", "downgrade"):
        refused(COMMANDS[name], VersionError, message, version=value)
    assert current("app.db", "migrations").version == value
    assert history("app.db", "migrations")[-1][:3] == (value, "", "unknown")


def test_an_unknown_revision_that_is_declared_as_told_is_known(migrations: Path) -> None:
    change("app.db", "UPDATE alembic_version SET version_num = '57dc007f6d46'")
    with pytest.raises(VersionError) as caught:
        upgrade()
    remedy = str(caught.value).partition("same effect: ")[2]
    up = migrations / "0002_two.up.sql"
    up.write_text(f"{remedy}\n{up.read_text()}")
    assert migrate("app.db", "migrations") == ()
    assert current("app.db", "migrations").at_head


def renumbered(migrations: Path, before: str, after: str) -> None:
    for direction in ("up", "down"):
        (migrations / f"{before}.{direction}.sql").rename(migrations / f"{after}.{direction}.sql")


GONE = "app.db is at 0002, but this code knows only base to"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "0002_two",
            "0005_two",
            f"{GONE} 0005; nothing was changed; rename the files of 0005_two back to 0002_two",
        ),
        (
            *("0001_one", "0005_one"),
            "migrations/0005_one.up.sql: applied as 0001_one; nothing was changed; "
            "rename its files back to 0001_one.up.sql and 0001_one.down.sql",
        ),
        (
            "0002_two",
            "0000_two",
            f"{GONE} 0001; nothing was changed; rename the files of 0000_two back to 0002_two",
        ),
        (
            *("0001_one", "0000_one"),
            "migrations/0000_one.up.sql: applied as 0001_one; nothing was changed; "
            "rename its files back to 0001_one.up.sql and 0001_one.down.sql",
        ),
    ],
)
def test_an_applied_migration_whose_files_were_renumbered(
    before: str, after: str, message: str, migrations: Path
) -> None:
    upgrade()
    renumbered(migrations, before, after)
    refused(upgrade, VersionError if before == "0002_two" else HistoryError, message)
    assert message in [problem.message for problem in check("app.db", "migrations").problems]
    renumbered(migrations, after, before)  # as told
    assert migrate("app.db", "migrations") == ()
    assert current("app.db", "migrations").at_head


def test_the_same_statements_once_more_are_another_migration(migrations: Path) -> None:
    again = "INSERT OR IGNORE INTO one VALUES (2);"
    write(migrations, "0003_more", again, "")
    write(migrations, "0004_four", "", "")
    upgrade()
    remove(migrations, "0003_more")
    write(migrations, "0005_more_again", again, "")
    assert [step.version for step in migrate("app.db", "migrations")] == ["0005"]


def test_an_applied_migration_whose_files_are_gone(migrations: Path) -> None:
    upgrade()
    remove(migrations, "0002_two")
    write(migrations, "0005_five", "CREATE TABLE five (a);", "DROP TABLE five;")
    message = f"{GONE} 0005; nothing was changed; put the files of 0002_two back"
    refused(upgrade, VersionError, message, kind="version", version="0002")


LEFT = (
    "app.db is at 0004, but this code knows only base to 0002; it was upgraded by newer code; nothing was changed; "
    "its log keeps no way back; to record 0002 and leave the rest as it is, "
    "run: python3 -m vmpilot.migrate stamp 0002"
)


@pytest.mark.parametrize("down", [None, "-- VMPilot: irreversible the rows are gone"])
@pytest.mark.parametrize("bad", ["0003_x", "0004_x"])
def test_newer_code_that_left_no_way_back(bad: str, down: str | None, migrations: Path) -> None:
    for stem in ("0003_x", "0004_x"):
        write(migrations, stem, "", "")
    path = migrations / f"{bad}.down.sql"
    if down:
        path.write_text(down)
    else:
        path.unlink()
    upgrade()
    path.touch()
    remove(migrations, "0003_x", "0004_x")
    refused(upgrade, VersionError, LEFT, version="0004")
    with pytest.raises(VersionError):
        downgrade("app.db", "migrations", target="head", backup=False)
    stamp("0002", "app.db", "migrations")
    assert migrate("app.db", "migrations") == ()
    assert current("app.db", "migrations").at_head


def test_a_stamp_by_newer_code_left_no_way_back(migrations: Path) -> None:
    write(migrations, "0004_x", "", "")
    stamp("head", "app.db", "migrations")
    remove(migrations, "0004_x")
    refused(upgrade, VersionError, LEFT, version="0004")


def test_nobody_is_sent_to_renumber_what_is_inside_an_installed_package() -> None:
    def packed(*stems: str) -> zipfile.Path:
        with zipfile.ZipFile("packed.zip", "w") as archive:
            for stem in stems:
                archive.writestr(f"migrations/{stem}.up.sql", f"CREATE TABLE t{stem} (a);")
                archive.writestr(f"migrations/{stem}.down.sql", f"DROP TABLE t{stem};")
        return zipfile.Path("packed.zip", "migrations/")

    migrate("packed.db", packed("0001_one", "0003_three"))
    late, where = packed("0001_one", "0002_late", "0003_three"), "packed.zip/migrations/"
    refused(
        lambda: migrate("packed.db", late),
        HistoryError,
        f"{where}0002_late.up.sql: never applied, and packed.db is already at 0003; nothing was changed; give it "
        "the next free number where the package is made, or downgrade below it and upgrade again",
    )
    other = packed("0001_one", "0003_other")
    refused(
        lambda: migrate("packed.db", other),
        HistoryError,
        f"{where}0003_other.up.sql: 0003 is applied as three, but the files have 0003_other; nothing was changed; "
        "put 0003_three back, and give this one the next free number where the package is made",
    )
    # As it is told.
    late = packed("0001_one", "0002_late", "0003_three")
    downgrade("packed.db", late, target="1")
    assert [step.version for step in migrate("packed.db", late)] == ["0002", "0003"]


@pytest.mark.parametrize("more", [False, True], ids=["nothing to do", "something to do"])
def test_another_migration_under_an_applied_number(migrations: Path, more: bool) -> None:
    upgrade()
    remove(migrations, "0002_two")
    write(migrations, "0002_tags", "CREATE TABLE tags (a);", "DROP TABLE tags;")
    if more:
        write(migrations, "0003_three", "")
    message = (
        "migrations/0002_tags.up.sql: 0002 is applied as two, but the files have 0002_tags; nothing was changed; "
        "put 0002_two back, and to give this one the next free number, run: python3 -m vmpilot.migrate renumber 0002_tags"
    )
    refused(upgrade, HistoryError, message, file="migrations/0002_tags.up.sql")
    refused(COMMANDS["downgrade"], HistoryError, message, file="migrations/0002_tags.up.sql")
    assert not current("app.db", "migrations").at_head
    assert history("app.db", "migrations")[1].state == "other"
    # As it is told.
    renumber("0002_tags", "app.db", "migrations")
    write(migrations, "0002_two", "CREATE TABLE two (a);", "DROP TABLE two;")
    upgrade()
    assert current("app.db", "migrations").at_head


def test_a_late_file_is_not_in_the_way_of_a_downgrade(migrations: Path) -> None:
    upgrade()
    write(migrations, "0000_nil", "")
    refused(
        upgrade,
        HistoryError,
        f"migrations/0000_nil.up.sql: {LATE.replace('0001', '0002')} 0000_nil",
    )
    downgrade("app.db", "migrations", backup=False, target="1")
    assert current("app.db", "migrations").version == "0001"


def test_the_same_statements_under_another_name_are_a_rename(migrations: Path) -> None:
    upgrade()
    for direction in ("up", "down"):
        (migrations / f"0002_two.{direction}.sql").rename(migrations / f"0002_pair.{direction}.sql")
    assert migrate("app.db", "migrations") == ()
    assert current("app.db", "migrations").at_head
    assert [entry.state for entry in history("app.db", "migrations")] == ["applied", "applied"]


def test_a_skeleton_that_was_applied_too_early_is_undone_and_applied_again(migrations: Path) -> None:
    write(migrations, "0003_late", "-- why\n", "-- undoes it\n")
    upgrade()
    write(migrations, "0003_late", "CREATE TABLE late (a);", "DROP TABLE late;")
    assert [step.version for step in downgrade("app.db", "migrations", backup=False)] == ["0003"]
    assert [step.version for step in migrate("app.db", "migrations")] == ["0003"]
    assert query(Path("app.db"), "SELECT count(*) FROM late") == [(0,)]
    # By now the two files are what was applied, so a mended down is the one that runs.
    write(migrations, "0003_late", "CREATE TABLE late (a);", "DROP TABLE late; DROP TABLE IF EXISTS more;")
    change("app.db", "CREATE TABLE more (a)")
    downgrade("app.db", "migrations", backup=False)
    assert query(Path("app.db"), "SELECT name FROM sqlite_master WHERE name = 'more'") == []


@pytest.mark.parametrize("gone", [("0005_x", "0007_x"), ("0003_x", "0004_x", "0005_x", "0007_x", "0002_two")])
def test_a_database_of_newer_code(gone: tuple[str, ...], migrations: Path) -> None:
    for number in (3, 4, 5, 7):
        write(migrations, f"000{number}_x", "")
    upgrade()
    remove(migrations, *gone)
    known = "base to 0004" if len(gone) == 2 else "base to 0001"
    message = f"app.db is at 0007, but this code knows only {known}; {NEWER}"
    refused(upgrade, VersionError, message, kind="version", version="0007")
    assert not current("app.db", "migrations").at_head
    assert current("app.db", "migrations").pending == 0


BACK = "to go back, run: python3 -m vmpilot.migrate downgrade"
FORTH = "to go forward, run: python3 -m vmpilot.migrate upgrade"
LESS, MORE = "app.db is already at 0002", "app.db is only at 0002"
ASKED: dict[str, Callable[[str], Command]] = {
    "upgrade": lambda target: lambda: migrate("app.db", "migrations", target=target),
    "downgrade": lambda target: lambda: downgrade("app.db", "migrations", target=target, backup=False),
    "stamp": lambda target: lambda: stamp(target, "app.db", "migrations"),
}


@pytest.mark.parametrize(
    ("name", "target", "version", "message"),
    [
        ("upgrade", "1", "0001", f"cannot upgrade to 0001: {LESS}; {BACK} 0001"),
        ("upgrade", "base", "base", f"cannot upgrade to base: {LESS}; {BACK} base"),
        ("upgrade", "-1", "0001", f"cannot upgrade to 0001: {LESS}; {BACK} 0001"),
        ("downgrade", "head", "0003", f"cannot downgrade to 0003: {MORE}; {FORTH} 0003"),
        ("downgrade", "3", "0003", f"cannot downgrade to 0003: {MORE}; {FORTH} 0003"),
        ("downgrade", "+1", "0003", f"cannot downgrade to 0003: {MORE}; {FORTH} 0003"),
        *(
            (name, target, target, f"cannot move by {target}: app.db is at 0002, {left}; nothing was changed")
            for name in ASKED
            for target, left in (("+2", "1 step from head"), ("-3", "2 steps from base"))
        ),
        *(
            (
                *(name, target, target),
                f'"{target}" is not a version that app.db can be asked to have: expected base to 0003; '
                "nothing was changed",
            )
            for name in ASKED
            for target in ("0004", "", "nonsense", "²", "9" * 5000, "+" + "9" * 5000)
        ),
    ],
)
def test_a_target_that_cannot_be_reached(
    name: str, target: str, version: str, message: str, migrations: Path
) -> None:
    write(migrations, "0003_three", "")
    migrate("app.db", "migrations", target="2")
    refused(ASKED[name](target), VersionError, message, version=version)


def test_a_downgrade_past_a_migration_without_a_down(migrations: Path) -> None:
    (migrations / "0001_one.down.sql").unlink()
    upgrade()
    message = (
        "cannot downgrade 0001: migrations/0001_one.up.sql has no 0001_one.down.sql beside it; "
        "nothing was changed"
    )
    refused(ASKED["downgrade"]("base"), VersionError, message, version="0001")
    assert len(downgrade("app.db", "migrations", backup=False)) == 1


def test_a_downgrade_past_a_migration_that_is_irreversible(migrations: Path) -> None:
    upgrade()
    write(migrations, "0002_two", "CREATE TABLE two (a);", "-- vmpilot: irreversible the rows are merged")
    message = (
        "cannot downgrade 0002: migrations/0002_two.down.sql is irreversible: the rows are merged; "
        "nothing was changed"
    )
    refused(COMMANDS["downgrade"], VersionError, message, version="0002")


# Statements that fail

WHERE = "migrations/0002_two.up.sql"
KEPT = "rolled back, app.db is still at 0001"


@pytest.mark.parametrize(
    ("sql", "line", "words", "statement"),
    [
        ("CREAT TABLE two (a);\nSELECT 1;", 1, 'near "CREAT": syntax error', "CREAT TABLE two (a)"),
        (
            *("CREATE TABLE two (a);\n-- why\nINSERT INTO two\n  VALUES (1, 2);\nSELECT 1;", 3),
            *("table two has 1 columns but 2 values were supplied", "INSERT INTO two VALUES (1, 2)"),
        ),
        ("CREATE TABLE two (a);\nSELECT 1;\nDROP TABLE none", 3, "no such table: none", "DROP TABLE none"),
        (
            *("CREATE TABLE two (a); INSERT INTO one VALUES (1);", 1),
            *("UNIQUE constraint failed: one.a", "INSERT INTO one VALUES (1)"),
        ),
        (
            *("CREATE TABLE two (a);\n\nINSERT OR ROLLBACK INTO one VALUES (1);", 3),
            *("UNIQUE constraint failed: one.a", "INSERT OR ROLLBACK INTO one VALUES (1)"),
        ),
        ("SELECT missing('a');", 1, "no such function: missing", "SELECT missing('a')"),
        ("SELECT abs(-9223372036854775808)", 1, "integer overflow", "SELECT abs(-9223372036854775808)"),
        ("/* a\nb */ odd;", 2, 'near "odd": syntax error', "odd"),
        ("SELECT 1;\nSELECT ?;", 2, None, "SELECT ?"),
        (
            *(f"SELECT nil,\n\t'{'long ' * 50}';", 1, "no such column: nil"),
            "SELECT nil, '" + ("long " * 50)[:64] + "...",
        ),
        (
            "CREATE TRIGGER x AFTER INSERT ON one BEGIN\nSELECT RAISE(ROLLBACK, 'no; more'); END;\n"
            "INSERT INTO one VALUES (2);",
            *(3, "no; more", "INSERT INTO one VALUES (2)"),
        ),
    ],
)
def test_a_statement_that_fails(
    sql: str, line: int, words: str | None, statement: str, migrations: Path
) -> None:
    write(migrations, "0002_two", sql)
    message = f"{WHERE}:{line}: {words or '...'}; {KEPT}"
    attributes = {"kind": "step", "file": WHERE, "line": line, "version": "0002", "statement": statement}
    error = refused(upgrade, StepError, message, **attributes)
    assert isinstance(error.__cause__, sqlite3.Error)
    assert len(statement) <= 80


def test_the_line_of_a_statement_far_down(migrations: Path) -> None:
    write(migrations, "0002_two", 11 * "-- why\n" + "CREATE TABEL chats (title);")
    refused(upgrade, StepError, f'{WHERE}:12: near "TABEL": syntax error; {KEPT}', line=12)


def test_the_first_statement_of_the_first_file_of_a_new_database(migrations: Path) -> None:
    write(migrations, "0001_one", "nonsense")
    message = (
        'migrations/0001_one.up.sql:1: near "nonsense": syntax error; rolled back, new.db is still at base'
    )
    failed(lambda: migrate("new.db", "migrations"), StepError, message)
    assert query(Path("new.db"), "SELECT * FROM sqlite_master") == []


def test_the_steps_before_the_one_that_fails_are_kept(migrations: Path) -> None:
    write(migrations, "0003_three", "nonsense")
    message = (
        'migrations/0003_three.up.sql:1: near "nonsense": syntax error; rolled back, app.db is still at 0002'
    )
    error = failed(upgrade, StepError, message)
    assert [step[:5] for step in error.steps] == [("upgrade", "0002", "two", "0001", "0002")]
    assert current("app.db", "migrations").version == "0002"


def test_a_downgrade_that_fails(migrations: Path) -> None:
    write(migrations, "0001_one", ONE, "-- back\nDROP TABLE none;")
    file = "migrations/0001_one.down.sql"
    refused(
        COMMANDS["downgrade"],
        StepError,
        f"{file}:2: no such table: none; {KEPT}",
        file=file,
        line=2,
        version="0001",
        statement="DROP TABLE none",
    )


HINT = 'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "CREATE TABLE w (a); PRAGMA journal_mode=wal",
            "cannot change into wal mode from within a transaction",
        ),
        (
            "CREATE TABLE w (a); PRAGMA main . journal_mode('WAL')",
            "cannot change into wal mode from within a transaction",
        ),
        ("VACUUM", "cannot VACUUM from within a transaction"),
        ("PRAGMA journal_mode = WAL", "cannot change into wal mode from within a transaction"),
        ("PRAGMA synchronous = OFF", "Safety level may not be changed inside a transaction"),
    ],
)
def test_a_statement_that_wants_no_transaction(statement: str, words: str, migrations: Path) -> None:
    write(migrations, "0002_two", statement + ";")
    refused(upgrade, StepError, f"{WHERE}:1: {words}; {KEPT}; {HINT}")
    write(migrations, "0002_two", f"-- vmpilot: no-transaction\n{statement};")
    assert len(migrate("app.db", "migrations")) == 1


AGAIN = "taken effect already, app.db is still at 0001, and the file will run again from its start"


@pytest.mark.parametrize(
    ("failing", "fate"),
    [
        (0, "no statement has taken effect, app.db is still at 0001"),
        (1, f"statement 1 (line 2) has {AGAIN}"),
        (2, f"statements 1 to 2 (lines 2 to 3) have {AGAIN}"),
        (3, f"statements 1 to 3 (lines 2 to 4) have {AGAIN}"),
    ],
)
def test_a_statement_that_fails_outside_a_transaction(failing: int, fate: str, migrations: Path) -> None:
    lines = [f"CREATE TABLE IF NOT EXISTS t{at} (a);" for at in range(4)]
    lines[failing] = "DROP TABLE none;"
    write(migrations, "0002_two", "\n".join(["-- vmpilot: no-transaction", *lines]))
    message = f"{WHERE}:{failing + 2}: no such table: none; {fate}"
    failed(upgrade, StepError, message, line=failing + 2, statement="DROP TABLE none")
    left = {name for (name,) in query(Path("app.db"), "SELECT name FROM sqlite_master WHERE name LIKE 't_'")}
    assert left == {f"t{at}" for at in range(failing)}
    write(migrations, "0002_two", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS t0 (a);")
    assert len(migrate("app.db", "migrations")) == 1


HUNGRY = """
from vmpilot.migrate import migrate
try:
    migrate("app.db", "migrations")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_statement_for_which_there_is_no_memory(migrations: Path) -> None:
    hungry = "PRAGMA hard_heap_limit = 4000000;\nINSERT INTO one VALUES (length(randomblob(100000000)));"
    write(migrations, "0002_two", hungry)
    with running("-c", HUNGRY) as process:  # because a limit stays for as long as a process lives
        out, err = process.communicate()
    assert (out, err) == (f"StepError {WHERE}:2: out of memory; {KEPT}\n", "")


def test_a_page_that_is_damaged(migrations: Path) -> None:
    (page,) = query(Path("app.db"), "SELECT rootpage FROM sqlite_master WHERE name = 'one'")[0]
    (size,) = query(Path("app.db"), "PRAGMA page_size")[0]
    data = bytearray(Path("app.db").read_bytes())
    data[(int(str(page)) - 1) * int(str(size))] = 0xFF
    Path("app.db").write_bytes(data)
    write(migrations, "0002_two", "UPDATE one SET a = 2;")
    refused(upgrade, StepError, f"{WHERE}:1: database disk image is malformed; {KEPT}")


# Locks

LOCKED = "app.db: locked by another process for 0.1 s; nothing was changed"


@contextmanager
def holding(*statements: str) -> Iterator[None]:
    """Keep a lock, as another process does, with a connection that ends in a ROLLBACK."""
    with closing(sqlite3.connect("app.db", isolation_level=None)) as holder:
        for statement in statements:
            holder.execute(statement).fetchall()
        yield


@pytest.mark.parametrize(
    ("lock", "journal", "names"),
    [
        ("IMMEDIATE", "wal", ("upgrade", "downgrade", "stamp")),
        ("IMMEDIATE", "delete", ("upgrade", "downgrade", "stamp")),
        ("EXCLUSIVE", "delete", tuple(COMMANDS)),
    ],
)
def test_a_database_that_another_process_locks(lock: str, journal: str, names: tuple[str, ...]) -> None:
    change("app.db", f"PRAGMA journal_mode = {journal}")
    with holding(f"BEGIN {lock}"):
        for name in names:
            error = refused(COMMANDS[name], AccessError, LOCKED, kind="access", database="app.db")
            assert isinstance(error.__cause__, sqlite3.OperationalError)


def test_a_lock_that_comes_between_two_steps(migrations: Path) -> None:
    write(migrations, "0003_three", f"{APART}CREATE TABLE three (a);")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as holder:

        def take(progress: Progress) -> None:
            if progress.done:
                holder.execute("BEGIN IMMEDIATE")

        failed(
            lambda: migrate("app.db", "migrations", timeout=0, progress=take),
            AccessError,
            "app.db: locked by another process for 0 s; app.db is at 0002",
        )
    assert current("app.db", "migrations").version == "0002"


def test_a_reader_that_does_not_let_the_step_commit() -> None:
    with holding("BEGIN", "SELECT * FROM one"):
        refused(
            upgrade,
            AccessError,
            "app.db: COMMIT kept waiting by a reader for 0.1 s; rolled back, app.db is still at 0001",
            database="app.db",
        )


# Access


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ("nowhere/app.db", "no such directory: nowhere"),
        ("migrations", "is a directory, expected a database file"),
        ("migrations/", "is a directory, expected a database file"),
        ("app.db/x", "no such directory: app.db"),
        (300 * "x", "unable to open database file"),
    ],
)
def test_a_path_that_no_database_can_have(database: str, words: str) -> None:
    for command in (
        lambda: migrate(database, "migrations"),
        lambda: migrate(f"sqlite:///{database}", "migrations"),
        lambda: stamp("0001", database, "migrations"),
    ):
        refused(command, AccessError, f"{database}: {words}; nothing was changed", database=database)


def test_a_path_that_is_no_text() -> None:
    database = "\ud800.db"
    message = "the database: its name holds U+D800, which is half a character; nothing was changed"
    for command in (lambda: migrate(database, "migrations"), lambda: current(database, "migrations")):
        refused(command, AccessError, message, database=None)


@pytest.mark.parametrize("database", ["", "sqlite:///"])
def test_no_path_at_all(database: str) -> None:
    message = "the path of the database is empty; nothing was changed"
    refused(lambda: migrate(database, "migrations"), AccessError, message)


def unsound(command: Command, words: str, database: str = "app.db") -> MigrationError:
    """Expect these words, and that nothing was changed, be it before a transaction or rolled back."""
    before = content()
    with pytest.raises(AccessError) as caught:
        command()
    message = str(caught.value).replace("; rolled back, nothing", "; nothing")
    assert message == f"{database}: {words}; nothing was changed"
    assert caught.value.database == database
    assert content() == before
    return caught.value


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"This is a text and no database. " * 200, "file is not a database"),
        (lambda data: b"X" + data[1:], "file is not a database"),
        (lambda data: data[:100] + b"\xff" * 100 + data[200:], "database disk image is malformed"),
        (lambda data: data[: len(data) // 2], "database disk image is malformed"),
    ],
)
def test_a_file_that_is_no_sound_database(spoil: Callable[[bytes], bytes], words: str) -> None:
    Path("app.db").write_bytes(spoil(Path("app.db").read_bytes()))
    for command in COMMANDS.values():
        assert isinstance(unsound(command, words).__cause__, sqlite3.DatabaseError)


READ_ONLY = "attempt to write a readonly database"


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_read_only_file_with_something_pending(
    journal: str, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Away from the directory of all tests, which is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(migrations, f"{folder}/migrations")
        shutil.copy("app.db", folder)
        monkeypatch.chdir(folder)
        change("app.db", f"PRAGMA journal_mode = {journal}")
        os.chmod("app.db", 0o444)
        os.chmod(folder, 0o555)  # a log beside the file would be left there
        try:
            with nobody():
                refused(upgrade, AccessError, denied_both("app.db"))
                assert migrate("app.db", "migrations", target="1") == ()
                assert current("app.db", "migrations").pending == 1
        finally:
            os.chmod(folder, 0o755)


def test_a_connection_that_may_only_read() -> None:
    with closing(sqlite3.connect("file:app.db?mode=ro", uri=True)) as connection:
        unsound(lambda: migrate(connection, "migrations"), READ_ONLY, os.path.abspath("app.db"))
        assert len(history(connection, "migrations")) == 2


def test_below_a_file_there_is_no_database() -> None:
    assert current("app.db/x", "migrations").version is None
    with pytest.raises(AccessError) as caught:
        current("app.db/x", "migrations", create=False)
    assert str(caught.value) == "app.db/x: no such file, expected a database; nothing was changed"


class Half:
    """What has a cursor and still is no connection."""

    def cursor(self) -> None: ...


class Awaited:
    """A connection for `await`, as aiosqlite has them."""

    in_transaction = False

    async def cursor(self) -> None: ...

    def __await__(self) -> Iterator[None]:
        return iter(())


class Method(Half):
    """A database of an ORM, as peewee has them."""

    def in_transaction(self) -> bool:
        return False


@pytest.mark.parametrize(
    "wrong", [5, 1.5, object(), ["app.db"], Half(), Awaited(), Method(), sqlite3.Connection]
)
def test_what_is_no_database_is_the_programmers_error(wrong: object) -> None:
    with pytest.raises(TypeError) as caught:
        migrate(wrong, "migrations")
    kind = type(wrong).__name__
    assert str(caught.value) == (
        f"database: expected a path, a sqlite:///PATH URL or an open connection, not {kind}"
    )


def of_package(package: str, name: str) -> object:
    """Return an object of a class that is called as one of another package is, and derived from that."""
    return type("Own", (type(name, (), {"__module__": f"{package}.inside"}),), {})()


@pytest.mark.parametrize(
    ("package", "name", "instead"),
    [
        ("sqlalchemy", "Engine", "engine.url.database or engine.raw_connection().driver_connection"),
        ("sqlalchemy", "URL", "url.database"),
        ("sqlalchemy", "Connection", "connection.connection.driver_connection"),
        ("sqlalchemy", "Session", "session.connection().connection.driver_connection"),
        ("sqlalchemy", "AsyncEngine", "engine.url.database"),
        ("django", "DatabaseWrapper", 'connection.settings_dict["NAME"]'),
        ("peewee", "Database", "database.connection()"),
        ("sqlite_utils", "Database", "database.conn"),
    ],
)
def test_what_to_pass_in_place_of_an_object_of_another_package_is_told(
    package: str, name: str, instead: str
) -> None:
    wrong = of_package(package, name)
    for act, expected in (
        (
            lambda: migrate(wrong, "migrations"),
            "database: expected a path, a sqlite:///PATH URL or an open connection",
        ),
        (
            lambda: restore("b.bak", wrong, "migrations"),
            "database: expected a path or a connection of sqlite3",
        ),
        (lambda: list(migrate_all([wrong], "migrations")), "databases: expected paths"),
        (
            lambda: current("app.db", "migrations", connect=lambda path: wrong),
            "connect: expected an open connection",
        ),
    ):
        with pytest.raises(TypeError) as caught:
            act()
        assert str(caught.value) == f"{expected}, not Own; pass {instead}"


@pytest.mark.parametrize("kind", ["engine", "URL", "connection"])
def test_what_an_engine_is_told_to_have_passed_is_a_database(kind: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite:///app.db")
    with engine.connect() as connection:
        wrong = {"engine": engine, "URL": engine.url, "connection": connection}[kind]
        with pytest.raises(TypeError) as caught:
            migrate(wrong, "migrations")
        instead = str(caught.value).partition("; pass ")[2]
        assert migrate(
            eval(instead, {"engine": engine, "url": engine.url, "connection": connection}), "migrations"
        )
    engine.dispose()


def test_a_message_is_one_line_whatever_it_quotes(migrations: Path) -> None:
    message = '"a\\nb" is not a version that app.db can be asked to have: expected base to 0002; nothing was changed'
    refused(ASKED["upgrade"]("a\nb"), VersionError, message)
    write(migrations, "0002_two", "SELECT *\nFROM [a\r\nb];")
    refused(upgrade, StepError, f"{WHERE}:2: no such table: a\\r\\nb; {KEPT}")


def test_a_name_that_the_package_does_not_have() -> None:
    with pytest.raises(AttributeError) as caught:
        vmpilot.migrate.migrat  # type: ignore[attr-defined]  # noqa: B018
    assert str(caught.value) == "module 'vmpilot.migrate' has no attribute 'migrat'"


def test_an_upgrade_takes_no_backup_unless_it_is_asked_to() -> None:
    upgrade()
    assert content().keys() == {"app.db"}


def test_one_class_catches_all_of_them() -> None:
    kinds = {error.kind: error for error in (HistoryError, VersionError, StepError, AccessError)}
    assert set(kinds) == {"history", "version", "step", "access"}
    assert all(error.__bases__ == (MigrationError,) for error in kinds.values())
    assert MigrationError.__bases__ == (Exception,)
