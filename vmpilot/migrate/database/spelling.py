"""One of the ways to spell a view or the body of a trigger, for all that SQLite reads as the same.

Pure: tokens in, tokens out. By SQLite's grammar an alias needs no AS, `,` and INNER JOIN are JOIN, OUTER,
ALL, ASC and NULLS FIRST are what holds without them, REPLACE is INSERT OR REPLACE, `LIMIT 1, 2` is
`LIMIT 2 OFFSET 1`, and IS DISTINCT FROM is IS NOT: https://www.sqlite.org/src/file/src/parse.y

Right rather than complete. What SQLite keeps apart stays a difference: the columns that a view names before
its AS, and t.a for a, which is the same only as long as no other table has an a.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ..tokens import Token, folded

_QUERIES = ("SELECT", "VALUES", "WITH")
_JOINS = ("CROSS", "FULL", "INNER", "LEFT", "NATURAL", "OUTER", "RIGHT")
_NAMES = ("word", "string", "double", "name")
# What a word of a statement begins. Behind the last ones stands no table and no column.
_CLAUSES = (
    *("SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "UNION", "EXCEPT", "INTERSECT"),
    *("RETURNING", "VALUES", "SET", "INTO", "INSERT", "UPDATE", "DELETE"),
)
_ENDS = (")", ";", "ON", "RETURNING")  # of a LIMIT
_ALIASED = ("SELECT", "FROM", "RETURNING")
# Behind these an operand or a table is to come.
_BEFORE = (
    *("AND", "OR", "NOT", "IN", "IS", "BETWEEN", "COLLATE", "ESCAPE", "CASE", "WHEN", "THEN", "ELSE"),
    *("EXISTS", "DISTINCT", "ALL", "AS", "ON", "USING", "JOIN", "DEFAULT"),
)
# These are names, too, where no operand stands before them.
_BEHIND_OPERANDS = ("LIKE", "GLOB", "REGEXP", "MATCH", "INDEXED", *_JOINS)
_BEHIND_TABLES = (*_JOINS, *_CLAUSES, "JOIN", ",", ")", ";", "")


class _Level(NamedTuple):
    """What is inside of a parenthesis, as far as it is read.

    `clause` is the word that began where it stands; `complete` tells that an operand or a table has just
    ended. `cases` counts those without their END. `start` and `comma` are where a LIMIT and its second part
    begin, `named` tells that this is in what a SELECT returns, whose spelling is also a name.
    """

    clause: str = ""
    complete: bool = False
    cases: int = 0
    start: int = -1
    comma: int = -1
    named: bool = False


def usual(found: Sequence[Token], names: Collection[str]) -> list[Token]:
    """Return tokens as they are usually spelled; TRUE and FALSE, unless they are names, are 1 and 0."""
    found = list(_compared(found))
    said: list[Token] = []
    levels = [_Level()]
    for at, token in enumerate(found):
        level = levels[-1]
        word = _keyword(found, at, level)
        if word in _ENDS:
            _end_limit(said, level)
            level = levels[-1] = level._replace(comma=-1)
        if word == "(":
            said.append(token)
            levels.append(_opened(level, _upper(found, at + 1)))
        elif word == ")" and len(levels) > 1:
            said.append(token)
            levels[-2:] = [levels[-2]._replace(complete=True)]
        else:
            said += _said(found, at, level, word, names)
            levels[-1] = _read(level, word, said)
    _end_limit(said, levels[-1])
    return list(_alone(said))


def _opened(level: _Level, following: str) -> _Level:
    is_table = level.clause == "FROM" and not level.complete and following not in _QUERIES
    return _Level("FROM" if is_table else "", named=level.named or level.clause in ("SELECT", "RETURNING"))


def _keyword(found: Sequence[Token], at: int, level: _Level) -> str:
    """Return the keyword or sign that a token is, in upper case; nothing of what is an operand."""
    token = found[at]
    last, following = _upper(found, at - 1), _upper(found, at + 1)
    word = _upper(found, at)
    if token.kind != "word" or last == "." or following == ".":
        return word if token.kind == "sign" else ""
    is_keyword = {
        "ASC": level.complete and level.clause == "ORDER",
        "DESC": level.complete and level.clause == "ORDER",
        "NULLS": level.complete and level.clause == "ORDER",
        "OFFSET": level.complete and level.clause == "LIMIT",
        "END": level.cases > 0,
        "BY": last in ("GROUP", "ORDER", "PARTITION", "INDEXED"),
        "OVER": last == ")" and (following == "(" or _is_name(found, at + 1)),
        "FILTER": last == ")" and following == "(",
        "WINDOW": level.complete and _is_name(found, at + 1) and _upper(found, at + 2) == "AS",
        "REPLACE": last in ("", ";", "BEGIN") and following == "INTO",
    }
    if word in _BEHIND_OPERANDS:
        return word if level.complete else ""
    known = word in _CLAUSES or word in _BEFORE or word in ("ISNULL", "NOTNULL", "NULL")
    return word if is_keyword.get(word, known) else ""


def _said(found: Sequence[Token], at: int, level: _Level, word: str, names: Collection[str]) -> list[Token]:
    """Return what is to be said for a token."""
    token, last = found[at], _upper(found, at - 1)
    if word == "" and level.complete and level.clause in _ALIASED and token.kind in _NAMES:
        return [_word("AS"), token]
    if word == "" and _is_boolean(found, at, level, names):
        return [Token("number", "1" if _upper(found, at) == "TRUE" else "0", token.start)]
    if (word == "ALL" and last in ("SELECT", "(")) or word == "ASC" or word in ("INNER", "OUTER"):
        return []
    if word in ("NULLS", "") and _is_default(found, at, level, word):
        return []
    if word == "," and level.clause == "FROM":
        return [_word("JOIN")]
    if word == "REPLACE":
        return [_word("INSERT"), _word("OR"), token]
    return [token]


def _is_default(found: Sequence[Token], at: int, level: _Level, word: str) -> bool:
    """Tell whether a token is of a NULLS FIRST or LAST that says how it is without: NULL is smallest."""
    nulls = at if word == "NULLS" else at - 1
    if level.clause != "ORDER" or _upper(found, nulls) != "NULLS" or (word != "NULLS" and level.complete):
        return False
    descending = _upper(found, nulls - 1) == "DESC"
    return _upper(found, nulls + 1) == ("LAST" if descending else "FIRST")


def _is_boolean(found: Sequence[Token], at: int, level: _Level, names: Collection[str]) -> bool:
    """Tell whether TRUE or FALSE is a number here: https://www.sqlite.org/lang_expr.html#boolean_expressions"""
    if found[at].kind != "word" or _upper(found, at) not in ("TRUE", "FALSE") or level.complete:
        return False
    is_named = level.named or level.clause in ("SELECT", "RETURNING") or folded(found[at].text) in names
    first = next(place for place in range(at, -2, -1) if _upper(found, place - 1) != "(")
    is_term = level.clause in ("ORDER", "GROUP") or (first < at and _upper(found, first - 1) in ("BY", ","))
    is_other = is_term or level.clause == "FROM"  # 1 is there a column's number, or means nothing
    return not is_named and not is_other and _upper(found, first - 1) not in ("IS", "NOT", ".", "AS")


