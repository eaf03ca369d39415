"""Proves `check` and its waiting form: each kind of problem with its whole message, no false alarm, no trace.

All on real files and real SQLite; what another process does meanwhile is done at a moment that is
known: inside a callback of the check itself.
"""

import hashlib
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, command, query, write

from vmpilot.migrate import MigrationError, downgrade, migrate, stamp
from vmpilot.migrate.errors import HistoryError
from vmpilot.migrate.tools.check import Health, Problem, check, wait

RUN = "run: python -m vmpilot.migrate"
MEND = f"mend it or put a backup back, {RUN} restore BACKUP"


def healthy(database: Path, *remarks: str) -> Health:
    return Health(str(database), True, (), remarks)


def ill(database: Path, *problems: tuple[str, str]) -> Health:
    return Health(str(database), False, tuple(Problem(*problem) for problem in problems), ())


def change(database: Path, *statements: str) -> None:
    """Do to a database what no migration knows of."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def prints(directory: Path) -> dict[str, str]:
    """Return a hash of each file in a directory."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("app.db*")}


@pytest.fixture
def two(migrations: Path) -> Path:
    """Two migrations, one table each."""
    write(
        migrations,
        "0001_chats",
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT)",
        "DROP TABLE chats",
    )
    write(migrations, "0002_costs", "CREATE TABLE costs (chat REFERENCES chats, cost)", "DROP TABLE costs")
    return migrations


# --- at head or not


@pytest.mark.parametrize("full", [False, True])
def test_a_database_at_head_is_healthy(two: Path, database: Path, full: bool) -> None:
    migrate(database, two)
    change(database, "INSERT INTO chats VALUES (1, 'a')", "INSERT INTO costs VALUES (1, 2), (NULL, 3)")
    assert check(database, two, full=full) == healthy(database)
    assert check(f"sqlite:///{database}", str(two), full=full) == healthy(database)
    with closing(sqlite3.connect(database)) as connection:
        assert check(connection, two, full=full) == healthy(database)


def test_a_missing_file_is_pending_and_stays_missing(two: Path, database: Path) -> None:
    pending = f"{database}: does not exist, 2 migrations pending (0001_chats, 0002_costs); {RUN} upgrade"
    assert check(database, two) == ill(database, ("pending", pending))
    assert not database.exists()


def test_a_missing_file_is_a_problem_even_without_migrations(migrations: Path, database: Path) -> None:
    assert check(database, migrations) == ill(
        database, ("pending", f"{database}: does not exist; {RUN} upgrade")
    )
    database.touch()
    assert check(database, migrations) == healthy(database)


def test_the_directory_of_the_file_may_be_missing(two: Path, tmp_path: Path) -> None:
    database = tmp_path / "none" / "app.db"
    pending = f"{database}: does not exist, 2 migrations pending (0001_chats, 0002_costs); {RUN} upgrade"
    assert check(database, two) == ill(database, ("pending", pending))


def test_pending_migrations_are_named(two: Path, database: Path) -> None:
    migrate(database, two, target="1")
    pending = f"{database}: 1 migration pending (0002_costs); {RUN} upgrade"
    assert check(database, two) == ill(database, ("pending", pending))


def test_of_many_pending_migrations_five_are_named(migrations: Path, database: Path) -> None:
    database.touch()
    for number in range(1, 9):
        write(migrations, f"{number:04}" if number % 2 else f"{number:04}-x", "SELECT 1")
    names = "0001, 0002_x, 0003, 0004_x, 0005 and 3 more"
    pending = f"{database}: 8 migrations pending ({names}); {RUN} upgrade"
    assert check(database, migrations) == ill(database, ("pending", pending))


# --- a version that makes no sense


def test_a_version_of_newer_code_is_unknown(two: Path, database: Path) -> None:
    write(two, "0003_later", "CREATE TABLE later (a)", "DROP TABLE later")
    migrate(database, two)
    (two / "0003_later.up.sql").unlink()
    (two / "0003_later.down.sql").unlink()
    unknown = (
        f"{database} is at 0003, but this code knows only base to 0002; it was upgraded by newer code; "
        f"nothing was changed; to take it back, {RUN} downgrade head"
    )
    uncompared = f"{database}: schema not compared: no file for 0003_later"
    assert check(database, two) == ill(database, ("unknown", unknown))._replace(remarks=(uncompared,))


def test_a_revision_of_another_project_is_unknown(two: Path, database: Path) -> None:
    change(
        database,
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('abc')",
    )
    unknown = f"{database} is at abc, but this code knows only base to 0002; nothing was changed"
    uncompared = f"{database}: schema not compared: no file for abc"
    assert check(database, two) == ill(database, ("unknown", unknown))._replace(remarks=(uncompared,))


def test_two_versions_are_unknown_and_do_not_hide_the_rest(two: Path, database: Path) -> None:
    migrate(database, two)
    change(database, "INSERT INTO alembic_version VALUES ('0001')", "INSERT INTO costs VALUES (7, 1)")
    unknown = (
        f"{database}: alembic_version holds 2 rows ('0002', '0001'), expected one text; nothing was changed; "
        f"to set the version, {RUN} stamp VERSION"
    )
    keys = "1 foreign key violation: row 1 of costs has no parent in chats; mend or delete these rows"
    assert check(database, two) == ill(
        database, ("unknown", unknown), ("foreign_keys", f"{database}: {keys}")
    )


def test_an_applied_migration_without_files_is_a_remark(two: Path, database: Path) -> None:
    write(two, "0003_later", "", "")
    migrate(database, two)
    (two / "0002_costs.up.sql").unlink()
    (two / "0002_costs.down.sql").unlink()
    assert check(database, two) == healthy(
        database, f"{database}: schema not compared: no file for 0002_costs"
    )


