"""What a run knows of the foreign keys, and what a step has done to them.

Only reads; what follows from it is decided in `guards`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import product

from ..database.connection import Row, Session
from ..files.script import Script
from ..tokens import folded
from ..typed import NamedTuple
from .catalog import Catalog, unindexed
from .keys import Key, Orphan, Seen, is_unique, keys_of, lacking_in, look, mismatched
from .reach import Reach, reach, touched
from .renames import Place, about_tables, followed, made, names_after, renames

_RENAMING = frozenset(("rename", "drop", "writable_schema"))


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
    found = {key.place: last.lacking.get(key.place, Lack(key, "")) for key in lacking_in(session, catalog)}
    blind = {at: "" for at, lack in found.items() if not lack.since}
    own = found.keys() - blind.keys()
    waiting = Counter({row: count for row, count in last.dangling.items() if row[0] in own})
    return NO_KEYS._replace(dangling=waiting, lacking=found, blind=blind)


def keys_known(session: Session, script: Script, catalog: Catalog, before: Keys) -> Keys:
    """Return the same with all that is true of what a script will be able to break."""
    reached = _reached(session, script, catalog, catalog, before).looked
    if "table" in script.words:  # what it does to tables can make its other statements reach more
        reached |= touched(script, catalog)
    unknown = reached - before.known
    seen = look(session, catalog, before.lacking, unknown) if unknown else Seen([], {})
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
    seen = look(session, catalog, lacking, looked) if looked else Seen([], {})
    for table in reached.declared - looked:
        seen.blind.update(mismatched(session, catalog.tables[table], lacking))
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


def kind_of(session: Session, change: Change) -> str:
    """Tell what left rows without a parent: "actions", "lost" or "rows".

    Their parents can have gone or changed (lost), and something is declared to follow for them then
    (actions); or these rows themselves were written so.
    """
    places = {at for (at, *_), _ in change.orphans if at.parent in change.parents}
    keys = (key for table in {at.table for at in places} for key in keys_of(session, table).values())
    if any(key.actions and key.place in places for key in keys):
        return "actions"
    return "lost" if places else "rows"


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


def _reached(session: Session, script: Script, last: Catalog, catalog: Catalog, before: Keys) -> Reach:
    """Return what a script can have broken, by an index too.

    That makes a parent unique, or no more: https://www.sqlite.org/foreignkeys.html#fk_indexes
    """
    found = reach(session, script, last, catalog)
    if "index" not in script.words:
        return found
    tables = {at.table for at in before.blind}
    dropped = unindexed(script, last)
    parents = catalog.children if dropped is None else dropped
    for table in {child for parent in parents for child in catalog.children.get(parent, ())}:
        if not all(is_unique(session, key) for key in keys_of(session, catalog.tables[table]).values()):
            tables.add(table)
    return found._replace(looked=found.looked | tables)


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


def _lacking(
    session: Session, script: Script, last: Catalog, catalog: Catalog, before: Keys
) -> dict[Place, Lack]:
    """Return the keys without a parent table; one that lacked it before is still that of the same file."""
    keys = {key.place: key for key in lacking_in(session, catalog)}
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
        there = {key.place.columns for key in keys_of(session, after[0].table).values()}
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
