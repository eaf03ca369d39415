"""The one reader of SQL: what are its tokens, what a statement does, which names it mentions; and that no text,
however odd, takes it longer than its length deserves.

SQLite itself is the judge where it can be asked: each statement that is understood runs, and each name in quotes
is one that SQLite gave a table.
"""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import ROOT

from vmpilot.migrate.tokens import (
    Head,
    alone,
    assigned,
    comments,
    folded,
    head,
    is_closed,
    mentioned,
    named,
    plain,
    plainer,
    quoted,
    statements,
    texts,
    tokens,
    unclosed,
    unquoted,
    unusual,
)

GAPS = (
    *(" ", "\t", "\n", "\r\n", "\f", " \ufeff", "--\n", "-- it's; end \" ` [ /* --\n"),
    *("/**/", "/***/", "/*/*/", "/* ';' -- */", "/*\n; END;\r\n*/"),
)
SPELLINGS = st.randoms(use_true_random=False)


def gap(spelling: Random, behind: str) -> str:
    """Return what may stand behind a token; a comment behind a minus sign would take it in."""
    return " " * behind.endswith("-") + spelling.choice(GAPS)


# Tokens

KINDS = {
    "word": ("a", "SELECT", "_", "a1$", "é", "😀_", "x", "a\ufeff", "e5", "X1"),
    "string": ("''", "'it''s'", "'--'", "'/*'", "''''", "'\r\n;'", "'\"'"),
    "double": ('""', '"a""b"', '"it\'s"', '"--"', '"[;"'),
    "name": ("``", "`a``b`", "[]", "[a']", "[[]", "[/*]", "`;\n`"),
    "blob": ("x''", "X'0f'", "x'AB'"),
    "number": ("0", "17", "1.", "1.5", ".5", "1e5", "1.e5", "1.5E-10", "1e+5", "0x1F", "1_000", "1a", "1é"),
    "sign": (
        *"+-*/%=<>&|~!.,;()?",
        "->",
        "->>",
        "||",
        "==",
        "<=",
        "<>",
        "<<",
        ">=",
        ">>",
        "!=",
        ":a",
        "@b",
        "?1",
    ),
}
drawn_tokens = st.sampled_from([(kind, text) for kind, found in KINDS.items() for text in found])


@given(st.lists(drawn_tokens, max_size=12), SPELLINGS, st.integers(0, 3))
@example([(kind, text) for kind, found in KINDS.items() for text in found], Random(0), 0)
def test_tokens_come_out_as_they_are_known(
    known: list[tuple[str, str]], spelling: Random, before: int
) -> None:
    sql, found = spelling.choice(("", "\ufeff", *GAPS)), []
    for kind, text in known:
        found.append((kind, text, len(sql)))
        sql += text + gap(spelling, text)
    assert [tuple(token) for token in tokens(sql)] == found
    assert texts(sql) == [text for _, text in known]
    if found:
        first, last = found[min(before, len(found) - 1)][2], found[-1][2]
        assert [tuple(token) for token in tokens(sql, first, last)] == [
            token for token in found if first <= token[2] < last
        ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        ("-- a", []),
        ("/* a", []),
        ("a.b", ["a", ".", "b"]),
        ("a.5", ["a", ".5"]),
        ("1.5.5", ["1.5", ".5"]),
        ("0x1e+5", ["0x1e", "+", "5"]),
        ("1e5e+5", ["1e5e", "+", "5"]),
        ("1e+", ["1e", "+"]),
        ("a<-1", ["a", "<", "-", "1"]),
        ("a---1\n+b", ["a", "+", "b"]),
        ("a- -1", ["a", "-", "-", "1"]),
        ("a/ *b*/c", ["a", "/", "*", "b", "*", "/", "c"]),
        ("a->>'b'", ["a", "->>", "'b'"]),
        ("max'a'", ["max", "'a'"]),
        ("'a'\"b\"`c`[d]x'0a'", ["'a'", '"b"', "`c`", "[d]", "x'0a'"]),
        ("'a' 'b''c'", ["'a'", "'b''c'"]),
        ("a\ufeffb \ufeffc", ["a\ufeffb", "c"]),
        ("a\vb", ["a", "\v", "b"]),
        ("'never; closed", ["'never; closed"]),
        ("'a''", ["'a''"]),
        ("[a", ["[a"]),
    ],
)
def test_text_is_taken_apart_as_by_sqlite(sql: str, expected: list[str]) -> None:
    assert texts(sql) == [token.text for token in tokens(sql)] == expected


