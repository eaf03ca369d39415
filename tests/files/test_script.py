"""One SQL file: its statements come out as SQLite itself would take them, each with its line; what may not
stand in a migration is refused where it stands; and the checksum tells an edit from a change of looks.

Three oracles judge the splitter: statements that are known beforehand, SQLite's `executescript`, and
`sqlite3.complete_statement` for text that need not make sense.
"""

import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from itertools import cycle, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmpilot.migrate.errors import HistoryError
from vmpilot.migrate.files.script import Script, checksum, line, parse, shortened, statement, statements
from vmpilot.migrate.tokens import texts

MANY = settings(max_examples=2 * settings().max_examples)


def script(text: str, direction: str = "up") -> Script:
    return parse("m/0001.sql", text.encode(), direction)


def split(text: str) -> list[str]:
    return list(statements(script(text)))


def refusal(data: str | bytes, direction: str = "up") -> str:
    """Return the message with which a text is refused, without the file's name in front."""
    with pytest.raises(HistoryError) as caught:
        parse("m/0001.sql", data.encode() if isinstance(data, str) else data, direction)
    error = caught.value
    where, _, what = str(error).partition(": ")
    assert (error.file, where) == ("m/0001.sql", f"m/0001.sql:{error.line}")
    return f"{error.line}: {what}"


# What SQLite allows between two tokens, with everything in it that means something elsewhere.
BLANKS = (
    *(" ", "\t", "\n", "\r\n", "\f", "--\n", "-- it's; end \" ` [ /* --\r\n"),
    *("/**/", "/***/", "/*/*/", "/* ';' -- */", "/*\n; END;\r\n*/"),
)
blanks = st.lists(st.sampled_from(BLANKS), max_size=3).map("".join)
gaps = st.lists(st.sampled_from(BLANKS), min_size=1, max_size=3).map("".join)

contents = st.text(alphabet="aé€😀;'\"`[-/*\\ \t\n", max_size=10)
literals = contents.map(lambda text: "'" + text.replace("'", "''") + "'") | st.sampled_from(
    ("x'3b'", "X''", "17", "-1.5e-3", "NULL", "'\r\n;'", "''''")
)


def names(prefix: str) -> st.SearchStrategy[str]:
    """Return quoted names of all four kinds that begin with a prefix."""

    def doubled(quote: str) -> Callable[[str], str]:
        return lambda text: quote + prefix + text.replace(quote, 2 * quote) + quote

    kinds = [contents.map(doubled(quote)) for quote in "\"'`"]
    return st.one_of(*kinds, contents.map(lambda text: f"[{prefix}{text}]"))


BASE = """
CREATE TABLE t (a, b);
CREATE TABLE "semi;colon" (a, "it's" DEFAULT ';');
CREATE VIEW v AS SELECT a FROM t;
"""
# Statements that can run in any order and any number of times. A letter stands for a literal or for the name
# of a table, an index, a view or a trigger.
KINDS = (
    "INSERT INTO t VALUES ( L , L )",
    'INSERT INTO [semi;colon] ( a , "it\'s" ) VALUES ( L , L )',
    "REPLACE INTO t ( a ) SELECT L",
    "UPDATE t SET a = a || L WHERE b IS NOT L",
    "DELETE FROM t WHERE a = L",
    "WITH x ( y ) AS ( VALUES ( L ) ) INSERT INTO t ( a ) SELECT y FROM x",
    "SELECT L AS T",
    "VALUES ( L ) , ( -1 / 2 )",
    "PRAGMA user_version = 7",
    "ANALYZE",
    "EXPLAIN SELECT L",
    "EXPLAIN QUERY PLAN SELECT * FROM t",
    "CREATE TABLE IF NOT EXISTS T ( T DEFAULT L )",
    "CREATE TEMP TABLE IF NOT EXISTS T ( end_ )",
    "DROP TABLE IF EXISTS T",
    "CREATE INDEX IF NOT EXISTS I ON t ( a ) WHERE b = L",
    "CREATE VIEW IF NOT EXISTS V AS SELECT CASE WHEN a THEN L END AS [trigger] FROM t",
    "CREATE TRIGGER IF NOT EXISTS G AFTER INSERT ON t BEGIN DELETE FROM t WHERE a = L ; END",
    "create trigger if not exists G before update of a on t when new . a <> L begin"
    " update [semi;colon] set a = case when a then case a when L then 1 end else L end ;"
    " select case a when 1 then 2 end from t ; end",
    "CREATE TEMP TRIGGER IF NOT EXISTS G INSTEAD OF INSERT ON v BEGIN"
    " INSERT INTO t ( a ) VALUES ( new . a ) ; INSERT INTO t ( a ) VALUES ( L ) ; END",
    "CREATE TEMPORARY TRIGGER IF NOT EXISTS G AFTER DELETE ON t BEGIN SELECT L AS [end] ; END",
    "DROP TRIGGER IF EXISTS G",
    "EXPLAIN CREATE TRIGGER IF NOT EXISTS G AFTER INSERT ON t BEGIN SELECT L ; END",
    "EXPLAIN QUERY PLAN CREATE TEMP TRIGGER IF NOT EXISTS G AFTER INSERT ON t BEGIN SELECT 1 ; END",
)


@st.composite
def tokens(draw: st.DrawFn) -> list[str]:
    """Return the tokens of one statement."""
    drawn = {"L": literals, **{letter: names(letter * 2) for letter in "TIVG"}}
    return [draw(drawn[word]) if word in drawn else word for word in draw(st.sampled_from(KINDS)).split()]


@st.composite
def looks(draw: st.DrawFn, parts: list[list[str]]) -> tuple[str, list[tuple[str, int]]]:
    """Return statements as a text, and each of them with its line."""
    between = cycle(draw(st.lists(gaps, min_size=5, max_size=9)))
    text, known = draw(blanks), []
    for part in parts:
        number = text.count("\n") + 1
        body = part[0] + "".join(next(between) + token for token in part[1:])
        end = draw(blanks) + ";" + draw(st.sampled_from(("", ";", " ; ;\n"))) + draw(blanks)
        if part is parts[-1] and draw(st.booleans()):
            end = draw(blanks) + draw(st.sampled_from(("", "-- the last comment; without a newline")))
        text += body + end
        known.append((body, number))
    return draw(st.sampled_from(("", "\ufeff"))) + text, known


