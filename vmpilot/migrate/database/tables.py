"""The two tables that tell what a database has: alembic_version and migration_log.

The only SQL that touches them lives here; what follows from their rows is decided elsewhere.
Every function works inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from ..errors import AccessError, VersionError, not_of_the_caller
from ..limits import LOG_TABLE, LONGEST, VERSION_TABLE, is_fit, is_version
from ..typed import Any, NamedTuple
from .connection import UNCHANGED, Row, Session, changes, is_undecodable, wait
from .settled import TABLES

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

_OTHERS = ("sqlite_", "_litestream_", "_cf_")
# A bare column has a declared type, for which a caller's connection can have a converter: hence each `+`.
# https://docs.python.org/3/library/sqlite3.html#sqlite3.PARSE_DECLTYPES
_SHAPE = "SELECT +type, +name, +tbl_name, +sql FROM main.sqlite_master WHERE lower(tbl_name) IN (?, ?)"
# What computes something: whole objects, and parts of a table, told by its words and signs.
_KINDS = {"view": "is a view", "trigger": "has a trigger"}
_PARTS = {
    " VIRTUAL TABLE ": "is a virtual table",
    " AS (": "has a generated column",
    " CHECK (": "has a CHECK",
    " DEFAULT (": "has a default that is computed",
}


# A kept script is not read for this: the words of the directive that makes it irreversible tell enough.
_UNDOABLE = (
    "typeof(down_sql) = 'text' AND"
    " (instr(lower(down_sql), 'vmpilot:') = 0 OR instr(lower(down_sql), 'irreversible') = 0)"
)


class Record(NamedTuple):
    """One row of migration_log.

    `action` is upgrade, downgrade, stamp, accept (a stamp accepted an edit of this version), start (a
    no-transaction file began) or adopt (there were tables but no version). `from_version` and
    `to_version` are the values of alembic_version before and after, empty at base. `at` is UTC in
    ISO 8601. `undoable` tells whether a down script was kept that does not refuse to be run.
    """

    action: str
    version: str
    name: str
    from_version: str
    to_version: str
    checksum: str = ""
    at: str = ""
    took_ms: float = 0.0
    undoable: bool = False


class Recorded(NamedTuple):
    """What the two tables say: the current value, empty at base, and the log from its beginning."""

    value: str
    log: tuple[Record, ...]


NOTHING = Recorded("", ())


def read(session: Session) -> Recorded:
    """Return what the tables say, nothing if there are none; reads only.

    Raises VersionError if alembic_version does not hold at most one text, AccessError if one of them is no
    plain table.
    """
    present = _present(session)
    if not present:
        return NOTHING
    value = current(session) if VERSION_TABLE in present else ""
    return Recorded(value, _log(session) if LOG_TABLE in present else ())


def salvage(session: Session) -> Recorded:
    """Return what the tables say, and base if alembic_version makes no sense: a stamp mends it."""
    try:
        return read(session)
    except VersionError:
        return Recorded("", _log(session))


def current(session: Session) -> str:
    """Return the value in alembic_version, empty at base."""
    try:
        values = [value for (value,) in session.rows("SELECT +version_num FROM main.alembic_version")]
    except session.failures as error:
        if not is_undecodable(error):
            raise
        raise _odd(session, "a text that is not UTF-8") from error
    if not values:
        return ""
    if len(values) == 1 and isinstance(values[0], str) and 0 < len(values[0]) <= LONGEST:
        return values[0]
    found = f"{len(values)} rows" if len(values) > 1 else f"a value of type {type(values[0]).__name__}"
    raise _odd(session, f"{found} ({', '.join(map(_shown, values[:5]))})")


def _shown(value: object) -> str:
    """Return a value of any type as a message shows it, which may be huge."""
    if isinstance(value, str | bytes) and len(value) > LONGEST:
        return f"{value[:20]!r} and {len(value) - 20} more"
    return repr(value)


def _odd(session: Session, found: str) -> VersionError:
    """Return the error of a version that makes no sense."""
    return VersionError(f"{session.database}: alembic_version holds {found}, expected one text; {UNCHANGED}")


def missing(session: Session) -> list[str]:
    """Return the statements that create the tables that are not there."""
    present = _present(session)
    return [ddl for name, ddl in TABLES.items() if name not in present]


def create(session: Session) -> None:
    """Create the tables that are not there; what is in the place of one is told where they are read.

    SQLite keeps the text of a table from its name on: https://www.sqlite.org/schematab.html
    """
    for ddl in TABLES.values():
        session.run(ddl.replace("TABLE", "TABLE IF NOT EXISTS", 1))


def change_nothing(session: Session) -> None:
    """Change no row: from here on changes() tells nothing of what was changed before.

    Raises if the database cannot be written to. A read-only one lets even BEGIN IMMEDIATE pass:
    https://www.sqlite.org/lang_transaction.html
    """
    session.run("UPDATE main.alembic_version SET version_num = version_num WHERE 0")


def move(session: Session, before: str, after: str) -> None:
    """Replace the value in alembic_version by compare-and-swap.

    Raises AccessError unless exactly one row changed.
    """
    if (changed := _moved(session, before, after)) != 1:
        raise AccessError(
            f"{session.database}: {changed} rows of alembic_version changed from {before or 'base'} to "
            f"{after or 'base'}, expected one; rolled back",
            database=session.database,
        )


def _moved(session: Session, before: str, after: str) -> int:
    """Do so, and return how many rows changed."""
    if before and after:
        session.run("UPDATE main.alembic_version SET version_num = ? WHERE version_num = ?", (after, before))
    elif before:
        session.run("DELETE FROM main.alembic_version WHERE version_num = ?", (before,))
    # Asked by itself: a table that one statement reads and writes, SQLite copies first.
    elif session.value("SELECT count(*) FROM main.alembic_version"):
        return 0
    else:
        session.run("INSERT INTO main.alembic_version (version_num) VALUES (?)", (after,))
    return changes(session)


def put(session: Session, value: str) -> None:
    """Make `value` the only row of alembic_version, whatever it holds; none if empty."""
    session.run("DELETE FROM main.alembic_version")
    if value:
        session.run("INSERT INTO main.alembic_version (version_num) VALUES (?)", (value,))


def write(
    session: Session, record: Record, down_sql: str | None = None, down_checksum: str | None = None
) -> None:
    """Append one row to the log, now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    took = round(record.took_ms, 3)
    session.run(_INSERT_LOG, (*record[:6], down_sql, down_checksum, now, took))


