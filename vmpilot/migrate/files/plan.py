"""From (history, where the database is, where it is asked to go) to the steps between.

Pure: no file, no database, no clock and no printing may enter here.

A position counts migrations from base: 0 is base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import Step as Step
from ..errors import VersionError, counted
from ..limits import is_version
from ..typed import NamedTuple
from .directory import Migration

BASE = "base"


class Progress(NamedTuple):
    """Where a run is: in which step, how many of its `statements` are done, after how many seconds.

    `done` tells that the step is committed.
    """

    step: Step
    statement: int
    statements: int
    elapsed: float
    done: bool


Report = Callable[[Progress], None]


def steps(history: Sequence[Migration], position: int, goal: int) -> tuple[Step, ...]:
    """Return the steps from one position to another, in the order in which they run."""
    versions = [BASE, *(migration.version for migration in history)]
    if position <= goal:
        return tuple(
            Step("upgrade", history[at].version, history[at].name, versions[at], versions[at + 1])
            for at in range(position, goal)
        )
    return tuple(
        Step("downgrade", history[at - 1].version, history[at - 1].name, versions[at], versions[at - 1])
        for at in range(position, goal, -1)
    )


def resolve(
    target: str, history: Sequence[Migration], position: int, revisions: Mapping[str, int], database: str
) -> int:
    """Return the position that `target` names.

    `target` is head, base, a version, a revision, +N or -N (from `position`); `revisions` maps each
    declared revision to its migration's number. Raises VersionError if there is no such position, or
    more than one.
    """
    if target == "head":
        return head(history)
    if target == BASE:
        return 0
    if target[:1] in ("+", "-") and number_of(target[1:]) is not None:
        return _moved(int(target), history, position, database)
    numbers = {migration.number: at for at, migration in enumerate(history, 1)}
    found = {revisions[target]} if target in revisions else set()
    if (number := number_of(target)) is not None:
        found.add(number)
    found &= numbers.keys()  # a revision may belong to a late file
    if not found:
        raise VersionError(
            f'"{target}" is not a version that {database} can be asked to have: '
            f"expected {known(history)}; nothing was changed{_nearest(target, revisions)}",
            version=target,
        )
    if len(found) > 1:
        names = " and ".join(history[numbers[number] - 1].version for number in sorted(found))
        raise VersionError(f'"{target}" can mean {names}; nothing was changed', version=target)
    return numbers[found.pop()]


def _nearest(target: str, revisions: Mapping[str, int]) -> str:
    """Return a question for the word that is nearest to a mistyped target, nothing if none is near."""
    from difflib import get_close_matches  # not loaded by a run that is asked right

    words = ["head", BASE] if target.isalpha() else []
    near = get_close_matches(target.lower(), [*words, *(revisions.keys() - {target})], 1, 0.7)
    return f"; did you mean {near[0]}?" if near else ""


def number_of(text: str) -> int | None:
    """Return the number that a version is, None if the text is none."""
    return int(text) if is_version(text) else None


def head(history: Sequence[Migration]) -> int:
    """Return the position of the newest migration that has files."""
    return max((at for at, migration in enumerate(history, 1) if migration.up), default=0)


def known(history: Sequence[Migration]) -> str:
    """Return the range of versions that `history` knows, in words."""
    return f"{BASE} to {history[-1].version}" if history else BASE


def version(history: Sequence[Migration], position: int) -> str:
    """Return the version at a position, or base."""
    return history[position - 1].version if position else BASE


def number(history: Sequence[Migration], position: int) -> int:
    """Return the number of the migration at a position, -1 at base."""
    return history[position - 1].number if position else -1


def _moved(by: int, history: Sequence[Migration], position: int, database: str) -> int:
    goal = position + by
    if 0 <= goal <= len(history):
        return goal
    left = len(history) - position if by > 0 else position
    end = "head" if by > 0 else BASE
    raise VersionError(
        f"cannot move by {by:+}: {database} is at {version(history, position)}, "
        f"{counted(left, 'step')} from {end}; nothing was changed",
        version=f"{by:+}",
    )
