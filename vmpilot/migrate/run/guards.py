"""What must hold before a step may commit.

Reads inside the step's transaction and says what it found; nothing is run, repaired or raised here.

A guard costs nothing where a step cannot have broken what it guards: without foreign keys no row is
checked, without views and triggers nothing is compiled.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ..database.connection import Row, Session, refusal, rows_if_known
from ..files.script import Script, statements
from ..tokens import head, quoted

_SHOWN = 5
# Not LIKE, whose meaning the caller can change: PRAGMA case_sensitive_like.
_HAS_KEY = "instr(lower(sql), 'references')"


class Integrity(NamedTuple):
    """What is true at one moment.

    `objects` are the views and triggers: type, name, table. `dangling` counts the rows that lack a
    parent, by table, parent and key. `broken` holds what does not compile, `unreadable` the tables
    that cannot be read, with SQLite's words.
    """

    has_keys: bool
    objects: frozenset[tuple[str, str, str]]
    dangling: Counter[Row]
    broken: dict[tuple[str, str], str]
    unreadable: dict[str, str]


def integrity(session: Session, script: Script, last: Integrity | None) -> Integrity:
    """Return what is true before the step of `script`.

    `last` is what was true after the step before, None if there was none or others have written since.
    """
    if last is None:
        has_keys = bool(session.rows(f"SELECT 1 FROM main.sqlite_master WHERE {_HAS_KEY} LIMIT 1"))
        objects = _objects(session)
        counts = Counter(row for row, _ in dangling(session)) if has_keys else Counter[Row]()
        last = Integrity(has_keys, objects, counts, _broken(session, objects), {})
    return last._replace(unreadable=_unreadable(session, script))


def findings(session: Session, script: Script, before: Integrity) -> tuple[tuple[str, ...], Integrity]:
    """Return what the step of `script` has broken, and what is true now."""
    found: list[str] = []
    now = before._replace(has_keys=before.has_keys or "references" in script.words)
    if now.has_keys:
        rows = list(dangling(session))
        now = now._replace(dangling=Counter(row for row, _ in rows))
        found += _new_dangling(rows, _new(before.dangling, now.dangling, "rename" in script.words))
    if script.words & {"view", "trigger"} or (before.objects and script.words & {"table", "index"}):
        objects = _objects(session)
        now = now._replace(objects=objects, broken=_broken(session, objects))
        compiled = {(kind, name) for kind, name, _ in before.objects} - before.broken.keys()
        found += [
            f"{what[1]} does not compile any more: {words}"
            for what, words in now.broken.items()
            if what in compiled
        ]
    for table, words in _unreadable(session, script).items():
        if table not in before.unreadable:
            found.append(f"table {table} cannot be read any more: {words}")
    return tuple(found), now


def tables(script: Script, *verbs: str) -> tuple[str, ...]:
    """Return the tables that the CREATE TABLE or ALTER TABLE statements of a script name."""
    if "table" not in script.words or not script.words & set(verbs):
        return ()
    # Only a statement that starts like one of these words is worth a look.
    likely = (text for text in statements(script) if text[0] in "aAcC")
    heads = (found for text in likely if (found := head(text)).verb in verbs and found.kind == "table")
    return tuple(dict.fromkeys(name for found in heads for name in (found.name, found.renamed) if name))


def _main(name: str) -> str:
    return f"main.{quoted(name)}"  # a TEMP table of that name would come first


class _Key(NamedTuple):
    """One foreign key: its columns, as bytes because a text need not be UTF-8, and what finds orphans."""

    columns: str
    parent: str
    orphaned: str


def dangling(session: Session) -> Iterator[tuple[Row, str]]:
    """Yield each row that lacks a parent: what identifies it, and how to show it.

    A key whose parent is not unique has no answer but an error, which is a finding like the others:
    https://www.sqlite.org/foreignkeys.html#fk_indexes
    """
    rows, refusals = _orphans(session)
    yield from refusals
    keys: dict[str, dict[int, _Key]] = {}
    unnumbered: dict[tuple[str, int], Iterator[Row]] = {}
    for table, rowid, parent, number in rows:
        if table not in keys:
            keys[table] = _keys(session, table)
        key = keys[table][number]
        # By key, because a rebuilt table may number its rows anew.
        select = f"SELECT {key.columns} FROM {_main(table)} WHERE"
        if rowid is not None:
            # A column of that name may hide the row's number.
            values = next(iter(session.rows(f"{select} _rowid_ = ?", (rowid,))), ())
        else:
            if (table, number) not in unnumbered:
                unnumbered[table, number] = iter(session.rows(f"{select} {key.orphaned}"))
            values = next(unnumbered[table, number], ())
        row = "a row" if rowid is None else f"row {rowid}"
        yield (table, parent, key.columns, *values), f"{row} of {table} has no parent in {parent}"


def _orphans(session: Session) -> tuple[list[Row], list[tuple[Row, str]]]:
    """Return table, rowid, parent and key of each row that lacks a parent, and what cannot be checked."""
    with suppress(*session.failures):
        if (known := rows_if_known(session, "PRAGMA foreign_key_check")) is not None:
            return known, []
    rows: list[Row] = []
    refusals: list[tuple[Row, str]] = []
    for (table,) in session.rows(f"SELECT name FROM main.sqlite_master WHERE type = 'table' AND {_HAS_KEY}"):
        try:
            known = rows_if_known(session, f"PRAGMA foreign_key_check({quoted(table)})")
            rows += _searched(session, table) if known is None else known
        except session.failures as error:
            refusals.append(((table, str(error)), str(error)))
    return rows, refusals


def _searched(session: Session, table: str) -> Iterator[Row]:
    """Yield what the pragma would say of a table, where there is no such pragma."""
    for number, key in _keys(session, table).items():
        for (rowid,) in session.rows(f"SELECT rowid FROM {_main(table)} WHERE {key.orphaned}"):
            yield table, rowid, key.parent, number


def _keys(session: Session, table: str) -> dict[int, _Key]:
    """Return the foreign keys of a table by their numbers."""
    parents: dict[int, str] = {}
    sides: dict[int, list[tuple[str, str]]] = {}
    listed = session.rows(f"PRAGMA main.foreign_key_list({quoted(table)})")
    for number, _, parent, child, column, *_ in listed:
        parents[number] = parent
        sides.setdefault(number, []).append((quoted(child), column or ""))
    found = {}
    for number, parent in parents.items():
        primary = {row[5]: row[1] for row in session.rows(f"PRAGMA main.table_xinfo({quoted(parent)})")}
        pairs = [
            (child, quoted(column or primary.get(at, "rowid")))
            for at, (child, column) in enumerate(sides[number], 1)
        ]
        equal = " AND ".join(f"parent.{column} = {_main(table)}.{child}" for child, column in pairs)
        given = " AND ".join(f"{child} IS NOT NULL" for child, _ in pairs)
        orphaned = given
        if primary:
            orphaned += f" AND NOT EXISTS (SELECT 1 FROM {_main(parent)} AS parent WHERE {equal})"
        found[number] = _Key(", ".join(f"CAST({child} AS BLOB)" for child, _ in pairs), parent, orphaned)
    return found


def _new(before: Counter[Row], now: Counter[Row], renamed: bool) -> Counter[Row]:
    """Return what dangles now and did not before, under whatever names."""
    hidden = {row[0] for row in before if len(row) == 2}  # a mismatch hid what else was wrong with a table
    more = (now - before).items()
    new = Counter({row: count for row, count in more if row[0] not in hidden or len(row) == 2})
    if renamed:
        gone = Counter[Row]()
        for row, count in (before - now).items():
            gone[row[3:]] += count
        for row in new:
            settled = min(new[row], gone[row[3:]])
            new[row] -= settled
            gone[row[3:]] -= settled
    return +new


def _new_dangling(rows: list[tuple[Row, str]], new: Counter[Row]) -> list[str]:
    shown = []
    for identity, words in reversed(rows):
        if new[identity] > 0:
            new[identity] -= 1
            shown.append(words)
    if not shown:
        return []
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    noun = "violation" if len(shown) == 1 else "violations"
    return [f"{len(shown)} new foreign key {noun}: " + ", ".join(shown[::-1][:_SHOWN]) + more]


def _objects(session: Session) -> frozenset[tuple[str, str, str]]:
    sql = "SELECT type, name, tbl_name FROM main.sqlite_master WHERE type IN ('view', 'trigger')"
    return frozenset((kind, name, table) for kind, name, table in session.rows(sql))


def _broken(session: Session, objects: frozenset[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return the views and triggers that do not compile, with SQLite's words."""
    views = sorted(name for kind, name, _ in objects if kind == "view")
    broken = {("view", name): refusal(session, f"SELECT * FROM {_main(name)}") for name in views}
    for table in sorted({table for kind, _, table in objects if kind == "trigger"}):
        if _silent(session, table):
            triggers = {name for kind, name, on in objects if kind == "trigger" and on == table}
            for name in sorted(triggers):
                broken["trigger", name] = _alone(session, table, triggers - {name})
    return {what: words for what, words in broken.items() if words}


