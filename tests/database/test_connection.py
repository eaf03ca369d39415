"""Proves that a caller's connection is migrated as a path is, and handed back as it came.

Whatever its isolation level, rows, texts and functions are, and whichever module with the interface of
sqlite3 it comes from: those that are not installed are skipped.
"""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, change, held, query, write

from vmpilot.migrate import (
    AccessError,
    Progress,
    StepError,
    current,
    downgrade,
    history,
    migrate,
    stamp,
    verify,
)
from vmpilot.migrate.database.connection import references
from vmpilot.migrate.database.opening import scratch

PRAGMAS = [
    "busy_timeout",
    "foreign_keys",
    "recursive_triggers",
    "legacy_alter_table",
    "query_only",
    "synchronous",
    "journal_mode",
    "cache_size",
    "temp_store",
    "locking_mode",
    "count_changes",
    "read_uncommitted",
    "ignore_check_constraints",
    "trusted_schema",
    "secure_delete",
    "reverse_unordered_selects",
    "automatic_index",
    "writable_schema",
    "max_page_count",
    "journal_size_limit",
    "mmap_size",
]
ATTRIBUTES = ("isolation_level", "row_factory", "text_factory", "autocommit", "in_transaction")


def settings(connection: Any) -> dict[str, Any]:
    """Return all that a caller can have set on a connection."""
    found = {name: getattr(connection, name, None) for name in ATTRIBUTES}
    cursor = connection.cursor()
    with suppress(AttributeError):
        cursor.row_factory = None
    for name in PRAGMAS:
        cursor.execute(f"PRAGMA {name}")
        found[name] = cursor.fetchall()
    cursor.close()
    return found


def family(migrations: Path) -> None:
    """Write migrations that need foreign keys off, have a view and a trigger, and can be undone."""
    write(
        migrations,
        "0001_base",
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);\n"
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent (id) ON DELETE CASCADE);\n"
        "INSERT INTO parent VALUES (1, 'a; -- b');\nINSERT INTO child VALUES (1, 1);",
        "DROP TABLE child;\nDROP TABLE parent;",
    )
    write(
        migrations,
        "0002_rebuild",
        "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT, more TEXT);\n"
        "INSERT INTO new SELECT id, name, 'x' FROM parent;\nDROP TABLE parent;\n"
        "ALTER TABLE new RENAME TO parent;\n"
        "CREATE VIEW names AS SELECT name FROM parent;\n"
        "CREATE TRIGGER note AFTER INSERT ON child BEGIN UPDATE parent SET more = 'y'; END;",
        "DROP TRIGGER note;\nDROP VIEW names;\nALTER TABLE parent DROP COLUMN more;",
    )


def migrated_and_handed_back(connection: Any, migrations: Path) -> None:
    """Take a connection up, into an error, down and up again; expect it back as it came each time."""
    family(migrations)
    before = settings(connection)
    assert [step.version for step in migrate(connection, migrations)] == ["0001", "0002"]
    assert settings(connection) == before
    assert migrate(connection, migrations) == ()
    assert settings(connection) == before
    write(
        migrations,
        "0003_bad",
        "SELECT 1;\nINSERT INTO parent VALUES (2, 'b', 'x');\nINSERT INTO nowhere VALUES (1);",
    )
    with pytest.raises(StepError) as caught:
        migrate(connection, migrations)
    where = f"{migrations}/0003_bad.up.sql:3: "
    assert str(caught.value).startswith(where)
    assert "no such table: nowhere; rolled back, " in str(caught.value)
    assert str(caught.value).endswith(" is still at 0002")
    assert settings(connection) == before
    for stem in ("up", "down"):
        (migrations / f"0003_bad.{stem}.sql").unlink()
    assert [step.version for step in downgrade(connection, migrations, target="base", backup=False)] == [
        "0002",
        "0001",
    ]
    assert settings(connection) == before
    assert [step.version for step in migrate(connection, migrations)] == ["0001", "0002"]
    assert current(connection, migrations).version == "0002"
    assert [entry.state for entry in history(connection, migrations)] == ["applied", "applied"]
    assert settings(connection) == before
    cursor = connection.cursor()
    cursor.execute("INSERT INTO child VALUES (2, 1)")
    cursor.fetchall()
    if connection.in_transaction:
        connection.commit()
    with suppress(AttributeError):
        cursor.row_factory = None
    cursor.execute("SELECT count(*), max(more) FROM child, parent")
    assert [tuple(row) for row in cursor.fetchall()] in ([(2, "y")], [(2, b"y")], [(2, "Y")])


# --- paths


