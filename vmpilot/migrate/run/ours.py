"""The runner's own two tables, which a migration may not change: neither rows nor shape.

They are looked at only where a step can reach them: its file names one of them, or a view or a trigger does.
"""

from collections.abc import Callable

from ..database import tables
from ..database.connection import Session, snapshot
from ..database.tables import Content
from ..errors import passed_over
from ..files.script import Script
from ..limits import RUNNERS, VERSION_TABLE
from ..tokens import folded
from .guards import Integrity
from .play import failure


def own_tables(session: Session, script: Script, before: Integrity) -> Content | None:
    """Return what the two tables are and hold before a step, None if the step cannot reach them."""
    reached = script.names_ours or before.reaching or "writable_schema" in script.words
    return tables.content(session) if reached else None


def refuse_changed(
    session: Session, script: Script, before: Content | None, fate: Callable[[int], str]
) -> None:
    """Raise StepError if a script has changed one of the two tables."""
    if before is None:
        return
    now = tables.content(session)
    if not script.transactional:  # others may have begun to run it too, which they note
        now = now._replace(log=now.log[: len(before.log)])
    names = tuple(name for name in RUNNERS if _told(now, name) != _told(before, name))
    if names:
        raise failure(script, len(script.starts), _words(names), fate)


def refuse_changed_outside(
    session: Session,
    script: Script,
    done: int,
    before: Content | None,
    value: str,
    fate: Callable[[int], str],
) -> None:
    """Raise StepError if the last of so many statements has changed one of the two tables for good.

    Outside of a transaction only the version can be put back: to `value`. Another process that moves it notes
    that in the log as well.
    """
    if before is None:
        return
    with snapshot(session, fate(done)):
        now = tables.content(session)
    others = now.log[len(before.log) :]
    kept = now._replace(log=now.log[: len(before.log)], value=before.value if others else now.value)
    if kept == before:
        return
    names = tuple(name for name in RUNNERS if _told(kept, name) != _told(before, name))
    with passed_over(*session.failures):
        tables.put(session, value)
    raise failure(script, done - 1, _words(names), lambda _: fate(done))


def _told(content: Content, name: str) -> object:
    """Return what is to be compared of one table."""
    rows = content.value if name == VERSION_TABLE else content.log
    return [row for row in content.shape if folded(row[2]) == name], rows


def _words(names: tuple[str, ...]) -> str:
    return f"changes {' and '.join(names)}, which only the runner may change"
