"""How much SQLite has to compile for a view or a trigger: each mention of a view stands for its whole text.

Pure: texts in, names out. Sixteen views of which each names the one before twice are 24 kB and compile for
minutes, under the lock, and before SQLite 3.41 no progress handler is called meanwhile:
https://www.sqlite.org/c3ref/progress_handler.html So this is told before anything is compiled.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, pairwise

from ..tokens import Token, folded, mentions, tokens, unquoted

MOST = 20_000  # tokens; some tenths of a second
UNTRIED = f"it stands for more than {MOST} tokens, so this was not tried"
_CAP = 1 << 40
_NAMES = ("word", "double", "name", "string")
_SCHEMAS = ("main", "temp")
_END = Token("", "", -1)

_Weights = dict[str, int]


def overgrown(objects: Iterable[tuple[str, str, str]]) -> frozenset[tuple[str, str]]:
    """Return kind and name of the views and triggers that stand for more than so many tokens.

    `objects` are kind, name and SQL. First comes a quick look at how much it can be at most.
    """
    listed = list(objects)
    views = {folded(name): sql for kind, name, sql in listed if kind == "view"}
    uses = {name: {use for use in mentions(sql) if use in views} - {name} for name, sql in views.items()}
    for weigh in (_at_most, _exactly):
        weights = _weighed(views, uses, weigh)
        found = {
            (kind, name)
            for kind, name, sql in listed
            if (weights[folded(name)] if kind == "view" else weigh(sql, weights)) > MOST
        }
        if not found:
            break
    return frozenset(found)


def _weighed(
    views: Mapping[str, str], uses: Mapping[str, set[str]], weigh: Callable[[str, _Weights], int]
) -> _Weights:
    """Weigh all views, each after those that it uses; one that uses itself SQLite refuses."""
    weights: dict[str, int] = {}
    begun = set[str]()
    waiting = list(views)
    while waiting:
        name = waiting[-1]
        before = [use for use in uses[name] if use not in weights and use not in begun]
        before = [] if name in begun else before
        begun.add(name)
        waiting += before
        if not before:
            weights.setdefault(waiting.pop(), weigh(views[name], weights))
    return weights


def _at_most(sql: str, weights: _Weights) -> int:
    """Return how many tokens SQL can stand for: a name is no more often in it than its letters are."""
    names = mentions(sql)
    if "with" in names:  # its own names can stand for much, too
        return _exactly(sql, weights)
    text = folded(sql)
    return min(_CAP, len(sql) + sum(text.count(name) * weights[name] for name in names & weights.keys()))


def _exactly(sql: str, weights: _Weights) -> int:
    """Count the tokens of SQL with those for which names stand, also the names that WITH gives.

    https://www.sqlite.org/lang_with.html
    """
    known = ChainMap({}, weights)
    outside: list[
        tuple[int, str, str]
    ] = []  # for each open parenthesis: count, name it is given, name before
    count, given, previous, schema = 0, "", "", "main"
    for token, following in pairwise(chain(tokens(sql), [_END])):
        word = token.text.lower()
        if word == "(":
            outside.append((count, given, previous))
            count, given = 0, ""
        elif word == ")" and outside:
            before, name, previous = outside.pop()
            if name:
                known[name] = min(_CAP, count)
            count, given = before if name else before + count, ""
        elif word == "as" and token.kind == "word":
            given = previous
        elif word not in ("not", "materialized"):
            previous = folded(unquoted(token.text)) if token.kind in _NAMES else ""
            # Before a dot stands the table of a column, or main; behind it a column, or a table of main.
            is_table = following.text != "." and schema in _SCHEMAS
            count, given = count + (known.get(previous, 1) if is_table else 1), ""
            schema = schema if word == "." else previous if following.text == "." else "main"
    return min(_CAP, count + sum(before for before, _, _ in outside))