class Bytes:
    """A path that is made of bytes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self.path)


@pytest.mark.parametrize("name", ["app.db", "a#b.db", "a%41.db", "ä b'\"`;&.db", "\udcff.db"])
@pytest.mark.parametrize(
    "spelled",
    [str, Path, Bytes, "sqlite:///{}".format, None],
    ids=["str", "Path", "bytes", "url", "variable"],
)
def test_a_database_is_the_file_that_is_named(
    name: str, spelled: Callable[[str], Any] | None, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    monkeypatch.chdir(migrations.parent)
    monkeypatch.setenv("VMPILOT_DATABASE", f"sqlite:///{name}")
    assert len(migrate(spelled(name) if spelled else None, "migrations")) == 1
    assert current(name, "migrations").version == "0001"
    assert {path.name for path in Path().iterdir()} == {"migrations", name}


def test_a_path_may_begin_with_two_slashes(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    assert len(migrate(f"/{database}", migrations)) == 1
    assert current(database, migrations).version == "0001"


def test_an_empty_log_is_none(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    change(database, "PRAGMA journal_mode = WAL")
    migrate(database, migrations)
    database.with_name("app.db-wal").touch()
    assert current(database, migrations).version == "0001"
    assert {path.name for path in database.parent.iterdir()} == {"migrations", "app.db"}


# --- connections of sqlite3


def dictionary(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


KINDS: dict[str, dict[str, Any]] = {
    "tuples": {},
    "Row": {"row_factory": sqlite3.Row},
    "dict": {"row_factory": dictionary},
    "scalar": {"row_factory": lambda cursor, row: row[0]},
    "bytes": {"text_factory": bytes},
}


class Cursor(sqlite3.Cursor):
    """An application's own cursor."""


