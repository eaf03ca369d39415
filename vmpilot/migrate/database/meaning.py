"""What a piece of a schema means, whatever its spelling: equal texts for equal meanings.

Pure: tokens in, text out. Letter case, quotes, blanks, comments, defaults that are written out and needless
parentheses are gone; what is left differs only where SQLite does something else.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from ..tokens import Token, begin_of_body, folded, literal, tokens, unquoted
from .negations import in_front, in_front_of_statements
from .parentheses import loosened, loosened_statements
from .spelling import usual

Tokens = Sequence[Token]
Names = Collection[str]

_NAMES = ("word", "string", "double", "name")
_OPERANDS = ("string", "double", "name", "number", "blob")
_OPERATORS = {"==": "=", "<>": "!="}
_CONSTANTS = ("NULL", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP")
# Behind these stands a name, even in the quotes of a string.
_BEFORE_NAMES = {"INTO", "UPDATE", "JOIN", "FROM", "AS", "TABLE", "COLLATE", "REFERENCES"}
_FTS = frozenset(("content", "docsize", "segdir", "segments", "stat"))
_RTREE = frozenset(("node", "parent", "rowid"))
# What the modules of SQLite itself call their shadows.
_SHADOWS = {
    "fts3": _FTS,
    "fts4": _FTS,
    "fts5": frozenset(("config", "content", "data", "docsize", "idx")),
    **dict.fromkeys(("rtree", "rtree_i32", "geopoly"), _RTREE),
}
# In the order in which FTS5 tries them: https://www.sqlite.org/src/file/ext/fts5/fts5_config.c
_FTS5 = ("prefix", "tokenize", "content", "contentless_delete", "contentless_unindexed", "columnsize")
# What stands behind an operand and is no alias of it.
_NO_ALIASES = {
    *("and", "as", "asc", "between", "by", "case", "collate", "cross", "desc", "else", "end", "escape"),
    *(
        "except",
        "from",
        "full",
        "glob",
        "group",
        "having",
        "in",
        "inner",
        "intersect",
        "is",
        "isnull",
        "join",
    ),
    *("left", "like", "limit", "match", "natural", "not", "notnull", "null", "offset", "on", "or", "order"),
    *("outer", "regexp", "returning", "right", "set", "then", "union", "using", "values", "when", "where"),
    "window",
}


def word(token: Token) -> str:
    """Return a token as a keyword would be written; what is in quotes keeps them."""
    return token.text.upper()


def name(token: Token) -> str:
    """Return a token as a name, made comparable."""
    return folded(unquoted(token.text))


def plain_meaning(found: Tokens, names: Names) -> str:
    """Return what tokens mean where these names are known; what is in double quotes and no name is a string.

    https://www.sqlite.org/quirks.html#double_quoted_string_literals_are_accepted
    """
    return "\0".join(_said(found, names))


def expression(found: Tokens, names: Names) -> str:
    """Return what an expression means, without the parentheses that say nothing; TRUE is 1 and FALSE is 0."""
    return plain_meaning(_boolean(in_front(loosened(_bare(found))), names), names)


@lru_cache(1024)  # most columns have one of a few
def default(text: str) -> str:
    """Return what a default means, nothing if it is NULL, as it is without one.

    A lone name is a string there: https://www.sqlite.org/lang_createtable.html#the_default_clause
    """
    found = _bare(list(tokens(text)))
    if [token.text for token in found[:-1]] == ["+"] and found[-1].kind == "number":
        found = found[1:]
    if len(found) != 1:
        return expression(found, ())
    (only,) = found
    if word(only) in ("TRUE", "FALSE") or only.kind not in _NAMES:
        return expression(found, ())
    if word(only) in _CONSTANTS:
        return word(only).removeprefix("NULL")
    return _string(only)


@lru_cache(1024)
def kind(text: str) -> str:
    """Return what the declared type of a column means."""
    return "\0".join(map(name, tokens(text)))


def term(found: Tokens, names: Names, collations: Mapping[str, str]) -> str:
    """Return what one term of an index or a key means; `collations` are those of the columns.

    What is sorted like its column says nothing of it: https://www.sqlite.org/lang_createindex.html
    """
    order, collation = "", ""
    while len(found) > 1 and word(found[-1]) in ("ASC", "DESC", "AUTOINCREMENT"):
        order = "desc" if word(found[-1]) == "DESC" else order
        found = found[:-1]
    while (inner := _bare(found)) is not found or (len(found) > 2 and word(found[-2]) == "COLLATE"):
        if inner is found:
            collation = collation or name(found[-1])
            inner = found[:-2]
        found = inner
    column = len(found) == 1 and found[0].kind in _NAMES
    own = collations.get(name(found[0]), "binary") if column else "binary"
    if collation == own and (column or word(found[0]) not in ("+", "CAST")):
        collation = ""
    said = name(found[0]) if column else expression(found, names)
    return "\1".join(filter(None, (said, collation, order)))


def terms(found: Tokens, names: Names, collations: Mapping[str, str]) -> str:
    """Return what stands before, in and behind a list of terms means; behind an index, that is its WHERE."""
    start = next(at for at, token in enumerate(found) if token.text == "(")
    end = _closing(found, start)
    rest = found[end + 1 :]
    listed = "\2".join(term(part, names, collations) for part in _parted(found[start + 1 : end]))
    if rest and word(rest[0]) == "WHERE":
        return "\3".join((plain_meaning(found[:start], names), listed, expression(rest[1:], names)))
    return "\3".join((plain_meaning(found[:start], names), listed, plain_meaning(rest, names)))


def view(found: Tokens, names: Names) -> str:
    """Return what stands behind the name of a view means."""
    return _statements(usual(_of_main(found, names), names), names)


def trigger(found: Tokens, names: Names) -> str:
    """Return what stands behind the name of a trigger means: https://www.sqlite.org/lang_createtrigger.html"""
    found = _of_main(found, names)
    on = next(at for at, token in enumerate(found) if word(token) == "ON")
    of = next((at for at, token in enumerate(found[:on]) if word(token) == "OF"), on)
    columns = sorted({name(part[0]) for part in _parted(found[of + 1 : on])})
    head = "\0".join((plain_meaning(found[:of], names), *columns))
    if word(found[0]) not in ("BEFORE", "AFTER", "INSTEAD"):
        head = f"before\0{head}"
    rest = found[on + 2 :]
    if [word(token) for token in rest[:3]] == ["FOR", "EACH", "ROW"]:
        rest = rest[3:]
    condition = ""
    if word(rest[0]) == "WHEN":
        begin = [token.start for token in rest].index(begin_of_body(found))
        condition, rest = expression(usual(rest[1:begin], names), names), rest[begin:]
    body = _statements(usual(rest, names), names)
    return "\3".join((head, name(found[on + 1]), condition, body))


