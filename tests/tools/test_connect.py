"""Proves that every command and function opens a database in the way of the application, and no other way."""

import importlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import Said, application, dump, in_process, plain, query, ran, taken, write

import vmpilot.db
from vmpilot.migrate import (
    AccessError,
    Progress,
    check,
    current,
    downgrade,
    history,
    migrate,
    redo,
    restore,
    stamp,
    verify,
)

# The application's own function, without which nothing of this can be written, and its own counter of openings.
APPLICATION = """
import sqlite3

inside = 0

def own(path):
    global inside
    inside += 1
    try:
        connection = sqlite3.connect(path)
    finally:
        inside -= 1
    connection.create_function("answer", 0, lambda: 42, deterministic=True)
    return connection

def of_pysqlite3(path):
    import pysqlite3
    return given(pysqlite3.connect(path))

def of_sqlcipher3(path):
    import sqlcipher3
    connection = sqlcipher3.connect(path)
    connection.execute("PRAGMA key = 'secret'")
    return given(connection)

def of_apsw(path):
    import apsw
    connection = apsw.Connection(path)
    connection.create_scalar_function("answer", lambda: 42, 0, deterministic=True)
    return connection

def given(connection):
    connection.create_function("answer", 0, lambda: 42, deterministic=True)
    return connection

def with_another_key(path):
    import sqlcipher3
    connection = sqlcipher3.connect(path)
    connection.execute("PRAGMA key = 'other'")
    return connection

def alone(path):
    connection = own(path)
    for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL"):
        connection.execute(f"PRAGMA {setting}")
    return connection

def fixed(path):
    return sqlite3.connect("fixed.db")

def broken(path):
    raise sqlite3.OperationalError("no key")
"""
MODULES = {"own": "sqlite3"} | {f"of_{name}": name for name in ("pysqlite3", "sqlcipher3", "apsw")}
COMMANDS = [
    *("current", "upgrade 1", "history", "upgrade --dry-run", "upgrade --sql", "verify", "verify --on-copy"),
    *("upgrade --backup", "check", "check --wait 5", "downgrade --dry-run", "downgrade", "stamp head"),
]


