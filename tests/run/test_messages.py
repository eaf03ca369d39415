"""Every message of the core, word for word, with its error's attributes and the database left as it was.

A message reads `where: what[; what happened to the database][; what to do]`. What the guards say, and the
modules beyond the core, is tested beside them.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support import query, write

from vmpilot.migrate import (
    AccessError,
    HistoryError,
    MigrationError,
    Progress,
    StepError,
    VersionError,
    current,
    downgrade,
    history,
    migrate,
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


@pytest.fixture(autouse=True)
def here(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside `migrations`, which holds two of them, and `app.db`, which is at the first."""
    monkeypatch.chdir(migrations.parent)
    write(
        migrations, "0001_one", "CREATE TABLE one (a UNIQUE);\nINSERT INTO one VALUES (1);", "DROP TABLE one;"
    )
    migrate("app.db", "migrations")
    write(migrations, "0002_two", "CREATE TABLE two (a);", "DROP TABLE two;")


def content() -> dict[str, bytes]:
    """Return the content of every file at hand, migrations excepted."""
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def refused(command: Command, kind: type[MigrationError]) -> MigrationError:
    """Return the error with which a command is refused, having changed nothing at all."""
    before = content()
    with pytest.raises(MigrationError) as caught:
        command()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert content() == before
    return caught.value


def change(*statements: str) -> None:
    """Do what another program does to the database."""
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# The examples of the design


def test_a_name_that_nearly_matches(migrations: Path) -> None:
    (migrations / "3_add_title.up..sql").touch()
    message = "migrations/3_add_title.up..sql: expected a name like 0003_add_title.up.sql"
    for command in COMMANDS.values():
        error = refused(command, HistoryError)
        assert (str(error), error.kind) == (message, "history")
        assert (error.file, error.line) == ("migrations/3_add_title.up..sql", 0)


def test_a_statement_that_sqlite_does_not_understand(migrations: Path) -> None:
    upgrade()
    write(migrations, "0003_add_title", 11 * "-- why\n" + "CREATE TABEL chats (title);")
    error = refused(upgrade, StepError)
    assert str(error) == (
        'migrations/0003_add_title.up.sql:12: near "TABEL": syntax error; '
        "rolled back, app.db is still at 0002"
    )
    assert error.kind == "step"
    assert vars(error) == {
        "file": "migrations/0003_add_title.up.sql",
        "line": 12,
        "version": "0003",
        "statement": "CREATE TABEL chats (title)",
    }


def test_a_statement_that_is_not_allowed(migrations: Path) -> None:
    write(migrations, "0003_add_title", "SELECT 1;\n\n\n\nCOMMIT;")
    error = refused(upgrade, HistoryError)
    assert str(error) == (
        "migrations/0003_add_title.up.sql:5: COMMIT is not allowed here, the runner owns the transaction; "
        "app.db was not touched"
    )
    assert vars(error) == {"file": "migrations/0003_add_title.up.sql", "line": 5}


def test_a_database_of_newer_code(migrations: Path) -> None:
    for number in (3, 4, 5, 7):
        write(migrations, f"000{number}_x", "")
    upgrade()
    for number in (5, 7):
        (migrations / f"000{number}_x.up.sql").unlink()
        (migrations / f"000{number}_x.down.sql").unlink()
    error = refused(upgrade, VersionError)
    assert str(error) == (
        "app.db is at 0007, but this code knows only base to 0004; it was upgraded by newer code; "
        "nothing was changed; to take it back, run: python -m vmpilot.migrate downgrade head"
    )
    assert (error.kind, vars(error)) == ("version", {"version": "0007"})


def test_a_target_in_the_wrong_direction(migrations: Path) -> None:
    write(migrations, "0003_three", "")
    write(migrations, "0004_four", "")
    upgrade()
    error = refused(lambda: migrate("app.db", "migrations", target="2"), VersionError)
    assert str(error) == (
        "cannot upgrade to 0002: app.db is already at 0004; "
        "to go back, run: python -m vmpilot.migrate downgrade 0002"
    )
    assert vars(error) == {"version": "0002"}


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("name", ["upgrade", "downgrade", "stamp"])
def test_a_database_that_another_process_locks(name: str, journal: str) -> None:
    change(f"PRAGMA journal_mode = {journal}")
    with holding("BEGIN IMMEDIATE"):
        error = refused(COMMANDS[name], AccessError)
    assert str(error) == "app.db: locked by another process for 0.1 s; nothing was changed"
    assert (error.kind, vars(error)) == ("access", {"database": "app.db"})
    assert isinstance(error.__cause__, sqlite3.OperationalError)