# Names

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


def spelled(name: str, spelling: Random) -> str:
    """Write a name as it stands, if it can, or in one of the four kinds of quotes."""
    ways = [quote + name.replace(quote, 2 * quote) + quote for quote in "\"'`"]
    ways += [f"[{name}]"] * ("]" not in name)
    ways += [name] * (name.isidentifier() and name.isascii() and name != "if")
    return spelling.choice(ways)


@given(names, SPELLINGS)
@example("`", Random(0))
def test_a_name_in_any_quotes_is_the_one_that_sqlite_reads(name: str, spelling: Random) -> None:
    name = "n" + name
    with closing(sqlite3.connect(":memory:")) as connection:
        written = spelled(name, spelling)
        connection.execute(f"CREATE TABLE {quoted(name)} ({quoted(name)})")
        found = connection.execute(f"SELECT {plain(name)} FROM {written}")
        assert found.description[0][0] == name == unquoted(written)
        (same,) = connection.execute("SELECT ? = ? COLLATE NOCASE", (name, folded(name))).fetchone()
        assert same == 1
        assert unquoted(quoted(name)) == unquoted(plain(name)) == name


def test_a_quote_inside_of_a_name_is_written_twice() -> None:
    written = ('"a""b"', "'it''s'", "`a``b`", '"`', "[a]", "a", "")
    assert [unquoted(text) for text in written] == ['a"b', "it's", "a`b", "", "a", "a", ""]


def test_only_ascii_letters_lose_their_case() -> None:
    assert folded("ABC_Zé") == "abc_zé"
    assert folded("É") == "É"
    assert (unquoted(""), unquoted("a"), unquoted("x'41'"), plain("a b"), plain("order")) == (
        *("", "a", "x'41'", "`a b`"),
        "order",
    )


# Statements

