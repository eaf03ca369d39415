"""Where a database is, seen from the files, and every problem with that.

The one judge: a run raises the first of these problems, `check` lists them all, `history` shows them as
states. Nothing is written here, and no migration is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

from ..database import tables
from ..database.connection import UNCHANGED, Session
from ..database.tables import Record, Recorded
from ..errors import HistoryError, MigrationError, VersionError
from ..files import directory as directories
from ..files import plan
from ..files.directory import Directory, History, Migration, shown
from ..files.plan import known, number_of
from ..limits import DIGITS
from ..typed import NamedTuple

# Above every number that a file name can hold: the floor of a database about which nothing was logged.
_EVERYTHING = 10**DIGITS


class Status(NamedTuple):
    """A database seen from the files.

    `timeline` is what steps can move along: the migrations that have files, less the late ones,
    plus those that only the log knows; `position` counts those that are applied. Everything up to the
    number `reached` counts as passed; it is -1 at base. `known` tells whether it is the number of a
    migration in the timeline. `applied` are the rows of the log that tell of applied migrations.
    """

    database: str
    directory: Directory
    recorded: Recorded
    timeline: History
    position: int
    reached: int
    known: bool
    applied: Mapping[int, Record]
    late: History


def status(database: str, recorded: Recorded, directory: Directory) -> Status:
    """Return what the two tables mean for these files; opens the files only if their names do not tell."""
    history = directory.history
    applied, floor = _fold(recorded)
    number = _current_number(recorded, directory)
    reached = max(applied, default=-1) if number is None else number
    late = tuple(
        migration
        for migration in history
        if floor < migration.number <= reached and migration.number not in applied
    )
    numbers = {migration.number for migration in history}
    gone = [
        Migration(known, record.version, record.name, "", "")
        for known, record in applied.items()
        if known not in numbers
    ]
    timeline = history
    if late or gone:
        timeline = tuple(sorted({*history, *gone} - set(late)))
    position = sum(migration.number <= reached for migration in timeline)
    known = number == plan.number(timeline, position)
    return Status(database, directory, recorded, timeline, position, reached, known, applied, late)


def recorded(session: Session, directory: Directory) -> Recorded:
    """Return what the two tables say; raise VersionError, with the way out, where that makes no sense."""
    try:
        return tables.read(session)
    except VersionError as error:
        remedy = command(session.database, directory, "stamp VERSION")
        raise VersionError(f"{error}; to set the version, run: {remedy}") from error


def read(session: Session, directory: Directory) -> Status:
    """Return the status of the database that is open."""
    return status(session.database, recorded(session, directory), directory)


def moved(before: Status, position: int, value: str) -> Status:
    """Return the status after a step that led to this position and value."""
    reached = plan.number(before.timeline, position)
    recorded = Recorded(value, before.recorded.log)
    return before._replace(recorded=recorded, position=position, reached=reached, known=True)


def version(at: Status) -> str:
    """Return the current version as a person reads it: a version, base, or the unknown value itself."""
    if not at.known:
        return at.recorded.value
    return plan.version(at.timeline, at.position)


def has_files(at: Status) -> bool:
    """Tell whether the current version is base or that of a migration with files."""
    return at.known and (not at.position or bool(at.timeline[at.position - 1].up))


def pending(at: Status) -> History:
    """Return the migrations with files above the current version."""
    return tuple(migration for migration in at.directory.history if migration.number > at.reached)


def is_at_head(at: Status) -> bool:
    """Tell whether everything that has files is applied, and nothing else."""
    return has_files(at) and not pending(at) and not any(_misplaced(at))


def state(at: Status, migration: Migration) -> str:
    """Return how a migration stands: applied, pending, edited, other, late or unknown."""
    if migration in at.late:
        return "late"
    if not migration.up:
        return "unknown"
    if migration.number > at.reached:
        return "pending"
    if not is_edited(at, migration):
        return "applied"
    return "other" if _is_renamed(at, migration) else "edited"


def is_edited(at: Status, migration: Migration) -> bool:
    """Tell whether an applied migration says something else now than when it was applied."""
    record = at.applied.get(migration.number)
    if not record or not record.checksum or not migration.up:
        return False
    return record.checksum != at.directory.checksum(migration.up)


def _is_renamed(at: Status, migration: Migration) -> bool:
    record = at.applied.get(migration.number)
    return bool(record and record.name and migration.name and record.name != migration.name)


Problems = Iterator[tuple[str, MigrationError]]


def problems(at: Status) -> Problems:
    """Yield all that is wrong with where a database is: a kind, and the error that says it.

    The kinds are unknown, late, other, edited and unfinished.
    """
    if not has_files(at):
        yield "unknown", unknown(at)
    yield from _misplaced(at)
    yield from _edited_files(at)
    yield from _renumbered_files(at)
    if note := unfinished(at.recorded):
        yield "unfinished", _unfinished(at, note)


def refuse_upgrade(at: Status) -> None:
    """Raise the first problem that keeps an upgrade from being planned; opens no file but a renamed one."""
    if not has_files(at):
        raise unknown(at)
    _raise_first(_misplaced(at))


def refuse_downgrade(at: Status) -> None:
    """Raise the first problem that keeps a downgrade from being planned; a late file is not in its way."""
    if not at.known:
        raise unknown(at)
    _raise_first((kind, error) for kind, error in _misplaced(at) if kind == "other")


def refuse_applied(at: Status, migration: Migration) -> None:
    """Raise VersionError for a migration that is applied, or of which nothing tells that it is not.

    Whatever else has its number: what is applied is known by its name and by what it says.
    """
    for found, record in _renumbered(at):
        if found == migration:
            raise _elsewhere(at, migration, record)
    if state(at, migration) not in ("applied", "edited"):
        return
    file, known = shown(at.directory.place, migration.up), migration.number in at.applied
    told = "applied to" if known else "nothing tells that it is not applied to"
    raise VersionError(f"{file}: {told} {at.database}; {UNCHANGED}", version=migration.version)


def refuse_edited(at: Status) -> None:
    """Raise the first problem with the files that were applied; reads them all."""
    _raise_first(_edited_files(at))
    _raise_first(_renumbered_files(at))


def refuse_unfinished(at: Status) -> None:
    """Raise the problem of a database that a file outside a transaction has left half-way."""
    if note := unfinished(at.recorded):
        raise _unfinished(at, note)


def _raise_first(found: Problems) -> None:
    for _, error in found:
        raise error


def _misplaced(at: Status) -> Problems:
    """Yield what is wrong with the names of the files."""
    for error in _late(at):
        yield "late", error
    for migration in at.timeline[: at.position]:
        if _is_renamed(at, migration) and is_edited(at, migration):
            yield "other", _other(at, migration)


def _edited_files(at: Status) -> Problems:
    for migration in at.timeline[: at.position]:
        if state(at, migration) == "edited":
            yield "edited", _edited(at, migration)


def _renumbered_files(at: Status) -> Problems:
    for migration, record in _renumbered(at):
        if migration not in at.late and record.to_version != at.recorded.value:  # these are told already
            yield "other", _elsewhere(at, migration, record)


def unknown(at: Status) -> VersionError:
    """Return the error that says that no file stands for the current version, with the way out."""
    from ..files.script import is_revision

    history, value = at.directory.history, version(at)
    number, newest = number_of(value), plan.number(history, len(history))
    stamp = command(at.database, at.directory, "stamp VERSION")
    newer, remedy = "", f"to record another version, run: {stamp}"
    renumbered = [found for found in _renumbered(at) if found[1].version == value]
    if renumbered:
        remedy = f"rename the files of {full_name(renumbered[0][0])} back to {full_name(renumbered[0][1])}"
    elif number is not None and number > newest:
        newer = "it was upgraded by newer code; "
        remedy = _back(at) if at.known else stamp_below(at, number)
    elif at.known:
        remedy = f"put the files of {full_name(at.timeline[at.position - 1])} back"
    elif number is None and is_revision(value):
        remedy = f"declare it in the up file with the same effect: -- vmpilot: revision {value}"
    return VersionError(f"{unknown_words(at)}; {newer}{UNCHANGED}; {remedy}", version=value)


def _back(at: Status) -> str:
    """Return the way back from newer code: what it did is undone, if the log kept how, else it stays."""
    kept = {record.version: record.undoable for record in at.recorded.log if record.action == "upgrade"}
    above = takewhile(lambda migration: not migration.up, reversed(at.timeline[: at.position]))
    if all(kept.get(migration.version) for migration in above):
        return f"to take it back, run: {command(at.database, at.directory, 'downgrade head')}"
    return f"its log keeps no way back; {stamp_below(at, _EVERYTHING)}"


def stamp_below(at: Status, number: int) -> str:
    """Return the way past a migration that nothing can undo: to record the version below it."""
    below = [migration.version for migration in at.directory.history if migration.number < number]
    version = below[-1] if below else plan.BASE
    stamp = command(at.database, at.directory, f"stamp {version}")
    return f"to record {version} and leave the rest as it is, run: {stamp}"


def _renumbered(at: Status) -> Iterator[tuple[Migration, Record]]:
    """Yield each file that is not applied under its number but was under another one, which has no file."""
    gone = [(migration.name, at.applied[migration.number]) for migration in at.timeline if not migration.up]
    if not gone:
        return
    for migration in (*at.late, *pending(at)):
        for name, record in gone:
            if name == migration.name and record.checksum == at.directory.checksum(migration.up):
                yield migration, record


def unknown_words(at: Status) -> str:
    """Say that no file stands for the current version."""
    return f"{at.database} is at {version(at)}, but this code knows only {known(at.directory.history)}"


def unfinished(recorded: Recorded) -> Record | None:
    """Return the note of a no-transaction file that began and was cut short, if that came last."""
    note = recorded.log[-1] if recorded.log and recorded.log[-1].action == "start" else None
    return note if note and note.from_version == recorded.value else None


def full_name(migration: Migration | Record) -> str:
    """Return version and name as a file name begins with them."""
    return f"{migration.version}_{migration.name}" if migration.name else migration.version


def revisions(directory: Directory) -> dict[str, int]:
    """Return the number behind each revision that a migration declares; reads every up file.

    Raises HistoryError for a revision that two migrations declare.
    """
    numbers: dict[str, int] = {}
    for migration in directory.history:
        script = directory.script(migration.up)
        if script.revision in numbers:
            raise HistoryError(
                f"{script.file}: revision {script.revision} is declared by another migration too",
                file=script.file,
            )
        if script.revision:
            numbers[script.revision] = migration.number
    return numbers


def versions(log: Iterable[Record]) -> dict[str, str]:
    """Return the version behind each value of alembic_version that the log mentions."""
    return {record.to_version: record.version for record in log if record.action in ("upgrade", "stamp")}


def _current_number(recorded: Recorded, directory: Directory) -> int | None:
    """Return the number behind the value of alembic_version, -1 at base, None if nothing tells it."""
    numbers = _numbered(recorded.log)
    if recorded.value in numbers:
        return numbers[recorded.value]
    number = number_of(recorded.value)
    if any(migration.number == number for migration in directory.history):
        return number
    return revisions(directory).get(recorded.value, number)


# --- the wording of problems


def command(database: str, directory: Directory, words: str) -> str:
    """Return a command for a database and these files, as a message shows it."""
    from . import paste  # needed by messages only

    return paste.command(database, directory.place, words)


def _late(at: Status) -> Iterator[HistoryError]:
    renumbered = dict(_renumbered(at) if at.late else ())
    for migration in at.late:
        if migration in renumbered:
            yield _elsewhere(at, migration, renumbered[migration])
            continue
        file, remedy = shown(at.directory.place, migration.up), _renumber(at, migration, "it")
        if directories.is_installed(at.directory.place):
            remedy += ", or downgrade below it and upgrade again"
        yield HistoryError(
            f"{file}: never applied, and {at.database} is already at {version(at)}; {UNCHANGED}; {remedy}",
            file=file,
        )


def _renumber(at: Status, migration: Migration, what: str) -> str:
    """Say how the files of a migration get the next free number; `what` is what they are called there."""
    import shlex  # needed by messages only

    if directories.is_installed(at.directory.place):  # which no command writes to
        return f"give {what} the next free number where the package is made"
    stem = shlex.quote(migration.up.removesuffix(".up.sql"))
    return (
        f"to give {what} the next free number, run: {command(at.database, at.directory, f'renumber {stem}')}"
    )


def _elsewhere(at: Status, migration: Migration, record: Record) -> HistoryError:
    file, name = shown(at.directory.place, migration.up), full_name(record)
    return HistoryError(
        f"{file}: applied as {name}; {UNCHANGED}; rename its files back to {name}.up.sql and {name}.down.sql",
        file=file,
    )


def _edited(at: Status, migration: Migration) -> HistoryError:
    file = shown(at.directory.place, migration.up)
    stamp = command(at.database, at.directory, f"stamp {version(at)}")
    accept = f", or accept the edit, run: {stamp}" if has_files(at) else ""
    return HistoryError(
        f"{file}: edited after it was applied; {UNCHANGED}; write a new migration instead, "
        f"or downgrade below it and upgrade again{accept}",
        file=file,
    )


def _other(at: Status, migration: Migration) -> HistoryError:
    file = shown(at.directory.place, migration.up)
    record = at.applied[migration.number]
    return HistoryError(
        f"{file}: {migration.version} is applied as {record.name}, but the files have "
        f"{full_name(migration)}; {UNCHANGED}; put {full_name(record)} back, and "
        f"{_renumber(at, migration, 'this one')}",
        file=file,
    )


def _unfinished(at: Status, note: Record) -> VersionError:
    before = plan.version(at.timeline, max(at.position - 1, 0))
    remedy = "upgrade" if int(note.version) > at.reached else f"downgrade {before}"
    return VersionError(
        f"{at.database}: {full_name(note)} began outside a transaction at {note.at} and was cut short; "
        f"to run it again from its start, run: {command(at.database, at.directory, remedy)}",
        version=note.version,
    )


# --- the fold of the log


def _fold(recorded: Recorded) -> tuple[Mapping[int, Record], int]:
    """Return the row of the log for each number that is applied now, and the floor below which none tells.

    Where a row does not continue from the one before it, or the log not to the current value (real
    Alembic was here), alembic_version is trusted.
    """
    numbers = _numbered(recorded.log)
    applied: dict[int, Record] = {}
    floor, value = -1, ""
    for record in recorded.log:
        if record.action in ("start", "adopt"):  # moved nothing
            continue
        number = int(record.version or -1)
        if record.from_version != value:
            floor = _number(record.from_version, numbers, number - 1)
            applied = _up_to(floor, applied)
        if record.action == "upgrade":
            applied[number] = record
        elif record.action == "downgrade":
            applied.pop(number, None)
            floor = min(floor, number - 1)
        elif record.action == "accept":
            applied[number] = applied.get(number, record)._replace(checksum=record.checksum)
        elif record.action == "stamp":
            floor, applied = number, _up_to(number, applied)
            if record.version:
                applied[number] = record
        value = record.to_version
    if recorded.value != value:
        floor = _number(recorded.value, numbers, _EVERYTHING)
        applied = _up_to(floor, applied)
    return applied, floor


def _numbered(log: Iterable[Record]) -> dict[str, int]:
    """Return the number behind each value of alembic_version that the log mentions; base is -1."""
    return {value: int(version or -1) for value, version in versions(log).items()} | {"": -1}


def _up_to(number: int, applied: dict[int, Record]) -> dict[int, Record]:
    return {known: record for known, record in applied.items() if known <= number}


def _number(value: str, numbers: Mapping[str, int], otherwise: int) -> int:
    number = number_of(value)
    return numbers.get(value, otherwise if number is None else number)
