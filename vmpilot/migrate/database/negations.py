"""One place for the NOT of `a NOT IN (1)`, which SQLite reads as `NOT a IN (1)`.

Pure: tokens in, tokens out. By SQLite's grammar NOT IN, NOT LIKE, NOT GLOB, NOT REGEXP, NOT MATCH and NOT
BETWEEN are the operator with a NOT in front of it: https://www.sqlite.org/src/file/src/parse.y

Right rather than complete. A NOT stays where it is in what a SELECT returns, because that can be the name of
a column, and where more follows that binds as tightly, as in `a NOT IN (1) = b`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..tokens import Token

_NEGATED = ("IN", "LIKE", "GLOB", "REGEXP", "MATCH", "BETWEEN")
_EQUALS = ("=", "==", "<>", "!=", "IS", "ISNULL", "NOTNULL", "NULL", *_NEGATED)
_CONDITIONS = ("WHERE", "ON", "HAVING")
# All that ends an expression is no name: https://www.sqlite.org/lang_keywords.html
_BETWEEN_EXPRESSIONS = ("AND", "OR", ",", "WHEN", "THEN", "ELSE")
_CLAUSES = (
    *("SELECT", "FROM", "GROUP", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "VALUES", "SET", "INTO"),
    *("INSERT", "UPDATE", "DELETE", "USING", "JOIN", "RETURNING", *_CONDITIONS),
)
_NO_OPERANDS = ("AND", "NOT", "ESCAPE", "COLLATE", "DISTINCT", *_EQUALS)  # nor is any other sign than ")"


class _Level(NamedTuple):
    """What is inside of a parenthesis, or between CASE and END, as far as it is read.

    `clause` is the word that began where it stands. `begin` is where the operand that is read now begins, -1
    where no NOT may be moved; `place` is the NOT behind it, -1 without one. `betweens` counts the BETWEEN
    without their AND. In what is `named` by its text, nothing is moved. `start` is where this was opened,
    `listed` where the list behind a NOT IN was closed.
    """

    clause: str
    begin: int
    place: int = -1
    betweens: int = 0
    named: bool = False
    is_case: bool = False
    start: int = -1
    listed: int = -1


def in_front(found: Sequence[Token]) -> list[Token]:
    """Return the tokens of an expression with each such NOT in front of what it negates."""
    return _moved(found, _Level("WHERE", 0))


def in_front_of_statements(found: Sequence[Token]) -> list[Token]:
    """Return the tokens of a view or a trigger with each such NOT in front of what it negates."""
    return _moved(found, _Level("", -1))


def _moved(found: Sequence[Token], outermost: _Level) -> list[Token]:
    levels, moved = [outermost], dict[int, int]()  # where each NOT goes
    for at in range(len(found) + 1):
        word, level = _keyword(found, at), levels[-1]
        closes = word == ")" or (word == "END" and level.is_case)
        is_negated = level.begin >= 0 <= level.place and (closes or _ends(found, at, level))
        if is_negated and _is_alone(found, at, level):
            moved[level.place] = level.begin
        if word in ("(", "CASE"):
            levels.append(_opened(found, at, level))
        elif closes and len(levels) > 1:
            levels.pop()
            if level.start == levels[-1].place + 2:
                levels[-1] = levels[-1]._replace(listed=at)
        else:
            levels[-1] = _read(found, at, level)
    fronts = set(moved.values())
    said: list[Token] = []
    for at, token in enumerate(found):
        said += [Token("word", "NOT", -1)] * (at in fronts)
        said += [token] * (at not in moved)
    return said


def _ends(found: Sequence[Token], at: int, level: _Level) -> bool:
    """Tell whether an expression ends before a token."""
    word = _keyword(found, at)
    if word == "AND":
        return not level.betweens
    is_distinct = word == "FROM" and _keyword(found, at - 1) == "DISTINCT"
    return not is_distinct and word in (*_BETWEEN_EXPRESSIONS, *_CLAUSES, ";", "")


def _opened(found: Sequence[Token], at: int, outer: _Level) -> _Level:
    named = outer.named or outer.clause == "SELECT"
    begin = at + 1 if outer.clause in _CONDITIONS and not named else -1
    return _Level(outer.clause, begin, named=named, is_case=_keyword(found, at) == "CASE", start=at)


def _read(found: Sequence[Token], at: int, level: _Level) -> _Level:
    """Return a level behind one more token, which opens and closes nothing."""
    word, before, following = (_keyword(found, place) for place in (at, at - 1, at + 1))
    if _ends(found, at, level):
        clause = "" if word == ";" else word if word in _CLAUSES else level.clause
        can_move = clause in _CONDITIONS and not level.named
        return level._replace(clause=clause, begin=at + 1 if can_move else -1, place=-1, betweens=0)
    if word == "AND":
        return level._replace(betweens=level.betweens - 1)
    if word == "NOT" and at == level.begin:
        return level._replace(begin=at + 1)
    if word == "NOT" and before != "IS" and following != "NULL":
        is_first = level.place < 0 and not level.betweens and following in _NEGATED and _is_operand(before)
        return level._replace(place=at) if is_first else level._replace(begin=-1)
    if word in _EQUALS and -1 < level.place != at - 1:
        level = level._replace(begin=-1)
    return level._replace(betweens=level.betweens + (word == "BETWEEN"))


def _is_operand(word: str) -> bool:
    """Tell whether an operand can end with this."""
    return word not in _NO_OPERANDS and (word == ")" or word[:1] == "_" or word[:1].isalnum())


def _is_alone(found: Sequence[Token], at: int, level: _Level) -> bool:
    """Tell whether nothing binds tighter to what is negated: behind IN stands a list or a table alone."""
    if _keyword(found, level.place + 1) != "IN":
        return True
    if _keyword(found, level.place + 2) == "(":
        return level.listed == at - 1
    return at - level.place == 3 or (at - level.place == 5 and _keyword(found, level.place + 3) == ".")


def _keyword(found: Sequence[Token], at: int) -> str:
    """Return what can be a keyword or a sign, in upper case; of anything else only that it is an operand."""
    if not 0 <= at < len(found):
        return ""
    token = found[at]
    is_name = token.kind not in ("word", "sign") or (at > 0 and found[at - 1].text == ".")
    return "a" if is_name else token.text.upper()
