"""Which parentheses of SQL, and which `*` in them, say nothing, because SQLite reads the same without them.

Pure: tokens in, tokens out. To SQLite `(a)` is `a`, with its affinity and its collation, and what binds
tighter than both of its neighbours needs none: https://www.sqlite.org/lang_expr.html#operators_and_parse_affecting_attributes

Right rather than complete. All others are kept: around row values, subqueries and arguments; behind IN; where
they group from the right, `a AND (b AND c)`, or signs, `-(-a)`; around tables, rows of VALUES and what SET
sets; and in what a SELECT returns without an AS, because that is also the name of a column, but around a
column alone, and where nobody names it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..tokens import Token

# What binds tighter comes later: https://www.sqlite.org/src/file/src/parse.y
_RANKS = (
    ("OR",),
    ("AND",),
    ("NOT",),
    ("=", "==", "<>", "!=", "IS", "IN", "BETWEEN", "LIKE", "GLOB", "MATCH", "REGEXP", "ISNULL", "NOTNULL"),
    ("<", "<=", ">", ">="),
    ("ESCAPE",),
    ("&", "|", "<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
    ("||", "->", "->>"),
    ("COLLATE",),
)
_RANK = {text: rank for rank, texts in enumerate(_RANKS, start=1) for text in texts}
_NONE, _EQUAL, _SIGN, _ATOM = 0, _RANK["="], len(_RANKS) + 1, len(_RANKS) + 2
_SIGNS = ("+", "-", "~")
_BEHIND = ("ISNULL", "NOTNULL")  # what no operand follows
_QUERIES = ("SELECT", "VALUES", "WITH")
_CONSTANTS = ("NULL", "TRUE", "FALSE", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP")
# Behind these stands an expression.
_BEFORE = ("WHERE", "ON", "HAVING", "LIMIT", "SELECT", "WHEN", "THEN", "ELSE", "BY")
_BEFORE_BY = ("ORDER", "GROUP", "PARTITION")
# Behind these stands something else.
_OTHERS = (
    *("FROM", "JOIN", "VALUES", "SET", "INTO", "UPDATE", "DELETE", "INSERT", "REPLACE", "AS", "USING"),
    *("OVER", "FILTER", "WINDOW", "CONFLICT", "DO", "WITH", "RECURSIVE", "MATERIALIZED", "RETURNING"),
    *("UNION", "EXCEPT", "INTERSECT", "ORDER", "GROUP", "PARTITION", "BEGIN"),
)


class _Level(NamedTuple):
    """What is inside of a parenthesis, or between CASE and END, as far as it is read.

    `kind` is group, list, case or other. `next` is what can come: an operand, the list behind IN, an
    operator, or something else. `left` is how tight the last operator binds, `loosest` how loose the loosest
    one does. `clause` is the word that tells what a comma means, `betweens` counts those without their AND.
    A query is `nameless` where nobody names its columns: it is a value, or stands behind IN or EXISTS.
    """

    kind: str
    next: str
    start: int = -1
    clause: str = ""
    left: int = _NONE
    loosest: int = _ATOM
    betweens: int = 0
    kept: bool = False
    nameless: bool = False


def loosened(found: Sequence[Token]) -> list[Token]:
    """Return the tokens of an expression without the parentheses that say nothing."""
    return _without(found, _Level("group", "operand"))


def loosened_statements(found: Sequence[Token]) -> list[Token]:
    """Return the tokens of a view or a trigger without the parentheses that say nothing."""
    return _without(found, _Level("other", "else"))


def _without(found: Sequence[Token], outermost: _Level) -> list[Token]:
    if not any(token.text == "(" for token in found):
        return list(found)
    left_out = set(_unsaid(found, outermost))
    return [token for at, token in enumerate(found) if at not in left_out]


def _unsaid(found: Sequence[Token], outermost: _Level) -> Iterator[int]:
    """Yield the places of the parentheses that say nothing; those inside come first."""
    levels = [outermost]
    waiting: dict[int, list[int]] = {}  # for the AS of what a SELECT returns, by its level
    for at in range(len(found)):
        word = _keyword(found, at)
        following = _keyword(found, at + 1)
        if word == "(":
            last = _keyword(found, at - 1) if at else ""
            levels.append(_opened(levels[-1], at, last, following))
        elif word == "CASE":
            levels.append(_Level("case", "operand", kept=_is_kept(levels[-1])))
        elif word == "END" and levels[-1].kind == "case" and levels[-1].next == "operator":
            levels.pop()
            levels[-1] = levels[-1]._replace(next="operator")
        elif word == ")":
            while levels[-1].kind == "case":
                levels.pop()
            if len(levels) == 1:
                continue
            inner = levels.pop()
            waiting.pop(len(levels) + 1, ())
            levels[-1] = levels[-1]._replace(next="operator")
            is_of_rows = _is_of_all_rows(found, inner.start, at)
            if is_of_rows or _says_nothing(inner, levels[-1], following):
                place = 0 if _is_column(found, inner.start, at, levels[-1]) else _place(levels)
                waiting.setdefault(place, []).extend((at - 1,) if is_of_rows else (inner.start, at))
                levels[-1] = levels[-1]._replace(loosest=min(inner.loosest, levels[-1].loosest))
        else:
            if word in ("AS", ",") or word in _OTHERS:
                said = waiting.pop(len(levels), ())
                yield from said if word == "AS" else ()
            levels[-1] = _read(levels[-1], word, found, at)
        yield from waiting.pop(0, ())


def _is_of_all_rows(found: Sequence[Token], start: int, end: int) -> bool:
    """Tell whether a parenthesis is that of `count(*)`, which SQLite reads as `count()`."""
    return end == start + 2 and found[start + 1].text == "*"


def _is_column(found: Sequence[Token], start: int, end: int, outer: _Level) -> bool:
    """Tell whether a parenthesis holds all that a SELECT returns in one place, and that is a column."""
    if outer.clause != "SELECT" or outer.kept:
        return False
    is_all = _keyword(found, start - 1) in ("SELECT", "DISTINCT", ",")
    is_all = is_all and _keyword(found, end + 1) in (",", "FROM", ")", "")
    inside = found[start + 1 : end]
    is_name = len(inside) == 1 or (len(inside) == 3 and inside[1].text == ".")
    names = [token.kind == "word" and token.text.upper() not in _CONSTANTS for token in inside[::2]]
    return is_all and is_name and all(names)


def _place(levels: Sequence[_Level]) -> int:
    """Return which level returns what now stands last, 0 if it is nothing that a SELECT returns."""
    if not _is_kept(levels[-1]):
        return 0
    return max((at for at, level in enumerate(levels, 1) if level.clause == "SELECT"), default=0)


def _keyword(found: Sequence[Token], at: int) -> str:
    """Return what can be a keyword or a sign, in upper case; of anything else only that it is an operand."""
    if at >= len(found):
        return ""
    token = found[at]
    is_name = token.kind not in ("word", "sign") or (at and found[at - 1].text == ".")
    return "a" if is_name else token.text.upper()


def _opened(outer: _Level, at: int, last: str, following: str) -> _Level:
    kept = _is_kept(outer)
    is_value = outer.next in ("operand", "list") or last == "EXISTS"
    nameless = is_value and following in _QUERIES and not kept
    if outer.next in ("operator", "list") or outer.clause == "VALUES":  # arguments, what is behind IN, a row
        return _Level("list", "operand", at, kept=kept, nameless=nameless)
    is_group = outer.next == "operand" and following not in _QUERIES
    kind, begins = ("group", "operand") if is_group else ("other", "else")
    return _Level(kind, begins, at, kept=kept, nameless=nameless)


def _is_kept(level: _Level) -> bool:
    return level.kept or (level.clause == "SELECT" and not level.nameless)


def _says_nothing(inner: _Level, outer: _Level, following: str) -> bool:
    """Tell whether what stands in a parenthesis stays together without it."""
    right = _EQUAL if following == "NOT" else _RANK.get(following, _NONE)
    return inner.kind == "group" and outer.left < inner.loosest >= right


def _read(level: _Level, word: str, found: Sequence[Token], at: int) -> _Level:
    """Return a level behind one more token, which is no parenthesis."""
    before = _keyword(found, at - 1) if at else ""
    if word == "." or word in ("DISTINCT", "ALL"):
        return level
    if word == "FROM" and before == "DISTINCT" and _keyword(found, at - 2) in ("IS", "NOT"):
        return level._replace(next="operand")
    if word == "NOT" and (level.next == "operator" or before == "IS"):  # NOT LIKE, NOT NULL; IS NOT
        return _operated(level, _EQUAL, level.next)
    if level.next == "operator" and word in _RANK:
        return _operator(level, word)
    if level.next == "operand" and (word in _SIGNS or word == "NOT"):
        return _operated(level, _SIGN if word in _SIGNS else _RANK[word], "operand")
    if level.next == "operand" and word == "EXISTS":
        return level._replace(next="else")
    if word == ",":
        level = level._replace(kind="list") if level.kind == "group" else level  # a row value
        is_list = level.clause in ("BY", "SELECT") or (level.kind == "list" and not level.clause)
        return _begun(level, level.clause, "operand" if is_list else "else")
    if word in _BEFORE and (word != "BY" or before in _BEFORE_BY):
        return (
            level._replace(next="operand", left=_NONE)
            if level.kind == "case"
            else _begun(level, word, "operand")
        )
    if word in _OTHERS or word == ";" or (word in _RANK and not (word.isalpha() and level.next == "operand")):
        return _begun(level, word, "else")
    return level._replace(next="operator")


def _begun(level: _Level, clause: str, following: str) -> _Level:
    """Return a level behind a word or a comma that begins something new: what has one is no expression."""
    if clause == "AS" and level.clause == "SELECT":
        return level._replace(next="operand", left=_NONE)
    kind = "other" if level.kind == "group" else level.kind
    return level._replace(kind=kind, next=following, clause=clause, left=_NONE, betweens=0)


def _operator(level: _Level, word: str) -> _Level:
    """Return a level behind an operator that has an operand before it."""
    if word == "AND" and level.betweens:
        return _operated(level._replace(betweens=level.betweens - 1), _EQUAL, "operand")
    if word == "BETWEEN":
        level = level._replace(betweens=level.betweens + 1)
    following = "list" if word == "IN" else "operator" if word in _BEHIND else "operand"
    return _operated(level, _RANK[word], following)


def _operated(level: _Level, rank: int, following: str) -> _Level:
    return level._replace(next=following, left=rank, loosest=min(rank, level.loosest))
