"""Proves what `verify`, rehearsals and `check` see: every fact of a schema, no text layout, every lost row.

All on real databases in memory; every line is compared as a whole.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpilot.migrate.database import contents as rows
from vmpilot.migrate.database import structure as schema
from vmpilot.migrate.database.connection import Session
from vmpilot.migrate.database.contents import Contents
from vmpilot.migrate.database.meaning import default
from vmpilot.migrate.database.settled import TABLES as RUNNERS
from vmpilot.migrate.database.structure import Schema
from vmpilot.migrate.tokens import tokens as tokens_of


@contextmanager
def built(*statements: str, at: Path | str = ":memory:") -> Iterator[Session]:
    """Open a database in which these statements have run."""
    with closing(sqlite3.connect(at, isolation_level=None)) as connection:
        session = Session(connection, connection.cursor(), str(at), 0.0)
        for statement in statements:
            session.run(statement)
        yield session


def seen(*statements: str) -> Schema:
    with built(*statements) as session:
        return schema.snapshot(session)


def differ(before: str | tuple[str, ...], after: str | tuple[str, ...]) -> tuple[str, ...]:
    old, new = ((part,) if isinstance(part, str) else part for part in (before, after))
    return schema.difference(seen(*old), seen(*new))


def same(*variants: str | tuple[str, ...]) -> None:
    """Expect one schema, by every way to compare two."""
    first, *others = (seen(*((variant,) if isinstance(variant, str) else variant)) for variant in variants)
    assert first
    for other in others:
        assert schema.difference(first, other) == ()
        assert other == first
        assert hash(other) == hash(first)
        assert {fact.key for fact in other} == {fact.key for fact in first}


# --- what is seen

EVERYTHING = (
    "CREATE TABLE chats (chat_id TEXT PRIMARY KEY, title TEXT NOT NULL DEFAULT 'it''s new' COLLATE NOCASE)",
    """CREATE TABLE exchanges (
        exchange_id INTEGER PRIMARY KEY AUTOINCREMENT,
        chat_id TEXT NOT NULL REFERENCES chats ON DELETE CASCADE ON UPDATE SET NULL,
        twin TEXT CHECK (twin <> chat_id) REFERENCES chats (chat_id) DEFERRABLE INITIALLY DEFERRED,
        cost VARCHAR (10), cents INT GENERATED ALWAYS AS (cost * 100) STORED, tenth AS (cost / 10),
        UNIQUE (chat_id, twin COLLATE NOCASE) ON CONFLICT REPLACE, CONSTRAINT named CHECK (cost > 0),
        FOREIGN KEY (chat_id, twin) REFERENCES pairs (one, other) NOT DEFERRABLE INITIALLY DEFERRED)""",
    """CREATE TABLE pairs (one INT, other ANY, PRIMARY KEY (one DESC, other COLLATE RTRIM))
        STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX by_cost ON exchanges (cost DESC, chat_id ASC, (cost+1)) WHERE cost IS NOT NULL",
    "CREATE VIEW totals AS SELECT chat_id, sum(cost) FROM exchanges GROUP BY 1",
    "CREATE TRIGGER keep BEFORE DELETE ON chats BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER put INSTEAD OF INSERT ON totals BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE words USING fts5(word)",
)


def test_every_kind_of_object_is_seen() -> None:
    assert sorted((fact.kind, fact.table, fact.name, fact.text) for fact in seen(*EVERYTHING)) == [
        ("check", "exchanges", "", "(cost > 0)"),
        ("check", "exchanges", "", "(twin <> chat_id)"),
        ("column", "chats", "chat_id", "TEXT"),
        ("column", "chats", "title", "TEXT NOT NULL DEFAULT 'it''s new' COLLATE NOCASE"),
        ("column", "exchanges", "cents", "INT GENERATED ALWAYS AS (cost * 100) STORED"),
        ("column", "exchanges", "chat_id", "TEXT NOT NULL"),
        ("column", "exchanges", "cost", "VARCHAR (10)"),
        ("column", "exchanges", "exchange_id", "INTEGER"),
        ("column", "exchanges", "tenth", "GENERATED ALWAYS AS (cost / 10) VIRTUAL"),
        ("column", "exchanges", "twin", "TEXT"),
        ("column", "pairs", "one", "INT NOT NULL"),
        ("column", "pairs", "other", "ANY NOT NULL"),
        ("columns", "chats", "chats", "(chat_id, title)"),
        ("columns", "exchanges", "exchanges", "(exchange_id, chat_id, twin, cost, cents, tenth)"),
        ("columns", "pairs", "pairs", "(one, other)"),
        ("conflict clause", "exchanges", "", "UNIQUE (chat_id, twin COLLATE NOCASE) ON CONFLICT REPLACE"),
        ("foreign key", "exchanges", "", "(chat_id) -> chats on update set null on delete cascade"),
        ("foreign key", "exchanges", "", "(chat_id, twin) -> pairs (one, other)"),
        ("foreign key", "exchanges", "", "(twin) -> chats (chat_id) deferrable initially deferred"),
        ("index", "exchanges", "by_cost", "UNIQUE (cost DESC, chat_id, (cost+1)) WHERE cost IS NOT NULL"),
        ("table", "chats", "chats", "PRIMARY KEY (chat_id)"),
        ("table", "exchanges", "exchanges", "PRIMARY KEY (exchange_id) AUTOINCREMENT"),
        ("table", "pairs", "pairs", "PRIMARY KEY (one DESC, other COLLATE RTRIM) STRICT WITHOUT ROWID"),
        ("trigger", "chats", "keep", "BEFORE DELETE ON chats BEGIN SELECT RAISE(ABORT, 'no'); END"),
        ("trigger", "totals", "put", "INSTEAD OF INSERT ON totals BEGIN SELECT 1; END"),
        ("unique", "exchanges", "", "(chat_id, twin COLLATE NOCASE)"),
        ("view", "totals", "totals", "AS SELECT chat_id, sum(cost) FROM exchanges GROUP BY 1"),
        ("virtual table", "words", "words", "USING fts5(word)"),
    ]


def test_an_object_that_comes_or_goes_is_one_line() -> None:
    objects = [
        "table chats",
        "trigger keep on chats",
        "table exchanges",
        "index by_cost on exchanges UNIQUE (cost DESC, chat_id, (cost+1)) WHERE cost IS NOT NULL",
        "table pairs",
        "view totals",
        "trigger put on totals",
        "virtual table words",
    ]
    assert differ((), EVERYTHING) == tuple(f"+ {line}" for line in objects)
    assert differ(EVERYTHING, ()) == tuple(f"- {line}" for line in objects)


def test_what_sqlite_virtual_tables_and_the_migrator_keep_is_left_out() -> None:
    plain = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE REFERENCES p)"
    with built(
        plain, "CREATE VIRTUAL TABLE f USING fts5(a)", "CREATE VIRTUAL TABLE r USING rtree(id, a, b)"
    ) as session:
        session.run("INSERT INTO t (a) VALUES (1)")
        session.run("CREATE INDEX i ON t (a)")
        session.run("ANALYZE")
        before = schema.snapshot(session)
        assert sorted({fact.table for fact in before}) == ["f", "r", "t"]
        for table in RUNNERS.values():
            session.run(table)
        session.run("CREATE INDEX extra ON migration_log (name)")
        session.run("CREATE TEMP TABLE t (other REFERENCES q)")
        assert schema.snapshot(session) == before
        assert rows.counts(session, before) == {"f": 0, "r": 0, "t": 1}


def test_shadow_tables_are_known_without_what_sqlite_3_37_brought() -> None:
    def refuse(action: int, name: str | None, *_: str | None) -> int:
        return sqlite3.SQLITE_DENY if name == "table_list" else sqlite3.SQLITE_OK

    modules = ("rtree(id, a, b)", "fts5(a)", "fts4(a)", "fts3(a)")
    made = [f"CREATE VIRTUAL TABLE v{at} USING {module}" for at, module in enumerate(modules)]
    with built(*made) as session:
        session.connection.set_authorizer(refuse)
        assert {fact.table for fact in schema.snapshot(session)} == {"v0", "v1", "v2", "v3"}


def test_what_cannot_be_compiled_or_read_is_still_described(database: Path) -> None:
    with built(at=database) as session:
        session.connection.create_function("ours", 1, lambda value: value, deterministic=True)
        session.connection.create_collation("sorted", lambda a, b: (a > b) - (a < b))
        for statement in (
            "CREATE TABLE t (a COLLATE sorted UNIQUE, b AS (ours(a)), CHECK (ours(a) > 0))",
            "CREATE INDEX i ON t (ours(a)) WHERE ours(a) > 1",
            "CREATE VIEW v AS SELECT ours(a) FROM t",
            "CREATE VIEW w AS SELECT * FROM gone",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO gone VALUES (ours(new.a)); END",
        ):
            session.run(statement)
    with built("PRAGMA writable_schema = ON", at=database) as session:
        lost_module = ("table", "m", "m", 0, "CREATE VIRTUAL TABLE m USING no_such_module(a)")
        session.run("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", lost_module)
        session.run("PRAGMA writable_schema = RESET")
        now = schema.snapshot(session)
        assert sorted((fact.kind, fact.name, fact.text) for fact in now) == [
            ("check", "", "(ours(a) > 0)"),
            ("column", "a", "COLLATE sorted"),
            ("column", "b", "GENERATED ALWAYS AS (ours(a)) VIRTUAL"),
            ("columns", "t", "(a, b)"),
            ("index", "i", "(ours(a)) WHERE ours(a) > 1"),
            ("table", "t", ""),
            ("trigger", "g", "AFTER INSERT ON t BEGIN INSERT INTO gone VALUES (ours(new.a)); END"),
            ("unique", "", "(a)"),
            ("view", "v", "AS SELECT ours(a) FROM t"),
            ("view", "w", "AS SELECT * FROM gone"),
            ("virtual table", "m", "USING no_such_module(a)"),
        ]
        assert rows.counts(session, now) == {}
        found = rows.contents(session, now)  # of what is stored
        assert {table: [*columns] for table, columns in found.items()} == {"m": [], "t": ["a"]}


