"""Writing the next numbered pair of migration files.

Touches one directory and no database.
"""

import errno
import os
import re

from .. import access
from ..database.opening import SQLITE3, Connect
from ..errors import AccessError, HistoryError, MigrationError, is_of_the_caller
from ..files import directory as directories

_LONGEST = 100


def create(
    name: str = "",
    migrations: "str | os.PathLike[str] | directories.Entry | None" = None,
    *,
    rebuild: str = "",
    connect: Connect = SQLITE3,
) -> tuple[str, str]:
    """Write the next pair of files, named after `name`, and return both paths.

    `name` is some words of ASCII letters, digits, spaces, "_" and "-"; it cannot lead out of the
    directory, which is made if it is missing. With `rebuild`, the name of a table, both files hold
    SQLite's rebuild of that table as it is at head, ready to be edited, and `name` can be left out; the
    migrations are played for that on an empty database in memory, opened by `connect`. Raises HistoryError
    if `name` holds anything else, if there is no such table, if the files cannot be written, or if the
    directory is that of an installed package: every database of its environment would follow; AccessError
    if it may not be written to.

    >>> create("add title", "migrations")
    ('migrations/0001_add_title.up.sql', 'migrations/0001_add_title.down.sql')
    """
    place = place_to_write(migrations)
    body = _rebuilt(rebuild, place, connect) if rebuild else ""
    name = name or (_title(rebuild) if rebuild else "")
    if not os.path.exists(place):
        _make(place)
    stem = f"{directories.number_after(directories.discover(place))}_{_slug(name)}"
    up, down = (os.path.join(place, f"{stem}.{direction}.sql") for direction in ("up", "down"))
    _write(up, f"-- {name.strip()}: why it is needed\n{body}")
    _write(down, f"-- undoes it: {name.strip()}\n{body}")
    return up, down


def _rebuilt(table: str, place: str, connect: Connect) -> str:
    """Return the rebuild of a table as it is at head."""
    from . import rebuild
    from .replay import replayed

    directory = directories.listed(place)
    with replayed(directory, directory.history, connect) as session:
        return rebuild.script(rebuild.table(session, table, place))


def _title(table: str) -> str:
    """Return a name for the rebuild of a table, whatever that is called."""
    words = "".join(each if each.isascii() and each.isalnum() else " " for each in table).split()
    return " ".join(("rebuild", *words))[:_LONGEST]


def place_to_write(migrations: "str | os.PathLike[str] | directories.Entry | None") -> str:
    """Return the directory to write files in; raise HistoryError if it is not the user's own."""
    place = directories.located(migrations)
    if not isinstance(place, str) or directories.is_installed(place):  # the first is for mypy
        raise HistoryError(
            f"{place}: these migrations belong to the installed package; nothing was written; "
            "name a directory with --migrations"
        )
    return place


def _make(place: str) -> None:
    try:
        os.makedirs(place)
    except RecursionError as error:  # it calls itself for each directory above
        raise HistoryError(f"{place}: {os.strerror(errno.ENAMETOOLONG).lower()}", file=place) from error
    except OSError as error:
        if is_of_the_caller(error):
            raise
        raise _refused(error, place) from error


def _slug(name: str) -> str:
    odd = re.search(r"[^A-Za-z0-9 _-]", name)
    if odd:
        raise HistoryError(
            f"{name!a}: {odd[0]!a} cannot be part of a name; "
            'expected letters, digits, spaces, "_" and "-"; nothing was written'
        )
    slug = "_".join(re.findall("[a-z0-9]+", name.lower()))
    if not slug:
        raise HistoryError(f"{name!a}: expected some words for a name; nothing was written")
    if len(slug) > _LONGEST:
        raise HistoryError(
            f"a name of {len(slug)} characters: expected at most {_LONGEST}; nothing was written"
        )
    return slug


def _write(path: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        if is_of_the_caller(error):
            raise
        raise _refused(error, path) from error


def _refused(error: OSError, path: str) -> MigrationError:
    """Return the error of a file or directory that cannot be made."""
    lack = access.reason(error, path, access.WRITE)
    if access.is_denial(error):
        return AccessError(access.told(lack, ""))
    return HistoryError(access.told(lack, ""), file=path)