class Connection(sqlite3.Connection):
    """An application's own connection, whose rows are mappings and whose cursors are its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.row_factory = dictionary

    def cursor(self, factory: type[sqlite3.Cursor] = Cursor) -> sqlite3.Cursor:
        return super().cursor(factory)


def configured(**attributes: Any) -> Callable[[Path], sqlite3.Connection]:
    def opened(database: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(database)
        for name, value in attributes.items():
            setattr(connection, name, value)
        return connection

    return opened


def with_pragma(pragma: str) -> Callable[[Path], sqlite3.Connection]:
    def opened(database: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(database)
        connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    return opened


def with_autocommit(autocommit: bool, **options: Any) -> Callable[[Path], sqlite3.Connection]:
    return lambda database: sqlite3.connect(database, autocommit=autocommit, **options)


newer = pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit came with Python 3.12")
CONNECTIONS = [
    *(
        pytest.param(configured(isolation_level=level), id=f"isolation {level!r}")
        for level in (None, "DEFERRED", "IMMEDIATE", "EXCLUSIVE", "")
    ),
    *(pytest.param(with_autocommit(value), id=f"autocommit {value}", marks=newer) for value in (True, False)),
    pytest.param(
        lambda database: with_autocommit(False, factory=Connection)(database),
        id="autocommit and rows",
        marks=newer,
    ),
    *(pytest.param(configured(**attributes), id=kind) for kind, attributes in KINDS.items()),
    pytest.param(configured(text_factory=lambda data: data.decode("latin-1").upper()), id="own texts"),
    pytest.param(lambda database: sqlite3.connect(":memory:"), id="memory"),
    pytest.param(lambda database: sqlite3.connect(""), id="temporary file"),
    pytest.param(lambda database: sqlite3.connect(f"file:{database}?mode=rwc", uri=True), id="uri"),
    pytest.param(
        lambda database: sqlite3.connect("file:shared?mode=memory&cache=shared", uri=True), id="shared memory"
    ),
    pytest.param(lambda database: sqlite3.connect(database, factory=Connection), id="subclass"),
    pytest.param(
        lambda database: sqlite3.connect(
            database, detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
        ),
        id="declared types",
    ),
    pytest.param(lambda database: sqlite3.connect(database, cached_statements=0), id="no cache"),
    pytest.param(lambda database: sqlite3.connect(database, timeout=7.5), id="timeout"),
    *(
        pytest.param(with_pragma(pragma), id=pragma)
        for pragma in (
            "foreign_keys = ON",
            "journal_mode = WAL",
            "journal_mode = TRUNCATE",
            "journal_mode = MEMORY",
            "recursive_triggers = ON",
            "legacy_alter_table = ON",
            "case_sensitive_like = ON",
            "count_changes = ON",
            "reverse_unordered_selects = ON",
            "secure_delete = FAST",
            "locking_mode = EXCLUSIVE",
            "full_column_names = ON",
            "empty_result_callbacks = ON",
            "trusted_schema = OFF",
        )
    ),
]


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_a_connection_is_migrated_and_handed_back_as_it_came(
    migrations: Path, database: Path, connect: Callable[[Path], sqlite3.Connection]
) -> None:
    with closing(connect(database)) as connection:
        migrated_and_handed_back(connection, migrations)


@pytest.mark.parametrize("kind", ["dict", "scalar", "bytes", "memory"])
def test_messages_name_the_database_whatever_rows_and_texts_are(
    kind: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_bad", "oops;")
    where = ":memory:" if kind == "memory" else str(database)
    with closing(sqlite3.connect(where)) as connection, pytest.raises(StepError) as caught:
        for name, value in KINDS.get(kind, {}).items():
            setattr(connection, name, value)
        migrate(connection, migrations)
    assert str(caught.value) == (
        f'{migrations}/0001_bad.up.sql:1: near "oops": syntax error; rolled back, {where} is still at base'
    )


def test_the_applications_functions_and_collations_serve_the_migrations(
    migrations: Path, database: Path
) -> None:
    write(
        migrations,
        "0001_own",
        "CREATE TABLE t (name TEXT COLLATE backwards, length INTEGER AS (size(name)));\n"
        "INSERT INTO t (name) VALUES ('ab'), ('ba'), (NULL);\nCREATE INDEX names ON t (name);\n"
        "CREATE VIEW v AS SELECT longest(name) AS l FROM t;\nINSERT INTO t (name) SELECT l FROM v;",
    )

    class Longest:
        best = ""

        def step(self, text: str | None) -> None:
            self.best = max(self.best, text or "")

        def finalize(self) -> str:
            return self.best * 2

    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("size", 1, lambda text: len(text or ""), deterministic=True)
        connection.create_aggregate("longest", 1, Longest)
        connection.create_collation("backwards", lambda a, b: (a < b) - (a > b))
        assert len(migrate(connection, migrations)) == 1
        rows = connection.execute("SELECT name, length FROM t WHERE length ORDER BY name").fetchall()
    assert rows == [("baba", 4), ("ba", 2), ("ab", 2)]


def test_the_callers_trace_and_attached_databases_stay(
    migrations: Path, database: Path, tmp_path: Path
) -> None:
    family(migrations)
    seen: list[str] = []
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        connection.execute("CREATE TABLE other.migration_log (a)")
        connection.execute("CREATE TABLE other.child (a)")
        connection.set_trace_callback(seen.append)
        migrate(connection, migrations)
        count = len(seen)
        assert connection.execute("SELECT count(*) FROM other.migration_log").fetchone() == (0,)
        assert 0 < count < len(seen)
    assert query(database, "SELECT count(*) FROM child") == [(1,)]
    assert [
        name for (name,) in query(tmp_path / "other.db", "SELECT name FROM sqlite_master ORDER BY name")
    ] == ["child", "migration_log"]


def test_the_callers_progress_handler_stays(migrations: Path, database: Path) -> None:
    family(migrations)
    ticks: list[int] = []
    with closing(sqlite3.connect(database)) as connection:
        connection.set_progress_handler(lambda: ticks.append(1), 1)
        migrate(connection, migrations)
        before = len(ticks)
        connection.execute("SELECT count(*) FROM parent").fetchall()
        assert len(ticks) > before > 0


def test_total_changes_only_grow(migrations: Path, database: Path) -> None:
    family(migrations)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        assert connection.total_changes == 1
        migrate(connection, migrations)
        grown = connection.total_changes
        assert grown > 1
        assert migrate(connection, migrations) == ()
        assert connection.total_changes == grown


def test_a_half_read_cursor_of_the_caller_goes_on(migrations: Path, database: Path) -> None:
    write(migrations, "0001_t", "CREATE TABLE t (a);")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE own (a)")
        connection.executemany("INSERT INTO own VALUES (?)", [(number,) for number in range(5)])
        connection.commit()
        reading = connection.execute("SELECT a FROM own")
        assert reading.fetchone() == (0,)
        assert len(migrate(connection, migrations)) == 1
        assert reading.fetchall() == [(1,), (2,), (3,), (4,)]


# --- open transactions

OPEN = "the connection has an open transaction with changes; nothing was changed; commit or roll back first"
CHANGES = (
    "INSERT INTO own VALUES (1)",
    "CREATE TABLE more (a)",
    "INSERT INTO attached.own VALUES (1)",
    "INSERT INTO temp.mine VALUES (1)",
    "PRAGMA user_version = 7",
)


@pytest.mark.parametrize(
    ("kind", "mode", "sql"),
    [
        *(("tuples", mode, sql) for mode in ("DELETE", "WAL") for sql in CHANGES),
        *((kind, "DELETE", CHANGES[0]) for kind in KINDS),
    ],
)
def test_an_open_transaction_with_changes_is_refused_and_stays_open(
    kind: str, mode: str, sql: str, migrations: Path, database: Path, tmp_path: Path
) -> None:
    family(migrations)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        connection.execute("ATTACH ? AS attached", (str(tmp_path / "attached.db"),))
        for table in ("main.own", "attached.own", "temp.mine"):
            connection.execute(f"CREATE TABLE {table} (a)")
        for name, value in KINDS[kind].items():
            setattr(connection, name, value)
        connection.execute("BEGIN")
        connection.execute(sql)
        before = settings(connection)
        commands: list[Callable[[], object]] = [
            lambda: migrate(connection, migrations),
            lambda: stamp("head", connection, migrations),
            lambda: downgrade(connection, migrations, target="base", backup=False),
            lambda: current(connection, migrations),
        ]
        for command in commands:
            with pytest.raises(AccessError) as caught:
                command()
            assert str(caught.value) == f"{database}: {OPEN}"
            assert caught.value.database == str(database)
        assert settings(connection) == before
        assert connection.in_transaction
        connection.commit()
        connection.row_factory = None
        kept = connection.execute(
            "SELECT (SELECT count(*) FROM main.own) + (SELECT count(*) FROM attached.own)"
            " + (SELECT count(*) FROM temp.mine) + (SELECT user_version FROM pragma_user_version) / 7"
            " + (SELECT count(*) FROM sqlite_master WHERE name = 'more')"
        ).fetchall()
        assert kept == [(1,)]
        assert len(migrate(connection, migrations)) == 2


@pytest.mark.parametrize(
    ("kind", "opening"),
    [
        *(("tuples", opening) for opening in (("BEGIN",), ("SAVEPOINT s",))),
        *((kind, ("BEGIN", "SELECT * FROM own")) for kind in KINDS),
    ],
)
def test_an_open_transaction_without_changes_is_ended(
    kind: str, opening: tuple[str, ...], migrations: Path, database: Path
) -> None:
    family(migrations)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE own (a)")
        for name, value in KINDS[kind].items():
            setattr(connection, name, value)
        for statement in opening:
            connection.execute(statement).fetchall()
        assert connection.in_transaction
        assert len(migrate(connection, migrations)) == 2
        assert not connection.in_transaction


# --- locks

LOCKED = "locked by another process for 0.1 s; nothing was changed"


def waiting(database: Path) -> sqlite3.Connection:
    """Return a connection with an open transaction that has not even read yet."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN")
    return connection