def test_the_number_of_statements_does_not_grow_with_the_number_of_tables() -> None:
    def count(tables: int) -> int:
        traced: list[str] = []
        parts = ("id INTEGER PRIMARY KEY", "a TEXT UNIQUE", "b REFERENCES t0 (a)")
        with built(*(f"CREATE TABLE t{number} ({', '.join(parts)})" for number in range(tables))) as session:
            session.connection.set_trace_callback(traced.append)
            assert len(schema.snapshot(session)) == 7 * tables
        return len([statement for statement in traced if not statement.startswith("--")])

    assert count(300) == count(3) == 4


# --- what differs

GENERATED = "~ column t.b GENERATED ALWAYS AS "


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("(a)", "(a, title TEXT)", ["+ column t.title TEXT"]),
        ("(a, title TEXT NOT NULL)", "(a)", ["- column t.title TEXT NOT NULL"]),
        ("(a)", "(b)", ["- column t.a", "+ column t.b"]),
        ("(a)", "(a TEXT)", ["~ column t.a (none) -> TEXT"]),
        ("(a INT)", "(a)", ["~ column t.a INT -> (none)"]),
        ("(a TEXT)", "(a TEXT NOT NULL DEFAULT 'x')", ["~ column t.a TEXT -> TEXT NOT NULL DEFAULT 'x'"]),
        ("(a DEFAULT 'x')", "(a DEFAULT 'X')", ["~ column t.a DEFAULT 'x' -> DEFAULT 'X'"]),
        ("(a DEFAULT 1)", "(a DEFAULT '1')", ["~ column t.a DEFAULT 1 -> DEFAULT '1'"]),
        ("(a DEFAULT 'x\ny')", "(a)", ["~ column t.a DEFAULT 'x\\ny' -> (none)"]),
        ("(a COLLATE NOCASE)", "(a)", ["~ column t.a COLLATE NOCASE -> (none)"]),
        ("(a, b AS (a))", "(a, b AS (+a))", [GENERATED + "(a) VIRTUAL -> GENERATED ALWAYS AS (+a) VIRTUAL"]),
        (
            "(a, b AS (a))",
            "(a, b AS (a) STORED)",
            [GENERATED + "(a) VIRTUAL -> GENERATED ALWAYS AS (a) STORED"],
        ),
        ("(a, b AS (a))", "(a, b)", [GENERATED + "(a) VIRTUAL -> (none)"]),
        ("(a, CHECK (a > 1))", "(a, CHECK (a > 2))", ["- check on t (a > 1)", "+ check on t (a > 2)"]),
        ("(a)", "(a CHECK (a IN ('x', '(')))", ["+ check on t (a IN ('x', '('))"]),
        (
            "(a CHECK (a > 'x'))",
            "(a CHECK (a > 'X'))",
            ["+ check on t (a > 'X')", "- check on t (a > 'x')"],
        ),
        ("(a, b UNIQUE)", "(a UNIQUE, b)", ["+ unique on t (a)", "- unique on t (b)"]),
        ("(a, UNIQUE (a))", "(a, UNIQUE (a DESC))", ["- unique on t (a)", "+ unique on t (a DESC)"]),
        (
            "(a, UNIQUE (a))",
            "(a, UNIQUE (a COLLATE RTRIM))",
            ["- unique on t (a)", "+ unique on t (a COLLATE RTRIM)"],
        ),
        ("(a, b, UNIQUE (a, b))", "(a, b, UNIQUE (b, a))", ["- unique on t (a, b)", "+ unique on t (b, a)"]),
        (
            "(a UNIQUE ON CONFLICT IGNORE)",
            "(a UNIQUE ON CONFLICT REPLACE)",
            [
                "- conflict clause on t UNIQUE (a) ON CONFLICT IGNORE",
                "+ conflict clause on t UNIQUE (a) ON CONFLICT REPLACE",
            ],
        ),
        (
            "(a NOT NULL)",
            "(a NOT NULL ON CONFLICT FAIL)",
            ["+ conflict clause on t NOT NULL (a) ON CONFLICT FAIL"],
        ),
        (
            "(a INT PRIMARY KEY ON CONFLICT ROLLBACK)",
            "(a INT PRIMARY KEY)",
            ["- conflict clause on t PRIMARY KEY (a) ON CONFLICT ROLLBACK"],
        ),
        ("(a INT)", "(a INT PRIMARY KEY)", ["~ table t (none) -> PRIMARY KEY (a)"]),
        (
            "(a INT PRIMARY KEY)",
            "(a INT PRIMARY KEY DESC)",
            ["~ table t PRIMARY KEY (a) -> PRIMARY KEY (a DESC)"],
        ),
        (
            "(a, b, PRIMARY KEY (a, b))",
            "(a, b, PRIMARY KEY (b, a))",
            ["~ table t PRIMARY KEY (a, b) -> PRIMARY KEY (b, a)"],
        ),
        (
            "(a INTEGER PRIMARY KEY)",
            "(a INTEGER PRIMARY KEY AUTOINCREMENT)",
            ["~ table t PRIMARY KEY (a) -> PRIMARY KEY (a) AUTOINCREMENT"],
        ),
        ("(a INT)", "(a INT) STRICT", ["~ table t (none) -> STRICT"]),
        (
            "(a NOT NULL PRIMARY KEY)",
            "(a NOT NULL PRIMARY KEY) WITHOUT ROWID",
            ["~ table t PRIMARY KEY (a) -> PRIMARY KEY (a) WITHOUT ROWID"],
        ),
        ("(a)", "(a REFERENCES p)", ["+ foreign key t (a) -> p"]),
        (
            "(a REFERENCES p (x))",
            "(a REFERENCES p (x) ON DELETE CASCADE)",
            ["- foreign key t (a) -> p (x)", "+ foreign key t (a) -> p (x) on delete cascade"],
        ),
        (
            "(a REFERENCES p (x) ON UPDATE SET NULL)",
            "(a REFERENCES p (x) ON UPDATE SET DEFAULT)",
            [
                "- foreign key t (a) -> p (x) on update set null",
                "+ foreign key t (a) -> p (x) on update set default",
            ][::-1],
        ),
        (
            "(a REFERENCES p, b REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
            "(a REFERENCES p DEFERRABLE INITIALLY DEFERRED, b REFERENCES p)",
            [
                "- foreign key t (a) -> p",
                "+ foreign key t (a) -> p deferrable initially deferred",
                "+ foreign key t (b) -> p",
                "- foreign key t (b) -> p deferrable initially deferred",
            ],
        ),
    ],
)
def test_each_change_of_a_table_is_exactly_its_lines(before: str, after: str, lines: list[str]) -> None:
    assert differ(f"CREATE TABLE t {before}", f"CREATE TABLE t {after}") == tuple(lines)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("", "CREATE INDEX i ON t(a,b)", ["+ index i on t (a, b)"]),
        ("CREATE INDEX i ON t (a)", "CREATE INDEX i ON u (a)", ["- index i on t (a)", "+ index i on u (a)"]),
        ("CREATE INDEX i ON t (a)", "CREATE UNIQUE INDEX i ON t (a)", ["~ index i on t (a) -> UNIQUE (a)"]),
        ("CREATE INDEX i ON t (a)", "CREATE INDEX i ON t (a DESC)", ["~ index i on t (a) -> (a DESC)"]),
        ("CREATE INDEX i ON t (a)", "CREATE INDEX i ON t (a) WHERE b", ["~ index i on t (a) -> (a) WHERE b"]),
        (
            "CREATE INDEX i ON t (a)",
            "CREATE INDEX i ON t (a COLLATE NOCASE)",
            ["~ index i on t (a) -> (a COLLATE NOCASE)"],
        ),
        ("CREATE INDEX i ON t (a + 1)", "CREATE INDEX i ON t (a + 2)", ["~ index i on t (a + 1) -> (a + 2)"]),
        ("CREATE INDEX i ON t (a)", "CREATE INDEX j ON t (a)", ["- index i on t (a)", "+ index j on t (a)"]),
        ("CREATE VIEW v AS SELECT a FROM t", "", ["- view v"]),
        ("CREATE VIEW v AS SELECT a FROM t", "CREATE VIEW v AS SELECT b FROM t", ["~ view v"]),
        ("CREATE VIEW v AS SELECT 'a'", "CREATE VIEW v AS SELECT 'A'", ["~ view v"]),
        ("CREATE VIEW v AS SELECT 1", "CREATE TABLE v (a)", ["+ table v", "- view v"]),
        (
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE TRIGGER g AFTER INSERT ON u BEGIN SELECT 1; END",
            ["- trigger g on t", "+ trigger g on u"],
        ),
        (
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; SELECT 1; END",
            ["~ trigger g on t"],
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "CREATE VIRTUAL TABLE f USING fts5(a, prefix=2)",
            ["~ virtual table f"],
        ),
    ],
)
def test_each_change_of_another_object_is_exactly_its_lines(
    before: str, after: str, lines: list[str]
) -> None:
    tables = ("CREATE TABLE t (a, b)", "CREATE TABLE u (a, b)")
    assert differ((*tables, before), (*tables, after)) == tuple(lines)


