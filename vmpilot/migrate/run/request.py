"""What is asked of a run, and what it answers."""

from __future__ import annotations

from ..files.directory import Directory
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


class Result(NamedTuple):
    """What a run did: the version `before` it, where the database is `now`, and the steps between."""

    before: str
    now: Current
    steps: tuple[Step, ...]