@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(sqlite3.connect, id="plain"),
        pytest.param(waiting, id="in a transaction"),
        pytest.param(with_autocommit(False), id="without autocommit", marks=newer),
    ],
)
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_lock_is_waited_for_and_the_connection_handed_back_as_it_came(
    connect: Callable[[Path], sqlite3.Connection], lock: str, migrations: Path, database: Path
) -> None:
    family(migrations)
    with (
        closing(connect(database)) as connection,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        before = {name: getattr(connection, name, None) for name in ATTRIBUTES if name != "in_transaction"}
        other.execute("CREATE TABLE own (a)")
        other.execute(f"BEGIN {lock}")
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations, timeout=0.1)
        assert str(caught.value) == f"{database}: {LOCKED}"
        assert {name: getattr(connection, name, None) for name in before} == before
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
        other.execute("COMMIT")
        assert len(migrate(connection, migrations)) == 2


def test_a_lock_of_a_shared_cache_is_waited_for(migrations: Path) -> None:
    family(migrations)
    name = f"file:{migrations.parent.name}?mode=memory&cache=shared"
    with (
        closing(sqlite3.connect(name, uri=True)) as connection,
        closing(sqlite3.connect(name, uri=True, isolation_level=None)) as other,
    ):
        other.execute("CREATE TABLE own (a)")
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO own VALUES (1)")
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations, timeout=0.1)
        assert str(caught.value).endswith(f": {LOCKED}")
        other.execute("COMMIT")
        assert len(migrate(connection, migrations)) == 2


def test_what_another_connection_of_a_shared_cache_creates_is_waited_for(migrations: Path) -> None:
    family(migrations)
    name = f"file:{migrations.parent.name}-created?mode=memory&cache=shared"
    options: dict[str, Any] = {"uri": True, "isolation_level": None, "check_same_thread": False}
    with (
        closing(sqlite3.connect(name, **options)) as connection,
        closing(sqlite3.connect(name, **options)) as other,
    ):
        connection.execute("PRAGMA busy_timeout = 77")
        other.execute("BEGIN")
        other.execute("CREATE TABLE own (a)")
        with pytest.raises(sqlite3.OperationalError):  # every statement is refused
            connection.execute("SELECT 1")
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations, timeout=0.1)
        assert str(caught.value) == f"the connection: {LOCKED}"
        thread = threading.Timer(0.05, lambda: other.execute("COMMIT"))
        thread.start()
        assert len(migrate(connection, migrations)) == 2
        thread.join()
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (77,)


HOSTILE = """
import sqlite3, sys
from vmpilot.migrate import StepError, current, downgrade, history, migrate, stamp

def hostile(value):
    raise ValueError(value)

for name in ("", "text", "varchar", "int", "integer", "real", "blob", "any", "date", "timestamp", "key"):
    sqlite3.register_converter(name, hostile)
connection = sqlite3.connect("app.db", detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES)
connection.row_factory = hostile
connection.text_factory = hostile
connection.execute("CREATE TEMP TABLE own (a TEXT)")
for target in ("1", "3"):
    print(*(step.version for step in migrate(connection, "migrations", target=target)))
print(current(connection, "migrations").version, len(history(connection, "migrations")[:3]))
print(*(step.version for step in downgrade(connection, "migrations", target="1", backup=False)))
print(stamp("2", connection, "migrations").version)
try:
    migrate(connection, "migrations")
    print()
except StepError as error:
    print(error)
"""