# --- files that changed


def test_edited_files_are_named(two: Path, database: Path) -> None:
    migrate(database, two)
    for name, text in (
        ("0001_chats", "id INTEGER PRIMARY KEY, title TEXT"),
        ("0002_costs", "chat REFERENCES chats, cost"),
    ):
        (two / f"{name}.up.sql").write_text(f"CREATE TABLE IF NOT EXISTS {name[5:]} ({text})")
    advice = (
        "edited after it was applied; write a new migration instead, "
        f"or downgrade below it and upgrade again, or accept the edit, {RUN} stamp 0002"
    )
    assert check(database, two) == ill(
        database,
        ("edited", f"{two}/0001_chats.up.sql: {advice}"),
        ("edited", f"{two}/0002_costs.up.sql: {advice}"),
    )
    stamp("head", database, two)
    assert check(database, two) == healthy(database)


@pytest.mark.parametrize("logged", [False, True])
def test_at_an_unknown_version_no_edit_can_be_accepted(two: Path, database: Path, logged: bool) -> None:
    if logged:
        write(two, "0007_later", "")
    migrate(database, two)
    if logged:
        (two / "0007_later.up.sql").unlink()
        (two / "0007_later.down.sql").unlink()
    else:
        change(database, "UPDATE alembic_version SET version_num = '0007'")
    (two / "0001_chats.up.sql").write_text("CREATE TABLE chats (id)")
    health = check(database, two)
    assert [problem.kind for problem in health.problems] == ["unknown", "edited"]
    assert health.problems[1].message == (
        f"{two}/0001_chats.up.sql: edited after it was applied; write a new migration instead, "
        "or downgrade below it and upgrade again"
    )


def test_late_files_are_named_with_the_names_that_mend_them(migrations: Path, database: Path) -> None:
    write(migrations, "0001_a", "")
    write(migrations, "0009_b", "")
    migrate(database, migrations)
    write(migrations, "0003_c", "CREATE TABLE c (a)")
    write(migrations, "0004", "CREATE TABLE d (a)")
    late = f"never applied, and {database} is already at 0009; to apply it, rename its files to"
    assert check(database, migrations) == ill(
        database,
        ("late", f"{migrations}/0003_c.up.sql: {late} 0010_c.up.sql and 0010_c.down.sql"),
        ("late", f"{migrations}/0004.up.sql: {late} 0011.up.sql and 0011.down.sql"),
    )
    for before, after in (("0003_c", "0010_c"), ("0004", "0011")):
        for direction in ("up", "down"):
            (migrations / f"{before}.{direction}.sql").rename(migrations / f"{after}.{direction}.sql")
    migrate(database, migrations)
    assert check(database, migrations) == healthy(database)


def test_a_file_that_breaks_a_rule_is_an_error(two: Path, database: Path) -> None:
    migrate(database, two)
    (two / "0001_chats.up.sql").write_text("SELECT 'a")
    with pytest.raises(HistoryError) as caught:
        check(database, two)
    assert str(caught.value) == f"{two}/0001_chats.up.sql:1: this string is never closed"


# --- a no-transaction file that was cut short


def cut_short(database: Path) -> str:
    ((at,),) = query(database, "SELECT at FROM migration_log WHERE id = (SELECT max(id) FROM migration_log)")
    return f"began outside a transaction at {at} and was cut short; to run it again from its start"


def test_an_upgrade_that_was_cut_short_is_told(two: Path, database: Path) -> None:
    write(two, "0003_vacuum", "-- vmpilot: no-transaction\nVACUUM; SELECT nothing;")
    with pytest.raises(MigrationError):
        migrate(database, two)
    assert check(database, two) == ill(
        database,
        ("pending", f"{database}: 1 migration pending (0003_vacuum); {RUN} upgrade"),
        ("pending", f"{database}: 0003_vacuum {cut_short(database)}, {RUN} upgrade"),
    )
    write(two, "0003_vacuum", "-- vmpilot: no-transaction\nVACUUM;")
    migrate(database, two)
    assert check(database, two) == healthy(database)


def test_a_note_is_stale_when_alembic_has_moved_on(two: Path, database: Path) -> None:
    write(two, "0003_vacuum", "-- vmpilot: no-transaction\nSELECT nothing;")
    with pytest.raises(MigrationError):
        migrate(database, two)
    change(database, "UPDATE alembic_version SET version_num = '0003'")
    write(two, "0003_vacuum", "-- vmpilot: no-transaction\nVACUUM;")
    assert check(database, two) == healthy(database)


@pytest.mark.parametrize(("number", "before"), [(1, "base"), (2, "0001")])
def test_a_downgrade_that_was_cut_short_is_told(
    migrations: Path, database: Path, number: int, before: str
) -> None:
    for each in range(1, number + 1):
        write(migrations, f"{each:04}", "", "-- vmpilot: no-transaction\nVACUUM; SELECT nothing;")
    migrate(database, migrations)
    with pytest.raises(MigrationError):
        downgrade(database, migrations, backup=False)
    what = f"{database}: {number:04} {cut_short(database)}, {RUN} downgrade {before}"
    assert check(database, migrations) == ill(database, ("pending", what))
    stamp("head", database, migrations)
    assert check(database, migrations) == healthy(database)


# --- rows and pages


def test_rows_without_a_parent_are_named(two: Path, database: Path) -> None:
    migrate(database, two)
    change(database, "INSERT INTO costs VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)")
    rows = ", ".join(f"row {row} of costs has no parent in chats" for row in range(1, 6))
    assert check(database, two) == ill(
        database,
        (
            "foreign_keys",
            f"{database}: 7 foreign key violations: {rows} and 2 more; mend or delete these rows",
        ),
    )