def test_two_facts_are_unequal_when_they_are_not_equal() -> None:
    facts = sorted(seen("CREATE TABLE t (a, b)"), key=lambda fact: fact.key)
    again = sorted(seen("CREATE TABLE T (A, B)"), key=lambda fact: fact.key)
    assert len(facts) == 4
    for one in facts:
        for other in again:
            assert (one == other) is not (one != other)
            assert (one == other) is (one.key == other.key)
    assert facts[0] != tuple(facts[0])


def test_names_are_shown_as_they_are_written() -> None:
    before = 'CREATE TABLE "Chats" ("Order" INT, [x y] TEXT, PRIMARY KEY ("Order", [x y]))'
    after = 'CREATE TABLE chats (`ORDER` INT, "X Y" BLOB, UNIQUE ("x Y"), PRIMARY KEY (`order`))'
    assert differ(before, after) == (
        "~ table Chats PRIMARY KEY (Order, `x y`) -> PRIMARY KEY (ORDER)",
        "~ column Chats.x y TEXT -> BLOB",
        "+ unique on chats (`X Y`)",
    )
    assert differ("CREATE TABLE t ([a`b])", "CREATE TABLE t ([a`b] UNIQUE)") == ("+ unique on t (`a``b`)",)


# --- what does not


def test_layout_letter_case_and_quotes_do_not_matter() -> None:
    same(
        "CREATE TABLE chats (chat_id TEXT DEFAULT 'A (b' CHECK (chat_id<>'A --'), n VARCHAR(10))",
        "create table `CHATS`([Chat_ID] text default 'A (b'check(\"chat_id\" <> 'A --'),`N` varchar ( 10 ))",
        "CREATE TABLE chats (-- one, (\n chat_id /* ' */ TEXT DEFAULT 'A (b'"
        " CHECK\n(chat_id <> -- )\n'A --'),n VARCHAR( 10))",
    )
    same("CREATE TABLE t ([a`b] CHECK (`a``b` > 1))", 'CREATE TABLE t ("a`b" CHECK ("a`b" > 1))')
    same("CREATE TABLE t (a CHECK (a<>-1||.5e+3))", "CREATE TABLE t (A CHECK(A <> - 1 /**/ || .5E+3))")
    tables = "CREATE TABLE t (a, b)"
    same((tables, "CREATE INDEX i ON t (a, b)"), (tables, 'create index "I"on[T]( "A" asc,b) -- end'))
    same(
        ("CREATE TABLE t (ASC)", "CREATE INDEX i ON t (asc)"),
        ("CREATE TABLE t (asc)", "CREATE INDEX i ON t ([asc] ASC)"),
    )
    same(
        (tables, "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = x'0A' WHERE b = 1e3; END"),
        (
            tables,
            'create trigger "G" after /* ; */ insert on "T"\nbegin update T set A=X\'0a\'where "b"=1E3;end',
        ),
    )
    same(
        (tables, "CREATE VIEW v (c) AS SELECT a AS d FROM t"),
        (tables, 'CREATE VIEW [V](C)AS SELECT "a" AS D FROM"T"'),
    )


def test_the_place_of_a_constraint_does_not_matter() -> None:
    same(
        "CREATE TABLE t (a INT PRIMARY KEY, b UNIQUE CHECK (b > a) REFERENCES p (x), c COLLATE BINARY)",
        "CREATE TABLE t (a INT, b, c, FOREIGN KEY (b) REFERENCES p (x), UNIQUE (b), CHECK (b > a),"
        " PRIMARY KEY (a))",
        "CREATE TABLE t (a INT, b, c, CONSTRAINT z PRIMARY KEY (a ASC) UNIQUE (b) ON CONFLICT ABORT"
        " CHECK (b > a) FOREIGN KEY (b) REFERENCES p (x) MATCH FULL DEFERRABLE INITIALLY IMMEDIATE)",
    )
    same(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE t (id INTEGER, PRIMARY KEY (id AUTOINCREMENT))",
    )
    same(
        "CREATE TABLE t (a INT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID",
        "CREATE TABLE t (a INT NOT NULL PRIMARY KEY) without rowid,strict",
    )
    assert differ("CREATE TABLE strict (rowid INT)", "CREATE TABLE strict (rowid INT) STRICT") == (
        "~ table strict (none) -> STRICT",
    )


def test_comments_in_a_default_and_the_way_a_collation_is_written_do_not_matter() -> None:
    same(
        "CREATE TABLE t (a DEFAULT 1 COLLATE NOCASE, UNIQUE (a), UNIQUE (a COLLATE RTRIM))",
        "CREATE TABLE t (a DEFAULT (1 -- one\n) COLLATE [nocase], UNIQUE (a COLLATE NoCase),"
        ' UNIQUE (a COLLATE "rtrim"))',
    )


def test_only_ascii_letters_lose_their_case() -> None:
    assert differ("CREATE TABLE t (É)", "CREATE TABLE t (é)") == ("- column t.É", "+ column t.é")


def test_words_that_need_no_quotes_are_names_where_a_name_stands() -> None:
    columns = ["conflict TEXT", "key ON_CONFLICT", "initially deferred", "no TEXT NOT NULL"]
    assert seen("CREATE TABLE t (a REFERENCES conflict NOT NULL)") == seen(
        "CREATE TABLE t (a NOT NULL REFERENCES [conflict])"
    )
    assert {fact.kind for fact in seen(table("rowid", columns))} == {"table", "columns", "column"}


def test_a_keyword_in_quotes_is_a_name() -> None:
    words = ("check", "references", "collate", "as", "constraint", "unique", "autoincrement", "conflict")
    found = seen(table("t", [f'"{word}" "{word}" (1)' for word in words]))
    assert {fact.kind for fact in found} == {"table", "columns", "column"}


OLD = (
    "CREATE TABLE t (a, b CHECK (a <> b), c REFERENCES t (a), UNIQUE (a))",
    "CREATE INDEX i ON t (a, b + 1) WHERE a > 1",
)
USES = (
    "CREATE TABLE other (x REFERENCES t (a))",
    "CREATE VIEW v AS SELECT t.a AS b FROM t WHERE b = 'a'",
    "CREATE TRIGGER g AFTER UPDATE OF a ON t BEGIN INSERT INTO other SELECT new.a FROM t; END",
)


@pytest.mark.parametrize("legacy", ["ON", "OFF"])
@pytest.mark.parametrize(
    "detour",
    [
        ["ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO T"],
        ['ALTER TABLE t RENAME COLUMN a TO "x y"', 'ALTER TABLE t RENAME COLUMN "x y" TO "A"'],
        ["ALTER TABLE t ADD COLUMN d DEFAULT 1", "ALTER TABLE t DROP COLUMN d"],
    ],
)
def test_what_alter_table_rewrites_is_what_it_was(detour: list[str], legacy: str) -> None:
    same((*OLD, *USES), (*OLD, *USES, f"PRAGMA legacy_alter_table = {legacy}", *detour))


def test_strings_in_double_quotes_that_alter_table_mends_are_what_they_were() -> None:
    statements = (
        'CREATE TABLE t (a DEFAULT "x", b CHECK (b <> "It\'s"), c AS (a || "B-"), d)',
        'CREATE INDEX i ON t (a) WHERE "b" <> "no"',
        'CREATE VIEW v AS SELECT "a", "x" AS "y z" FROM t',
        'CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET b = "new" WHERE "a" = new.a; END',
    )
    with built(*statements) as session:
        before, sql = schema.snapshot(session), "SELECT sql FROM sqlite_schema WHERE name IN ('v', 'g')"
        old = session.rows(sql)
        session.run("ALTER TABLE t DROP COLUMN d")
        assert session.rows(sql) != old
        assert schema.difference(before, schema.snapshot(session)) == ("- column t.d",)


# --- the same, spelled otherwise; and other meanings that are spelled nearly alike

