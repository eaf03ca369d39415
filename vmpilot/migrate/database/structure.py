"""The structure of a database as plain values, and what differs between two of them.

Only reading lives here: nothing opens a database, writes to one, changes its settings or prints.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from ..errors import passed_over
from ..tokens import SCHEMA, folded, head, mentioned, plain, statements, tokens, unquoted
from . import meaning
from .connection import Row, Session, references
from .declared import Parts, Spell, collations, parted, shown, written
from .expansion import overgrown
from .meaning import name as _name
from .meaning import word as _word
from .settled import TABLES

_LABELS = {
    "table": "table {0.table}",
    "virtual table": "virtual table {0.table}",
    "view": "view {0.table}",
    "columns": "table {0.table} columns in order",
    "column": "column {0.table}.{0.name}",
    "check": "check on {0.table}",
    "unique": "unique on {0.table}",
    "conflict clause": "conflict clause on {0.table}",
    "foreign key": "foreign key {0.table}",
    "index": "index {0.name} on {0.table}",
    "trigger": "trigger {0.name} on {0.table}",
}
_RANKS = {kind: rank for rank, kind in enumerate(_LABELS)}
WHOLE = ("table", "virtual table", "view")
# These come and go with their table.
_PARTS = ("columns", "column", "check", "unique", "conflict clause", "foreign key")
_LONG = ("virtual table", "view", "trigger")  # have too much text to show

_TELLING = re.compile(r"check|collate|references|conflict|autoincrement|strict|rowid|\bas\b", re.IGNORECASE)
_UNCERTAIN = re.compile('"|true|false', re.IGNORECASE)  # what means something else if it is a name
# Of how many texts is remembered what they say: a schema is looked at after each step, and changes little.
_KEPT = 4096
_CONSTRAINTS = ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN")  # where no column is declared
_OPTIONS = {"STRICT": "STRICT", "ROWID": "WITHOUT ROWID"}
_RULES = {"NULL": "NOT NULL", "UNIQUE": "UNIQUE", "KEY": "PRIMARY KEY"}  # what can have an ON CONFLICT


class Fact(NamedTuple):
    """One thing that holds in a database, as it is written there; `key` is what is compared.

    A key holds what SQLite does, and nothing of how that is spelled.
    """

    kind: str
    table: str
    name: str
    text: str
    key: tuple[str, int, str, str]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fact) and self.key == other.key

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.key)


Schema = frozenset[Fact]


class Object(NamedTuple):
    """A table, virtual table, view, index or trigger; `table` is what it is on, `sql` what SQLite keeps."""

    kind: str
    name: str
    table: str
    sql: str


_Rows = Sequence[Row]


def objects(session: Session) -> tuple[Object, ...]:
    """Return what the structure of the main database is read from, with the SQL of each."""
    return tuple(sorted(_objects(session, None)))


def unique(session: Session) -> dict[str, set[frozenset[str]]]:
    """Return the sets of columns in which no two rows of a table are alike, all folded, by table.

    An index of an expression or of some of the rows makes none; nor is the number of the row told here.
    """
    found: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    for table, index, column in session.rows(_UNIQUE):
        found[folded(table), index].add(column and folded(column))
    sets: dict[str, set[frozenset[str]]] = defaultdict(set)
    for (table, _), columns in found.items():
        if None not in columns:
            sets[table].add(frozenset(filter(None, columns)))
    return sets


def snapshot(session: Session, *, only: Collection[str] | None = None) -> Schema:
    """Return the structure of the main database, or of the tables and views in `only` with what is theirs.

    Leaves out what SQLite, virtual tables and the migrator keep for themselves. Asks for nothing that has
    to compile, so a missing function or module does no harm. https://www.sqlite.org/schematab.html
    """
    return frozenset(_facts(session, sorted(_objects(session, only))))


def _facts(session: Session, objects: Collection[Object]) -> Iterator[Fact]:
    """Read what these objects say, all tables at once."""
    tables = {name: sql for kind, name, _, sql in objects if kind == "table"}
    columns, terms, keys = (_each(session, query, tables) for query in (_COLUMNS, _TERMS, _FOREIGN_KEYS))
    known = {folded(name): {folded(name), *(folded(row[0]) for row in columns[name])} for name in tables}
    known |= {folded(name): {folded(name)} for kind, name, _, _ in objects if kind == "virtual table"}
    views = {folded(name): sql for kind, name, _, sql in objects if kind == "view"}
    known |= {name: _given(sql, known.keys() | views.keys()) for name, sql in views.items()}
    for kind, name, table, sql in objects:
        if kind == "table":
            yield from _facts_of(name, sql, *(tuple(rows[name]) for rows in (columns, terms, keys)))
            continue
        if kind in ("view", "trigger"):
            names = _known(folded(name), sql, known)
        else:
            names = frozenset(known.get(folded(table), ()))
        draft = Draft(kind, name, definition(kind, sql))
        yield _fact(table, draft, names, collations(tables.get(table, "")))


@lru_cache(_KEPT)
def _facts_of(name: str, sql: str, columns: _Rows, terms: _Rows, keys: _Rows) -> tuple[Fact, ...]:
    """Return all facts of a table from its SQL and from what the three queries tell of it."""
    names = frozenset((folded(name), *(folded(row[0]) for row in columns)))
    drafts = _table(name, _told(sql), columns, terms, keys)
    return tuple(_fact(name, draft, names, collations(sql)) for draft in drafts)


def _fact(table: str, draft: "Draft", names: frozenset[str], sorted_as: "_Pairs") -> Fact:
    """Return the fact that a draft is where these names are known, and columns are sorted like that."""
    # How it is shown depends on no names, and so most columns are alike.
    where = names if draft.meaning is None else frozenset[str]()
    own = sorted_as if draft.kind in _SORTED else ()
    text, said = _read(draft.kind, draft.text, where, own)
    place = (folded(table), _RANKS[draft.kind], folded(draft.name))
    meant = said if draft.meaning is None else draft.meaning
    return Fact(draft.kind, table, draft.name, text, (*place, meant))


def _given(sql: str, objects: Collection[str]) -> set[str]:
    """Return the names that others can know from a view: what it looks at, and the names of its columns."""
    found = list(tokens(sql))
    words = {_name(token) for token in found if token.kind in ("word", "name")}
    return words | meaning.aliases(found, words) | mentioned(sql).intersection(objects)


def _brings_names(mentions: Collection[str]) -> bool:
    """Tell whether a view reads columns that no table of the schema has: of a WITH, a function, a pragma."""
    return any(word == "with" or word in SCHEMA or word.startswith(_BRINGING) for word in mentions)


def _known(own: str, sql: str, known: dict[str, set[str]]) -> frozenset[str]:
    """Return the names that mean something in a view or a trigger: of what it mentions, and its own."""
    names = set[str]()
    if _UNCERTAIN.search(sql):
        said, found = list(tokens(sql)), mentioned(sql)
        new = {word for word in found if word in known and word != own}
        if new or _brings_names(found):
            names |= _ROW_NUMBER
        if _brings_names(found):
            names |= {_name(token) for token in said if token.kind == "double"}
        while new:  # a view has columns of what it looks at
            found = set[str]().union(*(known[word] for word in new))
            new = {word for word in found if word in known and word not in names and word != own}
            names |= found
        names |= meaning.aliases(said, names)
    return frozenset(names)


def reach(session: Session, *scripts: str) -> frozenset[str]:
    """Name the tables and views whose structure or rows the scripts can change, for `snapshot(only=...)`.

    Triggers are followed, foreign key actions are not (see `with_actions`). Many of the names, which are all
    the words of the scripts, exist nowhere.
    """
    names = set[str]().union(*map(mentioned, scripts))
    if names & SCHEMA:  # what is written there is named in strings
        names.update(folded(table) for _, _, table, _ in session.rows(_OBJECTS))
        written = (token for script in scripts for token in tokens(script) if token.kind == "string")
        names.update(folded(unquoted(token.text)) for token in written)
    if "rename" in names:  # rewrites whatever mentions the old name
        for name in names & {folded(name) for _, name, _, _ in _select(session, _NAMED, names)}:
            found = session.rows(_MENTIONING, (name,))
            names.update(folded(table) for _, _, table, sql in found if name in mentioned(sql))
    return _through_triggers(session, names)


def with_actions(session: Session, names: frozenset[str]) -> frozenset[str]:
    """Return the same with all tables that foreign key actions can lead to, for a script that has them on."""
    pairs = [(folded(child), folded(parent)) for child, parent in references(session)]
    while more := {child for child, parent in pairs if parent in names} - names:
        names = _through_triggers(session, names | more)
    return names


def _through_triggers(session: Session, names: Iterable[str]) -> frozenset[str]:
    """Return names with those of all that their triggers mention."""
    found_names = new = set(names)
    while new:
        found = _select(session, _NAMED, new)
        new = {folded(table) for _, _, table, _ in found}
        new.update(*(mentioned(sql) for kind, _, _, sql in found if kind == "trigger"))
        new -= found_names
        found_names = found_names | new
    return frozenset(found_names)


def difference(before: Schema, after: Schema) -> tuple[str, ...]:
    """List by table what came (+), went (-) or changed (~); a table that came or went is one line."""
    tables = [{fact.key[0] for fact in facts if fact.kind == "table"} for facts in (before, after)]
    lasting = tables[0] & tables[1]
    same = {(*fact.key[:2], folded(fact.text)) for fact in before - after if fact.kind == "foreign key"}
    same &= {(*fact.key[:2], folded(fact.text)) for fact in after - before}
    old, new = (
        {
            _place(fact): fact
            for fact in facts
            if (fact.kind not in _PARTS or fact.key[0] in lasting)
            # Another key of the parent is told of the parent.
            and (*fact.key[:2], folded(fact.text)) not in same
        }
        for facts in (before - after, after - before)
    )
    for place in [place for place, fact in old.items() if fact.kind == "columns"]:
        if _in_order(old[place], new[place]):
            del old[place], new[place]
    return tuple(_line(old.get(place), new.get(place)) for place in sorted(old.keys() | new.keys()))


def _place(fact: Fact) -> tuple[Any, ...]:
    """Return what two facts share if one became the other; what has no name only comes and goes."""
    return fact.key[:3] if fact.name else fact.key


def _in_order(before: Fact, after: Fact) -> bool:
    """Tell whether the columns that a table kept stand in the order in which they stood."""
    old, new = before.key[3].split("\0"), after.key[3].split("\0")
    return [name for name in old if name in new] == [name for name in new if name in old]


def _line(before: Fact | None, after: Fact | None) -> str:
    facts = [fact for fact in (before, after) if fact]
    kind, changed = facts[0].kind, len(facts) == 2
    texts = " -> ".join(fact.text or "(none)" * changed for fact in facts)
    shown = kind not in _LONG and (changed or kind != "table")
    sign = "~" if changed else "-" if before else "+"
    line = f"{sign} {_LABELS[kind].format(facts[0])} {texts if shown else ''}"
    return "\\n".join(line.rstrip().splitlines())


# A bare column has a declared type, for which a caller's connection can have a converter: hence each `+`.
_OBJECTS = "SELECT +type, +name, +tbl_name, +sql FROM main.sqlite_schema"
_VIEWS = "SELECT +type, +name, +sql FROM main.sqlite_schema WHERE type = 'view'"
_VIRTUAL = f"{_OBJECTS} WHERE type = 'table' AND rootpage = 0"
# To tell the columns of views, which nobody asked for, SQLite compiles them all.
_SHADOWS = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'"
_STAT = "(id INTEGER PRIMARY KEY, value BLOB)"
_COLUMNS = """
SELECT n.name, c.name, c.type, c."notnull", c.dflt_value, c.pk, c.hidden
FROM n JOIN pragma_table_xinfo(n.name, 'main') c"""
_TERMS = """
SELECT n.name, i.name, i.origin, t.name, t."desc", t.coll
FROM n JOIN pragma_index_list(n.name, 'main') i JOIN pragma_index_xinfo(i.name, 'main') t
WHERE i.origin <> 'c' AND t."key" """
_UNIQUE = """
SELECT n.name, i.name, +t.name
FROM main.sqlite_schema n JOIN pragma_index_list(n.name, 'main') i JOIN pragma_index_info(i.name, 'main') t
WHERE n.type = 'table' AND i."unique" AND NOT i.partial"""
_FOREIGN_KEYS = """
SELECT n.name, k.id, k."table", k.on_update, k.on_delete, k."from", k."to", p.name
FROM n JOIN pragma_foreign_key_list(n.name, 'main') k
LEFT JOIN pragma_table_info(k."table", 'main') p ON p.pk = k.seq + 1 AND k."to" IS NULL"""
_NAMED = f"{_OBJECTS} WHERE tbl_name COLLATE NOCASE IN n OR name <> tbl_name AND name COLLATE NOCASE IN n"
_MENTIONING = f"{_OBJECTS} WHERE instr(lower(sql), ?)"


def _objects(session: Session, only: Collection[str] | None) -> list[Object]:
    owned = f"{_OBJECTS} WHERE tbl_name COLLATE NOCASE IN n"
    found = session.rows(_OBJECTS) if only is None else _select(session, owned, only)
    listed = {name: sql for kind, name, _, sql in found if kind == "table"}
    # All of them, because what they keep can be asked for without them.
    whole = found if only is None else session.rows(_VIRTUAL)
    virtual = {name: sql for _, name, _, sql in whole if is_virtual(sql or "")}
    left_out = TABLES.keys() | (_shadows(session, virtual, listed) if virtual else set())
    return [
        Object("virtual table" if name in virtual else kind, name, table, _first(sql) if ";" in sql else sql)
        for kind, name, table, sql in found
        if not name.startswith("sqlite_") and folded(table) not in left_out
    ]


def is_virtual(sql: str) -> bool:
    """Tell whether a CREATE is that of a virtual table."""
    return "virtual" in sql.lower() and head(sql).kind == "virtual table"


def _first(sql: str) -> str:
    """Return the one statement that SQLite reads of the text of an object: behind it can stand anything."""
    for start, end, _ in statements(sql):
        return sql[start:end] if end >= 0 else sql
    return sql


def _shadows(session: Session, virtual: dict[str, str], listed: dict[str, str]) -> set[str]:
    """Return the tables that virtual tables keep for themselves, folded; `listed` are those to be judged.

    FTS3 makes its _stat only for some commands: https://www.sqlite.org/fts3.html#automerge
    """
    shadows = set[str]()
    if not overgrown(session.rows(_VIEWS)):
        with passed_over(*session.failures):  # SQLite before 3.37 cannot tell those of other modules
            shadows.update(folded(name) for (name,) in session.rows(_SHADOWS))
    stats = {folded(name) for name, sql in listed.items() if sql.endswith(_STAT)}
    for name, sql in virtual.items():
        owned, theirs = ({f"{folded(name)}_{part}" for part in parts} for parts in meaning.shadows(sql))
        shadows = (shadows | owned | (theirs & stats)) - (theirs - stats)
    return shadows


def _each(session: Session, query: str, names: Collection[str]) -> defaultdict[str, list[Row]]:
    """Run a query for many names at once, and return the rows of each."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for name, *row in _select(session, query, names):
        found[name].append(tuple(row))
    return found


