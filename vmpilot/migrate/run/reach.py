"""Which foreign keys a script can have broken: those of the tables that it writes, and those that lead there.

Only reads. Sound first: a statement that is not understood has written every table that it mentions, and
a script that writes the schema by hand, or lets SQLite follow the keys, has written all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial

from ..database.connection import Session
from ..database.settings import has_temporary
from ..files.script import Script
from ..files.script import statements as statements_of
from ..tokens import (
    READING,
    WRITING,
    Head,
    assigned,
    body,
    fires_on,
    folded,
    has_default,
    head,
    mentioned,
    quoted,
    renamed_column,
    replaces,
    tokens,
    upserts,
)
from ..typed import NamedTuple
from .catalog import Catalog, Object, columns_of, with_shadows
from .renames import Rename, made, renames

_ROWID = frozenset(("rowid", "_rowid_", "oid"))
_SILENT = (*READING, "explain", "pragma", "analyze", "reindex", "vacuum", "begin", "commit")
_TEMPORARY = "SELECT +tbl_name, +sql FROM sqlite_temp_master WHERE type = 'trigger'"

Triggers = Mapping[str, frozenset[Object]]  # by the table that fires them, folded


class Reach(NamedTuple):
    """What a script has written, and what follows: names of tables, folded.

    `children` can have got a row or a key that has no parent, `parents` can have lost a row or a key.
    `looked` are the tables whose keys are to be checked, for the one or the other. In `mended` are those of
    which what is known can be true no more: rows have gone, got a parent, or have columns of other names. Of
    those in `declared` only the keys have changed: they can have got one, of no row.
    """

    children: frozenset[str]
    parents: frozenset[str]
    looked: frozenset[str]
    mended: frozenset[str]
    declared: frozenset[str]


def reach(session: Session, script: Script, last: Catalog, catalog: Catalog) -> Reach:
    """Return what a script can have broken; `last` is the catalog from before it, `catalog` that of now."""
    nothing = frozenset[str]()
    # Outside a transaction it can itself say that SQLite is to follow the keys:
    # https://www.sqlite.org/pragma.html#pragma_foreign_keys
    follows = script.keys_on or (not script.transactional and "foreign_keys" in script.words)
    if follows or "writable_schema" in script.words:
        tables = frozenset(catalog.parents)
        return Reach(tables, frozenset(catalog.children), tables, nothing, nothing)
    if not catalog.parents:
        return Reach(nothing, nothing, nothing, nothing, nothing)
    written = _written(session, script, last, catalog)
    looked = _with_children(written.children, written.parents, catalog)
    mended = _with_children(written.emptied, written.filled, catalog)
    declared = _with_children(written.altered, written.altered, catalog)
    return Reach(frozenset(written.children), frozenset(written.parents), looked, mended | declared, declared)


def touched(script: Script, catalog: Catalog) -> frozenset[str]:
    """Return the tables whose keys a script can come near to, whatever the schema is behind it."""
    names = set[str]().union(*map(mentioned, _telling(script)))
    return _with_children(names, names, catalog)


def _with_children(children: Iterable[str], parents: Iterable[str], catalog: Catalog) -> frozenset[str]:
    """Return those of some tables that have keys, and the children of others."""
    found = {child for child in children if child in catalog.parents}
    return frozenset(found.union(*(catalog.children.get(parent, ()) for parent in parents)))


class _Written(NamedTuple):
    """Which tables can have got a child without a parent, or lost a parent; lost rows, or got some.

    Of those that were `altered` columns have another name or are new and without a value, or all is new.
    """

    children: set[str]
    parents: set[str]
    emptied: set[str]
    filled: set[str]
    altered: set[str]


def _written(session: Session, script: Script, last: Catalog, catalog: Catalog) -> _Written:
    """Return what a script can have done to which tables."""
    found = _Written(set(), set(), set(), set(), set())
    firing: dict[str, list[str]] = {}
    for table, text in session.rows(_TEMPORARY) if has_temporary(session) else ():
        firing.setdefault(folded(table), []).append(text)
    otherwise = renames(script)
    columns = cache(partial(_key_columns, session, catalog, _renamed(otherwise)))
    # A table can have been of such a kind under the name that it had before.
    virtual, replacing_ones = last.virtual | catalog.virtual, last.replacing | catalog.replacing
    known = catalog._replace(virtual=virtual, replacing=replacing_ones)
    new_tables = made(script, last) if "create" in script.words else frozenset[str]()
    fired = set[tuple[str, str, bool]]()
    waiting: list[tuple[Iterable[str], bool]] = [(_telling(script), False)]
    while waiting:
        texts, inherited = waiting.pop()
        for text in texts:
            one = head(text)
            if one.renamed or one.kind == "trigger":
                _follow(one, text, last.triggers, firing, fired)
            # What the outermost statement says of conflicts is in force in the triggers that it fires:
            # https://www.sqlite.org/lang_createtrigger.html
            replacing = inherited or (_may_conflict(text) and replaces(text))
            # No key follows what is in the name of a virtual table.
            if one.renamed and folded(one.name) not in known.virtual:
                names = _follow_name(found, one, last)
            else:
                names = _note(found, one, text, replacing, columns, new_tables, known)
            _call_otherwise(names, otherwise)  # a trigger's text can have the name from before
            is_replacing = replacing or not names.isdisjoint(known.replacing)
            events = () if one.kind else _events(one, text, is_replacing)
            new = {(name, event, replacing) for name in names for event in events} - fired
            fired.update(new)
            waiting += [
                (_body(trigger), replacing)
                for name, event, _ in new
                for trigger in _fired(name, last.triggers, firing)
                if fires_on(trigger) in (event, "")
            ]
    for noted in found:
        _call_otherwise(noted, otherwise)
    return found


def _note(
    found: _Written,
    one: Head,
    text: str,
    replacing: bool,
    columns: Callable[[str], "_Columns"],
    new_tables: frozenset[str],
    catalog: Catalog,
) -> set[str]:
    """Note what a statement can have done, and return the tables that it writes."""
    if _changes_no_row(one, text):
        name, is_made = folded(one.name), one.verb == "create"
        if name in new_tables or not is_made:
            found.altered.add(name)
        if name in new_tables and is_made:  # others may have referred to it
            found.parents.add(name)
        return set()
    names = with_shadows(catalog, _targets(one, text))
    both = one.verb not in WRITING or not names.isdisjoint(catalog.virtual)
    deletes = one.verb == "delete" or replacing or not names.isdisjoint(catalog.replacing)
    inserts = one.verb in ("insert", "replace")
    sets = _sets(names, columns, text, one.verb)
    if both or deletes or sets.referred:
        found.parents.update(names)
    if both or inserts or sets.own:
        found.children.update(names)
    if both or deletes:
        found.emptied.update(names)
    if both or inserts or sets.referred:
        found.filled.update(names)
    return names


def _follow_name(found: _Written, one: Head, last: Catalog) -> set[str]:
    """Note that all keys follow a table's new name; return that no row changes.

    With PRAGMA legacy_alter_table they do not; then they lack their parent table until another has its name.
    """
    found.altered.add(folded(one.name))
    if folded(one.renamed) in last.children:  # others may have referred to it, while it was missing
        found.parents.add(folded(one.renamed))
    return set()


def _call_otherwise(names: set[str], renamed: Iterable[Rename]) -> None:
    """Add the new names of tables to the old ones."""
    for one in renamed:
        if one.table in names and not one.column:
            names.add(one.name)


def _fired(table: str, triggers: Triggers, firing: Mapping[str, list[str]]) -> list[str]:
    return [one.sql for one in triggers.get(table, ())] + firing.get(table, [])


def _events(one: Head, text: str, replacing: bool) -> set[str]:
    """Return what a statement that handles rows can do to fire triggers."""
    if one.verb not in WRITING:
        return {"insert", "update", "delete"}
    is_upsert = one.verb in ("insert", "replace") and _may_conflict(text) and upserts(text)
    more = {"delete"} if replacing else set[str]()
    return more | {"insert" if one.verb == "replace" else one.verb} | ({"update"} if is_upsert else set())


def _follow(
    one: Head,
    text: str,
    triggers: Triggers,
    firing: dict[str, list[str]],
    fired: set[tuple[str, str, bool]],
) -> None:
    """Let a new trigger fire from here on, or those of a table under its new name."""
    if one.renamed:
        firing.setdefault(folded(one.renamed), []).extend(_fired(folded(one.name), triggers, firing))
    elif one.verb == "create":
        firing.setdefault(folded(one.table), []).append(text)
    else:
        return
    table = folded(one.renamed or one.table)
    fired.difference_update([each for each in fired if each[0] == table])


def _telling(script: Script) -> Iterator[str]:
    """Yield the statements of a script, but of those that insert rows into one table only the first."""
    known = set[str]()
    replaces_some = _may_conflict(script.text)  # asked once, because a file can have millions of rows
    for text in statements_of(script):
        start = text.partition("(")[0]
        if start in known and not (replaces_some and _may_conflict(text)):
            continue
        # A quoted name or a comment can hold a bracket, and what stands behind the rows can replace others.
        if start[:6].lower() == "insert" and not set(start) & set("\"'`[/-") and not _may_conflict(text):
            known.add(start)
        elif text[0] in "aAcC":  # a trigger may fire from here on, or a table have another name
            known.clear()
        yield text


def _may_conflict(text: str) -> bool:
    """Tell whether an INSERT or UPDATE can make other rows go or change: a superset, by its letters."""
    lowered = text.lower()
    return "replace" in lowered or "conflict" in lowered


def _targets(one: Head, text: str) -> set[str]:
    """Return the tables that a statement writes, folded; those that it mentions where that is not certain."""
    if one.verb in WRITING and one.name:
        return {folded(one.name)}
    if one.verb in _SILENT:
        return set()
    if one.verb not in ("create", "alter", "drop") or not one.kind:
        return mentioned(text)
    if one.kind in ("index", "trigger"):
        return set()
    # No key can have a column that goes, or is new without one: https://www.sqlite.org/lang_altertable.html
    if one.verb == "alter" and not one.renamed and "references" not in _words(text):
        return set()
    return {folded(one.name), folded(one.renamed)} - {""}


def _words(text: str) -> set[str]:
    """Return all that can be a keyword in a statement."""
    return {token.text.lower() for token in tokens(text) if token.kind == "word"}


def _changes_no_row(one: Head, text: str) -> bool:
    """Tell whether an ALTER TABLE gives a column another name, or adds one with a key and without a value.

    Or makes a table: that has no rows, or no keys.
    """
    if one.verb != "alter" or one.renamed:
        return (one.verb, one.kind) == ("create", "table")
    if any(renamed_column(text)):
        return True
    words = _words(text)
    return "references" in words and "as" not in words and not has_default(text)


def _body(trigger: str) -> Iterator[str]:
    """Return the statements of a trigger."""
    return (trigger[start:end] for start, end in body(trigger))


class _Columns(NamedTuple):
    """Columns of a table, folded: of its own keys, and those that keys refer to; with "*" it can be any."""

    own: frozenset[str]
    referred: frozenset[str]


_NO_COLUMNS = _Columns(frozenset(), frozenset())
_ALL_COLUMNS = _Columns(frozenset("*"), frozenset("*"))


def _sets(names: set[str], columns: Callable[[str], _Columns], text: str, verb: str) -> _Columns:
    """Return which columns of keys a statement can change in the rows that these tables have.

    An INSERT changes one where it updates the row in its way.
    """
    if verb not in ("insert", "update") or (verb == "insert" and not (_may_conflict(text) and upserts(text))):
        return _NO_COLUMNS
    own, referred = (frozenset[str]().union(*each) for each in zip(*map(columns, names), strict=True))
    if not own and not referred:
        return _NO_COLUMNS
    found = assigned(text) if verb == "update" or upserts(text) == 1 else set[str]()
    if not found:
        return _Columns(own, referred)
    found.add("*")
    return _Columns(own & found, referred & found)


def _renamed(found: Iterable[Rename]) -> frozenset[str]:
    """Return the tables that are called otherwise, or columns of them, by all their names."""
    return frozenset(name for one in found for name in (one.table, "" if one.column else one.name)) - {""}


def _key_columns(session: Session, catalog: Catalog, renamed: frozenset[str], table: str) -> _Columns:
    """Return the columns of a table that are part of a key.

    Where one of it has got another name, a statement before or a trigger can have set it under the old one.
    """
    if table in renamed:
        return _ALL_COLUMNS
    if table not in catalog.parents and table not in catalog.children:
        return _NO_COLUMNS
    listed = columns_of(session, table)
    primary = {folded(row[1]) for row in listed if row[5]}
    own = {folded(row[3]) for row in session.rows(f"PRAGMA main.foreign_key_list({quoted(table)})")}
    referred = set[str]()
    for child in catalog.children.get(table, ()):
        for row in session.rows(f"PRAGMA main.foreign_key_list({quoted(child)})"):
            if folded(row[2]) == table:
                referred |= {folded(row[4])} if row[4] else primary
    # Others change what is generated: https://www.sqlite.org/pragma.html#pragma_table_xinfo
    generated = {folded(row[1]) for row in listed if row[6] in (2, 3)}
    return _Columns(*(_with_others(columns, primary, generated) for columns in (own, referred)))


def _with_others(columns: set[str], primary: set[str], generated: set[str]) -> frozenset[str]:
    """Return columns with all that can be set in place of them; "*" for what nobody can name."""
    # It can be the number of the row: https://www.sqlite.org/lang_createtable.html#rowid
    number = _ROWID if primary & columns else ()
    return frozenset(columns).union(number, "*" if generated & columns else ())
