"""The migrations that ship: every VMPilot database, from any release, reaches head with every row kept.

They go up, down and up again at every step; and real Alembic, where it is installed, understands the
result and goes on.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, pasteable, query

from vmpilot import db
from vmpilot.migrate import StepError, current, downgrade, history, migrate, stamp
from vmpilot.migrate.files.directory import discover, load
from vmpilot.migrate.files.script import statements

BUNDLED = str(ROOT / "migrations")
HISTORY = discover(BUNDLED)
HEAD = HISTORY[-1].version
REVISION = "57dc007f6d46"

# The tables as the releases made them.
CHATS = """CREATE TABLE IF NOT EXISTS chats (
        chat_id TEXT PRIMARY KEY,
        initial_request TEXT,
        project_root TEXT,
        messages TEXT NOT NULL,
        cache_info TEXT NOT NULL,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    )"""
EXCHANGES = """CREATE TABLE IF NOT EXISTS exchanges (
        exchange_id INTEGER PRIMARY KEY AUTOINCREMENT,
        chat_id TEXT NOT NULL,
        model TEXT NOT NULL,
        request TEXT,
        cost JSON,
        start TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        end TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    )"""
ALEMBIC = (
    "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
)

ROWS = {
    "chats": [
        ("a", "why; is 'it'", "/srv/a b", "[]", "{}", "2026-01-02 03:04:05"),
        ("b", None, None, '[{"role": "user", "content": "é😀\r\n\\u0000"}]', "", None),
        ("", "", "", "", "", ""),
    ],
    "exchanges": [
        (1, "a", "model-1", "{}", '{"total": 0.25}', "2026-01-02 03:04:05", "2026-01-02 03:04:06"),
        (7, "gone", "model-2", None, None, None, None),
        (9, "a", "", b"\x00\xff", 1.5, 17, ""),
    ],
}


def make(database: Path, *ddl: str) -> None:
    """Make a database with these tables, each with its rows."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in ddl:
            connection.execute(statement)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in ROWS.get(name, ()):
                connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)


def make_alembic(database: Path) -> None:
    make(database, CHATS, EXCHANGES, ALEMBIC, f"INSERT INTO alembic_version VALUES ('{REVISION}')")


def rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of VMPilot's tables."""
    return {name: query(database, f"SELECT * FROM {name} ORDER BY rowid") for name in tables(database)}


def tables(database: Path) -> list[str]:
    names = query(database, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    ours = {"alembic_version", "migration_log", "sqlite_sequence"}
    return [str(name) for (name,) in names if name not in ours]


def structure(database: Path) -> list[tuple[object, ...]]:
    """Return all columns and index columns: what text and layout of the releases do not change."""
    columns = query(
        database,
        'SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk FROM sqlite_master m,'
        " pragma_table_xinfo(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid",
    )
    indexes = query(
        database,
        "SELECT m.tbl_name, m.name, i.seqno, i.name FROM sqlite_master m, pragma_index_info(m.name) i"
        " WHERE m.type = 'index' ORDER BY m.name, i.seqno",
    )
    return columns + indexes


STARTS: dict[str, tuple[Callable[[Path], object], str | None, list[str]]] = {
    "no file": (lambda database: None, None, []),
    "an empty file": (Path.touch, None, []),
    "release 0.5": (lambda database: make(database, CHATS), None, ["chats"]),
    "release 0.6": (lambda database: make(database, CHATS, EXCHANGES), None, ["chats", "exchanges"]),
    "release 0.6 under Alembic": (make_alembic, "0001", ["chats", "exchanges"]),
}


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest, database: Path) -> tuple[str | None, list[str]]:
    """A database as an older release left it: its version and its tables."""
    prepare, version, names = STARTS[request.param]
    prepare(database)
    return version, names


@pytest.fixture
def fresh(tmp_path: Path) -> list[tuple[object, ...]]:
    """The structure that an empty database has at head."""
    migrate(tmp_path / "fresh.db")
    return structure(tmp_path / "fresh.db")


def test_the_bundled_migrations_are_those_of_the_project() -> None:
    assert [migration.up for migration in HISTORY][:2] == [
        "0001_initial_schema.up.sql",
        "0002_index_exchanges_by_chat.up.sql",
    ]
    assert all(migration.down for migration in HISTORY)
    assert load(BUNDLED, HISTORY[0].up).revision == REVISION
    for migration in HISTORY:
        assert load(BUNDLED, migration.up).text.startswith("-- ")  # why it exists