def _select(session: Session, query: str, names: Iterable[str]) -> list[Row]:
    """Run a query on a table `n` of names, cut to what a statement takes: https://www.sqlite.org/limits.html"""
    rest, found = iter(names), []
    while chunk := tuple(islice(rest, 10_000)):
        marks = ", ".join(["(?)"] * len(chunk))
        found += session.rows(f"WITH n (name) AS (VALUES {marks}) {query}", chunk)
    return found


class Draft(NamedTuple):
    """A fact as its table tells it; `meaning` where that is more than its text says."""

    kind: str
    name: str
    text: str
    meaning: str | None = None


_Pairs = tuple[tuple[str, str], ...]
_SORTED = ("index", "conflict clause")  # whose terms can be sorted like their columns


@lru_cache(_KEPT)
def _read(kind: str, text: str, names: frozenset[str], sorted_as: _Pairs) -> tuple[str, str]:
    """Return how to show SQL, and what it means where these names are known."""
    found = list(tokens(text))
    if kind in _SORTED:
        return shown(found), meaning.terms(found, names, dict(sorted_as))
    if kind == "view":
        return shown(found), meaning.view(found, names)
    if kind == "trigger":
        return shown(found), meaning.trigger(found, names)
    if kind == "virtual table":
        return shown(found), meaning.virtual(found)
    if kind == "check":
        return shown(found), meaning.expression(found, names)
    return shown(found), meaning.plain_meaning(found, names)