WORLD = """
CREATE TABLE t (a, b); CREATE TABLE old (a); CREATE VIEW v AS SELECT a FROM t; CREATE INDEX i ON old (a);
CREATE TRIGGER g AFTER INSERT ON old BEGIN SELECT 1; END; CREATE TEMP TABLE s (a); CREATE TABLE [if] (a);
"""
# A name begins with @; everything else is written in any case.
HEADS = (
    ("SELECT 1", Head("select")),
    ("VALUES ( 1 )", Head("values")),
    ("WITH x AS ( SELECT 1 ) INSERT INTO @t ( a ) SELECT * FROM x", Head("insert", name="t")),
    (
        "WITH RECURSIVE x ( a ) AS ( SELECT 1 ) , y AS NOT MATERIALIZED ( VALUES ( 2 ) ) SELECT 3",
        Head("select"),
    ),
    ("EXPLAIN CREATE TABLE new ( a )", Head("explain")),
    ("EXPLAIN QUERY PLAN SELECT 1", Head("explain")),
    ("ANALYZE", Head("analyze")),
    ("INSERT INTO @t VALUES ( 1 , 2 )", Head("insert", name="t")),
    ("INSERT OR IGNORE INTO @main . @t ( a ) VALUES ( 1 )", Head("insert", schema="main", name="t")),
    ("INSERT INTO @temp . @s SELECT 1", Head("insert", temporary=True, schema="temp", name="s")),
    ("INSERT INTO @if DEFAULT VALUES", Head("insert", name="if")),
    ("REPLACE INTO @t ( a ) VALUES ( 1 )", Head("replace", name="t")),
    ("UPDATE @t SET a = 1", Head("update", name="t")),
    ("UPDATE OR REPLACE @main . @t SET a = 1", Head("update", schema="main", name="t")),
    ("DELETE FROM @t WHERE a = 1", Head("delete", name="t")),
    ("DELETE FROM @main . @old", Head("delete", schema="main", name="old")),
    ("CREATE TABLE @new ( a )", Head("create", "table", name="new")),
    ("CREATE TABLE IF NOT EXISTS @main . @new ( a )", Head("create", "table", False, "main", "new")),
    ("CREATE TABLE @new AS SELECT 1", Head("create", "table", name="new")),
    ("CREATE TEMP TABLE @new ( a )", Head("create", "table", True, name="new")),
    ("CREATE TEMPORARY TABLE IF NOT EXISTS @new ( a )", Head("create", "table", True, name="new")),
    ("CREATE TABLE @temp . @new ( a )", Head("create", "table", True, "temp", "new")),
    ("CREATE TABLE @Temp . @new ( a )", Head("create", "table", True, "Temp", "new")),
    ("CREATE VIRTUAL TABLE @new USING rtree ( a , b , c )", Head("create", "virtual table", name="new")),
    (
        "CREATE VIRTUAL TABLE IF NOT EXISTS @main . @new USING rtree ( a , b , c )",
        Head("create", "virtual table", False, "main", "new"),
    ),
    ("CREATE VIEW @new ( a ) AS SELECT 1", Head("create", "view", name="new")),
    ("CREATE TEMP VIEW IF NOT EXISTS @new AS SELECT 1", Head("create", "view", True, name="new")),
    ("CREATE INDEX @new ON @t ( a )", Head("create", "index", name="new", table="t")),
    (
        "CREATE UNIQUE INDEX IF NOT EXISTS @main . @new ON @t ( a ) WHERE b",
        Head("create", "index", False, "main", "new", "t"),
    ),
    ("CREATE INDEX @temp . @new ON @s ( a )", Head("create", "index", True, "temp", "new", "s")),
    (
        "CREATE TRIGGER @new AFTER INSERT ON @t BEGIN SELECT 1 ; END",
        Head("create", "trigger", name="new", table="t"),
    ),
    (
        'CREATE TEMP TRIGGER IF NOT EXISTS @new UPDATE OF a , "b" ON @main . @t BEGIN SELECT 1 ; END',
        Head("create", "trigger", True, name="new", table="t"),
    ),
    (
        "CREATE TRIGGER @main . @new INSTEAD OF DELETE ON @v BEGIN SELECT 1 ; END",
        Head("create", "trigger", False, "main", "new", "v"),
    ),
    ("DROP TABLE @old", Head("drop", "table", name="old")),
    ("DROP TABLE IF EXISTS @main . @absent", Head("drop", "table", False, "main", "absent")),
    ("DROP TABLE @if", Head("drop", "table", name="if")),
    ("DROP TABLE @temp . @s", Head("drop", "table", True, "temp", "s")),
    ("DROP VIEW IF EXISTS @v", Head("drop", "view", name="v")),
    ("DROP INDEX @i", Head("drop", "index", name="i")),
    ("DROP TRIGGER @main . @g", Head("drop", "trigger", False, "main", "g")),
    ("ALTER TABLE @t RENAME TO @new", Head("alter", "table", name="t", renamed="new")),
    ("ALTER TABLE @main . @t RENAME TO @new", Head("alter", "table", False, "main", "t", renamed="new")),
    ("ALTER TABLE @t RENAME a TO @new", Head("alter", "table", name="t")),
    ("ALTER TABLE @t RENAME COLUMN a TO @new", Head("alter", "table", name="t")),
    ("ALTER TABLE @t ADD COLUMN c", Head("alter", "table", name="t")),
    ("PRAGMA @user_version", Head("pragma", name="user_version")),
    ("PRAGMA @main . @user_version = 7", Head("pragma", schema="main", name="user_version", value="7")),
    ("PRAGMA @user_version = - 7", Head("pragma", name="user_version", value="-7")),
    ("PRAGMA @cache_size ( + 7 )", Head("pragma", name="cache_size", value="+7")),
    ("PRAGMA @journal_mode = @Wal", Head("pragma", name="journal_mode", value="Wal")),
    (
        "PRAGMA @main . @journal_mode ( @Wal )",
        Head("pragma", schema="main", name="journal_mode", value="Wal"),
    ),
    ("PRAGMA @foreign_keys = ON", Head("pragma", name="foreign_keys", value="ON")),
)


