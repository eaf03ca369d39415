"""Taking a backup: a copy that is whole, checked and on the disk, or not there at all."""

import re
from typing import Any, NamedTuple

from ..database import tables
from ..database.connection import interruptible, snapshot
from ..database.names import located
from ..database.opening import reading
from ..database.tables import Recorded
from ..files.plan import BASE
from ..run.status import unfinished, versions
from .copying import (
    Pages,
    check_sound,
    copies,
    copy,
    directory_of,
    named,
    refuse_link_of_another,
    separate,
    silent,
    size,
    synced,
    temporary,
)


class Backup(NamedTuple):
    """A backup: its path and, if no new one was taken, the version that began and is unfinished."""

    path: str
    unfinished: str = ""


def take(database: Any, version: str, *, timeout: float, report: Pages | None = None) -> Backup | None:
    """Back up a path or a caller's connection to `<database>.<version>.<UTC time>.bak`.

    The backup is whole, checked and on the disk, or not there at all; it has the mode of the database.
    Nothing is replaced, and of each version the newest three are kept. While a file that runs outside a
    transaction is unfinished, the one from before it stays the newest. None if there is no database
    yet, or one in memory. Others may write meanwhile. `report` is called with the pages done and the
    pages of all. Raises AccessError.
    """
    with separate(located(database), timeout) as session:
        if not size(session):
            return None
        with snapshot(session):
            recorded = tables.read(session)
        where = session.database
        refuse_link_of_another(where)
        if (note := unfinished(recorded)) and (kept := copies(where, _name(recorded, version))):
            return Backup(kept[0], note.version)
        with temporary(directory_of(where)) as private:
            copy(session, private.path, report or silent, "")
            with synced(private.path):
                found = _checked(private.path, where)
            # Another process may have gone on since the version was read.
            return Backup(named(private, where, _name(found, version)))


def _checked(path: str, database: str) -> Recorded:
    """Return what the two tables say in a sound copy."""
    with reading(path, 0) as session, interruptible(session):
        check_sound(session, database)
        return tables.read(session._replace(database=database))


def _name(recorded: Recorded, version: str) -> str:
    """Return what the log calls the version, or `version` if it does not tell, as part of a file name."""
    name = versions(recorded.log).get(recorded.value, version) if recorded.value else BASE
    return re.sub("[^A-Za-z0-9_.]", "_", name)[:64]