@lru_cache(_KEPT)
def definition(kind: str, sql: str, spell: Spell = written) -> str:
    """Return what stands behind the name of an object, or behind the table of an index."""
    found = list(tokens(sql))
    if kind != "index":
        return shown(found[2 + len(kind.split()) :], spell)
    start = next(at for at, token in enumerate(found) if token.text == "(")
    pairs = pairwise(found[start - 1 :])
    rest = (token for last, token in pairs if _word(token) != "ASC" or last.text in ("(", ","))
    text = shown(rest, spell)
    return f"UNIQUE {text}" if _word(found[1]) == "UNIQUE" else text


_Told = defaultdict[tuple[str, str], list[str]]  # by keyword, and by column if it says something of one


def _table(name: str, told: _Told, columns: _Rows, terms: _Rows, keys: _Rows) -> list[Draft]:
    """Return all facts of a table: what the pragmas tell, and what its SQL told."""
    order = ", ".join(plain(row[0]) for row in columns)
    facts = [Draft("columns", name, f"({order})", "\0".join(folded(row[0]) for row in columns))]
    primary = ", ".join(plain(row[0]) for row in columns if row[4])
    uniques = []
    is_numbered = True
    for (_, origin), group in groupby(terms, itemgetter(0, 1)):
        text = ", ".join(_term(told, *row[2:]) for row in group)
        if origin == "pk":
            primary, is_numbered = text, False
        else:
            uniques.append(Draft("unique", "", f"({text})"))
    key = [f"PRIMARY KEY ({primary})"] if primary else []
    names = frozenset(folded(row[0]) for row in columns)
    facts += [_column(told, names, *row, is_numbered) for row in columns] + uniques
    facts.append(Draft("table", name, " ".join(key + told["OPTION", ""])))
    for number, group in groupby(keys, itemgetter(0)):
        # SQLite numbers foreign keys from the last to the first.
        facts.append(_foreign_key(list(group), told["REFERENCES", ""][~number]))
    checks = (text for (word, _), texts in told.items() for text in texts if word == "CHECK")
    facts += [Draft("check", "", text) for text in checks]
    return facts + [Draft("conflict clause", "", text) for text in told["CONFLICT", ""]]


