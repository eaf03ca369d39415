"""What a run keeps of the schema from step to step is what is there, and costs no look at what a step cannot touch."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpilot.migrate import StepError
from vmpilot.migrate.database.connection import Session
from vmpilot.migrate.database.opening import SQLITE3, scratch
from vmpilot.migrate.files.script import parse
from vmpilot.migrate.run import catalog
from vmpilot.migrate.run.play import play

SCHEMA = (
    "CREATE TABLE a (id INTEGER PRIMARY KEY, x, n)",
    "CREATE TABLE b (id INTEGER PRIMARY KEY, x REFERENCES A, n)",
    "CREATE VIEW seen AS SELECT * FROM a, b",
    "CREATE TRIGGER fired AFTER INSERT ON a BEGIN DELETE FROM b; END",
)
# `{0}` and `{1}` are tables or views, `{2}` is a trigger or an index.
STATEMENTS = (
    "CREATE TABLE {0} (id INTEGER PRIMARY KEY, x REFERENCES {1}, n)",
    "create table main.{0} (x, n, FOREIGN KEY (x, n) REFERENCES {1} (id, n))",
    "CREATE TABLE IF NOT EXISTS {0} (id INTEGER PRIMARY KEY, x REFERENCES {1}, n)",
    "CREATE TABLE {0} (x REFERENCES {1}, n REFERENCES {0}) WITHOUT ROWID",
    "CREATE TABLE {0} (id INTEGER PRIMARY KEY AUTOINCREMENT, x REFERENCES sqlite_sequence, n)",
    "CREATE TABLE {0} (x REFERENCES sqlite_schema, n)",
    "CREATE TABLE {0} (x UNIQUE ON CONFLICT REPLACE, n)",
    "CREATE TABLE {0} AS SELECT 1 AS x, 2 AS n",
    "CREATE TABLE if (x REFERENCES {0})",
    "ALTER TABLE if ADD COLUMN y REFERENCES {0}",
    "ALTER TABLE {0} ADD COLUMN y REFERENCES {1}",
    "ALTER TABLE {0} ADD z NOT NULL ON CONFLICT REPLACE DEFAULT 1",
    "ALTER TABLE {0} DROP COLUMN x",
    "ALTER TABLE {0} DROP COLUMN y",
    "ALTER TABLE {0} RENAME TO {1}",
    "ALTER TABLE {0} RENAME COLUMN x TO w",
    "DROP TABLE {0}",
    "DROP TABLE IF EXISTS {0}",
    "DROP TABLE {0}; CREATE TABLE {0} (x REFERENCES {1}, n)",
    "DROP TABLE IF EXISTS {0}; CREATE VIEW {0} AS SELECT x, n FROM {1}",
    "CREATE VIEW IF NOT EXISTS {0} AS SELECT * FROM {1}",
    "CREATE VIEW {0} AS SELECT * FROM {1}",
    "DROP VIEW IF EXISTS {0}",
    "CREATE TRIGGER {2} AFTER INSERT ON {0} BEGIN DELETE FROM {1}; END",
    "CREATE TRIGGER IF NOT EXISTS {2} AFTER DELETE ON {0} BEGIN UPDATE {1} SET n = 'alembic_version'; END",
    "CREATE TRIGGER {2} INSTEAD OF INSERT ON {0} BEGIN SELECT 1; END",
    "DROP TRIGGER IF EXISTS {2}",
    "CREATE INDEX IF NOT EXISTS {2} ON {0} (n)",
    "DROP INDEX IF EXISTS {2}",
    "CREATE TEMP TABLE {0} (x REFERENCES {1})",
    "CREATE TABLE temp.{0} (x); DROP TABLE {0}",
    "CREATE VIRTUAL TABLE {0} USING fts5 (x, n)",
    "INSERT INTO {0} (n) VALUES (1)",
    "ANALYZE",
    "SELECT makes('{0}')",
    "PRAGMA schema_version = 7",
)
NAMES = st.sampled_from(["a", "A", "b", "[b]", "'C'", '"c"', "`Order`", "seen", "a_content"])
OTHERS = st.sampled_from(["fired", "FIRED", "two"])


@st.composite
def scripts(draw: st.DrawFn) -> str:
    texts = draw(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=3))
    return ";\n".join(text.format(draw(NAMES), draw(NAMES), draw(OTHERS)) for text in texts)


def application(path: str) -> sqlite3.Connection:
    """Open a database like an application that has a function which makes a table."""
    connection = sqlite3.connect(path, isolation_level=None)

    def makes(name: str) -> None:
        with suppress(sqlite3.Error):
            connection.execute(f"CREATE TABLE {name} (x REFERENCES elsewhere)")

    connection.create_function("makes", 1, makes)
    return connection


def begun(session: Session) -> catalog.Catalog:
    for sql in SCHEMA:
        session.run(sql)
    session.run("BEGIN")
    return catalog.read(session)


def told(kept: catalog.Catalog) -> tuple[object, ...]:
    """Return what a catalog tells: its index of names can also have what is no more."""
    mentions = {name: {*catalog.mentioning(kept, name)} for name in kept.mentions}
    return *kept[:-1], {name: found for name, found in mentions.items() if found}


def stepped(session: Session, text: str, before: catalog.Catalog, *, stays: bool) -> catalog.Catalog:
    """Run a script like a step, and return what is kept after it; one that fails, or may not stay, is undone."""
    script = parse("0002_step.up.sql", text.encode(), "up")
    session.run("SAVEPOINT step")
    try:
        play(session, script)
    except StepError:
        after, stays = before, False
    else:
        after = catalog.read_after(session, script, before)
        assert told(after) == told(catalog.read(session)), text
    if not stays:
        session.run("ROLLBACK TO step")
    session.run("RELEASE step")
    return after if stays else before


SERIES = {
    "a table has another name": ["ALTER TABLE a RENAME TO c", "ALTER TABLE C RENAME TO a"],
    "a table has another name that nothing mentions": [
        "CREATE TABLE new (x REFERENCES New, n REFERENCES c)",
        "CREATE INDEX by_x ON NEW (x);"
        "ALTER TABLE new RENAME TO newer; ALTER TABLE newer RENAME COLUMN x TO y",
        "ALTER TABLE NEWER RENAME TO Newest; CREATE VIEW v AS SELECT * FROM newest",
        "ALTER TABLE newest RENAME TO c",
        "ALTER TABLE c RENAME n TO m; DROP INDEX by_x",
    ],
    "a table has another name that only a key names": [
        "DROP VIEW seen; DROP TRIGGER fired",
        "ALTER TABLE a RENAME TO c",
    ],
    "a table is rebuilt": [
        "DROP VIEW seen; DROP TRIGGER fired",
        "CREATE TABLE new (id INTEGER PRIMARY KEY, x REFERENCES b, n UNIQUE ON CONFLICT REPLACE);"
        "INSERT INTO new SELECT * FROM b; DROP TABLE b; ALTER TABLE new RENAME TO b; CREATE INDEX i ON b (x)",
        "CREATE TABLE new (id INTEGER PRIMARY KEY, x, n); DROP TABLE b; ALTER TABLE new RENAME TO B",
    ],
    "a column has another name": ["ALTER TABLE b RENAME COLUMN x TO up", "DROP TABLE b"],
    "a table goes with its index and comes back": [
        "CREATE INDEX by_n ON b (n)",
        "DROP TABLE b",
        "CREATE TABLE b (n REFERENCES a); CREATE UNIQUE INDEX BY_N ON B (n)",
        "DROP INDEX by_n; CREATE INDEX by_n ON a (n)",
    ],
    "a table refers to another one than before": [
        "CREATE TABLE c (x REFERENCES a, n REFERENCES missing)",
        "DROP TABLE c; CREATE TABLE C (n REFERENCES c, x REFERENCES b); DROP TABLE IF EXISTS nowhere",
        "DROP TABLE b; CREATE TABLE missing (a)",
        "CREATE VIEW b AS SELECT 1; DROP VIEW b; CREATE VIEW b AS SELECT 2",
    ],
    "one statement makes up for another": [
        "DROP INDEX IF EXISTS nowhere; ANALYZE",
        "DROP TABLE sqlite_stat1",
    ],
    "a module keeps tables of its own": [
        "CREATE VIRTUAL TABLE r USING rtree (id, low, high); CREATE TABLE c (x REFERENCES r_node)",
        "DROP TABLE r",
    ],
    "a trigger is made and goes with its table": [
        "CREATE TRIGGER two AFTER INSERT ON B BEGIN SELECT 1; END; CREATE VIEW two AS SELECT 1",
        "CREATE TRIGGER three AFTER INSERT ON b BEGIN SELECT 2; END; DROP TRIGGER Two",
        "DROP TABLE b",
    ],
    "a trigger is made and moves with its table": [
        "CREATE TABLE c (x); CREATE TRIGGER two AFTER INSERT ON c BEGIN DELETE FROM a; END;"
        "ALTER TABLE c RENAME TO d; CREATE TABLE c (x); DROP TABLE c",
        "CREATE TRIGGER three AFTER INSERT ON d BEGIN SELECT 1; END; ALTER TABLE d RENAME TO c;"
        "CREATE TABLE d (x); DROP TABLE c",
    ],
    "a table numbers its rows": [
        "CREATE TABLE c (id INTEGER PRIMARY KEY AUTOINCREMENT, x REFERENCES sqlite_sequence)",
        "CREATE TABLE d (id INTEGER PRIMARY KEY AUTOINCREMENT, x REFERENCES sqlite_sequence)",
    ],
    "nothing is left": [
        "DROP VIEW seen; DROP TABLE b; DROP TABLE a",
        "CREATE VIEW v AS SELECT 1",
    ],
}


@pytest.mark.parametrize("name", SERIES)
def test_what_is_kept_in_a_series_of_steps(name: str) -> None:
    with scratch() as session:
        kept = begun(session)
        for text in SERIES[name]:
            after = stepped(session, text, kept, stays=True)
            assert after != kept, text
            kept = after


@pytest.mark.parametrize("connect", [SQLITE3, application], ids=["ours", "the application's"])
@given(steps=st.lists(st.tuples(scripts(), st.booleans()), max_size=8))
def test_what_is_kept_after_each_step_is_what_is_there(
    connect: Callable[[str], sqlite3.Connection], steps: list[tuple[str, bool]]
) -> None:
    with scratch(connect=connect) as session:
        kept = begun(session)
        for text, stays in steps:
            kept = stepped(session, text, kept, stays=stays)
            assert told(kept) == told(catalog.read(session)), text