@pytest.mark.parametrize(("sql", "expected"), HEADS, ids=[sql for sql, _ in HEADS])
def test_what_a_statement_does_is_told(sql: str, expected: Head) -> None:
    assert head(sql.replace("@if", "[if]").replace("@", "")) == expected


@settings(max_examples=4 * settings().max_examples)
@given(st.sampled_from(HEADS), SPELLINGS)
def test_what_a_statement_does_is_told_however_it_is_written(
    known: tuple[str, Head], spelling: Random
) -> None:
    sql, expected = known
    text = spelling.choice(("", *GAPS))
    for word in sql.split():
        name = word[1:] if word[0] == "@" else ""
        cased = "".join(spelling.choice((letter, letter.swapcase())) for letter in word)
        kept = word if expected.verb == "pragma" and expected.value == word else cased
        text += (spelled(name, spelling) if name else kept) + gap(spelling, word)
    assert head(text) == expected
    assert head(f"DROP x;{text};", 7, 7 + len(text)) == expected
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(WORLD)
        connection.execute(text if expected.verb == "explain" else f"EXPLAIN {text}").fetchall()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", Head("")),
        ("-- a", Head("")),
        ("(SELECT 1)", Head("")),
        ('"create" TABLE t', Head("")),
        ("1", Head("")),
        ("create", Head("create")),
        ("create temp", Head("create")),
        ("CREATE TABLE", Head("create", "table")),
        ("CREATE TABLE (a)", Head("create", "table")),
        ("CREATE TABLE t.", Head("create", "table", schema="t")),
        ("CREATE INDEX i", Head("create", "index", name="i")),
        ("CREATE 'table' t", Head("create")),
        ("DROP TABLE IF", Head("drop", "table")),
        ("ALTER TABLE t RENAME TO", Head("alter", "table", name="t")),
        ("INSERT INTO", Head("insert")),
        ("INSERT OR", Head("insert")),
        ("insert_into t", Head("insert_into")),
        ("UPDATE ordered SET a = 1", Head("update", name="ordered")),
        ("DELETE FROM fromage", Head("delete", name="fromage")),
        ("PRAGMA", Head("pragma")),
        ("PRAGMA a =", Head("pragma", name="a")),
        ("INSERT INTO 't", Head("insert", name="")),
    ],
)
def test_what_is_no_whole_statement_tells_what_it_can(sql: str, expected: Head) -> None:
    assert head(sql) == expected


def test_the_head_of_a_statement_costs_the_same_however_long_it_is() -> None:
    assert head("INSERT INTO t VALUES " + 1_000_000 * "(1), " + "(1)") == Head("insert", name="t")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", ""),
        ('SELECT A, "B c" FROM [d]]', "select a b_c from d"),
        ("INSERT INTO t VALUES ('a', x'0a', 1e5, 0x1f, .5) -- b \" c\n/* d ' */", "insert into t values"),
        ("DELETE FROM 'T'", "delete from t"),
        ("DELETE FROM main.'T'", "delete from main t"),
        ("DELETE FROM/**/main /* 'a' */ . -- 'b'\n'T'", "delete from main t"),
        ("SELECT 'a' || 'b', ('c')", "select a"),
        ("a\ufeffb \ufeffc\ufeff", "a\ufeffb c\ufeff"),
        ("É", "É"),
        ("t$1 1a $b :c", "t$1 c"),
        ("a- b/c--d\n-e", "a b c e"),
        ("x 'a'", "x a"),
    ],
)
def test_all_that_can_be_a_name_is_mentioned(sql: str, expected: str) -> None:
    assert mentioned(sql) == {name.replace("_", " ") for name in expected.split()}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE p SET title = 'x, id = 3' WHERE id = 3", "title"),
        (
            'update main.p AS q SET (A, [b c]) = (SELECT 1, 2 FROM x WHERE y), c = 1, "D"=2 FROM t',
            "a b_c c d",
        ),
        (
            "UPDATE p SET a = CASE WHEN b = 2 THEN 'from' END, rowid = (c, d) == (e, f) RETURNING g = 1",
            "a rowid",
        ),
        ("UPDATE OR REPLACE p INDEXED BY i SET a=a+1 ORDER BY b LIMIT 1", "a"),
        ('UPDATE "set" SET "where" = 1, x = y IN (SELECT z FROM "set")', "where x"),
        ("UPDATE p SET", ""),
        ("UPDATE p SET a", ""),
        ("UPDATE p SET a = 1,", ""),
        ("DELETE FROM p", ""),
    ],
)
def test_what_an_update_sets(sql: str, expected: str) -> None:
    assert assigned(sql) == {name.replace("_", " ") for name in expected.split()}


