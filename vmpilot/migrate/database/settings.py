"""What a statement can leave behind on a connection: settings and TEMP objects.

Which statements are run is decided elsewhere; here is told what they can change, and it is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from .connection import Session, is_untouched

# Settings of a connection that a statement can change and that neither COMMIT nor ROLLBACK puts back:
# https://www.sqlite.org/pragma.html
SETTINGS = frozenset(
    (
        "analysis_limit",
        "automatic_index",
        "busy_timeout",
        "cache_size",
        "cache_spill",
        "case_sensitive_like",
        "cell_size_check",
        "checkpoint_fullfsync",
        "count_changes",
        "defer_foreign_keys",
        "empty_result_callbacks",
        "foreign_keys",
        "full_column_names",
        "fullfsync",
        "ignore_check_constraints",
        "journal_mode",
        "journal_size_limit",
        "legacy_alter_table",
        "locking_mode",
        "max_page_count",
        "mmap_size",
        "query_only",
        "read_uncommitted",
        "recursive_triggers",
        "reverse_unordered_selects",
        "secure_delete",
        "short_column_names",
        "synchronous",
        "temp_store",
        "threads",
        "trusted_schema",
        "wal_autocheckpoint",
        "writable_schema",
    )
)

# SQLite says nothing where it cannot change it, because a virtual table keeps a statement open until COMMIT.
AT_LAST = frozenset(("case_sensitive_like",))
_TEMPORARY = frozenset(("temp", "temporary"))
_CHANGING = SETTINGS | _TEMPORARY


def setting(session: Session, name: str) -> str:
    """Return a setting of the connection as text that sets it, empty if this SQLite has no such setting."""
    if name == "case_sensitive_like":  # can be written only, so its effect is looked at
        return str(session.value("SELECT 'a' NOT LIKE 'A'"))
    found = session.value(f"PRAGMA {name}")
    value = "" if found is None else str(found)
    return "fast" if name == "secure_delete" and value == "2" else value


def settings_kept(session: Session, words: frozenset[str]) -> AbstractContextManager[None]:
    """Put back what statements made of these words change in the connection's settings and TEMP objects.

    Where they fail, what they have written into the schema by hand is read, so that a rollback notices it.
    """
    return nullcontext() if words.isdisjoint(_CHANGING) else _kept(session, words)


@contextmanager
def _kept(session: Session, words: frozenset[str]) -> Iterator[None]:
    before = {name: setting(session, name) for name in sorted(SETTINGS & words)}
    temporary = _temporary(session) if words & _TEMPORARY else None

    def put_back() -> None:
        for name, value in before.items():
            now = setting(session, name)
            # A write-ahead log is a property of the file, all other journals are of the connection.
            if now != value and not (name == "journal_mode" and now == "wal"):
                session.run(f"PRAGMA {name} = {'delete' if value == 'wal' else value}")
        if temporary is not None:
            _drop_temporary(session, temporary)

    try:
        yield
    except BaseException:
        with suppress(Exception):  # the first error is the one to hear of
            if "writable_schema" in words:
                read_anew(session)
        with suppress(Exception):
            put_back()
        raise
    put_back()


def read_anew(session: Session) -> None:
    """Read the schema again, into which a statement may have written by hand.

    What was written counts as a change of the schema from then on, for other connections too and for
    a rollback, which otherwise would not notice: https://www.sqlite.org/pragma.html#pragma_writable_schema
    """
    session.run("PRAGMA writable_schema = RESET")
    if session.parents:  # the texts may have been read before SQLite read what they say
        session.parents.clear()
    session.run(f"PRAGMA main.schema_version = {int(session.value('PRAGMA main.schema_version')) + 1}")
    session.rows("SELECT 1 FROM main.sqlite_master LIMIT 1")


def has_temporary(session: Session) -> bool:
    """Tell whether there are TEMP objects, or have been; where nobody else was, a script leaves none.

    To look at them otherwise would begin their database, and then no file could say where it is to be kept:
    https://www.sqlite.org/pragma.html#pragma_temp_store
    """
    if is_untouched(session):
        return False
    return bool(session.rows("SELECT 1 FROM pragma_database_list WHERE name = 'temp'"))


def _temporary(session: Session) -> list[tuple[str, str]]:
    """Return name and kind of each TEMP object, virtual tables first: they take others with them."""
    order = "ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC"
    found = session.rows(f"SELECT +name, +type FROM sqlite_temp_master WHERE type <> 'index' {order}")
    return [(name, kind) for name, kind in found]


def _drop_temporary(session: Session, kept: list[tuple[str, str]]) -> None:
    from ..tokens import quoted  # not loaded by a start-up that runs no statement

    for name, kind in _temporary(session):
        if (name, kind) not in kept and not name.startswith("sqlite_"):
            session.run(f"DROP {kind} IF EXISTS temp.{quoted(name)}")
