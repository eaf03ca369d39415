"""Taking a backup: a copy that is whole, checked and on the disk, or not there at all."""

import re
from typing import Any

from ..database import tables
from ..database.connection import interruptible
from ..database.opening import located, reading
from ..files.plan import BASE
from .copying import Pages, check_sound, copy, named, separate, silent, size, synced, temporary


def take(database: Any, version: str, *, timeout: float, report: Pages | None = None) -> str | None:
    """Back up a path or a caller's connection to `<database>.<version>.bak`; return that path.

    The backup is whole, checked and on the disk, or not there at all; it has the mode of the database
    and replaces an older one of its name. None if there is no database yet, or one in memory. Others
    may write meanwhile. `report` is called with the pages done and the pages of all. Raises AccessError.
    """
    with separate(located(database), timeout) as session:
        if not size(session):
            return None
        with temporary(session.database) as path:
            copy(session, path, report or silent, "")
            with synced(path):
                found = _checked(path, session.database)
            # Another process may have gone on since the version was read.
            name = re.sub("[^A-Za-z0-9_.]", "_", found or version)[:64]
            return named(path, session.database, name)


def _checked(path: str, database: str) -> str:
    """Return what the log in a sound copy calls its version, empty if it does not tell."""
    with reading(path, 0) as session, interruptible(session):
        check_sound(session, database)
        recorded = tables.read(session._replace(database=database))
    if not recorded.value:
        return BASE
    return next((record.version for record in recorded.log if record.to_version == recorded.value), "")