def _column(told: _Told, names: frozenset[str], *row: Any) -> Draft:
    """Return what a column is; one that is the number of the row is never NULL, whether that is said or not.

    https://www.sqlite.org/lang_createtable.html#rowid
    """
    name, kind, required, default, key, hidden, is_numbered = row
    implied = key and is_numbered and folded(kind) == "integer"
    collation = [f"COLLATE {found}" for found in told["COLLATE", folded(name)][-1:]]
    collation = [text for text in collation if folded(text) != "collate binary"]
    stored = "STORED" if hidden == 3 else "VIRTUAL"
    values = told["AS", folded(name)]
    parts = [kind, *["NOT NULL"] * required, *([f"DEFAULT {default}"] if default else []), *collation]
    parts += [f"GENERATED ALWAYS AS {value} {stored}" for value in values]
    said = [meaning.kind(kind), *["not null"] * (required and not implied), *map(folded, collation)]
    said += [f"default {text}" for text in [meaning.default(default or "")] if text]
    said += [f"as {meaning.expression(list(tokens(value)), names)} {stored}" for value in values]
    # A line each, for the comments that a type or a default may end with.
    return Draft("column", name, "\n".join(parts), "\3".join(said))


def _term(told: _Told, column: str, descending: int, collation: str) -> str:
    """Show a column of a key, with how it is compared if that is not as elsewhere."""
    own = [*told["COLLATE", folded(column)][-1:], "BINARY"][0]
    other = f" COLLATE {collation}" if folded(collation) != folded(own) else ""
    return plain(column) + other + " DESC" * descending


