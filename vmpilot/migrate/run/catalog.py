"""What a run keeps of a schema from step to step: which tables refer to which, and the views and triggers.

Only reads. A step brings it up to date by what its own statements create, alter and drop, so that a step
costs the same in a schema of any size. Sound first: all is read again where a statement does more than its
head tells, and where SQLite counts another number of changes than the script has statements that make one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from ..database.connection import Row, Session, is_sqlite3, references
from ..errors import not_of_the_caller
from ..files.script import Script, statements
from ..limits import RUNNERS
from ..tokens import SCHEMA, Head, folded, head, identifier, mentions, quoted, replaces
from ..typed import NamedTuple, TypeVar

# Not LIKE, whose meaning the caller can change: PRAGMA case_sensitive_like. And here as everywhere `+`,
# because a bare column has a declared type, for which a caller's connection can have a converter.
_ANYTHING = (
    "SELECT 1 FROM main.sqlite_master"
    " WHERE type IN ('view', 'trigger') OR (type = 'table' AND instr(lower(sql), 'references')) LIMIT 1"
)
_OBJECTS = (
    "SELECT +type, +name, +tbl_name, CASE WHEN type IN ('view', 'trigger') THEN sql END, rootpage = 0"
    " FROM main.sqlite_master WHERE type <> 'index' OR sql IS NOT NULL"  # which that of a constraint has not
)
# What is new stands last, so SQLite looks at little more than that.
_NEW = (
    "SELECT +type, +name, +tbl_name, +sql FROM main.sqlite_master"
    " WHERE (type || ' ' || name) COLLATE NOCASE IN ({}) ORDER BY rowid DESC LIMIT {}"
)
_REPLACING = (
    "SELECT +name, +sql FROM main.sqlite_master"
    " WHERE type = 'table' AND instr(lower(sql), 'conflict') AND instr(lower(sql), 'replace')"
)
_BEGINNING = frozenset(("references", "view", "trigger", "writable_schema"))
# What does more than the head of a statement tells, or to something else than what it names.
_UNTOLD = frozenset(("virtual", "temp", "temporary", "writable_schema", "schema_version"))
_RESOLVING = frozenset(("conflict", "replace"))
MOST_PARAMETERS = 500  # https://www.sqlite.org/limits.html#max_variable_number
_TEXTS = 4096
_KINDS = ("table", "view", "index", "trigger")
_UNKNOWN = 1 << 40  # more changes than a script can make
_T = TypeVar("_T")


class Object(NamedTuple):
    """A view or a trigger."""

    kind: str
    name: str
    table: str
    sql: str


class Catalog(NamedTuple):
    """What of a schema the guards go by; every name that others are found by is folded.

    `version` is SQLite's number of the schema, None if all must be read after the next step. `tables` are the
    tables and views as they are written, `virtual` those of them that a module keeps, `replacing` those that
    can replace a row without being told. `parents` are the tables that one refers to, `children` those that
    refer to one, and those in `lacking` refer to one that is missing. `indexes` have their table, `indexed`
    tables their indexes. Views and triggers stand under kind and name in `objects`, triggers under their
    table in `triggers`, and both in `mentions` under all that they name but keywords: that is one for all
    steps of a run and only grows, so what `objects` does not have does not count.
    """

    version: int | None
    virtual: frozenset[str]
    replacing: frozenset[str]
    lacking: frozenset[str]
    tables: Mapping[str, str]
    parents: Mapping[str, frozenset[str]]
    children: Mapping[str, frozenset[str]]
    indexes: Mapping[str, str]
    indexed: Mapping[str, frozenset[str]]
    objects: Mapping[tuple[str, str], Object]
    triggers: Mapping[str, frozenset[Object]]
    mentions: dict[str, set[Object]]


# Where nothing is that a step could break, not even the names of the tables are kept.
NOTHING = Catalog(None, frozenset(), frozenset(), frozenset(), {}, {}, {}, {}, {}, {}, {}, {})


def read(session: Session) -> Catalog:
    """Read all of a schema."""
    if not session.rows(_ANYTHING):
        return NOTHING
    version, rows = _version(session), session.rows(_OBJECTS)
    pairs = [(folded(child), folded(parent)) for child, parent in references(session)]
    tables = {folded(name): name for kind, name, *_ in rows if kind in ("table", "view")}
    virtual = frozenset(folded(name) for kind, name, *_, is_virtual in rows if kind == "table" and is_virtual)
    parents, children = _grouped(pairs), _grouped((parent, child) for child, parent in pairs)
    indexes = {folded(name): folded(table) for kind, name, table, *_ in rows if kind == "index"}
    found = [Object(*row) for *row, _ in rows if row[0] in ("view", "trigger")]
    objects = {(one.kind, folded(one.name)): one for one in found}
    if not parents and not objects:
        return NOTHING
    triggers = _grouped((folded(one.table), one) for one in found if one.kind == "trigger")
    indexed = _grouped((table, index) for index, table in indexes.items())
    draft = _Draft(tables, parents, children, indexes, indexed, objects, triggers, {})
    for one in found:
        _index(draft, one)
    lacking = frozenset(child for child, those in parents.items() if _missing(tables, those))
    return Catalog(version, virtual, _replacing(session), lacking, *draft)


def _grouped(pairs: Iterable[tuple[str, _T]]) -> dict[str, frozenset[_T]]:
    found: dict[str, set[_T]] = {}
    for name, one in pairs:
        found.setdefault(name, set()).add(one)
    return {name: frozenset(several) for name, several in found.items()}


def read_after(session: Session, script: Script, before: Catalog) -> Catalog:
    """Return the catalog after a step, from that `before` it."""
    if before is NOTHING and script.words.isdisjoint(_BEGINNING):
        return before
    # Of other modules some number and spell a schema in ways of their own.
    version = _version(session) if is_sqlite3(session.connection) else None
    if version is None or before.version is None or not _tells_all(script, before):
        return read(session)
    if version == before.version:
        return before
    heads = [one for one in heads_of(script) if one.verb in ("create", "alter", "drop")]
    return _followed(session, script, heads, before, version) or read(session)


def _tells_all(script: Script, before: Catalog) -> bool:
    """Tell whether the heads of a script's statements tell all that can have changed."""
    if not script.transactional or not script.words.isdisjoint(_UNTOLD):
        return False
    return "autoincrement" not in script.words or "sqlite_sequence" in before.tables