@contextmanager
def holding(*statements: str) -> Iterator[None]:
    """Keep a lock, as another process does, with a connection that ends in a ROLLBACK."""
    with closing(sqlite3.connect("app.db", isolation_level=None)) as holder:
        for statement in statements:
            holder.execute(statement).fetchall()
        yield


# Locks


@pytest.mark.parametrize("name", COMMANDS)
def test_a_database_that_cannot_even_be_read(name: str) -> None:
    with holding("BEGIN EXCLUSIVE"):
        error = refused(COMMANDS[name], AccessError)
    assert str(error) == "app.db: locked by another process for 0.1 s; nothing was changed"


def test_a_lock_that_comes_between_two_steps(migrations: Path) -> None:
    write(migrations, "0003_three", "CREATE TABLE three (a);")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as holder:

        def take(progress: Progress) -> None:
            if progress.done:
                holder.execute("BEGIN IMMEDIATE")

        with pytest.raises(AccessError) as caught:
            migrate("app.db", "migrations", timeout=0, progress=take)
    assert str(caught.value) == "app.db: locked by another process for 0 s; app.db is at 0002"
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0002",)]


def test_a_reader_that_does_not_let_the_step_commit() -> None:
    with holding("BEGIN", "SELECT * FROM one"):
        error = refused(upgrade, AccessError)
    assert str(error) == (
        "app.db: COMMIT kept waiting by a reader for 0.1 s; rolled back, app.db is still at 0001"
    )
    assert vars(error) == {"database": "app.db"}


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
    error = refused(upgrade, StepError)
    assert isinstance(error.__cause__, sqlite3.Error)
    assert str(error) == f"{WHERE}:{line}: {words or error.__cause__}; {KEPT}"
    assert vars(error) == {"file": WHERE, "line": line, "version": "0002", "statement": statement}
    assert len(statement) <= 80


def test_the_first_statement_of_the_first_file_of_a_new_database(migrations: Path) -> None:
    write(migrations, "0001_one", "nonsense")
    with pytest.raises(StepError) as caught:
        migrate("new.db", "migrations")
    assert str(caught.value) == (
        'migrations/0001_one.up.sql:1: near "nonsense": syntax error; rolled back, new.db is still at base'
    )
    assert query(Path("new.db"), "SELECT * FROM sqlite_master") == []


def test_the_steps_before_the_one_that_fails_are_kept(migrations: Path) -> None:
    write(migrations, "0003_three", "nonsense")
    with pytest.raises(StepError) as caught:
        upgrade()
    assert str(caught.value) == (
        'migrations/0003_three.up.sql:1: near "nonsense": syntax error; rolled back, app.db is still at 0002'
    )
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0002",)]


def test_a_downgrade_that_fails(migrations: Path) -> None:
    write(migrations, "0001_one", "CREATE TABLE one (a UNIQUE);", "-- back\nDROP TABLE none;")
    error = refused(COMMANDS["downgrade"], StepError)
    assert str(error) == f"migrations/0001_one.down.sql:2: no such table: none; {KEPT}"
    assert vars(error) == {
        "file": "migrations/0001_one.down.sql",
        "line": 2,
        "version": "0001",
        "statement": "DROP TABLE none",
    }