def _foreign_key(pairs: _Rows, deferred: str) -> Draft:
    """Show a foreign key without MATCH, which SQLite ignores: https://www.sqlite.org/foreignkeys.html

    One that names no columns of its parent means the primary key; in which order its columns are written
    is all the same.
    """
    _, parent, *actions, _, _, _ = pairs[0]
    ours, theirs = (", ".join(plain(row[at]) for row in pairs if row[at] is not None) for at in (4, 5))
    rules = "".join(
        f" on {event} {action.lower()}" * (action != "NO ACTION")
        for event, action in zip(("update", "delete"), actions, strict=True)
    )
    text = f"({ours}) -> {plain(parent)}" + f" ({theirs})" * bool(theirs) + rules + deferred
    meant = sorted(f"{folded(row[4])}\1{folded(row[5] or row[6] or '')}" for row in pairs)
    return Draft("foreign key", "", text, "\0".join((*meant, folded(parent), rules, deferred)))


_ROW_NUMBER = frozenset(("rowid", "_rowid_", "oid"))  # https://www.sqlite.org/rowidtable.html
_BRINGING = ("json_", "jsonb_", "pragma_", "generate_series")
_DEFERRED = ["DEFERRABLE", "INITIALLY", "DEFERRED"]


def _told(sql: str) -> _Told:
    """Collect what only the SQL of a table tells: https://www.sqlite.org/lang_createtable.html"""
    told: _Told = defaultdict(list)
    if not _TELLING.search(sql):
        return told
    items, outside = parted(sql)
    if any(_word(token) == "AUTOINCREMENT" for item in items for part in item for token in part):
        told["OPTION", ""].append("AUTOINCREMENT")
    behind = outside[3:]  # CREATE, TABLE and the name, which may be any word
    told["OPTION", ""] += [option for word, option in _OPTIONS.items() if word in behind]
    for item in items:
        _tell(told, item)
    return told


def _tell(told: _Told, item: Parts) -> None:
    """Collect from one column or one constraint; a part is a token, or a parenthesis with all in it."""
    words = [_word(part[0]) for part in item]
    column = "" if words[0] in _CONSTRAINTS else _name(item[0][0])
    words[0] = "" if column else words[0]
    rule = ""
    for at, (word, following) in enumerate(pairwise(words)):
        if word in _RULES:
            rule = f"{_RULES[word]} {shown(item[at + 1]) if following == '(' else f'({shown(item[0])})'}"
        elif (word, following) == ("ON", "CONFLICT") and words[at + 2] != "ABORT":
            told["CONFLICT", ""].append(f"{rule} ON CONFLICT {words[at + 2]}")
        elif word == "REFERENCES":
            told["REFERENCES", ""].append("")
        elif words[at - 1 : at + 2] == _DEFERRED and words[at - 2] != "NOT" and told["REFERENCES", ""]:
            told["REFERENCES", ""][-1] = " deferrable initially deferred"  # the last one, of any column
        elif word in ("CHECK", "AS", "COLLATE"):
            told[word, column].append(unquoted(shown(item[at + 1])))
