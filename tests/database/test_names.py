"""What a database may be named by, and what is refused without showing what may be a password."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support import in_process, query, write

from vmpilot import migrate as api
from vmpilot.db import connect
from vmpilot.migrate import AccessError, HistoryError, current, migrate
from vmpilot.migrate.database.names import located

EXPECTED = "expected a path, sqlite:///PATH, sqlite+DRIVER:///PATH or file:PATH"
HOMELESS, THERE = "is no home directory here,", "is a directory of that name"
MEMORY = "in memory, it ends with its connection; pass an open connection, or name a file"


@pytest.fixture(autouse=True)
def here(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside `migrations`, without a home or a database in the environment."""
    monkeypatch.chdir(migrations.parent)
    monkeypatch.delenv("VMPILOT_DATABASE", raising=False)
    write(migrations, "0001_t", "CREATE TABLE t (a);", "DROP TABLE t;")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("app.db", "app.db"),
        ("./file:x.db", "file:x.db"),
        ("a:b.db", "a:b.db"),
        ("a%20b.db?mode=ro", "a%20b.db"),
        ("app.db?timeout=30&cache=shared", "app.db"),
        ("what?.db", "what?.db"),
        ("app.db?", "app.db?"),
        ("./app.db?timeout=30", "app.db?timeout=30"),
        ("file:app.db%3Fmode=ro", "app.db?mode=ro"),
        ("sqlite:///app.db", "app.db"),
        ("SQLite:///app.db", "app.db"),
        ("sqlite:///app.db?timeout=30&check_same_thread=False&cache=shared", "app.db"),
        (
            "sqlite:///app.db?isolation_level=IMMEDIATE&detect_types=1&cached_statements=9&charset=utf8",
            "app.db",
        ),
        ("sqlite+aiosqlite:///app.db", "app.db"),
        ("sqlite+pysqlite:///app.db?mode=rwc", "app.db"),
        ("sqlite:///file:app.db?uri=true&mode=rw", "app.db"),
        ("sqlite:///file:app.db?uri=TRUE", "app.db"),
        ("sqlite:///a%20b.db", "a%20b.db"),
        ("file:app.db", "app.db"),
        ("file:app.db#end", "app.db"),
        ("file:a%20b%3F.db?mode=rwc#end", "a b?.db"),
        ("file:sub/../app.db", "sub/../app.db"),
        ("~app.db", "~app.db"),
        ("'a.db", "'a.db"),
        ("./'a.db'", "'a.db'"),
        ("file:%27a.db%27", "'a.db'"),
        ("sqlite:///file:app.db", "file:app.db"),
        ("tenant=5.db", "tenant=5.db"),
        ("./:memory:", ":memory:"),
        ("-app.db", "-app.db"),
    ],
)
def test_a_name_leads_to_one_file_everywhere(name: str, path: str) -> None:
    os.mkdir("sub")
    assert len(migrate(name, "migrations")) == 1
    assert current(f"./{path}", "migrations").version == "0001"
    assert in_process("current", f"--database={name}", "--migrations", "migrations").out == "0001 (head)\n"
    with closing(connect(name, "migrations")) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
    assert query(Path.cwd() / path, "SELECT * FROM t") == [(1,)]
    said = in_process("downgrade", "base", f"-d{name}", "--migrations", "migrations").out
    assert said.startswith(("backed up to ./", f"backed up to {path}."))
    assert all(".bak" in left or left == os.path.basename(path) for left in os.listdir() if ".db" in left)


def test_a_file_that_is_named_like_an_address_is_that_file() -> None:
    """And so is what an object that is a path means."""
    for name in ("app.db?timeout=30", str(Path.cwd() / "app.db?timeout=30")):
        assert located(name).endswith("app.db")
    migrate(Path("app.db?timeout=30"), "migrations")
    for name in ("app.db?timeout=30", str(Path.cwd() / "app.db?timeout=30")):
        assert located(name) == name
        assert current(name, "migrations").version == "0001"
    literal = located(f"file://{Path.cwd()}/b.db%3Fmode=ro")
    assert located(literal) == literal
    assert os.path.abspath(literal) == str(Path.cwd() / "b.db?mode=ro")