def _statements(found: Tokens, names: Names) -> str:
    return plain_meaning(in_front_of_statements(loosened_statements(found)), names)


def _of_main(found: Tokens, names: Names) -> Tokens:
    """Return the tokens of a view or a trigger without main, which is the only schema that they can name."""
    kept: list[Token] = []
    for at, token in enumerate(found):
        schema = found[at - 1] if at and token.text == "." else None
        if schema and name(schema) == "main" and "main" not in names:
            kept.pop()
        else:
            kept.append(token)
    return kept


def virtual(found: Tokens) -> str:
    """Return what stands behind the name of a virtual table means: a module reads its arguments itself.

    Those of SQLite take off the quotes of names and of values: https://www.sqlite.org/fts5.html
    """
    start = next((at for at, token in enumerate(found) if token.text == "("), len(found))
    parts = [plain_meaning(found[:start], ())]
    for part in _parted(found[start + 1 : -1]):
        equals = [at for at, token in enumerate(part) if token.text == "="][:1]
        left, right = (part[: equals[0]], part[equals[0] + 1 :]) if equals else (part, ())
        said = "\0".join(map(name, left))
        value = unquoted(right[0].text) if len(right) == 1 else "\0".join(token.text for token in right)
        parts.append(f"{said}={value}" if equals else said)
    return "\2".join(parts)


def shadows(sql: str) -> tuple[frozenset[str], set[str]]:
    """Return what SQLite would call a shadow of a virtual table by its name: what it owns, and what not.

    Nothing of a module that is not SQLite's own. Only the module knows what it keeps:
    https://www.sqlite.org/fts5.html#external_content_tables, https://www.sqlite.org/rtree.html and
    https://www.sqlite.org/fts3.html#_shadow_tables_
    """
    module, options = using(sql)
    theirs: set[str] = set()
    if module == "fts5":
        makes_content = "content" not in options or options.get("contentless_unindexed", "0") != "0"
        theirs.update(["content"] * (not makes_content), ["docsize"] * (options.get("columnsize") == "0"))
    elif module == "fts4":
        theirs.update(["content"] * ("content" in options), ["docsize"] * ("matchinfo" in options))
    elif module == "fts3":
        theirs.update(("docsize", "stat"))
    return _SHADOWS.get(module, frozenset()) - theirs, theirs


