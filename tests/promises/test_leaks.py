"""Proves that a step leaks nothing to the next one or to the caller: no TEMP object and no setting.

On success and on failure, inside a transaction and outside one; the caller's own TEMP objects survive.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import OUTSIDE, laid, numbers, query, write

from vmpilot.migrate import StepError, history, migrate

INSIDE = "-- inside a transaction\n"
# Each with a value that it does not have by default.
SETTINGS = {
    "analysis_limit": "7",
    "automatic_index": "0",
    "busy_timeout": "1234",
    "cache_size": "777",
    "cache_spill": "0",
    "case_sensitive_like": "1",
    "cell_size_check": "1",
    "checkpoint_fullfsync": "1",
    "count_changes": "1",
    "defer_foreign_keys": "1",
    "empty_result_callbacks": "1",
    "full_column_names": "1",
    "fullfsync": "1",
    "ignore_check_constraints": "1",
    "journal_size_limit": "12345",
    "legacy_alter_table": "1",
    "locking_mode": "EXCLUSIVE",
    "max_page_count": "5000",
    "mmap_size": "65536",
    "query_only": "1",
    "read_uncommitted": "1",
    "recursive_triggers": "1",
    "reverse_unordered_selects": "1",
    "secure_delete": "OFF",
    "short_column_names": "0",
    "threads": "2",
    "trusted_schema": "0",
    "wal_autocheckpoint": "7",
    "writable_schema": "1",
}
# Those that SQLite lets be changed outside a transaction only.
SETTINGS_OUTSIDE = {
    "foreign_keys": "1",
    "synchronous": "1",
    "temp_store": "2",
    "journal_mode": "MEMORY",
}
CASES = [
    *(pytest.param(INSIDE, name, value, id=f"inside {name}") for name, value in SETTINGS.items()),
    *(
        pytest.param(OUTSIDE, name, value, id=f"outside {name}")
        for name, value in (SETTINGS | SETTINGS_OUTSIDE).items()
        if name != "defer_foreign_keys"
    ),
    *(
        pytest.param(OUTSIDE, "journal_mode", mode, id=f"outside journal_mode {mode}")
        for mode in ("TRUNCATE", "PERSIST", "OFF")
    ),
]


def value_of(connection: sqlite3.Connection, name: str) -> Any:
    if name == "case_sensitive_like":  # it can be written only, so its effect is looked at
        return connection.execute("SELECT 'a' LIKE 'A'").fetchone()
    return connection.execute(f"PRAGMA {name}").fetchone()


def spied(connection: sqlite3.Connection, name: str) -> list[Any]:
    """Let the migrations call look(), which notes what a setting is at that moment."""
    seen: list[Any] = []

    def look() -> None:
        (found,) = value_of(connection, name)
        seen.append((found.decode() if isinstance(found, bytes) else found,))

    connection.create_function("look", 0, look)
    return seen


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_a_setting_is_as_before_after_a_failure_and_for_the_next_step_and_for_the_caller(
    migrations: Path, connection: sqlite3.Connection, kind: str, name: str, value: str
) -> None:
    before = value_of(connection, name)
    seen = spied(connection, name)
    up = f"{kind}PRAGMA {name} = {value};\nSELECT look();"
    write(migrations, "0001_set", f"{up}\noops;")
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    assert caught.value.line == 4
    assert value_of(connection, name) == before
    write(migrations, "0001_set", up)
    write(migrations, "0002_look", "SELECT look();\nCREATE TABLE t (a);")
    assert len(migrate(connection, migrations)) == 2
    failed, inside, after = seen
    assert failed == inside != before
    # Those two are ours in a run.
    assert after == ((0,) if name in ("busy_timeout", "foreign_keys") else before)
    assert value_of(connection, name) == before


def test_what_a_virtual_table_keeps_from_being_put_back_is_put_back_behind_it(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    """SQLite says nothing of it until COMMIT, because such a table keeps a statement open."""
    seen = spied(connection, "case_sensitive_like")
    made = "CREATE VIRTUAL TABLE docs USING fts5(x);\nINSERT INTO docs VALUES ('a');"
    write(migrations, "0001_set", f"PRAGMA case_sensitive_like = 1;\n{made}\nSELECT look();")
    write(migrations, "0002_look", "SELECT look();")
    assert len(migrate(connection, migrations)) == 2
    assert seen == [(0,), (1,)]
    assert value_of(connection, "case_sensitive_like") == (1,)


def test_what_cannot_be_put_back_does_not_hide_why_the_step_failed(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    def spoil() -> None:
        connection.execute("BEGIN")  # in which SQLite lets nobody change `synchronous`
        raise ValueError

    connection.create_function("spoil", 0, spoil)
    write(migrations, "0001_one", OUTSIDE + "PRAGMA synchronous = EXTRA;\nSELECT spoil();")
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    assert str(caught.value).startswith(
        f"{migrations}/0001_one.up.sql:3: user-defined function raised exception"
    )


@pytest.mark.parametrize("before", ["OFF", "ON", "FAST"])
@pytest.mark.parametrize("during", ["OFF", "ON", "FAST"])
def test_a_setting_with_names_for_its_values_is_put_back(
    migrations: Path, connection: sqlite3.Connection, before: str, during: str
) -> None:
    connection.execute(f"PRAGMA secure_delete = {before}").fetchall()
    expected = value_of(connection, "secure_delete")
    write(migrations, "0001_set", f"PRAGMA secure_delete = {during};\nCREATE TABLE t (a);")
    migrate(connection, migrations)
    assert value_of(connection, "secure_delete") == expected


def test_a_setting_of_the_caller_is_put_back_and_not_the_default(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("PRAGMA recursive_triggers = ON")
    connection.execute("PRAGMA cache_size = 333")
    write(
        migrations,
        "0001_set",
        "PRAGMA recursive_triggers = OFF;\nPRAGMA main.cache_size(55);\nCREATE TABLE t (a);",
    )
    migrate(connection, migrations)
    assert value_of(connection, "recursive_triggers") == (1,)
    assert value_of(connection, "cache_size") == (333,)


@pytest.mark.parametrize("kind", [INSIDE, OUTSIDE])
def test_a_schema_that_the_caller_may_write_stays_so(
    migrations: Path, connection: sqlite3.Connection, kind: str
) -> None:
    connection.execute("PRAGMA writable_schema = ON")
    write(migrations, "0001_set", f"{kind}PRAGMA writable_schema = OFF;\nCREATE TABLE t (a);")
    migrate(connection, migrations)
    assert value_of(connection, "writable_schema") == (1,)


@pytest.mark.parametrize(
    ("file", "before", "asked", "after"),
    [
        ("DELETE", "DELETE", "WAL", "wal"),
        ("WAL", "WAL", "DELETE", "delete"),
        ("WAL", "WAL", "TRUNCATE", "delete"),
        ("DELETE", "PERSIST", "DELETE", "persist"),
        ("DELETE", "PERSIST", "WAL", "wal"),
    ],
)
def test_a_journal_of_the_file_stays_and_one_of_the_connection_is_put_back(
    migrations: Path,
    database: Path,
    connection: sqlite3.Connection,
    file: str,
    before: str,
    asked: str,
    after: str,
) -> None:
    laid(database, file)
    connection.execute(f"PRAGMA journal_mode = {before}").fetchall()
    seen = spied(connection, "journal_mode")
    write(migrations, "0001_ask", f"{OUTSIDE}PRAGMA journal_mode={asked};\nSELECT look();")
    write(migrations, "0002_t", "CREATE TABLE t (a);")
    assert len(migrate(connection, migrations)) == 2
    assert seen == [(asked.lower(),)]
    assert value_of(connection, "journal_mode") == (after,)
    assert query(database, "PRAGMA journal_mode") == [("wal" if asked == "WAL" else "delete",)]


def test_an_exclusive_lock_that_a_step_asks_for_is_given_up(
    migrations: Path, database: Path, connection: sqlite3.Connection
) -> None:
    write(migrations, "0001_lock", "PRAGMA locking_mode = EXCLUSIVE;\nCREATE TABLE t (a);")
    migrate(connection, migrations)
    with closing(sqlite3.connect(database, timeout=0)) as other:
        other.execute("INSERT INTO t VALUES (1)")
        other.commit()


# --- TEMP objects

OBJECTS = {
    "table": "CREATE TEMP TABLE scratch (a);\nINSERT INTO scratch VALUES (1);",
    "temporary": "CREATE TEMPORARY TABLE IF NOT EXISTS scratch (a);",
    "qualified": "CREATE TABLE temp.scratch (a);",
    "quoted": 'CREATE TABLE "temp"."scr""atch" (a);\nCREATE INDEX temp."i""x" ON "scr""atch" (a);',
    "as": "CREATE TEMP TABLE scratch AS SELECT * FROM t;",
    "view": "CREATE TEMP VIEW scratch AS SELECT * FROM t;",
    "view of view": "CREATE TEMP VIEW scratch AS SELECT * FROM t;\n"
    "CREATE TEMP VIEW more AS SELECT * FROM scratch;",
    "trigger": "CREATE TEMP TRIGGER my_spy AFTER INSERT ON main.t BEGIN INSERT INTO log VALUES ('leaked'); END;",
    "trigger on temp": "CREATE TEMP TABLE scratch (a);\n"
    "CREATE TRIGGER temp.spy AFTER INSERT ON scratch BEGIN SELECT 1; END;",
    "one name": "CREATE TEMP TABLE spy (a);\n"
    "CREATE TEMP TRIGGER spy AFTER INSERT ON main.t BEGIN INSERT INTO log VALUES ('leaked'); END;",
    "virtual": "CREATE VIRTUAL TABLE temp.words USING fts5 (word);\nINSERT INTO words VALUES ('x');",
    "sequence": "CREATE TEMP TABLE scratch (a INTEGER PRIMARY KEY AUTOINCREMENT);\n"
    "INSERT INTO scratch VALUES (1);",
    "shadow": "CREATE TEMP TABLE t (a);\nINSERT INTO t VALUES (9);",
    "shadows of ours": "CREATE TEMP TABLE alembic_version (a);\nCREATE TEMP TABLE migration_log (a);",
}
BASE = "CREATE TABLE t (a);\nCREATE TABLE log (what);"
OWN = (
    "CREATE TEMP TABLE mine (a);\nINSERT INTO mine VALUES ('kept');\n"
    "CREATE TEMP VIEW my_view AS SELECT a FROM mine;\n"
    "CREATE TEMP TRIGGER mine AFTER INSERT ON mine BEGIN SELECT 1; END;\n"
    "CREATE INDEX temp.my_index ON mine (a);\n"
    "CREATE VIRTUAL TABLE temp.my_words USING fts5 (word);\nCREATE TEMP TABLE my_spy (a);"
)


def temporary(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    sql = "SELECT type, name FROM sqlite_temp_master WHERE name NOT LIKE 'sqlite%' ORDER BY type, name"
    return connection.execute(sql).fetchall()


@pytest.mark.parametrize("objects", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("kind", [INSIDE, OUTSIDE], ids=["inside", "outside"])
@pytest.mark.parametrize("own", ["", OWN], ids=["none", "own"])
def test_the_temporary_objects_of_a_step_are_gone_and_the_callers_stay(
    migrations: Path, connection: sqlite3.Connection, objects: str, kind: str, own: str
) -> None:
    write(migrations, "0001_base", BASE)
    migrate(connection, migrations)
    connection.executescript(own)
    before = temporary(connection)
    assert bool(before) == bool(own)
    write(migrations, "0002_temp", f"{kind}{objects}\noops;")
    with pytest.raises(StepError):
        migrate(connection, migrations)
    assert temporary(connection) == before
    write(migrations, "0002_temp", f"{kind}{objects}")
    assert len(migrate(connection, migrations)) == 1
    assert temporary(connection) == before
    connection.execute("INSERT INTO t VALUES (1)")
    assert connection.execute("SELECT a FROM main.t").fetchall() == [(1,)]
    assert connection.execute("SELECT * FROM log").fetchall() == []
    if own:
        assert connection.execute("SELECT a FROM my_view").fetchall() == [("kept",)]


@pytest.mark.parametrize("objects", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("kind", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_the_temporary_objects_of_a_step_are_gone_before_the_next(
    migrations: Path, database: Path, objects: str, kind: str
) -> None:
    write(migrations, "0001_base", BASE)
    write(migrations, "0002_temp", f"{kind}{objects}")
    write(
        migrations,
        "0003_look",
        "INSERT INTO t VALUES (1);\nINSERT INTO log SELECT name FROM sqlite_temp_master WHERE name "
        "NOT LIKE 'sqlite%';",
    )
    assert len(migrate(database, migrations)) == 3
    assert query(database, "SELECT a FROM t") == [(1,)]
    assert query(database, "SELECT * FROM log") == []
    assert query(database, "SELECT count(*) FROM migration_log WHERE action = 'upgrade'") == [(3,)]


def test_a_temporary_object_of_the_caller_that_a_failing_step_drops_comes_back(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    write(migrations, "0001_drop", "DROP TABLE temp.mine;\nCREATE TEMP TABLE mine (b);\noops;")
    connection.execute("CREATE TEMP TABLE mine (a)")
    connection.execute("INSERT INTO mine VALUES ('kept')")
    with pytest.raises(StepError):
        migrate(connection, migrations)
    assert connection.execute("SELECT a FROM mine").fetchall() == [("kept",)]


def test_a_large_temporary_table_is_dropped_after_an_interrupt(
    migrations: Path, connection: sqlite3.Connection
) -> None:
    write(migrations, "0001_temp", f"{OUTSIDE}CREATE TEMP TABLE big AS {numbers(20000)};\nSELECT stop();")

    def stop() -> None:
        connection.interrupt()

    connection.create_function("stop", 0, stop)
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    assert caught.value.line == 3
    assert temporary(connection) == []


def test_temporary_tables_of_the_caller_that_are_named_as_ours_mislead_nobody(
    migrations: Path, database: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("CREATE TEMP TABLE alembic_version (version_num)")
    connection.execute("INSERT INTO alembic_version VALUES ('0007')")
    connection.execute("CREATE TEMP TABLE migration_log (a)")
    write(migrations, "0001_base", BASE)
    assert len(migrate(connection, migrations)) == 1
    assert migrate(connection, migrations) == ()
    assert [entry.state for entry in history(connection, migrations)] == ["applied"]
    assert connection.execute("SELECT * FROM temp.alembic_version").fetchall() == [("0007",)]
    assert query(database, "SELECT * FROM alembic_version") == [("0001",)]