def heads_of(script: Script) -> Iterator[Head]:
    """Yield what the statements that create, alter or drop something do, in their order."""
    # Only a statement that starts like one of these words is worth a look.
    return (head(text) for text in statements(script) if text[0] in "aAcCdD")


def changing(script: Script, before: Catalog) -> Iterator[Head]:
    """Yield the same, but for what was there `before`: that stays as it is, if nothing else names it.

    A trigger can have gone with its table.
    """
    for one in heads_of(script):
        there: Collection[str] = before.indexes if one.kind == "index" else before.tables
        is_there = one.kind != "trigger" and folded(one.name) in there
        if one.verb != "create" or one.temporary or not is_there:
            yield one


def with_shadows(catalog: Catalog, names: set[str]) -> set[str]:
    """Return the same with the tables in which the virtual ones of them keep what they hold, all folded.

    https://www.sqlite.org/vtab.html#xshadowname
    """
    virtual = tuple(f"{name}_" for name in names & catalog.virtual)
    return names.union(name for name in catalog.tables if name.startswith(virtual)) if virtual else names


def missing(catalog: Catalog, child: str) -> frozenset[str]:
    """Return the tables that are missing and that one refers to, all folded."""
    return _missing(catalog.tables, catalog.parents.get(child))


def unindexed(script: Script, before: Catalog) -> frozenset[str] | None:
    """Return the tables of the indexes that a script has dropped, folded; None if that is not known."""
    heads = [one for one in heads_of(script) if one.kind == "index"]
    dropped = {folded(one.name) for one in heads if one.verb == "drop"}
    # One of that name can have been there, and another one on another table be made.
    pairs = [(folded(one.name), folded(one.table)) for one in heads if one.verb == "create"]
    pairs += [(name, before.indexes[name]) for name in dropped if name in before.indexes]
    if dropped and ("rename" in script.words or dropped.difference(name for name, _ in pairs)):
        return None
    return frozenset(table for name, table in pairs if name in dropped)


