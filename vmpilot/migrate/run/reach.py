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
from ..tokens import READING, WRITING, Head, assigned, body, folded, head, mentioned, quoted, tokens
from ..typed import NamedTuple
from .catalog import Catalog, Object

_ROWID = frozenset(("rowid", "_rowid_", "oid"))
_SILENT = (*READING, "explain", "pragma", "analyze", "reindex", "vacuum", "begin", "commit")
_TEMPORARY = "SELECT +tbl_name, +sql FROM sqlite_temp_master WHERE type = 'trigger'"

Triggers = Mapping[str, frozenset[Object]]  # by the table that fires them, folded


class Reach(NamedTuple):
    """What a script has written, and what follows: names of tables, folded.

    `children` can have got a row or a key that has no parent, `parents` can have lost a row or a key.
    `looked` are the tables whose keys are to be checked, for the one or the other.
    """

    children: frozenset[str]
    parents: frozenset[str]
    looked: frozenset[str]


def reach(session: Session, script: Script, triggers: Triggers, catalog: Catalog) -> Reach:
    """Return what a script can have broken in the database as it is; `triggers` are those from before it."""
    tables = frozenset[str]()
    if script.keys_on or "writable_schema" in script.words:
        tables = frozenset(catalog.parents)
        return Reach(tables, frozenset(catalog.children), tables)
    if not catalog.parents:
        return Reach(tables, tables, tables)
    children, parents = _written(session, script, triggers, catalog)
    looked = {child for child in children if child in catalog.parents}
    looked.update(*(catalog.children.get(parent, ()) for parent in parents))
    return Reach(frozenset(children), frozenset(parents), frozenset(looked))


def _written(
    session: Session, script: Script, triggers: Triggers, catalog: Catalog
) -> tuple[set[str], set[str]]:
    """Return which tables can have got a child without a parent, and which can have lost a parent."""
    children, parents = set[str](), set[str]()
    firing: dict[str, list[str]] = {}
    for table, text in session.rows(_TEMPORARY) if has_temporary(session) else ():
        firing.setdefault(folded(table), []).append(text)
    columns = cache(partial(_key_columns, session, catalog))
    fired = set[str]()
    waiting: list[Iterable[str]] = [_telling(script)]
    while waiting:
        for text in waiting.pop():
            one = head(text)
            if one.renamed or one.kind == "trigger":
                _follow(one, text, triggers, firing, fired)
            names = _targets(one, text)
            both = one.verb not in WRITING or _can_replace(text) or not names.isdisjoint(catalog.replacing)
            if both or one.verb == "delete" or (one.verb == "update" and _sets_key(names, columns, text)):
                parents |= names
            if both or one.verb == "insert" or (one.verb == "update" and names & parents):
                children |= names
            for name in names - fired if not one.kind else ():  # only what handles rows fires a trigger
                fired.add(name)
                waiting += [_body(text) for text in _fired(name, triggers, firing)]
    return children, parents


def _fired(table: str, triggers: Triggers, firing: Mapping[str, list[str]]) -> list[str]:
    return [one.sql for one in triggers.get(table, ())] + firing.get(table, [])


def _follow(one: Head, text: str, triggers: Triggers, firing: dict[str, list[str]], fired: set[str]) -> None:
    """Let a new trigger fire from here on, or those of a table under its new name."""
    if one.renamed:
        firing.setdefault(folded(one.renamed), []).extend(_fired(folded(one.name), triggers, firing))
        fired.discard(folded(one.renamed))
    elif one.verb == "create":
        firing.setdefault(folded(one.table), []).append(text)
        fired.discard(folded(one.table))


def _telling(script: Script) -> Iterator[str]:
    """Yield the statements of a script, but of those that insert rows into one table only the first."""
    known = set[str]()
    for text in statements_of(script):
        start = text.partition("(")[0]
        if start in known:
            continue
        # A quoted name can hold a bracket, and what stands behind the rows can replace others.
        if start[:6].lower() == "insert" and not set(start) & set("\"'`[") and not _can_replace(text):
            known.add(start)
        elif text[0] in "aAcC":  # a trigger may fire from here on, or a table have another name
            known.clear()
        yield text


def _can_replace(text: str) -> bool:
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
    if one.verb == "alter" and not one.renamed and _only_adds(text):
        return set()
    return {folded(one.name), folded(one.renamed)} - {""}


def _only_adds(text: str) -> bool:
    """Tell whether an ALTER TABLE adds a column without a key, or drops one: no key can have such a column.

    https://www.sqlite.org/lang_altertable.html
    """
    words = [token.text.lower() for token in tokens(text) if token.kind == "word"]
    return "rename" not in words and "references" not in words


def _body(trigger: str) -> Iterator[str]:
    """Return the statements of a trigger."""
    return (trigger[start:end] for start, end in body(trigger))


def _sets_key(names: set[str], columns: Callable[[str], frozenset[str]], text: str) -> bool:
    """Tell whether an UPDATE of these tables can change a column of a key, its child's or its parent's."""
    keys = frozenset[str]().union(*map(columns, names))
    if not keys:
        return False
    found = assigned(text)
    return not found or not found.isdisjoint(keys) or "*" in keys


def _key_columns(session: Session, catalog: Catalog, table: str) -> frozenset[str]:
    """Return the columns of a table that are part of a key, folded; with "*" if others can change them."""
    if table not in catalog.parents and table not in catalog.children:
        return frozenset()
    listed = session.rows(f"PRAGMA main.table_xinfo({quoted(table)})")
    primary = {folded(row[1]) for row in listed if row[5]}
    columns = {folded(row[3]) for row in session.rows(f"PRAGMA main.foreign_key_list({quoted(table)})")}
    for child in catalog.children.get(table, ()):
        for row in session.rows(f"PRAGMA main.foreign_key_list({quoted(child)})"):
            if folded(row[2]) == table:
                columns |= {folded(row[4])} if row[4] else primary
    # It can be the number of the row: https://www.sqlite.org/lang_createtable.html#rowid
    if primary & columns:
        columns |= _ROWID
    if any(row[6] in (2, 3) for row in listed):  # https://www.sqlite.org/pragma.html#pragma_table_xinfo
        columns.add("*")
    return frozenset(columns)