HINT = 'to run this file outside a transaction, begin it with "-- vmpilot: no-transaction"'


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("VACUUM", "cannot VACUUM from within a transaction"),
        ("PRAGMA journal_mode = WAL", "cannot change into wal mode from within a transaction"),
        ("PRAGMA synchronous = OFF", "Safety level may not be changed inside a transaction"),
    ],
)
def test_a_statement_that_wants_no_transaction(statement: str, words: str, migrations: Path) -> None:
    write(migrations, "0002_two", statement + ";")
    error = refused(upgrade, StepError)
    assert str(error) == f"{WHERE}:1: {words}; {KEPT}; {HINT}"
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
    with pytest.raises(StepError) as caught:
        upgrade()
    assert str(caught.value) == f"{WHERE}:{failing + 2}: no such table: none; {fate}"
    assert (caught.value.line, caught.value.statement) == (failing + 2, "DROP TABLE none")
    left = {name for (name,) in query(Path("app.db"), "SELECT name FROM sqlite_master WHERE name LIKE 't_'")}
    assert left == {f"t{at}" for at in range(failing)}
    write(migrations, "0002_two", "-- vmpilot: no-transaction\nCREATE TABLE IF NOT EXISTS t0 (a);")
    assert len(migrate("app.db", "migrations")) == 1


def test_a_page_that_is_damaged(migrations: Path) -> None:
    (page,) = query(Path("app.db"), "SELECT rootpage FROM sqlite_master WHERE name = 'one'")[0]
    (size,) = query(Path("app.db"), "PRAGMA page_size")[0]
    data = bytearray(Path("app.db").read_bytes())
    data[(int(str(page)) - 1) * int(str(size))] = 0xFF
    Path("app.db").write_bytes(data)
    write(migrations, "0002_two", "UPDATE one SET a = 2;")
    error = refused(upgrade, StepError)
    assert str(error) == f"{WHERE}:1: database disk image is malformed; {KEPT}"


# Files


UNTOUCHED = "app.db was not touched"


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
            '"nonsense" is not a directive; expected revision, no-transaction or irreversible',
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
    (migrations / f"0003_three.{direction}.sql").write_bytes(sql.encode())
    error = refused(upgrade, HistoryError)  # nor did 0002 run, which is good
    file = f"migrations/0003_three.{direction}.sql"
    assert str(error) == f"{file}:{line}: {words}; {UNTOUCHED}"
    assert vars(error) == {"file": file, "line": line}


def test_a_bad_file_of_a_new_database_does_not_even_create_it(migrations: Path) -> None:
    write(migrations, "0002_two", "ROLLBACK;")
    error = refused(lambda: migrate("new.db", "migrations"), HistoryError)
    assert str(error) == (
        "migrations/0002_two.up.sql:1: ROLLBACK is not allowed here, the runner owns the transaction; "
        "new.db was not touched"
    )
    assert not Path("new.db").exists()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        (None, "no such file or directory"),
        ("file", "not a directory"),
    ],
)
def test_a_directory_that_is_none(name: str, place: str | None, words: str, migrations: Path) -> None:
    shutil.rmtree(migrations)
    if place:
        migrations.touch()
    error = refused(COMMANDS[name], HistoryError)
    assert str(error) == f"migrations: {words}"
    assert vars(error) == {"file": "migrations", "line": 0}


def test_a_revision_that_two_migrations_declare(migrations: Path) -> None:
    for number in (2, 3):
        write(migrations, f"000{number}_x", "-- vmpilot: revision abc\n")
    (migrations / "0002_two.up.sql").unlink()
    (migrations / "0002_two.down.sql").unlink()
    error = refused(upgrade, HistoryError)
    file = "migrations/0003_x.up.sql"
    assert str(error) == f"{file}: revision abc is declared by another migration too; {UNTOUCHED}"
    assert vars(error) == {"file": file, "line": 0}


def test_two_files_with_one_number(migrations: Path) -> None:
    write(migrations, "2_zwei", "")
    error = refused(upgrade, HistoryError)
    assert str(error) == (
        "migrations/2_zwei.up.sql: has the number of 0002_two.up.sql; the next free number is 0003"
    )


