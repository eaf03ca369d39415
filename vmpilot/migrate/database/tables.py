"""The two tables that tell what a database has: alembic_version and migration_log.

The only SQL that touches them lives here; what follows from their rows is decided elsewhere.
Every function works inside the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..errors import AccessError, VersionError

# Alembic's own text, to the byte: https://alembic.sqlalchemy.org/en/latest/api/runtime.html
_VERSION_TABLE = (
    "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
)
_LOG_TABLE = """CREATE TABLE migration_log (
    id INTEGER PRIMARY KEY,
    action TEXT NOT NULL,
    version TEXT NOT NULL,
    name TEXT NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    checksum TEXT NOT NULL,
    down_sql TEXT,
    down_checksum TEXT,
    at TEXT NOT NULL,
    took_ms REAL NOT NULL
)"""
TABLES = {"alembic_version": _VERSION_TABLE, "migration_log": _LOG_TABLE}
LOG_COLUMNS = (
    "action",
    "version",
    "name",
    "from_version",
    "to_version",
    "checksum",
    "down_sql",
    "down_checksum",
    "at",
    "took_ms",
)
_INSERT_LOG = (
    f"INSERT INTO main.migration_log ({', '.join(LOG_COLUMNS)}) VALUES ({', '.join('?' * len(LOG_COLUMNS))})"
)

# Above every number that a file name can hold: the floor of a database about which nothing was logged.
_EVERYTHING = 10**32


class Record(NamedTuple):
    """One row of migration_log.

    `action` is upgrade, downgrade, stamp, accept (a stamp accepted an edit of this version), start (a
    no-transaction file began) or adopt (there were tables but no version). `from_version` and
    `to_version` are the values of alembic_version before and after, empty at base. `at` is UTC in
    ISO 8601.
    """

    action: str
    version: str
    name: str
    from_version: str
    to_version: str
    checksum: str = ""
    at: str = ""
    took_ms: float = 0.0


class State(NamedTuple):
    """What the two tables say: the current value, empty at base, and the log from its beginning."""

    value: str
    log: tuple[Record, ...]


class Applied(NamedTuple):
    """What the log proves: a record for each applied number; below `floor` nothing was logged."""

    records: Mapping[int, Record]
    floor: int


def read(cursor: Any, database: str) -> State:
    """Return what the tables say, an empty state if there are none; reads only.

    Raises VersionError if alembic_version does not hold at most one text.
    """
    tables = {
        name for (name,) in _rows(cursor, "SELECT name FROM sqlite_master WHERE name IN (?, ?)", TABLES)
    }
    if not tables:
        return State("", ())
    value = current(cursor, database) if "alembic_version" in tables else ""
    return State(value, _log(cursor) if "migration_log" in tables else ())


# What nearly every start-up finds, in one look that is cheaper than reading the log.
SETTLED = (
    "SELECT version_num, group_concat(version), total(action <> 'upgrade'), to_version, max(id)"
    " FROM main.alembic_version, main.migration_log"
)


def is_settled(answer: Sequence[Any], versions: Iterable[str]) -> bool:
    """Tell from the answer to SETTLED whether just these versions were applied, one after the other.

    With max() the bare column is that of the last row: https://www.sqlite.org/lang_select.html#bareagg
    """
    ((value, logged, others, last, _),) = answer
    return value == last and not others and logged == ",".join(versions)


def salvage(cursor: Any, database: str) -> State:
    """Return what the tables say, and base if alembic_version makes no sense: a stamp mends it."""
    try:
        return read(cursor, database)
    except VersionError:
        return State("", _log(cursor))


def current(cursor: Any, database: str) -> str:
    """Return the value in alembic_version, empty at base."""
    values = [value for (value,) in _rows(cursor, "SELECT version_num FROM main.alembic_version")]
    if not values:
        return ""
    if len(values) == 1 and isinstance(values[0], str) and values[0]:
        return values[0]
    found = f"{len(values)} rows" if len(values) > 1 else f"a value of type {type(values[0]).__name__}"
    shown = ", ".join(repr(value) for value in values[:5])
    raise VersionError(
        f"{database}: alembic_version holds {found} ({shown}), expected one text; nothing was changed; "
        "to set the version, run: python -m vmpilot.migrate stamp VERSION"
    )


def applied(state: State) -> Applied:
    """Fold the log into what is applied now.

    Where a row does not continue from the one before it, or the log not to the current value (real
    Alembic was here), alembic_version is trusted.
    """
    numbers = numbered(state.log)
    records: dict[int, Record] = {}
    floor, value = -1, ""
    for record in state.log:
        if record.action in ("start", "adopt"):  # moved nothing
            continue
        number = int(record.version or -1)
        if record.from_version != value:
            floor = _number(record.from_version, numbers, number - 1)
            records = _up_to(floor, records)
        if record.action == "upgrade":
            records[number] = record
        elif record.action == "downgrade":
            records.pop(number, None)
            floor = min(floor, number - 1)
        elif record.action == "accept":
            records[number] = records.get(number, record)._replace(checksum=record.checksum)
        elif record.action == "stamp":
            floor, records = number, _up_to(number, records)
            if record.version:
                records[number] = record
        value = record.to_version
    if state.value != value:
        floor = _number(state.value, numbers, _EVERYTHING)
        records = _up_to(floor, records)
    return Applied(records, floor)


def numbered(log: Iterable[Record]) -> dict[str, int]:
    """Return the number behind each value of alembic_version that the log mentions; base is -1."""
    arrivals = (
        (record.to_version, record.version) for record in log if record.action in ("upgrade", "stamp")
    )
    return {value: int(version or -1) for value, version in arrivals} | {"": -1}


def _up_to(number: int, records: dict[int, Record]) -> dict[int, Record]:
    return {known: record for known, record in records.items() if known <= number}


def _number(value: str, numbers: Mapping[str, int], otherwise: int) -> int:
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= 32 else otherwise
    return numbers.get(value, number)


def unfinished(log: Sequence[Record]) -> Record | None:
    """Return the note of a no-transaction file that began and was cut short, if that came last."""
    return log[-1] if log and log[-1].action == "start" else None


def missing(cursor: Any) -> list[str]:
    """Return the statements that create the tables that are not there."""
    present = {
        name for (name,) in _rows(cursor, "SELECT name FROM sqlite_master WHERE name IN (?, ?)", TABLES)
    }
    return [ddl for name, ddl in TABLES.items() if name not in present]


def create(cursor: Any) -> None:
    """Create the tables that are not there, and raise if the database cannot be written to.

    A read-only one lets even BEGIN IMMEDIATE pass: https://www.sqlite.org/lang_transaction.html
    """
    for ddl in missing(cursor):
        cursor.execute(ddl)
    cursor.execute("UPDATE main.alembic_version SET version_num = version_num WHERE 0")


def move(cursor: Any, before: str, after: str, database: str) -> None:
    """Replace the value in alembic_version by compare-and-swap.

    Raises AccessError unless exactly one row changed.
    """
    if not before:
        empty = "NOT EXISTS (SELECT 1 FROM main.alembic_version)"
        cursor.execute(f"INSERT INTO main.alembic_version (version_num) SELECT ? WHERE {empty}", (after,))
    elif after:
        cursor.execute(
            "UPDATE main.alembic_version SET version_num = ? WHERE version_num = ?", (after, before)
        )
    else:
        cursor.execute("DELETE FROM main.alembic_version WHERE version_num = ?", (before,))
    # Not the cursor's rowcount: libsql counts all rows since it was opened, and count_changes spoils it.
    if (changed := _rows(cursor, "SELECT changes()")[0][0]) != 1:
        raise AccessError(
            f"{database}: {changed} rows of alembic_version changed from {before or 'base'} to "
            f"{after or 'base'}, expected one; rolled back",
            database=database,
        )


def put(cursor: Any, value: str) -> None:
    """Make `value` the only row of alembic_version, whatever it holds; none if empty."""
    cursor.execute("DELETE FROM main.alembic_version")
    if value:
        cursor.execute("INSERT INTO main.alembic_version (version_num) VALUES (?)", (value,))


def write(cursor: Any, record: Record, down_sql: str | None = None, down_checksum: str | None = None) -> None:
    """Append one row to the log, now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    took = round(record.took_ms, 3)
    cursor.execute(_INSERT_LOG, (*record[:6], down_sql, down_checksum, now, took))