def test_an_absolute_path_has_a_slash_of_its_own(tmp_path: Path) -> None:
    for at, address in enumerate(("sqlite:///", "file://", "file://localhost", "file:")):
        path = tmp_path / f"{at}.db"
        migrate(f"{address}{path}", "migrations")
        assert current(path, "migrations").version == "0001"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (":memory:", MEMORY),
        (":MEMORY:", MEMORY),
        ("file::memory:", MEMORY),
        ("file::memory:?cache=shared", MEMORY),
        ("file:///:memory:", MEMORY),
        ("sqlite:///file::memory:?uri=true", MEMORY),
        ("sqlite:///app.db?mode=Memory", MEMORY),
        ("file:x.db?mode=memory&mode=rwc", MEMORY),
        ("sqlite://", MEMORY),
        ("sqlite:", MEMORY),
        ("sqlite:///:memory:", MEMORY),
        ("file:x.db?mode=memory", MEMORY),
        (
            "file:x.db?mode=%6demory",
            "the option mode of its name is not understood here, expected ro, rw or rwc",
        ),
        ("app.db?mode=memory", MEMORY),
        (":memory:?cache=shared", MEMORY),
        ("app.db?key=secret", "the option key of its name is not understood here"),
        ("app.db?mode=ro&password=secret", f"lists of settings are not understood here, {EXPECTED}"),
        ("app.db ?mode=ro", "its name begins or ends with a blank"),
        ("sqlite+:///app.db", f"sqlite+: names are not understood here, {EXPECTED}"),
        ("sqlite:app.db", f"sqlite: names are not understood here, {EXPECTED}"),
        ("sqlite://app.db", f"sqlite: names are not understood here, {EXPECTED}"),
        ("jdbc:sqlite:app.db", f"jdbc: names are not understood here, {EXPECTED}"),
        ("postgres://me:secret@host/app", f"postgres: names are not understood here, {EXPECTED}"),
        ("mysql+pymysql://me:secret@host/app", f"mysql+pymysql: names are not understood here, {EXPECTED}"),
        ("libsql://app?authToken=secret", f"libsql: names are not understood here, {EXPECTED}"),
        ("http://me:secret@host", f"http: names are not understood here, {EXPECTED}"),
        ("S3://bucket/app.db", f"s3: names are not understood here, {EXPECTED}"),
        ("duckdb:app.db", f"duckdb: names are not understood here, {EXPECTED}"),
        ("C:\\app.db", f"c: names are not understood here, {EXPECTED}"),
        ("mysql:host=h;password=secret", f"lists of settings are not understood here, {EXPECTED}"),
        ("Data Source=app.db;Version=3", f"lists of settings are not understood here, {EXPECTED}"),
        ("secret@1://app", f"such a: names are not understood here, {EXPECTED}"),
        ("file://host/app.db", f"file: names of other machines are not understood here, {EXPECTED}"),
        ("file:app.db?immutable=1", "the option immutable of its name is not understood here"),
        ("sqlite:///app.db?key=secret", "the option key of its name is not understood here"),
        ("sqlite:///app.db?$ecret=1", "the option behind the ? of its name is not understood here"),
        ("app.db\r", "its name holds a carriage return"),
        ("app.db\n", "its name begins or ends with a line feed"),
        ("file:app%0d.db", "its name holds a carriage return"),
        ("file:app.db%0a", "its name begins or ends with a line feed"),
        ("\tapp.db", "its name begins or ends with a blank"),
        ("app\0.db", "its name holds a NUL"),
        ("file:app%00.db", "its name holds a NUL"),
        ("app.db ", "its name begins or ends with a blank"),
        (" app.db", "its name begins or ends with a blank"),
        ("sqlite:///app.db\u00a0", "its name begins or ends with a blank"),
        ("\ufeffapp.db", "its name begins or ends with a blank"),
        ('"app.db"', "its name stands in quotes, take them off"),
        ("'postgres://me:secret@host/app'", "its name stands in quotes, take them off"),
        ("sqlite:///'app.db'", "its name stands in quotes, take them off"),
        ("~nobody-has-this-name/app.db", f"~nobody-has-this-name {HOMELESS} ./~nobody-has-this-name {THERE}"),
    ],
)
def test_a_name_that_is_none_is_refused_and_not_shown(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"the database: {reason}; nothing was changed"
    for act in (migrate, current):
        with pytest.raises(AccessError) as caught:
            act(name, "migrations")
        assert str(caught.value) == message
        assert caught.value.database is None
    assert in_process(f"--database={name}", "--migrations", "migrations") == (1, "", f"error: {message}\n")
    if "\0" not in name:
        monkeypatch.setenv("VMPILOT_DATABASE", name)
        assert in_process("current", "--migrations", "migrations") == (1, "", f"error: {message}\n")
    assert os.listdir() == ["migrations"]


def test_a_name_that_the_system_cannot_write_is_refused_as_well() -> None:
    for name in ("app\ud800.db", "sqlite:///app\ud800.db", "file:app\ud800.db"):
        for act in (migrate, current):
            with pytest.raises(AccessError) as caught:
                act(name, "migrations")
            told = "its name holds U+D800, which is half a character"
            assert str(caught.value) == f"the database: {told}; nothing was changed"
    migrate("app\udcff.db", "migrations")
    assert sorted(os.listdir(b".")) == [b"app\xff.db", b"migrations"]


@pytest.mark.parametrize("name", ["app.db/", "sqlite:///app.db/", "file:app.db/"])
def test_a_name_with_a_slash_at_its_end_is_that_of_a_directory(name: str) -> None:
    with pytest.raises(AccessError) as caught:
        migrate(name, "migrations")
    assert str(caught.value) == "app.db/: is a directory, expected a database file; nothing was changed"
    assert os.listdir() == ["migrations"]


def test_a_tilde_before_a_slash_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs("home/.vmpilot")
    monkeypatch.setenv("HOME", os.path.abspath("home"))
    for name in ("~/app.db", Path("~/app.db")):
        migrate(name, "migrations")
        assert sorted(os.listdir("home")) == [".vmpilot", "app.db"]
    with closing(connect("~/app.db", "migrations")) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 0
    monkeypatch.setenv("VMPILOT_DATABASE", "~/app.db")
    assert in_process("current", "--migrations", "migrations").out == "0001 (head)\n"
    with pytest.raises(AccessError) as caught:
        migrate("~", "migrations")
    home = os.path.abspath("home")
    assert str(caught.value) == f"{home}: is a directory, expected a database file; nothing was changed"
    # Other programs take it for the name of a directory in an address.
    with pytest.raises(AccessError) as caught:
        migrate("sqlite:///~/app.db", "migrations")
    assert str(caught.value) == "./~/app.db: no such directory: ./~; nothing was changed"
    assert sorted(os.listdir()) == ["home", "migrations"]


def test_who_has_no_home_has_none_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])  # a user without an entry
    for name in ("~", "~/app.db"):
        with pytest.raises(AccessError) as caught:
            migrate(name, "migrations")
        assert str(caught.value) == f"the database: ~ {HOMELESS} ./~ {THERE}; nothing was changed"
    assert os.listdir() == ["migrations"]


