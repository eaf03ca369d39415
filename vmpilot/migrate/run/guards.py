"""What must hold before a step may commit.

Reads inside the step's transaction and says what it found; nothing is run, repaired or raised here.

A guard costs nothing where a step cannot have broken what it guards: without foreign keys no row is
checked, without views and triggers nothing is compiled.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from ..files.script import Script, statement

_Row = tuple[Any, ...]

GAP = r"(?:\s|--[^\n]*|/\*(?s:.*?)\*/)+"
NAME = r"""("(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|'(?:[^']|'')+'|[\w$]+)"""
_TABLE = re.compile(
    rf"(create|alter){GAP}(?:temp(?:orary)?{GAP})?table(?:{GAP}if{GAP}not{GAP}exists)?(?:{GAP})?"
    rf"{NAME}(?:(?:{GAP})?\.(?:{GAP})?{NAME})?(?:(?:{GAP})?rename{GAP}to(?:{GAP})?{NAME})?",
    re.IGNORECASE,
)
_SHOWN = 5
# Not LIKE, whose meaning the caller can change: PRAGMA case_sensitive_like.
_HAS_KEY = "instr(lower(sql), 'references')"


class Survey(NamedTuple):
    """What is true at one moment.

    `objects` are the views and triggers: type, name, table. `dangling` counts the rows that lack a
    parent, by table, parent and key. `broken` holds what does not compile, `unreadable` the tables
    that cannot be read, with SQLite's words.
    """

    has_keys: bool
    objects: frozenset[tuple[str, str, str]]
    dangling: Counter[_Row]
    broken: dict[tuple[str, str], str]
    unreadable: dict[str, str]


def survey(cursor: Any, script: Script, last: Survey | None) -> Survey:
    """Return what is true before the step of `script`.

    `last` is what was true after the step before, None if there was none or others have written since.
    """
    if last is None:
        has_keys = bool(_all(cursor, f"SELECT 1 FROM sqlite_master WHERE {_HAS_KEY} LIMIT 1"))
        objects = _objects(cursor)
        counts = Counter(row for row, _ in dangling(cursor)) if has_keys else Counter[_Row]()
        last = Survey(has_keys, objects, counts, _broken(cursor, objects), {})
    return last._replace(unreadable=_unreadable(cursor, script))


def findings(cursor: Any, script: Script, before: Survey) -> tuple[tuple[str, ...], Survey]:
    """Return what the step of `script` has broken, and what is true now."""
    found: list[str] = []
    now = before._replace(has_keys=before.has_keys or "references" in script.words)
    if now.has_keys:
        rows = list(dangling(cursor))
        now = now._replace(dangling=Counter(row for row, _ in rows))
        found += _new_dangling(rows, _new(before.dangling, now.dangling, "rename" in script.words))
    if script.words & {"view", "trigger"} or (before.objects and script.words & {"table", "index"}):
        objects = _objects(cursor)
        now = now._replace(objects=objects, broken=_broken(cursor, objects))
        compiled = {(kind, name) for kind, name, _ in before.objects} - before.broken.keys()
        found += [
            f"{what[1]} does not compile any more: {words}"
            for what, words in now.broken.items()
            if what in compiled
        ]
    for table, words in _unreadable(cursor, script).items():
        if table not in before.unreadable:
            found.append(f"table {table} cannot be read any more: {words}")
    return tuple(found), now


def tables(script: Script, *verbs: str) -> tuple[str, ...]:
    """Return the tables that the CREATE TABLE or ALTER TABLE statements of a script name."""
    if "table" not in script.words or not script.words & set(verbs):
        return ()
    # Only a statement that starts like one of these words is worth a match.
    likely = (index for index, start in enumerate(script.starts) if script.text[start] in "aAcC")
    matches = [match for index in likely if (match := _TABLE.match(statement(script, index)))]
    names = ((match[3] or match[2], match[4]) for match in matches if match[1].lower() in verbs)
    return tuple(dict.fromkeys(_unquoted(name) for pair in names for name in pair if name))


def _all(cursor: Any, sql: str, parameters: _Row = ()) -> list[_Row]:
    cursor.execute(sql, parameters)
    return [tuple(row) for row in cursor.fetchall() or ()]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _main(name: str) -> str:
    return f"main.{_quoted(name)}"  # a TEMP table of that name would come first


def _unquoted(name: str) -> str:
    quote = name[0]
    if quote == "[":
        return name[1:-1]
    return name[1:-1].replace(quote * 2, quote) if quote in "\"'`" else name


class _Key(NamedTuple):
    """One foreign key: its columns, as bytes because a text need not be UTF-8, and what finds orphans."""

    columns: str
    parent: str
    orphaned: str


def dangling(cursor: Any) -> Iterator[tuple[_Row, str]]:
    """Yield each row that lacks a parent: what identifies it, and how to show it.

    A key whose parent is not unique has no answer but an error, which is a finding like the others:
    https://www.sqlite.org/foreignkeys.html#fk_indexes
    """
    rows, refusals = _orphans(cursor)
    yield from refusals
    keys: dict[str, dict[int, _Key]] = {}
    unnumbered: dict[tuple[str, int], Iterator[_Row]] = {}
    for table, rowid, parent, number in rows:
        if table not in keys:
            keys[table] = _keys(cursor, table)
        key = keys[table][number]
        # By key, because a rebuilt table may number its rows anew.
        select = f"SELECT {key.columns} FROM {_main(table)} WHERE"
        if rowid is not None:
            # A column of that name may hide the row's number.
            values = next(iter(_all(cursor, f"{select} _rowid_ = ?", (rowid,))), ())
        else:
            if (table, number) not in unnumbered:
                unnumbered[table, number] = iter(_all(cursor, f"{select} {key.orphaned}"))
            values = next(unnumbered[table, number], ())
        row = "a row" if rowid is None else f"row {rowid}"
        yield (table, parent, key.columns, *values), f"{row} of {table} has no parent in {parent}"


def _orphans(cursor: Any) -> tuple[list[_Row], list[tuple[_Row, str]]]:
    """Return table, rowid, parent and key of each row that lacks a parent, and what cannot be checked."""
    with suppress(Exception):
        rows = _all(cursor, "PRAGMA foreign_key_check")
        if cursor.description:
            return rows, []
    rows, refusals = [], []
    for (table,) in _all(cursor, f"SELECT name FROM sqlite_master WHERE type = 'table' AND {_HAS_KEY}"):
        try:
            rows += _all(cursor, f"PRAGMA foreign_key_check({_quoted(table)})")
            if not cursor.description:  # turso has no such pragma
                for number, key in _keys(cursor, table).items():
                    sql = f"SELECT rowid FROM {_main(table)} WHERE {key.orphaned}"
                    rows += [(table, rowid, key.parent, number) for (rowid,) in _all(cursor, sql)]
        except Exception as error:
            refusals.append(((table, str(error)), str(error)))
    return rows, refusals


def _keys(cursor: Any, table: str) -> dict[int, _Key]:
    """Return the foreign keys of a table by their numbers."""
    parents: dict[int, str] = {}
    sides: dict[int, list[tuple[str, str]]] = {}
    for number, _, parent, child, column, *_ in _all(
        cursor, f"PRAGMA main.foreign_key_list({_quoted(table)})"
    ):
        parents[number] = parent
        sides.setdefault(number, []).append((_quoted(child), column or ""))
    found = {}
    for number, parent in parents.items():
        primary = {row[5]: row[1] for row in _all(cursor, f"PRAGMA main.table_xinfo({_quoted(parent)})")}
        pairs = [
            (child, _quoted(column or primary.get(at, "rowid")))
            for at, (child, column) in enumerate(sides[number], 1)
        ]
        equal = " AND ".join(f"parent.{column} = {_main(table)}.{child}" for child, column in pairs)
        given = " AND ".join(f"{child} IS NOT NULL" for child, _ in pairs)
        orphaned = given
        if primary:
            orphaned += f" AND NOT EXISTS (SELECT 1 FROM {_main(parent)} AS parent WHERE {equal})"
        found[number] = _Key(", ".join(f"CAST({child} AS BLOB)" for child, _ in pairs), parent, orphaned)
    return found


def _new(before: Counter[_Row], now: Counter[_Row], renamed: bool) -> Counter[_Row]:
    """Return what dangles now and did not before, under whatever names."""
    hidden = {row[0] for row in before if len(row) == 2}  # a mismatch hid what else was wrong with a table
    more = (now - before).items()
    new = Counter({row: count for row, count in more if row[0] not in hidden or len(row) == 2})
    if renamed:
        gone = Counter[_Row]()
        for row, count in (before - now).items():
            gone[row[3:]] += count
        for row in new:
            settled = min(new[row], gone[row[3:]])
            new[row] -= settled
            gone[row[3:]] -= settled
    return +new


def _new_dangling(rows: list[tuple[_Row, str]], new: Counter[_Row]) -> list[str]:
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


def _objects(cursor: Any) -> frozenset[tuple[str, str, str]]:
    sql = "SELECT type, name, tbl_name FROM sqlite_master WHERE type IN ('view', 'trigger')"
    return frozenset((kind, name, table) for kind, name, table in _all(cursor, sql))


def _broken(cursor: Any, objects: frozenset[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return the views and triggers that do not compile, with SQLite's words."""
    views = sorted(name for kind, name, _ in objects if kind == "view")
    broken = {("view", name): _refusal(cursor, f"SELECT * FROM {_main(name)}") for name in views}
    for table in sorted({table for kind, _, table in objects if kind == "trigger"}):
        if _silent(cursor, table):
            triggers = {name for kind, name, on in objects if kind == "trigger" and on == table}
            for name in sorted(triggers):
                broken["trigger", name] = _alone(cursor, table, triggers - {name})
    return {what: words for what, words in broken.items() if words}


def _silent(cursor: Any, table: str) -> str:
    """Return why a table cannot fire its triggers, or nothing."""
    columns = [row[1] for row in _all(cursor, f"PRAGMA main.table_xinfo({_quoted(table)})") if not row[6]]
    assignments = ", ".join(f"{_quoted(name)} = {_quoted(name)}" for name in columns)
    name = _main(table)
    for sql in (
        f"INSERT INTO {name} DEFAULT VALUES",
        f"UPDATE {name} SET {assignments}",
        f"DELETE FROM {name}",
    ):
        # A view takes only what one of its INSTEAD OF triggers handles.
        if (words := _refusal(cursor, sql)) and not words.startswith("cannot modify"):
            return words
    return ""


def _alone(cursor: Any, table: str, others: set[str]) -> str:
    """Return why `table` cannot fire its triggers when these others are out of the way."""
    cursor.execute("SAVEPOINT vmpilot_guard")
    try:
        for other in others:
            cursor.execute(f"DROP TRIGGER {_main(other)}")
        return _silent(cursor, table)
    finally:
        cursor.execute("ROLLBACK TO vmpilot_guard")
        cursor.execute("RELEASE vmpilot_guard")


def _unreadable(cursor: Any, script: Script) -> dict[str, str]:
    """Return those tables of a script that exist and cannot be read, with SQLite's words."""
    if "as" not in script.words:  # only a generated column makes a table unreadable
        return {}
    refusals = {
        name: _refusal(cursor, f"SELECT * FROM {_main(name)}") for name in tables(script, "create", "alter")
    }
    return {
        name: words for name, words in refusals.items() if words and not words.startswith("no such table")
    }


def _refusal(cursor: Any, sql: str) -> str:
    """Return SQLite's words if it cannot compile a statement; nothing is run.

    Never the same text twice: a module keeps what it compiled, and EXPLAIN does not notice that the
    schema has changed since (SQLite 3.40 even crashes on it).
    """
    try:
        cursor.execute(f"EXPLAIN {sql} -- {time.perf_counter_ns()}")
        with suppress(Exception):
            cursor.fetchall()
        _all(
            cursor, "SELECT 1"
        )  # until the next query libsql keeps what it explained open, and tables locked
    except Exception as error:
        return str(error)
    return ""
