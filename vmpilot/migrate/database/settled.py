"""What nearly every start-up finds: the two tables as they are made here, and all migrations applied.

One look at them, cheaper than reading the log. What it does not find settled, `tables` reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import MigrationError
from ..limits import LOG_TABLE, VERSION_TABLE
from .connection import Session, is_undecodable, wait

# Alembic's own text, to the byte: https://alembic.sqlalchemy.org/en/latest/api/runtime.html
_VERSION_DDL = (
    "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
)
_LOG_DDL = """CREATE TABLE migration_log (
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
TABLES = {VERSION_TABLE: _VERSION_DDL, LOG_TABLE: _LOG_DDL}

_AS_MADE = (
    "SELECT sum(sql IN (?, ?)), count(*) FROM main.sqlite_master"
    " WHERE tbl_name COLLATE NOCASE IN (?, ?) AND sql IS NOT NULL"  # which that of a constraint's index is
)
# Of all rows, what stands alone is that of the last: https://www.sqlite.org/lang_select.html#bareagg
_SETTLED = (
    "SELECT +version_num, group_concat(version), group_concat(name, '/'),"
    " count(*) FILTER (WHERE action <> 'upgrade'), +to_version, max(id)"
    " FROM main.alembic_version, main.migration_log"
)


def is_settled(session: Session, versions: Iterable[str], names: Iterable[str]) -> bool:
    """Tell whether just these were applied, one after the other, and the last one is the current version.

    Their names count: another migration under the same number is to be noticed. Tells it only of tables
    that are just as they were made here; others are looked at closely elsewhere.
    """
    if wait(session, lambda: session.rows(_AS_MADE, (*TABLES.values(), *TABLES))) != [(2, 2)]:
        return False
    try:
        ((value, *logged, others, last, _),) = wait(session, lambda: session.rows(_SETTLED))
    except MigrationError:
        raise
    except Exception as error:
        if "no such" in str(error) or is_undecodable(error):  # a column is missing, or a text makes no sense
            return False
        raise
    return bool(value == last and not others and logged == [",".join(versions), "/".join(names)])
