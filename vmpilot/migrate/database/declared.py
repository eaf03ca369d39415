"""What the SQL of a table declares, as values: its columns, rules and options.

Pure: text in, values out. Follows https://www.sqlite.org/lang_createtable.html; what SQLite does with it all
is decided in `structure`. Two tables are equal here that differ in quotes, blanks, comments, the place of a
rule, and what says nothing (ASC, ON CONFLICT ABORT, NO ACTION, MATCH, DEFAULT NULL).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise, takewhile

from ..tokens import Token, folded, identifier, tokens, unquoted
from ..typed import NamedTuple

Queue = deque[list[Token]]
Parts = list[list[Token]]  # of a column or a rule: tokens, and parentheses with all in them
Spell = Callable[[Token], str]

_BEGINNINGS = (
    *("CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES"),
    *("GENERATED", "AS", "DEFERRABLE", "FOREIGN"),
)
_OF_TABLES = ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN")  # where no column is declared
_NAMES = ("word", "string", "double", "name")
_CONSTANTS = ("NULL", "TRUE", "FALSE", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP")
_COLLATIONS = ("BINARY", "NOCASE", "RTRIM")
_KEPT = 4096  # of how many texts is remembered what they say: a schema changes little from step to step
_RANKS = ("PRIMARY KEY", "NOT NULL", "UNIQUE", "DEFAULT", "COLLATE", "CHECK", "REFERENCES", "FOREIGN KEY")


class Rule(NamedTuple):
    """One rule of a column or of a table; `kind` are its first words, `text` the last ones.

    Between them stand the columns that it is about, if it says them, and what it references. `name` is that
    of the constraint.
    """

    kind: str
    text: str = ""
    name: str = ""
    columns: tuple[str, ...] = ()
    parent: str = ""
    theirs: tuple[str, ...] = ()


class Column(NamedTuple):
    """One column, its type as it is declared."""

    name: str
    type: str
    rules: tuple[Rule, ...]


class Table(NamedTuple):
    """A table; a rule about one column is told of that column, every other one of the table."""

    name: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    options: tuple[str, ...]


def declared(name: str, sql: str) -> Table:
    """Return what the SQL of a table declares."""
    items, outside = parted(sql)
    head = [item for item in items if word(item[0][0]) not in _OF_TABLES]
    names = {folded(each): each for each in (_name(item[0][0]) for item in head)}
    spell = spelling({folded(name): name} | names)
    columns: list[Column] = []
    rules: list[Rule] = []
    for item in items:
        if word(item[0][0]) in _OF_TABLES:
            rules += _rules(deque(item), spell)
        else:
            typed = [*takewhile(lambda part: word(part[0]) not in _BEGINNINGS, item[1:])]
            own = tuple(_rules(deque(item[1 + len(typed) :]), spell))
            columns.append(Column(_name(item[0][0]), _type(typed), own))
    behind = outside[3:]  # CREATE, TABLE and the name, which may be any word
    options = ["STRICT"] * ("STRICT" in behind) + ["WITHOUT ROWID"] * ("ROWID" in behind)
    return _settled(Table(name, tuple(columns), tuple(rules), tuple(options)), names)


def completed(table: Table, tables: Mapping[str, Table]) -> Table:
    """Return a table whose references say the parent's columns and spell names as they are declared.

    One that names no columns means the primary key: https://www.sqlite.org/foreignkeys.html
    """

    def whole(rule: Rule) -> Rule:
        parent = tables.get(folded(rule.parent))
        if not parent:
            return rule
        key = primary_key(parent)
        count = len(rule.columns) or 1
        theirs = rule.theirs or (key if len(key) == count else ())
        spelled = {folded(column.name): column.name for column in parent.columns}
        given = tuple(spelled.get(folded(each), each) for each in theirs)
        return rule._replace(parent=parent.name, theirs=given)

    columns = (each._replace(rules=tuple(map(whole, each.rules))) for each in table.columns)
    return table._replace(columns=tuple(columns), rules=tuple(map(whole, table.rules)))


@lru_cache(_KEPT)
def collations(sql: str) -> tuple[tuple[str, str], ...]:
    """Return how the columns of a table are sorted where its SQL says that, all folded; the last word counts.

    https://www.sqlite.org/datatype3.html#collating_sequences
    """
    items = parted(sql)[0] if "collate" in sql.lower() else []
    found = {
        folded(_name(item[0][0])): folded(_name(following))
        for item in items
        if word(item[0][0]) not in _OF_TABLES
        for (token, *_), (following, *_) in pairwise(item)
        if word(token) == "COLLATE"
    }
    return tuple(found.items())


def primary_key(table: Table) -> tuple[str, ...]:
    """Return the columns of the primary key, () if there is none."""
    for column in table.columns:
        if any(rule.kind == "PRIMARY KEY" for rule in column.rules):
            return (column.name,)
    found = (rule.columns for rule in table.rules if rule.kind == "PRIMARY KEY")
    return tuple(_name(next(tokens(term))) for term in next(found, ()))


def parted(sql: str) -> tuple[list[Parts], list[str]]:
    """Return the columns and rules in the parentheses of a CREATE TABLE, and the words outside of these."""
    items: list[Parts] = [[]]
    outside: list[str] = []
    depth = 0
    for token in tokens(sql):
        depth -= token.text == ")"
        if not depth:
            outside.append(word(token))
        elif depth == 1 and token.text == ",":
            items.append([])
        elif depth == 1 and token.text != ")":
            items[-1].append([token])
        else:
            items[-1][-1].append(token)
        depth += token.text == "("
    return items, outside


def word(token: Token) -> str:
    """Return a token as a keyword would be written; what is in quotes keeps them."""
    return token.text.upper()


def written(token: Token) -> str:
    """Spell a token as it is written."""
    return token.text


def spelling(names: Mapping[str, str]) -> Spell:
    """Return what spells these names, by their folded ones, without quotes that they do not need.

    What is in double quotes and none of these names can be a string.
    """

    def spell(token: Token) -> str:
        if token.kind not in ("double", "name"):
            return token.text
        plain = unquoted(token.text)
        if token.kind == "double" and folded(plain) not in names:
            return token.text
        return identifier(names.get(folded(plain), plain))

    return spell


def shown(found: Iterable[Token], spell: Spell = written) -> str:
    """Show SQL as it is written, but on one line, without comments and with the usual blanks."""
    text, last, end = "", "", 0
    for token in found:
        apart = " " * (token.start > end or last == ",")
        text += ("" if last == "(" or token.text in (")", ",") else apart) + spell(token)
        last, end = token.text, token.start + len(token.text)
    return text.strip()


# --- one rule after the other


_LAST_COUNTS = ("COLLATE", "DEFAULT")  # where a column has several


def _rules(parts: Queue, spell: Spell) -> list[Rule]:
    found: list[Rule] = []
    name = ""
    while parts:
        if _takes(parts, "CONSTRAINT"):
            name = _name(parts.popleft()[0])
        elif deferral := _deferral(parts):  # of the reference before, behind which more can stand
            at = next((at for at in reversed(range(len(found))) if found[at].parent), -1)
            if at >= 0:
                found[at] = found[at]._replace(text=" ".join(filter(None, (found[at].text, *deferral))))
        else:
            found += [rule._replace(name=name) for rule in _rule(parts, spell)]
            name = ""
    last = {rule.kind: rule for rule in found if rule.kind in _LAST_COUNTS}
    counting = (rule for rule in found if last.get(rule.kind, rule) is rule)
    return [rule for rule in counting if (rule.kind, rule.text) != ("COLLATE", "BINARY")]


def _rule(parts: Queue, spell: Spell) -> list[Rule]:
    """Return the rule that comes next, none if it says nothing."""
    for words, read in _READERS:
        if _takes(parts, *words):
            return read(parts, spell)
    return [Rule(shown(parts.popleft()))]


def _not_null(parts: Queue, spell: Spell) -> list[Rule]:
    return [Rule("NOT NULL", _conflict(parts))]


def _null(parts: Queue, spell: Spell) -> list[Rule]:
    _conflict(parts)
    return []


def _check(parts: Queue, spell: Spell) -> list[Rule]:
    rule = Rule("CHECK", shown(parts.popleft(), spell))
    _conflict(parts)  # which says nothing of a check
    return [rule]


def _collate(parts: Queue, spell: Spell) -> list[Rule]:
    name = _name(parts.popleft()[0])
    known = name.upper() if name.upper() in _COLLATIONS else identifier(name)
    return [Rule("COLLATE", known)]


def _references(parts: Queue, spell: Spell) -> list[Rule]:
    return [_reference("REFERENCES", (), parts)]


def _foreign_key(parts: Queue, spell: Spell) -> list[Rule]:
    columns = _listed(parts.popleft())
    parts.popleft()  # REFERENCES
    return [_reference("FOREIGN KEY", columns, parts)]


def _generated(parts: Queue, spell: Spell) -> list[Rule]:
    value = shown(parts.popleft(), spell)
    stored = _takes(parts, "STORED")
    _takes(parts, "VIRTUAL")
    return [Rule("GENERATED ALWAYS AS", f"{value} {'STORED' if stored else 'VIRTUAL'}")]


def _takes(parts: Queue, *words: str) -> bool:
    """Take these words, if they come next."""
    if len(parts) < len(words) or any(word(parts[at][0]) != each for at, each in enumerate(words)):
        return False
    for _ in words:
        parts.popleft()
    return True


def _primary_key(parts: Queue, spell: Spell) -> list[Rule]:
    return [_key("PRIMARY KEY", parts, spell)]


def _unique(parts: Queue, spell: Spell) -> list[Rule]:
    return [_key("UNIQUE", parts, spell)]


def _key(kind: str, parts: Queue, spell: Spell) -> Rule:
    """Read what stands behind PRIMARY KEY or UNIQUE; of a whole table it names columns, with their order."""
    columns: tuple[str, ...] = ()
    numbered = False
    if parts and parts[0][0].text == "(":
        inside = parts.popleft()[1:-1]
        numbered = word(inside[-1]) == "AUTOINCREMENT"
        terms = _split(inside[:-1] if numbered else inside)
        columns = tuple(_term(term, spell) for term in terms)
    _takes(parts, "ASC")
    order = "DESC" * _takes(parts, "DESC")
    conflict = _conflict(parts)
    numbered |= _takes(parts, "AUTOINCREMENT")
    return Rule(kind, _joined(order, conflict, "AUTOINCREMENT" * numbered), columns=columns)


def _term(found: list[Token], spell: Spell) -> str:
    rest = found[:-1] if word(found[-1]) == "ASC" else found
    if rest[0].kind == "string":
        return _joined(identifier(_name(rest[0])), shown(rest[1:], spell))
    return shown(rest, spell)


def _default(parts: Queue, spell: Spell) -> list[Rule]:
    first = parts.popleft()
    if first[0].text in ("+", "-"):
        return [Rule("DEFAULT", first[0].text + parts.popleft()[0].text)]
    inside = first[1:-1] if len(first) == 3 else first
    is_constant = inside[0].kind in ("number", "string", "blob") or word(inside[0]) in _CONSTANTS
    if len(inside) > 1 or not is_constant:
        return [Rule("DEFAULT", shown(first, spell))]
    text = word(inside[0]) if inside[0].kind == "word" else inside[0].text
    return [Rule("DEFAULT", text)] if text != "NULL" else []


def _reference(kind: str, columns: tuple[str, ...], parts: Queue) -> Rule:
    parent = _name(parts.popleft()[0])
    theirs = _listed(parts.popleft()) if parts and parts[0][0].text == "(" else ()
    actions = {"DELETE": "", "UPDATE": ""}
    while parts:
        if _takes(parts, "MATCH"):
            parts.popleft()
        elif word(parts[0][0]) == "ON":
            parts.popleft()
            event = word(parts.popleft()[0])
            actions[event] = _action(parts)
        else:
            break
    told = [f"ON {event} {actions[event]}" for event in ("DELETE", "UPDATE") if actions[event]]
    return Rule(kind, _joined(*told), columns=columns, parent=parent, theirs=theirs)


def _action(parts: Queue) -> str:
    first = word(parts.popleft()[0])
    if first not in ("SET", "NO"):
        return first
    second = word(parts.popleft()[0])
    return f"SET {second}" if first == "SET" else ""


def _deferral(parts: Queue) -> list[str]:
    """Take what says when a reference is checked; return nothing if there is none, else what it says."""
    negated = _takes(parts, "NOT", "DEFERRABLE")
    if not negated and not _takes(parts, "DEFERRABLE"):
        return []
    late = _takes(parts, "INITIALLY", "DEFERRED")
    _takes(parts, "INITIALLY", "IMMEDIATE")
    return ["DEFERRABLE INITIALLY DEFERRED" if late and not negated else ""]


def _conflict(parts: Queue) -> str:
    if not _takes(parts, "ON", "CONFLICT"):
        return ""
    way = word(parts.popleft()[0])
    return f"ON CONFLICT {way}" if way != "ABORT" else ""


def _listed(part: list[Token]) -> tuple[str, ...]:
    return tuple(_name(each[0]) for each in _split(part[1:-1]))


def _split(found: list[Token]) -> list[list[Token]]:
    """Return what stands between the commas of a list."""
    pieces: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and not depth:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces


def _type(parts: Parts) -> str:
    text = ""
    for part in parts:
        text += ("" if part[0].text == "(" or not text else " ") + shown(part)
    return text


def _name(token: Token) -> str:
    return unquoted(token.text)


def _joined(*texts: str) -> str:
    return " ".join(filter(None, texts))


_READERS: tuple[tuple[tuple[str, ...], Callable[[Queue, Spell], list[Rule]]], ...] = (
    (("PRIMARY", "KEY"), _primary_key),
    (("UNIQUE",), _unique),
    (("NOT", "NULL"), _not_null),
    (("NULL",), _null),
    (("CHECK",), _check),
    (("DEFAULT",), _default),
    (("COLLATE",), _collate),
    (("REFERENCES",), _references),
    (("FOREIGN", "KEY"), _foreign_key),
    (("GENERATED", "ALWAYS", "AS"), _generated),
    (("AS",), _generated),
)


# --- each rule in its place


def _settled(table: Table, names: Mapping[str, str]) -> Table:
    """Tell a rule about one column of that column, and every other one of the table; all in one order."""
    of_columns: dict[str, list[Rule]] = {name: [] for name in names}
    of_table: list[Rule] = []
    for column in table.columns:
        for rule in column.rules:
            about = _mentioned(rule, names) if rule.kind == "CHECK" else [folded(column.name)]
            (of_columns[about[0]] if len(about) == 1 else of_table).append(rule)
    for rule in table.rules:
        about = _mentioned(rule, names)
        if len(about) == 1:
            kind = "REFERENCES" if rule.kind == "FOREIGN KEY" else rule.kind
            of_columns[about[0]].append(rule._replace(kind=kind, columns=()))
        else:
            spelled = tuple(names.get(folded(each), each) for each in rule.columns)
            of_table.append(rule._replace(columns=spelled))
    columns = (each._replace(rules=_sorted(of_columns[folded(each.name)])) for each in table.columns)
    return table._replace(columns=tuple(columns), rules=_sorted(of_table))


def _mentioned(rule: Rule, names: Mapping[str, str]) -> list[str]:
    """Return the columns of a rule, folded; none if it says more of a column than its name."""
    if rule.kind == "CHECK":
        found = (folded(_name(token)) for token in tokens(rule.text) if token.kind in _NAMES)
        return [*dict.fromkeys(each for each in found if each in names)]
    if rule.kind == "FOREIGN KEY":
        return [folded(each) for each in rule.columns]
    terms = [[*tokens(each)] for each in rule.columns]
    return [folded(_name(term[0])) for term in terms] if all(len(term) == 1 for term in terms) else []


def _sorted(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    def place(rule: Rule) -> tuple[int, str, Rule]:
        rank = _RANKS.index(rule.kind) if rule.kind in _RANKS else len(_RANKS)
        return rank, folded(" ".join((*rule.columns, rule.parent, *rule.theirs, rule.text))), rule

    return tuple(sorted(dict.fromkeys(rules), key=place))
