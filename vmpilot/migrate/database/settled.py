"""What nearly every start-up finds: the two tables as they are made here, and all migrations applied.

One look at them, cheaper than reading the log. What it does not find settled, `tables` reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import is_of_the_caller
from ..limits import LOG_TABLE, VERSION_TABLE
from .connection import SNAPSHOT, Session, failures, rollback

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
    "SELECT +sql FROM main.sqlite_master WHERE tbl_name COLLATE NOCASE IN "
    f"('{VERSION_TABLE}', '{LOG_TABLE}') AND sql IS NOT NULL"  # a constraint's index has none
)
_MADE = ([(_VERSION_DDL,), (_LOG_DDL,)], [(_LOG_DDL,), (_VERSION_DDL,)])
# Of all rows, what stands alone is that of the last: https://www.sqlite.org/lang_select.html#bareagg
_SETTLED = (
    "SELECT +version_num, group_concat(version), group_concat(name, '/'),"
    " count(*) FILTER (WHERE action <> 'upgrade'), +to_version, max(id)"
    " FROM main.alembic_version, main.migration_log"
)


def is_settled(session: Session, versions: Iterable[str], names: Iterable[str]) -> bool:
    """Tell whether just these were applied, one after the other, and the last one is the current version.

    Their names count: another migration under the same number is to be noticed. Tells it only of tables
    that are just as they were made here. Whatever is odd, an error or a lock too, is looked at closely
    elsewhere, with patience and in words; in the same snapshot, which stays open unless it has failed.
    """
    try:
        for sql in SNAPSHOT:
            session.cursor.execute(sql)
            session.cursor.fetchall()  # for libsql, see Session.rows
        if session.rows(_AS_MADE) not in _MADE:
            return False
        ((value, *logged, others, last, _),) = session.rows(_SETTLED)
    except failures(session.connection) as error:
        rollback(session)
        if is_of_the_caller(error):
            raise
        return False
    return bool(value == last and not others and logged == [",".join(versions), "/".join(names)])
