"""A database seen from the files, and all that a run needs, read and checked before it starts.

Reads the files and the log; nothing is written and no migration is run here.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..database import tables as ledger
from ..database.connection import Session, snapshot, wait
from ..database.tables import Applied, State
from ..errors import AccessError, HistoryError, VersionError
from ..files import directory as files
from ..files import plan
from ..files.directory import History, Migration, Place
from ..files.plan import BASE, Step

# What reads SQL is not loaded by a start-up that opens no file.
if TYPE_CHECKING:
    from ..files.script import Script

    _Parts = tuple[tuple[Script, ...], dict[str, Script], dict[str, Script], dict[str, str]]


class Situation(NamedTuple):
    """A database seen from the files.

    `timeline` is what steps can move along: the migrations that have files, less the late ones,
    plus those that only the log knows. Everything up to the number `reached` counts as passed; it is
    -1 at base. `known` tells whether it is the number of a migration in the timeline.
    """

    state: State
    applied: Applied
    timeline: History
    position: int
    reached: int
    known: bool
    late: History


class Wish(NamedTuple):
    """What is asked of a run: "upgrade" or "downgrade", with which files, to which target."""

    action: str
    place: Place
    history: History
    target: str


class Prepared(NamedTuple):
    """A plan with all that it needs, read and checked: nothing can be found missing half-way.

    The next step is `steps[at]`. `value` is what alembic_version holds now, `values` what it holds
    at each version; `applied` are the up scripts below the first step of an upgrade.
    """

    state: State
    value: str
    steps: tuple[Step, ...]
    at: int
    applied: "tuple[Script, ...]"
    scripts: "Mapping[str, Script]"
    downs: "Mapping[str, Script]"
    values: Mapping[str, str]


def look(state: State, place: Place, history: History) -> Situation:
    """Return what `state` means for these files; opens them only if their names do not tell."""
    applied = ledger.applied(state)
    number = _current_number(state, place, history)
    reached = max(applied.records, default=-1) if number is None else number
    late = tuple(
        migration
        for migration in history
        if applied.floor < migration.number <= reached and migration.number not in applied.records
    )
    numbers = {migration.number for migration in history}
    gone = [
        Migration(known, record.version, record.name, "", "")
        for known, record in applied.records.items()
        if known not in numbers
    ]
    timeline = history
    if late or gone:
        timeline = tuple(sorted({*history, *gone} - set(late)))
    position = sum(migration.number <= reached for migration in timeline)
    known = number == (timeline[position - 1].number if position else -1)
    return Situation(state, applied, timeline, position, reached, known, late)


def shown(situation: Situation) -> str:
    """Return the current version as a person reads it: a version, base, or the unknown value itself."""
    if not situation.known:
        return situation.state.value
    return situation.timeline[situation.position - 1].version if situation.position else BASE


def passed(situation: Situation, history: History) -> int:
    """Return how many migrations of `history` stand at or below the current version."""
    return sum(migration.number <= situation.reached for migration in history)


def checked(wish: Wish, state: State, database: str) -> Situation:
    """Return the situation if `wish` can be served from it; raise VersionError or HistoryError if not."""
    situation = look(state, wish.place, wish.history)
    at = situation.position
    if wish.action == "upgrade" and (not situation.known or (at and not situation.timeline[at - 1].up)):
        raise unknown(shown(situation), wish.history, database)
    if not situation.known:
        raise VersionError(
            f"cannot downgrade: {database} is at {shown(situation)}, "
            "which has no file here and no row in its log; nothing was changed",
            version=shown(situation),
        )
    if situation.late and wish.action == "upgrade":
        first, free = situation.late[0], files.number_after(wish.history)
        name = f"{free}_{first.name}" if first.name else free
        file = files.shown(wish.place, first.up)
        raise HistoryError(
            f"{file}: never applied, and {database} is already at {shown(situation)}; nothing was changed; "
            f"to apply it, rename its files to {name}.up.sql and {name}.down.sql",
            file=file,
        )
    return situation


def unknown(version: str, history: History, database: str) -> VersionError:
    """Return the error that says that no file stands for the current version."""
    told = f"{database} is at {version}, but this code knows only {plan.known(history)}; "
    if (plan.number_of(version) or -1) > (history[-1].number if history else -1):
        told += (
            "it was upgraded by newer code; nothing was changed; "
            "to take it back, run: python -m vmpilot.migrate downgrade head"
        )
    else:
        told += "nothing was changed"
    return VersionError(told, version=version)


def _current_number(state: State, place: Place, history: History) -> int | None:
    """Return the number behind the value of alembic_version, -1 at base, None if nothing tells it."""
    value = state.value
    numbers = ledger.numbered(state.log)
    if value in numbers:
        return numbers[value]
    number = plan.number_of(value)
    if any(migration.number == number for migration in history):
        return number
    return revisions(place, history).get(value, number)


def revisions(place: Place, history: History) -> dict[str, int]:
    """Return the number behind each revision that a migration declares; reads every up file."""
    scripts = ((migration, files.load(place, migration.up)) for migration in history)
    return _unique_revisions((migration, script) for migration, script in scripts if script.revision)


def _unique_revisions(declared: "Iterable[tuple[Migration, Script]]") -> dict[str, int]:
    numbers: dict[str, int] = {}
    for migration, script in declared:
        if script.revision in numbers:
            raise HistoryError(
                f"{script.file}: revision {script.revision} is declared by another migration too",
                file=script.file,
            )
        numbers[script.revision] = migration.number
    return numbers


def goal_of(wish: Wish, situation: Situation, database: str) -> int:
    """Return the position that the wish asks for."""
    timeline, target = situation.timeline, wish.target
    names: Mapping[str, int] = {}
    plain = target in ("head", BASE) or target[:1] in ("+", "-")
    if not plain and plan.number_of(target) not in {migration.number for migration in timeline}:
        names = revisions(wish.place, wish.history)
    goal = plan.resolve(target, timeline, situation.position, names, database)
    plan.check_direction(wish.action, situation.position, goal, timeline, database)
    return goal


def prepare(wish: Wish, situation: Situation, number: int, session: Session) -> Prepared:
    """Plan the way to the migration with this number, and read and check every file on it."""
    timeline, position = situation.timeline, situation.position
    goal = sum(migration.number <= number for migration in timeline)
    if (goal > position) != (wish.action == "upgrade"):
        # Another process was faster.
        return Prepared(situation.state, situation.state.value, (), 0, (), {}, {}, {})
    with _untouched(session.database):
        read = _prepare_upgrade if goal > position else _prepare_downgrade
        applied, scripts, downs, values = read(wish, situation, goal, session)
    values |= {BASE: "", shown(situation): situation.state.value}
    state, steps = situation.state, plan.plan(timeline, position, goal)
    return Prepared(state, state.value, steps, 0, applied, scripts, downs, values)


def planned(wish: Wish, session: Session) -> tuple[Prepared, int] | None:
    """Return the plan that fulfils `wish` and the number that it leads to, None if there is nothing to do."""
    if wish.target == "head" and _is_settled(wish.history, session):
        return None
    with snapshot(session):
        situation = checked(wish, ledger.read(session.cursor, session.database), session.database)
        goal = goal_of(wish, situation, session.database)
        if goal == situation.position:
            return None
        number = situation.timeline[goal - 1].number if goal else -1
        return prepare(wish, situation, number, session), number


def _is_settled(history: History, session: Session) -> bool:
    try:
        wait(session, ledger.SETTLED)
    except AccessError:
        raise
    except Exception as error:
        if "no such" in str(error):  # a table is missing
            return False
        raise
    return ledger.is_settled(session.cursor.fetchall(), (migration.version for migration in history))


def _prepare_upgrade(wish: Wish, situation: Situation, goal: int, session: Session) -> "_Parts":
    place, position = wish.place, situation.position
    pairs = [
        (migration, files.load(place, migration.up))
        for migration in situation.timeline[:goal]
        if migration.up
    ]
    _unique_revisions((migration, script) for migration, script in pairs if script.revision)
    reached = situation.timeline[position - 1].number if position else -1
    _refuse_edited(situation, [pair for pair in pairs if pair[0].number <= reached], session.database)
    pending = [pair for pair in pairs if pair[0].number > reached]
    scripts = {migration.version: script for migration, script in pending}
    downs = {
        migration.version: files.load(place, migration.down) for migration, _ in pending if migration.down
    }
    values = {version: script.revision or version for version, script in scripts.items()}
    applied = tuple(script for migration, script in pairs if migration.number <= reached)
    return applied, scripts, downs, values


def _refuse_edited(situation: Situation, pairs: "list[tuple[Migration, Script]]", database: str) -> None:
    edited = [script.file for migration, script in pairs if is_edited(situation.applied, migration, script)]
    if edited:
        raise HistoryError(
            f"{', '.join(edited)}: edited after it was applied; write a new migration instead, or downgrade "
            "below it and upgrade again, or accept the edit, "
            f"run: python -m vmpilot.migrate stamp {shown(situation)}",
            file=edited[0],
        )


def is_edited(applied: Applied, migration: Migration, script: "Script") -> bool:
    """Tell whether an applied migration says something else now than when it was applied."""
    from ..files.script import checksum

    record = applied.records.get(migration.number)
    return bool(record and record.checksum and record.checksum != checksum(script))


def is_reversible(migration: Migration, place: Place, session: Session) -> bool:
    """Tell whether `downgrade` could undo a migration."""
    try:
        _down(place, migration, session)
    except VersionError:
        return False
    return True


def _prepare_downgrade(wish: Wish, situation: Situation, goal: int, session: Session) -> "_Parts":
    undone = situation.timeline[goal : situation.position]
    scripts = {migration.version: _down(wish.place, migration, session) for migration in reversed(undone)}
    values = {}
    for migration in situation.timeline[max(goal - 1, 0) : situation.position - 1]:
        if migration.up:
            values[migration.version] = files.load(wish.place, migration.up).revision or migration.version
        else:
            values[migration.version] = situation.applied.records[migration.number].to_version
    return (), scripts, {}, values


def _down(place: Place, migration: Migration, session: Session) -> "Script":
    """Return the down script of a migration: its file's, or without files the one that the log kept."""
    refusal = f"cannot downgrade {migration.version}"
    if migration.down:
        script = files.load(place, migration.down)
    elif migration.up:
        up = files.shown(place, migration.up)
        raise VersionError(
            f"{refusal}: {up} has no {migration.up[:-7]}.down.sql beside it; nothing was changed",
            version=migration.version,
        )
    else:
        script = _kept_down(migration, session, refusal)
    if script.irreversible:
        raise VersionError(
            f"{refusal}: {script.file} is irreversible: {script.irreversible}; nothing was changed",
            version=migration.version,
        )
    return script


def _kept_down(migration: Migration, session: Session, refusal: str) -> "Script":
    from ..files.script import checksum, parse

    version = migration.version
    kept = ledger.kept_down(session.cursor, version)
    if kept is None:
        raise VersionError(
            f"{refusal}: no file for it, and {session.database} kept no down script; nothing was changed",
            version=version,
        )
    name = f"{version}_{migration.name}" if migration.name else version
    script = parse(f"migration_log/{name}.down.sql", kept[0].encode(), "down")
    if checksum(script) != kept[1]:
        raise VersionError(
            f"{refusal}: the down script that {session.database} kept was changed since; nothing was changed",
            version=version,
        )
    return script


@contextmanager
def _untouched(database: str) -> Iterator[None]:
    """Say of a file's error what it means for the database."""
    try:
        yield
    except HistoryError as error:
        raise HistoryError(
            f"{error}; {database} was not touched", file=error.file, line=error.line
        ) from error
