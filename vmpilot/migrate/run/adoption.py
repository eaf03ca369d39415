"""Whether a database that has tables but no version has what the migrations would have made.

`CREATE TABLE IF NOT EXISTS` over a table of another shape does nothing and says nothing. So each step
also runs on a scratch database, and all that it creates is compared by structure; nothing else is. That
ends at head, or when a stamp says that the database is right as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from ..database import tables
from ..database.connection import Session, interruptible
from ..database.opening import scratch_like
from ..database.tables import NOTHING, Record, Recorded
from ..errors import MigrationError
from ..files.directory import Migration
from ..files.plan import Step
from ..files.script import Script, statements
from ..tokens import folded, head
from ..typed import TYPE_CHECKING, NamedTuple
from . import status
from .planning import Task
from .play import follow
from .status import Status

if TYPE_CHECKING:
    from ..database.structure import Schema


class Comparison(NamedTuple):
    """What tells how that which a step creates differs from what it makes elsewhere.

    `last` is the version of the step with which it ends, empty if there is nothing to compare.
    """

    differences: Callable[[Session, Task], tuple[str, ...]]
    last: str


def comparison(session: Session, at: Status, stack: ExitStack) -> Comparison:
    """Return how steps are compared from here on; a scratch database stays open in `stack`.

    A note in the log makes a later run compare too: what was refused once must not pass the second time.
    A step that cannot run on the scratch database, because it needs rows of the application, ends the
    comparison: what the steps after it would build there is not what they build elsewhere.
    """
    if begins(session, at):
        tables.write(session, BEGUN)
    elif not is_begun(at.recorded):
        return NONE
    empty = stack.enter_context(scratch_like(session))
    tables.create(empty)
    below = (each for each in at.timeline[: at.position] if each.up)
    comparable = all(_follow(empty, each, at.directory.script(each.up)) for each in below)

    def differences(session: Session, task: Task) -> tuple[str, ...]:
        nonlocal comparable
        comparable = comparable and _follow(empty, task.step, task.script)
        return _differences(session, empty, task.script) if comparable else ()

    return Comparison(differences, last_version(at))


def begins(session: Session, at: Status) -> bool:
    """Tell whether a database has tables but no version, and nothing of a run in its log."""
    return at.recorded == NOTHING and tables.has_tables(session)


def last_version(at: Status) -> str:
    """Return the version of the step with which the comparison ends."""
    history = at.directory.history
    return history[-1].version if history else ""


def ended(session: Session, compare: Comparison, step: Step, value: str) -> None:
    """Note in the log with the last step that a database has been compared: it never will be again."""
    for record in notes_of_end(compare.last, step, value):
        tables.write(session, record)


def notes_of_end(last: str, step: Step, value: str) -> tuple[Record, ...]:
    """Return what is noted with a step if the comparison ends with that of version `last`."""
    ends = step.action == "upgrade" and step.version == last
    return (Record("adopt", step.version, step.name, value, value),) if ends else ()


def remedy(at: Status, step: Step) -> str:
    """Return the way out for who knows that a database is right as it is."""
    return (
        f"to take it over as it is, run: {status.command(at.database, at.directory, f'stamp {step.version}')}"
    )


def _nothing(session: Session, task: Task) -> tuple[str, ...]:
    """Find no difference: what a database holds that has a version is its own affair."""
    return ()


NONE = Comparison(_nothing, "")
BEGUN = Record("adopt", "", "", "", "")  # notes in the log that the comparison begins


def is_begun(recorded: Recorded) -> bool:
    """Tell whether the log has a note that the comparison began, and none that it ended."""
    notes = [record for record in recorded.log if record.action in ("adopt", "stamp")]
    return bool(notes) and notes[-1].action == "adopt" and not notes[-1].version


def _follow(empty: Session, migration: Migration | Step, script: Script) -> bool:
    try:
        follow(empty, migration, script)
    except MigrationError:
        return False
    return True


class _Created(NamedTuple):
    """What a script creates: tables and views by name, indexes and triggers by kind and name, and on what."""

    tables: frozenset[str]
    others: frozenset[tuple[str, str]]
    places: frozenset[str]


def _differences(session: Session, empty: Session, script: Script) -> tuple[str, ...]:
    from ..database import structure  # not loaded where nothing is compared

    created = _created(script)
    if not created.places:
        return ()
    with interruptible(session):
        found = structure.snapshot(session, only=created.places)
    made = _part(structure.snapshot(empty, only=created.places), created)
    # What the same step dropped again is not there to be compared.
    tables = frozenset(fact.key[0] for fact in made if fact.kind in structure.WHOLE)
    others = frozenset((fact.kind, fact.key[2]) for fact in made)
    return structure.difference(made, _part(found, created._replace(tables=tables, others=others)))


def _part(facts: Schema, created: _Created) -> Schema:
    """Return what is said of these objects: not of the indexes and triggers that others put on a table."""
    return frozenset(
        fact
        for fact in facts
        if (
            (fact.kind, fact.key[2]) in created.others
            if fact.kind in ("index", "trigger")
            else fact.key[0] in created.tables
        )
    )


def _created(script: Script) -> _Created:
    """Return what the statements of a script create in the main database, under its last name."""
    tables, others, places = set[str](), set[tuple[str, str]](), set[str]()
    for found in map(head, _likely(script)):
        name = folded(found.name)
        if found.temporary:
            continue
        if found.verb == "alter" and found.renamed and name in tables:
            tables.add(folded(found.renamed))
        elif found.verb == "create" and found.kind in ("index", "trigger"):
            others.add((found.kind, name))
            places.add(folded(found.table))
        elif found.verb == "create" and found.kind:
            tables.add(name)
    return _Created(frozenset(tables), frozenset(others), frozenset(places | tables))


def _likely(script: Script) -> Iterable[str]:
    """Return the statements that are worth a look."""
    return (text for text in statements(script) if text[0] in "aAcC") if "create" in script.words else ()
