"""The rows of a database as plain values, and what differs between two of them.

Only reading lives here. What is compared are values by the name of their column, never shown: a row is
somebody's data.

A small database can compute rows without end and values of gigabytes: in a virtual table over a view. So
reading has a bound that grows with the size of the database, far above what stored rows need.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import counted, passed_over
from ..tokens import folded, plain, quoted
from .connection import Session, interruptible, limited, size_of
from .meaning import using
from .structure import Schema

_Columns = dict[str, "array[int]"]
Contents = dict[str, _Columns]

_INSTRUCTIONS = 1_000_000
_TICKS, _BYTES_PER_TICK = 1250, 40
_LEAST, _FACTOR = 1 << 24, 100  # bytes of text: at least, and for each byte of the database
_ROWS = 256  # read at once
_STORED = 3  # a generated column: https://www.sqlite.org/pragma.html#pragma_table_xinfo
_INDEX, _OF = "vmpilot_index", " (its index)"
# https://www.sqlite.org/fts5.html#the_fts5vocab_virtual_table_module and https://www.sqlite.org/fts3.html#fts4aux
_LISTING = {"fts5": "fts5vocab({}, instance)", "fts4": "fts4aux({})"}
_NUMBER = "\0"  # stands for a column whose values are all the same; none has this name


def counts(session: Session, schema: Schema) -> dict[str, int]:
    """Count the rows of each table; one that cannot be read is left out."""
    found: dict[str, int] = {}
    for table in _tables(schema):
        with passed_over(*session.failures), _bounded(session):
            found[table] = session.value(f"SELECT count(*) FROM main.{quoted(table)}")
    return found


def contents(session: Session, schema: Schema) -> Contents:
    """Return a hash of each value, by table and column, eight bytes each; good for this process only.

    A table that cannot be read, or computes too much, has no columns.
    """
    found: Contents = {}
    for table in _tables(schema):
        found[table] = {}
        with passed_over(*session.failures), _bounded(session):
            found[table] = _hashes(session, table)
    for table, module in _indexes(schema).items():
        with passed_over(*session.failures), _opened(session, table, module), _bounded(session):
            found[table + _OF] = _hashes(session, _INDEX)
    return found


def _indexes(schema: Schema) -> dict[str, str]:
    """Return the full-text tables whose words are not those of their rows, each with what lists its words.

    These rows are in another table, or nowhere: https://www.sqlite.org/fts5.html#external_content_and_contentless_tables
    """
    found: dict[str, str] = {}
    for fact in schema:
        module, options = using(fact.text) if fact.kind == "virtual table" else ("", {})
        if "content" in options and module in _LISTING:
            found[fact.table] = _LISTING[module].format(quoted(fact.table))
    return found


@contextmanager
def _opened(session: Session, table: str, module: str) -> Iterator[None]:
    """Have a virtual table inside that lists the words of another one, and nothing of it afterwards."""
    session.run("SAVEPOINT vmpilot_index")
    try:
        session.run(f"CREATE VIRTUAL TABLE main.{_INDEX} USING {module}")
        yield
    finally:
        session.run("ROLLBACK TO vmpilot_index")
        session.run("RELEASE vmpilot_index")


def unread(*found: Contents) -> tuple[str, ...]:
    """Name the tables whose rows could not be read in one of these contents."""
    return tuple(sorted({table for each in found for table, columns in each.items() if not columns}))


@contextmanager
def _bounded(session: Session) -> Iterator[None]:
    """Let what is computed inside go only so far; OverflowError if it goes further."""
    left = _TICKS + size_of(session) // _BYTES_PER_TICK

    def tick() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OverflowError("too much work")

    with limited(session, instructions=_INSTRUCTIONS), interruptible(session, tick):
        yield


def _tables(schema: Schema) -> list[str]:
    return sorted(fact.table for fact in schema if fact.kind in ("table", "virtual table"))


def _hashes(session: Session, table: str) -> _Columns:
    """Return the hashes of what is stored; what is computed when it is read follows from that and the schema.

    https://www.sqlite.org/gencol.html#virtual_versus_stored_columns
    """
    found = session.rows(f"PRAGMA main.table_xinfo({quoted(table)})")
    names = [row[1] for row in found if row[6] in (0, _STORED)]
    if not names:
        return {}
    # As SQL literals, because 1, 1.0, '1' and x'31' differ, and text need not be UTF-8.
    literal = "iif(typeof({0}) = 'text', 't' || hex({0}), quote({0})) AS v"
    columns = [array("q") for _ in names]
    asked = ", ".join(literal.format(quoted(name)) for name in names)
    size = size_of(session)
    longest = max(2 * size + 1000, _LEAST // len(names))  # a literal has two digits for each byte
    rows = max(1, min(_ROWS, _LEAST // (longest * len(names)))) if size < _LEAST else _ROWS
    left = _LEAST + _FACTOR * size
    with limited(session, length=longest):
        for chunk in session.chunks(f"SELECT {asked} FROM main.{quoted(table)}", rows):
            for column, values in zip(columns, zip(*chunk, strict=True), strict=True):
                column.extend(map(hash, values))
                left -= sum(map(len, values)) + 8 * len(values)
            if left < 0:
                raise OverflowError("too much text")
    return dict(zip(map(folded, names), columns, strict=True))


class _Change(NamedTuple):
    """How many rows of a table are not there any more, and how many were not there before."""

    gone: int
    came: int


def lost(before: Contents, after: Contents) -> dict[str, str]:
    """Say of each table, by its name, how many of its rows are not there any more.

    Judged by the columns that are still there; a table with another name and the same rows is the same, also
    if it has columns more or less.
    """
    found: dict[str, str] = {}
    for table, old, new in _pairs(before, after):
        if gone := _change(old, new).gone:
            found[table] = f"table {table}: {gone} of {_height(old)} rows changed or lost"
    return found


def given_up(before: Contents, after: Contents) -> tuple[str, ...]:
    """Say which rows, and which values of columns, are nowhere any more."""
    found = list(lost(before, after).values())
    for table, old, new in _pairs(before, after):
        gone = [name for name in old if new and name not in new and old[name] not in new.values()]
        found += [f"column {table}.{name}: {_height(old)} values" for name in gone if _height(old)]
    return tuple(found)


def added(before: Contents, after: Contents) -> dict[str, str]:
    """Say of each table that was there before how many rows it has more, if it has lost none."""
    found: dict[str, str] = {}
    for table, old, new in _pairs(before, after):
        change = _change(old, new)
        if change.came and not change.gone:
            found[table] = f"table {table}: {_rows(change.came)} more"
    return found


def stale(before: Contents, after: Contents) -> dict[str, str]:
    """Say of each full-text table, by the name of its index, how much more that has though no row came."""
    found = added(before, after)
    return {
        table: words
        for table, words in found.items()
        if table.endswith(_OF) and table.removesuffix(_OF) not in found
    }


def changes(before: Contents, after: Contents) -> dict[str, str]:
    """Say of each table that is there both times which of its rows differ: how many, and in which columns."""
    found: dict[str, str] = {}
    for table, old, new in _pairs(before, after):
        gone, came = _change(old, new) if new else _Change(0, 0)
        changed, total = min(gone, came), f"of {_rows(_height(old))}"
        names = ", ".join(plain(name) for name in _differing(old, new or {}))
        told = [f"{changed} {total} changed" + f" in {names}" * bool(names)] * bool(changed)
        told += [f"{gone - came} {total} lost"] * (gone > came)
        told += [f"{_rows(came - gone)} more than {_height(old)}"] * (came > gone)
        if told:
            found[table] = f"table {table}: {', '.join(told)}"
    return found


def differing(one: Contents, other: Contents) -> dict[str, frozenset[str]]:
    """Name the columns of each table that are not the same in both; _NUMBER if there are not as many rows."""
    found: dict[str, frozenset[str]] = {}
    for table, columns in one.items():
        others = other.get(table, {})
        same_number = bool(others) and _height(columns) == _height(others)
        found[table] = frozenset(_differing(columns, others) if same_number else (*columns, _NUMBER))
    return found


def without(found: Contents, *left_out: dict[str, frozenset[str]]) -> Contents:
    """Return contents without some columns; without a table if _NUMBER is one of them."""
    kept: Contents = {}
    for table, columns in found.items():
        names = frozenset[str]().union(*(each.get(table, ()) for each in left_out))
        if _NUMBER in names:
            continue
        kept[table] = {name: values for name, values in columns.items() if name not in names}
        if columns and not kept[table]:
            kept[table] = {_NUMBER: array("q", bytes(8 * _height(columns)))}
    return kept


def _pairs(before: Contents, after: Contents) -> Iterator[tuple[str, _Columns, _Columns | None]]:
    """Yield each table of `before` that can be read with what it is in `after`, None if it is not there."""
    now = {folded(table): columns for table, columns in after.items()}
    known = set(map(folded, before))
    new = [columns for table, columns in now.items() if table not in known]
    for table, columns in sorted(before.items()):
        if columns:
            found = now.get(folded(table))
            yield table, columns, _renamed(columns, new) if found is None else found


def _renamed(columns: _Columns, new: list[_Columns]) -> _Columns | None:
    """Take that one from the new tables which has the same values; return it under the old names.

    If there is none, one with rows that has columns more or less: a rename can come with a change of columns.
    """
    same = [others for others in new if list(others.values()) == list(columns.values())]
    alike = [others for others in new if _height(others) and _is_part(columns, others)]
    for others in (*same, *alike)[:1]:
        new.remove(others)
        return {name: values for name, values in columns.items() if values in others.values()}
    return None


def _is_part(one: _Columns, other: _Columns) -> bool:
    """Tell whether all columns of one of the two are in the other, too."""
    fewer, more = sorted((list(one.values()), list(other.values())), key=len)
    return all(values in more for values in fewer)


def _change(before: _Columns, after: _Columns | None) -> _Change:
    if after is None:
        return _Change(_height(before), 0)
    if not after:  # cannot be read
        return _Change(0, 0)
    shared = before.keys() & after.keys()
    if all(before[name] == after[name] for name in shared):
        more = _height(after) - _height(before)
        return _Change(max(0, -more), max(0, more))
    old, new = (
        Counter(map(hash, zip(*(columns[name] for name in shared), strict=True)))
        for columns in (before, after)
    )
    return _Change((old - new).total(), (new - old).total())


def _differing(before: _Columns, after: _Columns) -> list[str]:
    """Name the columns of both whose values are not the same, in whatever order."""
    return [
        name
        for name, values in before.items()
        if name in after and values != after[name] and Counter(values) != Counter(after[name])
    ]


def _height(columns: _Columns) -> int:
    return len(next(iter(columns.values()), ()))


def _rows(number: int) -> str:
    return counted(number, "row")
