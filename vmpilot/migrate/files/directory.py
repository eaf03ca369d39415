"""The migration files of one directory: which migrations there are, in which order.

Reads names and bytes and nothing else: no database and no SQL may enter here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence, Set
from functools import cached_property, lru_cache
from itertools import count, pairwise
from operator import itemgetter

from .. import access
from ..errors import AccessError, HistoryError, is_of_the_caller
from ..limits import DIGITS, is_fit, is_version
from ..typed import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from .script import Script

_UP, _DOWN = ".up.sql", ".down.sql"
_FIGURES, _LETTERS = "0123456789", "abcdefghijklmnopqrstuvwxyz"
# What stands behind a name while its download has not ended, and what editors put there.
_DOWNLOADS = (".crdownload", ".download", ".icloud", ".part", ".partial")
_ADDED = (*_DOWNLOADS, ".txt")
_SHORT = 1 << 14  # bytes of a file that is worth remembering
_EXHAUSTED = {"EMFILE", "ENFILE", "ENOMEM", "EIO"}


class Entry(Protocol):
    """What is used of an `importlib.resources` Traversable.

    https://docs.python.org/3/library/importlib.resources.abc.html
    """

    @property
    def name(self) -> str: ...
    def is_file(self) -> bool: ...
    def iterdir(self) -> Iterator[Entry]: ...
    def joinpath(self, *names: str) -> Entry: ...
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

    `script` returns the checked script in a file of this name, and `checksum` that of its statements; both
    raise what `load` raises.
    """

    place: Place
    history: History
    script: Callable[[str], Script]
    checksum: Callable[[str], str]


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
    return with_files(place, discover(place))


def with_files(place: Place, history: History) -> Directory:
    """Return a directory whose files are read when they are asked for, once, whatever is done how often."""
    files = _Files(place)
    return Directory(place, history, lambda name: files[name].script, lambda name: files[name].checksum)


def discover(place: Place) -> History:
    """Return the migrations in a directory, oldest first; reads names only.

    Raises HistoryError for every name that breaks a rule, all of them at once, and AccessError for a
    directory that may not be read.
    """
    names, odd = _listing(place)
    return _built(tuple(names), str(place), tuple((name, _kind(place, name)) for name in odd))


def build(names: Sequence[str], place: str, odd: Sequence[tuple[str, str]] = ()) -> History:
    """Return the migrations that `names` make, oldest first; `place` stands before each name in messages.

    `odd` are further names, each with what it is instead of a file.
    """
    present = set(names)
    history, paired = _pairs(names, present)
    unfit: list[str] = []
    if len(history) + paired < len(present):
        unfit = _unfit(history, present)
    if unfit or odd or len({migration.number for migration in history}) < len(history):
        problems = [*_misnamed(tuple(history), unfit)]
        problems += [(name, f"{kind}, expected a file") for name, kind in sorted(odd)]
        told = "; ".join(f"{shown(place, name)}: {what}" for name, what in problems)
        raise HistoryError(told, file=shown(place, problems[0][0]))
    return tuple(history)


_built = lru_cache(4)(build)  # who looks at a directory again nearly always finds the same names in it


def _pairs(names: Iterable[str], present: Container[str]) -> tuple[list[Migration], int]:
    """Return the migrations whose names are right, by number, and how many of them have a down."""
    history: list[Migration] = []
    paired = 0
    for up in names:
        if up.endswith(_UP) and (parts := _parts(stem := up.removesuffix(_UP))):
            digits, name = parts
            down = stem + _DOWN
            if down in present:
                paired += 1
            else:
                down = ""
            history.append(Migration(int(digits), digits, name, up, down))
    history.sort(key=itemgetter(0))
    return history, paired


def _unfit(history: Iterable[Migration], present: Set[str]) -> list[str]:
    """Return the names that are meant to be migration files and break a rule."""
    fit = {name for migration in history for name in (migration.up, migration.down)}
    return sorted(name for name in present - fit if _is_meant(name, fit))


class Gathered(NamedTuple):
    """What is in a directory in which numbers may be shared and names be wrong, by number.

    `lone` are the down files without an up; `free` is the next free number.
    """

    pairs: History
    lone: tuple[str, ...]
    free: str


def gathered(place: Place) -> Gathered:
    """Return what is in a directory, whatever is wrong with it; reads names only."""
    names, _ = _listing(place)
    pairs, _ = _pairs(names, set(names))
    unfit = _unfit(pairs, {*names})
    return Gathered(tuple(sorted(pairs)), tuple(filter(_is_lone, unfit)), next(_free(tuple(pairs), unfit)))


