"""The rebuild of a table as SQL, for what ALTER TABLE cannot do: the same table again, to be edited.

The steps are SQLite's: https://www.sqlite.org/lang_altertable.html#otheralter The first two and the last
three of them (foreign keys off, a transaction, a check of foreign keys) are the runner's.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from ..database.connection import Session, interruptible
from ..database.structure import Object, objects
from ..errors import HistoryError, not_of_the_caller, printable
from ..run import guards
from ..tokens import Token, folded, identifier, literal, mentioned, plain, quoted, tokens, unquoted

_ROW_NUMBER = ("rowid", "_rowid_", "oid")
_NAMES = ("word", "double", "name", "string")
_HOW = """\
-- SQLite's way to do what ALTER TABLE cannot: https://www.sqlite.org/lang_altertable.html#otheralter
-- As it stands, it changes nothing. Edit what {} is to be, and the columns of the INSERT where they change.
"""
_UNSEEN = "PRAGMA legacy_alter_table = ON; -- RENAME looks at no view or trigger: some do not compile anyway"
_GOES_ON = "-- AUTOINCREMENT goes on where it was."


class Table(NamedTuple):
    """A table with what goes with it, as it is at head.

    `own` are its indexes and triggers, `views` and `triggers` those elsewhere that mention it, directly or
    through others. `columns` can be written, the number of a row too where something knows rows by it.
    `broken` tells that something else does not compile.
    """

    object: Object
    columns: tuple[str, ...]
    own: tuple[Object, ...]
    views: tuple[Object, ...]
    triggers: tuple[Object, ...]
    taken: frozenset[str]
    broken: bool


def table(session: Session, name: str, place: str) -> Table:
    """Return the table of a name on a scratch database; raise HistoryError if there is none."""
    with interruptible(session):
        found = objects(session)
        whole = _found(name, found, place)
        rows = session.rows(f"PRAGMA main.table_xinfo({quoted(whole.name)})")
        broken = {folded(each) for _, each in guards.not_compiling(session)}
    own = tuple(each for each in found if each != whole and folded(each.table) == folded(whole.name))
    views, triggers = _mentioning(whole, found, broken)
    mentioning = (*(each for each in own if each.kind == "trigger"), *views, *triggers)
    numbers = _numbered(session, whole, frozenset(folded(row[1]) for row in rows))
    known = _knows_rows(numbers, mentioning) or _is_searched(whole, found)
    columns = (*numbers[:known], *(row[1] for row in rows if not row[6]))
    taken = frozenset(folded(each.name) for each in found)
    left = broken - {folded(each.name) for each in own}
    return Table(whole, columns, own, views, triggers, taken, bool(left))


def _found(name: str, found: Sequence[Object], place: str) -> Object:
    kinds = {folded(each.name): each for each in found if each.kind not in ("index", "trigger")}
    known = kinds.get(folded(name))
    if known and known.kind == "table":
        return known
    if known:
        raise HistoryError(
            f"{place}: {plain(name)} is a {known.kind}, expected a table; nothing was written", file=place
        )
    tables = ", ".join(plain(each.name) for each in kinds.values() if each.kind == "table")
    told = f"expected one of {tables}" if tables else "there is none"
    raise HistoryError(
        f"{place}: these files make no table {plain(name)}; {told}; nothing was written", file=place
    )


def _mentioning(
    whole: Object, found: Sequence[Object], broken: set[str]
) -> tuple[tuple[Object, ...], tuple[Object, ...]]:
    """Return the views, and the triggers on others, that RENAME would find broken while there is no table."""
    names = {folded(whole.name)}
    sound = [each for each in found if folded(each.name) not in broken]
    views = [each for each in sound if each.kind == "view"]
    while more := {folded(each.name) for each in views if mentioned(each.sql) & names} - names:
        names |= more
    gone = tuple(each for each in views if folded(each.name) in names)
    triggers = (each for each in sound if each.kind == "trigger" and folded(each.table) != folded(whole.name))
    return gone, tuple(
        each for each in triggers if folded(each.table) in names or mentioned(each.sql) & names
    )


def _numbered(session: Session, whole: Object, columns: Set[str]) -> tuple[str, ...]:
    """Return the names of the number of a row that no column has; none if a key is that number.

    https://www.sqlite.org/lang_createtable.html#rowid
    """
    names = tuple(name for name in _ROW_NUMBER if name not in columns)
    table = quoted(whole.name)
    has_key = any(row[5] for row in session.rows(f"PRAGMA main.table_info({table})"))
    is_apart = any(row[3] == "pk" for row in session.rows(f"PRAGMA main.index_list({table})"))
    if not names or (has_key and not is_apart):
        return ()
    try:
        session.rows(f"SELECT {names[0]} FROM main.{table} LIMIT 0")
    except session.failures as error:  # WITHOUT ROWID
        not_of_the_caller(error)
        return ()
    return names


def _knows_rows(numbers: Iterable[str], mentioning: Iterable[Object]) -> bool:
    return any(mentioned(each.sql).intersection(numbers) for each in mentioning)


def _is_searched(whole: Object, found: Iterable[Object]) -> bool:
    """Tell whether a virtual table names a table: a full-text index knows its content by the row's number.

    https://www.sqlite.org/fts5.html#external_content_tables
    """
    virtual = (each for each in found if each.kind == "virtual table")
    words = (token for each in virtual for token in tokens(each.sql) if token.kind in _NAMES)
    return any(folded(unquoted(word.text)) == folded(whole.name) for word in words)


def script(found: Table) -> str:
    """Return the statements of a rebuild: what is in its way, the table, and what goes with it again."""
    old, new = identifier(found.object.name), identifier(_new_name(found))
    dropped = {folded(view.name) for view in found.views}
    triggers = (each for each in found.triggers if folded(each.table) not in dropped)
    before = [_UNSEEN] * found.broken
    before += [f"DROP TRIGGER {identifier(each.name)};" for each in triggers]
    before += [f"DROP VIEW {identifier(view.name)};" for view in found.views]
    columns = ", ".join(map(identifier, found.columns))
    steps = [
        f"{_renamed(found.object, new)};",
        f"INSERT INTO {new} ({columns})\nSELECT {columns} FROM {old};",
        *_numbers(found.object, unquoted(new)),
        f"DROP TABLE {old};",
        f"ALTER TABLE {new} RENAME TO {old};",
    ]
    own = sorted(found.own, key=lambda each: each.kind)  # the indexes, and then the triggers
    again = [f"{each.sql};" for each in (*own, *found.views, *found.triggers)]
    groups = ("\n".join(group) for group in (before, steps, again) if group)
    return _HOW.format(printable(plain(found.object.name))) + "\n" + "\n\n".join(groups) + "\n"


def _new_name(found: Table) -> str:
    """Return a name that nothing has."""
    name, number = f"new_{found.object.name}", 1
    while folded(name) in found.taken:
        number += 1
        name = f"new_{found.object.name}_{number}"
    return name


def _renamed(whole: Object, new: str) -> str:
    """Return the SQL of a table under another name, also where its rules say it; RENAME puts it back."""
    sql = whole.sql
    text, end = "", 0
    for token in _own_names([*tokens(sql)], folded(whole.name)):
        text += sql[end : token.start] + new
        end = token.start + len(token.text)
    return text + sql[end:]


def _own_names(found: list[Token], name: str) -> Iterator[Token]:
    yield found[2]  # behind CREATE TABLE
    for token, following in pairwise(found[3:]):
        if following.text == "." and token.kind in _NAMES and folded(unquoted(token.text)) == name:
            yield token


def _numbers(whole: Object, new: str) -> Iterable[str]:
    """Return what keeps AUTOINCREMENT from giving numbers of deleted rows again.

    https://www.sqlite.org/autoinc.html
    """
    if not any(token.text.upper() == "AUTOINCREMENT" for token in tokens(whole.sql)):
        return ()
    before, after = literal(whole.name), literal(new)
    taken_over = f"SELECT {after}, seq FROM sqlite_sequence WHERE name = {before}"
    return (
        _GOES_ON,
        f"DELETE FROM sqlite_sequence WHERE name = {after};",
        f"INSERT INTO sqlite_sequence (name, seq)\n{taken_over};",
    )