def untriggered(script: Script, before: Catalog) -> frozenset[str]:
    """Return the tables and views that had triggers which a script has dropped, folded."""
    heads = (one for one in heads_of(script) if (one.verb, one.kind) == ("drop", "trigger"))
    known = (before.objects.get(("trigger", folded(one.name))) for one in heads)
    return frozenset(folded(one.table) for one in known if one)


def seeing(catalog: Catalog, names: Iterable[str]) -> frozenset[Object]:
    """Return the views and triggers that mention one of these names, folded, and those that mention them.

    A trigger is as good as mentioned by those that write to its table.
    """
    found, new, fired = set[Object](), set(names), set[str]()
    while new or fired:
        if any(map(_is_keyword, new | fired)):  # which are not told apart from names
            return frozenset(catalog.objects.values())
        more = {one for name in new for one in mentioning(catalog, name)}
        more |= {one for name in fired for one in mentioning(catalog, name) if one.kind == "trigger"}
        more -= found
        found |= more
        new = {folded(one.name) for one in more}
        fired = {folded(one.table) for one in more if one.kind == "trigger"}
    return frozenset(found)


def mentioning(catalog: Catalog, name: str) -> Iterator[Object]:
    """Yield the views and triggers that mention a name that is no keyword, folded."""
    return _mentioning(catalog.mentions, catalog.objects, name)


def _mentioning(
    mentions: Mapping[str, set[Object]], objects: Mapping[tuple[str, str], Object], name: str
) -> Iterator[Object]:
    return (one for one in mentions.get(name, ()) if objects.get((one.kind, folded(one.name))) == one)


def below(catalog: Catalog, objects: Iterable[Object]) -> frozenset[Object]:
    """Return what SQLite compiles with these views and triggers: the views that they mention, and so on.

    Also the triggers of what a trigger mentions, and of what refers to that:
    https://www.sqlite.org/foreignkeys.html#fk_actions
    """
    found = new = set(objects)
    while new:
        names = {name for one in new for name in names_in(one)}
        written = {name for one in new if one.kind == "trigger" for name in names_in(one)}
        written.update(*(catalog.children.get(name, ()) for name in written))
        more = {catalog.objects["view", name] for name in names if ("view", name) in catalog.objects}
        new = more.union(*(catalog.triggers.get(name, ()) for name in written)) - found
        found = found | new
    return frozenset(found)


@lru_cache(_TEXTS)
def names_in(one: Object) -> frozenset[str]:
    """Return, folded, what a view or a trigger mentions, itself included.

    A name of the runner's own tables wherever its letters are.
    """
    lowered = one.sql.lower()
    ours = {name for name in RUNNERS if name in lowered}
    return mentions(one.sql).union({folded(one.name), folded(one.table)}, ours)


@lru_cache(_TEXTS)
def _indexed_under(one: Object) -> frozenset[str]:
    return frozenset(name for name in names_in(one) if not _is_keyword(name))


def _is_keyword(name: str) -> bool:
    return name.isidentifier() and name.isascii() and identifier(name) != name


# --- following a script


class _Draft(NamedTuple):
    """The mappings of a catalog, while they are made."""

    tables: dict[str, str]
    parents: dict[str, frozenset[str]]
    children: dict[str, frozenset[str]]
    indexes: dict[str, str]
    indexed: dict[str, frozenset[str]]
    objects: dict[tuple[str, str], Object]
    triggers: dict[str, frozenset[Object]]
    mentions: dict[str, set[Object]]


