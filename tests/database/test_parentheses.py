"""Proves that only those parentheses are left out which SQLite itself does not see.

SQLite is asked: the same program means the same expression. https://www.sqlite.org/opcode.html
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpilot.migrate.database.parentheses import loosened, loosened_statements
from vmpilot.migrate.tokens import tokens


def without(sql: str) -> str:
    return " ".join(token.text for token in loosened(list(tokens(sql))))


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        columns = 'a INT, b TEXT COLLATE NOCASE, c REAL, "end" INT, "do" INT, "match" INT, "like"'
        connection.execute(f"CREATE TABLE t ({columns})")
        connection.execute("CREATE TABLE u (x, y)")
        yield connection


def program(connection: sqlite3.Connection, expression: str) -> list[tuple[object, ...]]:
    """Return what SQLite makes of an expression, less the comments."""
    found = connection.execute(f"EXPLAIN SELECT 1 FROM t WHERE {expression}\n").fetchall()
    return [tuple(row[:7]) for row in found]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("((a))", "a"),
        ("(a) AND (b)", "a AND b"),
        ("(a AND b) AND c", "a AND b AND c"),
        ("a AND (b AND c)", "a AND ( b AND c )"),
        ("(a OR b) AND c", "( a OR b ) AND c"),
        ("(a AND b) OR c", "a AND b OR c"),
        ("NOT (a = c)", "NOT a = c"),
        ("NOT (a AND c)", "NOT ( a AND c )"),
        ("(NOT a) = c", "( NOT a ) = c"),
        ("NOT (EXISTS (SELECT 1))", "NOT EXISTS ( SELECT 1 )"),
        ("(a, b) = (1, 2)", "( a , b ) = ( 1 , 2 )"),
        ("((a), (b)) = (1, (2 + (3)))", "( a , b ) = ( 1 , 2 + 3 )"),
        ("a IN (1)", "a IN ( 1 )"),
        ("a NOT IN ((1), ((2)))", "a NOT IN ( 1 , 2 )"),
        ("a IN (SELECT (x) FROM (u) WHERE ((x > 1)))", "a IN ( SELECT x FROM ( u ) WHERE x > 1 )"),
        ("a IN (SELECT x FROM t, (u LEFT JOIN t AS v))", "a IN ( SELECT x FROM t , ( u LEFT JOIN t AS v ) )"),
        ("a IN (SELECT (x + 1) FROM u)", "a IN ( SELECT x + 1 FROM u )"),
        ("NOT EXISTS (SELECT (x + 1), (y) FROM u)", "NOT EXISTS ( SELECT x + 1 , y FROM u )"),
        ("a = (SELECT (x * 2) FROM u)", "a = ( SELECT x * 2 FROM u )"),
        ("a = (SELECT 1 FROM (SELECT (x + 1) FROM u))", "a = ( SELECT 1 FROM ( SELECT ( x + 1 ) FROM u ) )"),
        ("a = (SELECT x FROM u)", "a = ( SELECT x FROM u )"),
        ("((SELECT x FROM u)) = 1", "( SELECT x FROM u ) = 1"),
        ("max((a), (c + 1)) > 1", "max ( a , c + 1 ) > 1"),
        ("CAST((a) AS TEXT) = (1)", "CAST ( a AS TEXT ) = 1"),
        ("(b || c) COLLATE BINARY = 'x'", "( b || c ) COLLATE BINARY = 'x'"),
        ("(b) COLLATE BINARY = 'x'", "b COLLATE BINARY = 'x'"),
        ("(b COLLATE BINARY) = 'x'", "b COLLATE BINARY = 'x'"),
        ("(+b) = 'x'", "+ b = 'x'"),
        ("-(-a) = 1", "- ( - a ) = 1"),
        ("a - (-1)", "a - - 1"),
        ("a - (c - 1)", "a - ( c - 1 )"),
        ("a BETWEEN (1) AND (2)", "a BETWEEN 1 AND 2"),
        ("a BETWEEN c AND (c = 1)", "a BETWEEN c AND ( c = 1 )"),
        ("a NOT BETWEEN c AND (c = 1)", "a NOT BETWEEN c AND ( c = 1 )"),
        ("c AND (a BETWEEN 1 AND 2)", "c AND a BETWEEN 1 AND 2"),
        ("CASE WHEN (a = 1) THEN (b) ELSE (c + 1) END", "CASE WHEN a = 1 THEN b ELSE c + 1 END"),
        ("(CASE a WHEN 1 THEN 2 END) = 2", "CASE a WHEN 1 THEN 2 END = 2"),
        ("CASE WHEN end > (1) THEN end END", "CASE WHEN end > 1 THEN end END"),
        ("(end + 1) * (2) AND (do + a) * c", "( end + 1 ) * 2 AND ( do + a ) * c"),
        ("(match = 1) AND (like)", "match = 1 AND like"),
        ("a IS (NOT NULL)", "a IS ( NOT NULL )"),
        ("a IS (TRUE)", "a IS TRUE"),
        ("(a IS DISTINCT FROM (c)) AND c", "a IS DISTINCT FROM c AND c"),
        ("(a ISNULL) AND (c NOT NULL)", "a ISNULL AND c NOT NULL"),
        ("b LIKE (b || c) ESCAPE ('d')", "b LIKE b || c ESCAPE 'd'"),
    ],
)
def test_what_says_nothing_is_left_out_and_all_else_is_kept(
    connection: sqlite3.Connection, expression: str, expected: str
) -> None:
    assert without(expression) == expected
    if "DISTINCT" not in expression or sqlite3.sqlite_version_info >= (3, 39):
        assert program(connection, expected) == program(connection, expression)


def test_in_statements_only_expressions_lose_theirs() -> None:
    view = (
        "AS WITH w (x) AS (VALUES ((1)), (2)) SELECT (a) + (1), max((a)) FROM w, (u) JOIN (t) ON (a = x)"
        " WHERE (a) GROUP BY (a), (b) HAVING (count(*)) > 1 ORDER BY (a) DESC LIMIT (1)"
    )
    body = "BEGIN UPDATE t SET a = (c + 1), (b) = (c) WHERE (a = 1); INSERT INTO u (x) VALUES ((1)), (2 + (3)); END"
    assert [
        " ".join(token.text for token in loosened_statements(list(tokens(sql)))) for sql in (view, body)
    ] == [
        "AS WITH w ( x ) AS ( VALUES ( 1 ) , ( 2 ) ) SELECT ( a ) + ( 1 ) , max ( ( a ) ) FROM w , ( u )"
        " JOIN ( t ) ON a = x WHERE a GROUP BY a , b HAVING count ( ) > 1 ORDER BY a DESC LIMIT 1",
        "BEGIN UPDATE t SET a = c + 1 , ( b ) = c WHERE a = 1 ; INSERT INTO u ( x ) VALUES ( 1 ) ,"
        " ( 2 + 3 ) ; END",
    ]


@pytest.mark.parametrize(
    "text", ["", ")", "(", ") (", "( (", "()", "case", "end", "(case )", "a.(b)", "(,)", "(;)"]
)
def test_what_is_no_sql_is_no_error(text: str) -> None:
    assert set(without(text)) <= {*text, " "}


def test_any_depth_is_read() -> None:
    assert without("(" * 100_000 + "a" + ")" * 100_000) == "a"


ATOMS = st.sampled_from(
    ("a", "b", "c", "end", "do", "match", '"like"', "t.end", "1", "'x'", "NULL", "TRUE", "(SELECT x FROM u)")
)
SHAPES = (
    *(
        f"{{}} {sign} {{}}"
        for sign in ("OR", "AND", "=", "IS", "IS NOT", "<", "&", "+", "-", "*", "||", "LIKE")
    ),
    *(
        "NOT {}",
        "-{}",
        "~ {}",
        "{} COLLATE BINARY",
        "{} NOTNULL",
        "{} NOT NULL",
        "{} IN ({}, {})",
        "{} IN ({})",
    ),
    *("{} BETWEEN {} AND {}", "{} NOT BETWEEN {} AND {}", "{} LIKE {} ESCAPE {}", "max({}, {})", "abs({})"),
    *(
        "CASE WHEN {} THEN {} ELSE {} END",
        "CASE {} WHEN {} THEN {} END",
        "CAST({} AS TEXT)",
        "{} IN (SELECT x FROM u)",
    ),
)


def shaped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Put expressions together, with parentheses around any of them or not."""
    part = st.tuples(inner, st.integers(0, 2)).map(lambda drawn: "(" * drawn[1] + drawn[0] + ")" * drawn[1])
    return st.tuples(st.sampled_from(SHAPES), part, part, part).map(lambda drawn: drawn[0].format(*drawn[1:]))


@given(st.recursive(ATOMS, shaped, max_leaves=8))
def test_any_expression_is_the_same_program_without_them(
    connection: sqlite3.Connection, expression: str
) -> None:
    try:
        expected = program(connection, expression)
    except sqlite3.OperationalError:  # no expression
        return
    assert program(connection, without(expression)) == expected