files = st.lists(tokens(), min_size=1, max_size=6).flatmap(looks)


@MANY
@given(files)
def test_known_statements_come_back_with_their_lines(file: tuple[str, list[tuple[str, int]]]) -> None:
    text, known = file
    found = script(text)
    assert [(part, line(found, at)) for at, part in enumerate(statements(found))] == known
    assert [statement(found, at) for at in range(len(known))] == [part for part, _ in known]


@MANY
@given(files)
def test_running_the_parts_one_by_one_leaves_what_executescript_leaves(
    file: tuple[str, list[tuple[str, int]]],
) -> None:
    text, known = file
    ours = left_by(lambda connection: [connection.execute(part) for part in statements(script(text))])
    bare = ";".join(part for part, _ in known)
    assert ours == left_by(lambda connection: connection.executescript(bare))
    # What stands between the last token and the semicolon is kept by SQLite with the text of an index.
    theirs = left_by(lambda connection: connection.executescript(text))
    assert list(map(in_tokens, ours)) == list(map(in_tokens, theirs))


def left_by(work: Callable[[sqlite3.Connection], object]) -> list[object]:
    """Return all that a database holds behind some work."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(BASE)
        work(connection)
        return everything(connection)


def in_tokens(found: object) -> object:
    return tuple(texts(str(value)) for value in found) if isinstance(found, tuple) else found


def everything(connection: sqlite3.Connection) -> list[object]:
    """Return all that a database holds, TEMP objects and user_version included."""
    found: list[object] = [connection.execute("PRAGMA user_version").fetchone()]
    for schema in ("main", "temp"):
        objects = connection.execute(
            f"SELECT type, name, tbl_name, sql FROM {schema}.sqlite_master"
        ).fetchall()
        found += objects
        for _, name, *_ in (entry for entry in objects if entry[0] == "table"):
            quoted = name.replace('"', '""')
            found += connection.execute(f'SELECT "{quoted}", * FROM {schema}."{quoted}"').fetchall()
    return found


# EXPLAIN stands before CREATE only: behind it SQLite looks for CREATE TRIGGER past any words that make no sense.
FRAGMENTS = (
    *(" ", "\n", "\r\n", ";", "'", '"', "`", "[", "]", "--", "-", "/*", "*/", "/", "*", "$", "1", "x", "é"),
    *("SELECT ", "CREATE ", " TEMP ", " TEMPORARY ", " TRIGGER ", "END", "\nEND;", " BEGIN "),
    *("EXPLAIN CREATE ", "EXPLAIN\n-- why\nQUERY /* all */ PLAN CREATE "),
)


@settings(max_examples=8 * settings().max_examples)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join))
def test_text_that_makes_no_sense_is_split_as_sqlite_would(text: str) -> None:
    text = f"x;{text}"  # so that no BEGIN comes first, which might be left out together with an END
    expected, rest = split_by_sqlite(text)
    try:
        found = list(statements(script(text)))
    except HistoryError as error:
        what = str(error).partition(": ")[2]
        if "not allowed here" not in what:  # otherwise it was split, and a statement was refused
            assert what.endswith((" is never closed", "this trigger has no END;"))
            assert not sqlite3.complete_statement(rest + "\n;")
        return
    assert sqlite3.complete_statement(rest + "\n;")
    assert [texts(part) for part in found] == [texts(part) for part in expected]
    assert all(whole.startswith(part) for part, whole in zip(found, expected, strict=True))


def split_by_sqlite(text: str) -> tuple[list[str], str]:
    """Return the statements of a text by asking SQLite at every semicolon, and the text behind the last."""
    ends = [0, *(at + 1 for at, character in enumerate(text) if character == ";")]
    parts, start = [], 0
    for end in ends[1:]:
        if sqlite3.complete_statement(text[start:end]):
            parts.append(text[start : end - 1])
            start = end
    stripped = [behind_comments(part) for part in (*parts, text[start:])]
    return [part for part in stripped if part], text[start:]


def behind_comments(text: str) -> str:
    text = text.strip()
    while text[:2] in ("--", "/*"):
        text = text[2:].partition("\n" if text[0] == "-" else "*/")[2].strip()
    return text


@pytest.mark.parametrize(
    "text",
    [
        *("", " \r\n\t", "-- nothing", "/* nothing */", ";", " ; ;\n;", "\ufeff", "\ufeff-- nothing\n;"),
        *("BEGIN; COMMIT;", "-- why\nBEGIN;\n;COMMIT"),
    ],
)
def test_a_file_may_be_empty(text: str) -> None:
    assert split(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', \";\", `;`, [;]; SELECT 2", ["SELECT ';', \";\", `;`, [;]", "SELECT 2"]),
        (
            "SELECT 'it''s;', \"a\"\";\", `b``;`; SELECT 2",
            ["SELECT 'it''s;', \"a\"\";\", `b``;`", "SELECT 2"],
        ),
        ("SELECT [']; SELECT 2; SELECT [']", ["SELECT [']", "SELECT 2", "SELECT [']"]),
        ("SELECT x'3b', X'3B'; SELECT 2", ["SELECT x'3b', X'3B'", "SELECT 2"]),
        ("SELECT 1 /* ; */; SELECT 2 -- ;", ["SELECT 1", "SELECT 2"]),
        ("SELECT 1/2 - -3; SELECT 2-1", ["SELECT 1/2 - -3", "SELECT 2-1"]),
        ("(SELECT 1); \"odd\"; 'odd'", ["(SELECT 1)", '"odd"', "'odd'"]),
        ("SELECT CASE WHEN 1 THEN 2 END; SELECT 2", ["SELECT CASE WHEN 1 THEN 2 END", "SELECT 2"]),
        ("CREATE TABLE triggers (a); SELECT 2", ["CREATE TABLE triggers (a)", "SELECT 2"]),
        ('CREATE TABLE "trigger" (a); SELECT 2', ['CREATE TABLE "trigger" (a)', "SELECT 2"]),
        ("CREATE TABLE t (a) -- trigger\n; SELECT 2", ["CREATE TABLE t (a)", "SELECT 2"]),
        ("DROP TRIGGER x; SELECT 2", ["DROP TRIGGER x", "SELECT 2"]),
    ],
)
def test_a_semicolon_ends_a_statement_only_where_it_is_one(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_a_column_with_a_comment_behind_it_is_added_on_every_sqlite() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a)")
        for part in split("ALTER TABLE t ADD COLUMN b -- why\n; ALTER TABLE t ADD c /* why */ -- ;\n-- why"):
            connection.execute(part)
        assert [row[1] for row in connection.execute("PRAGMA table_info(t)")] == ["a", "b", "c"]


@pytest.mark.parametrize("begin", ["CREATE", "create /* temp */\n", "CREATE TEMP", "CREATE temporary --\n"])
@pytest.mark.parametrize("explain", ["", "EXPLAIN ", "explain query /**/ plan\n"])
@pytest.mark.parametrize(
    "body",
    [
        "SELECT 1;",
        "SELECT CASE WHEN 1 THEN 2 END; UPDATE t SET a = CASE a WHEN 1 THEN CASE WHEN 2 THEN 3 END END;",
        "SELECT 1 AS [end;], 2 AS \"end;\", 3 AS `;end;`, ';\nEND;';",
        "SELECT end_ FROM t;; SELECT 2;",
        "-- ; END;\nSELECT 1 /* ; END; */;",
    ],
)
@pytest.mark.parametrize("end", ["END", "end", "END -- really\n", "END /* ; */"])
def test_a_trigger_ends_with_its_own_end(begin: str, explain: str, body: str, end: str) -> None:
    text = f"{explain}{begin} TRIGGER x AFTER INSERT ON t BEGIN {body}\n{end}"
    trigger = text[: text.lower().rindex("end") + 3]
    found = script(f"SELECT 1;\n{text};\nSELECT 2")
    assert list(statements(found)) == ["SELECT 1", trigger, "SELECT 2"]
    assert [line(found, at) for at in range(3)] == [1, 2, text.count("\n") + 3]
    assert list(statements(script(text))) == [trigger]


STRING = "this string is never closed"
NAME = "this quoted name is never closed"
COMMENT = "this comment is never closed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1;\nSELECT 'a;\n", f"2: {STRING}"),
        ("SELECT 'a', '\nb''", f"1: {STRING}"),
        ("SELECT 'it''s',\n\n'; SELECT \" ` [ /*", f"3: {STRING}"),
        ('SELECT 1;\n\nSELECT "a;', f"3: {NAME}"),
        ("SELECT\n`a;\n'b'", f"2: {NAME}"),
        ("SELECT [a;", f"1: {NAME}"),
        ("SELECT 1\n; /* the\nend", f"2: {COMMENT}"),
        ("/* the\nend", f"1: {COMMENT}"),
        ("SELECT 1 -- '\n/* -- */ /*", f"2: {COMMENT}"),
        ("SELECT 1 /*/", f"1: {COMMENT}"),
        ("/* ' */ -- \"\n'", f"2: {STRING}"),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN\nSELECT 'a;\nEND;", f"2: {STRING}"),
    ],
)
def test_what_is_never_closed_is_refused_where_it_begins(text: str, expected: str) -> None:
    assert refusal(text) == expected
    assert refusal("\ufeff-- why\r\n" + text) == f"{int(expected[0]) + 1}{expected[1:]}"


@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "\nBEGIN\nSELECT 1;",
            "\nBEGIN SELECT 1; SELECT CASE WHEN 1 THEN 2 END;",
            "\nBEGIN SELECT 1; END x;",
        ),
        *('\nBEGIN SELECT 1; "END";', "\nBEGIN SELECT 1; END_;", "\nBEGIN END"),
    ],
)
def test_a_trigger_that_has_no_end_is_refused_where_it_begins(body: str) -> None:
    text = "SELECT 1;\n-- why\nCREATE TEMP TRIGGER x AFTER INSERT ON t" + body
    assert refusal(text) == refusal(text + "\n;") == "3: this trigger has no END;"


UTF_16 = "saved as UTF-16, expected UTF-8; save it as UTF-8"
WINDOWS = 'saved as Windows-1252 (byte {} is "{}" there), expected UTF-8; save it as UTF-8'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"SELECT 1;\nSELECT '\0'", "2: a NUL byte is not allowed here"),
        (b"\0", "1: a NUL byte is not allowed here"),
        (20 * b"\0", "1: a NUL byte is not allowed here"),
        (b"SELECT '\0\0', '\0'", "1: a NUL byte is not allowed here"),
        ("SELECT 1".encode("utf-16-le"), f"1: {UTF_16}"),
        ("-- Gr\u00fc\u00dfe \u6f22\nSELECT 1".encode("utf-16-be"), f"1: {UTF_16}"),
        ("SELECT 1;\n".encode("utf-16"), f"1: {UTF_16}"),
        (b"\xff\xfe", f"1: {UTF_16}"),
        (b"\xfe\xff\0", f"1: {UTF_16}"),
        ("SELECT 1;\n".encode("utf-32"), f"1: {UTF_16.replace('16', '32')}"),
        (b"\0\0\xfe\xff" + "SELECT 1".encode("utf-32-be"), f"1: {UTF_16.replace('16', '32')}"),
        (b"SELECT 1;\r\n\nSELECT '\xe9'", "3: " + WINDOWS.format("0xe9", "\u00e9")),
        (b"SELECT \x93a\x94", "1: " + WINDOWS.format("0x93", "\u201c")),
        (b"SELECT '\xe9', '\x81'", "1: byte 0xe9 is not UTF-8"),
        (b"-- \xed\xa0\x80", "1: byte 0xed is not UTF-8"),
        (b"\xe2\x82", "1: byte 0xe2 is not UTF-8"),
    ],
)
def test_only_utf_8_without_nul_is_a_migration(data: bytes, expected: str) -> None:
    assert refusal(data) == expected


def test_text_reaches_sqlite_unchanged() -> None:
    text = "SELECT 'a\r\nb\tc',\r\n\t\"é€😀\" -- \u00a0\ufeff"
    assert list(statements(script("\ufeff" + text))) == [text.partition(" --")[0]]
    assert script("\ufeff" + text).text == text


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT\n\t 1  ,\r\n2", "SELECT 1 , 2"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
        ("x " * 1000, "x " * 38 + "x..."),
    ],
)
def test_a_statement_is_shortened_to_one_line(long: str, short: str) -> None:
    assert shortened(long) == short


# Transactions

OWNED = "is not allowed here, the runner owns the transaction"
ONE = "is not allowed here, a migration has one database"
CONTROL = (
    *("BEGIN", "begin immediate", "Begin Exclusive Transaction", "BEGIN TRANSACTION t", "BEGIN CONCURRENT"),
    *("COMMIT", "commit transaction", "END", "End Transaction", "END; x", "COMMIT AND CHAIN"),
    *("ROLLBACK", "rollback transaction to savepoint x", "SAVEPOINT x", "savepoint begin_"),
    *("RELEASE x", "Release Savepoint x", "ATTACH 'x.db' AS x", "attach database ':memory:' as y"),
    *("DETACH x", "detach/**/database y"),
)


@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("{};", 1),
        ("{}", 1),
        ("-- why\n\n  {};", 3),
        ("/* why */ {};", 1),
        ("SELECT 1; /* a\nb */ -- c\n;{} ;", 3),
        ("-- vmpilot: no-transaction\nVACUUM;\n{};", 3),
        ("BEGIN;\nSELECT 1;\n/**/{};\nSELECT 2;\nCOMMIT;", 3),
    ],
)
def test_statements_that_control_the_transaction_are_refused(control: str, text: str, number: int) -> None:
    word = control.replace("/", " ").replace(";", " ").split()[0].upper()
    reason = ONE if word in ("ATTACH", "DETACH") else OWNED
    assert refusal(text.replace("{}", control)) == f"{number}: {word} {reason}"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'BEGIN; COMMIT;'; -- COMMIT;\n/* ROLLBACK; */",
        'CREATE TABLE "begin" ("commit", "end", [rollback]);',
        "CREATE TABLE beginning (a); DROP TABLE ending;",
        "EXPLAIN COMMIT;",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END;",
        "INSERT OR ROLLBACK INTO t VALUES (1);",
    ],
)
def test_their_words_may_stand_elsewhere(text: str) -> None:
    assert split(text)


BEGINS = (
    "BEGIN",
    "begin transaction",
    "BEGIN DEFERRED",
    "Begin Immediate Transaction",
    "BEGIN/**/EXCLUSIVE -- x\n",
)
ENDS = ("COMMIT", "commit transaction", "END", "End -- x\nTransaction", "COMMIT /* ; */")


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("end", ENDS)
def test_a_files_own_wrapper_is_left_out(begin: str, end: str) -> None:
    for last in (";", "", ";\n-- done"):
        assert split(f"-- why\n{begin};\nSELECT 1;\nSELECT 2;\n{end}{last}") == ["SELECT 1", "SELECT 2"]


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
        ("pragma foreign_keys(0)", "Pragma main . foreign_keys = 1"),
        ("PRAGMA /* why */ foreign_keys=off; PRAGMA foreign_keys", "PRAGMA foreign_keys /* why */"),
    ],
)
def test_foreign_keys_may_be_switched_around_the_wrapper(before: str, behind: str) -> None:
    found = script(f"{before};\nBEGIN;\nSELECT 1;\nCOMMIT;\n{behind};")
    assert split(f"{before};{behind}") == [part.rstrip() for part in statements(found) if part != "SELECT 1"]
    assert [line(found, at) for at, part in enumerate(statements(found)) if part == "SELECT 1"] == [3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BEGIN;\nSELECT 1;", f"1: BEGIN {OWNED}"),
        ("SELECT 1;\nCOMMIT;", f"2: COMMIT {OWNED}"),
        ("SELECT 1;\nBEGIN;\nSELECT 2;\nCOMMIT;", f"2: BEGIN {OWNED}"),
        ("BEGIN;\nSELECT 2;\nCOMMIT;\nSELECT 1;", f"1: BEGIN {OWNED}"),
        ("PRAGMA user_version = 1;\nBEGIN;\nCOMMIT;", f"2: BEGIN {OWNED}"),
        ("PRAGMA defer_foreign_keys = 1;\nBEGIN;\nCOMMIT;", f"2: BEGIN {OWNED}"),
        ("PRAGMA foreign_keys_ = 1;\nBEGIN;\nCOMMIT;", f"2: BEGIN {OWNED}"),
        ("PRAGMA foreign_key_check;\nBEGIN;\nCOMMIT;", f"2: BEGIN {OWNED}"),
        ("BEGIN;\nSELECT 1;\nROLLBACK;", f"1: BEGIN {OWNED}"),
        ("COMMIT;\nSELECT 1;\nBEGIN;", f"1: COMMIT {OWNED}"),
        ("END;\nSELECT 1;\nEND;", f"1: END {OWNED}"),
        ("BEGIN;\nSELECT 1;\nBEGIN;", f"1: BEGIN {OWNED}"),
        ("BEGIN;\nBEGIN;\nCOMMIT;\nCOMMIT;", f"2: BEGIN {OWNED}"),
        ("BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;", f"3: COMMIT {OWNED}"),
        ("BEGIN x;\nSELECT 1;\nCOMMIT;", f"1: BEGIN {OWNED}"),
        ("BEGIN;\nSELECT 1;\nCOMMIT x;", f"1: BEGIN {OWNED}"),
        ("-- vmpilot: no-transaction\nBEGIN;\nSELECT 1;\nCOMMIT;", f"2: BEGIN {OWNED}"),
    ],
)
def test_anything_that_is_not_quite_a_wrapper_is_refused(text: str, expected: str) -> None:
    assert refusal(text) == expected


@pytest.mark.parametrize(
    "copy", ["VACUUM INTO 'x.db'", "vacuum main /* to */ into 'x.db'", 'VACUUM "a" INTO (b)']
)
@pytest.mark.parametrize(
    ("text", "number"),
    [("{}", 1), ("-- vmpilot: no-transaction\nVACUUM;\n{};", 3), ("BEGIN;\n{};\nCOMMIT;", 2)],
)
def test_a_copy_into_a_file_is_refused(copy: str, text: str, number: int) -> None:
    assert refusal(text.replace("{}", copy)) == f"{number}: VACUUM INTO {ONE}"


def test_other_statements_may_mention_both_words() -> None:
    assert len(split("VACUUM; VACUUM \"into\"; VACUUM main -- into\n; EXPLAIN VACUUM INTO 'x'")) == 4
    assert len(split("INSERT INTO vacuum VALUES (1); SELECT 'VACUUM INTO'")) == 2


# What belongs to others than SQL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".read x.sql", "1: .read is not allowed here, it is a command of the sqlite3 shell and no SQL"),
        (
            "-- why\n.mode csv\n;",
            "2: .mode is not allowed here, it is a command of the sqlite3 shell and no SQL",
        ),
        ("SELECT 1;\n\\set a 1", "2: \\set is not allowed here, it is a command of psql and no SQL"),
        ("\\i x.sql", "1: \\i is not allowed here, it is a command of psql and no SQL"),
        ("SELECT 1;\ngo;", "2: go is not allowed here, it is a command of sqlcmd and no SQL"),
        ("Use db;", "1: Use is not allowed here, it is a command of the mysql client and no SQL"),
        ("source other.sql", "1: source is not allowed here, it is a command of the mysql client and no SQL"),
        ("DELIMITER $$", "1: DELIMITER is not allowed here, it is a command of the mysql client and no SQL"),
        ("SELECT 1;\nGO\nSELECT 2;", "2: GO is not allowed here, it is a command of sqlcmd and no SQL"),
        ("SELECT 1;\n/\nSELECT 2;", "2: / is not allowed here, it is a command of SQL*Plus and no SQL"),
        ("@x.sql", "1: @x.sql is not allowed here, it is a command of SQL*Plus and no SQL"),
        ("SELECT 1;\n# why", "2: # is not allowed here, a comment begins with --"),
        (
            f".{100 * 'x'}",
            f"1: .{39 * 'x'} is not allowed here, it is a command of the sqlite3 shell and no SQL",
        ),
    ],
)
def test_what_only_a_client_understands_is_called_so(text: str, expected: str) -> None:
    assert refusal(text) == expected
    assert refusal(text, "down") == expected


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '\n.read x\nGO\n/\n\\set\n#';",
        "/*\n.read x\nGO\n# */ SELECT 1 /\n2;",
        "-- .read\n-- GO\nSELECT 1 AS go, 2 AS\ndelimiter;",
        'CREATE TABLE go (delimiter); CREATE TABLE "\n.x" ([#]);',
        "SELECT\n.5;",
    ],
)
def test_what_only_looks_like_a_command_is_left_alone(text: str) -> None:
    assert split(text)


OUT = "out: SQLite keeps {} itself"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE TABLE sqlite_sequence(name,seq);", f"1: leave this line {OUT.format('sqlite_sequence')}"),
        (
            'CREATE TABLE t (a);\nCREATE TABLE IF NOT EXISTS "sqlite_stat1"(tbl,idx,stat);\n'
            "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample);",
            f"2: leave this line and 1 other {OUT.format('sqlite_stat1')}",
        ),
    ],
)
def test_what_the_shell_prints_of_sqlites_own_tables_is_refused(text: str, expected: str) -> None:
    assert refusal(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM sqlite_sequence; INSERT INTO sqlite_sequence VALUES ('t', 7);",
        "PRAGMA writable_schema = ON; CREATE TABLE sqlite_stat1(tbl,idx,stat);",
        "CREATE VIEW v AS SELECT name FROM sqlite_sequence\n/* v(name) */;",
        "CREATE TABLE t (a DEFAULT 'sqlite_sequence');",
    ],
)
def test_sqlites_own_tables_may_be_used(text: str) -> None:
    assert split(text)


VERSION, LOG = (f"out: the runner keeps {name} itself" for name in ("alembic_version", "migration_log"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "CREATE TABLE alembic_version (\n    version_num VARCHAR(32) NOT NULL\n);\n\n"
            "-- Running upgrade  -> 57dc007f6d46\nCREATE TABLE t (a);\n"
            "INSERT INTO alembic_version (version_num) VALUES ('57dc007f6d46') RETURNING version_num;\n"
            "UPDATE alembic_version SET version_num='x' WHERE alembic_version.version_num = 'y';",
            f"1: leave this line and 2 others {VERSION}",
        ),
        ("SELECT 1;\nINSERT INTO alembic_version VALUES ('x')", f"2: leave this line {VERSION}"),
        ("UPDATE OR IGNORE main.Alembic_Version SET version_num = 'x'", f"1: leave this line {VERSION}"),
        ('DELETE FROM "main".[ALEMBIC_VERSION]', f"1: leave this line {VERSION}"),
        ("REPLACE INTO 'migration_log' VALUES (1)", f"1: leave this line {LOG}"),
        ("DROP TABLE IF EXISTS `migration_log`", f"1: leave this line {LOG}"),
        ("ALTER TABLE main . migration_log ADD a", f"1: leave this line {LOG}"),
        ("ALTER TABLE t RENAME TO migration_log", f"1: leave this line {LOG}"),
        ("CREATE INDEX i ON migration_log (name)", f"1: leave this line {LOG}"),
        ("CREATE VIEW alembic_version AS SELECT 1", f"1: leave this line {VERSION}"),
        (
            "CREATE TEMP TRIGGER g AFTER INSERT ON main.alembic_version BEGIN SELECT 1; END",
            f"1: leave this line {VERSION}",
        ),
        (
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN\n  SELECT 1;\n  DELETE FROM migration_log;\nEND;",
            "3: this trigger changes migration_log, which only the runner may change",
        ),
        (
            "CREATE TRIGGER begin UPDATE OF begin ON begin WHEN new.begin BEGIN\n"
            "UPDATE OR IGNORE Alembic_Version SET version_num = ';END;'; END",
            "2: this trigger changes alembic_version, which only the runner may change",
        ),
        (
            "CREATE TEMP TRIGGER g INSTEAD OF DELETE ON v BEGIN REPLACE INTO 'migration_log' VALUES (1); END",
            "1: this trigger changes migration_log, which only the runner may change",
        ),
        (
            "-- vmpilot: no-transaction\nPRAGMA writable_schema = ON;\n"
            "UPDATE sqlite_schema SET sql = '' WHERE name = 'alembic_version';",
            "3: this changes alembic_version, which only the runner may change",
        ),
    ],
)
def test_a_statement_on_a_table_of_the_runner_is_refused(text: str, expected: str) -> None:
    assert refusal(text) == expected
    assert refusal(text, "down") == expected


@pytest.mark.parametrize(
    "text",
    [
        "SELECT version_num FROM alembic_version; CREATE VIEW v AS SELECT * FROM migration_log;",
        "CREATE TABLE my_alembic_version (a); INSERT INTO my_alembic_version VALUES ('alembic_version');",
        "-- INSERT INTO alembic_version\nDROP TABLE t /* migration_log */;",
        "CREATE TEMP TABLE alembic_version (a); INSERT INTO temp.alembic_version VALUES (1);",
        "CREATE TABLE t (alembic_version DEFAULT 'migration_log');",
        "CREATE TRIGGER g AFTER INSERT ON t WHEN (SELECT 1 FROM migration_log AS begin) BEGIN\n"
        "INSERT INTO seen SELECT * FROM alembic_version; SELECT 'DELETE FROM migration_log'; END",
    ],
)
def test_the_tables_of_the_runner_may_be_mentioned(text: str) -> None:
    assert split(text)


# Directives


def reasons_of(found: Script) -> tuple[str, str]:
    return found.unguarded, found.keys_on


@pytest.mark.parametrize(
    "comment", ["-- vmpilot: {}\n", "--vmpilot:{}\r\n", "--\tVMPilot:\t{} \t\n", "-- vmpilot: {}"]
)
@pytest.mark.parametrize(
    "place", ["{}", "\n\n-- why\n/* and\nhow */ {}", "\ufeff{}", "-- why\r\n{}", "/* vmpilot: nonsense */{}"]
)
def test_directives_stand_in_the_leading_comments(comment: str, place: str) -> None:
    def read(directive: str, direction: str) -> tuple[str, bool, str]:
        found = script(place.replace("{}", comment.replace("{}", directive)), direction)
        return found.revision, found.transactional, found.irreversible

    for revision in (
        "57dc007f6d46",
        255 * "a",
        "ae_1.B",
        "2024-01-01@head",
        "it's",
        "é😀",
        "heads",
        "+1",
        '"',
    ):
        assert read(f"revision {revision}", "up") == (revision, True, "")
    assert read("no-transaction", "up") == ("", False, "")
    assert read("no-transaction", "down") == ("", False, "")
    assert read("irreversible the rows  are gone", "down") == ("", True, "the rows  are gone")
    for direction in ("up", "down"):
        reasons = [
            reasons_of(script(place.replace("{}", comment.replace("{}", f"{name} 0004 mends it")), direction))
            for name in ("unguarded", "foreign-keys-on")
        ]
        assert reasons == [("0004 mends it", ""), ("", "0004 mends it")]


def test_directives_can_be_combined_and_are_not_statements() -> None:
    found = script("-- vmpilot: no-transaction\n-- why\n-- vmpilot: revision x\nSELECT 1;")
    assert (found.revision, found.transactional, list(statements(found))) == ("x", False, ["SELECT 1"])
    found = script("SELECT 1;")
    assert (found.revision, found.transactional, found.irreversible, reasons_of(found)) == (
        "",
        True,
        "",
        ("", ""),
    )


NOT_A_DIRECTIVE = (
    "is not a directive; expected revision, no-transaction, irreversible, unguarded or foreign-keys-on"
)
MISPLACED = "is not allowed here, it belongs in the"
LATE = "comes too late; directives stand before the first statement"
NOT_A_REVISION = "is not a revision; expected up to 255 printable characters without a space"


@pytest.mark.parametrize(
    ("text", "direction", "expected"),
    [
        ("-- vmpilot: no_transaction", "up", f'1: "no_transaction" {NOT_A_DIRECTIVE}'),
        ("-- why\n-- vmpilot: Revision x", "up", f'2: "Revision" {NOT_A_DIRECTIVE}'),
        ("-- vmpilot:", "up", f'1: "" {NOT_A_DIRECTIVE}'),
        ("-- vmpilot: no-transaction,", "down", f'1: "no-transaction," {NOT_A_DIRECTIVE}'),
        ("-- VMPILOT: the schema of 0.5", "up", f'1: "the" {NOT_A_DIRECTIVE}'),
        ("-- vmpilot: revision", "up", f'1: "" {NOT_A_REVISION}'),
        ("-- vmpilot: revision a b", "up", f'1: "a b" {NOT_A_REVISION}'),
        ("-- vmpilot: revision a\tb", "up", f'1: "a\\tb" {NOT_A_REVISION}'),
        ("-- vmpilot: revision a\u00a0b", "up", f'1: "aU+00A0b" {NOT_A_REVISION}'),
        ("-- vmpilot: revision a\x1bb", "up", f'1: "a\\x1bb" {NOT_A_REVISION}'),
        ("-- vmpilot: revision " + 256 * "a", "up", f'1: "{256 * "a"}" {NOT_A_REVISION}'),
        ("-- vmpilot: revision head", "up", f'1: "head" {NOT_A_REVISION}'),
        ("-- vmpilot: revision Base", "up", f'1: "Base" {NOT_A_REVISION}'),
        ("-- vmpilot: revision x", "down", f'1: "revision" {MISPLACED} .up.sql file'),
        ("-- vmpilot: irreversible x", "up", f'1: "irreversible" {MISPLACED} .down.sql file'),
        ("-- vmpilot: irreversible", "down", '1: "irreversible" needs a reason behind it'),
        ("-- vmpilot: unguarded", "up", '1: "unguarded" needs a reason behind it'),
        ("-- vmpilot: foreign-keys-on ", "down", '1: "foreign-keys-on" needs a reason behind it'),
        ("-- vmpilot: no-transaction x", "up", '1: "no-transaction" stands alone, found "x" behind it'),
        ("-- vmpilot: revision x\n-- vmpilot: revision x", "up", '2: "revision" is given twice'),
        ("SELECT 1;\n-- vmpilot: no-transaction", "up", f'2: "no-transaction" {LATE}'),
        ("BEGIN;\n-- vmpilot: revision x\nCOMMIT;", "up", f'2: "revision" {LATE}'),
        ("SELECT 1; -- vmpilot: nonsense", "up", f'1: "nonsense" {NOT_A_DIRECTIVE}'),
        ("SELECT 1;\n\n-- VMPilot: nonsense", "up", f'3: "nonsense" {NOT_A_DIRECTIVE}'),
    ],
)
def test_a_wrong_directive_is_refused(text: str, direction: str, expected: str) -> None:
    assert refusal(text, direction) == expected


KEYS_ON = "-- vmpilot: foreign-keys-on chats go with their user\n"


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("DROP TABLE t;", "2: DROP TABLE"),
        ("DELETE FROM t;\n/* */ drop table if exists main.t", "3: DROP TABLE"),
        ("ALTER TABLE t RENAME TO u;", "2: ALTER TABLE ... RENAME"),
        ("SELECT 1;\n\nALTER TABLE 'a b' /**/ rename to c;\nDROP TABLE x;", "4: ALTER TABLE ... RENAME"),
    ],
)
def test_no_table_is_dropped_or_renamed_while_foreign_keys_are_on(sql: str, what: str) -> None:
    told = 'is not allowed in a file with "foreign-keys-on", put it into a file of its own'
    for direction in ("up", "down"):
        assert refusal(KEYS_ON + sql, direction) == f"{what} {told}"
    split(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP INDEX i; DROP VIEW v; DROP TRIGGER g;",
        "ALTER TABLE t RENAME COLUMN a TO b; ALTER TABLE t DROP COLUMN c;",
        "CREATE VIEW v AS SELECT 'DROP TABLE t; ALTER TABLE t RENAME TO u';",
    ],
)
def test_what_drops_or_renames_no_table_may_run_with_foreign_keys_on(sql: str) -> None:
    assert script(KEYS_ON + sql).keys_on == "chats go with their user"


@pytest.mark.parametrize(
    ("marker", "shown"),
    [
        ("-- migrate:up", "migrate:up"),
        ("-- migrate:down transaction:false", "migrate:down"),
        ("--migrate:up", "migrate:up"),
        ("-- Migrate:Up", "Migrate:Up"),
        ("-- +goose Up", "+goose"),
        ("-- +goose StatementBegin", "+goose"),
        ("--+goose Down", "+goose"),
        ("-- +migrate Up", "+migrate"),
        ("-- +migrate Down notransaction", "+migrate"),
        ("-- +Goose Down", "+Goose"),
    ],
)
def test_markers_of_files_that_hold_both_directions_are_refused(marker: str, shown: str) -> None:
    what = f'"-- {shown}" belongs to a file that holds both directions; put them into two files'
    assert refusal(f"{marker}\nSELECT 1;") == f"1: {what}"
    assert refusal(f"-- why\r\n\r\n{marker}") == f"3: {what}"
    assert refusal(f"SELECT 1; {marker}\n", "down") == f"1: {what}"
    assert refusal(f"CREATE TABLE t (\n  a {marker}\n);") == f"2: {what}"


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES ('\n-- migrate:up\n', '-- vmpilot: nonsense')",
        'SELECT "-- +goose Up", [-- migrate:up], `-- +migrate`',
        "/*\n-- vmpilot: nonsense\n-- migrate:up\n*/ SELECT 1",
        "-- see vmpilot: the file\n-- to migrate:up the hill\nSELECT 1",
        "-- migrate:upwards\nSELECT 1",
    ],
)
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert len(split(text)) == 1


# Checksum


@MANY
@given(st.data())
def test_looks_do_not_count_in_the_checksum(data: st.DataObject) -> None:
    parts = data.draw(st.lists(tokens(), min_size=1, max_size=4))
    one, other = (data.draw(looks(parts))[0].replace("; ;", "").replace(";;", ";") for _ in range(2))
    assert {checksum(script(text)) for text in (one, other, windows(one))} == {checksum(script(one))}


def windows(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


SAME = "CREATE TABLE t (a TEXT DEFAULT 'it''s', b);\nINSERT INTO t VALUES ('one\ntwo', x'00');\n"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + SAME,
        windows(SAME),
        "-- why\n\n/* and\nhow */" + SAME + "\n\n-- done",
        SAME.rstrip().rstrip(";"),
        SAME.replace(" (", "("),
        SAME.replace(", ", " /* next */ ,"),
        SAME.replace("\nINSERT", " INSERT"),
        f"BEGIN;\n{SAME}COMMIT;",
        "-- vmpilot: revision x\n" + SAME,
        "\ufeff" + SAME.replace("(", "\ufeff ( /**/\ufeff--\n"),
    ],
)
def test_a_cosmetic_edit_keeps_the_checksum(text: str) -> None:
    assert text != SAME
    assert checksum(script(text)) == checksum(script(SAME))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 'a b'", "SELECT 'a  b'"),
        ("SELECT 'a\nb'", "SELECT 'a b'"),
        ("SELECT ' a'", "SELECT 'a'"),
        ("SELECT '-- a'", "SELECT '-- b'"),
        ("SELECT '/* a */'", "SELECT ''"),
        ('SELECT "a b"', 'SELECT "a  b"'),
        ("SELECT [a b]", "SELECT [a  b]"),
        ("SELECT `a b`", "SELECT `a  b`"),
        ("SELECT a", "SELECT A"),
        ("SELECT ab", "SELECT a b"),
        ("SELECT é1", "SELECT é 1"),
        ("SELECT a€b", "SELECT a €b"),
        ("SELECT 'a'", 'SELECT "a"'),
        ("SELECT 'a''b'", "SELECT 'a' 'b'"),
        ('SELECT "a""b"', 'SELECT "a" "b"'),
        ("SELECT x'41'", "SELECT x '41'"),
        ("SELECT 1.e5", "SELECT 1. e5"),
        ("SELECT 1", "SELECT -1"),
        ("SELECT 1 + 2", "SELECT 1, 2"),
        ("SELECT 1; SELECT 2", "SELECT 2; SELECT 1"),
        ("SELECT 1", "SELECT 1; SELECT 1"),
        ("SELECT 1; DELETE FROM t", "SELECT 1 -- ; DELETE FROM t"),
        ("SELECT 12, 3", "SELECT 1, 23"),
        ("SELECT 12 3", "SELECT 1 23"),
        ("SELECT a1 2", "SELECT a 12"),
        ("SELECT a DEFAULT 1", "SELECT a DEFAULT1"),
        ("SELECT - -1", "SELECT --1\n"),
        ("SELECT 1 < -1", "SELECT 1 <> 1"),
        ("SELECT 1 > = 2", "SELECT 1 >= 2"),
        ("SELECT a | | b", "SELECT a || b"),
        ("SELECT a - > 'b'", "SELECT a -> 'b'"),
        ("SELECT 0x1 e", "SELECT 0x1e"),
        ("SELECT 1 .5", "SELECT 1.5"),
        ("SELECT 'a', 'b'", "SELECT 'a'', ''b'"),
        ("SELECT 'a;', 'b'", "SELECT 'a', ';b'"),
        ('SELECT "it\'s", 1', 'SELECT "it\'s" , "1"'),
        ('SELECT "a 12 3"', 'SELECT "a 1 23"'),
        ('SELECT "a-- b"', 'SELECT "a--  b"'),
        ('SELECT "a; b"', 'SELECT "a;b"'),
        ("SELECT [a/* b */]", "SELECT [a/**/]"),
        ("SELECT a\ufeffb", "SELECT a b"),
        ("SELECT `a'` , 'b'", "SELECT `a', ` 'b'"),
        ("", "SELECT 1"),
    ],
)
def test_a_change_of_a_token_changes_the_checksum(one: str, other: str) -> None:
    assert checksum(script(one)) != checksum(script(other))


# In every log there are checksums: another way to make them would call every applied file edited.
KNOWN = {
    """-- a comment's quote