def test_files_that_were_edited_after_they_were_applied(migrations: Path) -> None:
    ways = (
        "edited after it was applied; write a new migration instead, or downgrade below it and upgrade "
        "again, or accept the edit, run: python -m vmpilot.migrate stamp"
    )
    write(migrations, "0001_one", "CREATE TABLE one (b);")
    error = refused(upgrade, HistoryError)
    assert str(error) == f"migrations/0001_one.up.sql: {ways} 0001; {UNTOUCHED}"
    assert vars(error) == {"file": "migrations/0001_one.up.sql", "line": 0}
    write(migrations, "0001_one", "CREATE TABLE one (a UNIQUE);\nINSERT INTO one VALUES (1);")
    upgrade()
    for name in ("0001_one", "0002_two"):
        write(migrations, name, "SELECT 1;")
    write(migrations, "0003_three", "")
    error = refused(upgrade, HistoryError)
    assert str(error) == f"migrations/0001_one.up.sql, migrations/0002_two.up.sql: {ways} 0002; {UNTOUCHED}"
    stamp("0002", "app.db", "migrations")
    assert len(migrate("app.db", "migrations")) == 1


@pytest.mark.parametrize(
    ("stem", "renamed"),
    [("0000_nil", "0003_nil"), ("0", "0003"), ("0000-two-words", "0003_two-words")],
)
def test_a_file_that_comes_too_late(stem: str, renamed: str, migrations: Path) -> None:
    write(migrations, stem, "CREATE TABLE nil (a);")
    error = refused(upgrade, HistoryError)
    assert str(error) == (
        f"migrations/{stem}.up.sql: never applied, and app.db is already at 0001; nothing was changed; "
        f"to apply it, rename its files to {renamed}.up.sql and {renamed}.down.sql"
    )
    assert vars(error) == {"file": f"migrations/{stem}.up.sql", "line": 0}
    for direction in ("up", "down"):
        (migrations / f"{stem}.{direction}.sql").rename(migrations / f"{renamed}.{direction}.sql")
    assert len(migrate("app.db", "migrations")) == 2


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
    ],
)
@pytest.mark.parametrize("name", ["upgrade", "downgrade", "current", "history"])
def test_a_version_table_that_makes_no_sense(values: list[str], found: str, name: str) -> None:
    change("DROP TABLE alembic_version", "CREATE TABLE alembic_version (version_num)")
    change(*(f"INSERT INTO alembic_version VALUES ({value})" for value in values))
    error = refused(COMMANDS[name], VersionError)
    assert str(error) == (
        f"app.db: alembic_version holds {found}, expected one text; nothing was changed; "
        "to set the version, run: python -m vmpilot.migrate stamp VERSION"
    )
    assert vars(error) == {"version": ""}


@pytest.mark.parametrize(
    ("value", "newer"),
    [
        *(("57dc007f6d46", False), ("0000", False), ("x", False), ("²", False), ("9" * 33, False)),
        *(("0003", True), ("20261122093000", True), ("9" * 32, True)),
    ],
)
def test_a_version_that_nothing_knows(value: str, newer: bool) -> None:
    change(f"UPDATE alembic_version SET version_num = '{value}'")
    error = refused(upgrade, VersionError)
    fate = "nothing was changed"
    if newer:
        fate = (
            "it was upgraded by newer code; nothing was changed; "
            "to take it back, run: python -m vmpilot.migrate downgrade head"
        )
    assert str(error) == f"app.db is at {value}, but this code knows only base to 0002; {fate}"
    assert vars(error) == {"version": value}
    error = refused(COMMANDS["downgrade"], VersionError)
    assert str(error) == (
        f"cannot downgrade: app.db is at {value}, which has no file here and no row in its log; "
        "nothing was changed"
    )
    assert vars(error) == {"version": value}
    assert current("app.db", "migrations").version == value
    assert history("app.db", "migrations")[-1][:3] == (value, "", "unknown")


def test_no_migrations_at_all(migrations: Path) -> None:
    shutil.rmtree(migrations)
    migrations.mkdir()
    error = refused(upgrade, VersionError)
    assert str(error) == (
        "app.db is at 0001, but this code knows only base; it was upgraded by newer code; "
        "nothing was changed; to take it back, run: python -m vmpilot.migrate downgrade head"
    )
    assert migrate("new.db", "migrations") == ()