def test_nothing_that_is_read_goes_through_the_callers_converters(migrations: Path, database: Path) -> None:
    write(
        migrations,
        "0001_base",
        'CREATE TABLE p (id TEXT PRIMARY KEY);\nCREATE TABLE c ("a [date]" REFERENCES p);',
    )
    write(migrations, "0002_view", "CREATE VIEW v AS SELECT * FROM c;\nPRAGMA table_info(c);", "DROP VIEW v;")
    write(
        migrations,
        "0003_temp",
        "CREATE TEMP TABLE t (a TEXT);\nCREATE TRIGGER g AFTER INSERT ON p BEGIN SELECT * FROM migration_log; END;",
        "DROP TRIGGER g;",
    )
    done = ["0001", "0002 0003", "0003 3", "0003 0002", "0002"]
    ran = hostile(migrations)
    assert ran == [*done, ""]
    database.unlink()
    write(
        migrations, "0004_rows", "INSERT INTO c VALUES ('secret');\nCREATE VIEW w AS SELECT * FROM nowhere;"
    )
    *ran, error = hostile(migrations)
    assert ran == done
    assert error.startswith(
        "migrations/0004_rows.up.sql: 1 new foreign key violation: row 1 of c has no parent in p; "
        "w does not compile: "
    )
    assert "secret" not in error


def hostile(migrations: Path) -> list[str]:
    """Run what nothing may go through, beside a directory of migrations, and return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", HOSTILE],
        cwd=migrations.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.parametrize("kind", ["", "-- vmpilot: no-transaction\n"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM t;",
        "INSERT INTO t SELECT * FROM t RETURNING *;",
        "UPDATE t SET a = a RETURNING a;",
        "VALUES (CAST(x'ff' AS TEXT));",
    ],
)
def test_a_text_that_nobody_reads_need_not_be_utf_8(
    statement: str, kind: str, migrations: Path, database: Path
) -> None:
    write(migrations, "0001_base", "CREATE TABLE t (a TEXT);\nINSERT INTO t VALUES (CAST(x'41ff' AS TEXT));")
    write(migrations, "0002_rows", kind + statement)
    with closing(sqlite3.connect(database)) as connection:
        assert len(migrate(connection, migrations)) == 2


@pytest.mark.parametrize("kind", ["", "-- vmpilot: no-transaction\n"])
@pytest.mark.parametrize(
    ("statement", "calls"),
    [
        ("SELECT * FROM t;", 0),
        ("SELECT a, a, seen(a) FROM t ORDER BY a;", 3),
        ("SELECT count(*) AS 'n [secret]' FROM t LIMIT 1;", 0),
        ("SELECT seen(a) FROM t UNION ALL SELECT seen(1)", 4),
        ("WITH w AS (SELECT a FROM t WHERE seen(a) IS NULL) SELECT * FROM w -- the end", 3),
        ("VALUES (seen(1), 2), (3, 4);", 1),
        ("INSERT INTO t SELECT * FROM t WHERE seen(a) IS NULL RETURNING *;", 3),
        ("WITH w AS (SELECT seen(1)) INSERT INTO t SELECT * FROM w RETURNING a AS 'a [secret]'", 1),
        ("UPDATE t SET a = 'returning' WHERE seen(a) IS NULL;", 3),
        ("UPDATE t SET a = a RETURNING seen(a), a;", 3),
        ("REPLACE INTO t VALUES (1) RETURNING a;", 0),
        ("DELETE FROM t RETURNING a;", 0),
        ("EXPLAIN SELECT a FROM t;", 0),
    ],
)
def test_no_row_of_a_migration_goes_through_the_callers_converters(
    statement: str, calls: int, kind: str, migrations: Path, database: Path
) -> None:
    def never(value: bytes) -> None:
        raise ValueError(value)

    write(migrations, "0001_base", "CREATE TABLE t (a SECRET);\nINSERT INTO t VALUES ('x'), ('y'), ('z');")
    write(migrations, "0002_rows", kind + statement)
    sqlite3.register_converter("secret", never)  # a name that no other test declares
    called: list[object] = []
    types = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
    with closing(sqlite3.connect(database, detect_types=types)) as connection:
        connection.create_function("seen", 1, called.append)
        assert len(migrate(connection, migrations)) == 2
        assert not connection.in_transaction
    assert len(called) == calls

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, detect_types=types)
        connection.create_function("seen", 1, called.append)
        return connection

    told = [
        problem for verdict in verify(migrations, connect=connect).migrations for problem in verdict.problems
    ]
    assert [words for words in told if "0002_rows.up.sql" in words] == []


# --- what is no usable connection


def test_a_closed_connection_is_an_access_error(migrations: Path) -> None:
    family(migrations)
    connection = sqlite3.connect(":memory:")
    connection.close()
    with pytest.raises(AccessError) as caught:
        migrate(connection, migrations)
    assert str(caught.value) == "the connection: Cannot operate on a closed database.; nothing was changed"


def test_a_connection_that_the_application_has_closed_is_an_access_error(
    migrations: Path, database: Path
) -> None:
    family(migrations)

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.close()
        return connection

    told = "Cannot operate on a closed database.; nothing was changed"
    for _ in ("none yet", "empty"):
        with pytest.raises(AccessError) as caught:
            migrate(database, migrations, connect=connect)
        assert str(caught.value) == f"{database}: {told}"
    with pytest.raises(AccessError) as caught:
        verify(migrations, connect=connect)
    assert str(caught.value) == f":memory:: {told}"


def test_a_connection_of_another_thread_is_an_access_error(migrations: Path) -> None:
    family(migrations)
    found: list[BaseException] = []

    def use(connection: sqlite3.Connection) -> None:
        for action in (lambda: connection.execute("SELECT 1"), lambda: migrate(connection, migrations)):
            try:
                action()
            except Exception as error:
                found.append(error)

    with closing(sqlite3.connect(":memory:")) as connection:
        thread = threading.Thread(target=use, args=(connection,))
        thread.start()
        thread.join()
    own, ours = found
    assert isinstance(ours, AccessError)
    assert str(ours) == f"the connection: {own}; nothing was changed"


# --- connections of other modules


def test_the_keys_of_a_table_are_asked_for_again_when_its_text_has_changed() -> None:
    """So a schema that is read whole after each step, as in these, costs little where it stays."""
    with scratch() as session:
        for number in range(3):
            session.run(f"CREATE TABLE t{number} (a REFERENCES parent)")
        said: list[str] = []
        session.connection.set_trace_callback(said.append)
        expected = [(f"t{number}", "parent") for number in range(3)]
        for rename, asked in (("", 3), ("", 0), ("ALTER TABLE t1 RENAME COLUMN a TO b", 1), ("", 0)):
            session.run(rename or "SELECT 1")
            said.clear()
            assert references(session) == expected
            assert sum("foreign_key_list" in sql for sql in said) == asked
        session.connection.set_trace_callback(None)


ODDITIES = ("rows", "codes", "data_version", "backup", "attributes", "factories")


class OddError(Exception):
    """An error of a module that tells no code of SQLite's."""


