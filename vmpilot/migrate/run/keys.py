"""The foreign keys of a database at one moment, and what a step has done to them.

Only reads; what follows from it is decided in `guards`. https://www.sqlite.org/foreignkeys.html
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product

from ..database.connection import Row, Session, rows_if_known
from ..errors import not_of_the_caller, passed_over
from ..files.script import Script
from ..tokens import folded, plain, quoted
from ..typed import NamedTuple
from .catalog import MOST_PARAMETERS, Catalog, columns_of, missing, read, unindexed
from .reach import Reach, reach, touched
from .renames import Place, about_tables, followed, made, names_after, renames

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


class Lack(NamedTuple):
    """A key whose parent table is missing; `since` says which file left it so, "" if none of this run."""

    key: Key
    since: str


class Keys(NamedTuple):
    """What is known of the foreign keys at one moment.

    `dangling` counts the rows that lack a parent. Where the parent table is missing (`lacking`), these are
    the rows that lacked one before it went. Of the keys in `blind` nobody can tell, because SQLite cannot
    check them, with its words for that. All this is known of the tables in `known` only, but `certain` tells
    that it is known of all that the next script can break.
    """

    dangling: Counter[Row]
    lacking: Mapping[Place, Lack]
    blind: Mapping[Place, str]
    known: frozenset[str]
    certain: bool


NO_KEYS = Keys(Counter(), {}, {}, frozenset(), False)


def keys_now(session: Session, catalog: Catalog, last: Keys) -> Keys:
    """Return what is true of the foreign keys before a step: which there are. No row is looked at.

    Others may have written since what was true `last` in a run, but what that has left without a parent table
    is still its own affair.
    """
    found = {key.place: last.lacking.get(key.place, Lack(key, "")) for key in _lacking_in(session, catalog)}
    blind = {at: "" for at, lack in found.items() if not lack.since}
    waiting = Counter({row: n for row, n in last.dangling.items() if row[0] in found.keys() - blind.keys()})
    return NO_KEYS._replace(dangling=waiting, lacking=found, blind=blind)


def keys_known(session: Session, script: Script, catalog: Catalog, before: Keys) -> Keys:
    """Return the same with all that is true of what a script will be able to break."""
    reached = _reached(session, script, catalog, catalog, before).looked
    if "table" in script.words:  # what it does to tables can make its other statements reach more
        reached |= touched(script, catalog)
    unknown = reached - before.known
    seen = _look(session, catalog, before.lacking, unknown) if unknown else _Seen([], {})
    counts = before.dangling + Counter(identity for identity, _ in seen.orphans)
    blind = {**before.blind, **seen.blind}
    return before._replace(dangling=counts, blind=blind, known=before.known | unknown, certain=True)


class Change(NamedTuple):
    """What a step has done to the foreign keys.

    What is true `now`, the rows that it left without a parent, the words for what it spoiled, and the tables
    (`parents`) that can have lost rows. Without `certain`, that may have been so before: nobody has looked.
    """

    now: Keys
    orphans: list[Orphan]
    spoiled: list[str]
    parents: frozenset[str] = frozenset()
    certain: bool = True


def keys_after(session: Session, script: Script, last: Catalog, catalog: Catalog, before: Keys) -> Change:
    """Return what a script has done to the foreign keys, of those that it can have broken.

    `last` is the catalog from before it, `catalog` that after it.
    """
    if not catalog.parents and not (before.dangling or before.lacking or before.blind):
        return Change(before if not before.certain else before._replace(certain=False), [], [])
    reached = _reached(session, script, last, catalog, before)
    if _is_far(script, last, catalog, reached):
        return Change(before._replace(certain=False), [], [])
    lacking = _lacking(session, script, last, catalog, before)
    names = names_after(renames(script))
    looked = _looked(before, reached, names)
    seen = _look(session, catalog, lacking, looked) if looked else _Seen([], {})
    for table in reached.declared - looked:
        seen.blind.update(_mismatched(session, catalog.tables[table], lacking))
    now = Counter(identity for identity, _ in seen.orphans)
    places = dict.fromkeys((*seen.blind, *(at for at, *_ in now)))
    known = _settled(session, script, last, _places(before.blind), _places(places))
    spoiled = dict.fromkeys(words for at, words in seen.blind.items() if (at,) in known.new)
    # Of a key that could not be checked before, nobody has seen what dangled.
    told = Counter({row: count for row, count in now.items() if row[:1] not in known.origins})
    new = _settled(session, script, last, before.dangling, told).new
    odd = {at.table for at, *_ in now} | {
        at.table for at in (*seen.blind, *lacking) if at not in before.lacking
    }
    certain = before.certain or all(_is_known(table, before, last, names) for table in odd)
    unseen = catalog.parents.keys() - looked - reached.children
    dangling = _still(script, last, before.dangling, lacking, unseen)
    blind = _still(script, last, _places(before.blind), lacking, unseen - reached.declared)
    # What comes to light when a parent table is back that an unguarded file took away is nobody else's fault.
    own = {at: "" for at, lack in lacking.items() if not lack.since}
    after = Keys(
        now + dangling,
        lacking,
        own | {at: before.blind.get(at, "") for (at,) in blind} | seen.blind,
        looked.union(names.get(table, table) for table in before.known) & catalog.parents.keys(),
        False,
    )
    return Change(after, _shown(seen.orphans, new), list(spoiled), reached.parents, certain)


_RENAMING = frozenset(("rename", "drop", "writable_schema"))


def _is_far(script: Script, last: Catalog, catalog: Catalog, reached: Reach) -> bool:
    """Tell whether a script has come near to no key: then all is as it was known, and that can be much."""
    is_as_before = catalog.lacking == last.lacking and script.words.isdisjoint(_RENAMING)
    return is_as_before and not reached.looked and not reached.mended


def _looked(before: Keys, reached: Reach, names: Mapping[str, str]) -> frozenset[str]:
    """Return the tables whose keys are to be checked behind a script.

    What dangled may be no more: otherwise it would pay for what dangles some day. And of a key that can be
    checked now, nobody has seen what dangled.
    """
    places = {*(at for at, *_ in before.dangling), *(before.blind.keys() - before.lacking.keys())}
    return reached.looked | (reached.mended & {names.get(at.table, at.table) for at in places})


def _still(
    script: Script,
    last: Catalog,
    before: Counter[Row],
    lacking: Mapping[Place, Lack],
    unseen: Collection[str],
) -> Counter[Row]:
    """Return what was so before, of the tables that nobody has looked at now.

    What was known of a key whose parent table is missing waits until that is back.
    """
    left = Counter[Row]()
    if not before:
        return left
    waiting = _waiting(script, last, lacking)
    for row, count in before.items():
        for at in [row[0]] if row[0].table in unseen else waiting(row[0]):
            left[(at, *row[1:])] += count
    return left


def _waiting(script: Script, last: Catalog, lacking: Collection[Place]) -> Callable[[Place], list[Place]]:
    """Return what tells which of the keys without a parent table one from before is now, if it is one.

    A table that is made anew can have other names for its columns.
    """
    can_be, remade = _namesakes(script, last), made(script, last)
    new = [at for at in lacking if at.table in remade]

    @cache
    def waits(first: Place) -> list[Place]:
        namesakes = can_be(first)
        ends = {at[:2] for at in namesakes}
        found = [at for at in namesakes if at in lacking] or [at for at in new if at[:2] in ends]
        return found[:1]

    return waits


def _is_known(table: str, before: Keys, last: Catalog, names: Mapping[str, str]) -> bool:
    """Tell whether it is known of a table what was wrong with it before; nothing was with one that is new.

    One that a script has made can have taken the place of another.
    """
    origins = {table, *(first for first, name in names.items() if name == table)}
    return all(origin in before.known or origin not in last.parents for origin in origins)


def _mismatched(session: Session, table: str, lacking: Mapping[Place, Lack]) -> Iterator[tuple[Place, str]]:
    """Yield the keys of a table that SQLite cannot check, with what it would say; no row is looked at."""
    for key in _keys(session, table).values():
        if key.place not in lacking and not _is_unique(session, key):
            yield key.place, mismatch(key)


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
    lacking = {key.place: Lack(key, "") for key in _lacking_in(session, catalog)}
    seen = _look(session, catalog, lacking)
    yield from dict.fromkeys(Violation(at.table, "", words) for at, words in seen.blind.items())
    yield from (Violation(at.table, at.parent, words) for (at, *_), words in seen.orphans)


def lacking_now(session: Session) -> list[Key]:
    """Return the foreign keys whose parent table is missing: whatever is written to their tables fails."""
    return _lacking_in(session, read(session))


def _lacking_in(session: Session, catalog: Catalog) -> list[Key]:
    """Return the same of a schema that has been read."""
    tables = [table for table in catalog.parents if table in catalog.lacking] if catalog.lacking else []
    found = ((missing(catalog, table), _keys(session, catalog.tables[table]).values()) for table in tables)
    return [key for parents, keys in found for key in keys if folded(key.parent) in parents]


def lack_words(key: Key) -> str:
    """Say that the parent table of a key is missing."""
    columns = ", ".join(key.columns)
    return f"foreign key ({columns}) of {plain(key.table)} has no table {plain(key.parent)}"


def mismatch(key: Key) -> str:
    """Return SQLite's words for a key whose parent's columns are none."""
    table, parent = (name.replace('"', '""') for name in (key.table, key.parent))
    return f'foreign key mismatch - "{table}" referencing "{parent}"'


def kind_of(session: Session, change: Change) -> str:
    """Tell what left rows without a parent: "actions", "lost" or "rows".

    Their parents can have gone or changed (lost), and something is declared to follow for them then
    (actions); or these rows themselves were written so.
    """
    places = {at for (at, *_), _ in change.orphans if at.parent in change.parents}
    keys = (key for table in {at.table for at in places} for key in _keys(session, table).values())
    if any(key.actions and key.place in places for key in keys):
        return "actions"
    return "lost" if places else "rows"


def _reached(session: Session, script: Script, last: Catalog, catalog: Catalog, before: Keys) -> Reach:
    """Return what a script can have broken, by an index too.

    That makes a parent unique, or no more: https://www.sqlite.org/foreignkeys.html#fk_indexes
    """
    found = reach(session, script, last, catalog)
    if "index" not in script.words:
        return found
    tables = {at[0] for at in before.blind}
    dropped = unindexed(script, last)
    parents = catalog.children if dropped is None else dropped
    for table in {child for parent in parents for child in catalog.children.get(parent, ())}:
        if not all(_is_unique(session, key) for key in _keys(session, catalog.tables[table]).values()):
            tables.add(table)
    return found._replace(looked=found.looked | tables)


# --- looking


class _Seen(NamedTuple):
    orphans: list[Orphan]
    blind: dict[Place, str]


def _look(
    session: Session, catalog: Catalog, lacking: Mapping[Place, Lack], only: frozenset[str] | None = None
) -> _Seen:
    """Check the keys of these tables, or of all, but not those whose parent table is missing.

    To SQLite every row lacks a parent then.
    """
    seen = _Seen([], {})
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


def _look_by_key(
    session: Session, table: str, lacking: Mapping[Place, Lack], words: str, seen: _Seen
) -> None:
    """Check the keys of a table one by one; of all that SQLite cannot check it names only one, in `words`."""
    keys = [key for key in _keys(session, table).values() if key.place not in lacking]
    told = {key: mismatch(key) for key in keys if not _is_unique(session, key)}
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
    keys = {table: _keys(session, table) for table in {table for table, *_ in known}}
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


def _keys(session: Session, table: str) -> dict[int, Key]:
    """Return the foreign keys of a table by their numbers.

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


