"""One function a command: from its options, through what the rooms below do, to a Reply.

What only one command needs is imported when that command runs: a start-up pays for none of it.
"""

import os
from argparse import Namespace
from contextlib import suppress
from typing import Any

from ..database import tables as ledger
from ..database.connection import located, reading, snapshot
from ..errors import MigrationError
from ..files import directory as files
from ..files.plan import BASE, Step
from ..run import commands as runner
from ..run.planning import Wish
from . import text
from .arguments import parse
from .text import Reply


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code; usage errors leave as SystemExit with code 2."""
    options = parse(arguments)
    try:
        reply = _COMMANDS[options.command](options)
    except MigrationError as error:
        reply = text.failure(error)
    except KeyboardInterrupt as interrupt:
        text.end_live_line(options.form)
        text.say(f"error: {_interrupted(options)}")
        return 143 if isinstance(interrupt, Terminated) else 130
    return text.show(reply, options.form)


def _interrupted(options: Namespace) -> str:
    """Return what became of the database when a signal ended the run."""
    said = "interrupted"
    with suppress(MigrationError):
        database = located(options.database)
        where = runner.current(_place(options), database, timeout=0.0)
        with reading(database, 0.0) as session, snapshot(session):
            note = ledger.unfinished(ledger.read(session.cursor, session.database).log)
        at = f"{where.database} is at {where.version or BASE}"
        said = f"{where.database}: interrupted; rolled back, {at}"
        if options.command not in ("upgrade", "downgrade"):
            said = f"{where.database}: interrupted; nothing was changed"
        elif note:
            said = f"{where.database}: interrupted; {at}, and {note.version} will run again from its start"
    return said


def _upgrade(options: Namespace) -> Reply:
    options.backup |= os.environ.get("VMPILOT_MIGRATE_BACKUP", "0") not in ("", "0")
    return _move(options)


def _downgrade(options: Namespace) -> Reply:
    return _move(options)


def _move(options: Namespace) -> Reply:
    place, database = _place(options), located(options.database)
    request = Wish(options.command, place, files.discover(place), options.target)
    _say_what_is_used(options, database, place)
    if options.sql:
        from ..tools.sql import script

        return text.scripted(script(request, database, timeout=options.timeout))
    if options.dry_run:
        return _rehearse(request, database, options)
    kept: list[str] = []

    def prelude(version: str) -> None:
        if options.backup:
            kept.extend(_back_up(database, version, options))

    report = text.step_reporter(options.form)
    steps = runner.run(request, database, timeout=options.timeout, report=report, prelude=prelude)
    before, after, at = _outcome(request, database, steps, options)
    return text.moved(database, before, after, at, steps, kept[0] if kept else None)


def _outcome(
    request: Wish, database: str, steps: tuple[Step, ...], options: Namespace
) -> tuple[str, str, str]:
    """Return the versions before and after a run, and where the database is in words."""
    if not steps and request.history and options.target == "head":
        head = request.history[-1].version  # what a start-up finds; it need not look twice
        return head, head, f"{head} (head)"
    where = runner.current(request.place, database, timeout=options.timeout)
    before, after = (steps[0].before, steps[-1].after) if steps else [where.version or BASE] * 2
    return before, after, text.position(where)


def _back_up(database: str, version: str, options: Namespace) -> list[str]:
    from ..tools.backup import take

    path = take(database, version, timeout=options.timeout, report=text.pages_reporter(options.form))
    if path is None:
        return []
    text.tell(f"backed up to {path}", options.form)
    return [path]


def _rehearse(request: Wish, database: str, options: Namespace) -> Reply:
    from ..tools.dry_run import rehearse

    report = text.live_reporter(options.form)
    rehearsal = rehearse(request, database, timeout=options.timeout, report=report)
    text.end_live_line(options.form)
    return text.rehearsed(rehearsal, runner.current(request.place, database, timeout=options.timeout))


def _current(options: Namespace) -> Reply:
    place = _place(options)
    where = runner.current(place, located(options.database), timeout=options.timeout)
    _say_what_is_used(options, where.database, place)
    return text.current(where)._replace(code=int(options.check_heads and not where.at_head))


def _history(options: Namespace) -> Reply:
    place = _place(options)
    where, entries = runner.history(place, located(options.database), timeout=options.timeout)
    _say_what_is_used(options, where.database, place)
    return text.history(where, entries)


def _heads(options: Namespace) -> Reply:
    history = files.discover(_place(options))
    return text.heads(history[-1].version if history else None)


def _stamp(options: Namespace) -> Reply:
    place, database = _place(options), located(options.database)
    _say_what_is_used(options, database, place)
    return text.stamped(database, runner.stamp(place, options.target, database, timeout=options.timeout))


def _create(options: Namespace) -> Reply:
    from ..tools.create import create

    return text.created(*create(" ".join(options.words), _place(options)))


def _check(options: Namespace) -> Reply:
    from ..tools.check import check, wait

    place, database = _place(options), located(options.database)
    _say_what_is_used(options, database, place)
    how: dict[str, Any] = {"full": options.full, "timeout": options.timeout}
    if options.wait is None:
        return text.checked(check(database, place, **how))
    return text.checked(wait(database, place, seconds=options.wait, say=text.say, **how))


def _verify(options: Namespace) -> Reply:
    from ..tools.verify import verify, verify_on_copy

    place = _place(options)
    if not options.on_copy:
        return text.proven(verify(place))
    database = located(options.database)
    _say_what_is_used(options, database, place)
    return text.proven_on_copy(verify_on_copy(database, place, timeout=options.timeout))


def _restore(options: Namespace) -> Reply:
    from ..tools.backup import restore

    database = located(options.database)
    return text.restored(restore(options.backup, database, _place(options), timeout=options.timeout))


_COMMANDS = {
    "upgrade": _upgrade,
    "downgrade": _downgrade,
    "current": _current,
    "history": _history,
    "heads": _heads,
    "stamp": _stamp,
    "create": _create,
    "check": _check,
    "verify": _verify,
    "restore": _restore,
}


def _place(options: Namespace) -> files.Place:
    return files.located(options.migrations or os.environ.get("VMPILOT_MIGRATIONS") or None)


def _say_what_is_used(options: Namespace, database: str, place: files.Place) -> None:
    if options.verbose:
        text.say(f"database: {database}\nmigrations: {place}")