@pytest.fixture(autouse=True)
def answers(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations whose rows and whose index need the application's function."""
    chats = "CREATE TABLE chats (id INTEGER, n DEFAULT (answer()), CHECK (n = answer()));"
    write(place, "0001_chats", chats, "DROP TABLE chats;")
    costs = "INSERT INTO chats (id) VALUES (1);\nCREATE INDEX by_answer ON chats (id + answer());"
    write(place, "0002_costs", costs, "DROP INDEX by_answer;\nDELETE FROM chats;")
    application(APPLICATION, monkeypatch)
    monkeypatch.setenv("VMPILOT_MIGRATIONS", str(place))
    monkeypatch.setenv("VMPILOT_DATABASE", "app.db")
    monkeypatch.setenv("TMPDIR", os.getcwd())
    return place


class Watch:
    """Every database that sqlite3 opens while this is on: an audit hook cannot be taken away."""

    on = False
    opened: list[tuple[bool, str]] = []


def look(event: str, values: tuple[Any, ...]) -> None:
    if Watch.on and event == "sqlite3.connect":
        Watch.opened.append((bool(sys.modules["application"].inside), os.fsdecode(values[0])))


sys.addaudithook(look)


@pytest.fixture
def watch() -> Iterator[type[Watch]]:
    Watch.opened, Watch.on = [], True
    yield Watch
    Watch.on = False


def said(words: str, opener: str = "own") -> Said:
    return in_process(*words.split(), "--connect", f"application:{opener}")


def expect_done(words: str, opener: str) -> None:
    answer = said(words, opener)
    if words.endswith("--sql"):  # the shell would lack it
        assert answer.code == 1 and "answer() is the application's own" in answer.err
        return
    assert answer == (0, answer.out, "app.db: no such file\n" if words == "current" else "")


def test_no_command_opens_a_database_by_itself(watch: type[Watch]) -> None:
    importlib.import_module("application")
    for words in COMMANDS:
        expect_done(words, "own")
    expect_done(f"restore {taken('app.db.0001.bak')}", "own")
    # A missing one is read as an empty one in memory, and a copy is filled page by page before it is opened.
    others = {"copy" if name.endswith("/copy") else name for inside, name in watch.opened if not inside}
    assert others <= {":memory:", "copy"}
    assert {plain(name) for inside, name in watch.opened if inside} >= {
        "app.db",
        ":memory:",
        "app.db.0001.bak",
    }


def test_no_function_opens_a_database_by_itself(watch: type[Watch], place: Path) -> None:
    own = importlib.import_module("application").own
    how: dict[str, Any] = {"connect": own}
    assert ran(migrate("app.db", place, target="1", **how)) == ["0001"]
    assert ran(migrate("app.db", place, backup=True, **how)) == ["0002"]
    assert ran(downgrade("app.db", place, **how)) == ["0002"]
    assert restore(taken("app.db.0001.bak"), "app.db", place, **how).version == "0001"
    assert stamp("0002", "app.db", place, **how).after == "0002"
    assert current("app.db", place, **how).version == "0002"
    assert len(history("app.db", place, **how)) == 2
    assert verify(place, connect=own).ok
    assert [problem.kind for problem in check("app.db", place, **how).problems] == ["drift"]  # it was stamped
    with closing(vmpilot.db.connect("other.db", place, **how)) as connection:
        assert connection.execute("SELECT answer()").fetchone()[0] == 42
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    others = {name for inside, name in watch.opened if not inside and not name.endswith("/copy")}
    assert others <= {":memory:"}


@pytest.mark.parametrize("opener", MODULES)
def test_a_database_of_any_module_is_migrated_copied_and_put_back(opener: str) -> None:
    pytest.importorskip(MODULES[opener])
    for words in COMMANDS:
        expect_done(words, opener)
    backup = taken("app.db.0001.bak")
    is_plain = Path("app.db").read_bytes().startswith(b"SQLite format 3")
    assert is_plain == (opener != "of_sqlcipher3")
    assert Path(backup).read_bytes().startswith(b"SQLite format 3") == is_plain
    assert said(f"restore {backup}", opener).code == 0
    assert said("current", opener).out == "0001\n"
    assert ran_again(opener) == "app.db is at 0002 (head)"
    assert [name for name in os.listdir(".") if ".tmp" in name] == []


def ran_again(opener: str) -> str:
    return said("upgrade", opener).out.splitlines()[-1]


@pytest.mark.parametrize("name", ["libsql", "turso"])
def test_a_module_without_the_backup_api_copies_but_puts_nothing_back(place: Path, name: str) -> None:
    module = pytest.importorskip(name)
    write(place, "0001_chats", "CREATE TABLE chats (id INTEGER PRIMARY KEY, text TEXT);")
    write(place, "0002_costs", "CREATE TABLE costs (a);\nINSERT INTO costs VALUES (1);", "DROP TABLE costs;")

    def connect(path: str) -> Any:
        return module.connect(path)

    assert ran(migrate("app.db", place, connect=connect)) == ["0001", "0002"]
    before = dump("app.db") if name == "libsql" else []
    assert ran(downgrade("app.db", place, connect=connect)) == ["0002"]
    backup = taken("app.db.0002.bak")
    if before:
        assert dump(backup) == before
    with pytest.raises(AccessError) as caught:
        restore(backup, "app.db", place, connect=connect)
    lacks = "its connection has no backup API, without which nothing can be put back; nothing was changed"
    assert str(caught.value) == f"{backup}: {lacks}"
    assert current("app.db", place, connect=connect).version == "0001"
    assert [name for name in os.listdir(".") if ".tmp" in name] == []


def test_a_wrong_key_is_told_with_the_database(place: Path) -> None:
    pytest.importorskip("sqlcipher3")
    assert said("upgrade", "of_sqlcipher3").code == 0
    before = Path("app.db").read_bytes()
    wrong = (1, "", "error: app.db: file is not a database; nothing was changed\n")
    for words in ("upgrade", "current", "downgrade", "upgrade --dry-run", "stamp base"):
        assert said(words, "with_another_key") == wrong
    assert (
        said("check", "with_another_key").out
        == "unreadable: app.db: file is not a database; nothing was changed\n"
    )
    assert Path("app.db").read_bytes() == before


def test_what_the_application_opened_to_be_looked_at_is_closed_before_a_change(place: Path) -> None:
    own, opened = importlib.import_module("application").own, list[sqlite3.Connection]()

    def connect(path: str) -> sqlite3.Connection:
        opened.append(own(path))
        return opened[-1]

    def look_again(progress: Progress) -> None:
        with pytest.raises(sqlite3.ProgrammingError):
            opened[0].cursor()

    stamp("base", "app.db", place)
    assert len(migrate("app.db", place, connect=connect, progress=look_again)) == 2
    assert len(opened) == 2


def test_a_database_that_each_connection_keeps_to_itself_is_opened_once_at_a_time(place: Path) -> None:
    for words in ("upgrade 1", "upgrade --backup", "redo", "downgrade"):
        assert said(words, "alone").code == 0
    alone = importlib.import_module("application").alone
    assert [step.version for step in migrate("app.db", place, connect=alone, backup=True)] == ["0002"]
    assert len(redo("app.db", place, connect=alone)) == 2
    assert [step.version for step in downgrade("app.db", place, connect=alone)] == ["0002"]
    assert [step.version for step in migrate("app.db", place, connect=alone)] == ["0002"]


@pytest.mark.parametrize("words", ["upgrade", "history", "stamp head", "downgrade --dry-run"])
def test_another_database_than_the_one_that_is_named_is_refused(words: str) -> None:
    assert said("upgrade").code == 0
    refused = "connect opened this, not what it was asked for; nothing was changed"
    with closing(sqlite3.connect("fixed.db")) as connection:
        connection.execute("CREATE TABLE fixed (a)")
    assert said(words, "fixed") == (1, "", f"error: {os.path.realpath('fixed.db')}: {refused}\n")
    assert query(Path("fixed.db"), "SELECT name FROM sqlite_schema") == [("fixed",)]


@pytest.mark.parametrize(
    ("connect", "error", "message"),
    [
        (lambda path: [], TypeError, "connect: expected an open connection, not list"),
        (lambda path: {}["key"], KeyError, "'key'"),  # the application's own
    ],
)
def test_what_the_applications_function_does_wrong_is_its_own(
    place: Path, connect: Callable[[str], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        migrate("app.db", place, connect=connect)
    assert str(caught.value) == message
    assert os.listdir(".") == ["application.py"] or not os.path.getsize("app.db")


def test_what_a_module_refuses_to_open_is_an_access_error(place: Path) -> None:
    broken = importlib.import_module("application").broken
    with pytest.raises(AccessError) as caught:
        migrate("app.db", place, connect=broken)
    assert str(caught.value) == "app.db: no key; nothing was changed"
    told = "error: app.db: --connect application:broken: no key; nothing was changed\n"
    assert said("upgrade", "broken") == (1, "", told)