def _followed(
    session: Session, script: Script, heads: Sequence[Head], before: Catalog, version: int
) -> Catalog | None:
    """Return the catalog after these statements, None if something else has changed the schema too."""
    draft = _Draft(
        dict(before.tables),
        dict(before.parents),
        dict(before.children),
        dict(before.indexes),
        dict(before.indexed),
        dict(before.objects),
        dict(before.triggers),
        before.mentions,
    )
    if sum(_changes(draft, before, one, script.words) for one in heads) != version - (before.version or 0):
        return None
    tables = {folded(name) for one in heads if one.kind == "table" for name in (one.name, one.renamed)}
    for name in tables:
        if name in draft.tables and ("references" in script.words or name in draft.parents):
            _refer(draft, name, _parents(session, draft.tables[name]))
    created = dict.fromkeys((one.kind, folded(one.name)) for one in heads if one.verb == "create")
    made = [each for each in created if each in draft.objects and not draft.objects[each].sql]
    for one in _made(session, made):
        _take(draft, draft.objects[one.kind, folded(one.name)])
        _put(draft, one)
        _index(draft, one)
    names = tables | {folded(one.name) for one in heads if one.kind == "view"}
    looked = names.union(*(draft.children.get(name, ()) for name in names))
    lacking = (before.lacking - looked) | {
        name for name in looked if _missing(draft.tables, draft.parents.get(name))
    }
    may_replace = script.words >= _RESOLVING or not names.isdisjoint(before.replacing)
    replacing = _replacing(session) if may_replace else before.replacing
    after = Catalog(version, before.virtual, replacing, lacking, *draft)
    return after if after.parents or after.objects else NOTHING


def _changes(draft: _Draft, before: Catalog, one: Head, words: frozenset[str]) -> int:
    """Follow a statement, and return how many changes of the schema it has made: with IF it can be none.

    The `words` are those of its script: that it renames a column its head does not tell.
    """
    name = folded(one.name)
    if not name or one.kind not in _KINDS or name in before.virtual or folded(one.schema) not in ("", "main"):
        return _UNKNOWN
    names: Iterable[str] = draft.indexes if one.kind == "index" else draft.tables
    is_there = ("trigger", name) in draft.objects if one.kind == "trigger" else name in names
    if one.verb == "alter":
        is_known = is_there and not ("rename" in words and _is_rewritten(draft, one, name))
        if is_known and one.renamed:
            _rename(draft, one, name)
        return 1 if is_known else _UNKNOWN
    if one.verb == "create" and not is_there:
        _create(draft, one, name)
    elif one.verb == "drop" and is_there:
        _drop(draft, one, name)
    return is_there == (one.verb == "drop")


def _create(draft: _Draft, one: Head, name: str) -> None:
    """Put into a draft what a statement creates; what a view or a trigger says is read at the end."""
    table = folded(one.table)
    if one.kind == "index":
        draft.indexes[name] = table
        draft.indexed[table] = draft.indexed.get(table, frozenset()) | {name}
        return
    if one.kind in ("table", "view"):
        draft.tables[name] = one.name
    if one.kind in ("view", "trigger"):
        _put(draft, Object(one.kind, one.name, one.table, ""))


def _drop(draft: _Draft, one: Head, name: str) -> None:
    """Take out of a draft what a statement drops, with what goes with it."""
    if one.kind == "trigger":
        _take(draft, draft.objects["trigger", name])
        return
    for index in [name] if one.kind == "index" else draft.indexed.get(name, ()):
        _without(draft.indexed, draft.indexes.pop(index), index)
    if one.kind == "index":
        return
    del draft.tables[name]
    _refer(draft, name, frozenset())
    view = draft.objects.get(("view", name))
    for each in (*draft.triggers.get(name, ()), *([view] if view else [])):
        _take(draft, each)