def test_a_parent_that_is_not_unique_is_a_violation(migrations: Path, database: Path) -> None:
    write(migrations, "0001", "CREATE TABLE a (b); CREATE TABLE c (d REFERENCES a (b))")
    change(database, "CREATE TABLE a (b)", "CREATE TABLE c (d REFERENCES a (b))")
    stamp("head", database, migrations)
    words = 'foreign key mismatch - "c" referencing "a"'
    assert check(database, migrations) == ill(
        database, ("foreign_keys", f"{database}: 1 foreign key violation: {words}; mend or delete these rows")
    )


def test_a_row_that_breaks_a_check_is_an_integrity_problem(migrations: Path, database: Path) -> None:
    write(migrations, "0001", "CREATE TABLE a (b CHECK (b > 0))")
    migrate(database, migrations)
    change(database, "PRAGMA ignore_check_constraints = ON", "INSERT INTO a VALUES (0)")
    assert check(database, migrations) == ill(
        database, ("integrity", f"{database}: CHECK constraint failed in a; {MEND}")
    )


def test_only_the_full_check_looks_into_indexes(migrations: Path, database: Path) -> None:
    write(migrations, "0001", "CREATE TABLE a (b); CREATE INDEX by_b ON a (b) WHERE b > 9")
    migrate(database, migrations)
    change(database, "INSERT INTO a VALUES (1)", "PRAGMA writable_schema = ON")
    change(
        database,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE INDEX by_b ON a (b) WHERE b > 0' WHERE name = 'by_b'",
    )
    (migrations / "0001.up.sql").write_text("CREATE TABLE a (b); CREATE INDEX by_b ON a (b) WHERE b > 0")
    stamp("head", database, migrations)
    assert check(database, migrations) == healthy(database)
    words = "row 1 missing from index by_b, wrong # of entries in index by_b"
    damaged = ill(database, ("integrity", f"{database}: {words}; {MEND}"))
    assert check(database, migrations, full=True) == damaged
    assert wait(database, migrations, seconds=0, full=True) == damaged


