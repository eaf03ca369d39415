"""How the copies of a database are named that lie beside it: `<database>.<name>.<UTC time>.bak`.

The name is the version that was copied, or `before-restore`. No database is opened here.
"""

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from ..errors import passed_over

BEFORE_RESTORE = "before-restore"
HEADER = b"SQLite format 3\0"
_TIME = r"20[0-9]{6}T[0-9]{6}\.[0-9]{3}Z"


class Copied(NamedTuple):
    """What the name of a copy tells; `time` can be compared, and is a date if it was made here."""

    time: str
    name: str
    file: str


def path_now(database: str, name: str) -> str:
    """Return the path of a copy that is made now."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return f"{database}.{name}.{now}Z.bak"


def among(database: str, files: Iterable[str]) -> Iterator[Copied]:
    """Yield those of the file names beside a database that are names of its copies."""
    fits = re.compile(
        rf"{re.escape(os.path.basename(database))}\.([A-Za-z0-9_.-]+)\.({_TIME})\.bak"
    ).fullmatch
    for match in filter(None, map(fits, files)):
        yield Copied(match[2], match[1], match[0])


def is_copy(path: str) -> bool:
    """Tell whether a file is named as a copy of whichever database."""
    return re.search(rf"\.[A-Za-z0-9_-]+\.{_TIME}\.bak$", path) is not None


def is_plain(path: str) -> bool:
    """Tell whether a copy begins as a database does, and is not encrypted as a whole.

    https://www.sqlite.org/fileformat2.html#magic_header_string
    """
    with passed_over(OSError):
        if os.path.isfile(path):  # a pipe would be waited for
            with open(path, "rb") as file:
                return file.read(len(HEADER)) == HEADER
    return False


def newest(database: str) -> str:
    """Return the newest backup beside a database, "" if there is none.

    Not what a restore kept, which may be as damaged as the database.
    """
    directory = os.path.dirname(database)
    with passed_over(OSError, ValueError):
        found = among(database, os.listdir(directory or os.curdir))
        if last := max((each for each in found if each.name != BEFORE_RESTORE), default=None):
            return os.path.join(directory, last.file)
    return ""


def moment(copied: Copied) -> str:
    """Return the time in ISO 8601; raises ValueError if it is none."""
    at = datetime.strptime(copied.time[:-1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