def test_statements_tell_their_first_word_unless_they_only_handle_rows() -> None:
    sql = " Create TABLE t (a);; INSERT INTO t VALUES (1);-- a\n(SELECT 1); éa; CREATE TRIGGER x BEGIN SELECT 1; END ;"
    assert [(sql[start:end], word) for start, end, word in statements(sql)] == [
        ("Create TABLE t (a)", "create"),
        ("INSERT INTO t VALUES (1)", ""),
        ("(SELECT 1)", "("),
        ("éa", "éa"),
        ("CREATE TRIGGER x BEGIN SELECT 1; END", "create"),
    ]
    assert list(statements("a; CREATE TRIGGER x BEGIN SELECT 1;")) == [(0, 1, "a"), (3, -1, "create")]
    assert list(statements("inserted; with_a")) == [(0, 8, "inserted"), (10, 16, "with_a")]


@pytest.mark.parametrize(
    "closed", ["", "a 'b' ", "-- '\n", "-- -\n", "'it''s' ", '"a""b" ', "/* ' */", "[a'b]", "- / "]
)
@pytest.mark.parametrize("never", ["'", "'a''", '"', '"""', "`a", "[a'b", "/*", "/*/", "/* -- '"])
def test_what_is_never_closed_is_found(closed: str, never: str) -> None:
    assert unclosed(closed) == -1
    assert unclosed(closed + never) == len(closed)
    assert unclosed(never + closed, len(never)) == -1
    assert not is_closed(never)


def test_comments_of_one_line_are_told_from_all_that_looks_like_one() -> None:
    sql = "-- a\n'-- b' \"-- c\" [-- d] `-- e` /* -- f\n-- g */ --h -- i\r\n- - j --"
    assert list(comments(sql)) == [(0, " a"), (49, "h -- i\r"), (65, "")]


def test_plainer_sql_has_no_comments_and_no_names_that_look_like_something_else() -> None:
    assert plainer("a-- 'b'\n/* c */'--;' - / [it's;--/*]\ufeff \"d\" a\ufeffb") == (
        "a \n '--;' - / [it\0qs\0s\0m\0c]  \"d\" a\ufeffb"
    )


# Length: with a pattern that tries anything twice, each of these takes minutes or for ever.

READ_ALL = """
import json, sys
from vmpilot.migrate import tokens
from vmpilot.migrate.errors import HistoryError
from vmpilot.migrate.files.script import checksum, parse
for sql in json.load(sys.stdin):
    print(ascii(sql[:30] + ' ... ' + sql[-10:]), flush=True)
    for read in (tokens.tokens, tokens.statements, tokens.mentioned, tokens.texts, tokens.plainer):
        for _ in read(sql):
            pass
    for _ in tokens.comments(sql):
        pass
    tokens.head(sql)
    tokens.unclosed(sql)
    try:
        checksum(parse("", sql.encode(), "up"))
    except HistoryError:
        pass
"""

