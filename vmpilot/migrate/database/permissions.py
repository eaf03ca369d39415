"""What SQLite needs of the system to read and to write a database: rights to its file and those beside it.

Only what SQLite has refused, or is about to be asked for, is looked into; a start-up with nothing to do pays
for none of it. No database is opened here: to close it would drop the locks that others in this process hold,
https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks
"""

import os
import sqlite3

from ..access import READ, WRITE, Lack, is_denial, lacking, nearest, user

# https://www.sqlite.org/rescode.html
_DENIALS = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def denial(database: str, error: BaseException) -> Lack | None:
    """Return what the system refused SQLite, None if an error does not come from that."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code not in _DENIALS and not is_denial(error):
        return None
    if not os.path.exists(database):
        return lacking(database)
    return lacking(database, READ) or _unplayed(database) or unwritable(database)


def unwritable(database: str) -> Lack | None:
    """Return what keeps this process from writing to a database, or from creating one.

    SQLite keeps a journal or a write-ahead log beside it, and that it may have to create first:
    https://www.sqlite.org/tempfiles.html
    """
    if lack := lacking(database, READ, WRITE):
        return lack
    file = _led_to(database)
    directory, name = os.path.dirname(file) or os.curdir, os.path.basename(file)
    if not os.path.exists(file):
        return _with(lacking(nearest(directory), WRITE), f"where {name} must be created")
    found = [ending for ending in ("-wal", "-shm", "-journal") if os.path.exists(file + ending)]
    for ending in found:
        if lack := lacking(file + ending, READ, WRITE):
            return lack
    if found == ["-journal"] or found[:2] == ["-wal", "-shm"]:
        return None
    return _with(lacking(directory, WRITE), f"where SQLite must create the journal of {name}")


def _unplayed(database: str) -> Lack | None:
    """Return what keeps this process from reading a database that a killed process has left in the middle.

    https://www.sqlite.org/atomiccommit.html#_hot_rollback_journals and https://www.sqlite.org/wal.html#recovery
    """
    file = _led_to(database)
    left = [file + ending for ending in ("-journal", "-wal") if _size(file + ending)]
    lack = unwritable(database) if left else None
    if not left or not lack:
        return None
    name = os.path.basename(left[0])
    told = f"{lack.what}, and {name}, which a killed process left, must be played back before a read"
    owner = os.stat(database).st_uid
    cure = lack.cure
    if owner != os.geteuid() and "read-only" not in lack.what:
        cure = f"to have it played back, run this as {user(owner)}"
    return Lack(lack.where, told, cure)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # none
        return 0


def _led_to(database: str) -> str:
    """Return the file that a link leads to: what SQLite needs lies beside that."""
    return os.path.realpath(database) if os.path.islink(database) else database


def _with(lack: Lack | None, purpose: str) -> Lack | None:
    return lack._replace(what=f"{lack.what}, {purpose}") if lack else None