CREATE TABLE "a  b" (id INTEGER DEFAULT 19, n REAL DEFAULT 2.5e9, `it's` TEXT DEFAULT 'x\r\ny; --'); -- ;
INSERT INTO "a  b" VALUES (1 , 90, 'Z', x'09ff') /* ' */;
INSERT INTO "a  b" VALUES (12, 345, 'Z', 7 8);
CREATE TRIGGER t AFTER INSERT ON "a  b" BEGIN SELECT 9; END
""": "d691fd3f29ea5498c4d298b2f1bef4ff666dfda5f2385eb4a0bc4ca1472c2db1",
    "CREATE TABLE t (a DEFAULT 1999);\nINSERT INTO t VALUES ('9'), (29 90);": "a4ae706c034bf67326706c26ff82dfc5f57a0b279249ac8fea88d00b97cf8c53",
    "": "1a03c02fb531d7e1ce353b2f20711c79af2b66730d6de865fb130734973ccd2c",
    # Long enough for another module to hash it.
    f"INSERT INTO t VALUES (1, '{'x; ' * 100_000}');": "4c181bb43d17955db854cf566cf3fd1d74390e10038b27ba61fac5403334e06b",
}


@pytest.mark.parametrize(("text", "known"), KNOWN.items(), ids=["odd", "small", "empty", "long"])
def test_the_checksum_of_a_file_stays_what_it_is(text: str, known: str) -> None:
    assert checksum(script(text)) == known


@MANY
@given(tokens(), tokens())
def test_other_tokens_have_another_checksum(one: list[str], other: list[str]) -> None:
    equal = [windows(token) for token in one] == [windows(token) for token in other]
    assert (checksum(script(" ".join(one))) == checksum(script(" ".join(other)))) == equal


ROWS = (
    "INSERT INTO t VALUES ( {0} , 'it''s {0}' , x'0{0}' )",
    'INSERT INTO "events" ( "id" , [at] ) VALUES ( 1.{0} , - {0} )',
    "INSERT INTO \"it's; {0}\" VALUES ( '-- {0}' )",
    "UPDATE t SET a = '/* {0} ; \r\n */' || a WHERE `a -- b` < {0}",
)


def written(parts: list[list[str]], spelling: Random) -> str:
    """Write statements with any blanks and comments, but none that a minus sign would take in."""
    gaps = [f" {gap}" for gap in BLANKS]
    return ";".join("".join(spelling.choice(gaps) + token for token in part) for part in parts)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 20))])
def test_the_size_of_a_file_makes_no_difference_to_its_checksum(seed: int) -> None:
    # Much longer than what is read at once, so that each way to write it is cut elsewhere.
    spelling = Random(seed)
    rows = spelling.choices(ROWS, k=3)
    parts = [texts(row.format(at)) for at in range(0, 7 * 500, 7) for row in rows]
    plain = checksum(script(";\n".join(" ".join(part) for part in parts)))
    assert checksum(script(written(parts, spelling))) == plain
    assert checksum(script(windows(written(parts, spelling)))) == plain
    for _ in range(3):
        at = spelling.randrange(len(parts))
        changed = list(parts[at])
        changed.insert(
            spelling.randrange(len(changed) + 1), spelling.choice(("1", "'1'", "-", "a", ".", '""'))
        )
        assert checksum(script(written([*parts[:at], changed, *parts[at + 1 :]], spelling))) != plain
        other = [*parts[:at], *parts[at + 1 :]]
        assert checksum(script(written(other, spelling))) != plain


# Size: each of these takes hours or gigabytes with a step that looks at the whole text again.


def large(parts: list[str]) -> Script:
    found = script(";\n".join(parts))
    assert list(statements(found)) == parts
    lines = [line(found, at) for at in range(0, len(parts), max(1, len(parts) // 10))]
    assert all(one < other for one, other in pairwise(lines))
    return found


def test_a_literal_of_a_megabyte_with_twenty_thousand_semicolons_is_one_statement() -> None:
    large(["INSERT INTO t VALUES ('" + 20_000 * f"{49 * 'x'};" + "')"])
    large([f"SELECT {quote}{20_000 * ';'}{quote}" for quote in "'\"`"])
    large(["SELECT " + 20_000 * "/* ; ' */ " + "1"])


def test_two_thousand_triggers_come_out_one_by_one() -> None:
    body = "SELECT CASE WHEN 1 THEN 2 END; " * 20
    large([f"CREATE TRIGGER x{at} AFTER INSERT ON t BEGIN {body} END" for at in range(2000)])


def test_a_trigger_of_twenty_thousand_statements_is_one_statement() -> None:
    large(["CREATE TRIGGER x AFTER INSERT ON t BEGIN " + 20_000 * "SELECT 'end;'; " + "END"])


def test_what_is_never_closed_is_found_behind_a_megabyte() -> None:
    text = "SELECT 1;\n" * 100_000
    assert refusal(text + "'") == f"100001: {STRING}"
    assert refusal(text + "CREATE TRIGGER x BEGIN " + text) == "100001: this trigger has no END;"


def test_ten_megabytes_are_split_in_four_times_their_size() -> None:
    row = b"INSERT INTO t VALUES (1, 'some text of usual length');\n"
    data = row * (10_000_000 // len(row))
    tracemalloc.start()
    try:
        found = parse("m/0001.sql", data, "up")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.starts) == len(data) // len(row)
    assert peak + len(data) < 4 * len(data)
