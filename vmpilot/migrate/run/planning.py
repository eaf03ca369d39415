"""From what is asked and where a database is to a plan, with every file on the way read and checked.

Nothing is written and no migration is run here: a plan is a plain value, so a preview is printing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..database import tables
from ..database.connection import UNCHANGED, Session, snapshot
from ..database.tables import Record
from ..errors import HistoryError, MigrationError, StepError, VersionError
from ..files import plan
from ..files.directory import Directory, History, Migration, lack_of_down, shown
from ..files.plan import BASE, Step
from ..typed import TYPE_CHECKING, NamedTuple
from . import status
from .request import Request
from .status import Status, revisions

# What reads SQL is not loaded by a start-up that opens no file.
if TYPE_CHECKING:
    from ..files.script import Script


class Task(NamedTuple):
    """A step with all that doing it needs, read and checked: nothing can be found missing half-way.

    `script` is what is run, `down` the script that an upgrade keeps in the log; `value_before` and
    `value_after` are what alembic_version holds. An upgrade logs the checksums of both scripts.
    """

    step: Step
    script: Script
    down: Script | None
    value_before: str
    value_after: str
    checksum: str = ""
    down_checksum: str | None = None


class Plan(NamedTuple):
    """What is left to do, and the status that it was made from: without tasks, where the database stays.

    `goal` is the number of the migration that the plan leads to, -1 for base.
    """

    status: Status
    goal: int
    tasks: tuple[Task, ...]


def planned(request: Request, session: Session) -> Plan:
    """Return the plan that fulfils a request; where there is nothing to do, it has no tasks."""
    with snapshot(session):
        return planned_inside(request, session)


def planned_anew(request: Request, database: str) -> Plan:
    """Return the same for a database that is not there: nothing need be opened to know what it holds."""
    try:
        return _planned(request, status.status(database, tables.NOTHING, request.directory), None)
    except MigrationError as error:
        error.database = error.database or database
        raise


def planned_inside(request: Request, session: Session) -> Plan:
    """Return the same, inside of the caller's snapshot."""
    return _planned(request, status.read(session, request.directory), session)


def _planned(request: Request, at: Status, session: Session | None) -> Plan:
    _check(request, at)
    position = _goal(request, at)
    goal = plan.number(at.timeline, position)
    made = _plan(request, at, goal, session)
    if not made.tasks:
        status.refuse_unfinished(at)
    return made


def planned_again(request: Request, before: Plan, session: Session) -> Plan:
    """Return `before` if the database is as it was then; otherwise what is left to do now.

    Inside the caller's transaction: nobody else can change what is planned.
    """
    if status.recorded(session, request.directory) == before.status.recorded:
        return before
    at = status.read(session, request.directory)
    _check(request, at)
    return _plan(request, at, before.goal, session)


def after(done: Plan) -> Plan:
    """Return what is left of a plan when its first task is done."""
    task = done.tasks[0]
    position = done.status.position + (1 if task.step.action == "upgrade" else -1)
    return Plan(status.moved(done.status, position, task.value_after), done.goal, done.tasks[1:])


def start(task: Task) -> Record:
    """Return the note that a file outside a transaction begins."""
    step = task.step
    return Record("start", step.version, step.name, task.value_before, task.value_after)


def end(task: Task, took: float = 0.0) -> Record:
    """Return the row of the log for a task that is done, after so many seconds."""
    step = task.step
    values = task.value_before, task.value_after
    return Record(step.action, step.version, step.name, *values, task.checksum, "", 1000 * took)


def is_reversible(at: Status, migration: Migration, session: Session) -> bool:
    """Tell whether `downgrade` could undo a migration."""
    try:
        _down(at, migration, session)
    except (VersionError, StepError):
        return False
    return True


def _check(request: Request, at: Status) -> None:
    """Raise the first problem that keeps a request from being served from this status."""
    refuse = status.refuse_upgrade if request.action == "upgrade" else status.refuse_downgrade
    refuse(at)


def _goal(request: Request, at: Status) -> int:
    """Return the position that a request asks for."""
    target = request.target
    names = revisions_for(target, at.timeline, at.directory)
    goal = plan.resolve(target, at.timeline, at.position, names, at.database)
    _check_direction(request.action, at, goal)
    return goal


def revisions_for(target: str, timeline: History, directory: Directory) -> Mapping[str, int]:
    """Return the number behind each declared revision, if a target can mean one: only then are files read."""
    plain = target in ("head", BASE) or target[:1] in ("+", "-")
    if plain or plan.number_of(target) in {migration.number for migration in timeline}:
        return {}
    return revisions(directory)


def _check_direction(action: str, at: Status, goal: int) -> None:
    """Raise VersionError if `action` does not lead to the position `goal`."""
    here, there = plan.version(at.timeline, at.position), plan.version(at.timeline, goal)
    if action == "upgrade" and goal < at.position:
        told, way, back = f"{at.database} is already at {here}", "back", "downgrade"
    elif action == "downgrade" and goal > at.position:
        told, way, back = f"{at.database} is only at {here}", "forward", "upgrade"
    else:
        return
    command = status.command(at.database, at.directory, f"{back} {there}")
    raise VersionError(f"cannot {action} to {there}: {told}; to go {way}, run: {command}", version=there)