def _silent(session: Session, table: str) -> str:
    """Return why a table cannot fire its triggers, or nothing."""
    columns = [row[1] for row in session.rows(f"PRAGMA main.table_xinfo({quoted(table)})") if not row[6]]
    assignments = ", ".join(f"{quoted(name)} = {quoted(name)}" for name in columns)
    name = _main(table)
    for sql in (
        f"INSERT INTO {name} DEFAULT VALUES",
        f"UPDATE {name} SET {assignments}",
        f"DELETE FROM {name}",
    ):
        # A view takes only what one of its INSTEAD OF triggers handles.
        if (words := refusal(session, sql)) and not words.startswith("cannot modify"):
            return words
    return ""


def _alone(session: Session, table: str, others: set[str]) -> str:
    """Return why `table` cannot fire its triggers when these others are out of the way."""
    session.run("SAVEPOINT vmpilot_guard")
    try:
        for other in others:
            session.run(f"DROP TRIGGER {_main(other)}")
        return _silent(session, table)
    finally:
        session.run("ROLLBACK TO vmpilot_guard")
        session.run("RELEASE vmpilot_guard")


def _unreadable(session: Session, script: Script) -> dict[str, str]:
    """Return those tables of a script that exist and cannot be read, with SQLite's words."""
    if "as" not in script.words:  # only a generated column makes a table unreadable
        return {}
    refusals = {
        name: refusal(session, f"SELECT * FROM {_main(name)}") for name in tables(script, "create", "alter")
    }
    return {
        name: words for name, words in refusals.items() if words and not words.startswith("no such table")
    }