BACK = "to go back, run: python -m vmpilot.migrate downgrade"
FORTH = "to go forward, run: python -m vmpilot.migrate upgrade"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("base", f"cannot upgrade to base: app.db is already at 0001; {BACK} base"),
        ("-1", f"cannot upgrade to base: app.db is already at 0001; {BACK} base"),
        ("+2", "cannot move by +2: app.db is at 0001, 1 step from head; nothing was changed"),
        ("-2", "cannot move by -2: app.db is at 0001, 1 step from base; nothing was changed"),
    ],
)
def test_a_target_that_an_upgrade_cannot_reach(target: str, message: str) -> None:
    error = refused(lambda: migrate("app.db", "migrations", target=target), VersionError)
    assert str(error) == message


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("head", f"cannot downgrade to 0002: app.db is only at 0001; {FORTH} 0002"),
        ("2", f"cannot downgrade to 0002: app.db is only at 0001; {FORTH} 0002"),
        ("+1", f"cannot downgrade to 0002: app.db is only at 0001; {FORTH} 0002"),
        ("-2", "cannot move by -2: app.db is at 0001, 1 step from base; nothing was changed"),
    ],
)
def test_a_target_that_a_downgrade_cannot_reach(target: str, message: str) -> None:
    error = refused(lambda: downgrade("app.db", "migrations", target=target, backup=False), VersionError)
    assert str(error) == message


@pytest.mark.parametrize("target", ["0003", "", "nonsense", "²", "9" * 5000, "+" + "9" * 5000])
def test_a_target_that_does_not_exist(target: str) -> None:
    message = (
        f'"{target}" is not a version that app.db can be asked to have: expected base to 0002; '
        "nothing was changed"
    )
    for command in (
        lambda: migrate("app.db", "migrations", target=target),
        lambda: downgrade("app.db", "migrations", target=target, backup=False),
        lambda: stamp(target, "app.db", "migrations"),
    ):
        error = refused(command, VersionError)
        assert str(error) == message
        assert vars(error) == {"version": target}


def test_an_ambiguous_target(migrations: Path) -> None:
    write(migrations, "0001_one", "-- vmpilot: revision ab1\n" + (migrations / "0001_one.up.sql").read_text())
    write(migrations, "0002_two", "-- vmpilot: revision ab2\n")
    for command in (
        lambda: migrate("app.db", "migrations", target="ab"),
        lambda: downgrade("app.db", "migrations", target="ab", backup=False),
        lambda: stamp("ab", "app.db", "migrations"),
    ):
        error = refused(command, VersionError)
        assert str(error) == '"ab" can mean 0001 and 0002; nothing was changed'
        assert vars(error) == {"version": "ab"}


def test_a_downgrade_past_a_migration_without_a_down(migrations: Path) -> None:
    (migrations / "0001_one.down.sql").unlink()
    upgrade()
    error = refused(lambda: downgrade("app.db", "migrations", target="base", backup=False), VersionError)
    assert str(error) == (
        "cannot downgrade 0001: migrations/0001_one.up.sql has no 0001_one.down.sql beside it; "
        "nothing was changed"
    )
    assert vars(error) == {"version": "0001"}
    assert len(downgrade("app.db", "migrations", backup=False)) == 1


def test_a_downgrade_past_a_migration_that_is_irreversible(migrations: Path) -> None:
    upgrade()
    write(migrations, "0002_two", "CREATE TABLE two (a);", "-- vmpilot: irreversible the rows are merged")
    error = refused(COMMANDS["downgrade"], VersionError)
    assert str(error) == (
        "cannot downgrade 0002: migrations/0002_two.down.sql is irreversible: the rows are merged; "
        "nothing was changed"
    )
    assert vars(error) == {"version": "0002"}


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
        error = refused(command, AccessError)
        assert str(error) == f"{database}: {words}; nothing was changed"
        assert vars(error) == {"database": database}


@pytest.mark.parametrize("database", ["", "sqlite:///"])
def test_no_path_at_all(database: str) -> None:
    error = refused(lambda: migrate(database, "migrations"), AccessError)
    assert str(error) == "the path of the database is empty; nothing was changed"
    assert vars(error) == {"database": ""}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"This is a text and no database. " * 200, "file is not a database"),
        (lambda data: b"X" + data[1:], "file is not a database"),
        (lambda data: data[:100] + b"\xff" * 100 + data[200:], "database disk image is malformed"),
        (lambda data: data[: len(data) // 2], "database disk image is malformed"),
    ],
)
def test_a_file_that_is_no_sound_database(name: str, spoil: Callable[[bytes], bytes], words: str) -> None:
    Path("app.db").write_bytes(spoil(Path("app.db").read_bytes()))
    error = refused(COMMANDS[name], AccessError)
    assert without_rollback(error) == f"app.db: {words}; nothing was changed"
    assert vars(error) == {"database": "app.db"}
    assert isinstance(error.__cause__, sqlite3.DatabaseError)