AROUND = (
    "CREATE TABLE p (id INTEGER PRIMARY KEY, a, b, UNIQUE (a, b))",
    "CREATE TABLE q (x, y, PRIMARY KEY (y, x))",
    "CREATE TABLE ev (a, b, c TEXT COLLATE NOCASE)",
    "CREATE VIRTUAL TABLE docs USING fts5(body)",
    'CREATE VIEW below AS SELECT * FROM main."lowest"',
    "CREATE VIEW lowest AS SELECT a FROM ev",
    "CREATE TABLE odd (true, d)",
)
SPELLED_OTHERWISE = (
    ("CREATE TABLE t (a REFERENCES p)", "CREATE TABLE t (a REFERENCES P (ID))"),
    (
        "CREATE TABLE t (a DEFAULT 9223372036854775808)",
        "CREATE TABLE t (a DEFAULT 9223372036854775808.0)",
    ),
    (
        "CREATE TABLE t (a, b, FOREIGN KEY (a,b) REFERENCES q)",
        "CREATE TABLE t (a, b, FOREIGN KEY (b, a) REFERENCES q (x, y))",
    ),
    (
        "CREATE TABLE t (a DEFAULT FALSE, b DEFAULT TRUE, c DEFAULT (1), d DEFAULT +1, e DEFAULT 'x', f DEFAULT \"a\", g DEFAULT ((1+1)))",
        "CREATE TABLE t (a DEFAULT 0, b DEFAULT 1, c DEFAULT 1, d DEFAULT 1, e DEFAULT \"x\", f DEFAULT 'a', g DEFAULT (1+1))",
    ),
    (
        "CREATE TABLE t (a DEFAULT foo, b DEFAULT [Bar], c DEFAULT NULL, d DEFAULT 0x10, e DEFAULT current_timestamp)",
        "CREATE TABLE t (a DEFAULT 'foo', b DEFAULT 'Bar', c, d DEFAULT 16, e DEFAULT CURRENT_TIMESTAMP)",
    ),
    (
        "CREATE TABLE t (a CHECK ((a > 0)), b AS ((a+1)))",
        "CREATE TABLE t (a CHECK (a > 0), b GENERATED ALWAYS AS (a+1) VIRTUAL)",
    ),
    (
        "CREATE TABLE t (a CHECK (a NOTNULL), b CHECK (b != 1))",
        "CREATE TABLE t (a CHECK (a IS NOT NULL), b CHECK (b <> 1))",
    ),
    ("CREATE TABLE t (a CHECK (a NOT NULL))", "CREATE TABLE t (a CHECK (a IS NOT NULL))"),
    ("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL)", "CREATE TABLE t (id INTEGER, PRIMARY KEY (id))"),
    ("CREATE TABLE t (a \"TEXT\", b 'INT')", "CREATE TABLE t (a text, b INT)"),
    ("CREATE TABLE t (a COLLATE BINARY UNIQUE)", "CREATE TABLE t (a, UNIQUE (a COLLATE BINARY))"),
    (
        "CREATE TABLE t (a UNIQUE ON CONFLICT IGNORE)",
        "CREATE TABLE t (a, UNIQUE ([a] COLLATE BINARY ASC) ON CONFLICT IGNORE)",
    ),
    ("CREATE INDEX i ON ev (a) WHERE (a IS NULL)", "CREATE INDEX i ON ev (a) WHERE a IS NULL"),
    (
        "CREATE INDEX i ON ev ((a), c COLLATE NOCASE, (a+1))",
        "CREATE INDEX i ON ev ('a' COLLATE BINARY, \"c\" ASC, a+1)",
    ),
    ("CREATE INDEX i ON ev (a) WHERE b = TRUE", "CREATE INDEX i ON ev (a) WHERE b = 1"),
    (
        "CREATE TRIGGER g AFTER INSERT ON 'ev' FOR EACH ROW WHEN (new.a > 1) BEGIN UPDATE ev SET a = 'x'; END",
        'CREATE TRIGGER IF NOT EXISTS main.g AFTER INSERT ON [ev] WHEN new.a > 1 BEGIN UPDATE "ev" SET "a" = \'x\'; END',
    ),
    (
        "CREATE TRIGGER g BEFORE INSERT ON ev BEGIN SELECT 1; END",
        "CREATE TRIGGER g INSERT ON ev BEGIN SELECT 1; END",
    ),
    (
        "CREATE TRIGGER g AFTER UPDATE OF a, b ON ev BEGIN SELECT 1; END",
        'CREATE TRIGGER g AFTER UPDATE OF "b", A ON ev BEGIN SELECT 1; END',
    ),
    (
        "CREATE VIEW v AS SELECT a AS n, count(*) AS m FROM ev GROUP BY n",
        'CREATE VIEW main.v AS SELECT "a" AS "n", count(*) AS \'m\' FROM main."ev" GROUP BY "n"',
    ),
    ("CREATE VIEW v AS SELECT x.a FROM ev AS x", 'CREATE VIEW v AS SELECT "x"."a" FROM "ev" AS "x"'),
    (
        "CREATE VIEW v AS SELECT x.a FROM ev x WHERE x.b = 1",
        'CREATE VIEW v AS SELECT "x"."a" FROM "ev" "x" WHERE "x"."b" == 1',
    ),
    (
        "CREATE VIEW v AS SELECT rowid FROM docs WHERE docs MATCH 'x'",
        "CREATE VIEW v AS SELECT rowid FROM docs WHERE \"docs\" MATCH 'x'",
    ),
    (
        "CREATE VIEW v AS SELECT 1 FROM below WHERE 0 < a",
        'CREATE VIEW v AS SELECT 1 FROM below WHERE 0 < "a"',
    ),
    (
        "CREATE VIRTUAL TABLE f USING fts5(a, tokenize='porter', content=ev)",
        'CREATE VIRTUAL TABLE f using FTS5("a" , tokenize = "porter", content=\'ev\')',
    ),
    (
        "CREATE TABLE t (a INT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID",
        "CREATE TABLE t (a INT NOT NULL, CONSTRAINT k PRIMARY KEY (a)) WITHOUT ROWID, STRICT",
    ),
    (
        'CREATE TABLE t (a, b, CHECK (a <> "b" AND a <> "zz"))',
        "CREATE TABLE t (a, b, CHECK (a <> b AND a <> 'zz'))",
    ),
    ("CREATE TABLE t (a CHECK (a IS TRUE))", "CREATE TABLE t (a CHECK (a is true))"),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE AUTOINCREMENT)",
        "CREATE TABLE t (id INTEGER, PRIMARY KEY (id AUTOINCREMENT) ON CONFLICT REPLACE)",
    ),
    (
        "CREATE TABLE t (a INTEGER PRIMARY KEY CHECK (a IN (TRUE, FALSE)))",
        "CREATE TABLE t (a INTEGER PRIMARY KEY CHECK (a IN (1, 0)))",
    ),
    (
        "CREATE TABLE t (a, b, PRIMARY KEY (a, b) ON CONFLICT REPLACE)",
        'CREATE TABLE t (a, b, PRIMARY KEY ("a", b COLLATE BINARY) ON CONFLICT REPLACE)',
    ),
    (
        "CREATE TABLE t (a DEFAULT (1 + 2), b CHECK ((a > 0) AND (b IS (TRUE))), c AS ((a) * 2))",
        "CREATE TABLE t (a DEFAULT ((1) + (2)), b CHECK (a > 0 AND b IS TRUE), c AS (a * (2)))",
    ),
    (
        "CREATE INDEX i ON ev (lower((c))) WHERE (a > 1) AND (b NOT NULL)",
        "CREATE INDEX i ON ev ((lower(c))) WHERE a > 1 AND b IS NOT NULL",
    ),
    (
        "CREATE VIEW v AS SELECT a FROM ev WHERE ((a = 1) OR (b = (2))) GROUP BY (a)",
        "CREATE VIEW v AS SELECT a FROM ev WHERE a = 1 OR b = 2 GROUP BY a",
    ),
    (
        "CREATE TRIGGER g INSERT ON ev WHEN (new.a > 1) OR (new.b) BEGIN UPDATE ev SET a = (1) WHERE (b = 2); END",
        "CREATE TRIGGER g INSERT ON ev WHEN new.a > 1 OR new.b BEGIN UPDATE ev SET a = 1 WHERE b = 2; END",
    ),
    (
        "CREATE VIEW v (k, s) AS SELECT e.a n, (b) FROM ev e, p INNER JOIN q WHERE c <> TRUE ORDER BY 1 ASC",
        "CREATE VIEW v (K, [s]) AS SELECT e.a AS n, b FROM ev AS e JOIN p JOIN q WHERE c != 1 ORDER BY 1",
    ),
    (
        "CREATE TRIGGER g INSERT ON ev WHEN new.a IS DISTINCT FROM new.b BEGIN REPLACE INTO p (a) VALUES (TRUE); END",
        "CREATE TRIGGER g INSERT ON ev WHEN new.a IS NOT new.b BEGIN INSERT OR REPLACE INTO p (a) VALUES (1); END",
    )
    if sqlite3.sqlite_version_info >= (3, 39)
    else ("CREATE TABLE t (a)", "CREATE TABLE t ([a])"),
    (
        'CREATE VIEW v AS SELECT a n FROM ev WHERE "n" = 1',
        "CREATE VIEW v AS SELECT a AS n FROM ev WHERE n = 1",
    ),
    (
        "CREATE TRIGGER g AFTER INSERT ON main.ev BEGIN DELETE FROM ev WHERE a = (SELECT max(id) FROM main.p); END",
        "CREATE TRIGGER g AFTER INSERT ON ev BEGIN DELETE FROM ev WHERE a = (SELECT max(id) FROM p); END",
    ),
)
SPELLED_ALIKE = (
    ("CREATE TABLE t (a, b)", "CREATE TABLE t (b, a)"),
    ("CREATE TABLE t (a INT PRIMARY KEY)", "CREATE TABLE t (a INTEGER PRIMARY KEY)"),
    ("CREATE TABLE t (a REFERENCES p)", "CREATE TABLE t (a REFERENCES p (a))"),
    ("CREATE TABLE t (a DEFAULT TRUE)", "CREATE TABLE t (a DEFAULT 'TRUE')"),
    ("CREATE TABLE t (a DEFAULT TRUE)", 'CREATE TABLE t (a DEFAULT "TRUE")'),
    ("CREATE TABLE t (a DEFAULT CURRENT_DATE)", "CREATE TABLE t (a DEFAULT 'CURRENT_DATE')"),
    ('CREATE TABLE t (a DEFAULT "X")', "CREATE TABLE t (a DEFAULT 'x')"),
    ("CREATE TABLE t (a DEFAULT 1)", "CREATE TABLE t (a DEFAULT 1.0)"),
    ("CREATE TABLE t (a CHECK (a IS TRUE))", "CREATE TABLE t (a CHECK (a IS 1))"),
    ("CREATE TABLE t (true, a CHECK (a = true))", "CREATE TABLE t (true, a CHECK (a = 1))"),
    ("CREATE INDEX i ON ev (c COLLATE BINARY)", "CREATE INDEX i ON ev (c)"),
    ("CREATE INDEX i ON ev (max(c COLLATE BINARY, b))", "CREATE INDEX i ON ev (max(c, b))"),
    ("CREATE INDEX i ON ev (a) WHERE a IS NULL", "CREATE INDEX i ON ev (a) WHERE a IS NOT NULL"),
    ("CREATE INDEX i ON ev (a) WHERE (a) > 1", "CREATE INDEX i ON ev (a) WHERE (a > 1) IS 0"),
    (
        "CREATE TRIGGER g BEFORE INSERT ON ev BEGIN SELECT 1; END",
        "CREATE TRIGGER g AFTER INSERT ON ev BEGIN SELECT 1; END",
    ),
    (
        "CREATE TRIGGER g INSERT ON ev WHEN new.a BEGIN SELECT 1; END",
        "CREATE TRIGGER g INSERT ON ev BEGIN SELECT 1; END",
    ),
    (
        "CREATE TRIGGER g UPDATE ON ev BEGIN SELECT 1; END",
        "CREATE TRIGGER g UPDATE OF a ON ev BEGIN SELECT 1; END",
    ),
    (
        "CREATE VIRTUAL TABLE f USING fts5(a, tokenize='porter')",
        "CREATE VIRTUAL TABLE f USING fts5(a, tokenize='trigram')",
    ),
    ("CREATE TABLE t (a UNIQUE ON CONFLICT IGNORE, b)", "CREATE TABLE t (a UNIQUE, b)"),
    ("CREATE VIEW v AS SELECT 'a' FROM ev", "CREATE VIEW v AS SELECT a FROM ev"),
    ('CREATE VIEW v AS SELECT "zz" FROM ev', "CREATE VIEW v AS SELECT 'ZZ' FROM ev"),
    (
        'CREATE VIEW v AS SELECT (SELECT main.a FROM ev AS "x") FROM ev AS main',
        'CREATE VIEW v AS SELECT (SELECT a FROM ev AS "x") FROM ev AS main',
    ),
    ("CREATE TABLE t (id INTEGER PRIMARY KEY DESC NOT NULL)", "CREATE TABLE t (id INTEGER PRIMARY KEY DESC)"),
    ("CREATE TABLE t (id INT PRIMARY KEY NOT NULL)", "CREATE TABLE t (id INT PRIMARY KEY)"),
    ("CREATE TABLE t (a, b CHECK ((a OR b) AND a))", "CREATE TABLE t (a, b CHECK (a OR b AND a))"),
    ("CREATE TABLE t (a, b CHECK (a IS (TRUE)))", "CREATE TABLE t (a, b CHECK (a IS (1)))"),
    (
        "CREATE TABLE t (a COLLATE NOCASE CHECK ((a) = 'x'))",
        "CREATE TABLE t (a COLLATE NOCASE CHECK (+a = 'x'))",
    ),
    ("CREATE TABLE t (a DEFAULT (2 * (1 + 2)))", "CREATE TABLE t (a DEFAULT (2 * 1 + 2))"),
    ("CREATE INDEX i ON ev (a) WHERE a = (b = 1)", "CREATE INDEX i ON ev (a) WHERE a = b = 1"),
    ("CREATE VIEW v AS SELECT (a + 1) FROM ev", "CREATE VIEW v AS SELECT a + 1 FROM ev"),
    (
        "CREATE VIEW v AS SELECT * FROM ev, (ev AS x LEFT JOIN p)",
        "CREATE VIEW v AS SELECT * FROM ev, ev AS x LEFT JOIN p",
    ),
    (
        "CREATE VIEW v AS SELECT d FROM odd WHERE d = true",
        "CREATE VIEW v AS SELECT d FROM odd WHERE d = 1",
    ),
    ("CREATE VIEW v AS SELECT a FROM ev AS left JOIN p", "CREATE VIEW v AS SELECT a FROM ev LEFT JOIN p"),
)


