"""One function a command: from its options, through what the rooms below do, to a Reply.

What only one command needs is imported when that command runs: a start-up pays for none of it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ..database.connection import UNCHANGED, is_connection, patience, waited_for
from ..database.names import is_missing, located
from ..database.opening import SQLITE3, Connect
from ..errors import AccessError, MigrationError
from ..files import directory as directories
from ..files.directory import Directory
from ..files.plan import BASE, Progress
from ..run import startup
from ..run.request import Request
from ..typed import Any
from . import text
from .arguments import parse
from .options import Options
from .text import Reply


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code; usage errors leave as SystemExit with code 2."""
    options = parse(arguments)
    options.timeout = patience(options.timeout, text.say_of_a_wait(options.form))
    try:
        reply = _COMMANDS[options.command](options)
    except MigrationError as error:
        reply = text.failure(error)
    except KeyboardInterrupt as interrupt:
        text.end_live_line(options.form)
        text.say(f"error: {_interrupted(options, waited_for(interrupt))}")
        return 143 if isinstance(interrupt, Terminated) else 130
    return text.show(reply, options.form)


_WITHOUT_DATABASE = ("heads", "create", "verify", "schema", "completion")
_MOVING = ("upgrade", "downgrade", "redo")
_READING = ("current", "history", "heads", "check", "verify", "schema", "completion")


def _interrupted(options: Options, waited: str) -> str:
    """Return what a signal ended, `waited` included if it was a wait, and what became of the database."""
    if options.command == "fleet":
        from .fleet import interrupted

        return interrupted(options)
    said = "interrupted"
    with suppress(MigrationError):
        alone = options.command in _WITHOUT_DATABASE and not getattr(options, "on_copy", False)
        said = waited or (said if alone else f"{located(options.database)}: interrupted")
    return "; ".join(filter(None, (said, _fate(options, waited))))


def _fate(options: Options, waited: str) -> str:
    """Return what became of the database, or of new files; nothing where that cannot be seen."""
    if options.command == "create":
        return "the files may have been written"
    if options.command == "renumber":
        return "the files may have been renamed"
    rehearsed = getattr(options, "dry_run", False) or getattr(options, "sql", False)
    moving = options.command in _MOVING and not rehearsed
    if options.command in _READING or rehearsed or (waited and not moving):
        return UNCHANGED
    doing = getattr(options, "doing", "")  # see _told
    unchanged = moving and not doing
    from ..run import commands

    try:
        how = _how(options)
        where, unfinished = commands.left(_directory(options), located(options.database), how["connect"])
    except MigrationError:
        return UNCHANGED if unchanged else ""
    at = f"{where.database} is at {where.version or BASE}"
    if not moving:  # all of it is done or nothing, and where the database is tells which
        return at
    if unfinished:
        return f"{at}, and {unfinished} will run again from its start"
    if unchanged:
        return UNCHANGED
    return at if waited and doing == "done" else f"rolled back, {at}"


def _upgrade(options: Options) -> Reply:
    if options.follow and _is_ahead(options):
        options.command = "downgrade"
    return _move(options)


def _is_ahead(options: Options) -> bool:
    """Tell whether a newer release has left a version that these files do not know."""
    from ..run import commands

    where = commands.current(_directory(options), _database(options), **_how(options))
    return not where.known


def _move(options: Options) -> Reply:
    directory, database = _directory(options), _database(options)
    request = Request(options.command, directory, options.target)
    _say_what_is_used(options, database, directory.place)
    if options.sql:
        from ..tools.sql import script

        return text.scripted(script(request, database, **_how(options)))
    if options.dry_run:
        return _rehearse(request, database, options)
    kept: list[str] = []
    try:
        result = startup.run(request, database, **_told(options, database, kept))
    except MigrationError as error:
        return text.failure(error, *kept)
    return text.moved(result, kept[0] if kept else None)


def _told(options: Options, database: str, kept: list[str]) -> dict[str, Any]:
    """Return how a run waits and tells of itself; `kept` gets the backup that is taken before it."""
    is_safe = options.command != "upgrade" if options.backup is None else options.backup

    def back_up(version: str) -> None:
        kept.extend(_back_up(database, version, options))

    show, is_new = text.step_reporter(options.form), not os.path.exists(database)

    def report(progress: Progress) -> None:
        nonlocal is_new
        if is_new:  # by now it is there
            text.tell(text.made(database), options.form)
            is_new = False
        options.doing = "done" if progress.done else "step"
        show(progress)

    return {"report": report, "prelude": back_up if is_safe else None, **_how(options)}


def _redo(options: Options) -> Reply:
    from ..tools.redo import run_again

    directory, database = _directory(options), _database(options)
    _say_what_is_used(options, database, directory.place)
    _say_if_missing(options, database)
    kept: list[str] = []
    try:
        say = text.say if options.form == "text" else lambda line: None
        result = run_again(directory, database, say=say, **_told(options, database, kept))
    except MigrationError as error:
        return text.failure(error, *kept)
    return text.moved(result, kept[0] if kept else None)


def _back_up(database: str, version: str, options: Options) -> list[str]:
    from ..tools.backup import take

    backup = take(database, version, report=text.pages_reporter(options.form), **_how(options))
    if backup is None:
        return []
    text.tell(text.backed_up(backup), options.form)
    return [backup.path]


def _rehearse(request: Request, database: str, options: Options) -> Reply:
    from ..tools.dry_run import rehearse

    report = text.live_reporter(options.form)
    rehearsal = rehearse(request, database, report=report, **_how(options))
    text.end_live_line(options.form)
    return text.rehearsed(rehearsal)