def without_rollback(error: MigrationError) -> str:
    """Return a message whether a transaction was open already, as with a stamp, or not."""
    return str(error).replace("; rolled back, nothing was changed", "; nothing was changed")


@contextmanager
def without_permissions() -> Iterator[None]:
    """Be someone whom the permissions of a file concern."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


READ_ONLY = "attempt to write a readonly database"


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_read_only_file_with_something_pending(
    journal: str, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Away from the directory of all tests, which is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(migrations, f"{folder}/migrations")
        shutil.copy("app.db", folder)
        os.chmod(folder, 0o755)
        monkeypatch.chdir(folder)
        change(f"PRAGMA journal_mode = {journal}")
        os.chmod("app.db", 0o444)
        with without_permissions():
            error = refused(upgrade, AccessError)
            assert without_rollback(error) == f"app.db: {READ_ONLY}; nothing was changed"
            assert vars(error) == {"database": "app.db"}
            assert migrate("app.db", "migrations", target="1") == ()
            assert current("app.db", "migrations").pending == 1


def test_a_connection_that_may_only_read() -> None:
    path = os.path.abspath("app.db")
    with closing(sqlite3.connect("file:app.db?mode=ro", uri=True)) as connection:
        error = refused(lambda: migrate(connection, "migrations"), AccessError)
        assert without_rollback(error) == f"{path}: {READ_ONLY}; nothing was changed"
        assert vars(error) == {"database": path}
        assert len(history(connection, "migrations")) == 2


def test_a_connection_with_changes_of_its_own() -> None:
    path = os.path.abspath("app.db")
    for database, name in (("app.db", path), (":memory:", ":memory:")):
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE mine (a)")
            connection.execute("INSERT INTO mine VALUES (1)")
            with pytest.raises(AccessError) as caught:
                migrate(connection, "migrations")
            assert str(caught.value) == (
                f"{name}: the connection has an open transaction with changes; nothing was changed; "
                "commit or roll back first"
            )
            assert vars(caught.value) == {"database": name}
            assert connection.in_transaction
            assert connection.execute("SELECT * FROM mine").fetchall() == [(1,)]


def test_a_connection_that_is_closed() -> None:
    connection = sqlite3.connect("app.db")
    connection.close()
    error = refused(lambda: migrate(connection, "migrations"), AccessError)
    assert str(error) == "the connection: Cannot operate on a closed database.; nothing was changed"


@pytest.mark.parametrize("wrong", [5, 1.5, object(), ["app.db"]])
def test_what_is_no_database_is_the_programmers_error(wrong: object) -> None:
    with pytest.raises(TypeError) as caught:
        migrate(wrong, "migrations")
    kind = type(wrong).__name__
    assert str(caught.value) == (
        f"database: expected a path, a sqlite:///PATH URL or an open connection, not {kind}"
    )


def test_a_message_is_one_line_whatever_it_quotes(migrations: Path) -> None:
    error = refused(lambda: migrate("app.db", "migrations", target="a\nb"), VersionError)
    assert str(error) == (
        '"a b" is not a version that app.db can be asked to have: expected base to 0002; nothing was changed'
    )
    write(migrations, "0002_two", "SELECT *\nFROM [a\r\nb];")
    error = refused(upgrade, StepError)
    assert str(error) == f"{WHERE}:1: no such table: a b; {KEPT}"


def test_one_class_catches_all_of_them() -> None:
    kinds = {error.kind: error for error in (HistoryError, VersionError, StepError, AccessError)}
    assert set(kinds) == {"history", "version", "step", "access"}
    assert all(error.__bases__ == (MigrationError,) for error in kinds.values())
    assert MigrationError.__bases__ == (Exception,)