@pytest.mark.parametrize(("one", "other"), SPELLED_OTHERWISE)
def test_another_spelling_is_no_difference(one: str, other: str) -> None:
    same((*AROUND, one), (*AROUND, other))


@pytest.mark.parametrize(("one", "other"), SPELLED_ALIKE)
def test_another_meaning_is_a_difference_however_alike_it_is_spelled(one: str, other: str) -> None:
    assert differ((*AROUND, one), (*AROUND, other)) != ()


def test_the_digits_of_a_number_may_stand_in_groups() -> None:
    """SQLite reads them so from 3.46 on."""
    assert default("1_000") == default("1000") != default("1_001")


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 39), reason="IS DISTINCT FROM came with 3.39")
def test_what_stands_behind_distinct_from_is_a_string() -> None:
    checks = ("(a CHECK (a IS DISTINCT FROM 'X'))", "(a CHECK (a IS DISTINCT FROM 'x'))")
    assert differ(*(f"CREATE TABLE t {check}" for check in checks)) != ()


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("(a, b)", "(b, a)", ["~ table t columns in order (a, b) -> (b, a)"]),
        ("(a, b, c)", "(a, c)", ["- column t.b"]),
        ("(a, c)", "(a, b, c)", ["+ column t.b"]),
        (
            "(a, b, c)",
            "(c, d, a)",
            ["~ table t columns in order (a, b, c) -> (c, d, a)", "- column t.b", "+ column t.d"],
        ),
        ("(a, b, c AS (a))", "(c AS (a), a, b)", ["~ table t columns in order (a, b, c) -> (c, a, b)"]),
        ("([x y], B)", "(b, `X Y`)", ["~ table t columns in order (`x y`, B) -> (b, `X Y`)"]),
    ],
)
def test_the_order_of_columns_is_structure(before: str, after: str, lines: list[str]) -> None:
    assert differ(f"CREATE TABLE t {before}", f"CREATE TABLE t {after}") == tuple(lines)


def test_another_primary_key_of_a_parent_is_told_of_the_parent() -> None:
    child = "CREATE TABLE c (x REFERENCES p)"
    before, after = "CREATE TABLE p (a PRIMARY KEY, b)", "CREATE TABLE p (a, b PRIMARY KEY)"
    lines = ("~ table p PRIMARY KEY (a) -> PRIMARY KEY (b)",)
    assert differ((before, child), (after, child)) == lines


@pytest.mark.parametrize("legacy", ["ON", "OFF"])
def test_a_trigger_on_a_name_in_the_quotes_of_a_string_survives_renames(legacy: str) -> None:
    made = ("CREATE TABLE ev (a)", "CREATE TRIGGER g AFTER INSERT ON 'ev' BEGIN SELECT 1; END")
    detour = ("ALTER TABLE ev RENAME TO x", "ALTER TABLE x RENAME TO ev")
    same(made, (*made, f"PRAGMA legacy_alter_table = {legacy}", *detour))


SUFFIXES = (
    *("config", "content", "data", "docsize", "idx", "node", "other"),
    *("parent", "rowid", "segdir", "segments", "stat"),
)
FTS = {"config", "data", "idx", "node", "other", "parent", "rowid"}
FTS5 = {"node", "other", "parent", "rowid", "segdir", "segments", "stat"}


@pytest.mark.parametrize(
    ("virtual", "theirs"),
    [
        ("fts5(a)", FTS5),
        ("fts5(a, content='docs_content')", {"content", *FTS5}),
        ('fts5(a, content = "docs_content")', {"content", *FTS5}),
        ("fts5(content, body)", FTS5),
        ("fts5(a, content='', columnsize=0)", {"content", "docsize", *FTS5}),
        ("fts5(a, Co='', columns=0)", {"content", "docsize", *FTS5}),
        ("fts4(a)", FTS),
        ('fts4(a, content="docs_content")', {"content", *FTS}),
        ("fts4(a, matchinfo=fts3)", {"docsize", *FTS}),
        ("fts3(a)", {"docsize", "stat", *FTS}),
        ("fts3(a, content)", {"docsize", "stat", *FTS}),
        ("fts3(a, content=docs_other)", {"docsize", "stat", *FTS}),
        ("rtree(id, a, b)", {*SUFFIXES} - {"node", "parent", "rowid"}),
        ("rtree_i32(id, a, b, +c)", {*SUFFIXES} - {"node", "parent", "rowid"}),
    ],
)
@pytest.mark.parametrize("asked", [sqlite3.SQLITE_OK, sqlite3.SQLITE_DENY])
def test_a_table_is_left_out_only_if_the_virtual_table_owns_it(
    virtual: str, theirs: set[str], asked: int
) -> None:
    with built(f"CREATE VIRTUAL TABLE docs USING {virtual}") as session:
        for suffix in SUFFIXES:
            session.run(f"CREATE TABLE IF NOT EXISTS docs_{suffix} (id INTEGER PRIMARY KEY, a)")
        session.connection.set_authorizer(lambda _, name, *__: asked if name == "table_list" else 0)
        found = {fact.table for fact in schema.snapshot(session)}
    assert found == {"docs", *(f"docs_{suffix}" for suffix in theirs)}


@pytest.mark.parametrize("later", [(), ("ALTER TABLE docs RENAME TO renamed",)])
def test_what_a_virtual_table_makes_later_is_its_own(later: tuple[str, ...]) -> None:
    made = ("CREATE VIRTUAL TABLE docs USING fts3(a)", "INSERT INTO docs (docs) VALUES ('automerge=4')")
    with built(*made, *later) as session:
        name = "renamed" if later else "docs"
        assert session.rows("SELECT 1 FROM sqlite_schema WHERE name = ?", (f"{name}_stat",))
        assert {fact.table for fact in schema.snapshot(session)} == {name}


# --- any table, written in any way


class Column(NamedTuple):
    """A column as drawn: its rules are keys of RULES, in their order, and {0} in them is its name."""

    name: str
    kind: str
    rules: tuple[str, ...]


