"""Proves that whatever bytes a database holds, every command answers with a result or with one line.

And that a good backup can be put back over it, which the line proposes where there is one.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support import change, dump, in_process, pasteable, query, taken, write

from vmpilot.migrate import MigrationError, check, current, downgrade, history, migrate, restore, stamp

Spoil = Callable[[bytes], bytes]

NOT_UTF_8 = "CAST(x'80' AS TEXT)"
UP = """
CREATE TABLE one (a TEXT DEFAULT 'markmark');
INSERT INTO one VALUES ('x');
CREATE INDEX markindex ON one (a);
CREATE VIEW markview AS SELECT a AS markcol FROM one;
CREATE TRIGGER marktrig AFTER INSERT ON one BEGIN SELECT 'markbody'; END;
"""


def swapped(old: bytes, new: bytes) -> Spoil:
    """Put other bytes of the same length where these are."""
    assert len(old) == len(new)

    def spoil(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return spoil


def last_byte(word: bytes) -> Spoil:
    """Make the last byte of a word one that is no UTF-8."""
    return swapped(word, word[:-1] + b"\x80")


def after(*statements: str) -> Spoil:
    """Do to a database what no migration does."""

    def spoil(data: bytes) -> bytes:
        Path("spoilt.db").write_bytes(data)
        change("spoilt.db", *statements)
        data = Path("spoilt.db").read_bytes()
        os.remove("spoilt.db")
        return data

    return spoil


def overwritten(start: int, count: int, byte: bytes) -> Spoil:
    return lambda data: data[:start] + count * byte + data[start + count :]


LOGGED = ("action", "version", "name", "from_version", "to_version", "checksum", "down_sql", "at", "took_ms")
SPOILT: dict[str, Spoil] = {
    "a default": last_byte(b"markmark"),
    "the name of a table": last_byte(b"marktable"),
    "the name of a column": swapped(b"marka", b"mark\x80"),
    "the name of an index": last_byte(b"markindex"),
    "the name of a view": last_byte(b"markview"),
    "a view": last_byte(b"markcol"),
    "the name of a trigger": last_byte(b"marktrig"),
    "a trigger": last_byte(b"markbody"),
    "the table of the version": last_byte(b"alembic_version_pkc"),
    "the name of the table of the version": last_byte(b"alembic_version"),
    "the table of the log": swapped(b"took_ms REAL", b"took_m\x80 REAL"),
    "the name of the table of the log": last_byte(b"migration_log"),
    "the version": after(f"UPDATE alembic_version SET version_num = {NOT_UTF_8}"),
    "a second version": after(f"INSERT INTO alembic_version VALUES ({NOT_UTF_8})"),
    **{
        f"{name} in the log": after(f"UPDATE migration_log SET {name} = {NOT_UTF_8} WHERE id = 2")
        for name in LOGGED
    },
    "a row": after(f"INSERT INTO one VALUES ({NOT_UTF_8})"),
    "no SQL": swapped(b"CREATE TABLE one", b"CREATE TABLX one"),
    "no SQL and no text": swapped(b"CREATE TABLE marktable", b"CREATE TABL\x80 marktable"),
    "half a file": lambda data: data[: len(data) // 2],
    "half a header": lambda data: data[:50],
    "one page and a bit": lambda data: data[:5000],
    "no database": lambda data: b"This is a text and no database. " * 200,
    "one byte": lambda data: b"x",
    "nothing": lambda data: b"",
    "the schema's page": overwritten(200, 3896, b"\xff"),
    "a page": overwritten(8192, 4096, b"\x80"),
    "all pages but one": lambda data: data[:4096] + b"\x80" * (len(data) - 4096),
    "the header": overwritten(16, 60, b"\xff"),
    "the encoding": overwritten(59, 1, b"\x02"),
    "an encoding that there is not": overwritten(59, 1, b"\x09"),
}
COMMANDS = (
    *("upgrade", "upgrade --backup", "upgrade --dry-run", "upgrade --sql", "downgrade", "downgrade --sql"),
    *("downgrade base --no-backup", "current", "history", "stamp 1", "check", "verify --on-copy", "restore"),
)


@pytest.fixture
def good(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return the bytes of a database at the second of three migrations, which has a backup beside it."""
    monkeypatch.chdir(migrations.parent)
    monkeypatch.setenv("VMPILOT_DATABASE", "app.db")
    monkeypatch.setenv("VMPILOT_MIGRATIONS", "migrations")
    write(migrations, "0001_one", UP, "DROP TABLE one; DROP VIEW IF EXISTS markview;")
    write(migrations, "0002_two", "CREATE TABLE marktable (marka, b);", "DROP TABLE marktable;")
    write(migrations, "0003_three", "CREATE TABLE three (a);", "DROP TABLE three;")
    migrate("app.db", "migrations", target="2")
    data = Path("app.db").read_bytes()
    migrate("app.db", "migrations", backup=True)
    return data