def using(sql: str) -> tuple[str, dict[str, str]]:
    """Return the module of a virtual table, and the options that are given to it, each with its value."""
    found = list(tokens(sql))
    place = next((at for at, token in enumerate(found) if word(token) == "USING"), -1)
    module = name(found[place + 1]) if place >= 0 else ""
    options = {
        _option(module, name(part[0])): unquoted(part[2].text)
        for part in _parted(found[place + 3 : -1])
        if len(part) > 2 and part[1].text == "="
    }
    return module, options


def _option(module: str, said: str) -> str:
    """Return the option of a virtual table that is meant: to FTS5 the beginning of its name is enough."""
    return next((each for each in _FTS5 if module == "fts5" and each.startswith(said)), said)


def aliases(found: Tokens, names: Names) -> set[str]:
    """Return the names that a view or a trigger gives itself."""
    given: set[str] = set()
    for last, token in pairwise(found):
        operand = last.kind in _OPERANDS or last.text == ")" or (last.kind == "word" and name(last) in names)
        alias = word(last) == "AS" or (operand and folded(token.text) not in _NO_ALIASES)
        if alias and token.kind in _NAMES:
            given.add(name(token))
    return given


def _said(found: Tokens, names: Names) -> Iterator[str]:
    before = two_before = ""
    for at, token in enumerate(found):
        following = word(found[at + 1]) if at + 1 < len(found) else ""
        current = word(token)
        named = before in _BEFORE_NAMES and (two_before, before) != ("DISTINCT", "FROM")
        named = named or "." in (before, following)
        if token.kind == "string":
            yield name(token) if named else token.text
        elif token.kind == "double":
            yield name(token) if named or name(token) in names else _string(token)
        elif token.kind == "number":
            yield _number(token.text, before)
        elif current in ("NOTNULL", "ISNULL") and name(token) not in names:
            yield "is\0not\0null" if current == "NOTNULL" else "is\0null"
        elif (current, following) == ("NOT", "NULL") and before != "IS":
            yield "is\0not"
        else:
            yield _OPERATORS.get(current, name(token))
        before, two_before = current, before


def _boolean(found: Tokens, names: Names) -> Tokens:
    """Put numbers for TRUE and FALSE: https://www.sqlite.org/lang_expr.html#boolean_expressions

    Not behind IS, where they ask for a truth value.
    """
    kept = []
    for at, token in enumerate(found):
        before = word(found[at - 1]) if at else ""
        if word(token) in ("TRUE", "FALSE") and name(token) not in names and before not in ("IS", "NOT", "."):
            token = Token("number", "1" if word(token) == "TRUE" else "0", token.start)
        kept.append(token)
    return kept


def _bare(found: Tokens) -> Tokens:
    """Return tokens without the parentheses around all of them; looks at each once."""
    if not found or found[0].text != "(":
        return found
    opened, closing = list[int](), dict[int, int]()
    for at, token in enumerate(found):
        if token.text == "(":
            opened.append(at)
        elif token.text == ")" and opened:
            closing[opened.pop()] = at
    layers, end = 0, len(found) - 1
    while end - 2 * layers > 1 and closing.get(layers) == end - layers:
        layers += 1
    return found[layers : end + 1 - layers] if layers else found


def _closing(found: Tokens, start: int) -> int:
    depth = 0
    for at in range(start, len(found)):
        depth += (found[at].text == "(") - (found[at].text == ")")
        if not depth:
            return at
    return len(found)


def _parted(found: Tokens) -> list[Tokens]:
    """Return what stands between the commas outside of parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _string(token: Token) -> str:
    return literal(unquoted(token.text))


def _number(text: str, before: str) -> str:
    """Return a number as SQLite has it: https://www.sqlite.org/lang_expr.html#literal_values_constants_"""
    digits = text.replace("_", "")
    if digits.isdigit():
        value = int(digits)
        most = (1 << 63) - (before != "-")  # which is the largest integer, or the smallest
        return str(value) if value <= most else repr(float(digits))
    try:
        return str(int(digits, 16)) if digits[:2] in ("0x", "0X") else repr(float(digits))
    except ValueError:
        return folded(text)