LONG = (
    ("-- ", "-", ""),
    ("select 1 ", "-", '\n"'),
    ("", "/", "'"),
    ("select /", "*", ""),
    ("", "/*", ""),
    ("select 1 ", "/**/", "'"),
    ("select ", "'", "' '"),
    ("select a", "''", "'"),
    ("", "x'", "'"),
    ("delete from a ", " ", "'"),
    ("select ", '"', '"'),
    ("select ", "a'b\"", ""),
    ("select ", "[", ""),
    ("select ", "[]", "`"),
    ("", "`", "``a"),
    ("", " ", "'"),
    ("a", "\ufeff", " \ufeff"),
    ("create ", "temp ", "table"),
    ("create ", "temporary", ""),
    ("create trigger x begin ", "end", ""),
    ("create trigger x begin ", "end -- \n;", " '"),
    ("explain ", "query plan ", ""),
    ("insert ", "or ", ""),
    ("insert into ", "a.", ""),
    ("select ", "1.", "e"),
    ("", "1e", "+"),
    ("", "$:", "("),
    ("", ";;'", ""),
    ("update a", "\r\n", '"'),
)


def test_reading_takes_as_long_as_the_text() -> None:
    """In a process of its own: what is stuck in a pattern can only be killed."""
    long = [begin + 200_000 // len(piece) * piece + end for begin, piece, end in LONG]
    reading = [sys.executable, "-c", READ_ALL]
    sent = json.dumps(long).encode()
    try:
        done = subprocess.run(reading, input=sent, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=True)
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"still reading the last of these: {error.stdout}")
    assert len(done.stdout.splitlines()) == len(LONG)


# What fails


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("CREATE TABLE u (\n  a TEXT,\n  b TEXT NOT NUL\n)", 3),
        ("SELECT a,\n  b\nFROM (SELECT 1 AS a)", 2),
        ("SELECT 'b' AS c,\n  x.b\nFROM (SELECT 1 AS a) x", 2),
        ("SELECT 1\n-- b\nFROM [no\nwhere]", 3),
        ("SELECT 1\nFROM main.nowhere", 2),
        ('INSERT INTO t (a,\n  "odd name")\nVALUES (1, 2)', 2),
        ("CREATE TABLE u (\na, b, a)", 2),
        ("SELECT\n missing(1)", 2),
        ("SELECT 1 ORDER BY 1\nCOLLATE nowhere", 2),
        ("SELECT 1,\n\n@", 3),
        ("SELECT 1,\n\u201ca\u201d", 2),
        ("SELECT 1\nnear 'near'\n'near'", 0),
        ("SELECT b,\nb", 0),  # which of the two, nobody knows
        ("SELECT b, b", 1),
        ("SELECT 1 FROM t\nWHERE (a = 1", 0),
        ("INSERT INTO t VALUES (1,\n2)", 0),
    ],
)
def test_the_token_that_sqlite_names_is_found_where_only_one_can_be_meant(sql: str, line: int) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a)")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(sql)
    token = named(sql, str(caught.value))
    assert (sql.count("\n", 0, token.start) + 1 if token else 0) == line


def test_a_token_is_alone_if_nothing_but_blanks_and_comments_stand_on_its_line() -> None:
    sql = "go\nA go\n\t Go -- go\r\n'\ngo\n' /*\ngo*/ go\ngo /* b\n*/ c\n/ /* d */ -- e\n/ 2\n[\n/\n]\ngo"
    assert [(token.text, sql.count("\n", 0, token.start)) for token in alone(sql, "go", "/")] == [
        *(("go", 0), ("Go", 2), ("go", 7), ("/", 9), ("go", 14))
    ]


def test_what_is_unusual_outside_of_strings_and_names_is_found() -> None:
    usual = "SELECT 'a?:b\v\ufeff', [$c], a$d, \"@e\", -1 <> 2 -- \ufeff\v ?\n/* \x1a */ FROM a\ufeffb"
    assert list(unusual(usual)) == []
    sql = f"\ufeff{usual} \ufeff , ?, ?1, :a, @b, $c \v , \x1a"
    assert [token.text for token in unusual(sql)] == [
        *("\ufeff", "\ufeff", "?", "?1", ":a", "@b", "$c", "\v", "\x1a")
    ]
    assert all(sql.startswith(token.text, token.start) for token in unusual(sql))
