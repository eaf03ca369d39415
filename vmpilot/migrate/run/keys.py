"""The foreign keys of a database, and the rows that lack a parent.

Only reads. https://www.sqlite.org/foreignkeys.html
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from ..database.connection import Row, Session, rows_if_known
from ..errors import not_of_the_caller, passed_over
from ..tokens import folded, plain, quoted
from ..typed import NamedTuple
from .catalog import MOST_PARAMETERS, Catalog, columns_of, missing, read
from .renames import Place

_MISMATCH = "foreign key mismatch - "
Orphan = tuple[Row, str]  # the place of a row without a parent and what else identifies it; how to show it


class Key(NamedTuple):
    """One foreign key.

    `values` selects its columns, as bytes because a text need not be UTF-8, and `orphaned` finds the rows
    that lack a parent. `actions` tells that something follows for them when the parent goes or changes, and
    `place` tells it from others.
    """

    table: str
    parent: str
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    values: str
    orphaned: str
    actions: bool
    place: Place


class Violation(NamedTuple):
    """A row without a parent, or without `parent` a key that SQLite cannot check, with its words for that."""

    table: str
    parent: str
    words: str


def violations(session: Session) -> Iterator[Violation]:
    """Yield what is wrong with the foreign keys, but nothing of those that lack their parent table.

    A key whose parent is not unique has no answer but an error:
    https://www.sqlite.org/foreignkeys.html#fk_indexes
    """
    catalog = read(session)
    seen = look(session, catalog, {key.place for key in lacking_in(session, catalog)})
    yield from dict.fromkeys(Violation(at.table, "", words) for at, words in seen.blind.items())
    yield from (Violation(at.table, at.parent, words) for (at, *_), words in seen.orphans)


def lacking_now(session: Session) -> list[Key]:
    """Return the foreign keys whose parent table is missing: whatever is written to their tables fails."""
    return lacking_in(session, read(session))


def lacking_in(session: Session, catalog: Catalog) -> list[Key]:
    """Return the foreign keys whose parent table is missing, of a schema that has been read."""
    tables = [table for table in catalog.parents if table in catalog.lacking] if catalog.lacking else []
    found = ((missing(catalog, table), keys_of(session, catalog.tables[table]).values()) for table in tables)
    return [key for parents, keys in found for key in keys if folded(key.parent) in parents]


def lack_words(key: Key) -> str:
    """Say that the parent table of a key is missing."""
    columns = ", ".join(key.columns)
    return f"foreign key ({columns}) of {plain(key.table)} has no table {plain(key.parent)}"


def mismatch(key: Key) -> str:
    """Return SQLite's words for a key whose parent's columns are none."""
    table, parent = (name.replace('"', '""') for name in (key.table, key.parent))
    return f'{_MISMATCH}"{table}" referencing "{parent}"'


def is_mismatch(words: str) -> bool:
    """Tell whether SQLite's words are those for such a key."""
    return words.startswith(_MISMATCH)


def mismatched(session: Session, table: str, lacking: Collection[Place]) -> Iterator[tuple[Place, str]]:
    """Yield the keys of a table that SQLite cannot check, with what it would say; no row is looked at."""
    for key in keys_of(session, table).values():
        if key.place not in lacking and not is_unique(session, key):
            yield key.place, mismatch(key)


class Seen(NamedTuple):
    """The rows that lack a parent, and the keys that SQLite cannot check, with its words."""

    orphans: list[Orphan]
    blind: dict[Place, str]


def look(
    session: Session, catalog: Catalog, lacking: Collection[Place], only: frozenset[str] | None = None
) -> Seen:
    """Check the keys of these tables, or of all, but not those whose parent table is missing.

    To SQLite every row lacks a parent then.
    """
    seen = Seen([], {})
    if not lacking and only is None:
        with passed_over(*session.failures):
            if (known := rows_if_known(session, "PRAGMA main.foreign_key_check")) is not None:
                seen.orphans.extend(_identified(session, known))
                return seen
    for name in catalog.parents if only is None else sorted(name for name in only if name in catalog.parents):
        table = catalog.tables[name]
        known = None
        words = ""
        if name not in catalog.lacking:
            try:
                known = rows_if_known(session, f"PRAGMA main.foreign_key_check({quoted(table)})")
            except session.failures as error:
                words = str(not_of_the_caller(error))
        if known is not None:
            seen.orphans.extend(_identified(session, known))
        else:
            _look_by_key(session, table, lacking, words, seen)
    return seen


def _look_by_key(session: Session, table: str, lacking: Collection[Place], words: str, seen: Seen) -> None:
    """Check the keys of a table one by one; of all that SQLite cannot check it names only one, in `words`."""
    keys = [key for key in keys_of(session, table).values() if key.place not in lacking]
    told = {key: mismatch(key) for key in keys if not is_unique(session, key)}
    if words and words not in told.values():  # for another reason than we know
        told = dict.fromkeys(keys, words)
    for key in keys:
        if key not in told:
            try:
                seen.orphans.extend(_searched(session, key))
            except session.failures as error:
                told[key] = str(not_of_the_caller(error))
    seen.blind.update((key.place, words) for key, words in told.items())


def _identified(session: Session, known: Collection[Row]) -> Iterator[Orphan]:
    """Tell the rows that the pragma found by their key, because a rebuilt table may number its rows anew."""
    keys = {table: keys_of(session, table) for table in {table for table, *_ in known}}
    numbers: dict[tuple[str, int], list[int | None]] = {}
    for table, rowid, _, number in known:
        numbers.setdefault((table, number), []).append(rowid)
    values = {at: _values(session, keys[at[0]][at[1]], rowids) for at, rowids in numbers.items()}
    for table, rowid, _, number in known:
        yield _orphan(keys[table][number], rowid, next(values[table, number], ()))