NAMES = ("a", "chat_id", "Order", "x y", "it's", 'say "hi"', "a--b", "check", "ünï", "[", "ä.b", "$1", "as")
KINDS = ("", "TEXT", "INTEGER", "VARCHAR (10)", "UNSIGNED BIG INT")
# What may be said of a column, and how the lines show it.
RULES = (
    {"": "", "NOT NULL": "NOT NULL"},
    {
        text: text
        for text in ("", "DEFAULT 0", "DEFAULT 'it''s (1, 2'", "DEFAULT x'0aFF'", "DEFAULT '/* -- no'")
    },
    {text: text for text in ("", "COLLATE NOCASE", "COLLATE RTRIM")},
    {
        "": "",
        "CHECK ( {0} > 'A,(' )": "({0} > 'A,(')",
        "CHECK ( length ( {0} ) < 10 OR {0} IS NULL )": "(length ({0}) < 10 OR {0} IS NULL)",
    },
    {
        "": "",
        "REFERENCES p": "p",
        "REFERENCES p ( {0} ) ON DELETE CASCADE": "p ({0}) on delete cascade",
        "REFERENCES {0} DEFERRABLE INITIALLY DEFERRED": "{0} deferrable initially deferred",
    },
)
SPELLINGS = st.randoms(use_true_random=False)


@st.composite
def drawn(draw: st.DrawFn) -> Column:
    rules = draw(st.tuples(*(st.sampled_from(list(choices)) for choices in RULES)))
    return Column(draw(st.sampled_from(NAMES)), draw(st.sampled_from(KINDS)), rules)


TABLES = st.lists(drawn(), min_size=2, max_size=5, unique_by=lambda column: column.name.lower())


def declared(column: Column, spelling: Random | None = None) -> str:
    """Write a column; with a spelling, in any letter case, quotes, blanks and comments."""
    words = re.findall(
        r"'(?:[^']|'')*'|x'\w*'|\S+", " ".join(filter(None, ("{0}", column.kind, *column.rules)))
    )
    if spelling is None:
        return " ".join(quoted(column.name) if word == "{0}" else word for word in words)
    gaps = (" ", "\n\t", " /* ' , ( */ ", " -- it's \")\n", "/**/")
    return "".join(spelling.choice(gaps) + respelled(word, column.name, spelling) for word in words)


def respelled(word: str, name: str, spelling: Random) -> str:
    def cased(text: str) -> str:
        return "".join(
            spelling.choice((letter, letter.swapcase())) if letter.isascii() else letter for letter in text
        )

    if word != "{0}":
        return word if "'" in word else cased(word)
    name = cased(name)
    return spelling.choice(
        [quoted(name), f"`{name}`", f"[{name}]"] + [name] * (name.lower() in ("a", "chat_id", "ünï"))
    )


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def table(name: str, columns: list[str]) -> str:
    return f"CREATE TABLE {name} ({', '.join(columns)})"


@given(TABLES, st.data(), SPELLINGS)
def test_a_table_is_the_same_however_it_is_written_and_grown(
    columns: list[Column], data: st.DataObject, spelling: Random
) -> None:
    # ALTER TABLE adds no column that is NOT NULL without a default, and the first one must be there.
    can_come = [bool(column.rules[1] or not column.rules[0]) for column in columns]
    start = data.draw(st.sampled_from([at for at in range(1, len(columns) + 1) if all(can_come[at:])]))
    later = columns[start:]
    first = [declared(column, spelling) for column in columns[:start]]
    grown = (table("[T]", first), *(f"ALTER TABLE t ADD {declared(column, spelling)}" for column in later))
    same(table("t", [declared(column) for column in columns]), grown)


def expected(columns: list[Column]) -> dict[str, str]:
    """Return what a table of these columns is: the label and the text of each fact."""
    facts = {}
    for name, kind, rules in columns:
        required, default, collation, check, parent = (
            shown[rule] for shown, rule in zip(RULES, rules, strict=True)
        )
        plain = name if name.isidentifier() else f"`{name}`"
        facts[f"column t.{name}"] = " ".join(filter(None, (kind, required, default, collation)))
        if check:
            facts["check on t " + check.format(quoted(name))] = ""
        if parent:
            facts[f"foreign key t ({plain}) -> " + parent.format(plain)] = ""
    return facts


@given(TABLES, st.data(), SPELLINGS)
def test_each_drawn_change_is_reported_as_exactly_its_lines(
    columns: list[Column], data: st.DataObject, spelling: Random
) -> None:
    at = data.draw(st.integers(0, len(columns) - 1))
    column = columns[at]
    changed = data.draw(
        st.one_of(
            st.just([]),
            st.sampled_from(KINDS).map(lambda kind: [column._replace(kind=kind)]),
            drawn().map(lambda other: [other._replace(name=column.name)]),
            drawn().map(lambda other: [column, other._replace(name="new")]),
        )
    )
    after = [*columns[:at], *changed, *columns[at + 1 :]]
    old, new = expected(columns), expected(after)
    lines = [f"- {label} {old[label]}".rstrip() for label in old.keys() - new.keys()]
    lines += [f"+ {label} {new[label]}".rstrip() for label in new.keys() - old.keys()]
    lines += [
        f"~ {label} {old[label] or '(none)'} -> {new[label] or '(none)'}"
        for label in old.keys() & new.keys()
        if old[label] != new[label]
    ]
    found = differ(
        table("t", [declared(one) for one in columns]), table("t", [declared(one) for one in after])
    )
    assert sorted(found) == sorted(lines)


# --- a schema of every kind of object, written in any way, and with one change of meaning

NAMED = {
    "p",
    "c",
    "ev",
    "id",
    "name",
    "kind",
    "at",
    "total",
    "more",
    "by_name",
    "latest",
    "note",
    "docs",
    "x",
}
# Each statement, other ways to say the same, and what says something else.
WHOLE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'it''s' COLLATE NOCASE)",
            "CREATE TABLE p (id INTEGER NOT NULL, name TEXT COLLATE NOCASE DEFAULT ('it''s') NOT NULL ON CONFLICT"
            " ABORT, CONSTRAINT x PRIMARY KEY (id ASC))",
        ),
        (
            "CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'It''s' COLLATE NOCASE)",
            "CREATE TABLE p (id INT PRIMARY KEY, name TEXT NOT NULL DEFAULT 'it''s' COLLATE NOCASE)",
            "CREATE TABLE p (name TEXT NOT NULL DEFAULT 'it''s' COLLATE NOCASE, id INTEGER PRIMARY KEY)",
            "CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'it''s')",
        ),
    ),
    (
        (
            "CREATE TABLE c (id REFERENCES p, kind INT DEFAULT TRUE, at AS (kind + 1), UNIQUE (kind, id),"
            " CHECK (kind IN (TRUE, FALSE)))",
            "CREATE TABLE c (id, kind INT DEFAULT (+1) CONSTRAINT more CHECK ((kind IN (1, 0))),"
            " at GENERATED ALWAYS AS ((kind + 1)) VIRTUAL, UNIQUE (kind COLLATE BINARY, id ASC),"
            " FOREIGN KEY (id) REFERENCES p (id) ON DELETE NO ACTION NOT DEFERRABLE INITIALLY IMMEDIATE)",
        ),
        (
            "CREATE TABLE c (id REFERENCES p ON DELETE CASCADE, kind INT DEFAULT TRUE, at AS (kind + 1),"
            " UNIQUE (kind, id), CHECK (kind IN (TRUE, FALSE)))",
            "CREATE TABLE c (id REFERENCES p, kind INT DEFAULT TRUE, at AS (kind + 1) STORED, UNIQUE (kind, id),"
            " CHECK (kind IN (TRUE, FALSE)))",
            "CREATE TABLE c (id REFERENCES p, kind INT DEFAULT TRUE, at AS (kind + 1), UNIQUE (id, kind),"
            " CHECK (kind IN (TRUE, FALSE)))",
            "CREATE TABLE c (id REFERENCES p, kind INT DEFAULT TRUE, at AS (kind + 1), UNIQUE (kind, id),"
            " CHECK (kind IN (TRUE, 'FALSE')))",
        ),
    ),
    (
        (
            "CREATE TABLE ev (id INT NOT NULL, at TEXT, PRIMARY KEY (at, id)) STRICT, WITHOUT ROWID",
            "CREATE TABLE ev (id INT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (at, id)) WITHOUT ROWID, STRICT",
        ),
        (
            "CREATE TABLE ev (id INT NOT NULL, at TEXT, PRIMARY KEY (id, at)) STRICT, WITHOUT ROWID",
            "CREATE TABLE ev (id INT NOT NULL, at TEXT, PRIMARY KEY (at, id)) WITHOUT ROWID",
            "CREATE TABLE ev (id INT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (at, id)) STRICT",
        ),
    ),
    (
        (
            "CREATE INDEX by_name ON p (name, id DESC) WHERE (name IS NOT NULL)",
            "CREATE INDEX IF NOT EXISTS main.by_name ON p (name COLLATE NOCASE ASC, (id) DESC) WHERE name NOTNULL",
        ),
        (
            "CREATE INDEX by_name ON p (name, id) WHERE (name IS NOT NULL)",
            "CREATE UNIQUE INDEX by_name ON p (name, id DESC) WHERE (name IS NOT NULL)",
            "CREATE INDEX by_name ON p (name COLLATE BINARY, id DESC) WHERE name IS NOT NULL",
            "CREATE INDEX by_name ON p (name, id DESC) WHERE name IS NULL",
        ),
    ),
    (
        (
            "CREATE VIEW latest AS SELECT x.id, count(*) AS total FROM ev AS x WHERE x.at <> 'Z' GROUP BY x.id",
            "CREATE VIEW main.latest AS SELECT x.id, count(*) AS 'total' FROM main.ev AS x WHERE x.at != 'Z'"
            " GROUP BY x.id",
        ),
        (
            "CREATE VIEW latest AS SELECT x.id, count(*) AS total FROM ev AS x WHERE x.at <> 'z' GROUP BY x.id",
            "CREATE VIEW latest AS SELECT x.id, count(*) AS more FROM ev AS x WHERE x.at <> 'Z' GROUP BY x.id",
        ),
    ),
    (
        (
            "CREATE TRIGGER note INSERT ON p WHEN (new.id > 1) BEGIN UPDATE c SET kind = 0 WHERE id = 'a'; END",
            "CREATE TRIGGER IF NOT EXISTS main.note BEFORE INSERT ON 'p' FOR EACH ROW WHEN new.id > 1"
            " BEGIN UPDATE c SET kind = 0 WHERE id == 'a'; END",
        ),
        (
            "CREATE TRIGGER note AFTER INSERT ON p WHEN (new.id > 1) BEGIN UPDATE c SET kind = 0 WHERE id = 'a'; END",
            "CREATE TRIGGER note INSERT ON p WHEN (new.id > 2) BEGIN UPDATE c SET kind = 0 WHERE id = 'a'; END",
            "CREATE TRIGGER note INSERT ON p WHEN (new.id > 1) BEGIN UPDATE c SET kind = 0 WHERE id = 'A'; END",
        ),
    ),
    (
        (
            "CREATE VIRTUAL TABLE docs USING fts5(name, kind, tokenize = 'porter ascii')",
            'CREATE VIRTUAL TABLE IF NOT EXISTS main.docs USING FTS5 (name, kind, tokenize="porter ascii")',
        ),
        (
            "CREATE VIRTUAL TABLE docs USING fts5(kind, name, tokenize = 'porter ascii')",
            "CREATE VIRTUAL TABLE docs USING fts5(name, kind, tokenize = 'ascii')",
        ),
    ),
)