def _is_rewritten(draft: _Draft, one: Head, name: str) -> bool:
    """Tell whether SQLite writes anew what something else than a table and its indexes says of that table.

    It does so in all that mentions the table: https://www.sqlite.org/lang_altertable.html
    """
    if one.renamed and (folded(one.renamed) in draft.tables or draft.children.get(name, {name}) != {name}):
        return True
    # What a trigger says that the same script has made is not read yet, but it moves with its table.
    is_fired = name in draft.triggers
    return is_fired or _is_keyword(name) or any(_mentioning(draft.mentions, draft.objects, name))


def _rename(draft: _Draft, one: Head, name: str) -> None:
    """Give a table another name in a draft, also where it refers to itself."""
    new = folded(one.renamed)
    del draft.tables[name]
    draft.tables[new] = one.renamed
    parents = draft.parents.get(name, frozenset())
    _refer(draft, name, frozenset())
    _refer(draft, new, frozenset(new if parent == name else parent for parent in parents))
    if indexes := draft.indexed.pop(name, None):
        draft.indexed[new] = indexes
        draft.indexes.update(dict.fromkeys(indexes, new))


def _refer(draft: _Draft, child: str, parents: frozenset[str]) -> None:
    """Note which tables one refers to."""
    for parent in draft.parents.pop(child, frozenset()):
        _without(draft.children, parent, child)
    for parent in parents:
        draft.children[parent] = draft.children.get(parent, frozenset()) | {child}
    if parents:
        draft.parents[child] = parents


def _put(draft: _Draft, one: Object) -> None:
    draft.objects[one.kind, folded(one.name)] = one
    if one.kind == "trigger":
        table = folded(one.table)
        draft.triggers[table] = draft.triggers.get(table, frozenset()) | {one}


def _index(draft: _Draft, one: Object) -> None:
    for name in _indexed_under(one):
        draft.mentions.setdefault(name, set()).add(one)


def _take(draft: _Draft, one: Object) -> None:
    del draft.objects[one.kind, folded(one.name)]
    if one.kind == "trigger":
        _without(draft.triggers, folded(one.table), one)


def _without(sets: dict[str, frozenset[_T]], name: str, one: _T) -> None:
    if rest := sets[name] - {one}:
        sets[name] = rest
    else:
        del sets[name]


def _missing(tables: Mapping[str, str], parents: frozenset[str] | None) -> frozenset[str]:
    return (parents or frozenset()).difference(tables) - SCHEMA


# --- asking SQLite


def _version(session: Session) -> int | None:
    """Return the number that each change of the schema makes greater; None where there is no such number.

    https://www.sqlite.org/pragma.html#pragma_schema_version
    """
    found = session.value("PRAGMA main.schema_version")
    return None if found is None else int(found)


def columns_of(session: Session, table: str) -> list[Row]:
    """Return what SQLite tells of the columns of a table; nothing of those of a view that does not compile.

    https://www.sqlite.org/pragma.html#pragma_table_xinfo
    """
    try:
        return session.rows(f"PRAGMA main.table_xinfo({quoted(table)})")
    except session.failures as error:
        not_of_the_caller(error)
        return []


def _parents(session: Session, table: str) -> frozenset[str]:
    rows = session.rows(f"PRAGMA main.foreign_key_list({quoted(table)})")
    return frozenset(folded(row[2]) for row in rows)


def _made(session: Session, objects: Sequence[tuple[str, str]]) -> Iterator[Object]:
    """Yield the views and triggers of these kinds and names, which are all there."""
    for at in range(0, len(objects), MOST_PARAMETERS):
        some = [f"{kind} {name}" for kind, name in objects[at : at + MOST_PARAMETERS]]
        sql = _NEW.format(", ".join("?" * len(some)), len(some))
        yield from (Object(*row) for row in session.rows(sql, some))


def _replacing(session: Session) -> frozenset[str]:
    return frozenset(folded(name) for name, sql in session.rows(_REPLACING) if replaces(sql))