def _current(options: Options) -> Reply:
    from ..run import commands

    directory, database = _directory(options), _database(options)
    _say_what_is_used(options, database, directory.place)
    where = commands.current(directory, database, **_how(options))
    _say_if_missing(options, database)
    return text.current(where)._replace(code=int(options.check_heads and not where.at_head))


def _history(options: Options) -> Reply:
    from ..run import commands

    directory, database = _directory(options), _database(options)
    _say_what_is_used(options, database, directory.place)
    found = commands.history(directory, database, **_how(options))
    _say_if_missing(options, database)
    return text.history(*found)


def _heads(options: Options) -> Reply:
    history = _directory(options).history
    return text.heads(history[-1].version if history else None)


def _stamp(options: Options) -> Reply:
    from ..run import commands

    listed = directories.listed_even_if_empty if options.target == BASE else directories.listed
    directory, database = listed(_place(options)), _database(options)
    _say_what_is_used(options, database, directory.place)
    is_new = not os.path.exists(database)
    result = commands.stamp(directory, options.target, database, **_how(options))
    return _with_made(text.stamped(result), database if is_new else "")


def _with_made(reply: Reply, created: str) -> Reply:
    """Return a reply that begins with which database was created, if one was."""
    return reply._replace(lines=[text.made(created), *reply.lines]) if created else reply


def _create(options: Options) -> Reply:
    from ..tools.create import create

    how = {"rebuild": options.rebuild or "", "connect": _how(options)["connect"]}
    return text.created(*create(" ".join(options.name), _place(options), **how))


def _renumber(options: Options) -> Reply:
    from ..tools.renumber import renumber

    database, how = _database(options), _how(options)
    _say_if_missing(options, database)
    return text.renumbered(*renumber(options.name, database, _place(options), **how))


def _check(options: Options) -> Reply:
    from ..tools.check import check, wait

    place, database = _place(options), located(options.database)
    _say_what_is_used(options, database, place)
    how = {"full": options.full, "create": not options.existing, **_how(options)}
    if options.wait is None:
        return text.checked(check(database, place, **how))
    return text.checked(wait(database, place, seconds=options.wait, say=text.say, **how))


def _verify(options: Options) -> Reply:
    from ..tools.verify import verify, verify_on_copy

    place, how = _place(options), _how(options)
    if not options.on_copy:
        return text.proven(verify(place, connect=how["connect"]))
    database = _database(options)
    _say_what_is_used(options, database, place)
    return text.proven_on_copy(verify_on_copy(database, place, **how))


def _schema(options: Options) -> Reply:
    from ..tools.schema import schema

    found = schema(_place(options), target=options.target, connect=_how(options)["connect"])
    return text.drawn(found) if options.mermaid else text.declared(found)


def _fleet(options: Options) -> Reply:
    from .fleet import upgrade_all

    return upgrade_all(options, _place(options), _how(options))


def _completion(options: Options) -> Reply:
    from .completion import script

    return text.completed(options.shell, script(options.shell, str(_place(options))))


def _restore(options: Options) -> Reply:
    from ..tools.restore import backups, restore

    database = located(options.database)
    if options.backup is None:
        return text.saved(database, backups(database))
    place, database = _place(options), _database(options)
    is_new = not os.path.exists(database)
    result = restore(options.backup, database, place, say=text.say, **_how(options))
    return _with_made(text.restored(result), database if is_new else "")


_COMMANDS = {
    "upgrade": _upgrade,
    "downgrade": _move,
    "redo": _redo,
    "current": _current,
    "history": _history,
    "heads": _heads,
    "stamp": _stamp,
    "create": _create,
    "renumber": _renumber,
    "check": _check,
    "verify": _verify,
    "schema": _schema,
    "restore": _restore,
    "completion": _completion,
    "fleet": _fleet,
}


def _directory(options: Options) -> Directory:
    return directories.listed(_place(options))


def _place(options: Options) -> directories.Place:
    named = options.migrations
    return directories.located((os.environ.get("VMPILOT_MIGRATIONS") or None) if named is None else named)


def _database(options: Options) -> str:
    return str(located(options.database, create=not options.existing))


def _how(options: Options) -> dict[str, Any]:
    """Return how to open a database: for how long to wait for a lock, and with which function."""
    if not callable(options.connect):
        options.connect = _application(options.connect) if options.connect else SQLITE3
    return {"timeout": options.timeout, "connect": options.connect}


def _application(reference: str) -> Connect:
    """Return the application's function that opens a path: MODULE:FUNCTION."""
    from importlib import import_module

    named = f"--connect {reference}"
    module, _, name = reference.partition(":")
    # Last, so that what merely lies in the current directory stands for nothing that is installed.
    sys.path.append(os.getcwd())
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # whatever the application's module does when it is loaded
        raise AccessError(f"{named}: {error}; {UNCHANGED}") from error

    def connect(path: str) -> Any:
        try:
            connection = function(path)
            usable = is_connection(connection)  # of a closed one, an error of its module
        except Exception as error:
            raise AccessError(f"{named}: {error}; {UNCHANGED}") from error
        if not usable:
            kind = type(connection).__name__
            raise AccessError(f"{named}: expected an open connection, not {kind}; {UNCHANGED}")
        return connection

    return connect


def _say_what_is_used(options: Options, database: str, place: directories.Place) -> None:
    if options.verbose:
        text.say(f"database: {database}")
        text.say(f"migrations: {place}")


def _say_if_missing(options: Options, database: str) -> None:
    """Say that there is no such database, which reads as an empty one: its name may be mistyped."""
    if options.form == "text" and is_missing(database):
        text.say(f"{database}: no such file")
