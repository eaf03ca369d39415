"""Many INSERTs are run as few statements, and nobody can tell: each alone, by `execute`, leaves the same."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import write

from vmpilot.migrate import MigrationError, StepError, migrate
from vmpilot.migrate.database.connection import Session, words
from vmpilot.migrate.database.opening import scratch
from vmpilot.migrate.files.script import Script, parse, statements
from vmpilot.migrate.run.play import failure, play, transaction

FILE = "0001_load.up.sql"


def script(*texts: str, kept: bool = False) -> Script:
    return parse(FILE, ";\n".join(texts).encode(), "up")._replace(kept=kept)


def loads(
    count: int, form: str = "INSERT INTO t VALUES ({0}, 'row {0}; it''s')", start: int = 1
) -> list[str]:
    return [form.format(number) for number in range(start, start + count)]


@contextmanager
def traced(session: Session) -> Iterator[list[str]]:
    """List the statements that SQLite runs."""
    found: list[str] = []
    session.connection.set_trace_callback(found.append)
    try:
        yield found
    finally:
        session.connection.set_trace_callback(None)


def inserts(*texts: str, table: str = "CREATE TABLE t (a, b)") -> list[str]:
    """Return the INSERTs that SQLite runs for a script."""
    with scratch() as session:
        session.run(table)
        asked = script(*texts)
        with traced(session) as found, transaction(session, asked):
            play(session, asked)
        return [sql for sql in found if sql.lower().startswith("insert")]


# --- nobody can tell


class Outcome(NamedTuple):
    """All that can be seen behind a script: its error, what it has left, and what SQLite says of it."""

    error: str
    is_open: bool
    left: list[object]


def one_by_one(session: Session, asked: Script) -> None:
    for index, text in enumerate(statements(asked)):
        try:
            session.connection.cursor().execute(text).fetchall()
        except sqlite3.Error as error:
            raise failure(asked, index, words(error)) from error


def outcome(run: object, prepared: list[str], asked: Script) -> Outcome:
    assert callable(run)
    with scratch() as session:
        for sql in prepared:
            session.run(sql)
        session.run("BEGIN")
        error = ""
        try:
            run(session, asked)
        except StepError as found:
            error = str(found)
        is_open = session.connection.in_transaction
        session.run("PRAGMA reverse_unordered_selects = OFF")
        left: list[object] = list(session.rows("SELECT last_insert_rowid(), total_changes()"))
        if not error:  # behind one nobody asks
            left += session.rows("SELECT changes()")
        tables = session.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
        for (table,) in tables:
            columns = [row[1] for row in session.rows(f"PRAGMA table_xinfo({table})")]
            shown = ", ".join(f"typeof({column}), quote({column})" for column in columns)
            for place in ("rowid, ", ""):
                with suppress(sqlite3.Error):  # what has no rowid
                    left.append((table, place, session.rows(f"SELECT {place}{shown} FROM {table}")))
        return Outcome(error, is_open, left)


TABLES = (
    "CREATE TABLE t (a INTEGER PRIMARY KEY, b, c DEFAULT 7)",
    "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b NOT NULL, c DEFAULT (last_insert_rowid()))",
    "CREATE TABLE t (a, b TEXT, c REAL DEFAULT (changes()))",
    "CREATE TABLE t (a INT, b ANY, c TEXT DEFAULT 'x') STRICT",
    "CREATE TABLE t (a INTEGER, b, c, PRIMARY KEY (b, a)) WITHOUT ROWID",
    "CREATE TABLE t (a INT PRIMARY KEY, b BLOB, c INTEGER) STRICT, WITHOUT ROWID",
    "CREATE TABLE t (a, b, c NUMERIC DEFAULT (total_changes()), CHECK (a <> 70), UNIQUE (a, b))",
    "CREATE TABLE t (a UNIQUE ON CONFLICT IGNORE, b NOT NULL ON CONFLICT REPLACE DEFAULT 3, c)",
    "CREATE TABLE t (a UNIQUE ON CONFLICT FAIL, b, c)",
    "CREATE TABLE t (a UNIQUE ON CONFLICT ROLLBACK, b, c)",
    "CREATE TABLE t (a PRIMARY KEY ON CONFLICT REPLACE, b, c DEFAULT (max(1, 2)))",
    "CREATE TABLE t (a, b, c, d AS (abs(a)) STORED, e AS (b || c) UNIQUE)",
    "CREATE TABLE t (a INTEGER REFERENCES t (b), b INTEGER UNIQUE, c)",
    "CREATE VIEW t AS SELECT id AS a, old AS b, new AS c FROM log",
    "CREATE VIRTUAL TABLE t USING rtree_i32 (a, b, c)",
)
BESIDE = (
    "CREATE TRIGGER after_t AFTER INSERT ON t BEGIN INSERT INTO log (old, new) VALUES (new.a, changes()); END",
    "CREATE TRIGGER before_t BEFORE INSERT ON T WHEN new.a > 40 BEGIN DELETE FROM t WHERE a = new.a - 1; END",
    "CREATE TRIGGER for_t INSTEAD OF INSERT ON t BEGIN INSERT INTO log (old) VALUES (new.b); END",
    "CREATE INDEX t_a ON t (a DESC)",
    "CREATE UNIQUE INDEX t_b ON t (abs(b)) WHERE a > 3",
    "CREATE INDEX t_c ON t (c, b)",
    "INSERT INTO t (a, b) VALUES (45, 'there')",
    "INSERT INTO sqlite_sequence VALUES ('t', 9223372036854775740)",  # none is left soon
)
FORMS = (
    "INSERT INTO t VALUES ({0}, {1}, {2})",
    "insert into main.t (a,b) values({0},{1})",
    'INSERT INTO "T" ([b], `a`) VALUES\n\t( {1} , {0} )',
    "INSERT INTO t (b) VALUES ({1}),({2})",
    "INSERT INTO T (c, rowid) VALUES ({1}, {0})",
    "INSERT INTO log (old, new) VALUES ({1}, {2})",
)
LITERALS = (
    *("NULL", "1", "-1.50", "1e999", "-0.0", ".5", "5.", "9223372036854775807", "-9223372036854775808"),
    *(
        "9223372036854775808",
        "- 7",
        "x'00ff'",
        "X''",
        "''",
        "'it''s'",
        "'); DROP TABLE t; --'",
        "'7'",
        "1 - 2",
    ),
    *("';\nINSERT INTO t VALUES ('", "'),(9, 9, 9'", "'-- '", "'\u00e4 \u20ac'", "''", "null", "'/*'", "1e2"),
)
ODD = (
    *("abs(-9223372036854775808)", "CURRENT_DATE", "1 IN t", "(1)", '"a"', "x'0'", "nul", "1 -- 2\n", "1, 2"),
    *(
        "",
        "changes()",
        "last_insert_rowid()",
        "(SELECT count(*) FROM t)",
        "/* 1 */ 2",
        "0x1F",
        "random() * 0",
    ),
    *LITERALS,
)
KEYS = ("3", "'x'", "70", "NULL", "1 IN t", "-1")
AMONG = (
    "CREATE INDEX among ON t (b)",
    "CREATE TRIGGER among_t AFTER INSERT ON t BEGIN UPDATE log SET new = changes(); END",
    "DROP TABLE t",
    "CREATE TEMP TABLE t (a, b, c)",
    "CREATE TEMP TRIGGER other AFTER INSERT ON main.t BEGIN DELETE FROM log; END",
    "INSERT INTO log (old, new) SELECT changes(), last_insert_rowid()",
    "UPDATE t SET b = b",
    "DELETE FROM t WHERE a % 2",
    "PRAGMA reverse_unordered_selects = ON",
    "PRAGMA ignore_check_constraints = ON",
    "PRAGMA count_changes = ON",
    "INSERT OR REPLACE INTO t (a, b) VALUES (3, 4)",
    "INSERT INTO t (a, b) VALUES (3, 4) RETURNING a",
    "ALTER TABLE t RENAME TO u",
    "ALTER TABLE t ADD COLUMN f",
    "nonsense",
)


@st.composite
def loading(draw: st.DrawFn) -> list[str]:
    """Draw a script of runs of INSERTs with other statements and odd values here and there."""
    drawn, number = list[str](), 0
    for _ in range(draw(st.integers(1, 3))):
        form = draw(st.sampled_from(FORMS))
        first, second = (draw(st.lists(st.sampled_from(LITERALS), min_size=1, max_size=4)) for _ in "ab")
        for _ in range(draw(st.integers(30, 80))):
            number += 1
            drawn.append(form.format(number, first[number % len(first)], second[number % len(second)]))
        drawn += draw(st.lists(st.sampled_from(AMONG), max_size=1))
    for odd in draw(st.lists(st.sampled_from(ODD), max_size=2)):
        place = draw(st.integers(0, len(drawn) - 1) | st.sampled_from((31, 32, 62, 63, 64, 65, -1))) % len(
            drawn
        )
        drawn[place] = draw(st.sampled_from(FORMS)).format(draw(st.sampled_from(KEYS)), odd, odd)
    return drawn


@given(st.sampled_from(TABLES), st.lists(st.sampled_from(BESIDE), max_size=2, unique=True), loading())
def test_rows_that_come_together_are_as_if_each_came_alone(
    table: str, beside: list[str], texts: list[str]
) -> None:
    prepared = ["CREATE TABLE log (id INTEGER PRIMARY KEY, old, new)", table]
    with scratch() as session:  # what does not go with the table is left out
        for sql in (*prepared, *beside):
            with suppress(sqlite3.Error):
                session.run(sql)
                prepared += [sql] * (sql in beside)
    try:
        asked = script(*texts)
    except MigrationError:  # what is drawn is never closed
        return
    alone, played = (outcome(run, prepared, asked) for run in (one_by_one, play))
    if "temp" in asked.words:  # which a script leaves to nobody
        assert played.error == alone.error
    else:
        assert played == alone


def test_what_a_strict_table_refuses_leaves_no_row_twice() -> None:
    texts = loads(40, "INSERT INTO t VALUES ({0})")
    texts[20] = "INSERT INTO t VALUES ('x')"
    prepared = ["CREATE TABLE t (a INT) STRICT"]
    assert outcome(play, prepared, script(*texts)) == outcome(one_by_one, prepared, script(*texts))


@pytest.mark.parametrize("count", [63, 64, 70, 127, 128, 130])
def test_an_insert_behind_the_others_is_told_of_the_last_of_them_alone(count: int) -> None:
    asked = script(*loads(count), "INSERT INTO t VALUES (last_insert_rowid(), changes())")
    played = outcome(play, prepared := ["CREATE TABLE t (a, b)"], asked)
    assert played == outcome(one_by_one, prepared, asked)


def test_the_statement_that_fails_among_many_is_named(migrations: Path, database: Path) -> None:
    texts = ["CREATE TABLE t (a, b)", *loads(60), "INSERT INTO t VALUES (1)", *loads(9)]
    write(migrations, "0001_load", ";\n".join(texts))
    words = "table t has 2 columns but 1 values were supplied"
    fate = f"rolled back, {database} is still at base"
    with pytest.raises(StepError) as raised:
        migrate(database, migrations)
    assert str(raised.value) == f"{migrations}/0001_load.up.sql:62: {words}; {fate}"
    assert raised.value.statement == texts[61]


# --- what is joined, and what never


FORMS_OF_LOADS = (
    "INSERT INTO t VALUES ({0}, 'row {0}; it''s')",
    "insert\tinto main.t(b,a)values({0},-1.5e-3)",
    "INSERT INTO [t] (\"a\", `b`) VALUES (x'00', NULL)",
    "INSERT /* one; 'more */ INTO 't' VALUES\n(\n{0} , 1 - 2\n)",
    "INSERT INTO t VALUES ('\n;\nINSERT INTO t VALUES (', '),(0,1') ",
    "INSERT INTO t VALUES ({0}, 1), ({0}, '--'), ({0}, '\u20ac')",
    "-- Row {0}: it's\nINSERT INTO t VALUES ({0}, '/*')",
)


@pytest.mark.parametrize("form", FORMS_OF_LOADS)
def test_many_inserts_are_few_statements_and_the_last_of_them_is_one_by_itself(form: str) -> None:
    texts = loads(200, form)
    ran = inserts(*texts)
    last = [next(statements(script(texts[index]))) for index in (63, 127, 191)]
    assert len(ran) == 6 + 200 - 192 and ran[1:6:2] == last
    assert all(joined.count(",(") >= 62 for joined in ran[0:6:2])


APART = (
    "INSERT OR REPLACE INTO t VALUES ({0}, 1)",
    "INSERT OR ROLLBACK INTO t VALUES ({0}, 1)",
    "REPLACE INTO t VALUES ({0}, 1)",
    "WITH n AS (SELECT 1) INSERT INTO t VALUES ({0}, 1)",
    "INSERT INTO t SELECT {0}, 1",
    "INSERT INTO t DEFAULT VALUES",
    "INSERT INTO t AS u VALUES ({0}, 1)",
    "INSERT INTO t VALUES ({0}, 1) RETURNING a",
    "INSERT INTO t VALUES ({0}, 1) ON CONFLICT DO NOTHING",
    "INSERT INTO t VALUES ({0}, 1 IN (1))",
    "INSERT INTO t VALUES ({0}, CURRENT_TIMESTAMP)",
    "INSERT INTO t VALUES ({0}, changes())",
    "INSERT INTO t VALUES ({0}, (SELECT count(*) FROM t))",
    "INSERT INTO t VALUES ({0}, (1))",
    'INSERT INTO t VALUES ({0}, "it")',
    "INSERT INTO t VALUES ({0}, 1 /* one */)",
    "INSERT INTO t VALUES ({0}, 1 -- 1\n)",
    "INSERT INTO t VALUES ({0}, TRUE)",
    "INSERT INTO t VALUES ({0}, '{{}}' ->> '$')",
    "INSERT INTO t{0} VALUES (1, 1)",
    "INSERT INTO sqlite_sequence VALUES ('t', {0})",
    "INSERT INTO shown VALUES ({0}, 1)",
    "INSERT INTO fired VALUES ({0}, 1)",
    "INSERT INTO strange VALUES ({0}, 1)",
    "INSERT INTO told VALUES ({0}, 1)",
    "INSERT INTO sorted VALUES ({0}, 1)",
    "INSERT INTO found VALUES ({0}, 1)",
)
OF_OTHER_KINDS = (
    *(f"CREATE TABLE t{number} (a, b)" for number in range(1, 100)),
    "CREATE TABLE numbered (a INTEGER PRIMARY KEY AUTOINCREMENT)",
    "CREATE VIEW shown AS SELECT * FROM t",
    "CREATE TRIGGER for_shown INSTEAD OF INSERT ON shown BEGIN SELECT 1; END",
    "CREATE TABLE fired (a, b)",
    "CREATE TRIGGER by_fired AFTER INSERT ON Fired BEGIN INSERT INTO t VALUES (new.a, 2); END",
    "CREATE TABLE strange (a UNIQUE On  Conflict FAIL, b)",
    "CREATE TABLE told (a, b DEFAULT (Changes()))",
    "CREATE TABLE sorted (a, b)",
    "CREATE INDEX sorted_a ON sorted (a)",
    "CREATE INDEX sorted_b ON sorted (b)",
    "CREATE VIRTUAL TABLE found USING fts5 (a, b)",
)


@pytest.mark.parametrize("form", APART)
def test_what_one_statement_could_do_otherwise_is_run_as_it_is_written(form: str) -> None:
    with scratch() as session:
        for sql in ("CREATE TABLE t (a, b)", *OF_OTHER_KINDS):
            session.run(sql)
        asked = script(*loads(90, form))
        with traced(session) as found, transaction(session, asked):
            play(session, asked)
    known = list(statements(asked))
    ran = [sql for sql in found if sql in known]
    if "shown" in form or "fired" in form:  # a trigger is told of with the statement that fires it
        ran = list(dict.fromkeys(ran))
    assert ran == known and not any(sql.startswith("SAVEPOINT") for sql in found)


@pytest.mark.parametrize(
    "texts",
    [
        ("-- vmpilot: no-transaction\nSELECT 1",),
        ("-- vmpilot: foreign-keys-on cascades\nSELECT 1",),
        ("CREATE TEMP TABLE t (a, b)",),
        ("PRAGMA writable_schema = ON", "PRAGMA writable_schema = OFF"),
        ("PRAGMA journal_mode = memory",),
    ],
)
def test_where_a_name_or_a_rollback_can_mean_something_else_nothing_is_joined(texts: tuple[str, ...]) -> None:
    assert inserts(*texts, *loads(90)) == loads(90)


def test_a_script_that_a_database_kept_is_run_as_it_is_written() -> None:
    with scratch() as session:
        session.run("CREATE TABLE t (a, b)")
        with traced(session) as found, transaction(session, script()):
            play(session, script(*loads(90), kept=True))
    assert [sql for sql in found if sql.startswith("INSERT")] == loads(90)


def test_a_table_is_asked_for_again_when_another_statement_has_run() -> None:
    trigger = "CREATE TRIGGER by_t AFTER INSERT ON t BEGIN SELECT 1; END"
    assert len(set(inserts(*loads(64), trigger, *loads(190, start=65)))) == 2 + 190
    assert len(inserts(*loads(64), "SELECT 1", *loads(190))) == 2 + 31 + 2 + 2 + 2


def test_a_large_schema_is_looked_through_for_many_rows_only() -> None:
    with scratch() as session:
        for number in range(1025):
            session.run(f"CREATE TABLE t{number} (a, b)")
        for count, asked in ((63, 0), (64, 1)):
            load = script(*loads(count, "INSERT INTO t7 VALUES ({0}, 1)"), *["SELECT 1"] * 64)
            with traced(session) as found, transaction(session, load):
                play(session, load)
            assert [sql.startswith("SELECT count(*) <= 2") for sql in found].count(True) == asked


def test_what_is_joined_is_bounded() -> None:
    ran = inserts(*loads(128, "INSERT INTO t VALUES ({0}, '" + "x" * 1500 + "')"))
    assert max(map(len, ran)) < 1 << 16
    assert len(inserts(*loads(128, "INSERT INTO t VALUES ({0}, '" + "x" * 3000 + "')"))) == 128


# --- errors that end more than a statement


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE t (a, b)",
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b)",
        "CREATE TABLE t (a PRIMARY KEY, b) WITHOUT ROWID",
        "CREATE TABLE t (a REAL, b TEXT) STRICT",
    ],
)
@pytest.mark.parametrize("form", ["({0}, '{1}')", "({0}, '{1}'), (-{0}, '),('), (1e9 + {0}, '{1}')"])
def test_a_full_disk_says_so_where_it_was_and_nothing_is_run_behind_it(table: str, form: str) -> None:
    texts = loads(320, "INSERT INTO t VALUES " + form.format("{0}", "x" * 200))
    told = set[str]()
    for pages in range(2, 18):
        prepared, asked = [table, f"PRAGMA max_page_count = {pages}"], script(*texts)
        alone, played = (outcome(run, prepared, asked) for run in (one_by_one, play))
        assert (played.error, played.is_open) == (alone.error, alone.is_open)
        assert played.left[1:] == alone.left[1:]
        told.add(played.error)
    assert len(told) > 12


SLOW = f"CREATE TABLE t (a, b, CHECK ({' AND '.join(f'a <> -{number}' for number in range(500))}))"


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), sqlite3.OperationalError("of the caller")])
def test_an_interrupt_comes_out_at_once(stop: BaseException) -> None:
    def tick(done: int) -> None:
        if done == 64 and found[-1].count("(") > 2:
            raise stop

    texts = loads(640)
    with scratch() as session:
        session.run(SLOW)
        session.run("BEGIN")
        with traced(session) as found, pytest.raises(type(stop)) as raised:
            play(session, script(*texts), tick=tick)
    assert raised.value is stop
    assert [sql.count("(") > 2 for sql in found if sql.startswith("INSERT")] == [True, False, True]