def kept_down(cursor: Any, version: str) -> tuple[str, str] | None:
    """Return the down script and its checksum as kept when `version` was last applied, if it was kept."""
    kept = _rows(
        cursor,
        "SELECT down_sql, down_checksum FROM main.migration_log"
        " WHERE action = 'upgrade' AND version = ? ORDER BY id DESC LIMIT 1",
        (version,),
    )
    if not kept or not isinstance(kept[0][0], str):
        return None
    return kept[0][0], str(kept[0][1])


def _log(cursor: Any) -> tuple[Record, ...]:
    """Return the log; a row that was not written here makes no sense and is passed over."""
    columns = ", ".join(Record._fields)
    rows = _rows(cursor, f"SELECT {columns} FROM main.migration_log ORDER BY id")
    return tuple(Record(*row) for row in rows if _is_ours(*row))


def _is_ours(action: object, version: object, *values: object) -> bool:
    *texts, took = values
    if (
        not isinstance(version, str)
        or not isinstance(took, int | float)
        or (action, texts[2]) == ("upgrade", "")
    ):
        return False
    named = version.isascii() and version.isdigit() and len(version) <= 32
    return (named or (not version and action in ("stamp", "adopt"))) and all(
        isinstance(text, str) for text in texts
    )


def _rows(cursor: Any, sql: str, parameters: Iterable[object] = ()) -> list[Any]:
    cursor.execute(sql, tuple(parameters))
    return list(cursor.fetchall() or ())  # libsql returns None where there are no rows