def respelled_statement(statement: str, spelling: Random) -> str:
    """Write a statement with any letter case, quotes around names, blanks and comments."""
    gaps = [" ", "\n\t", "/* ', ( */", " -- it's \")\n"]
    if "VIRTUAL" in statement:  # a module reads its arguments itself, and FTS5 knows only blanks
        gaps = [" ", "  "]
    written = ""
    for token in tokens_of(statement):
        word = token.text
        if token.kind == "word" and word in NAMED:
            word = spelling.choice([word, word.upper(), quoted(word), f"`{word}`", f"[{word.upper()}]"])
        elif token.kind == "word":
            word = spelling.choice([word, word.lower(), word.upper()])
        written += spelling.choice(gaps) + word
    return written


@given(st.data(), SPELLINGS)
def test_in_a_whole_schema_another_meaning_is_found_and_another_spelling_is_not(
    data: st.DataObject, spelling: Random
) -> None:
    first = [ways[0] for ways, _ in WHOLE]
    spelled = [respelled_statement(data.draw(st.sampled_from(ways)), spelling) for ways, _ in WHOLE]
    same(tuple(first), tuple(spelled))
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    changed = [*spelled[:at], respelled_statement(data.draw(st.sampled_from(WHOLE[at][1])), spelling)]
    assert differ(tuple(first), (*changed, *spelled[at + 1 :])) != ()
    without = [*spelled[:at], *spelled[at + 1 :]]
    if "VIEW" in first[at] or "TRIGGER" in first[at] or "INDEX" in first[at]:
        assert len(differ(tuple(first), tuple(without))) == 1


# --- rows


def kept(before: tuple[str, ...], *changes: str) -> tuple[str, ...]:
    """Return what is said of the rows of `before` after these changes."""
    with built(*before) as session:
        old = rows.contents(session, schema.snapshot(session))
        for change in changes:
            session.run(change)
        return tuple(rows.lost(old, rows.contents(session, schema.snapshot(session))).values())


CHATS = (
    "CREATE TABLE Chats (id INTEGER PRIMARY KEY, title, size)",
    "INSERT INTO chats VALUES (1, 'secret', 1), (2, NULL, 2.5), (3, x'00', -1), (4, CAST(x'ff' AS TEXT), -2)",
)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ([], []),
        (["INSERT INTO chats VALUES (9, 'new', 0)"], []),
        (["DELETE FROM chats WHERE id > 2"], ["table Chats: 2 of 4 rows changed or lost"]),
        (["UPDATE chats SET title = 'Secret' WHERE id = 1"], ["table Chats: 1 of 4 rows changed or lost"]),
        (["UPDATE chats SET title = '' WHERE id = 2"], ["table Chats: 1 of 4 rows changed or lost"]),
        (
            ["UPDATE chats SET title = CAST(title AS TEXT) WHERE id = 3"],
            ["table Chats: 1 of 4 rows changed or lost"],
        ),
        (
            ["UPDATE chats SET title = CAST(title AS BLOB) WHERE id = 4"],
            ["table Chats: 1 of 4 rows changed or lost"],
        ),
        (["UPDATE chats SET size = 1.0 WHERE id = 1"], ["table Chats: 1 of 4 rows changed or lost"]),
        (["UPDATE chats SET size = '1' WHERE id = 1"], ["table Chats: 1 of 4 rows changed or lost"]),
        (["UPDATE chats SET size = -2 WHERE id = 3"], ["table Chats: 1 of 4 rows changed or lost"]),
        (
            ["UPDATE chats SET size = 2.5000000000000004 WHERE id = 2"],
            ["table Chats: 1 of 4 rows changed or lost"],
        ),
        (["UPDATE chats SET size = x'31' WHERE id = 1"], ["table Chats: 1 of 4 rows changed or lost"]),
        (["UPDATE chats SET id = id + 10"], ["table Chats: 4 of 4 rows changed or lost"]),
        (["DROP TABLE chats"], ["table Chats: 4 of 4 rows changed or lost"]),
        (["ALTER TABLE chats RENAME TO talks"], []),
        (["ALTER TABLE chats DROP COLUMN title"], []),
        (
            ["ALTER TABLE chats ADD COLUMN other DEFAULT 1", "ALTER TABLE chats RENAME COLUMN size TO SIZE"],
            [],
        ),
        (
            ["ALTER TABLE chats RENAME COLUMN size TO SIZE", "UPDATE chats SET size = 5 WHERE size = 1"],
            ["table Chats: 1 of 4 rows changed or lost"],
        ),
        (["ALTER TABLE chats ADD COLUMN broken AS (no_such_function(1))"], []),
        (
            [
                "CREATE TABLE new (size, id, title)",
                "INSERT INTO new SELECT size, id, title FROM chats ORDER BY id DESC",
                "DROP TABLE chats",
                "ALTER TABLE new RENAME TO chats",
            ],
            [],
        ),
        (
            [
                "CREATE TABLE new (only)",
                "INSERT INTO new VALUES (1)",
                "DROP TABLE chats",
                "ALTER TABLE new RENAME TO chats",
            ],
            ["table Chats: 3 of 4 rows changed or lost"],
        ),
        (
            [
                "DROP TABLE chats",
                "CREATE TABLE chats (only)",
                "INSERT INTO chats VALUES (1), (2), (3), (4), (5)",
            ],
            [],
        ),
        # Two values change places: every value is still there, but no row is.
        (["UPDATE chats SET size = 3.5 - size WHERE id < 3"], ["table Chats: 2 of 4 rows changed or lost"]),
    ],
)
def test_every_row_that_is_changed_or_lost_counts(changes: list[str], lines: list[str]) -> None:
    assert kept(CHATS, *changes) == tuple(lines)


def test_a_new_table_stands_for_one_that_is_gone_and_not_for_two() -> None:
    two = ("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)", "CREATE TABLE b AS SELECT * FROM a")
    lines = kept(two, "DROP TABLE a", "ALTER TABLE b RENAME TO c")
    assert lines == ("table b: 1 of 1 rows changed or lost",)


def test_values_of_different_types_are_different_values() -> None:
    values = (
        "31",
        "'31'",
        "x'31'",
        "31.0",
        "'1'",
        "1",
        "quote(x'31')",
        "'t31'",
        "NULL",
        "'NULL'",
        "''",
        "x''",
    )
    for value in values:
        for other in values:
            lines = kept(
                ("CREATE TABLE t (a)", f"INSERT INTO t VALUES ({value})"), f"UPDATE t SET a = {other}"
            )
            assert lines == (() if value == other else ("table t: 1 of 1 rows changed or lost",))


@pytest.mark.parametrize(
    ("changes", "given_up", "added"),
    [
        (["ALTER TABLE chats RENAME COLUMN title TO name"], (), {}),
        (["ALTER TABLE chats DROP COLUMN size"], ("column Chats.size: 4 values",), {}),
        (["ALTER TABLE bare DROP COLUMN b"], (), {}),
        (["INSERT INTO bare VALUES (1, 1), (2, 2)"], (), {"bare": "table bare: 2 rows more"}),
        (["INSERT INTO chats VALUES (9, 'new', 0)"], (), {"Chats": "table Chats: 1 row more"}),
        (
            ["INSERT INTO chats VALUES (9, 'new', 0)", "UPDATE chats SET size = 7 WHERE id = 1"],
            ("table Chats: 1 of 4 rows changed or lost",),
            {},
        ),
        (["DROP TABLE bare"], (), {}),
    ],
)
def test_what_is_given_up_and_what_came(
    changes: list[str], given_up: tuple[str, ...], added: dict[str, str]
) -> None:
    with built(*CHATS, "CREATE TABLE bare (a, b)") as session:
        old = rows.contents(session, schema.snapshot(session))
        for change in changes:
            session.run(change)
        new = rows.contents(session, schema.snapshot(session))
    assert rows.given_up(old, new) == given_up
    assert rows.added(old, new) == added


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["DROP TABLE chats"], {}),
        (["UPDATE chats SET size = -size"], {"Chats": "table Chats: 4 of 4 rows changed in size"}),
        # Two values change places: each column holds what it held.
        (
            ["UPDATE chats SET size = iif(id = 1, 2.5, 1) WHERE id < 3"],
            {"Chats": "table Chats: 2 of 4 rows changed"},
        ),
        (["DELETE FROM chats WHERE id > 2"], {"Chats": "table Chats: 2 of 4 rows lost"}),
        (["INSERT INTO chats VALUES (9, 'new', 0)"], {"Chats": "table Chats: 1 row more than 4"}),
        (
            ["INSERT INTO chats VALUES (9, 'new', 0), (10, '', 0)", "UPDATE chats SET size = 7 WHERE id = 1"],
            {"Chats": "table Chats: 1 of 4 rows changed in id, title, size, 2 rows more than 4"},
        ),
    ],
)
def test_what_changed_is_told_with_its_columns(changes: list[str], told: dict[str, str]) -> None:
    with built(*CHATS) as session:
        old = rows.contents(session, schema.snapshot(session))
        for change in changes:
            session.run(change)
        assert rows.changes(old, rows.contents(session, schema.snapshot(session))) == told


