"""The next free number for a pair of files that nobody has applied: what two branches need that met.

Touches file names and nothing in the files; the database is only asked whether it has applied them.
"""

import errno
import os
from os import PathLike
from typing import Any

from .. import access
from ..database.connection import UNCHANGED, snapshot
from ..database.names import is_missing, located
from ..database.opening import SQLITE3, Connect, reading
from ..errors import AccessError, HistoryError, MigrationError, VersionError, is_of_the_caller
from ..files import directory as directories
from ..files.directory import Gathered, Migration, shown, with_files
from ..files.plan import number_of
from ..run import status
from ..run.request import mending
from .create import place_to_write


def renumber(
    name: str,
    database: Any = None,
    migrations: "str | PathLike[str] | directories.Entry | None" = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
) -> tuple[str, str | None]:
    """Give the files of a migration the next free number; return their new paths, None for a missing down.

    `name` is a version or the name of a file, with or without its ending; where two files share a number,
    it says which. What else is wrong with the directory is no hindrance. The down is renamed before the up:
    cut short between the two, no command takes the files for migrations, and the same call ends it. Nothing
    is overwritten. Raises VersionError for a migration that is applied to `database`, if that exists, or of
    which its log does not tell; HistoryError for a name that there is not or that means two; AccessError.

    >>> _ = create("add title", "migrations"), create("add tags", "migrations")
    >>> renumber("0001", "app.db", "migrations")
    ('migrations/0003_add_title.up.sql', 'migrations/0003_add_title.down.sql')
    """
    place, where = place_to_write(migrations), located(database, create=create)
    found = directories.gathered(place)
    migration = _named(name, found, place)
    reached = _reached(where, place, found, migration, timeout, connect)
    free = max(found.free, str(reached + 1).zfill(len(found.free)), key=int)
    if begun := _begun(migration, found):
        free = begun
    elif _is_alone(migration, found) and reached < migration.number == int(free) - 1:
        file = shown(place, migration.up)
        raise VersionError(f"{file}: has the newest number; {UNCHANGED}", version=migration.version)
    return _renamed(place, migration, free, begun=bool(begun))


def _is_alone(migration: Migration, found: Gathered) -> bool:
    return [each.number for each in found.pairs].count(migration.number) == 1


def _named(name: str, found: Gathered, place: str) -> Migration:
    """Return the migration that a name means."""
    stem = os.path.basename(name).removesuffix(".sql").removesuffix(".up").removesuffix(".down")
    same = [each for each in found.pairs if each.up == f"{stem}.up.sql"]
    same = same or [each for each in found.pairs if each.number == number_of(name)]
    if len(same) == 1:
        return same[0]
    if not same:
        expected = "expected a version or a name like 0003_add_title"
        raise HistoryError(f"{place}: no migration is named {name!a}; {expected}; {UNCHANGED}", file=place)
    names = " and ".join(each.up.removesuffix(".up.sql") for each in same)
    raise HistoryError(f'{place}: "{name}" can mean {names}; {UNCHANGED}; say which', file=place)


def _reached(
    database: Any, place: str, found: Gathered, migration: Migration, timeout: float, connect: Connect
) -> int:
    """Return the number that a database has reached, -1 for none; raise if it has applied the migration."""
    if isinstance(database, str) and is_missing(database):
        return -1
    others = {each.number: each for each in found.pairs} | {migration.number: migration}
    history = tuple(sorted(others.values()))
    directory = with_files(place, history)
    with mending(place), reading(database, timeout, connect) as session, snapshot(session):
        at = status.read(session, directory)
        status.refuse_applied(at, migration)
    return at.reached


def _begun(migration: Migration, found: Gathered) -> str:
    """Return the number that a call which was cut short has given the down already, "" if none has.

    Such a call goes above all that are there, and only a name tells whose down it is.
    """
    title = migration.up.removesuffix(".up.sql")[len(migration.version) :]
    if migration.down or not title:
        return ""
    above = max(each.number for each in found.pairs)
    stems = [lone.removesuffix(".down.sql") for lone in found.lone]
    begun = [stem.removesuffix(title) for stem in stems if stem.endswith(title)]
    numbers = {stem: number for stem in begun if (number := number_of(stem)) is not None}
    return next((stem for stem, number in numbers.items() if number > above), "")


def _renamed(place: str, migration: Migration, free: str, *, begun: bool) -> tuple[str, str | None]:
    """Rename the files, the up last: it alone makes a migration."""
    title = migration.up.removesuffix(".up.sql")[len(migration.version) :]
    up, down = (os.path.join(place, f"{free}{title}.{direction}.sql") for direction in ("up", "down"))
    if migration.down:
        _rename(os.path.join(place, migration.down), down)
    try:
        _rename(os.path.join(place, migration.up), up)
    except MigrationError:
        if migration.down:
            _rename(down, os.path.join(place, migration.down))
        raise
    return up, down if migration.down or begun else None


def _rename(old: str, new: str) -> None:
    try:
        if os.path.lexists(new):  # which a rename would overwrite
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(old, new)
    except OSError as error:
        if is_of_the_caller(error):
            raise
        told = access.told(access.reason(error, new, access.WRITE), "nothing was renamed")
        raise (AccessError(told) if access.is_denial(error) else HistoryError(told, file=new)) from error
