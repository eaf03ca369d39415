"""What SQLite needs of the system to read and to write a database: rights to its file and those beside it.

Only what SQLite has refused, or is about to be asked for, is looked into; a start-up with nothing to do pays
for none of it. No database is opened here: to close it would drop the locks that others in this process hold,
https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from functools import reduce
from itertools import chain

from ..access import READ, SEARCH, WRITE, Lack, both, is_denial, is_read_only, lacking, may, nearest, user
from ..errors import is_of_the_caller, passed_over

# https://www.sqlite.org/rescode.html
_DENIALS = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def denial(database: str, error: BaseException) -> Lack | None:
    """Return what the system refused SQLite, None if an error does not come from that."""
    if isinstance(error, OSError):  # of the system, which may be about another file
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else database
        return lacking(nearest(path), READ, WRITE) if is_denial(error) else None
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR:  # also where a journal was played back, but cannot be removed
        return _unplayed(database)
    if code not in _DENIALS:
        return None
    if not os.path.exists(database):
        return lacking(database)
    return lacking(database, READ) or _unplayed(database) or unwritable(database)


def unwritable(database: str) -> Lack | None:
    """Return what keeps this process from writing to a database, or from creating one.

    SQLite keeps a journal or a write-ahead log beside it, and that it may have to create first:
    https://www.sqlite.org/tempfiles.html Where several are denied, all are told: to mend one would not do.
    """
    own = lacking(database, READ, WRITE)
    if own and own.where != database:  # a directory on the way that may not be searched
        return own
    lacks = [lack for lack in (own, *_unwritable_beside(database)) if lack]
    return reduce(both, lacks) if lacks else None


def _unwritable_beside(database: str) -> Iterator[Lack | None]:
    """Yield what keeps this process from writing what SQLite needs beside a database."""
    file = led_to(database)
    directory, name = os.path.dirname(file) or os.curdir, os.path.basename(file)
    if not os.path.exists(file):
        yield _with(lacking(nearest(directory), WRITE), f"where {name} must be created")
        return
    found = [ending for ending in ("-wal", "-shm", "-journal") if os.path.exists(file + ending)]
    yield from (lacking(file + ending, READ, WRITE) for ending in found)
    if found[:2] != ["-wal", "-shm"]:
        yield _with(lacking(directory, WRITE), f"where SQLite must create the journal of {name}")


def has_temporary_place() -> bool:
    """Tell whether SQLite finds a directory for temporary files.

    Where it looks: https://www.sqlite.org/tempfiles.html#temporary_file_storage_locations
    """
    named = filter(None, map(os.environ.get, ("SQLITE_TMPDIR", "TMPDIR")))  # asked last: that takes longest
    return any(map(is_place, chain(("/var/tmp", "/usr/tmp", "/tmp", os.curdir), named)))


def is_place(directory: str) -> bool:
    """Tell whether files can be made in a directory."""
    return may(directory, WRITE, SEARCH) and os.path.isdir(directory)


def _unplayed(database: str) -> Lack | None:
    """Return what keeps this process from reading a database that a killed process has left in the middle.

    https://www.sqlite.org/atomiccommit.html#_hot_rollback_journals and
    https://www.sqlite.org/wal.html#read_only_databases
    """
    file = led_to(database)
    directory, name = os.path.dirname(file) or os.curdir, os.path.basename(file)
    if _size(f"{file}-journal"):
        return _with_owner(unwritable(database), file)
    if not _size(f"{file}-wal"):
        return None
    if lack := lacking(f"{file}-wal", READ) or lacking(f"{file}-shm", READ):
        return lack
    missing = None if os.path.exists(f"{file}-shm") else lacking(directory, WRITE)
    return _with(missing, f"where SQLite must create {name}-shm to read {name}-wal")


def _with_owner(lack: Lack | None, file: str) -> Lack | None:
    """Say of what keeps a journal from being played back why that is needed, and who can do it."""
    if lack is None:
        return None
    name, owner = os.path.basename(file), os.stat(file).st_uid
    told = f"{lack.what}, and {name}-journal, left by a killed process, must be played back before a read"
    cure = lack.cure
    if is_read_only(file):
        cure = "mount it writable once"
    elif owner != os.geteuid():
        cure = f"to have it played back, run this as {user(owner)}"
    return Lack(lack.where, told, cure)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        if is_of_the_caller(error):
            raise
        return 0


def led_to(database: str) -> str:
    """Return the file that a link leads to: what SQLite needs, a log too, lies beside that."""
    with passed_over(OSError):  # the link is gone since
        return os.path.realpath(database) if os.path.islink(database) else database
    return database


def _with(lack: Lack | None, purpose: str) -> Lack | None:
    return lack._replace(what=f"{lack.what}, {purpose}") if lack else None
