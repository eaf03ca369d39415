"""What a script that a database kept may not do: reach beyond that database, or stay in the process.

A database can come from anybody, and so can the down scripts in its log. Before one is run its text is
looked at, and while it runs SQLite asks an authorizer, on connections of our own: a caller's may have one,
which Python cannot read and so could not put back. https://www.sqlite.org/c3ref/set_authorizer.html

`PRAGMA trusted_schema = OFF` would not help here and break honest databases: SQLite 3.40 then calls each
use of FTS5, R-Tree or json_each in a trigger or view unsafe, and json_extract in an index. On our own
connections there are only SQLite's own functions, and the dangerous ones no schema may call anyway:
https://www.sqlite.org/c3ref/c_deterministic.html#sqlitedirectonly
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from ..tokens import folded, head, tokens, unquoted
from .connection import Session, limited, size_of, wait
from .settings import SETTINGS

_LONGEST, _LONGEST_PATTERN = 1 << 20, 500  # bytes
ASKED = "a down script that the database kept may not do this"
# Those of SQLite's library and of its shell that load code, take an address, or read and write files.
_FUNCTIONS = frozenset(
    ("load_extension", "fts3_tokenizer", "edit", "eval", "readfile", "writefile", "fsdir", "zipfile")
)
_EXPLAINING = ("explain", "query", "plan")
# What can be set and is put back, what is a property of the file, and what only tells. A list of what is
# allowed, because others (temp_store_directory, hard_heap_limit, key) act on the process or on the file's
# secrets, and each SQLite and each module has more of them: https://www.sqlite.org/pragma.html
_PRAGMAS = SETTINGS | {
    *("application_id", "auto_vacuum", "encoding", "freelist_count", "incremental_vacuum", "page_count"),
    *("page_size", "schema_version", "user_version", "wal_checkpoint", "optimize", "shrink_memory"),
    *("foreign_key_check", "integrity_check", "quick_check", "data_version"),
    *("collation_list", "compile_options", "database_list", "foreign_key_list", "function_list"),
    *("index_info", "index_list", "index_xinfo", "module_list", "pragma_list"),
    *("table_info", "table_list", "table_xinfo"),
}


def forbidden(sql: str) -> str:
    """Name what a statement would do beyond its database, as far as its text tells, or nothing."""
    # Some pragmas act already when they are explained: https://www.sqlite.org/pragma.html
    first = next((token for token in tokens(sql) if token.text.lower() not in _EXPLAINING), None)
    if first and first.text.lower() == "pragma" and (name := folded(head(sql, first.start).name)):
        return f"PRAGMA {name}" if name not in _PRAGMAS else ""
    return called(sql)


def called(sql: str) -> str:
    """Name the function that SQL calls, also in quotes, if it is one that reaches beyond a database."""
    text = folded(sql)
    if not any(name in text for name in _FUNCTIONS):  # nearly always, and much quicker
        return ""
    for token, following in pairwise(tokens(sql)):
        name = folded(unquoted(token.text))
        if following.text == "(" and name in _FUNCTIONS:
            return f"{name}()"
    return ""


@contextmanager
def confined(session: Session) -> Iterator[list[str]]:
    """Have SQLite deny all that reaches beyond the main database; yield in words what it has denied.

    And have it compute no value that is longer than any that the database can hold, nor match a long
    pattern: one value is computed to its end, whatever signal comes meanwhile.
    """
    length = max(_LONGEST, 2 * wait(session, lambda: size_of(session)))
    with limited(session, length=length, pattern=_LONGEST_PATTERN), _authorized(session) as denied:
        yield denied


@contextmanager
def _authorized(session: Session) -> Iterator[list[str]]:
    denied: list[str] = []
    if not session.ours or not hasattr(session.connection, "set_authorizer"):
        yield denied
        return

    def asked(action: int, one: str | None, other: str | None, *_: str | None) -> int:
        if what := _beyond(action, one, other):
            denied.append(f"{what}: {ASKED}")
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    session.connection.set_authorizer(asked)
    try:
        yield denied
    finally:
        with suppress(sqlite3.ProgrammingError):  # closed already, as in `interruptible`
            session.connection.set_authorizer(None)


def _beyond(action: int, one: str | None, other: str | None) -> str:
    if (
        action == sqlite3.SQLITE_ATTACH
    ):  # VACUUM attaches a file without a name: https://www.sqlite.org/lang_vacuum.html
        return "" if one == "" else "ATTACH or VACUUM INTO"
    if action == sqlite3.SQLITE_DETACH:
        return "DETACH"
    if action == sqlite3.SQLITE_FUNCTION and folded(other or "") in _FUNCTIONS:
        return f"{folded(other or '')}()"
    if action == sqlite3.SQLITE_PRAGMA and folded(one or "") not in _PRAGMAS:
        return f"PRAGMA {folded(one or '')}"
    return ""