def test_who_has_no_home_has_no_default_database(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.isdir("/app/data"):
        pytest.skip("a container has a default of its own")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])  # a user without an entry
    with pytest.raises(AccessError) as caught:
        migrate(None, "migrations")
    assert str(caught.value) == (
        "the default database: this user has no home directory, and HOME is not set; nothing was changed; "
        "name a database with --database or VMPILOT_DATABASE"
    )
    assert os.listdir() == ["migrations"]


@pytest.mark.parametrize(
    ("there", "path"), [("/app/data", "/app/data/vmpilot.db"), ("/app", ".vmpilot/vmpilot.db")]
)
def test_the_default_path_is_that_of_a_container_only_where_its_volume_is(
    there: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setattr("os.path.isdir", lambda name: name == there)
    assert located(None) == os.path.join(Path.cwd(), path)


def test_a_database_in_memory_is_the_one_that_was_migrated() -> None:
    with closing(connect(":memory:", "migrations")) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 0
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_what_cannot_be_made_ready_is_closed() -> None:
    opened: list[sqlite3.Connection] = []

    def own(path: str) -> sqlite3.Connection:
        opened.append(sqlite3.connect(path))
        return opened[-1]

    with pytest.raises(HistoryError):
        connect(":memory:", "nowhere", connect=own)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


@pytest.mark.parametrize("name", ["sqlite://", "file::memory:", ":Memory:", "sqlite:///:memory:"])
def test_no_other_name_of_memory_is_taken_for_a_file(name: str) -> None:
    with pytest.raises(AccessError) as caught:
        connect(name, "migrations")
    assert str(caught.value) == f"the database: {MEMORY}; nothing was changed"
    assert os.listdir() == ["migrations"]


@pytest.mark.parametrize("name", ["app.db", ":memory:"])
def test_what_sqlite3_can_be_told_is_passed_on(name: str) -> None:
    with closing(connect(name, "migrations", isolation_level=None, timeout=0.1)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        assert not connection.in_transaction
        assert isinstance(connection.execute("SELECT * FROM t").fetchone(), sqlite3.Row)


@pytest.mark.skipif(not hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL"), reason="Python 3.12 and newer")
@pytest.mark.parametrize("name", ["app.db", ":memory:"])
def test_foreign_keys_are_on_also_where_a_transaction_is_always_open(name: str) -> None:
    with closing(connect(name, "migrations", autocommit=False)) as connection:
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert connection.in_transaction


OPENING: dict[str, Callable[[str], object]] = {
    "migrate": lambda name: migrate(name, create=False),
    "downgrade": lambda name: api.downgrade(name, target="base", create=False),
    "stamp": lambda name: api.stamp("base", name, create=False),
    "current": lambda name: api.current(name, create=False),
    "history": lambda name: api.history(name, create=False),
    "restore": lambda name: api.restore("other.db", name, create=False),
    "connect": lambda name: connect(name, create=False),
}


@pytest.mark.parametrize("call", OPENING.values(), ids=OPENING)
def test_create_false_refuses_a_database_that_is_not_there(call: Callable[[str], object]) -> None:
    migrate("other.db")
    for missing in ("other.db/typo.db", "typo.db"):
        with pytest.raises(AccessError) as caught:
            call(f"sqlite:///{missing}?timeout=3")
        assert str(caught.value) == f"{missing}: no such file, expected a database; nothing was changed"
        assert caught.value.database == missing
    (found,) = api.check("typo.db", create=False).problems
    assert found == api.Problem("unreadable", str(caught.value))
    assert sorted(os.listdir()) == ["migrations", "other.db"]
    if call is not OPENING["restore"]:  # of which there is no second one
        result = call("other.db")
        if isinstance(result, sqlite3.Connection):
            result.close()


def test_create_false_says_nothing_about_a_connection() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert len(migrate(connection, create=False)) > 0