def spoil(database: Path, table: str, offset: int, data: bytes) -> None:
    """Overwrite bytes of the page at which a table starts; a negative offset counts from its end."""
    ((size,),) = query(database, "PRAGMA page_size")
    ((page,),) = query(database, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    assert isinstance(size, int) and isinstance(page, int)
    with open(database, "r+b") as file:
        file.seek((page - 1) * size + offset % size)
        file.write(data)


def test_a_damaged_row_is_an_integrity_problem(two: Path, database: Path) -> None:
    migrate(database, two)
    change(database, "INSERT INTO chats VALUES (1, 'a'), (2, 'a')")
    spoil(database, "chats", -5, b"\x09")  # the key of the first row
    ((words,),) = query(database, "PRAGMA quick_check")
    shown = " ".join(str(words).split())
    assert shown.startswith("*** in database main *** ")
    assert check(database, two) == ill(database, ("integrity", f"{database}: {shown}; {MEND}"))


def test_damage_that_stops_the_look_is_an_integrity_problem(two: Path, database: Path) -> None:
    migrate(database, two)
    change(database, "INSERT INTO costs VALUES (1, 1)")
    spoil(database, "chats", 0, b"\xff")
    words = "database disk image is malformed"
    found = ill(database, ("integrity", f"{database}: {words}; {MEND}"))
    assert check(database, two) == found._replace(remarks=(f"{database}: foreign keys not checked: {words}",))


# --- what cannot be read


def test_a_directory_is_unreadable(two: Path, tmp_path: Path) -> None:
    message = f"{tmp_path}: is a directory, expected a database file; nothing was changed"
    assert check(tmp_path, two) == ill(tmp_path, ("unreadable", message))


def test_a_file_that_is_no_database_is_unreadable(two: Path, database: Path) -> None:
    database.write_text("hello " * 1000)
    message = f"{database}: file is not a database; nothing was changed"
    assert check(database, two) == ill(database, ("unreadable", message))


def test_a_damaged_first_page_is_unreadable(two: Path, database: Path) -> None:
    migrate(database, two)
    with open(database, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 64)
    message = f"{database}: database disk image is malformed; nothing was changed"
    assert check(database, two) == ill(database, ("unreadable", message))


def test_a_locked_database_is_unreadable_after_the_timeout(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        message = f"{database}: locked by another process for 0.1 s; nothing was changed"
        assert check(database, two, timeout=0.1) == ill(database, ("unreadable", message))


def test_a_look_that_fails_is_unreadable(two: Path, database: Path) -> None:
    migrate(database, two)

    def stop() -> None:
        stops = [1]
        connection.set_progress_handler(lambda: stops.pop() if stops else 0, 1)

    with closing(traced(database, "quick_check", stop)) as connection:
        message = f"{database}: interrupted; nothing was changed"
        assert check(connection, two) == ill(database, ("unreadable", message))


def test_an_open_transaction_of_the_caller_is_not_read(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO chats VALUES (1, 'a')")
        found = "the connection has an open transaction with changes"
        message = f"{database}: {found}; nothing was changed; commit or roll back first"
        assert check(connection, two) == ill(database, ("unreadable", message))
        assert connection.in_transaction


# --- drift

TABLES = {
    "chats": "CREATE TABLE chats (id TEXT PRIMARY KEY, title TEXT)",
    "costs": (
        "CREATE TABLE costs (a INT PRIMARY KEY, b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE, "
        "c INT AS (a + 1) STORED, d REFERENCES chats ON DELETE CASCADE, CHECK (a > 0), UNIQUE (b))"
    ),
    "notes": "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT UNIQUE ON CONFLICT IGNORE)",
    "pairs": "CREATE TABLE pairs (one INT, other ANY, PRIMARY KEY (one, other)) STRICT, WITHOUT ROWID",
}
REST = (
    "CREATE INDEX by_title ON chats (title)",
    "CREATE UNIQUE INDEX by_length ON chats (length(title) DESC) WHERE title IS NOT NULL",
    "CREATE VIEW titles AS SELECT title FROM chats",
    "CREATE TRIGGER keep BEFORE DELETE ON chats BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER put INSTEAD OF INSERT ON titles BEGIN INSERT INTO chats (title) VALUES (new.title); END",
    "CREATE VIRTUAL TABLE words USING fts5(word)",
)


def rebuilt(table: str, old: str, new: str) -> tuple[str, str]:
    assert TABLES[table].count(old) == 1
    return f"DROP TABLE {table}", TABLES[table].replace(old, new)


DRIFTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("DROP TABLE pairs",): ("- table pairs",),
    ("DROP TABLE words",): ("- virtual table words",),
    ("DROP TABLE words", "CREATE VIRTUAL TABLE words USING fts5(word, other)"): ("~ virtual table words",),
    ("DROP TABLE words", "CREATE TABLE words (word)"): ("- virtual table words", "+ table words"),
    ("ALTER TABLE chats ADD COLUMN note TEXT",): ("+ column chats.note TEXT",),
    ("ALTER TABLE pairs RENAME COLUMN other TO second",): (
        "~ table pairs PRIMARY KEY (one, other) STRICT WITHOUT ROWID -> "
        "PRIMARY KEY (one, second) STRICT WITHOUT ROWID",
        "- column pairs.other ANY NOT NULL",
        "+ column pairs.second ANY NOT NULL",
    ),
    rebuilt("costs", "b TEXT", "b BLOB"): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> BLOB NOT NULL DEFAULT 0 COLLATE NOCASE",
    ),
    rebuilt("costs", " NOT NULL", ""): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> TEXT DEFAULT 0 COLLATE NOCASE",
    ),
    rebuilt("costs", "DEFAULT 0", "DEFAULT 1"): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> TEXT NOT NULL DEFAULT 1 COLLATE NOCASE",
    ),
    rebuilt("costs", " COLLATE NOCASE", ""): (
        "~ column costs.b TEXT NOT NULL DEFAULT 0 COLLATE NOCASE -> TEXT NOT NULL DEFAULT 0",
    ),
    rebuilt("costs", " STORED", ""): (
        "~ column costs.c INT GENERATED ALWAYS AS (a + 1) STORED -> INT GENERATED ALWAYS AS (a + 1) VIRTUAL",
    ),
    rebuilt("costs", " ON DELETE CASCADE", ""): (
        "- foreign key costs (d) -> chats on delete cascade",
        "+ foreign key costs (d) -> chats",
    ),
    rebuilt("costs", "a > 0", "a >= 0"): ("- check on costs (a > 0)", "+ check on costs (a >= 0)"),
    rebuilt("costs", ", UNIQUE (b)", ""): ("- unique on costs (b)",),
    rebuilt("costs", "a INT PRIMARY KEY", "a INT"): ("~ table costs PRIMARY KEY (a) -> (none)",),
    rebuilt("notes", " AUTOINCREMENT", ""): (
        "~ table notes PRIMARY KEY (id) AUTOINCREMENT -> PRIMARY KEY (id)",
    ),
    rebuilt("notes", " ON CONFLICT IGNORE", ""): (
        "- conflict clause on notes UNIQUE (text) ON CONFLICT IGNORE",
    ),
    rebuilt("pairs", "STRICT, ", ""): (
        "~ table pairs PRIMARY KEY (one, other) STRICT WITHOUT ROWID -> "
        "PRIMARY KEY (one, other) WITHOUT ROWID",
    ),
    rebuilt("pairs", ", WITHOUT ROWID", ""): (
        "~ table pairs PRIMARY KEY (one, other) STRICT WITHOUT ROWID -> PRIMARY KEY (one, other) STRICT",
    ),
    ("DROP INDEX by_title",): ("- index by_title on chats (title)",),
    ("DROP INDEX by_title", "CREATE INDEX by_title ON chats (title DESC)"): (
        "~ index by_title on chats (title) -> (title DESC)",
    ),
    ("DROP INDEX by_length", "CREATE INDEX by_length ON chats (length(title))"): (
        "~ index by_length on chats UNIQUE (length(title) DESC) WHERE title IS NOT NULL -> (length(title))",
    ),
    ("CREATE INDEX mine ON costs (d)",): ("+ index mine on costs (d)",),
    ("DROP VIEW titles",): ("- view titles", "- trigger put on titles"),
    ("DROP TRIGGER put",): ("- trigger put on titles",),
    ("DROP TRIGGER keep", "CREATE TRIGGER keep BEFORE DELETE ON chats BEGIN SELECT 1; END"): (
        "~ trigger keep on chats",
    ),
    ("CREATE TRIGGER mine AFTER INSERT ON notes BEGIN SELECT 1; END",): ("+ trigger mine on notes",),
    ("DROP VIEW titles", "CREATE VIEW titles AS SELECT id FROM chats"): (
        "~ view titles",
        "- trigger put on titles",
    ),
}


# These do not touch one another.
INDEPENDENT = {changes[0]: lines[0] for changes, lines in DRIFTS.items() if len(changes) == len(lines) == 1}