def _read(level: _Level, word: str, said: list[Token]) -> _Level:
    """Return a level behind one more token, which is no parenthesis."""
    if word == ";":
        return _Level()
    if word in (*_CLAUSES, "WINDOW"):
        start = len(said) if word == "LIMIT" else level.start
        return level._replace(clause=word, complete=False, start=start)
    if word == "," and level.clause == "LIMIT":
        return level._replace(complete=False, comma=len(said) - 1)
    cases = level.cases + (word == "CASE") - (word == "END")
    is_operand = word in ("", "NULL", "ISNULL", "NOTNULL", "END", "ASC", "DESC", *_JOINS)
    return level._replace(complete=is_operand, cases=cases)


def _end_limit(said: list[Token], level: _Level) -> None:
    """Put the parts of `LIMIT offset, count` into the usual order."""
    if level.comma >= 0:
        offset, count = said[level.start : level.comma], said[level.comma + 1 :]
        said[level.start :] = [*count, _word("OFFSET"), *offset]


def _compared(found: Sequence[Token]) -> Iterator[Token]:
    """Yield tokens with IS and IS NOT for what asks whether two are distinct."""
    left_out = 0
    for at, token in enumerate(found):
        words = [_upper(found, place) for place in range(at, at + 4)]
        if left_out:
            left_out -= 1
        elif words[:3] == ["IS", "DISTINCT", "FROM"]:
            yield from (token, _word("NOT"))
            left_out = 2
        elif words == ["IS", "NOT", "DISTINCT", "FROM"] and _upper(found, at + 4) != "NOT":
            yield token
            left_out = 3
        else:
            yield token


def _alone(found: Sequence[Token]) -> Iterator[Token]:
    """Yield tokens without the parentheses around one table, or around those with which a FROM begins."""
    closing = _closings(found)
    left_out, last = set[int](), ""
    for at, token in enumerate(found):
        end = closing.get(at, -1) if last in ("FROM", "JOIN") else -1
        if end > 0 and _upper(found, at + 1) not in _QUERIES:
            is_first = last == "FROM" and _upper(found, end + 1) in _BEHIND_TABLES
            if is_first or end == at + 2:
                left_out |= {at, end}
        if at not in left_out:
            last = _upper(found, at)
            yield token


def _closings(found: Sequence[Token]) -> dict[int, int]:
    """Return where each parenthesis is closed."""
    opened, closing = list[int](), dict[int, int]()
    for at, token in enumerate(found):
        if token.text == "(":
            opened.append(at)
        elif token.text == ")" and opened:
            closing[opened.pop()] = at
    return closing


def _upper(found: Sequence[Token], at: int) -> str:
    """Return a word or a sign in upper case, what is quoted as it is, nothing beyond either end."""
    return found[at].text.upper() if 0 <= at < len(found) else ""


def _is_name(found: Sequence[Token], at: int) -> bool:
    is_word = at < len(found) and found[at].kind in ("word", "double", "name")
    return is_word and _upper(found, at) not in (*_CLAUSES, *_BEFORE, *_JOINS)


def _word(text: str) -> Token:
    return Token("word", text, -1)
