"""Proves that views and triggers are taken for the same only where SQLite makes the same program of them.

https://www.sqlite.org/opcode.html
"""

import re
import sqlite3
from contextlib import closing

import pytest

from vmpilot.migrate.database.meaning import trigger, view
from vmpilot.migrate.tokens import tokens

AROUND = """
CREATE TABLE t (a, b TEXT COLLATE NOCASE, c INT, "left" INT, "asc");
CREATE TABLE u (x INT, y, a, "end", "full");
CREATE TABLE w (i INTEGER PRIMARY KEY, z);
CREATE TABLE odd ("true", d);
CREATE TABLE one (o);
CREATE INDEX ti ON t (a);
"""
NAMES = frozenset(("true", "d"))  # of the table odd


def view_program(select: str) -> list[object]:
    """Return what SQLite makes of a view, and the names of its columns."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{AROUND} CREATE VIEW v AS {select}")
        named = [column[0] for column in connection.execute("SELECT * FROM v LIMIT 0").description]
        return [*named, *connection.execute("EXPLAIN SELECT * FROM v").fetchall()]


def trigger_program(body: str) -> list[object]:
    """Return what SQLite makes of the body of a trigger, without where in memory it lies, and its text."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{AROUND} CREATE TRIGGER g AFTER UPDATE ON t BEGIN {body}; END")
        found = connection.execute("EXPLAIN UPDATE t SET a = 1").fetchall()
        return [re.sub("0x[0-9a-f]+", "", repr(row[1:7])) for row in found if row[1] != "Trace"]


def view_meaning(select: str) -> str:
    return view(list(tokens(f"AS {select}")), NAMES if "odd" in select else ())


def trigger_meaning(body: str) -> str:
    return trigger(list(tokens(f"AFTER UPDATE ON t BEGIN {body}; END")), ())