def lay(data: bytes) -> None:
    """Put a database in place, and away what commands before it have left beside it."""
    (backup,) = {taken("app.db.0002.bak")}
    for path in Path().glob("app.db*"):
        if path.name != backup:
            path.unlink()
    Path("app.db").write_bytes(data)


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_every_command_answers(good: bytes, spoil: Spoil) -> None:
    data = spoil(good)
    for command in COMMANDS:
        lay(data)
        said = in_process(*command.split(), "--timeout", "0")
        assert said.code in (0, 1)
        if said.code and command not in ("check", "verify --on-copy"):
            line = said.err.splitlines()[-1]
            assert line.startswith("error: ")
            assert line.isprintable()
        assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_good_backup_is_put_back_over_it(good: bytes, spoil: Spoil) -> None:
    lay(spoil(good))
    backup = taken("app.db.0002.bak")
    if spoil is SPOILT["no database"]:  # it could be anything, and is not replaced
        said = in_process("restore", backup)
        assert said.err.startswith("error: app.db: neither a database nor empty; nothing was changed")
        return
    assert restore(backup, "app.db", "migrations").version == "0002"
    assert dump("app.db") == dump(backup)


WRECKS = ("no SQL and no text", "half a file", "the name of a view", "the schema's page")


@pytest.mark.parametrize("name", WRECKS)
def test_the_newest_backup_is_proposed_if_there_is_one(good: bytes, name: str) -> None:
    Path("app.db.before-restore.20991231T000000.000Z.bak").touch()  # may be as damaged
    backup = taken("app.db.0002.bak")
    Path("app.db").write_bytes(SPOILT[name](good))
    advice = "; to put its newest backup back, run: python3 -m vmpilot.migrate restore {}"
    advice = pasteable(advice).format(os.path.abspath(backup))
    with pytest.raises(MigrationError) as caught:
        migrate("app.db", "migrations")
    assert str(caught.value).endswith(advice)
    commands = (
        "current",
        "history",
        "downgrade",
        "stamp 1",
        "upgrade --sql",
        "upgrade --dry-run",
        "verify --on-copy",
    )
    for command in commands if name == "the schema's page" else ():
        assert in_process(*command.split()).err.endswith(f"{advice}\n")
    assert in_process("check").out.endswith(f"{advice}\n")
    os.remove(backup)
    with pytest.raises(MigrationError) as caught:
        migrate("app.db", "migrations")
    assert str(caught.value).endswith("nothing was changed")