@pytest.fixture
def everything(migrations: Path) -> Path:
    """Two migrations that make every kind of object."""
    write(migrations, "0001_tables", ";\n".join(TABLES.values()))
    write(migrations, "0002_rest", ";\n".join(REST) + ";")
    return migrations


@pytest.mark.parametrize("changes", DRIFTS)
def test_drift_is_told_object_by_object(everything: Path, database: Path, changes: tuple[str, ...]) -> None:
    migrate(database, everything)
    change(database, *changes)
    told = f"{database}: schema is not as 0002 made it: {{}}; undo this by hand, or make it a migration"
    health = check(database, everything)
    assert sorted(health.problems) == sorted(Problem("drift", told.format(line)) for line in DRIFTS[changes])
    assert not health.remarks


@given(st.sets(st.sampled_from(sorted(INDEPENDENT))))
def test_every_drift_is_told_whatever_else_has_drifted(picked: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "app.db"
        write(Path(place), "0001_tables", ";\n".join(TABLES.values()))
        write(Path(place), "0002_rest", ";\n".join(REST) + ";")
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            migrate(connection, Path(place))
            for statement in picked:
                connection.execute(statement)
        told = f"{database}: schema is not as 0002 made it: {{}}; undo this by hand, or make it a migration"
        health = check(database, Path(place))
    assert sorted(health.problems) == sorted(
        Problem("drift", told.format(INDEPENDENT[text])) for text in picked
    )
    assert not health.remarks


def test_what_others_made_is_a_remark(everything: Path, database: Path) -> None:
    change(
        database,
        "CREATE TABLE theirs (a)",
        "CREATE INDEX theirs_by_a ON theirs (a)",
        "CREATE VIEW their_view AS SELECT * FROM theirs",
        "CREATE VIRTUAL TABLE their_words USING fts5(word)",
    )
    migrate(database, everything)
    change(database, "ANALYZE")  # makes a table of SQLite's own
    theirs = "view their_view, virtual table their_words, table theirs, index theirs_by_a on theirs (a)"
    assert check(database, everything) == healthy(
        database, f"{database}: also holds what no applied migration made: {theirs}"
    )


def test_a_table_that_a_migration_dropped_must_not_be_there(everything: Path, database: Path) -> None:
    write(everything, "0003_drop", "DROP TABLE pairs; ALTER TABLE notes RENAME TO memos; DROP TABLE memos")
    migrate(database, everything)
    change(database, TABLES["pairs"], "CREATE TABLE Notes (a)", "CREATE TABLE [Memos] (a)")
    told = (
        f"{database}: schema is not as 0003 made it: + table {{}}; undo this by hand, or make it a migration"
    )
    assert check(database, everything) == ill(
        database,
        ("drift", told.format("Memos")),
        ("drift", told.format("Notes")),
        ("drift", told.format("pairs")),
    )


def test_at_base_every_table_is_of_others(two: Path, database: Path) -> None:
    change(database, "CREATE TABLE chats (id)")
    pending = f"{database}: 2 migrations pending (0001_chats, 0002_costs); {RUN} upgrade"
    remark = f"{database}: also holds what no applied migration made: table chats"
    assert check(database, two) == ill(database, ("pending", pending))._replace(remarks=(remark,))


def test_at_no_position_is_there_a_false_alarm(everything: Path, database: Path) -> None:
    """Up to head and down to base, one step at a time."""
    tables = ";".join(f"DROP TABLE {table}" for table in reversed(TABLES))
    write(everything, "0001_tables", ";\n".join(TABLES.values()), tables)
    rest = "DROP VIEW titles; DROP TRIGGER keep; DROP INDEX by_title; DROP INDEX by_length; DROP TABLE words"
    write(everything, "0002_rest", ";\n".join(REST) + ";", rest)
    rename = "ALTER TABLE {} RENAME TO {}; ALTER TABLE costs RENAME COLUMN {} TO {}"
    write(
        everything,
        "0003_rename",
        rename.format("notes", "memos", *"de"),
        rename.format("memos", "notes", *"ed"),
    )
    column = "ALTER TABLE pairs {} COLUMN third {}"
    write(everything, "0004_column", column.format("ADD", "INT"), column.format("DROP", ""))
    for move in (*["+1"] * 4, *["-1"] * 4):
        if move == "+1":
            migrate(database, everything, target=move)
        else:
            downgrade(database, everything, target=move, backup=False)
        health = check(database, everything)
        assert {problem.kind for problem in health.problems} <= {"pending"}
        assert not health.remarks
    assert len(health.problems) == 1


def test_only_what_is_applied_is_expected(everything: Path, database: Path) -> None:
    migrate(database, everything, target="1")
    change(database, "DROP TABLE pairs")
    told = (
        f"{database}: schema is not as 0001 made it: - table pairs; undo this by hand, or make it a migration"
    )
    assert check(database, everything) == ill(
        database,
        ("pending", f"{database}: 1 migration pending (0002_rest); {RUN} upgrade"),
        ("drift", told),
    )


def test_a_schema_that_took_another_way_is_no_drift(two: Path, database: Path) -> None:
    """A rebuilt table, a renamed one and one with another layout: other text, the same structure."""
    write(
        two,
        "0003_rebuild",
        """
        INSERT INTO chats VALUES (1, 'a'); INSERT INTO costs VALUES (1, 2);
        CREATE TABLE new (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
        INSERT INTO new SELECT id, coalesce(title, '') FROM chats;
        DROP TABLE chats; ALTER TABLE new RENAME TO chats;
        ALTER TABLE costs ADD COLUMN note TEXT; ALTER TABLE costs DROP COLUMN cost;
        """,
    )
    change(
        database,
        'CREATE TABLE "chats" ("id" integer primary key, -- the key\n [title] text not null)',
        "CREATE TABLE costs (chat REFERENCES chats,\n note TEXT)",
    )
    stamp("head", database, two)
    assert check(database, two) == healthy(database)


def test_a_schema_that_a_migration_wrote_itself_is_no_drift(two: Path, database: Path) -> None:
    """SQLite's way to change a constraint without a copy: https://www.sqlite.org/lang_altertable.html"""
    write(
        two,
        "0003_edit",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
        "'CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT DEFAULT 1)' WHERE name = 'chats'",
    )
    migrate(database, two)
    assert check(database, two) == healthy(database)


def test_settings_and_temporary_tables_of_one_file_do_not_reach_the_next(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001", "CREATE TABLE a (b PRIMARY KEY); CREATE TABLE c (d REFERENCES a)")
    write(migrations, "0002", "PRAGMA legacy_alter_table = ON; CREATE TEMP TABLE new (x); CREATE TABLE e (f)")
    write(
        migrations, "0003", "ALTER TABLE a RENAME TO g; CREATE TABLE new (y); INSERT INTO new (y) VALUES (1)"
    )
    migrate(database, migrations)
    assert check(database, migrations) == healthy(database)


def test_what_sqlite_refuses_in_a_transaction_runs_in_the_replay(two: Path, database: Path) -> None:
    write(two, "0003", "-- vmpilot: no-transaction\nPRAGMA journal_mode = WAL; VACUUM; CREATE TABLE late (a)")
    migrate(database, two)
    assert check(database, two) == healthy(database)
    change(database, "DROP TABLE late")
    assert [problem.kind for problem in check(database, two).problems] == ["drift"]


# --- what only the application has


@contextmanager
def application(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as an application does that has a function and a collation of its own."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.create_function("weight", 1, len, deterministic=True)
        connection.create_collation("german", lambda a, b: (a > b) - (a < b))
        yield connection


CHATS = "CREATE TABLE chats (id TEXT PRIMARY KEY)"


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("CREATE INDEX i ON chats (weight(id))", "no such function: weight"),
        ("CREATE TABLE a (b, c AS (weight(b)))", "no such function: weight"),
        ("INSERT INTO chats SELECT 'a' FROM (SELECT weight('a') x) WHERE x > 0", "no such function: weight"),
        ("CREATE INDEX i ON chats (id COLLATE german)", "no such collation sequence: german"),
    ],
)
def test_what_the_replay_lacks_is_named_and_no_drift(
    migrations: Path, database: Path, last: str, words: str
) -> None:
    write(migrations, "0001", CHATS)
    write(migrations, "0002", f"-- a comment\nSELECT 1;\n{last};\nSELECT 2")
    remark = f"{database}: schema not compared: {migrations}/0002.up.sql:3: {words}"
    with application(database) as connection:
        migrate(connection, migrations)
        connection.execute("CREATE TABLE theirs (a)")
        assert check(connection, migrations) == healthy(database, remark)
    assert remark in check(database, migrations).remarks
    assert check(database, migrations).ok


def test_a_table_that_only_the_application_makes_is_named_and_no_drift(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001", "CREATE VIEW v AS SELECT 1; ALTER TABLE theirs ADD COLUMN note")
    change(database, "CREATE TABLE theirs (a)")
    migrate(database, migrations)
    words = f"{migrations}/0001.up.sql:1: no such table: theirs"
    assert check(database, migrations) == healthy(database, f"{database}: schema not compared: {words}")


def test_a_view_that_uses_a_function_of_the_application_is_compared(migrations: Path, database: Path) -> None:
    write(migrations, "0001", f"{CHATS}; CREATE VIEW weights AS SELECT weight(id) FROM chats")
    with application(database) as connection:
        migrate(connection, migrations)
    assert check(database, migrations) == healthy(database)
    change(database, "DROP VIEW weights")
    assert [problem.kind for problem in check(database, migrations).problems] == ["drift"]


def test_what_the_look_lacks_is_a_remark(migrations: Path, database: Path) -> None:
    """Both need the collation; the violation is seen through the application's own connection only."""
    write(
        migrations,
        "0001",
        "CREATE TABLE a (b TEXT PRIMARY KEY COLLATE german); CREATE TABLE c (d TEXT REFERENCES a)",
    )
    uncompared = (
        f"{database}: schema not compared: {migrations}/0001.up.sql:1: no such collation sequence: german"
    )
    with application(database) as connection:
        migrate(connection, migrations)
        connection.execute("INSERT INTO c VALUES ('x')")
        keys = (
            f"{database}: 1 foreign key violation: row 1 of c has no parent in a; mend or delete these rows"
        )
        assert check(connection, migrations) == ill(database, ("foreign_keys", keys))._replace(
            remarks=(uncompared,)
        )
    assert check(database, migrations) == healthy(
        database,
        uncompared,
        f"{database}: foreign keys not checked: no such collation sequence: german",
        f"{database}: pages not checked: no such collation sequence: german",
    )


# --- databases of older releases and of Alembic

CHATS_0_5 = """CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY, initial_request TEXT, project_root TEXT,
    messages TEXT NOT NULL, cache_info TEXT NOT NULL, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"""
EXCHANGES_0_6 = """CREATE TABLE exchanges (
    exchange_id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, model TEXT NOT NULL, request TEXT,
    cost JSON, start TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "end" TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"""
ALEMBIC = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    "INSERT INTO alembic_version VALUES ('57dc007f6d46')",
)


@pytest.mark.parametrize("release", [(CHATS_0_5,), (CHATS_0_5, EXCHANGES_0_6)], ids=["0.5", "0.6"])
def test_an_adopted_database_is_healthy(database: Path, release: tuple[str, ...]) -> None:
    bundled = ROOT / "migrations"
    change(database, *release)
    migrate(database, bundled)
    assert check(database, bundled) == healthy(database)


def test_a_database_of_alembic_is_compared_up_to_its_revision(database: Path) -> None:
    bundled = ROOT / "migrations"
    change(database, CHATS_0_5, EXCHANGES_0_6, *ALEMBIC)
    pending = f"{database}: 1 migration pending (0002_index_exchanges_by_chat); {RUN} upgrade"
    assert check(database, bundled) == ill(database, ("pending", pending))
    change(database, "ALTER TABLE chats DROP COLUMN project_root")
    told = "- column chats.project_root TEXT; undo this by hand, or make it a migration"
    assert check(database, bundled) == ill(
        database,
        ("pending", pending),
        ("drift", f"{database}: schema is not as 0001 made it: {told}"),
    )


# --- one look, without a trace


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("full", [False, True])
def test_a_check_changes_no_byte(two: Path, database: Path, mode: str, full: bool) -> None:
    change(database, f"PRAGMA journal_mode = {mode}")
    migrate(database, two)
    before = prints(database.parent)
    assert check(database, two, full=full).ok
    assert prints(database.parent) == before
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO chats VALUES (1, 'a')")
        before = prints(database.parent)
        assert len(before) == (3 if mode == "WAL" else 1)
        assert check(database, two, full=full).ok
        after = prints(database.parent)
    before.pop("app.db-shm", None)  # holds the marks of readers, not data
    after.pop("app.db-shm", None)
    assert after == before


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user whom file modes bind."""
    if os.getuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_read_only_database_is_checked(two: Path, tmp_path: Path, mode: str) -> None:
    with tempfile.TemporaryDirectory() as place:  # not below tmp_path, which only its owner may enter
        database = Path(place) / "app.db"
        shutil.copytree(two, Path(place) / "migrations")
        change(database, f"PRAGMA journal_mode = {mode}")
        migrate(database, two)
        os.chmod(database, 0o444)
        os.chmod(place, 0o555)
        before = prints(database.parent)
        with nobody():
            assert check(database, Path(place) / "migrations") == healthy(database)
        assert prints(database.parent) == before


def traced(database: Path, words: str, act: Callable[[], object]) -> sqlite3.Connection:
    """Open a database so that `act` is called once, right after a statement with these words began."""
    connection = sqlite3.connect(database, isolation_level=None)
    acts = [act]

    def trace(statement: str) -> None:
        if words in statement and acts:
            acts.pop()()

    connection.set_trace_callback(trace)
    return connection


def test_a_check_sees_one_moment(two: Path, database: Path) -> None:
    change(database, "PRAGMA journal_mode = WAL")
    migrate(database, two)
    away: list[object] = []

    def act() -> None:
        away.extend(downgrade(database, two, target="base", backup=False))
        change(database, "CREATE TABLE costs (chat REFERENCES nothing)", "INSERT INTO costs VALUES (1)")

    with closing(traced(database, "SELECT version_num", act)) as connection:
        assert check(connection, two) == healthy(database)
    assert len(away) == 2
    assert not check(database, two).ok


class Place:
    """A directory that tells when it is listed and when a file of it is read."""

    def __init__(self, path: Path, act: Callable[[str], object]) -> None:
        self.path, self.act, self.name = path, act, path.name

    def __str__(self) -> str:
        return str(self.path)

    def is_file(self) -> bool:
        return self.path.is_file()

    def is_dir(self) -> bool:
        return self.path.is_dir()

    def iterdir(self) -> Iterator["Place"]:
        self.act("list")
        return (Place(path, self.act) for path in self.path.iterdir())

    def joinpath(self, *names: str) -> "Place":
        return Place(self.path.joinpath(*names), self.act)

    def read_bytes(self) -> bytes:
        self.act("read")
        return self.path.read_bytes()


def test_nobody_waits_while_the_files_are_read_and_replayed(two: Path, database: Path) -> None:
    migrate(database, two)
    calls: list[str] = []

    def act(what: str) -> None:
        calls.append(what)
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")

    assert check(database, Place(two, act)) == healthy(database)
    assert calls == ["list", "read", "read"]


def test_the_callers_connection_comes_back_as_it_was(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        assert check(connection, two) == healthy(database)
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert connection.row_factory is sqlite3.Row
        assert connection.isolation_level == ""
        assert not connection.in_transaction


def test_a_database_in_memory_is_checked(two: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert not check(connection, two).ok
        migrate(connection, two)
        assert check(connection, two) == Health(":memory:", True, (), ())


@pytest.mark.parametrize("module", ["pysqlite3", "libsql", "turso"])
def test_a_connection_of_another_module_is_no_false_alarm(two: Path, database: Path, module: str) -> None:
    foreign = pytest.importorskip(module)
    migrate(database, two)
    lacks = "Parse error: Schema argument is not supported yet (got schema: 'main')"
    remarks = [f"{database}: schema not compared: {lacks}"] if module == "turso" else []
    with closing(foreign.connect(str(database))) as connection:
        assert check(connection, two) == healthy(database, *remarks)
    change(database, "INSERT INTO costs VALUES (1, 2)")
    keys = "1 foreign key violation: row 1 of costs has no parent in chats; mend or delete these rows"
    with closing(foreign.connect(str(database))) as connection:
        assert check(connection, two).problems == (Problem("foreign_keys", f"{database}: {keys}"),)


@contextmanager
def interrupted() -> Iterator[None]:
    """Send Ctrl-C while the code inside is busy, for much longer than it is given to end."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
        assert time.monotonic() - started < 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


LONG = """
    WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100000000) SELECT max(x) FROM c
"""


def test_an_interrupt_ends_the_replay(migrations: Path, database: Path) -> None:
    write(migrations, "0001", LONG)
    stamp("head", database, migrations)
    with interrupted():
        check(database, migrations)


def test_an_interrupt_ends_the_look(migrations: Path, database: Path) -> None:
    """A CHECK that takes its time lets quick_check take many seconds."""
    table = "CREATE TABLE c (a CHECK (length(hex(zeroblob(30000 + a % 2))) > 9))"
    write(migrations, "0001", table)
    change(
        database,
        table,
        "PRAGMA ignore_check_constraints = ON",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300000) "
        "INSERT INTO c SELECT x FROM n",
    )
    stamp("head", database, migrations)
    with interrupted():
        check(database, migrations)
    assert query(database, "SELECT count(*) FROM c") == [(300000,)]