SAME_VIEWS = (
    ("SELECT x.a n, t.b AS m, 1 one FROM t x, t", "SELECT x.a AS n, t.b m, 1 AS 'one' FROM t AS x JOIN (t)"),
    ("SELECT a FROM t INNER JOIN u USING (a)", "SELECT ALL (a) FROM t JOIN u USING (a)"),
    ("SELECT c FROM t LEFT OUTER JOIN u ON t.a = x, w", "SELECT c FROM (t LEFT JOIN u ON t.a = x) JOIN w"),
    ("SELECT c FROM t NATURAL INNER JOIN u", "SELECT c FROM t NATURAL JOIN u"),
    ("SELECT a FROM t ORDER BY 1 ASC, b DESC NULLS LAST", "SELECT a FROM t ORDER BY 1 NULLS FIRST, b DESC"),
    ("SELECT a FROM t ORDER BY asc ASC LIMIT 1, 2", "SELECT a FROM t ORDER BY asc LIMIT 2 OFFSET 1"),
    (
        "SELECT (SELECT x FROM u LIMIT 1, 1) k, a AS end FROM t WHERE (c) = 1 AND left IN (0, 2)",
        "SELECT ((SELECT x FROM u LIMIT 1 OFFSET 1)) AS k, a end FROM t WHERE c == 1 AND (left IN (0, (2)))",
    ),
    (
        "SELECT count(ALL a) s, (a + 1) AS r, max((a), b) m FROM t GROUP BY b",
        "SELECT count(a) AS s, a + 1 r, max(a, (b)) AS m FROM (t) GROUP BY b",
    ),
    (
        "SELECT sum(a) FILTER (WHERE c) OVER win s FROM t x WINDOW win AS (ORDER BY b ASC), w2 AS (ORDER BY c)",
        "SELECT sum(a) FILTER (WHERE c) OVER win AS s FROM t AS x WINDOW win AS (ORDER BY b), w2 AS (ORDER BY c ASC)",
    ),
    ("SELECT a FROM t WHERE (a, b) = ((1), (2 + 1))", "SELECT a FROM t WHERE (a, b) = (1, 2 + 1)"),
    ("SELECT t.a FROM main.t WHERE main.t.a ISNULL", "SELECT t.a FROM t WHERE t.a IS NULL"),
    ("SELECT count(*) AS n FROM t HAVING count(*) > 1", "SELECT count() n FROM t HAVING count() > 1"),
    ("SELECT a FROM t WHERE a NOT IN (1, 2) AND c", "SELECT a FROM t WHERE (NOT a IN (1, 2)) AND c"),
    ("SELECT a FROM t WHERE NOT (b NOT LIKE 'x' || a)", "SELECT a FROM t WHERE NOT NOT b LIKE 'x' || a"),
    ("SELECT c FROM t JOIN u ON c = x NOT IN (1)", "SELECT c FROM t JOIN u ON NOT c = x IN (1)"),
    (
        "SELECT c FROM t JOIN u ON c NOT BETWEEN 1 AND x OR t.a NOT IN one GROUP BY c HAVING c NOT GLOB 'x'",
        "SELECT c FROM t, u ON NOT (c BETWEEN 1 AND x) OR NOT t.a IN one GROUP BY c HAVING NOT c GLOB 'x'",
    ),
    (
        "SELECT a FROM t WHERE c NOT IN (SELECT x FROM u WHERE CASE WHEN y NOT IN (3) THEN y END)",
        "SELECT a FROM t WHERE NOT c IN (SELECT x FROM u WHERE CASE WHEN NOT (y IN (3)) THEN y END)",
    ),
)
OTHER_VIEWS = (
    ("SELECT a FROM t LEFT JOIN u USING (a)", "SELECT a FROM t AS left JOIN u USING (a)"),
    ("SELECT a AS inner FROM t", "SELECT a AS outer FROM t"),
    ("SELECT (SELECT (x) FROM u) FROM t", "SELECT (SELECT x FROM u) FROM t"),
    ("SELECT left FROM t", "SELECT left AS full FROM t"),
    ("SELECT c FROM t CROSS JOIN u", "SELECT c FROM t LEFT JOIN u"),
    ("SELECT c FROM t, (u LEFT JOIN w ON x = i)", "SELECT c FROM t, u LEFT JOIN w ON x = i"),
    ("SELECT a FROM t UNION ALL SELECT x FROM u", "SELECT a FROM t UNION SELECT x FROM u"),
    ("SELECT a FROM t ORDER BY 1", "SELECT a FROM t ORDER BY 1 DESC"),
    ("SELECT a FROM t ORDER BY 1 DESC NULLS FIRST", "SELECT a FROM t ORDER BY 1 DESC"),
    ("SELECT a FROM t LIMIT 1, 2", "SELECT a FROM t LIMIT 1 OFFSET 2"),
    ("SELECT a FROM t WHERE c IS TRUE", "SELECT a FROM t WHERE c IS 1"),
    ("SELECT d FROM odd WHERE d = true", "SELECT d FROM odd WHERE d = 1"),
    ("SELECT (a + 1) FROM t", "SELECT a + 1 FROM t"),
    ("SELECT (NULL) FROM t", "SELECT NULL FROM t"),
    ("SELECT max((a)) FROM t", "SELECT max(a) FROM t"),
    ("SELECT TRUE FROM t", "SELECT 1 FROM t"),
    ("SELECT a IS NOT b AS k FROM t", "SELECT a IS (NOT b) AS k FROM t"),
    ("SELECT count(*) FROM t", "SELECT count() FROM t"),
    ("SELECT a NOT IN (1) FROM t", "SELECT NOT a IN (1) FROM t"),
    ("SELECT max(a NOT IN (1)) FROM t", "SELECT max(NOT a IN (1)) FROM t"),
    ("SELECT (SELECT x FROM u WHERE y NOT IN (1))", "SELECT (SELECT x FROM u WHERE NOT y IN (1))"),
    ("SELECT a FROM t WHERE a NOT IN (1) = b", "SELECT a FROM t WHERE NOT a IN (1) = b"),
    ("SELECT a FROM t WHERE a NOT IN (1) < b", "SELECT a FROM t WHERE NOT a IN (1) < b"),
    ("SELECT a FROM t WHERE b NOT LIKE left = 5", "SELECT a FROM t WHERE NOT b LIKE left = 5"),
    (
        "SELECT a FROM t WHERE a BETWEEN b NOT IN (1) AND c",
        "SELECT a FROM t WHERE NOT a BETWEEN b IN (1) AND c",
    ),
    (
        "SELECT a FROM t WHERE a BETWEEN b NOT LIKE 'x' AND c",
        "SELECT a FROM t WHERE NOT a BETWEEN b LIKE 'x' AND c",
    ),
    ("SELECT a FROM t WHERE a = NOT like(a, c)", "SELECT a FROM t WHERE NOT a = like(a, c)"),
    ("SELECT a FROM t INDEXED BY ti WHERE a = 1", "SELECT a FROM t NOT INDEXED WHERE a = 1"),
)
SAME_TRIGGERS = (
    ("REPLACE INTO w (i) VALUES ((new.a)), (2)", "INSERT OR REPLACE INTO w (i) VALUES (new.a), ((2))"),
    (
        "UPDATE w SET z = (new.c + 1) FROM t AS q, u WHERE q.a = (x); SELECT RAISE(ABORT, 'x') WHERE new.a",
        "UPDATE w SET z = new.c + 1 FROM t q INNER JOIN u WHERE q.a == x; SELECT ALL RAISE(ABORT, 'x') WHERE (new.a)",
    ),
    (
        "INSERT INTO w SELECT a k, c FROM t ORDER BY 1 ASC LIMIT 1, 2; DELETE FROM w WHERE z = TRUE",
        "INSERT INTO w SELECT a AS k, (c) FROM t ORDER BY 1 LIMIT 2 OFFSET 1; DELETE FROM w WHERE (z) = 1",
    ),
    (
        "INSERT INTO w SELECT a, c FROM t WHERE 1 LIMIT 1, 2 ON CONFLICT (i) DO UPDATE SET z = (1)",
        "INSERT INTO w SELECT a, c FROM t WHERE (1) LIMIT 2 OFFSET 1 ON CONFLICT (i) DO UPDATE SET z = 1",
    ),
)
OTHER_TRIGGERS = (
    ("INSERT INTO w (i) VALUES (1)", "INSERT OR IGNORE INTO w (i) VALUES (1)"),
    ("INSERT INTO w (i) VALUES (1)", "REPLACE INTO w (i) VALUES (1)"),
    ("UPDATE w SET z = (1, 2) = (2, 1)", "UPDATE w SET z = (1, 2) = (1, 2)"),
    ("INSERT INTO w SELECT a, b FROM t LIMIT 1, 2", "INSERT INTO w SELECT a, b FROM t LIMIT 1 OFFSET 2"),
)


@pytest.mark.parametrize(("one", "other"), SAME_VIEWS)
def test_a_view_of_the_same_program_means_the_same(one: str, other: str) -> None:
    assert view_meaning(one) == view_meaning(other)
    assert view_program(one) == view_program(other)


@pytest.mark.parametrize(("one", "other"), OTHER_VIEWS)
def test_a_view_of_another_program_or_other_names_means_another(one: str, other: str) -> None:
    assert view_meaning(one) != view_meaning(other)
    assert view_program(one) != view_program(other)


@pytest.mark.parametrize(("one", "other"), SAME_TRIGGERS)
def test_a_trigger_of_the_same_program_means_the_same(one: str, other: str) -> None:
    assert trigger_meaning(one) == trigger_meaning(other)
    assert trigger_program(one) == trigger_program(other)


@pytest.mark.parametrize(("one", "other"), OTHER_TRIGGERS)
def test_a_trigger_of_another_program_means_another(one: str, other: str) -> None:
    assert trigger_meaning(one) != trigger_meaning(other)
    assert trigger_program(one) != trigger_program(other)