def note(session: Session, version: str, name: str, value: str) -> None:
    """Record an upgrade that was played on a scratch database, with `value` as what is current now.

    Files may read the two tables, and a view over one must compile.
    """
    before = current(session)
    put(session, value)
    write(session, Record("upgrade", version, name, before, value))


def take_back(session: Session, value: str) -> None:
    """Undo the last note on a scratch database, before which `value` was current."""
    put(session, value)
    session.run("DELETE FROM main.migration_log WHERE id = (SELECT max(id) FROM main.migration_log)")


class Content(NamedTuple):
    """All that the two tables are and hold, good for being compared."""

    shape: tuple[tuple[Any, ...], ...]
    value: tuple[tuple[Any, ...], ...]
    log: tuple[tuple[Any, ...], ...]


def content(session: Session) -> Content:
    """Return shape and rows of both tables, whatever has become of them; none of what is no plain table."""
    found = session.rows(_SHAPE, tuple(TABLES))
    shape = tuple(sorted(found, key=repr))
    if any(_oddity(*row) for row in found):
        return Content(shape, (), ())
    value = _spelled(session, VERSION_TABLE, ("version_num",))
    return Content(shape, value, _spelled(session, LOG_TABLE, ("id", *LOG_COLUMNS)))


def _spelled(session: Session, name: str, columns: Sequence[str]) -> tuple[tuple[Any, ...], ...]:
    """Return the rows of a table with each value in hexadecimal: text need not be UTF-8.

    In one order, whatever a file has said of it: https://www.sqlite.org/pragma.html#pragma_reverse_unordered_selects
    """
    values = ", ".join(f"typeof({column}) || hex({column})" for column in columns)
    try:
        return tuple(session.rows(f"SELECT {values} FROM main.{name} ORDER BY {columns[0]}"))
    except session.failures as error:  # it has another shape, which tells enough
        not_of_the_caller(error)
        return ()


