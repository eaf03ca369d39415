"""Taking a backup: a copy that is whole, checked and on the disk, or not there at all."""

import re
from typing import Any, NamedTuple

from ..database import tables
from ..database.connection import Session, interruptible, snapshot
from ..database.names import located
from ..database.opening import SQLITE3, Connect, reading
from ..database.tables import Recorded
from ..files.plan import BASE
from ..run.status import unfinished, versions
from .copying import (
    Pages,
    check_sound,
    copies,
    copy,
    directory_of,
    held,
    is_readable,
    named,
    separate,
    silent,
    size,
    synced,
    temporary,
)


class Backup(NamedTuple):
    """A backup: its path, the version that is unfinished if no new one was taken, and what is doubtful."""

    path: str
    unfinished: str = ""
    doubt: str = ""


def take(
    database: Any,
    version: str,
    *,
    timeout: float,
    report: Pages | None = None,
    connect: Connect = SQLITE3,
) -> Backup | None:
    """Back up a path or a caller's connection to `<database>.<version>.<UTC time>.bak`.

    The backup is whole, checked and on the disk, or not there at all; it has the mode of the database.
    Nothing is replaced, and of each version the newest three are kept. While a file that runs outside a
    transaction is unfinished, the one from before it stays the newest. None if there is no database
    yet, or one in memory. Others may write meanwhile. `report` is called with the pages done and the
    pages of all; `connect` is how the application opens a path. Raises AccessError.
    """
    with separate(located(database), timeout, connect) as session:
        if not size(session):
            return None
        with snapshot(session):
            recorded = tables.read(session)
        where = session.database
        like = held(where)
        if (note := unfinished(recorded)) and (kept := copies(where, _name(recorded, version))):
            return Backup(kept[0], note.version)
        with temporary(directory_of(where)) as private:
            copy(session, private, report or silent, "")
            with synced(private.path):
                found, doubt = _checked(session, private.path, recorded)
            # Another process may have gone on since the version was read.
            return Backup(named(private, where, _name(found, version), like), doubt=doubt)


def _checked(source: Session, path: str, before: Recorded) -> tuple[Recorded, str]:
    """Return what the two tables say in a sound copy, and what is doubtful in it.

    Of one that only the caller's own connection could read, nothing is known but what was there before.
    """
    if not source.ours and not is_readable(source, path):
        return before, ""
    with reading(path, 0, source.opens) as session, interruptible(session):
        doubt = check_sound(session, source.database)
        return tables.read(session._replace(database=source.database)), doubt


def _name(recorded: Recorded, version: str) -> str:
    """Return what the log calls the version, or `version` if it does not tell, as part of a file name."""
    name = versions(recorded.log).get(recorded.value, version) if recorded.value else BASE
    return re.sub("[^A-Za-z0-9_.]", "_", name)[:64]
