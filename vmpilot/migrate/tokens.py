r"""The one reader of SQL text: its tokens, names and statements, and what a statement does.

Pure: text in, values out. Follows https://www.sqlite.org/src/file/src/tokenize.c, but for quotes and
comments that are never closed: here they reach to the end of the text.

Every pattern is linear: whatever stands behind a first character matches, so nothing is tried twice. Python
3.11.0 to 3.11.4 need that too: there a possessive group that fails half-way goes wrong (python/cpython
issue 106052).
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, islice, pairwise

from .typed import NamedTuple

# What a statement begins with that handles rows, but for WITH, behind which one of these comes.
WRITING = ("insert", "replace", "update", "delete")
READING = ("select", "values")
SCHEMA = frozenset(("sqlite_schema", "sqlite_master"))  # https://www.sqlite.org/schematab.html

# What SQLite names when a statement fails: a token as it is written, or the last part of a name.
_WRITTEN = r'(?s:(?:near|unrecognized token:) "(.+)"(?:: syntax error)?)'
_MISSING = (
    r"(?s:(?:no such (?:table|column|function|module|collation sequence): (?:.*\.)?"
    r"|table .+ has no column named |duplicate column name: )(.+?)(?: - should this be .*)?)"
)
_BLANKS = " \t\n\f\r"
_COMMENT = r"--[^\n]*+|/\*(?s:.*?)(?:\*/|\Z)"
_TRIVIA = rf"(?:[ \t\n\f\r]++|\ufeff|{_COMMENT})*+"
# All behind ASCII is a letter; a byte order mark only inside of a word. Told by what they are not, and the
# mark by itself: a set with what lies behind Latin-1 takes ten times as long to compile, which each run pays.
_OUTSIDE = r"\x00-#%-/:-@\[-^`{-\x7f"
_INSIDE = rf"[^{_OUTSIDE}]"
_WORD = rf"(?!\ufeff)[^{_OUTSIDE}$0-9]{_INSIDE}*+"
_STRING = r"(?:'[^']*+(?:'|\Z))++"
_DOUBLE = r'(?:"[^"]*+(?:"|\Z))++'
_NAME = r"(?:`[^`]*+(?:`|\Z))++|\[[^\]]*+(?:\]|\Z)"
_BLOB = r"[xX]'[^']*+(?:'|\Z)"
_NUMBER = (
    rf"(?:0[xX][0-9a-fA-F]|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9])?){_INSIDE}*+"
)
_SIGN = rf"->>?|\|\||[<>=!]=|<[<>]|>>|[$:@#?]{_INSIDE}*+|(?s:.)"

_TEXT = rf"{_TRIVIA}(?:({_BLOB}|{_WORD}|{_STRING}|{_DOUBLE}|{_NAME}|{_NUMBER}|{_SIGN})|\Z)"
_TOKEN = (
    rf"{_TRIVIA}(?:(?P<blob>{_BLOB})|(?P<word>{_WORD})|(?P<string>{_STRING})|(?P<double>{_DOUBLE})"
    rf"|(?P<name>{_NAME})|(?P<number>{_NUMBER})|(?P<sign>{_SIGN})|\Z)"
)
# What can be a name, and the string behind it, which can be one there.
_MENTION = (
    rf"""(?:[\x00-!#%&(-,.:-@\\-^{{-\x7f]++|\ufeff|[0-9$]{_INSIDE}*+|{_BLOB}|{_STRING}|{_COMMENT}|[/-])*+"""
    rf"(?:({_WORD}|{_DOUBLE}|{_NAME})(?:{_TRIVIA}(?:\.{_TRIVIA})?({_STRING}))?|\Z)"
)
_ENCLOSED = rf"{_STRING}|{_DOUBLE}|{_NAME}|{_COMMENT}"
_COMMENTS = rf"{_STRING}|{_DOUBLE}|{_NAME}|/\*(?s:.*?)(?:\*/|\Z)|--([^\n]*+)"
_PART = (
    rf"""([^'"`\[/\ufeff-]++|{_STRING}|{_DOUBLE}|{_NAME}|-(?!-)|/(?!\*)|(?<={_INSIDE})\ufeff)"""
    rf"|{_COMMENT}|\ufeff++"
)
_QUOTES = {'"', "`", "["}
_HIDING = {"'": "\0q", ";": "\0s", "--": "\0m", "/*": "\0c"}
_QUOTED = r"""'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|`[^`]*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z)"""
_PLAIN = r"""[^;'"`\[/-]*+"""
_CODE = rf"{_PLAIN}(?:(?:{_QUOTED}|{_COMMENT}|[/-]){_PLAIN})*+"
_ROWS = rf"(?i:{'|'.join((*WRITING, *READING, 'with'))})(?!{_INSIDE})"
# One match per statement: its text, and its first word unless that only handles rows.
_STATEMENT = rf"{_TRIVIA}((?:(?={_ROWS})|((?:{_WORD})?)){_CODE});?"
_LETTERS = "[a-z_]+"
# The table whose rows a statement writes. One match, because files have millions of such statements.
_NAMED = rf"{_WORD}|{_STRING}|{_DOUBLE}|{_NAME}"
_GAP = rf"(?!{_INSIDE}){_TRIVIA}"
_TARGET = (
    rf"{_TRIVIA}((?i:{'|'.join(WRITING)})){_GAP}(?:(?i:or){_GAP}{_WORD}{_TRIVIA})?(?:(?i:into|from){_GAP})?"
    rf"(?!(?i:or|into|from)(?!{_INSIDE}))({_NAMED})(?:{_TRIVIA}\.{_TRIVIA}({_NAMED}))?"
)
# An INSERT of rows up to its first one, as a load has millions of: https://www.sqlite.org/lang_insert.html
_NAMES_LISTED = rf"\((?:[^()'\"`\[/;-]++|{_DOUBLE}|{_NAME})*+\){_TRIVIA}"
_BEGINNING = (
    rf"(?i:insert){_GAP}(?i:into){_GAP}(?:{_NAMED}){_TRIVIA}(?:\.{_TRIVIA}(?:{_NAMED}){_TRIVIA})?"
    rf"(?:{_NAMES_LISTED})?((?i:values){_TRIVIA}\()"
)
# All that numbers, NULL, and what stands around a string consist of, and what separates them.
_OF_LITERALS = b"0123456789eExXnNuUlL+-., \t\n\f\r"

# Which words may follow each other at the start of a trigger.
_TRIGGER = {
    "": ("create", "explain"),
    "explain": ("create", "query"),
    "query": ("plan",),
    "plan": ("create",),
    "create": ("temp", "temporary", "trigger"),
    "temp": ("temp", "temporary", "trigger"),
    "temporary": ("temp", "temporary", "trigger"),
}
# https://www.sqlite.org/lang_keywords.html, and what stands for 0 and 1.
_RESERVED = """
abort action add after all alter always analyze and as asc attach autoincrement before begin between by
cascade case cast check collate column commit conflict constraint create cross current current_date
current_time current_timestamp database default deferrable deferred delete desc detach distinct do drop
each else end escape except exclude exclusive exists explain fail false filter first following for
foreign from full generated glob group groups having if ignore immediate in index indexed initially
inner insert instead intersect into is isnull join key last left like limit match materialized natural
no not nothing notnull null nulls of offset on or order others outer over partition plan pragma
preceding primary query raise range recursive references regexp reindex release rename replace restrict
returning right rollback row rows savepoint select set table temp temporary then ties to transaction
trigger true unbounded union unique update using vacuum values view virtual when where window with
without
"""
_KEYWORDS = frozenset(_RESERVED.split())
_LOWER = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


class Token(NamedTuple):
    """One token; `kind` is word, string, double, name, blob, number or sign.

    A name in backticks or brackets is one; what is in double quotes can turn out to be a string:
    https://www.sqlite.org/quirks.html#double_quoted_string_literals_are_accepted
    """

    kind: str
    text: str
    start: int


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when it is first needed: one takes as long as several migrations, and few are."""
    return re.compile(pattern)


def tokens(sql: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """Yield the tokens of SQL between two offsets; comments and blanks are passed over."""
    for match in compiled(_TOKEN).finditer(sql, start, len(sql) if end is None else end):
        if kind := match.lastgroup:
            yield Token(kind, match[kind], match.start(kind))


def texts(sql: str) -> list[str]:
    """Return only the text of each token; a tenth of the work."""
    return [text for text in compiled(_TEXT).findall(sql) if text]


def letters(sql: str) -> set[str]:
    """Return every run of letters in SQL, in lower case: all its words are among them, and it is quick."""
    return set(compiled(_LETTERS).findall(sql.lower()))


def quoted(name: str) -> str:
    """Return a name as an identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a string of SQL; what holds a NUL is cut there, like any SQL."""
    return "'" + text.replace("'", "''") + "'"


def unquoted(text: str) -> str:
    """Return a name or a string as it is meant, whatever its quotes."""
    quote = text[:1]
    if quote == "[":
        return text[1:-1]
    return text[1:-1].replace(quote * 2, quote) if quote and quote in "\"'`" else text


def identifier(name: str) -> str:
    """Return a name as an identifier, in double quotes only if it needs them."""
    is_plain = name.isascii() and name.isidentifier() and name.lower() not in _KEYWORDS
    return name if is_plain else quoted(name)


def folded(name: str) -> str:
    """Make a name comparable: SQLite ignores the case of ASCII letters only."""
    return name.lower() if name.isascii() else name.translate(_LOWER)


def plain(name: str) -> str:
    """Show a name, in quotes only if it needs them; in double quotes it might count as a string."""
    return name if name.isidentifier() else "`" + name.replace("`", "``") + "`"


def mentioned(sql: str) -> set[str]:
    """Name, folded, all that can be a name in SQL; a string only where a table can stand."""
    pairs = {match.groups() for match in compiled(_MENTION).finditer(sql)}
    return {folded(unquoted(text)) for text in set().union(*pairs) if text}


@lru_cache(4096)
def mentions(sql: str) -> frozenset[str]:
    """Return the same of a view or a trigger, and remember it: a schema is looked at after each step.

    Here also a string can be a table behind a comma or a parenthesis, where nearly all strings are values.
    """
    strings = (token for last, token in pairs(sql) if token.kind == "string" and last.text in (",", "("))
    return frozenset(mentioned(sql).union(folded(unquoted(token.text)) for token in strings))


def replaces(sql: str) -> bool:
    """Tell whether a statement says that rows in its way are to go: https://www.sqlite.org/lang_conflict.html

    Or a CREATE TABLE or ALTER TABLE that they always are.
    """
    found = list(tokens(sql))
    resolutions = zip(found, found[1:], found[2:], strict=False)
    return head(sql).verb == "replace" or any(
        _is(word, "replace")
        and (
            (_is(first, "insert", "update") and _is(second, "or"))
            or (_is(first, "on") and _is(second, "conflict"))
        )
        for first, second, word in resolutions
    )


def upserts(sql: str) -> int:
    """Return in how many cases an INSERT updates the row in its way: https://www.sqlite.org/lang_upsert.html"""
    return sum(_is(last, "do") and _is(token, "update") for last, token in pairs(sql))


def renamed_column(sql: str) -> tuple[str, str]:
    """Return which column ALTER TABLE calls otherwise, and how; nothing if it does something else.

    https://www.sqlite.org/lang_altertable.html
    """
    rest = islice(tokens(sql), 2, None)
    action = _named(next(rest, _END), rest)[2]
    first = next(rest, _END)
    column = next(rest, _END) if _is(first, "column") else first
    is_one = _is(action, "rename") and _is(next(rest, _END), "to")
    return (unquoted(column.text), unquoted(next(rest, _END).text)) if is_one else ("", "")


def has_default(sql: str) -> bool:
    """Tell whether ADD COLUMN gives the rows a value; SET DEFAULT is an action, and NULL is none."""
    found = texts(sql)
    return any(
        word.lower() == "default" and before.lower() != "set" and behind.lower() != "null"
        for before, word, behind in zip(found, found[1:], found[2:], strict=False)
    )


def fires_on(trigger: str) -> str:
    """Return what fires a trigger: insert, update or delete; none of them can be a name before that."""
    events = (token.text.lower() for token in tokens(trigger) if _is(token, "insert", "update", "delete"))
    return next(events, "")


def assigned(sql: str) -> set[str]:
    """Return the columns that an UPDATE sets, folded; none if that is not understood."""
    found, depth, naming = set[str](), 0, False
    for last, token in pairs(sql):
        is_word = token.kind == "word" and not _is(last, "distinct")  # IS DISTINCT FROM ends no list
        word = token.text.lower() if is_word else ""
        depth += (token.text == "(") - (token.text == ")")
        if not found and not naming:
            naming = word == "set" and not depth
        elif not depth and word in _BEHIND_SET:
            return found if not naming else set()
        elif token.text == "=" and not depth:
            naming = False
        elif token.text == "," and not depth:
            naming = True
        elif naming and token.kind in _NAMES:
            found.add(folded(unquoted(token.text)))
    return found if not naming else set()


def pairs(sql: str) -> Iterator[tuple[Token, Token]]:
    """Yield each token with the one before it; before the first one stands nothing."""
    return pairwise(chain([_END], tokens(sql)))


def calls(sql: str) -> Iterator[Token]:
    """Yield what can be the name of a function that SQL calls, or of a table that has arguments.

    Also the operators that are functions: https://www.sqlite.org/lang_expr.html#the_like_glob_regexp_match_and_extract_operators
    """
    found = list(tokens(sql))
    is_index, given = head(sql).kind == "index", _given(found)
    for at, (last, token) in enumerate(pairwise(chain([_END], found))):
        following = found[at + 1] if at + 1 < len(found) else _END
        is_operator = _is(token, *_CALLING) and following.text not in (",", ")", ".")
        if is_operator and last.text not in ("(", ",", ".") and not _is(last, "", *_BEFORE_NAMES):
            yield token
        elif following.text == "(" and token.kind in ("word", "double", "name"):
            before = last.kind == "sign" and last.text not in (")", ".")
            before = before or (_is(last, *_BEFORE_CALLS) and not (is_index and _is(last, "on")))
            if before and not (last.text == "," and at + 1 in given):
                yield token


def _given(found: list[Token]) -> set[int]:
    """Return where the parentheses begin behind which stands what WITH gives the name before them."""
    opened, given = list[int](), set[int]()
    for at, token in enumerate(found):
        if token.text == "(":
            opened.append(at)
        elif token.text == ")" and opened:
            start, behind = opened.pop(), found[at + 1 : at + 3]
            if len(behind) == 2 and _is(behind[0], "as"):
                is_table = behind[1].text == "(" or _is(behind[1], "not", "materialized")
                given |= {start} if is_table else set()
    return given


def named(sql: str, reason: str) -> Token | None:
    """Return the token of a statement that SQLite's words about its failure name; None if it is not certain.

    SQLite knows the offset (https://www.sqlite.org/c3ref/errcode.html), but Python does not tell it.
    Tokens on one line are as good as one.
    """
    if written := compiled(_WRITTEN).fullmatch(reason):
        found = [token for token in tokens(sql) if token.text == written[1]]
    elif missing := compiled(_MISSING).fullmatch(reason):
        names = (token for token in tokens(sql) if token.kind in ("word", "double", "name"))
        found = [token for token in names if missing[1] in (token.text, unquoted(token.text))]
    else:
        found = []
    return found[0] if found and "\n" not in sql[found[0].start : found[-1].start] else None


def alone(sql: str, *texts: str) -> Iterator[Token]:
    """Yield the tokens with one of these texts, in lower case, that have a line for themselves."""
    end, before, last = 0, "\n", Token("", "", len(sql))
    for token, following in pairwise(chain(tokens(sql), [last])):
        before += sql[end : token.start]
        end = token.start + len(token.text)
        behind = sql[end : following.start] + "\n" * (following is last)
        has_line = "\n" in before and "\n" in behind and not before.rpartition("\n")[2].strip()
        if has_line and token.text.lower() in texts:
            yield token
        before = ""


def unusual(sql: str) -> Iterator[Token]:
    """Yield parameters, control characters and byte order marks that stand outside of strings and names."""
    end = 0
    for token in tokens(sql):
        if "\ufeff" in sql[end : token.start] and "\ufeff" in compiled(_COMMENT).sub(
            "", sql[end : token.start]
        ):
            yield Token("sign", "\ufeff", sql.index("\ufeff", end))
        first, end = token.text[0], token.start + len(token.text)
        if token.kind == "sign" and (first < " " or first == "?" or (first in ":@$" and len(token.text) > 1)):
            yield token


class Head(NamedTuple):
    """What a statement does, as far as its first tokens tell; names without quotes, "" where there is none.

    `verb` is its first word in lower case, behind WITH that of the statement itself; `kind` is what is
    created, altered or dropped: table, virtual table, view, index or trigger. `name` is that object, the
    table whose rows are written, or the pragma; `table` what an index or a trigger is on, `renamed` the new
    name of a table, `value` what a pragma is set to.
    """

    verb: str
    kind: str = ""
    temporary: bool = False
    schema: str = ""
    name: str = ""
    table: str = ""
    renamed: str = ""
    value: str = ""


_NAMES = ("word", "string", "double", "name")
_KINDS = ("table", "view", "index", "trigger")
_RESOLUTIONS = ("abort", "fail", "ignore", "replace", "rollback")
_BEHIND_FROM = (
    *("where", "group", "order", "having", "limit", "window", "union", "except", "intersect", "returning"),
    *("select", "set", "values", "begin", "of"),
)
_BEHIND_SET = ("where", "from", "returning", "order", "limit")
_CALLING = ("like", "glob", "regexp", "match")
_BEFORE_NAMES = (
    *("table", "into", "update", "exists", "references", "using", "as", "index", "view", "trigger", "add"),
    *("column", "to", "set", "select", "distinct", "where", "on", "having", "by", "from", "join", "drop"),
)
_BEFORE_CALLS = (
    *(
        "select",
        "distinct",
        "all",
        "where",
        "and",
        "or",
        "not",
        "on",
        "having",
        "when",
        "then",
        "else",
        "case",
    ),
    *("by", "limit", "offset", "in", "is", "between", "escape", "returning", "from", "join", *_CALLING),
)
_IN_BODY = ("select", "values", "with", "insert", "replace", "update", "delete")
_END = Token("", "", -1)


def head(sql: str, start: int = 0, end: int | None = None) -> Head:
    """Tell what a statement does; reads no more tokens than that needs."""
    end = len(sql) if end is None else end
    if target := compiled(_TARGET).match(sql, start, end):
        verb, one, other = target.groups()
        schema, name = (unquoted(one), unquoted(other)) if other else ("", unquoted(one))
        return Head(verb.lower(), "", folded(schema) == "temp", schema, name)
    rest = tokens(sql, start, end)
    first = next(rest, _END)
    verb = first.text.lower() if first.kind == "word" else ""
    if verb == "with" and (at := _behind_with(rest)) >= 0:
        return head(sql, at, end)
    if verb in ("create", "alter", "drop"):
        return _object(verb, rest)
    return _pragma(rest) if verb == "pragma" else Head(verb)


def beginning(sql: str, start: int, end: int) -> tuple[str, str]:
    """Return an INSERT of rows up to VALUES, and from there up to the parenthesis of its first row.

    Both are empty if a statement is none.
    """
    found = compiled(_BEGINNING).match(sql, start, end)
    return (sql[start : found.start(1)], found[1]) if found else ("", "")


def are_literal(rows: str) -> bool:
    """Tell whether rows, behind the parenthesis of the first one, are numbers, strings, blobs and NULL.

    No name but NULL, and no call, can be spelled with what is left outside of strings; parentheses are those
    of rows, because none is inside of another; and neither a comment nor a name in quotes hides a quote. What
    else passes is a sum of such values, or no SQL.
    """
    parts = rows.split("'")
    outside = "".join(parts[::2])
    marks = outside.encode().translate(None, _OF_LITERALS)
    return len(parts) % 2 > 0 and "--" not in outside and marks == b")" + b"()" * marks.count(b"(")


def row_count(rows: str) -> int:
    """Return how many rows there are in what `are_literal` tells."""
    return 1 + "".join(rows.split("'")[::2]).count("(")


def _behind_with(rest: Iterator[Token]) -> int:
    """Return where the statement behind common table expressions begins, -1 if that is not certain.

    Behind a parenthesis, because such an expression can have the name of one: replace.
    """
    depth, last = 0, ""
    for token in rest:
        depth += (token.text == "(") - (token.text == ")")
        if not depth and last == ")" and _is(token, *WRITING, *READING):
            return token.start
        last = token.text
    return -1


def _object(verb: str, rest: Iterator[Token]) -> Head:
    token = next(rest, _END)
    temporary = virtual = False
    while _is(token, "temp", "temporary", "unique", "virtual"):
        temporary |= _is(token, "temp", "temporary")
        virtual |= _is(token, "virtual")
        token = next(rest, _END)
    if not _is(token, *_KINDS):
        return Head(verb)
    kind, token = token.text.lower(), next(rest, _END)
    if _is(token, "if"):
        while _is(token, "if", "not", "exists"):
            token = next(rest, _END)
    schema, name, token = _named(token, rest)
    table = renamed = ""
    if verb == "create" and kind in ("index", "trigger"):
        while token is not _END and not _is(token, "on"):
            token = next(rest, _END)
        table = _named(next(rest, _END), rest)[1]
    elif verb == "alter" and _is(token, "rename") and _is(next(rest, _END), "to"):
        renamed = _named(next(rest, _END), rest)[1]
    temporary = temporary or folded(schema) == "temp"
    return Head(verb, "virtual table" if virtual else kind, temporary, schema, name, table, renamed)


def _pragma(rest: Iterator[Token]) -> Head:
    schema, name, token = _named(next(rest, _END), rest)
    value = ""
    if token.text in ("=", "("):
        token = next(rest, _END)
        sign = token.text if token.text in ("+", "-") else ""
        value = sign + unquoted(next(rest, _END).text if sign else token.text)
    return Head("pragma", "", folded(schema) == "temp", schema, name, value=value)


def _is(token: Token, *words: str) -> bool:
    return token.kind == "word" and token.text.lower() in words


def _named(token: Token, rest: Iterator[Token]) -> tuple[str, str, Token]:
    """Return the schema and the name that begin with a token, and the token behind them."""
    if token.kind not in _NAMES:
        return "", "", token
    following = next(rest, _END)
    if following.text != ".":
        return "", unquoted(token.text), following
    name = next(rest, _END)
    return unquoted(token.text), unquoted(name.text) if name.kind in _NAMES else "", next(rest, _END)


def table_places(found: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens of a view or a trigger that stand where only a table's name can, or one for it.

    That is in FROM, which may have parentheses and goes on behind each comma and JOIN until another clause
    begins (https://www.sqlite.org/syntax/join-clause.html); behind INTO, UPDATE, IN and AS; around a dot; and
    behind the ON of a trigger's head.
    """
    levels, waits = [False], False  # of each parenthesis whether it is in FROM; whether a table comes next
    for before, token, following in zip([_END, *found], found, [*found[1:], _END], strict=False):
        if token.text == "(":
            levels.append(waits and not _is(following, "select", "values", "with"))
            waits = levels[-1]
        elif token.text == ")":
            levels, waits = levels[:-1] or levels, False
        elif _is(token, "from", "join") and not _is(before, "distinct"):
            levels[-1] = waits = True
        elif _is(token, "into", "update"):
            waits = True
        elif token.text == ",":
            waits = levels[-1]
        elif _is(token, *_BEHIND_FROM) or token.text == ";":
            levels[-1] = waits = False
        elif token.kind in _NAMES and not (waits and _is_resolution(before, token)):
            if waits or "." in (before.text, following.text) or _is_behind(before, following):
                yield token
            waits = False


def _is_resolution(before: Token, token: Token) -> bool:
    """Tell whether a token is part of what stands between UPDATE and its table."""
    return (_is(before, "update") and _is(token, "or")) or (_is(before, "or") and _is(token, *_RESOLUTIONS))


def _is_behind(before: Token, following: Token) -> bool:
    return _is(before, "as", "in") or (_is(before, "on") and _is(following, "begin", "for", "when"))


def statements(sql: str) -> Iterator[tuple[int, int, str]]:
    """Yield start and end of each statement, without its semicolon, and its first word in lower case.

    It ends with its last token: behind `ALTER TABLE t ADD c` SQLite before 3.41 takes no comment. The word is
    "" where it only handles rows, and its first character where there is none. The rule for triggers is that
    of sqlite3_complete (https://www.sqlite.org/c3ref/complete.html); one without END comes last, and ends
    at -1.
    """
    trigger, first = -1, ""
    comment = -1  # where the next one can begin
    for match in compiled(_STATEMENT).finditer(sql):
        start, end = match.span(1)
        word = match[2]
        if comment < start and (comment := sql.find("--", start)) < 0:
            comment = len(sql)
        # What most statements of a large file are, and so the quickest: rows, up to a parenthesis.
        if word is None and trigger < 0 and start < end <= comment and sql[end - 1] == ")":
            yield start, end, ""
        elif trigger >= 0:
            if word and word.lower() == "end" and compiled(_TRIVIA).fullmatch(sql, match.end(2), end):
                yield trigger, match.end(2), first
                trigger = -1
        elif not word:
            if start < end:
                yield start, _trimmed(sql, start, end), "" if word is None else sql[start]
        elif (word := word.lower()) in ("create", "explain") and _begins_trigger(sql, start, end):
            trigger, first = start, word
        else:
            yield start, _trimmed(sql, start, end), word
    if trigger >= 0:
        yield trigger, -1, first


def _trimmed(sql: str, start: int, end: int) -> int:
    """Return the offset behind the last token of a statement."""
    while sql[end - 1] in _BLANKS:
        end -= 1
    last_line = max(start, sql.rfind("\n", start, end))
    if sql[end - 1] not in "/\ufeff" and sql.find("--", last_line, end) < 0:
        return end
    return max(match.end(1) for match in compiled(_TEXT).finditer(sql, start, end))


def body(trigger: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield start and end of each statement between the BEGIN and the END of a CREATE TRIGGER."""
    if (begin := begin_of_body(tokens(trigger, start, end))) < 0:
        return
    first = begin + len("begin")
    for at, until, word in statements(trigger[first : len(trigger) if end is None else end]):
        if word != "end":
            yield first + at, first + until


def begin_of_body(found: Iterable[Token]) -> int:
    """Return the offset of the BEGIN of a trigger's body, -1 if there is none.

    A trigger, a table, a column and a collation can be called so too: that comes before ON, in parentheses,
    behind a dot, or has no statement behind it.
    """
    behind_on, depth, last = False, 0, ""
    for token, following in pairwise(found):
        depth += (token.text == "(") - (token.text == ")")
        behind_on |= _is(token, "on")
        if behind_on and not depth and last != "." and _is(token, "begin") and _is(following, *_IN_BODY):
            return token.start
        last = token.text
    return -1


def _begins_trigger(sql: str, start: int, end: int) -> bool:
    if "trigger" not in sql[start:end].lower():  # nearly always, and much quicker
        return False
    last = ""
    for token in tokens(sql, start):
        word = token.text.lower()
        if word not in _TRIGGER[last]:
            return False
        if word == "trigger":
            return True
        last = word
    return False


def unclosed(sql: str, start: int = 0) -> int:
    """Return the offset of the quote or comment that is never closed, -1 if there is none."""
    last = deque(compiled(_ENCLOSED).finditer(sql, start), maxlen=1)
    return next((match.start() for match in last if not is_closed(match[0])), -1)


def is_closed(piece: str) -> bool:
    """Tell whether something in quotes, or a comment, ends before its text does."""
    if piece[0] == "/":
        return len(piece) > 3 and piece.endswith("*/")
    if piece[0] == "[":
        return piece[-1] == "]"
    return piece[0] == "-" or piece.count(piece[0]) % 2 == 0


def comments(sql: str) -> Iterator[tuple[int, str]]:
    """Yield offset and text of each comment that begins with two dashes."""
    found = compiled(_COMMENTS).finditer(sql)
    return ((match.start(), match[1]) for match in found if match[1] is not None)


def plainer(sql: str) -> str:
    """Return SQL with a blank for each comment, and with names that look like nothing else.

    Quotes, semicolons and what begins a comment are spelled in them with a NUL, which occurs in no SQL.
    """
    parts = compiled(_PART).findall(sql)
    return "".join(_disguised(part) if part[:1] in _QUOTES else part or " " for part in parts)


def _disguised(name: str) -> str:
    for hiding, spelled in _HIDING.items():
        name = name.replace(hiding, spelled)
    return name