def _is_unique(session: Session, key: Key) -> bool:
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


# --- comparing


def _lacking(
    session: Session, script: Script, last: Catalog, catalog: Catalog, before: Keys
) -> dict[Place, Lack]:
    """Return the keys without a parent table; one that lacked it before is still that of the same file."""
    keys = {key.place: key for key in _lacking_in(session, catalog)}
    known = _settled(session, script, last, _places(before.lacking), _places(keys)).origins
    found = {}
    for at, key in keys.items():
        first = known.get((at,))
        found[at] = Lack(key, before.lacking[first[0]].since if first else _cause(script, key))
    return found


def _places(places: Iterable[Place]) -> Counter[Row]:
    return Counter((at,) for at in places)


def _cause(script: Script, key: Key) -> str:
    """Say what a script did to a key; nothing if it said that it would."""
    if script.unguarded:
        return ""
    taken = {folded(one.name) for one in about_tables(script) if one.verb == "drop" or one.renamed}
    return f"{script.file} {'took it away' if folded(key.parent) in taken else 'declared it so'}"


class _Settled(NamedTuple):
    """What is `new`, and what each of the rest was before."""

    new: Counter[Row]
    origins: dict[Row, Row]


def _settled(
    session: Session, script: Script, last: Catalog, before: Counter[Row], now: Counter[Row]
) -> _Settled:
    """Tell what was so before: each row, or key, pays for one of the same key and values only."""
    old, new, origins = Counter(before), Counter(now), dict[Row, Row]()
    if not (before and now):
        return _Settled(new, origins)
    for row, after in _alike(session, script, last, old, new):
        paid = min(old[row], new[after])
        if paid > 0:
            old[row] -= paid
            new[after] -= paid
            origins[after] = row
    return _Settled(+new, origins)


