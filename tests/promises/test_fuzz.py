"""Proves that whatever a database, a directory or an argument holds, every command answers.

With a result or with one MigrationError: printable lines of bounded length, JSON that every parser takes, no
file left beside what was there, no byte of a database changed by what only reads. The inputs are drawn: damaged
files, rows and schemas that no release wrote, directories that no person made. What was once answered with a
traceback stands beside them by name.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import change, everything, in_memory, in_process, write

from vmpilot.migrate import (
    MigrationError,
    backups,
    check,
    create,
    current,
    downgrade,
    history,
    migrate,
    redo,
    renumber,
    restore,
    schema,
    stamp,
    verify,
)
from vmpilot.migrate.files.script import checksum, parse
from vmpilot.migrate.files.script import statements as script_statements

# One act for each drawn input, and thousands of inputs where there is time.
MANY = settings(max_examples=settings().max_examples * (5 if settings().max_examples > 100 else 1))
LONGEST_LINE = 20_000
MOST_TICKS = 2_000  # of this many instructions each
INSTRUCTIONS = 10_000

ONE = """
CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT NOT NULL DEFAULT 'none', twice AS (id * 2) STORED);
CREATE TABLE words (word TEXT, chat REFERENCES chats (id), PRIMARY KEY (word, chat)) WITHOUT ROWID;
CREATE INDEX chats_title ON chats (title) WHERE title <> '';
CREATE VIEW titles AS SELECT title, count(*) AS n FROM chats GROUP BY title;
CREATE TRIGGER said AFTER INSERT ON chats BEGIN INSERT OR IGNORE INTO words VALUES (new.title, new.id); END;
CREATE VIRTUAL TABLE found USING fts5 (body);
INSERT INTO chats (title) VALUES ('one'), ('two'), ('three'), (hex(zeroblob(600)));
INSERT INTO found VALUES ('a first text'), ('another');
"""
ONE_DOWN = "DROP TABLE found; DROP VIEW titles; DROP TABLE words; DROP TABLE chats;"
TWO = "ALTER TABLE chats ADD COLUMN model TEXT; UPDATE chats SET model = 'm' || id;"
THREE = "CREATE TABLE exchanges (id INTEGER PRIMARY KEY, chat REFERENCES chats (id)); INSERT INTO exchanges DEFAULT VALUES;"
PAIRS = {
    "0001_one": (ONE, ONE_DOWN),
    "0002_two": (TWO, "ALTER TABLE chats DROP COLUMN model;"),
    "0003_three": (THREE, "DROP TABLE exchanges;"),
}


# --- a stage on which a command is given


@contextmanager
def staged() -> Iterator[None]:
    """Stand in a new directory, in memory where there is one, whose files and variables are ours alone."""
    before, path, place = os.getcwd(), list(sys.path), mkdtemp(dir=in_memory())
    variables = {"HOME": place, "VMPILOT_DATABASE": "app.db", "VMPILOT_MIGRATIONS": "migrations"}
    kept = {name: os.environ.get(name) for name in variables}
    try:
        os.makedirs(f"{place}/a/b")
        os.chdir(f"{place}/a/b")
        os.environ.update(variables)
        os.mkdir("migrations")
        for stem, (up, down) in PAIRS.items():
            write(Path("migrations"), stem, up, down)
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name, value in kept.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        rmtree(os.fsencode(place))


class Picture(NamedTuple):
    """What is on the disk of a database at one moment, by what stands behind its name."""

    files: dict[str, bytes]


def seen(name: str) -> Picture:
    """Return the files of a database as they are now, as a power failure would leave them."""
    ends = [end for end in ("", "-wal", "-journal") if os.path.exists(name + end)]
    return Picture({end: Path(name + end).read_bytes() for end in ends})


@cache
def pictures() -> tuple[Picture, ...]:
    """Return databases that real runs made: both journal modes, at rest and in the middle of a write."""
    with staged():
        return tuple(picture for journal in ("delete", "wal") for picture in filmed(f"{journal}.db", journal))


def filmed(name: str, journal: str) -> Iterator[Picture]:
    change(name, "PRAGMA page_size = 512", f"PRAGMA journal_mode = {journal}")
    migrate(name, "migrations", target="2")
    yield seen(name)
    with closing(sqlite3.connect(name, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE chats SET title = title || '!'")
        connection.execute("INSERT INTO chats (title) SELECT hex(zeroblob(900)) FROM chats, chats AS c")
        if journal == "wal":
            connection.execute("COMMIT")
        yield seen(name)


def laid(picture: Picture) -> None:
    """Put a database in place, and away what is of another one."""
    for end in ("", "-wal", "-journal", "-shm"):
        with suppress(FileNotFoundError):
            os.remove("app.db" + end)
    for end, data in picture.files.items():
        Path("app.db" + end).write_bytes(data)


# --- what is asked, and what every answer must be

LOOKING = (
    *("current", "current --check-heads", "history", "heads", "check", "check --full", "verify --on-copy"),
    *("upgrade --dry-run", "upgrade --sql", "downgrade --dry-run", "downgrade base --sql"),
    "downgrade base --dry-run",
    *("restore", "check --wait 0", "history -v"),
)
CHANGING = (
    *("upgrade", "upgrade --backup", "upgrade 2", "upgrade +1", "downgrade", "downgrade base --no-backup"),
    *("downgrade head --no-backup", "downgrade 1 -q", "stamp 1", "stamp base", "stamp head"),
    *("restore app.db --database other.db", "redo", "redo --no-backup", "renumber 1", "renumber 3"),
)
COMMANDS = (*LOOKING, *CHANGING)
KINDS = {
    *("pending", "unknown", "other", "edited", "late", "unfinished", "drift", "not_compared", "foreign_keys"),
    *("broken", "integrity", "unreadable", "remark"),
}


def answered(command: str, *options: str) -> None:
    """Give a command and prove that its answer is one, and that it left alone what it does not change."""
    words = (*command.split(), *options)
    before, names = everything(Path()), named_here()
    said = in_process(*words)
    assert said.code in (0, 1, 2)
    shown(said.err)
    if "--sql" not in words or said.code:  # else it is what the files say
        shown(said.out, LONGEST_LINE * (6 if "--json" in words else 1))  # a letter is \u00e9 there
    if "--json" in words:
        assert said.out.count("\n") == 1
        assert isinstance(json.loads(said.out, parse_constant=refused_constant), dict)
    elif said.code and words[0] == "check":
        assert {line.partition(":")[0] for line in said.out.splitlines()} <= KINDS
    elif said.code and said.err:
        told = said.err.splitlines()
        assert [line for line in told if line.startswith("error: ")] == told[-1:]
    new = {name for name in named_here() - names if not name.endswith((b".bak", b"-shm"))}
    if words[0] == "renumber" and not said.code:  # as at base, also for want of a version
        new = {name for name in new if not name.startswith(b"./migrations/")}
    assert new <= {b"./other.db"}
    if command in LOOKING:
        assert kept_of(before) == before


def named_here() -> set[bytes]:
    return {os.path.join(where, name) for where, _, files in os.walk(b".") for name in files}


def kept_of(before: dict[str, bytes]) -> dict[str, bytes]:
    """Return what is now in the files that there were, but for what SQLite itself does on opening them.

    Whoever comes first rolls a hot journal back, and removes a log that has nothing in it or to belong to.
    """
    found = {name: data for name, data in everything(Path()).items() if name in before}
    idle_log = not before.get("app.db-wal", b"some") or len(before["app.db"]) < PAGE
    if "app.db-journal" in before or idle_log:
        found |= {name: data for name, data in before.items() if name.startswith("app.db")}
    return found


def shown(text: str, longest: int = LONGEST_LINE) -> None:
    for line in text.split("\n"):
        assert line.isprintable()
        assert len(line) <= longest
    assert text.count("\n") < 1000


def refused_constant(name: str) -> None:
    raise AssertionError(name)


FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "migrate()": lambda database: migrate(database, "migrations"),
    "migrate(target='2')": lambda database: migrate(database, "migrations", target="2", backup=True),
    "downgrade()": lambda database: downgrade(database, "migrations"),
    "downgrade(target='base')": lambda database: downgrade(
        database, "migrations", target="base", backup=False
    ),
    "current()": lambda database: current(database, "migrations"),
    "history()": lambda database: history(database, "migrations"),
    "check()": lambda database: check(database, "migrations", full=True),
    "stamp()": lambda database: stamp("1", database, "migrations"),
    "redo()": lambda database: redo(database, "migrations", backup=False),
    "renumber()": lambda database: renumber("2", database, "migrations"),
}


def raising(data: bytes) -> str:
    raise ZeroDivisionError


FACTORIES: dict[str, Any] = {
    "str": str,
    "bytes": bytes,
    "bytearray": bytearray,
    "replace": lambda data: data.decode(errors="replace"),
    "ignore": lambda data: data.decode(errors="surrogateescape"),
    "raising": raising,
}


def tried(act: Callable[[], object]) -> None:
    """Call a function that may raise one error, of one printable line."""
    try:
        act()
    except MigrationError as error:
        assert str(error).isprintable()
        assert 0 < len(str(error)) <= LONGEST_LINE


def called(function: str, factory: str | None) -> None:
    """Call a function on the path, or on a connection of somebody who reads texts in a way of his own."""
    act = FUNCTIONS[function]
    if factory is None:
        tried(lambda: act("app.db"))
        return
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return int(ticks > MOST_TICKS)

    try:
        opened = sqlite3.connect("app.db")
    except sqlite3.Error:
        return
    with closing(opened) as connection:
        connection.text_factory = FACTORIES[factory]
        connection.row_factory = sqlite3.Row
        connection.set_progress_handler(tick, INSTRUCTIONS)
        tried(lambda: act(connection))
        assert connection.text_factory is FACTORIES[factory]
        assert not connection.in_transaction
    assert ticks <= MOST_TICKS


class Act(NamedTuple):
    """A command and its form, or a function and who calls it."""

    what: str
    how: str | None = None


def done(act: Act) -> None:
    if act.what in FUNCTIONS:
        called(act.what, act.how)
    else:
        answered(act.what, "--timeout", "0", *filter(None, [act.how]))


ACTS = (
    *(Act(command, form) for command in COMMANDS for form in (None, "--json")),
    *(Act(function, factory) for function in FUNCTIONS for factory in (None, *FACTORIES)),
)
acts = st.sampled_from([act for act in ACTS if act.what in COMMANDS]) | st.sampled_from(
    [act for act in ACTS if act.what in FUNCTIONS]
)


# --- odd texts and values

ODD = (
    *("", " ", "\0", "\x1b[2J", "a\nerror: forged", "\r\n", "\x85", "\u2028", "\u202eabc", "\ud800"),
    "\udcff",
    *("x" * 30_000, "\n" * 30_000, "9" * 32, "9" * 33, "9" * 5000, "1e999", "\u0663", "\u00b2", "-1", "+1"),
    *("+\u0663", "--"),
    *("-99999999999999999999999", "head", "base", "0001", "1", "0002", "2", "0003", "{}", "%s%n", "'", '"'),
    *("`", "../x"),
    *("2026-11-25T10:00:00.000Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"),
    "9999-12-31T23:59:59-23:59",
    *("2026-13-45", "20261125", "2026-W01", "2026-11-25 24:00", "\u0662\u0660\u0662\u0666-11-25", "NaN"),
    "Infinity",
)
anything = st.characters(exclude_categories=())
texts = st.sampled_from(ODD) | st.text(anything, max_size=12)
plain = st.sampled_from(("", "0000", "0001", "0002", "0003", "0004", "0007", "1", "9" * 32, "head", "5e"))


def literal(value: object) -> str:
    """Return SQL for a value of any storage class; a lone surrogate becomes bytes that are no UTF-8."""
    if isinstance(value, str):
        return f"CAST(x'{value.encode(errors='surrogatepass').hex()}' AS TEXT)"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float):
        return {"inf": "9e999", "-inf": "-9e999", "nan": "NULL"}.get(repr(value), repr(value))
    return "NULL" if value is None else str(value)


values = (
    texts
    | plain
    | st.none()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.sampled_from((float("inf"), float("-inf"), 1e308, -0.0))
    | st.floats()
    | st.binary(max_size=8)
    | st.binary(max_size=8).map(lambda data: data.decode("latin-1"))
).map(literal) | st.binary(max_size=6).map(lambda data: f"CAST(x'{data.hex()}' AS TEXT)")


# --- (a) damaged files


class Edit(NamedTuple):
    """One damage: which file, what is done, and two numbers for it."""

    end: str
    how: str
    at: int
    by: int


PAGE = 512


def edited(data: bytes, how: str, at: int, by: int) -> bytes:
    """Return the content of a file after one damage."""
    if how == "lengthen":
        return data + bytes([by % 256]) * (at % 3000)
    if not data:
        return data
    if how == "cut":
        return data[: at % len(data)]
    if how == "byte":
        at %= len(data)
        return data[:at] + bytes([by % 256]) + data[at + 1 :]
    pages = [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
    one, other = at % len(pages), by % len(pages)
    if how == "swap":
        pages[one], pages[other] = pages[other], pages[one]
    else:
        pages[one] = pages[other]
    return b"".join(pages)


def damaged(picture: Picture, edits: Sequence[Edit]) -> Picture:
    files = dict(picture.files)
    for end, how, at, by in edits:
        end = end if end in files else ""
        files[end] = edited(files[end], how, at, by)
    return Picture(files)


places = (
    st.integers(0, 110)
    | st.builds(lambda page, byte: PAGE * page + byte, st.integers(0, 80), st.integers(0, 24))
    | st.integers(0, 60_000)
)
edits = st.lists(
    st.builds(
        Edit,
        st.sampled_from(("", "", "", "-wal", "-journal")),
        st.sampled_from(("byte",) * 6 + ("swap", "copy", "cut", "lengthen")),
        places,
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=5,
)


@MANY
@given(st.sampled_from(range(4)), edits, acts)
def test_bytes_that_no_sqlite_wrote(number: int, edits: list[Edit], act: Act) -> None:
    with staged():
        laid(damaged(pictures()[number], edits))
        done(act)


# --- (b) rows that no run wrote

LOGGED = (
    *("id", "action", "version", "name", "from_version", "to_version", "checksum", "down_sql"),
    *("down_checksum", "at", "took_ms"),
)
# Without types and without NOT NULL: every storage class stays as it is.
UNTYPED = (
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_schema SET sql = 'CREATE TABLE migration_log (id INTEGER PRIMARY KEY, {})' WHERE name = 'migration_log'".format(
        ", ".join(LOGGED[1:])
    ),
    "UPDATE sqlite_schema SET sql = 'CREATE TABLE alembic_version (version_num, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))' WHERE name = 'alembic_version'",
    "PRAGMA writable_schema = RESET",
)
FRAGMENTS = (
    *("SELECT 1;", "DROP TABLE chats;", "DROP TABLE nowhere;", "-- vmpilot: no-transaction\n"),
    "-- vmpilot: irreversible \x1b[2J\n",
    *("-- vmpilot: unguarded \u202e\n", "-- vmpilot: foreign-keys-on x\n", "\x1b[2J", "\0", "\n", "/*"),
    *("'", "BEGIN;", "COMMIT;", ".shell x\n"),
    *("CREATE TABLE made (a);", "INSERT INTO chats (title) VALUES (1);", "SELECT ?;", "\ufeff", "\x1a"),
    *("\x0b", "SELECT '\x1b[2J';", "\r"),
    *("UPDATE alembic_version SET version_num = 1;", "DELETE FROM migration_log;"),
    *("PRAGMA writable_schema = ON;", "\ud800", "SELECT \u201ca\u201d;"),
    *("ALTER TABLE chats RENAME TO t;", "CREATE VIEW v AS SELECT * FROM nowhere;"),
    *("SELECT abs(-9223372036854775808);", "SELECT 'x' AS \"\x1b\";"),
)
scripts = st.lists(st.sampled_from(FRAGMENTS) | st.text(anything, max_size=6), max_size=5).map("".join)


def kept(text: str) -> tuple[str, str]:
    """Return a down script and its right checksum, as literals, so that it would be run."""
    try:
        mark = checksum(parse("kept", text.encode(errors="surrogatepass"), "down"))
    except MigrationError:
        mark = "?"
    return literal(text), literal(mark)


actions = st.sampled_from(
    ("upgrade", "upgrade", "downgrade", "stamp", "accept", "start", "adopt", "x", "")
).map(literal)
moments = st.sampled_from(("2026-11-25T10:00:00.000Z", "2026-11-25", "0001-01-01T00:00:00+23:59")).map(
    literal
)
logged = st.builds(
    lambda action, version, name, before, after, mark, script, at, took: [
        *("NULL", action, version, name, before, after, mark, *script, at, took)
    ],
    actions,
    plain.map(literal),
    st.sampled_from(("one", "two", "three", "four", "")).map(literal),
    plain.map(literal),
    plain.map(literal),
    st.just("''"),
    scripts.map(kept),
    moments,
    st.just("1.5"),
)


def inserted(row: list[str], at: int, value: str) -> str:
    return f"INSERT INTO migration_log VALUES ({', '.join([*row[:at], value, *row[at + 1 :]])})"


MOMENTS = tuple(text for text in ODD if text[:2] in ("20", "19", "00", "99"))
NUMBERS = (float("inf"), float("-inf"), 1e308, -1e308, -1.5, 0, 2**63 - 1, -(2**63) + 1, 5e-324)
telling = st.one_of(
    st.tuples(st.just("took_ms"), st.sampled_from(NUMBERS).map(literal)),
    st.tuples(st.just("at"), st.sampled_from(MOMENTS).map(literal) | texts.map(literal)),
    st.tuples(st.sampled_from(("version", "from_version", "to_version", "name", "action")), values),
    st.tuples(st.sampled_from(LOGGED[1:]), values),
)
row_changes = st.one_of(
    *[telling.map(lambda pair: "UPDATE migration_log SET {} = {}".format(*pair))] * 4,
    st.builds(inserted, logged, st.integers(0, 10), values),
    logged.map(lambda row: inserted(row, 0, "NULL")),
    st.builds(
        "UPDATE migration_log SET {} = {} WHERE id = {}".format,
        st.sampled_from(LOGGED[1:]),
        values,
        st.integers(1, 3),
    ),
    scripts.map(kept).map(
        lambda row: "UPDATE migration_log SET down_sql = {}, down_checksum = {}".format(*row)
    ),
    values.map("UPDATE OR IGNORE alembic_version SET version_num = {}".format),
    plain.map(literal).map("UPDATE OR IGNORE alembic_version SET version_num = {}".format),
    values.map("INSERT INTO alembic_version VALUES ({})".format),
    st.integers(1, 3).map("DELETE FROM migration_log WHERE id = {}".format),
    st.just("DELETE FROM alembic_version"),
    st.just("UPDATE migration_log SET version = '0009', to_version = '0009' WHERE id = 2"),
    values.map("UPDATE chats SET title = {} WHERE id = 2".format),
    st.builds("INSERT INTO words VALUES ({}, {})".format, values, values),
    values.map("UPDATE found_data SET block = {}".format),
)


def spoilt(picture: Picture, statements: Sequence[str]) -> None:
    """Put a database in place and do to it what no migration does, as far as SQLite lets one."""
    laid(picture)
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in statements:
            with suppress(sqlite3.Error, UnicodeError):
                connection.execute(statement)


@MANY
@given(st.booleans(), st.lists(row_changes, min_size=1, max_size=6), acts)
def test_rows_that_no_run_wrote(untyped: bool, statements: list[str], act: Act) -> None:
    with staged():
        spoilt(pictures()[0], [*UNTYPED * untyped, *statements])
        done(act)


# What was answered with a traceback, no JSON or an endless line.
FOUND = {
    "a time that never ends": ["UPDATE migration_log SET took_ms = 9e999"],
    "a time before there was none": ["UPDATE migration_log SET took_ms = -9e999"],
    "a time of centuries": ["UPDATE migration_log SET took_ms = 1e308"],
    "no date": ["UPDATE migration_log SET at = '2026-13-45'"],
    "a date before the first": ["UPDATE migration_log SET at = '0001-01-01T00:00:00+23:59'"],
    "a date after the last": ["UPDATE migration_log SET at = '9999-12-31T23:59:59-23:59'"],
    "a huge version": [f"UPDATE alembic_version SET version_num = {literal('x' * 30_000)}"],
    "huge versions": [f"INSERT INTO alembic_version VALUES ({literal(letter * 30_000)})" for letter in "xy"],
    "a huge number": [
        "UPDATE migration_log SET version = 9223372036854775807, took_ms = 9223372036854775807"
    ],
}


@pytest.mark.parametrize("statements", FOUND.values(), ids=FOUND)
def test_rows_that_were_once_answered_badly(statements: list[str]) -> None:
    with staged():
        for command in ("history", "current", "check", "upgrade --dry-run", "upgrade"):
            for form in (None, "--json"):
                spoilt(pictures()[0], [*UNTYPED, *statements])
                done(Act(command, form))


# --- (c) schemas that no SQL makes

OBJECTS = (
    *("chats", "words", "titles", "said", "found", "chats_title", "alembic_version", "migration_log"),
    *("sqlite_sequence", "found_content", "sqlite_autoindex_x_1", "sqlite_stat1"),
)
SQLS = (
    *("CREATE TABLE t (a)", "CREATE TABLE chats (a, b)", 'CREATE TABLE "\x1b[2J" ("\n")'),
    *("CREATE TABLX x (a)", "", "CREATE VIEW v AS SELECT 1"),
    *("CREATE VIEW v AS SELECT * FROM v", 'CREATE VIEW titles AS SELECT 1 AS "\x1b[2J"'),
    *("CREATE INDEX i ON chats (title)", "CREATE INDEX i ON chats (nowhere)"),
    *(
        "CREATE TRIGGER said AFTER INSERT ON chats BEGIN SELECT nowhere; END",
        "CREATE VIRTUAL TABLE found USING nowhere (a)",
        "CREATE VIRTUAL TABLE x USING fts5 (body)",
    ),
    *("CREATE TABLE t (a, b AS (nowhere))", "CREATE TABLE t (a CHECK (a > 'x\x80'))"),
    *("CREATE TABLE t (a REFERENCES nowhere)", "CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID"),
    *(
        "CREATE TABLE t (a COLLATE nowhere)",
        "CREATE UNIQUE INDEX i ON chats (title COLLATE nowhere)",
        'CREATE TABLE t (a DEFAULT ("\u202e"))',
        "CREATE TABLE t(" + ", ".join(f"c{n}" for n in range(2100)) + ")",
    ),
    *(
        "CREATE TABLE alembic_version (version_num)",
        "CREATE TABLE migration_log (id, action)",
        "CREATE TABLE t (a AS (b), b AS (a))",
        "CREATE TABLE " + "x" * 30_000 + " (a)",
    ),
)
# What compiles: odd names, and what each column says.
odd_names = texts.filter(lambda text: len(text) < 100).map(
    lambda text: '"' + text.replace('"', '""').replace("\0", "") + '"'
)
columns = st.builds(
    "{} {}".format,
    odd_names,
    st.sampled_from(
        (
            "",
            "INT",
            "DEFAULT 'x'",
            'DEFAULT ("y")',
            "AS (1)",
            "REFERENCES nowhere",
            "CHECK (1)",
            "COLLATE nowhere",
            "UNIQUE",
        )
    )
    | odd_names,
)
compiling = st.one_of(
    st.tuples(
        st.just("chats"),
        st.lists(columns, min_size=1, max_size=3).map(
            lambda found: f"CREATE TABLE chats (id INTEGER PRIMARY KEY, {', '.join(found)})"
        ),
    ),
    st.tuples(
        st.just("titles"),
        st.builds("CREATE VIEW titles ({}) AS SELECT {}".format, odd_names, odd_names | st.just("1")),
    ),
    st.tuples(
        st.just("said"),
        odd_names.map("CREATE TRIGGER said AFTER INSERT ON chats BEGIN SELECT {}; END".format),
    ),
    st.tuples(st.just("chats_title"), odd_names.map("CREATE INDEX chats_title ON chats ({})".format)),
)
schema_values = (
    values
    | st.sampled_from(OBJECTS).map(literal)
    | st.sampled_from(SQLS).map(literal)
    | st.integers(0, 40).map(str)
)
SCHEMA = ("type", "name", "tbl_name", "rootpage", "sql")
kinds = st.sampled_from(("table", "view", "index", "trigger", "x")).map(literal)
schema_rows = st.one_of(
    compiling.map(lambda pair: f"UPDATE sqlite_schema SET sql = {literal(pair[1])} WHERE name = '{pair[0]}'"),
    st.builds(
        "UPDATE sqlite_schema SET {} = {} WHERE name = '{}'".format,
        st.sampled_from(SCHEMA),
        schema_values,
        st.sampled_from(OBJECTS),
    ),
    st.builds(
        "UPDATE sqlite_schema SET sql = {} WHERE name = '{}'".format,
        st.sampled_from(SQLS).map(literal),
        st.sampled_from(OBJECTS),
    ),
    st.builds(
        "INSERT INTO sqlite_schema VALUES ({}, {}, {}, {}, {})".format,
        kinds | schema_values,
        schema_values,
        schema_values,
        st.integers(0, 40).map(str) | schema_values,
        st.sampled_from(SQLS).map(literal) | schema_values,
    ),
    st.builds("DELETE FROM sqlite_schema WHERE name = '{}'".format, st.sampled_from(OBJECTS)),
)
SHAPES = (
    *("CREATE VIEW {0} AS SELECT '0002' AS version_num", "CREATE VIEW {0} AS SELECT * FROM nowhere"),
    *("CREATE TABLE {0} (a)", "CREATE TABLE {0} (version_num, action)"),
    "CREATE TABLE {0} (version_num PRIMARY KEY) WITHOUT ROWID",
    *("CREATE TABLE {0} (version_num AS ('0002'), a)", 'CREATE TABLE {0} ("VERSION_NUM" INTEGER)'),
    "CREATE VIRTUAL TABLE {0} USING fts5 (version_num)",
    "CREATE VIRTUAL TABLE {0} USING fts5 (id, action, version, name, from_version, to_version, checksum, down_sql, down_checksum, at, took_ms)",
    "CREATE VIEW {0} AS SELECT 1 AS id, 'upgrade' AS action, '0002' AS version, 'two' AS name, '0001' AS from_version, '0002' AS to_version, '' AS checksum, NULL AS down_sql, NULL AS down_checksum, '' AS at, 1.0 AS took_ms",
    "CREATE TABLE {0} (id, action, version, name, from_version, to_version, checksum, down_sql, down_checksum, at, took_ms)",
    *("CREATE INDEX {0} ON chats (title)", "CREATE TRIGGER {0} AFTER INSERT ON chats BEGIN SELECT 1; END"),
)
TRIGGERS = (
    "CREATE TRIGGER t1 AFTER INSERT ON {0} BEGIN SELECT nowhere; END",
    "CREATE TRIGGER t2 BEFORE UPDATE ON {0} BEGIN SELECT RAISE(ABORT, '\x1b[2J\nerror: forged'); END",
    "CREATE TRIGGER t3 AFTER DELETE ON {0} BEGIN DELETE FROM chats; END",
    "CREATE TRIGGER t4 AFTER INSERT ON {0} BEGIN DELETE FROM {0}; END",
    "CREATE UNIQUE INDEX i1 ON {0} (1)",
)
OURS = st.sampled_from(("alembic_version", "migration_log"))


def remade(name: str, shape: str) -> list[str]:
    return [f"DROP TABLE {name}", shape.format(name)]


shapes = st.builds(remade, OURS, st.sampled_from(SHAPES)) | st.builds(
    lambda name, trigger: [trigger.format(name)], OURS, st.sampled_from(TRIGGERS)
)
written = st.lists(schema_rows, min_size=1, max_size=4).map(
    lambda rows: ["PRAGMA writable_schema = ON", *rows]
)


LONG_NAME = f"UPDATE sqlite_schema SET name = {literal(chr(10) * 30_000)} WHERE name = 'found_content'"


@MANY
@given(shapes | written, acts)
@example(["PRAGMA writable_schema = ON", LONG_NAME], Act("check", "--json"))
@example(["PRAGMA writable_schema = ON", LONG_NAME], Act("check"))
def test_schemas_that_no_run_made(statements: list[str], act: Act) -> None:
    with staged():
        spoilt(pictures()[0], statements)
        done(act)


# --- (d) directories


class Thing(NamedTuple):
    """Something in the directory of the migrations: what kind, its name, and its content or what it leads to."""

    kind: str
    name: bytes
    data: bytes


STEMS = (
    b"0001_one",
    b"0002_two",
    b"0003_three",
    b"0004_four",
    b"0005",
    b"5_x",
    b"0004-\xff",
    b"0006_a\nb",
    b"0007_\x1b[2J",
    b"9" * 32,
    b"9" * 33,
    b"",
    b"0000",
    b"0_\xe2\x80\xae",
    b"0009_" + b"x" * 200,
    b"0010_\xed\xa0\x80",
    b"\xd9\xa3_x",
    b"0011_%s{}",
    b"-1_x",
    b"0012_'\"`",
)
ENDS = (
    *(b".up.sql", b".down.sql", b".sql", b".up..sql", b".UP.SQL", b".up.sql.txt", b".up.sql.part"),
    *(b" .up.sql", b".up.sql ", b".up.down.sql", b"", b".md"),
)
CONTENTS = (
    *(b"", b"\xef\xbb\xbfSELECT 1;", b"\xff\xfeS\0", b"CREATE TABLE x (a);\r\n", b"\0", b"SELECT '", b"/*"),
    *(b"BEGIN; SELECT 1; COMMIT;", b"-- vmpilot: revision \x1b[2J\n", b"-- vmpilot: revision 0002\n"),
    *(
        b"-- vmpilot: \x1b[2J\n",
        b"SELECT \x1b[2J;",
        b"\x80",
        b"-- +goose Up\n",
        b'CREATE TABLE "\x1b[2J\n" (a);',
        b'INSERT INTO "\x1b[2J" VALUES (1);',
        b";;;",
        b"SELECT " + b"x" * 30_000 + b";",
        b"\x1a",
        b"\x0b;",
        b"CREATE TRIGGER a",
    ),
    *(b'CREATE VIEW v AS SELECT * FROM "\x1b[2J";', b'ALTER TABLE chats RENAME TO "\xe2\x80\xae";'),
    *(b"-- vmpilot: unguarded \x1b[2J\nDROP TABLE chats;", b"SELECT \xc2\x85;", b"x" * 30_000),
    b"\n" * 5000 + b"x",
)
GOOD = [f"{stem}.{way}.sql".encode() for stem in (*PAIRS, "0004_four") for way in ("up", "down")]
names = (
    st.sampled_from(GOOD)
    | st.builds(lambda stem, end: stem + end, st.sampled_from(STEMS), st.sampled_from(ENDS))
    | st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"_"))
    | st.sampled_from([f"{stem}.up.sql".encode() for stem in PAIRS])
)
things = st.lists(
    st.builds(
        Thing,
        st.just("file"),
        st.sampled_from(GOOD),
        st.sampled_from(CONTENTS) | scripts.map(lambda text: text.encode(errors="surrogatepass")),
    )
    | st.builds(
        Thing,
        st.sampled_from(("file",) * 6 + ("directory", "link", "fifo", "missing")),
        names.filter(lambda name: name not in (b".", b"..") and len(name) < 256),
        st.sampled_from(CONTENTS)
        | st.binary(max_size=20)
        | scripts.map(lambda text: text.encode(errors="surrogatepass")),
    ),
    min_size=1,
    max_size=4,
)


def put(thing: Thing) -> None:
    kind, name, data = thing
    path = b"migrations/" + name
    with suppress(FileExistsError, FileNotFoundError, IsADirectoryError):
        if os.path.lexists(path):
            os.remove(path)
        if kind == "file":
            Path(os.fsdecode(path)).write_bytes(data)
        elif kind == "directory":
            os.mkdir(path)
        elif kind == "link":
            os.symlink(name if len(data) % 2 else data.replace(b"\0", b"")[:50] or b"nothing", path)
        elif kind == "fifo":
            os.mkfifo(path)


directory_acts = acts | st.sampled_from(
    [Act(f"{command}", form) for command in ("create x", "verify", "restore") for form in (None, "--json")]
)


@MANY
@given(things, directory_acts)
def test_directories_that_nobody_wrote(things: list[Thing], act: Act) -> None:
    with staged():
        laid(pictures()[0])
        for thing in things:
            put(thing)
        if act.what == "create x":
            said = in_process("create", "x", *filter(None, [act.how]))
            shown(said.out)
            shown(said.err)
            return
        done(act)


# --- (e) arguments

PATHS = (
    *("", "a/b", "./x", "migrations", "migrations/", ".", "..", "app.db/x", "file:app.db"),
    *("sqlite:///app.db", "sqlite://", "file:%00", "file:%ff%0a", "sqlite:///\x1b[2J", "x\0y", "\udcff.db"),
    *("\ud800.db", "\n", "a\nb", "x" * 300, "x/" * 3000, "http://a:b@c/\x1b", "postgresql://u:p@h/d"),
    *(":memory:", "~nobody/x\x1b", "other.db", "app.db?mode=\x1b", "app.db"),
)
SECONDS = (
    *("nan", "inf", "-1", "0", "1e-3", "0x1", "\uff10", "1_0_", "", " 0", "1e400", "-0", "9" * 5000),
    *("\x1b[2J", "\ud800"),
)
CONNECTS = (
    *("os:getcwd", "sqlite3:connect", "json:loads", "nowhere:x", "\x1b[2J:x", "os:\x1b[2J", "..:x", ".x:y"),
    *("os.path:join", "\ud800:x", "\0:x", "os:\0", "a b:c d", "builtins:print", "builtins:str", ":", "x"),
    *("x" * 9000 + ":y", "os:path:x"),
)
OPTIONS = (
    "--json",
    "-q",
    "-v",
    "-qv",
    "--dry-run",
    "--sql",
    "--backup",
    "--full",
    "--check-heads",
    "--on-copy",
    "--help",
    "-V",
    "--",
    "-",
    "--jso",
    "-x\x1b[2J",
    "--\ud800",
    "--a\nb",
    "--no-backup",
    "-hq\x1b",
    "--timeout=\x1b",
    "--json=\x1b",
    "--wait=0",
    "-d",
    "-m",
    "\x1b[2J",
    "--" + "x" * 30_000,
)


def safe(text: str) -> str:
    """Return a text that leads to no place outside of the stage when it is a path."""
    return text.replace("/", "_").replace("~", "_")


free = texts.map(safe)
paths = st.sampled_from(PATHS) | free
words = st.one_of(
    free.map(lambda text: [text]),
    st.sampled_from([[option] for option in OPTIONS]),
    paths.map(lambda path: ["--database", path]),
    paths.map(lambda path: ["--migrations", path]),
    st.sampled_from(SECONDS).map(lambda text: ["--timeout", text]),
    st.sampled_from(SECONDS).map(lambda text: ["--wait", text]),
    (st.sampled_from(CONNECTS) | st.builds("{}:{}".format, free, free)).map(lambda text: ["--connect", text]),
    free.map(lambda text: ["-m", text]),
)
WORDS = (
    *("upgrade", "downgrade", "current", "history", "status", "heads", "stamp", "create", "revision"),
    *("check", "verify", "restore", "help", "upgarde"),
)
lines = st.builds(
    lambda command, more: [*command, *(word for words in more for word in words)],
    st.sampled_from(WORDS).map(lambda word: [word]) | free.map(lambda text: [text]) | st.just([]),
    st.lists(words, max_size=3),
)


@MANY
@given(lines)
@example(["upgrade", "-x\x1b[2J"])
@example(["--\ud800", "--json"])
@example(["--a\nb"])
@example(["verify", "--connect", "builtins:str"])
@example(["check", "--connect", "builtins:print"])
@example(["upgrade", "--" + "x" * 30_000])
@example(["upgrade", "--timeout", "x" * 30_000])
def test_words_that_nobody_types(words: list[str]) -> None:
    with staged():
        laid(pictures()[0])
        said = in_process(*words)
        assert said.code in (0, 1, 2)
        if "builtins:print" in words:  # which says itself what it is given
            return
        if "--sql" not in words or said.code:
            shown(said.out)
        shown(said.err)
        if said.out and "--json" in words and "--" not in words and said.out[:1] == "{":
            json.loads(said.out, parse_constant=refused_constant)


CALLS: dict[str, Callable[[Any], object]] = {
    "migrate": lambda text: migrate(text, "migrations", timeout=0),
    "migrate to": lambda text: migrate("app.db", "migrations", target=text),
    "migrate with": lambda text: migrate("app.db", text),
    "downgrade to": lambda text: downgrade("app.db", "migrations", target=text),
    "downgrade": lambda text: downgrade(text, "migrations", timeout=0),
    "stamp": lambda text: stamp(text, "app.db", "migrations"),
    "current": lambda text: current(text, "migrations"),
    "current with": lambda text: current("app.db", text),
    "history": lambda text: history(text, "migrations"),
    "history with": lambda text: history("app.db", text),
    "check": lambda text: check(text, "migrations"),
    "check with": lambda text: check("app.db", text),
    "create": lambda text: create(text, "migrations"),
    "create in": lambda text: create("x", text),
    "verify": lambda text: verify(text),
    "schema": lambda text: schema(text),
    "schema at": lambda text: schema("migrations", target=text),
    "restore": lambda text: restore(text, "app.db", "migrations"),
    "restore to": lambda text: restore("other.db", text, "migrations"),
    "backups": lambda text: backups(text),
}


@MANY
@given(st.sampled_from(sorted(CALLS)), paths)
@example("create in", "\ud800")
@example("create in", "x\0y")
@example("create in", "x/" * 3000)
@example("create in", "x/" * 900)  # deeper than Python calls, not deeper than rmtree opens
@example("restore to", "\ud800.db")
def test_texts_that_nobody_passes(call: str, text: str) -> None:
    with staged():
        laid(pictures()[0])
        Path("other.db").write_bytes(Path("app.db").read_bytes())
        tried(lambda: CALLS[call](text))


# --- (f) where the splitter and SQLite part

# Text; what is made of it here, each statement or the refusal; whether sqlite3_complete takes it for whole; and
# what executescript leaves: the names of the tables, or None where it stops.
PARTED = {
    "a comment that is open at the end": (
        "CREATE TABLE a (b); /* open",
        "this comment is never closed",
        (False, ["a"]),
    ),
    "a parameter, which is NULL to a script": (
        "CREATE TABLE a (b); INSERT INTO a VALUES (?);",
        ["CREATE TABLE a (b)", "INSERT INTO a VALUES (?)"],
        (True, ["a"]),
    ),
    "a vertical tab, which is a statement that fails": (
        "CREATE TABLE a (b);\x0b",
        ["CREATE TABLE a (b)", "\x0b"],
        (False, None),
    ),
    "the end of a file of old, likewise": (
        "CREATE TABLE a (b);\x1a",
        ["CREATE TABLE a (b)", "\x1a"],
        (False, None),
    ),
}


@pytest.mark.parametrize(("text", "ours", "theirs"), PARTED.values(), ids=PARTED)
def test_the_splitter_parts_from_sqlite_here_and_nowhere_else(
    text: str, ours: list[str] | str, theirs: tuple[bool, list[str] | None]
) -> None:
    assert split(text) == ours
    assert (sqlite3.complete_statement(text), left_by_script(text)) == theirs


def split(text: str) -> list[str] | str:
    try:
        return list(script_statements(parse("m/0001.sql", text.encode(), "up")))
    except MigrationError as error:
        return str(error).removeprefix("m/0001.sql:1: ")


def left_by_script(text: str) -> list[str] | None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        try:
            connection.executescript(text)
        except sqlite3.Error:
            return None
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]


@pytest.mark.parametrize("parameter", ["?", ":a", "@a", "$a"])
def test_a_parameter_fails_in_a_migration(parameter: str) -> None:
    with staged():
        write(Path("migrations"), "0004_four", f"CREATE TABLE t (a);\nINSERT INTO t VALUES ({parameter});")
        said = in_process("upgrade")
        assert said.code == 1
        assert said.err.splitlines()[-1].startswith("error: migrations/0004_four.up.sql:2: ")
        shown(said.err)