class OddCursor:
    """What OddConnection gives for a cursor."""

    def __init__(self, cursor: sqlite3.Cursor, lacking: tuple[str, ...], refusals: list[Exception]) -> None:
        self.inner, self.lacking, self.refusals = cursor, lacking, refusals

    @property
    def description(self) -> Any:
        return self.inner.description

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "OddCursor":
        if "data_version" in self.lacking and "data_version" in sql:
            sql = "SELECT 1 WHERE 0"
        if self.refusals and sql.startswith("BEGIN IMMEDIATE"):
            raise self.refusals.pop()
        try:
            self.inner.execute(sql, parameters)
        except sqlite3.Error as error:
            if "codes" in self.lacking:
                raise OddError(str(error)) from None
            raise
        return self

    def fetchone(self) -> Any:
        return self.inner.fetchone()

    def fetchmany(self, size: int = 1) -> Any:
        return self.inner.fetchmany(size)

    def fetchall(self) -> Any:
        found = self.inner.fetchall()
        return None if "rows" in self.lacking and not found else found

    def close(self) -> None:
        self.inner.close()


class OddConnection:
    """A connection with sqlite3's interface as other modules have it: some of these are lacking.

    rows: fetchall() returns None where there are none; codes: errors are of a class of its own, without
    SQLite's code; data_version: the pragma answers nothing; backup: there is no such method; attributes:
    isolation_level cannot be set; factories: there is no text_factory. The `refusals` are raised by BEGIN
    IMMEDIATE, the last one first.
    """

    def __init__(self, database: Path, lacking: tuple[str, ...], refusals: Sequence[Exception] = ()) -> None:
        self.inner = sqlite3.connect(database)
        self.lacking, self.refusals = lacking, list(refusals)
        self.Error: type[Exception] = OddError if "codes" in lacking else sqlite3.Error
        if "backup" not in lacking:
            self.backup = self.inner.backup
        self.commit, self.rollback, self.close = self.inner.commit, self.inner.rollback, self.inner.close

    @property
    def in_transaction(self) -> bool:
        return self.inner.in_transaction

    def __getattr__(self, name: str) -> Any:
        if name == "isolation_level" or (name == "text_factory" and "factories" not in self.lacking):
            return getattr(self.inner, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "isolation_level" and "attributes" in self.lacking:
            raise AttributeError(name)
        if name in ("isolation_level", "text_factory"):
            setattr(self.inner, name, value)
        else:
            super().__setattr__(name, value)

    def cursor(self) -> OddCursor:
        return OddCursor(self.inner.cursor(), self.lacking, self.refusals)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> OddCursor:
        return self.cursor().execute(sql, parameters)


def encrypted(database: Path) -> Any:
    connection = pytest.importorskip("sqlcipher3").connect(str(database))
    connection.execute("PRAGMA key = 'secret'")
    return connection


def odd(*lacking: str) -> Callable[[Path], Any]:
    return lambda database: OddConnection(database, lacking)


MODULES = [
    *(pytest.param(odd(what), id=f"no {what}") for what in ODDITIES),
    pytest.param(odd(*ODDITIES), id="nothing of all that"),
    pytest.param(lambda database: pytest.importorskip("pysqlite3").connect(str(database)), id="pysqlite3"),
    pytest.param(encrypted, id="sqlcipher3"),
    pytest.param(lambda database: pytest.importorskip("libsql").connect(str(database)), id="libsql"),
    pytest.param(lambda database: pytest.importorskip("turso").connect(str(database)), id="turso"),
    pytest.param(lambda database: pytest.importorskip("apsw").Connection(str(database)), id="apsw"),
]


@pytest.fixture(params=MODULES)
def foreign(request: pytest.FixtureRequest, database: Path) -> Iterator[Any]:
    """A connection of another module."""
    connection = request.param(database)
    yield connection
    connection.close()


def test_a_connection_of_another_module_is_migrated_and_handed_back(migrations: Path, foreign: Any) -> None:
    migrated_and_handed_back(foreign, migrations)


def rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(sql)
    return [tuple(row) for row in cursor.fetchall() or ()]


@pytest.mark.parametrize(
    ("step", "finding"),
    [
        (
            "INSERT INTO child VALUES (9, 99);",
            "1 new foreign key violation: row 9 of child has no parent in parent",
        ),
        ("DELETE FROM parent;", "1 new foreign key violation: row 1 of child has no parent in parent"),
    ],
)
def test_the_rows_of_another_module_are_guarded(
    migrations: Path, foreign: Any, step: str, finding: str
) -> None:
    family(migrations)
    migrate(foreign, migrations)
    write(migrations, "0003_bad", step)
    before = rows(foreign, "SELECT * FROM child") + rows(foreign, "SELECT * FROM parent")
    with pytest.raises(StepError) as caught:
        migrate(foreign, migrations)
    assert str(caught.value).startswith(f"{migrations}/0003_bad.up.sql: {finding}; rolled back, ")
    assert rows(foreign, "SELECT * FROM child") + rows(foreign, "SELECT * FROM parent") == before


def test_the_views_of_another_module_are_guarded(migrations: Path, foreign: Any) -> None:
    family(migrations)
    migrate(foreign, migrations)
    write(migrations, "0003_bad", "DROP TRIGGER note;\nDROP TABLE parent;\nDELETE FROM child;")
    with pytest.raises(StepError) as caught:
        migrate(foreign, migrations)
    assert str(caught.value).startswith(f"{migrations}/0003_bad.up.sql: names does not compile any more: ")
    assert "no such table: " in str(caught.value)
    assert rows(foreign, "SELECT count(*) FROM names") == [(1,)]


def test_rows_of_the_application_and_a_closed_connection_of_apsw(migrations: Path, database: Path) -> None:
    family(migrations)
    connection = pytest.importorskip("apsw").Connection(str(database))
    connection.row_trace = lambda cursor, row: {"row": row}
    assert len(migrate(connection, migrations)) == 2
    assert list(connection.execute("SELECT id FROM child")) == [{"row": (1,)}]
    connection.close()
    with pytest.raises(AccessError) as caught:
        migrate(connection, migrations)
    assert str(caught.value) == "the connection: The connection has been closed; nothing was changed"


def test_an_open_transaction_of_another_module_is_refused(migrations: Path, foreign: Any) -> None:
    family(migrations)
    migrate(foreign, migrations)
    if not isinstance(foreign, OddConnection):  # that begins one by itself
        foreign.execute("BEGIN")
    foreign.execute("INSERT INTO child VALUES (5, 1)")
    assert foreign.in_transaction
    with pytest.raises(AccessError) as caught:
        migrate(foreign, migrations)
    assert str(caught.value).endswith(f": {OPEN}")
    foreign.execute("COMMIT")
    assert rows(foreign, "SELECT id FROM child ORDER BY id") == [(1,), (5,)]


def test_another_module_runs_files_outside_a_transaction(migrations: Path, foreign: Any) -> None:
    family(migrations)
    migrate(foreign, migrations)
    up = "-- vmpilot: no-transaction\nCREATE INDEX IF NOT EXISTS by_parent ON child (parent);\nANALYZE;"
    write(migrations, "0003_index", up)
    assert [step.version for step in migrate(foreign, migrations)] == ["0003"]
    write(migrations, "0004_bad", "-- vmpilot: no-transaction\nINSERT INTO child VALUES (7, 1);\noops;")
    with pytest.raises(StepError) as caught:
        migrate(foreign, migrations)
    assert str(caught.value).startswith(f"{migrations}/0004_bad.up.sql:3: ")
    assert "statement 1 (line 2) has taken effect already, " in str(caught.value)
    assert rows(foreign, "SELECT count(*) FROM child") == [(2,)]


def test_a_lock_of_another_module_is_waited_for(migrations: Path, database: Path, foreign: Any) -> None:
    if type(foreign).__module__.partition(".")[0] in ("turso", "sqlcipher3"):
        pytest.skip("sqlite3 cannot lock its file")
    family(migrations)
    # By a process of its own: two copies of SQLite in one process do not see each other's locks.
    with held(database, "BEGIN IMMEDIATE"):
        with pytest.raises(AccessError) as caught:
            migrate(foreign, migrations, timeout=0.05)
        assert str(caught.value) == f"{database}: locked by another process for 0.05 s; nothing was changed"
    assert len(migrate(foreign, migrations)) == 2


def coded(words: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "waited"),
    [
        (coded("database is locked", sqlite3.SQLITE_BUSY), True),
        (coded("database is locked", sqlite3.SQLITE_BUSY_RECOVERY), True),
        (coded("locking protocol", sqlite3.SQLITE_PROTOCOL), True),
        (coded("database table is locked", sqlite3.SQLITE_LOCKED_SHAREDCACHE), True),
        (coded("database table is locked", sqlite3.SQLITE_LOCKED), False),  # no waiting ends that
        (coded("disk I/O error", sqlite3.SQLITE_IOERR), False),
        (OddError("database is locked"), True),
        (OddError("locking protocol"), True),
        (OddError("disk I/O error"), False),
    ],
)
def test_a_lock_is_told_from_other_errors(
    error: Exception, waited: bool, migrations: Path, database: Path
) -> None:
    family(migrations)
    lacking = ("codes",) if isinstance(error, OddError) else ()
    with closing(OddConnection(database, lacking, [error] * 3)) as connection:
        if waited:
            assert len(migrate(connection, migrations)) == 2
            return
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations)
        assert str(caught.value) == f"{database}: {error}; nothing was changed"