def _values(session: Session, key: Key, rowids: Sequence[int | None]) -> Iterator[Row]:
    """Yield what the rows without a parent, of which there may be many, have in the columns of a key."""
    listed = columns_of(session, key.table)
    if rowids[0] is None or any(folded(row[1]) == "_rowid_" for row in listed):  # which hides the number
        yield from session.rows(f"SELECT {key.values} FROM {main(key.table)} WHERE {key.orphaned}")
        return
    for at in range(0, len(rowids), MOST_PARAMETERS):
        some = rowids[at : at + MOST_PARAMETERS]
        places = ", ".join("?" * len(some))
        found = session.rows(
            f"SELECT +_rowid_, {key.values} FROM {main(key.table)} WHERE _rowid_ IN ({places})", some
        )
        values = {rowid: tuple(rest) for rowid, *rest in found}
        yield from (values[rowid] for rowid in some)


def _searched(session: Session, key: Key) -> list[Orphan]:
    """Return what the pragma would say of one key."""
    rest = f"{key.values} FROM {main(key.table)} WHERE {key.orphaned}"
    try:
        return [_orphan(key, rowid, values) for rowid, *values in session.rows(f"SELECT +_rowid_, {rest}")]
    except session.failures as error:  # WITHOUT ROWID
        not_of_the_caller(error)
        return [_orphan(key, None, values) for values in session.rows(f"SELECT {rest}")]


def _orphan(key: Key, rowid: object, values: Iterable[object]) -> Orphan:
    row = "a row" if rowid is None else f"row {rowid}"
    return (key.place, *values), f"{row} of {key.table} has no parent in {key.parent}"


def keys_of(session: Session, table: str) -> dict[int, Key]:
    """Return the foreign keys of a table by the numbers that SQLite gives them.

    A value of the child is compared as the parent's column would store it: `+` takes its own affinity away,
    https://www.sqlite.org/datatype3.html#type_conversions_prior_to_comparison
    """
    listed: dict[int, list[Row]] = {}
    for number, *row in session.rows(f"PRAGMA main.foreign_key_list({quoted(table)})"):
        listed.setdefault(number, []).append(tuple(row))
    found: dict[int, Key] = {}
    for number, rows in listed.items():
        parent, children = rows[0][1], [quoted(row[2]) for row in rows]
        primary = {row[5]: row[1] for row in columns_of(session, parent)}
        targets = [row[3] or primary.get(at, "rowid") for at, row in enumerate(rows, 1)]
        equal = " AND ".join(
            f"parent.{quoted(target)} = +{main(table)}.{child}"
            for child, target in zip(children, targets, strict=True)
        )
        orphaned = " AND ".join(f"{child} IS NOT NULL" for child in children)
        if primary:
            orphaned += f" AND NOT EXISTS (SELECT 1 FROM {main(parent)} AS parent WHERE {equal})"
        values = ", ".join(f"CAST({child} AS BLOB) AS v" for child in children)
        columns = tuple(row[2] for row in rows)
        named = tuple(row[3] for row in rows if row[3])
        actions = bool({*rows[0][4:6]} - {"NO ACTION", "RESTRICT"})
        at = Place(folded(table), folded(parent), tuple(map(folded, columns)), 0)
        at = at._replace(number=sum(each.place._replace(number=0) == at for each in found.values()))
        found[number] = Key(table, parent, columns, named, values, orphaned, actions, at)
    return found


def is_unique(session: Session, key: Key) -> bool:
    """Tell whether the parent's columns are a key: https://www.sqlite.org/foreignkeys.html#fk_indexes

    Those that a key names need an index that compares them as they are declared; those that it does not name
    are the primary key.
    """
    info = columns_of(session, key.parent)
    primary = {folded(row[1]) for row in info if row[5]}
    wanted = sorted(map(folded, key.targets)) or sorted(primary)
    listed = session.rows(f"PRAGMA main.index_list({quoted(key.parent)})")
    is_indexed = any(origin == "pk" for _, _, _, origin, *_ in listed)
    if {*wanted} == primary and not (is_indexed and key.targets):  # otherwise it is the number of the row
        return len(primary) == len(key.columns)
    for _, index, unique, _, *partial in listed:
        terms = (
            session.rows(f"PRAGMA main.index_xinfo({quoted(index)})") if unique and not any(partial) else []
        )
        terms = [row for row in terms if row[5]]
        names = sorted(folded(row[2] or "") for row in terms)
        if names == wanted and _are_as_declared(session, key.parent, terms):
            return True
    return False


def _are_as_declared(session: Session, table: str, terms: Iterable[Row]) -> bool:
    """Tell whether an index compares its columns as they are declared."""
    sql = session.value("SELECT +sql FROM main.sqlite_master WHERE name = ? COLLATE NOCASE", (table,)) or ""
    if "collate" not in sql.lower():  # as nearly always
        return all(folded(row[4]) == "binary" for row in terms)
    from ..database.declared import collations

    own = dict(collations(sql))
    return all(folded(row[4]) == own.get(folded(row[2]), "binary") for row in terms)


def main(name: str) -> str:
    """Return the name of a table of the main database: a TEMP table of that name would come first."""
    return f"main.{quoted(name)}"
