"""The migration files of one directory: which migrations there are, in which order.

Reads names and bytes and nothing else: no database and no SQL may enter here.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import AccessError, HistoryError

if TYPE_CHECKING:
    from .script import Script

# A name is printed and written to the log: no control characters, and nothing that is not UTF-8.
_UP = re.compile(r"([0-9]{1,32})(?:[_-]([^\x00-\x1f\x7f\ud800-\udfff]+)(?<!\.up)(?<!\.down))?\.up\.sql")
_EXHAUSTED = {"EMFILE", "ENFILE", "ENOMEM", "EIO"}


class Entry(Protocol):
    """What is used of an `importlib.resources` Traversable.

    https://docs.python.org/3/library/importlib.resources.abc.html
    """

    @property
    def name(self) -> str: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def iterdir(self) -> Iterator["Entry"]: ...
    def joinpath(self, *names: str) -> "Entry": ...
    def read_bytes(self) -> bytes: ...


Place = str | Entry


class Migration(NamedTuple):
    """One numbered pair of files, or what the log remembers of one (then both names are empty)."""

    number: int
    version: str
    name: str
    up: str
    down: str


History = tuple[Migration, ...]


class Directory(NamedTuple):
    """A directory of migrations as one call sees it: listed once, and each file read at most once.

    `script` returns the checked script in a file of this name; it raises what `load` raises.
    """

    place: Place
    history: History
    script: "Callable[[str], Script]"


def listed(place: Place) -> Directory:
    """List a directory of migrations.

    Raises HistoryError for a name that breaks a rule, and where there is no migration: an empty volume
    that is mounted over them must neither start an application without tables nor undo a database.
    """
    directory = listed_even_if_empty(place)
    if not directory.history:
        raise HistoryError(
            f"{place}: no migrations in here; expected files like 0001_initial_schema.up.sql",
            file=str(place),
        )
    return directory


def listed_even_if_empty(place: Place) -> Directory:
    """List a directory in which there need not be a migration yet; raises what `discover` raises."""
    return Directory(place, discover(place), cache(partial(load, place)))


def discover(place: Place) -> History:
    """Return the migrations in a directory, oldest first; reads names only.

    Raises HistoryError for every name that breaks a rule, all of them at once.
    """
    names, odd = _listing(place)
    return build(names, str(place), {name: _kind(place, name) for name in odd})


def build(names: Sequence[str], place: str, odd: Mapping[str, str] | None = None) -> History:
    """Return the migrations that `names` make, oldest first; `place` stands before each name in messages.

    `odd` tells of further names what they are instead of files.
    """
    present = set(names)
    history: list[Migration] = []
    paired = 0
    match_up = _UP.fullmatch
    for up in names:
        if up.endswith(".up.sql") and (match := match_up(up)):
            digits, name = match.groups("")
            down = f"{up[:-7]}.down.sql"
            if down in present:
                paired += 1
            else:
                down = ""
            history.append(Migration(int(digits), digits, name, up, down))
    history.sort(key=itemgetter(0))
    problems = _doubles(history)
    if len(history) + paired < len(present):
        rest = present - {migration.up for migration in history} - {migration.down for migration in history}
        problems += [(name, _misnamed(name)) for name in sorted(rest) if _is_meant(name)]
    problems += [(name, f"{kind}, expected a file") for name, kind in sorted((odd or {}).items())]
    if problems:
        told = "; ".join(f"{shown(place, name)}: {what}" for name, what in problems)
        raise HistoryError(told, file=shown(place, problems[0][0]))
    return tuple(history)


def _is_meant(name: str) -> bool:
    """Tell whether an entry looks as if it were meant to be a migration file."""
    return name.lower().endswith(".sql") and not name.startswith(".")


def _misnamed(name: str) -> str:
    stem = name.removesuffix(".down.sql")
    if stem != name and _UP.fullmatch(f"{stem}.up.sql"):
        return f"expected {stem}.up.sql beside it"
    return f"expected a name like {_proposal(name)}"


def number_after(history: History) -> str:
    """Return the next free number, as wide as the newest version and at least four digits."""
    if not history:
        return "0001"
    return str(history[-1].number + 1).zfill(max(4, len(history[-1].version)))


def load(place: Place, name: str) -> "Script":
    """Read and check one file of a migration.

    Raises HistoryError if it cannot be read or breaks a rule.
    """
    from .script import parse  # not loaded by a start-up that opens no file

    path = shown(place, name)
    try:
        if isinstance(place, str):
            with open(os.path.join(place, name), "rb") as file:
                data = file.read()
        else:
            data = place.joinpath(name).read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return parse(path, data, "up" if name.endswith(".up.sql") else "down")


def located(migrations: "str | os.PathLike[str] | Entry | None") -> Place:
    """Return the place of the migrations that a caller named, or of the bundled ones."""
    if migrations is None:
        return _bundled()
    if isinstance(migrations, str | os.PathLike):
        return os.fspath(migrations)
    if hasattr(migrations, "iterdir"):
        return migrations
    raise TypeError(f"migrations: expected a path or a Traversable, not {type(migrations).__name__}")


def is_installed(place: str) -> bool:
    """Tell whether these are the migrations of an installed package, which belong to it."""
    return os.path.realpath(place) == os.path.realpath(os.path.join(_package(), "migrations"))


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _bundled() -> Place:
    """Return the migrations that ship with the package: inside it when installed, beside it in a checkout."""
    package = _package()
    for place in (os.path.join(package, "migrations"), os.path.join(os.path.dirname(package), "migrations")):
        if os.path.isdir(place):
            return place
    from importlib.resources import files  # only a package inside a zip file pays for this import

    return files("vmpilot").joinpath("migrations")


def _listing(place: Place) -> tuple[list[str], list[str]]:
    """Return the names of all files in a directory, and of what ends in .sql and is no file."""
    names: list[str] = []
    odd: list[str] = []
    try:
        if isinstance(place, str):
            with os.scandir(place) as entries:
                for entry in entries:
                    (names if _is_file(entry) else odd).append(entry.name)
        else:
            for part in place.iterdir():
                (names if part.is_file() else odd).append(part.name)
    except (OSError, ValueError) as error:
        raise _unreadable(str(place), error) from error
    return names, [name for name in odd if _is_meant(name)]


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _kind(place: Place, name: str) -> str:
    if not isinstance(place, str):
        return "not a file"
    path = os.path.join(place, name)
    if os.path.isdir(path):
        return "a directory"
    return "a special file" if os.path.exists(path) else "a link to nothing"


def _unreadable(path: str, error: OSError | ValueError) -> HistoryError | AccessError:
    import errno

    number = getattr(error, "errno", None) or (errno.ENOENT if isinstance(error, FileNotFoundError) else 0)
    if errno.errorcode.get(number) in _EXHAUSTED:
        return AccessError(f"{path}: {os.strerror(number)}; nothing was changed")
    reason = os.strerror(number).lower() if number else str(error)
    if reason == "Can't listdir a file":  # what a zip file's Traversable says
        reason = "not a directory"
    path = path if path.isprintable() else ascii(path)[1:-1]
    return HistoryError(f"{path}: {reason}", file=path)


def _doubles(history: list[Migration]) -> list[tuple[str, str]]:
    if len({migration.number for migration in history}) == len(history):
        return []
    free = number_after(tuple(history))
    pairs = [pair for pair in pairwise(sorted(history)) if pair[0].number == pair[1].number]
    return [
        (newer.up, f"has the number of {older.up}; the next free number is {free}") for older, newer in pairs
    ]


def shown(place: Place, name: str) -> str:
    """Return where a file is, as messages show it."""
    printable = name if name.isprintable() else ascii(name)[1:-1]
    return os.path.join(str(place), printable)


def _proposal(name: str) -> str:
    """Return the name that a file with an unfit name probably wants."""
    lower = name.lower()
    direction = "down" if "down" in re.split("[^a-z]+", lower) else "up"
    digits = re.match("[0-9]{0,32}", name)
    words = [word for word in re.split("[^a-z0-9]+", lower[digits.end() if digits else 0 :]) if word]
    kept = [word for word in words if word not in ("up", "down", "sql")]
    return "_".join([(digits[0] if digits and digits[0] else "1").zfill(4), *kept]) + f".{direction}.sql"