def test_another_process_may_be_faster_than_another_module(
    migrations: Path, database: Path, foreign: Any
) -> None:
    if not isinstance(foreign, OddConnection):
        pytest.skip("two copies of SQLite in one process do not see each other's locks")
    family(migrations)
    write(migrations, "0003_more", "CREATE TABLE more (a);")

    def overtake(progress: Progress) -> None:
        if progress.done and progress.step.version == "0001":
            assert [step.version for step in migrate(database, migrations, target="0002")] == ["0002"]
            change(database, "INSERT INTO child VALUES (7, 77)")

    assert [step.version for step in migrate(foreign, migrations, progress=overtake)] == ["0001", "0003"]


def test_an_encrypted_database_stays_encrypted(migrations: Path, database: Path) -> None:
    family(migrations)
    with closing(encrypted(database)) as connection:
        migrate(connection, migrations)
    assert not database.read_bytes().startswith(b"SQLite format 3")
    with pytest.raises(AccessError) as caught:
        migrate(database, migrations)
    assert str(caught.value) == f"{database}: file is not a database; nothing was changed"


def test_a_wrong_key_is_an_access_error(migrations: Path, database: Path) -> None:
    family(migrations)
    with closing(encrypted(database)) as connection:
        migrate(connection, migrations)
    with closing(encrypted(database)) as connection:
        connection.execute("PRAGMA key = 'other'")
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations)
    assert str(caught.value) == f"{database}: file is not a database; nothing was changed"


