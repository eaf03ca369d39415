"""What is asked of a run, and what it answers; or, of a damaged database, advises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..database.connection import is_foreign
from ..errors import AccessError, printable
from ..files.directory import Directory, Place
from ..files.plan import Step
from ..typed import NamedTuple


class Request(NamedTuple):
    """What is asked of a run: "upgrade" or "downgrade", with which files, to which target."""

    action: str
    directory: Directory
    target: str


class Current(NamedTuple):
    """Where a database is; `version` is None at base, `pending` a count.

    `known` tells whether these migrations have files for the version.
    """

    database: str
    version: str | None
    head: str | None
    at_head: bool
    pending: int
    known: bool


class Entry(NamedTuple):
    """One migration as seen from a database.

    `state` is applied, pending, edited, other, late or unknown; `applied_at` is UTC in ISO 8601;
    `took_ms` is in milliseconds, None where the log holds what no step can take.
    """

    version: str
    name: str
    state: str
    applied_at: str | None
    took_ms: float | None
    reversible: bool


class Result(NamedTuple):
    """What a run did: the version `before` it, where the database is `now`, and the steps between."""

    before: str
    now: Current
    steps: tuple[Step, ...]


@contextmanager
def mending(place: Place) -> Iterator[None]:
    """Let no error about a damaged database out without what `mend` adds."""
    try:
        yield
    except AccessError as error:
        mend(error, place)
        raise


def mend(error: AccessError, place: Place) -> None:
    """Add to what is said of a damaged database how its newest backup is put back, if there is one."""
    if error.backup:
        from .paste import put_back, put_back_or_key

        advise = put_back_or_key if is_foreign(error.__cause__) else put_back
        advice = advise(str(error.database), place, error.backup)
        error.args, error.backup = (printable(f"{error}; {advice}"),), ""