def _plan(request: Request, at: Status, goal: int, session: Session | None) -> Plan:
    """Plan the way to the migration with this number, and read and check every file on it.

    Where another process has gone further already, nothing is left to do.
    """
    position = sum(migration.number <= goal for migration in at.timeline)
    if position == at.position or (position > at.position) != (request.action == "upgrade"):
        return Plan(at, goal, ())
    with _untouched(at.database):
        tasks = _upgrades(at, position) if position > at.position else _downgrades(at, position, session)
        return Plan(at, goal, tuple(tasks))


def _upgrades(at: Status, position: int) -> Iterator[Task]:
    script, checksum = at.directory.script, at.directory.checksum
    passed = tuple(migration for migration in at.timeline[:position] if migration.up)
    revisions(at.directory._replace(history=passed))  # reads them: every file is good before the first runs
    status.refuse_edited(at)
    value = at.recorded.value
    steps = plan.steps(at.timeline, at.position, position)
    for step, migration in zip(steps, at.timeline[at.position : position], strict=True):
        up = script(migration.up)
        down = script(migration.down) if migration.down else None
        following = up.revision or migration.version
        down_checksum = checksum(migration.down) if migration.down else None
        yield Task(step, up, down, value, following, checksum(migration.up), down_checksum)
        value = following


def check_again(at: Status) -> None:
    """Raise what would keep the newest applied migration from being applied again, once it is undone."""
    below = status.moved(at, at.position - 1, at.recorded.value)
    with _untouched(at.database):
        tuple(_upgrades(below, at.position))


def _downgrades(at: Status, position: int, session: Session | None) -> Iterator[Task]:
    value = at.recorded.value
    undone = at.timeline[position : at.position]
    below = [None, *at.timeline][position : at.position]
    steps = plan.steps(at.timeline, at.position, position)
    for step, migration, last in zip(steps, reversed(undone), reversed(below), strict=True):
        following = _value(at, last) if last else ""
        yield Task(step, _down(at, migration, session), None, value, following)
        value = following


def _value(at: Status, migration: Migration) -> str:
    """Return what alembic_version holds when a migration is the newest one that is applied."""
    if migration.up:
        return at.directory.script(migration.up).revision or migration.version
    return at.applied[migration.number].to_version


def _down(at: Status, migration: Migration, session: Session | None) -> Script:
    """Return the down script of a migration: its file's, or the one that the log kept of what was applied.

    That is run where there are no files, and where these say something else by now: what was applied is
    undone as it was meant then, so that a downgrade and an upgrade are always a way out.
    """
    refusal = f"cannot downgrade {migration.version}"
    kept = tables.kept_down(session, migration.version) if session and _is_past(at, migration) else None
    if kept:
        script = _kept_down(at, migration, kept, refusal)
    elif migration.down:
        script = at.directory.script(migration.down)
    elif migration.up:
        up = shown(at.directory.place, migration.up)
        raise VersionError(
            f"{refusal}: {up} has {lack_of_down(migration)}; {UNCHANGED}",
            version=migration.version,
        )
    else:
        raise VersionError(
            f"{refusal}: no file for it, and {at.database} kept no down script; {UNCHANGED}; "
            + status.stamp_below(at, migration.number),
            version=migration.version,
        )
    if script.irreversible:
        past = "" if migration.up else f"; {status.stamp_below(at, migration.number)}"
        raise VersionError(
            f"{refusal}: {script.file} is irreversible: {script.irreversible}; {UNCHANGED}{past}",
            version=migration.version,
        )
    return script


def _is_past(at: Status, migration: Migration) -> bool:
    """Tell whether the files of an applied migration are gone, or say something else by now."""
    return not migration.up or status.is_edited(at, migration)


def _kept_down(at: Status, migration: Migration, kept: tuple[str, str], refusal: str) -> Script:
    """Return a down script of the log; raise StepError if it would do more than change its database."""
    from ..files.script import checksum, parse

    text, mark = kept
    record = at.applied.get(migration.number, migration)
    try:
        script = parse(f"migration_log/{status.full_name(record)}.down.sql", text.encode(), "down")
    except HistoryError as error:  # nothing that was ever applied
        told = f"{refusal}: {error}; {UNCHANGED}"
        raise StepError(told, file=error.file, line=error.line, version=migration.version) from error
    if checksum(script) != mark:
        raise VersionError(
            f"{refusal}: the down script that {at.database} kept was changed since; {UNCHANGED}",
            version=migration.version,
        )
    _refuse_beyond(script, migration, refusal)
    return script._replace(kept=True)


def _refuse_beyond(script: Script, migration: Migration, refusal: str) -> None:
    """Raise StepError for a statement that would reach beyond its database, whatever then runs it."""
    from ..database.confined import ASKED, forbidden
    from ..files.script import line, shortened, statements

    for index, text in enumerate(statements(script)):
        if what := forbidden(text):
            number = line(script, index)
            raise StepError(
                f"{refusal}: {script.file}:{number}: {what}: {ASKED}; {UNCHANGED}",
                file=script.file,
                line=number,
                version=migration.version,
                statement=shortened(text),
            )


@contextmanager
def _untouched(database: str) -> Iterator[None]:
    """Say of a file's error what it means for the database."""
    try:
        yield
    except HistoryError as error:
        if UNCHANGED in str(error):
            raise
        raise HistoryError(
            f"{error}; {database} was not touched", file=error.file, line=error.line
        ) from error