def _parts(stem: str) -> tuple[str, str] | None:
    """Return number and name of the migration whose up file is `<stem>.up.sql`, None where none can be."""
    for sign in "_-":
        digits, found, name = stem.partition(sign)
        if is_version(digits):
            fits = not found or (name and is_fit(name) and not name.endswith((".up", ".down")))
            return (digits, name) if fits else None
    return None


def _is_meant(name: str, fit: Container[str]) -> bool:
    """Tell whether an entry looks as if it were meant to be a migration file that is not there."""
    meant = _meant(name)
    return bool(meant) and (meant == name or meant not in fit)


def _meant(name: str) -> str:
    """Return the name that an entry was meant to have as a migration file, empty for any other entry.

    A hidden one is none, but for what stands for a file that is still in iCloud: `.0001_x.up.sql.icloud`.
    """
    name = name.rstrip()
    stem, ending = os.path.splitext(name)
    if ending.lower() in _ADDED and stem.lstrip(".")[:1].isdigit() and stem.lower().endswith(".sql"):
        name = stem.removeprefix(".") if ending.lower() == ".icloud" else stem
    return name if name.lower().endswith(".sql") and not name.startswith(".") else ""


def lack_of_down(migration: Migration) -> str:
    """Say which file a migration lacks that has no down."""
    return f"no {migration.up.removesuffix(_UP)}{_DOWN} beside it"


def number_after(history: History) -> str:
    """Return the next free number, as wide as the newest version and at least four digits."""
    if not history:
        return "0001"
    return str(history[-1].number + 1).zfill(max(4, len(history[-1].version)))


def load(place: Place, name: str) -> Script:
    """Read and check one file of a migration.

    Raises HistoryError if it is not there or breaks a rule, AccessError if it may not be read.
    """
    return _file(place, name).script


class _File:
    """A checked file; its checksum is made when it is first asked for."""

    def __init__(self, script: Script) -> None:
        self.script = script

    @cached_property
    def checksum(self) -> str:
        from .script import checksum

        return checksum(self.script)


class _Files(dict[str, _File]):
    """The files of a directory, each read when it is first asked for."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __missing__(self, name: str) -> _File:
        self[name] = found = _file(self.place, name)
        return found


def _file(place: Place, name: str) -> _File:
    """Read and check one file; raises what `load` raises."""
    path = shown(place, name)
    try:
        data = _read(_inside(place, name)) if isinstance(place, str) else place.joinpath(name).read_bytes()
    except (OSError, ValueError) as error:
        if is_of_the_caller(error):
            raise
        raise _unreadable(path, error) from error
    return (_known if len(data) <= _SHORT else _checked)(path, data)


def _read(path: str) -> bytes:
    """Read a whole file; nearly always a short one, whose size is not asked for.

    By an object, which the collector closes where a signal comes before it has a name.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read(_SHORT)
        more = file.read(1)
        return data + more + file.read() if more else data


def _checked(path: str, data: bytes) -> _File:
    from .script import parse  # not loaded by a start-up that opens no file

    return _File(parse(path, data, "up" if path.endswith(_UP) else "down"))


# Who migrates many databases reads the same files for each; what they say follows from their bytes alone.
_known = lru_cache(64)(_checked)


def located(migrations: str | os.PathLike[str] | Entry | None) -> Place:
    """Return the place of the migrations that a caller named, or of the bundled ones."""
    if migrations is None:
        return _bundled()
    if isinstance(migrations, str | os.PathLike):
        if not os.fspath(migrations).strip():
            raise HistoryError("the path of the migrations is empty; nothing was changed")
        place = os.fspath(migrations)
        odd = access.impossible(place) or access.unlikely(place)
        if odd and not os.path.isdir(place):
            raise HistoryError(f"{place}: the path of the migrations {odd}; nothing was changed")
        return place
    if hasattr(migrations, "iterdir"):
        return migrations
    raise TypeError(f"migrations: expected a path or a Traversable, not {type(migrations).__name__}")


def is_installed(place: Place) -> bool:
    """Tell whether these are the migrations of an installed package, which belong to it."""
    own = os.path.join(_package(), "migrations")
    return not isinstance(place, str) or os.path.realpath(place) == os.path.realpath(own)


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
    try:
        entries = _entries(place)
        names = _files(entries)
    except (OSError, ValueError) as error:
        if is_of_the_caller(error):
            raise
        raise _unreadable(str(place), error) from error
    if len(names) == len(entries):
        return names, []
    odd = {entry.name for entry in entries}.difference(names)
    return names, [name for name in odd if _is_meant(name, names)]


def _entries(place: Place) -> Sequence[os.DirEntry[str] | Entry]:
    if not isinstance(place, str):
        return list(place.iterdir())
    with os.scandir(place) as entries:
        return list(entries)


def _files(entries: Iterable[os.DirEntry[str] | Entry]) -> list[str]:
    try:
        return [entry.name for entry in entries if entry.is_file()]
    except OSError as error:  # of one entry, or of the caller
        if is_of_the_caller(error):
            raise
        return [entry.name for entry in entries if _is_file(entry)]