def kept_down(session: Session, version: str) -> tuple[str, str] | None:
    """Return the down script and its checksum as kept when `version` was last applied, if it was kept."""
    kept = session.rows(
        "SELECT +down_sql, +down_checksum FROM main.migration_log"
        " WHERE action = 'upgrade' AND version = ? ORDER BY id DESC LIMIT 1",
        (version,),
    )
    if not kept or not isinstance(kept[0][0], str):
        return None
    return kept[0][0], str(kept[0][1])


def has_tables(session: Session) -> bool:
    """Tell whether a database has tables or views of its own.

    Not the runner's, not SQLite's, and not those that keep for themselves what copies or serves the file:
    Litestream (https://litestream.io/how-it-works/) and Cloudflare D1.
    """
    sql = "SELECT +name FROM main.sqlite_master WHERE type IN ('table', 'view')"
    found = {name.lower() for (name,) in wait(session, lambda: session.rows(sql))}
    others = {name for name in found if name.startswith(_OTHERS)}
    return not found - others <= TABLES.keys() | {"d1_migrations"}


def names(session: Session) -> set[str]:
    """Return the names of all tables but SQLite's own and the runner's."""
    sql = "SELECT +name FROM main.sqlite_master WHERE type = 'table'"
    found = (name for (name,) in wait(session, lambda: session.rows(sql)))
    return {name for name in found if not name.lower().startswith("sqlite_") and name.lower() not in TABLES}


def _present(session: Session) -> set[str]:
    """Return which of the two tables there are; nothing else looks at one before this has been asked.

    A view, a trigger or an expression is a program of whoever wrote the database, and it would run with all
    that is read and written here. Raises AccessError for what is more than a plain table.
    """
    found = session.rows(_SHAPE, tuple(TABLES))
    for row in found:
        if oddity := _oddity(*row):
            told = f"{row[2].lower()} {oddity}, expected a plain table; {UNCHANGED}"
            raise AccessError(f"{session.database}: {told}", database=session.database)
    return {name.lower() for kind, name, _, _ in found if kind == "table"}


def _oddity(kind: str, name: str, table: str, sql: str | None) -> str:
    """Return what makes one of the two tables, or an index on it, more than a plain one, or nothing."""
    if sql is None or sql == TABLES.get(name):  # an index that a constraint made; our own text
        return ""
    if kind in _KINDS:
        return _KINDS[kind]
    from ..tokens import tokens  # not loaded where the text is our own

    texts = [token.text.upper() for token in tokens(sql) if token.kind in ("word", "sign")]
    if kind == "index":
        return "has an index on an expression" if texts.count("(") > 1 or "WHERE" in texts else ""
    said = f" {' '.join(texts)} "
    return next((told for words, told in _PARTS.items() if words in said), "")


def _log(session: Session) -> tuple[Record, ...]:
    """Return the log; a row that was not written here makes no sense and is passed over."""
    columns = ", ".join(f"+{name}" for name in Record._fields[:-1])
    sql = f"SELECT {columns}, {_UNDOABLE} FROM main.migration_log"
    try:
        rows = session.rows(f"{sql} ORDER BY id")
    except session.failures as error:
        if not is_undecodable(error):
            raise
        rows = list(_legible(session, sql))
    return tuple(Record(*row) for row in rows if _is_ours(*row))


def _legible(session: Session, sql: str) -> Iterator[Row]:
    """Yield the rows of the log whose texts are UTF-8."""
    for (number,) in session.rows("SELECT id FROM main.migration_log ORDER BY id"):
        try:
            yield from session.rows(f"{sql} WHERE id = ?", (number,))
        except session.failures as error:
            if not is_undecodable(error):
                raise


def _is_ours(action: object, version: object, *values: object) -> bool:
    """Tell whether a row can have been written here: only such are read, and shown."""
    *said, took, _ = values
    texts = [text for text in said if isinstance(text, str)]
    if not isinstance(version, str) or not isinstance(took, int | float) or len(texts) < len(said):
        return False
    if (action, texts[2]) == ("upgrade", "") or max(map(len, texts)) > LONGEST:
        return False
    return (is_version(version) or (not version and action in ("stamp", "adopt"))) and is_fit("".join(texts))