def test_every_start_reaches_head_with_every_row(
    start: tuple[str | None, list[str]], database: Path, fresh: list[tuple[object, ...]]
) -> None:
    version, names = start
    at = current(database)
    assert (at.version, at.head, at.known) == (version, HEAD, True)
    steps = migrate(database)
    pending = [migration.version for migration in HISTORY if migration.version > (version or "")]
    assert [step.version for step in steps] == pending
    assert current(database).at_head
    assert rows(database) == {"chats": [], "exchanges": []} | {name: ROWS[name] for name in names}
    assert structure(database) == fresh
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert migrate(database) == ()


def test_every_start_goes_down_and_up_again(
    start: tuple[str | None, list[str]], database: Path, fresh: list[tuple[object, ...]]
) -> None:
    _, names = start
    migrate(database)
    downgrade(database, target="0001", backup=False)
    assert rows(database) == {"chats": [], "exchanges": []} | {name: ROWS[name] for name in names}
    assert query(database, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    downgrade(database, target="base", backup=False)
    assert tables(database) == []
    assert query(database, "SELECT version_num FROM alembic_version") == []
    migrate(database)
    assert rows(database) == {"chats": [], "exchanges": []}
    assert structure(database) == fresh


def test_every_start_can_be_opened_by_the_application(
    start: tuple[str | None, list[str]], database: Path
) -> None:
    _, names = start
    with closing(db.connect(database)) as connection:
        found = connection.execute("SELECT chat_id, messages FROM chats ORDER BY rowid").fetchall()
        assert [(row["chat_id"], row["messages"]) for row in found] == [
            (row[0], row[3]) for row in ROWS["chats"] if "chats" in names
        ]
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        connection.execute("INSERT INTO exchanges (chat_id, model) VALUES ('a', 'm')")


def test_a_url_and_the_default_path_can_be_opened_too(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMPILOT_DATABASE", str(database))
    for path in (f"sqlite:///{database}", None):
        with closing(db.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM chats").fetchone()[0] == 0


def test_each_migration_goes_up_down_and_up_with_rows_in_place(database: Path) -> None:
    seen: list[tuple[object, object]] = []
    for position, migration in enumerate(HISTORY):
        before = structure(database), rows(database)
        migrate(database, target=migration.version)
        after = structure(database), rows(database)
        downgrade(database, backup=False)
        if position:  # at base the version table alone is new
            assert (structure(database), rows(database)) == before
        migrate(database, target=migration.version)
        assert (structure(database), rows(database)) == after
        fill(database)
        seen.append((structure(database), rows(database)))
    assert rows(database) == ROWS
    for migration, snapshot in reversed(list(zip(HISTORY, seen, strict=True))):
        assert current(database).version == migration.version
        assert structure(database) == snapshot[0]
        if migration is not HISTORY[0]:
            assert rows(database) == ROWS
        downgrade(database, backup=False)
    assert current(database).version is None


def fill(database: Path) -> None:
    """Put rows into the tables that have none."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for name in tables(database):
            if not connection.execute(f"SELECT 1 FROM {name}").fetchone():
                for row in ROWS[name]:
                    connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)


def test_the_totals_by_chat_use_the_index(database: Path) -> None:
    migrate(database)
    plan = query(database, "EXPLAIN QUERY PLAN SELECT cost FROM exchanges WHERE chat_id = 'a' ORDER BY start")
    assert [detail for *_, detail in plan] == ["SEARCH exchanges USING INDEX exchanges_by_chat (chat_id=?)"]


# Databases that are not what they seem

SNAPSHOT_CHATS = """CREATE TABLE chats (
    id TEXT PRIMARY KEY, initial_request TEXT, project_root TEXT, current_issue TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, metadata TEXT
)"""


@pytest.mark.parametrize(
    ("ddl", "differences"),
    [
        (
            [SNAPSHOT_CHATS, "CREATE TABLE chat_histories (id INTEGER PRIMARY KEY, chat_id TEXT)"],
            "~ table chats PRIMARY KEY (chat_id) -> PRIMARY KEY (id), - column chats.cache_info TEXT NOT NULL, "
            "- column chats.chat_id TEXT, + column chats.created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "
            "+ column chats.current_issue TEXT, + column chats.id TEXT, - column chats.messages TEXT NOT NULL, "
            "+ column chats.metadata TEXT, - column chats.updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        ),
        (
            [CHATS, EXCHANGES.replace("        model TEXT NOT NULL,\n", "")],
            "- column exchanges.model TEXT NOT NULL",
        ),
    ],
)
def test_development_snapshots_are_refused_with_the_difference(
    ddl: list[str], differences: str, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in ddl:
            connection.execute(statement)
    before = database.read_bytes()
    with pytest.raises(StepError) as caught:
        migrate("app.db")
    file = f"{BUNDLED}/0001_initial_schema.up.sql"
    assert str(caught.value) == pasteable(
        f"{file}: app.db is not as this file makes it: {differences}; rolled back, app.db is still at base; "
        "to take it over as it is, run: python3 -m vmpilot.migrate stamp 0001",
        migrations=None,
    )
    assert (caught.value.file, caught.value.line, caught.value.version) == (file, 0, "0001")
    assert database.read_bytes() == before


def test_unrelated_tables_are_nobodys_business(database: Path) -> None:
    make(database, CHATS, "CREATE TABLE notes (exchange_id TEXT)", "INSERT INTO notes VALUES ('x')")
    migrate(database)
    assert rows(database)["notes"] == [("x",)]


# Real Alembic

ENVIRONMENT = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
SCRIPT = """
from alembic import op
revision = {revision!r}
down_revision = {before!r}
def upgrade():
    for statement in {up!r}:
        op.execute(statement)
def downgrade():
    for statement in {down!r}:
        op.execute(statement)
"""


class Alembic:
    """Alembic's commands for a database, with scripts that do what our files do."""

    def __init__(self, database: Path, folder: Path) -> None:
        self.engine = pytest.importorskip("sqlalchemy").create_engine(f"sqlite:///{database}")
        self.folder = folder
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(ENVIRONMENT)
        before = None
        for migration in HISTORY:
            up, down = load(BUNDLED, migration.up), load(BUNDLED, migration.down)
            revision = up.revision or migration.version
            values = {
                "revision": revision,
                "before": before,
                "up": [*statements(up)],
                "down": [*statements(down)],
            }
            (folder / "versions" / f"{migration.version}.py").write_text(SCRIPT.format(**values))
            before = revision

    def run(self, name: str, *arguments: str) -> None:
        with self._config() as config:
            getattr(pytest.importorskip("alembic.command"), name)(config, *arguments)

    def heads(self) -> tuple[str, ...]:
        """Return where Alembic sees the database."""
        migration = pytest.importorskip("alembic.runtime.migration")
        with self.engine.connect() as connection:
            heads: tuple[str, ...] = migration.MigrationContext.configure(connection).get_current_heads()
            return heads

    @contextmanager
    def _config(self) -> Iterator[Any]:
        config = pytest.importorskip("alembic.config").Config()
        config.set_main_option("script_location", str(self.folder))
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            yield config


@pytest.fixture
def alembic(database: Path, tmp_path: Path) -> Iterator[Alembic]:
    pytest.importorskip("alembic")
    tool = Alembic(database, tmp_path / "alembic")
    yield tool
    tool.engine.dispose()


def version_table(database: Path) -> list[tuple[object, ...]]:
    return query(database, "SELECT sql FROM sqlite_master WHERE name = 'alembic_version'")


def test_alembic_makes_the_same_version_table(alembic: Alembic, database: Path, tmp_path: Path) -> None:
    alembic.run("upgrade", REVISION)
    migrate(tmp_path / "ours.db")
    assert version_table(database) == version_table(tmp_path / "ours.db") == [(ALEMBIC,)]


def test_a_database_of_alembics_is_adopted_and_alembic_goes_on(alembic: Alembic, database: Path) -> None:
    make(database, CHATS, EXCHANGES)
    alembic.run("stamp", REVISION)
    assert current(database).version == "0001"
    assert [step.version for step in migrate(database)] == [migration.version for migration in HISTORY[1:]]
    assert alembic.heads() == (HEAD,)
    alembic.run("upgrade", "head")
    alembic.run("downgrade", "-1")
    assert current(database).version == HISTORY[-2].version
    assert [entry.state for entry in history(database)][-1] == "pending"
    assert [step.version for step in migrate(database)] == [HEAD]
    assert rows(database) == ROWS


def test_the_two_take_turns_from_base_to_head_and_back(alembic: Alembic, database: Path) -> None:
    turns = (lambda: alembic.run("upgrade", "+1"), lambda: migrate(database, target="+1"))
    back = (lambda: alembic.run("downgrade", "-1"), lambda: downgrade(database, backup=False))
    for first in (0, 1):
        for at in range(len(HISTORY)):
            turns[(at + first) % 2]()
            assert current(database).pending == len(HISTORY) - at - 1
        assert alembic.heads() == (HEAD,)
        for at in range(len(HISTORY)):
            back[(at + first) % 2]()
        assert alembic.heads() == ()
        assert current(database).version is None
    assert tables(database) == []


def test_alembic_reads_our_stamp_and_we_read_its(alembic: Alembic, database: Path) -> None:
    for migration in HISTORY:
        stamp(migration.version, database)
        assert alembic.heads() == (load(BUNDLED, migration.up).revision or migration.version,)
    alembic.run("stamp", REVISION)
    assert current(database).version == "0001"
    alembic.run("stamp", "base")
    assert current(database).version is None