def _is_file(entry: os.DirEntry[str] | Entry) -> bool:
    try:
        return entry.is_file()
    except OSError as error:  # a link that leads to itself
        if is_of_the_caller(error):
            raise
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

    if isinstance(error, OSError) and access.is_denial(error):
        return AccessError(access.told(access.reason(error, path, access.READ), "nothing was changed"))
    number = getattr(error, "errno", None) or (errno.ENOENT if isinstance(error, FileNotFoundError) else 0)
    if errno.errorcode.get(number) in _EXHAUSTED:
        return AccessError(f"{path}: {os.strerror(number)}; nothing was changed")
    reason = os.strerror(number).lower() if number else str(error)
    if reason == "Can't listdir a file":  # what a zip file's Traversable says
        reason = "not a directory"
    path = path if path.isprintable() else ascii(path)[1:-1]
    return HistoryError(f"{path}: {reason}", file=path)


def shown(place: Place, name: str) -> str:
    """Return where a file is, as messages show it."""
    printable = name if name.isprintable() else ascii(name)[1:-1]
    return _inside(str(place), printable)


def _inside(directory: str, name: str) -> str:
    """Return the path of what a directory holds under a name, in a tenth of the time of `os.path.join`."""
    return f"{directory}/{name}" if directory[-1:] not in ("", "/") else directory + name


# --- what is wrong with names, and the names that are proposed


def _misnamed(history: History, unfit: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that breaks a rule and what is wrong with it; no free number is told twice."""
    free = _free(history, unfit)
    for older, newer in pairwise(sorted(history)):
        if older.number == newer.number:
            yield newer.up, f"has the number of {older.up}; the next free number is {next(free)}"
    lone = {name for name in unfit if _is_lone(name)}
    good = {name for migration in history for name in (migration.up, migration.down) if name}
    taken = sorted(good | lone, reverse=True)  # so that of two with one number the one that keeps it is last
    proposals = _proposals([name for name in unfit if name not in lone], taken, free)
    for name in unfit:
        if name in lone:
            yield name, f"expected {name.removesuffix('.down.sql')}.up.sql beside it"
        elif name.rstrip().lower().endswith(_DOWNLOADS):
            yield name, f"a download that has not ended, expected {proposals[name]}"
        else:
            yield name, f"expected a name like {proposals[name]}"


def _is_lone(name: str) -> bool:
    """Tell whether all that is wrong with a name is that it is a down's without its up."""
    return name.endswith(".down.sql") and _parts(name.removesuffix(".down.sql")) is not None


def _free(history: History, unfit: Iterable[str]) -> Iterator[str]:
    """Yield the numbers that no file has and no unfit name wants, as `number_after` writes them."""
    numbers = [0, *(migration.number for migration in history), *(_wanted(name)[0] for name in unfit)]
    width = len(number_after(history))
    return (str(number).zfill(width) for number in count(max(numbers) + 1))


def _proposals(unfit: Iterable[str], good: Iterable[str], free: Iterator[str]) -> dict[str, str]:
    """Return for each unfit name the one that it probably wants: none that is there, and none twice.

    Two halves of a pair stay together.
    """
    stems = {_wanted(name)[:2]: name.rpartition(".sql")[0].rpartition(".")[0] for name in good}
    numbers, taken = {-1, *(number for number, _ in stems)}, {*good}
    found: dict[str, str] = {}
    for name in unfit:
        number, title, direction = _wanted(name)
        stem = stems.get((number, title), "")
        if number not in numbers:
            stem = _joined(_digits(name), title)
        if not stem or f"{stem}.{direction}.sql" in taken:
            stem = _joined(next(free), title)
        stems[number, title] = stem
        numbers.add(number)
        found[name] = f"{stem}.{direction}.sql"
        taken.add(found[name])
    return found


def _wanted(name: str) -> tuple[int, str, str]:
    """Return the number that a name wants, -1 for none, its title and its direction."""
    digits = _digits(name)
    lower = _meant(name).strip().lower()
    direction = "down" if "down" in _words(lower, _LETTERS) else "up"
    words = _words(lower[len(digits) :], _LETTERS + _FIGURES)
    title = "_".join(word for word in words if word not in ("up", "down", "sql"))
    return int(digits or -1), title, direction


def _digits(name: str) -> str:
    meant = _meant(name).strip()
    return meant[: len(meant) - len(meant.lstrip(_FIGURES))][:DIGITS]


def _words(text: str, kept: str) -> list[str]:
    return "".join(character if character in kept else " " for character in text).split()


def _joined(digits: str, title: str) -> str:
    return "_".join(filter(None, (digits.zfill(4), title)))