# --- errors


class Watchful(sqlite3.Cursor):
    """A cursor of the application, which stops a statement by an error of its own."""

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if "too long" in sql:
            raise RuntimeError("the application's own")
        return super().execute(sql, parameters)


class Watched(sqlite3.Connection):
    def cursor(self, factory: Any = Watchful) -> Any:
        return super().cursor(factory)


def test_an_error_of_the_application_passes_as_it_is(migrations: Path, database: Path) -> None:
    write(migrations, "0001_one", "CREATE TABLE t (a);\nSELECT 'too long';")
    with closing(sqlite3.connect(database, factory=Watched)) as connection:
        with pytest.raises(RuntimeError, match="the application's own"):
            migrate(connection, migrations)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_an_error_beside_the_statements_says_how_the_database_is_left(
    migrations: Path, database: Path
) -> None:
    write(migrations, "0001_one", "CREATE TABLE t (a);")
    migrate(database, migrations)
    write(migrations, "0002_two", "CREATE TABLE u (a);")
    forbidden = (sqlite3.SQLITE_INSERT, "migration_log")
    with closing(sqlite3.connect(database)) as connection:
        connection.set_authorizer(
            lambda action, table, *_: (
                sqlite3.SQLITE_DENY if (action, table) == forbidden else sqlite3.SQLITE_OK
            )
        )
        with pytest.raises(AccessError) as caught:
            migrate(connection, migrations)
        assert str(caught.value) == f"{database}: not authorized; rolled back, nothing was changed"
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'u'").fetchall() == []