def _alike(
    session: Session, script: Script, last: Catalog, old: Counter[Row], new: Counter[Row]
) -> Iterator[tuple[Row, Row]]:
    """Yield what can have become what, the most certain first; `old` and `new` are what is left of them.

    SQLite follows new names. A table that the script has made can have taken the place of another: under the
    names of before, or with other names for its columns.
    """
    can_be = _namesakes(script, last)
    yield from ((row, (can_be(row[0])[0], *row[1:])) for row in old)
    if not +new:
        return
    lost = defaultdict[Row, list[Row]](list)
    for row in +old:
        for at in can_be(row[0]):
            yield row, (at, *row[1:])
            lost[(at.table, at.parent, *row[1:])].append(row)
    remade = made(script, last)
    for after in [row for row in +new if row[0].table in remade]:
        there = {key.place.columns for key in _keys(session, after[0].table).values()}
        for row in lost[(*after[0][:2], *after[1:])]:
            if can_be(row[0])[0].columns not in there:
                yield row, after


def _namesakes(script: Script, last: Catalog) -> Callable[[Place], list[Place]]:
    """Return what tells what a key can be now: first by the new names, which SQLite follows.

    Its parent can be another table under the old name, and so can its own table where that is made anew.
    """
    renamed, remade = renames(script), made(script, last)

    @cache
    def can_be(first: Place) -> list[Place]:
        at = followed(first, renamed)
        children = (at.table, first.table) if first.table in remade else (at.table,)
        pairs = product(children, (at.parent, first.parent))
        return [at._replace(table=table, parent=parent) for table, parent in pairs]

    return can_be


def _shown(orphans: list[Orphan], new: Counter[Row]) -> list[Orphan]:
    """Return the last of the rows that are told apart only by their number."""
    shown = []
    for identity, words in reversed(orphans):
        if new[identity] > 0:
            new[identity] -= 1
            shown.append((identity, words))
    return shown[::-1]