# --- waiting


def test_what_is_at_head_is_not_waited_for(two: Path, database: Path) -> None:
    migrate(database, two)
    said: list[str] = []
    assert wait(database, two, seconds=60, say=said.append) == healthy(database)
    assert said == []


def test_no_seconds_try_at_once(two: Path, database: Path) -> None:
    said: list[str] = []
    pending = f"{database}: does not exist, 2 migrations pending (0001_chats, 0002_costs); {RUN} upgrade"
    assert wait(database, two, seconds=0, say=said.append) == ill(database, ("pending", pending))
    assert said == []
    assert not database.exists()
    migrate(database, two)
    assert wait(database, two, seconds=0) == healthy(database)


def test_another_process_is_waited_for(two: Path, database: Path) -> None:
    """Each thing that is waited for is answered by a process that brings it about."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        target = "+1" if len(said) < 3 else "head"
        done = command("upgrade", target, "-d", database, "--migrations", two)
        assert (done.returncode, done.stderr) == (0, "")

    write(two, "0003_last", "CREATE TABLE last (a)")
    assert wait(database, two, seconds=60, say=say) == healthy(database)
    assert said == [
        f"waiting for 0003: {database} does not exist",
        f"waiting for 0003: {database} is at 0001",
        f"waiting for 0003: {database} is at 0002",
    ]


def test_a_lock_is_waited_for(two: Path, database: Path) -> None:
    migrate(database, two)
    said: list[str] = []
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")

        def say(text: str) -> None:
            said.append(text)
            connection.execute("ROLLBACK")

        assert wait(database, two, seconds=60, say=say) == healthy(database)
    assert said == [f"waiting: {database}: locked by another process for 0.5 s; nothing was changed"]


def test_a_version_that_makes_no_sense_is_waited_for(two: Path, database: Path) -> None:
    migrate(database, two)
    change(database, "INSERT INTO alembic_version VALUES ('7')")
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        change(
            database, f"DELETE FROM alembic_version WHERE version_num = '{'7' if len(said) == 1 else '8'}'"
        )
        if len(said) == 1:
            change(database, "UPDATE alembic_version SET version_num = '0008'")
        else:
            stamp("head", database, two)

    assert wait(database, two, seconds=60, say=say) == healthy(database)
    assert said == [
        f"waiting: {database}: alembic_version holds 2 rows ('0002', '7'), expected one text; "
        f"nothing was changed; to set the version, {RUN} stamp VERSION",
        f"waiting for 0002: {database} is at 0008",
    ]


def test_when_time_is_up_the_problems_are_told(two: Path, database: Path) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        migrate(database, two, target="1")

    started = time.monotonic()
    pending = f"{database}: 1 migration pending (0002_costs); {RUN} upgrade"
    assert wait(database, two, seconds=0.5, say=say) == ill(database, ("pending", pending))
    assert time.monotonic() - started >= 0.5
    assert said == [
        f"waiting for 0002: {database} does not exist",
        f"waiting for 0002: {database} is at 0001",
    ]


def test_when_time_is_up_no_lock_is_waited_for(two: Path, database: Path) -> None:
    migrate(database, two)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        message = f"{database}: locked by another process for 0 s; nothing was changed"
        assert wait(database, two, seconds=0) == ill(database, ("unreadable", message))


def test_at_head_a_lock_is_waited_for_as_ever(two: Path, database: Path) -> None:
    migrate(database, two)
    calls: list[str] = []
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:

        def act(what: str) -> None:
            calls.append(what)
            if calls == ["list", "list"]:  # the database was found at head, and is checked now
                connection.execute("BEGIN EXCLUSIVE")

        message = f"{database}: locked by another process for 0.1 s; nothing was changed"
        assert wait(database, Place(two, act), seconds=60, timeout=0.1) == ill(
            database, ("unreadable", message)
        )


def test_at_head_other_problems_are_not_waited_for(two: Path, database: Path) -> None:
    migrate(database, two)
    change(database, "DROP TABLE costs")
    health = wait(database, two, seconds=60)
    assert [problem.kind for problem in health.problems] == ["drift"]


def test_waiting_can_be_interrupted(two: Path, database: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        wait(database, two, seconds=60, say=lambda text: signal.raise_signal(signal.SIGINT))
    with interrupted():
        wait(database, two, seconds=60)


def test_wrong_files_are_not_waited_for(two: Path, database: Path) -> None:
    (two / "3_x.up..sql").touch()
    with pytest.raises(HistoryError) as caught:
        wait(database, two, seconds=60)
    assert str(caught.value) == f"{two}/3_x.up..sql: expected a name like 0003_x.up.sql"