@pytest.mark.parametrize("name", ["no database", "one byte"])
def test_what_is_no_database_is_moved_away_before_a_backup_is_put_back(good: bytes, name: str) -> None:
    backup = taken("app.db.0002.bak")
    Path("app.db").write_bytes(SPOILT[name](good) * 9000)
    told = "error: app.db: file is not a database; nothing was changed; to put its newest backup back, "
    told += f"move the file away first, and then run: python3 -m vmpilot.migrate restore {os.path.abspath(backup)}\n"
    for command in ("current", "upgrade", "redo", "renumber 1"):
        assert in_process(*command.split()).err == pasteable(told)
    os.rename("app.db", "away.db")
    assert restore(backup, "app.db", "migrations").version == "0002"


def test_what_looks_encrypted_like_its_newest_backup_needs_a_key(good: bytes) -> None:
    for path in ("app.db", taken("app.db.0002.bak")):
        Path(path).write_bytes(bytes(reversed(good)))
    told = "app.db: file is not a database; nothing was changed; if it is encrypted, its key is needed, "
    for command in ("current", "upgrade", "redo", "renumber 1"):
        assert in_process(*command.split()).err == f"error: {told}which --connect gives\n"
    assert in_process("check").out == f"unreadable: {told}which --connect gives\n"
    backup = Path(taken("app.db.0002.bak"))
    backup.unlink()
    os.mkfifo(backup)  # is not waited for
    assert in_process("current").err == f"error: {told}which --connect gives\n"


def test_what_sqlite_says_is_shown_whatever_bytes_it_quotes(good: bytes) -> None:
    os.remove(taken("app.db.0002.bak"))
    Path("app.db").write_bytes(SPOILT["no SQL and no text"](good))
    with pytest.raises(MigrationError) as caught:
        current("app.db", "migrations")
    words = 'not UTF-8: malformed database schema (marktable) - near "TABL\\x80": syntax error'
    assert str(caught.value) == f"app.db: {words}; nothing was changed"


def test_a_stamp_mends_a_version_that_is_no_text(good: bytes) -> None:
    Path("app.db").write_bytes(SPOILT["the version"](good))
    with pytest.raises(MigrationError) as caught:
        current("app.db", "migrations")
    told = "app.db: alembic_version holds a text that is not UTF-8, expected one text; nothing was changed"
    assert str(caught.value).startswith(f"{told}; to set the version, run: ")
    stamp("2", "app.db", "migrations")
    assert current("app.db", "migrations").version == "0002"
    assert query(Path("app.db"), "SELECT version_num FROM alembic_version") == [("0002",)]


def test_a_row_of_the_log_that_is_no_text_is_passed_over(good: bytes) -> None:
    Path("app.db").write_bytes(SPOILT["name in the log"](good))
    entries = history("app.db", "migrations")
    assert [(entry.version, entry.state, entry.applied_at is None) for entry in entries] == [
        ("0001", "applied", False),
        ("0002", "applied", True),
        ("0003", "pending", True),
    ]


def test_a_statement_that_returns_a_column_without_a_name_in_utf_8_is_a_step_error(good: bytes) -> None:
    Path("app.db").write_bytes(SPOILT["the name of a column"](good))
    write(Path("migrations"), "0003_three", "CREATE TABLE three (a);\nSELECT * FROM marktable;")
    os.remove(taken("app.db.0002.bak"))
    with pytest.raises(MigrationError) as caught:
        migrate("app.db", "migrations")
    told = "migrations/0003_three.up.sql:2: not UTF-8: mark\\x80; rolled back, app.db is still at 0002"
    assert str(caught.value) == told


def broken(data: bytes) -> str:
    raise ZeroDivisionError


@pytest.mark.parametrize("factory", [bytes, broken])
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_so_does_every_function_on_a_callers_connection(
    good: bytes, spoil: Spoil, factory: Callable[[bytes], Any]
) -> None:
    data = spoil(good)
    for act in (migrate, downgrade, current, history, check, lambda *where: stamp("1", *where)):
        lay(data)
        with closing(sqlite3.connect("app.db")) as connection:
            connection.text_factory = factory
            with suppress(MigrationError):
                act(connection, "migrations")
            assert connection.text_factory is factory