def test_equal_rows_count_each() -> None:
    statements = ("CREATE TABLE t (a)", "INSERT INTO t VALUES ('x'), ('x'), ('x'), ('y')")
    assert kept(statements, "DELETE FROM t WHERE rowid < 3") == ("table t: 2 of 4 rows changed or lost",)
    assert kept(statements, "UPDATE t SET a = 'x'") == ("table t: 1 of 4 rows changed or lost",)
    assert kept(statements, "UPDATE t SET a = iif(a = 'x', 'y', 'x')") == (
        "table t: 2 of 4 rows changed or lost",
    )


def test_rows_are_counted_by_table_and_by_name() -> None:
    with built(*CHATS, 'CREATE TABLE "a ""b"" c" (x)', "CREATE VIRTUAL TABLE f USING fts5(x)") as session:
        session.run("INSERT INTO f VALUES ('one'), ('two')")
        session.run("CREATE TEMP TABLE chats (x)")
        now = schema.snapshot(session)
        assert rows.counts(session, now) == {"Chats": 4, 'a "b" c': 0, "f": 2}
        assert set(rows.contents(session, now)["Chats"]) == {"id", "title", "size"}
        old = rows.contents(session, now)
        session.run("DELETE FROM f WHERE x = 'one'")
        assert rows.lost(old, rows.contents(session, now)) == {"f": "table f: 1 of 2 rows changed or lost"}


# --- what a script can reach

WORLD = (
    *("CREATE TABLE a (x PRIMARY KEY, y)", "CREATE TABLE b (x REFERENCES a (x), y)", "CREATE TABLE c (x, y)"),
    *(
        "CREATE TABLE D (x, y)",
        "CREATE TABLE e (x, y)",
        "CREATE TABLE `f g` (x, y)",
        "CREATE INDEX i ON e (y)",
    ),
    "CREATE VIEW v AS SELECT b.x, c.y FROM b, c",
    "CREATE TRIGGER far INSTEAD OF INSERT ON v BEGIN DELETE FROM d WHERE x = new.x; END",
    "CREATE TRIGGER farther AFTER DELETE ON d BEGIN UPDATE e SET y = y + 1; END",
    *(f"INSERT INTO {name} VALUES (1, 1), (2, 2), (3, 3)" for name in ("a", "b", "c", "d", "e", "`f g`")),
)
SCRIPTS = (
    *(
        "CREATE TABLE z (x)",
        "DROP TABLE b",
        "DROP TABLE IF EXISTS c",
        "DROP INDEX i",
        "DROP VIEW v",
        "DROP TRIGGER far",
    ),
    *(
        "CREATE INDEX j ON c (x)",
        "CREATE VIEW w AS SELECT * FROM a",
        "INSERT INTO v VALUES (1, 1)",
        "DELETE FROM D",
    ),
    *(
        "UPDATE 'a' SET y = 0 WHERE x = 1",
        "DELETE FROM main.'c'",
        'DELETE FROM "f g"',
        "REPLACE INTO [f g] VALUES (1, 'c')",
    ),
    *(
        "ALTER TABLE a RENAME TO aa",
        "ALTER TABLE b RENAME COLUMN x TO xx",
        "ALTER TABLE c ADD COLUMN z",
        "DROP TABLE a",
    ),
    *(
        "ALTER TABLE d RENAME y TO z",
        "ALTER TABLE /* a */ e DROP COLUMN x",
        "ALTER TABLE aa RENAME TO a",
        "DROP TABLE z",
    ),
    "CREATE TRIGGER new AFTER UPDATE ON a BEGIN INSERT INTO `f g` VALUES (0, 0); END",
    "INSERT INTO c SELECT x, 'd' FROM e",
)


@given(st.lists(st.sampled_from(SCRIPTS), max_size=4))
def test_nothing_changes_beyond_reach(statements: list[str]) -> None:
    def look(session: Any, names: frozenset[str] | None) -> tuple[Schema, Contents]:
        found = schema.snapshot(session, only=names)
        return found, rows.contents(session, found)

    with built(*WORLD) as session:
        names = schema.reach(session, *statements)
        whole, part = look(session, None), look(session, names)
        for statement in statements:
            with suppress(sqlite3.Error):
                session.run(statement)
        whole_now, part_now = look(session, None), look(session, names)
    assert part[0] <= whole[0]
    assert schema.difference(part[0], part_now[0]) == schema.difference(whole[0], whole_now[0])
    assert rows.lost(part[1], part_now[1]) == rows.lost(whole[1], whole_now[1])


@pytest.mark.parametrize(
    ("script", "tables"),
    [
        ("", set()),
        ("-- a\nSELECT ('b'), 'c'", set()),
        ("INSERT INTO c VALUES ('a', \"b\")", {"b", "c"}),
        ("DELETE FROM main.'c'", {"c"}),
        ("DELETE FROM /* 'a' */ main -- b\n . 'c'", {"c"}),
        ("DROP INDEX i", {"e"}),
        ("INSERT INTO v VALUES (1, 1)", {"v", "d", "e"}),
        ("ALTER TABLE a RENAME TO z", {"a", "b"}),
        ("ALTER TABLE c RENAME COLUMN x TO z", {"c", "v", "d", "e"}),
        ("ALTER TABLE c ADD COLUMN z", {"c"}),
        ("UPDATE sqlite_schema SET sql = ''", {"a", "b", "c", "d", "e", "f g", "v"}),
    ],
)
def test_reach_is_no_wider_than_needed(script: str, tables: set[str]) -> None:
    with built(*WORLD) as session:
        everything = {fact.key[0] for fact in schema.snapshot(session)}
        assert schema.reach(session, script) & everything == tables


def test_what_stands_in_strings_and_comments_is_not_reached_however_long() -> None:
    noise = "a;'' -- /* [\" ` 1e5 " * 50_000
    script = (
        f"INSERT INTO t VALUES (1, '{noise}', x'0a') -- {noise}\n; /* {noise} */ DELETE FROM u -- {noise}"
    )
    with built("CREATE TABLE t (a)") as session:
        assert schema.reach(session, script) == {"insert", "into", "t", "values", "delete", "from", "u"}


def test_any_number_of_names_can_be_reached() -> None:
    script = "SELECT " + ", ".join(f"n{number}" for number in range(12_000)) + " FROM t"
    with built("CREATE TABLE t (a)") as session:
        session.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 10_000)
        names = schema.reach(session, script)
        assert len(names) == 12_003
        assert schema.snapshot(session, only=names) == schema.snapshot(session)


APART = [  # two conditions or orders of a view that SQLite takes for different ones
    ("a IS NOT DISTINCT FROM NOT b", "a IS NOT b"),
    ("a IS (TRUE)", "a IS 1"),
    ("1 ORDER BY TRUE", "1 ORDER BY 1"),
    ("1 ORDER BY (FALSE)", "1 ORDER BY (0)"),
    ('"rowid" = 1', "'rowid' = 1"),
    (
        "a IN (SELECT 1 FROM json_each('[]') WHERE \"value\" = 1)",
        "a IN (SELECT 1 FROM json_each('[]') WHERE 'value' = 1)",
    ),
    ("-9223372036854775808", "-9223372036854775808.0"),
]


def keys_of(*sqls: str) -> set[tuple[str | int, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for sql in sqls:
            connection.execute(sql)
        session = Session(connection, connection.cursor(), ":memory:", 0.0)
        return {fact.key for fact in schema.snapshot(session)}


@pytest.mark.parametrize(("one", "other"), APART)
def test_what_only_looks_alike_is_told_apart(one: str, other: str) -> None:
    table, view = "CREATE TABLE t (a, b)", "CREATE VIEW v AS SELECT a FROM t WHERE"
    assert keys_of(table, f"{view} {one}") != keys_of(table, f"{view} {other}")


@pytest.mark.parametrize(
    ("rule", "same"),
    [
        ("a CHECK (1) DEFERRABLE INITIALLY DEFERRED", "a CHECK (1)"),
        ("a CHECK (1) NOT DEFERRABLE", "a CHECK (1)"),
        ("a REFERENCES u DEFERRABLE INITIALLY DEFERRED, b CHECK (1) NOT NULL", None),
    ],
)
def test_a_deferral_without_a_reference_says_nothing(rule: str, same: str | None) -> None:
    found = keys_of("CREATE TABLE u (x PRIMARY KEY)", f"CREATE TABLE t ({rule})")
    expected = same or rule.replace(" DEFERRABLE INITIALLY DEFERRED", "")
    assert (found == keys_of("CREATE TABLE u (x PRIMARY KEY)", f"CREATE TABLE t ({expected})")) == bool(same)
