"""The command line: arguments in; text, JSON and exit code out.

The only place that prints; what a command means is decided in the modules that it calls.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import __version__
from ..database import tables as ledger
from ..database.connection import located, reading, snapshot
from ..errors import MigrationError
from ..files import directory as files
from ..files.plan import BASE, Progress, Step
from ..run import commands as runner
from ..run.planning import Wish

if TYPE_CHECKING:
    from ..tools.verify import Verdict

_PROGRAM = "python -m vmpilot.migrate"
_TARGET = "head, base, a version (0002 or 2), a revision, +N or -N"
_DESCRIPTION = """Bring a SQLite database to the schema that the running code needs."""
_EPILOG = f"""commands (with none: upgrade head; details: {_PROGRAM} COMMAND --help):
  upgrade [TARGET]     apply pending migrations up to TARGET (head)
  downgrade [TARGET]   undo down to TARGET (-1), after a backup
  current              where the database is
  history, status      every migration: state, version, name, when applied, how long it took
  heads                the newest version
  stamp TARGET         record a version, run nothing
  create NAME...       write the next numbered pair of files (also: revision -m NAME)
  check                is the database at head and sound? exit 1 and every problem if not
  verify               prove the files: up, down, up again for each
  restore BACKUP       put a backup back, after checking it

TARGET: {_TARGET}
exit codes: 0 done or nothing to do, 1 refused or failed, 2 wrong usage, 130 interrupted"""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


class Reply(NamedTuple):
    """What a command answers: an object for --json, lines for people, the exit code, and an error."""

    data: dict[str, Any]
    lines: Iterable[str]
    code: int = 0
    error: str = ""


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code; usage errors leave as SystemExit with code 2."""
    command, rest = _command(arguments)
    options = _parser(command).parse_args(rest, argparse.Namespace(command=command))
    try:
        reply = _COMMANDS[command].run(options)
    except MigrationError as error:
        return _failed(error, options)
    except KeyboardInterrupt as interrupt:
        _end_live_line(options)
        print(f"error: {_interrupted(options)}", file=sys.stderr)
        return 143 if isinstance(interrupt, Terminated) else 130
    if options.json:
        _print_json(reply.data)
    elif not options.quiet:
        for line in reply.lines:
            print(line)
    if reply.error and not options.json:
        sys.stdout.flush()
        print(reply.error, file=sys.stderr)
    return reply.code


def _failed(error: MigrationError, options: argparse.Namespace) -> int:
    _end_live_line(options)
    if options.json:
        _print_json(_error_data(error))
    else:
        print(f"error: {error}", file=sys.stderr)
    return 1


def _error_data(error: MigrationError) -> dict[str, Any]:
    facts = {name: getattr(error, name, None) or None for name in ("file", "line", "version")}
    return {"error": {"kind": error.kind, "message": str(error), **facts}}


def _interrupted(options: argparse.Namespace) -> str:
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


# --- arguments


class _Command(NamedTuple):
    help: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Reply]


_WITH_VALUE = ("-d", "--database", "--migrations", "--timeout", "-m", "--message", "--wait")


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the command, which may stand between its options, and everything else.

    With none: upgrade. Help and version without a command are answered here.
    """
    value = False
    for index, word in enumerate(arguments):
        if not value and not word.startswith("-"):
            command = _OTHER_NAMES.get(word, word)
            if command not in _COMMANDS:
                _general().error(f'"{word}" is not a command; expected one of {", ".join(_COMMANDS)}')
            return command, arguments[:index] + arguments[index + 1 :]
        value = not value and word in _WITH_VALUE
    if {"-h", "--help"} & {*arguments}:
        _general().parse_args(["--help"])
    return "upgrade", arguments


def _general() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [OPTIONS] [COMMAND] [ARGS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _common(parser)
    return parser


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command: making those of all takes longer than doing nothing."""
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} {command}",
        description=_COMMANDS[command].help,
        formatter_class=_help,
        allow_abbrev=False,
    )
    _COMMANDS[command].options(parser)
    _common(parser)
    return parser


def _help(prog: str) -> argparse.HelpFormatter:
    # With a width of its own: argparse loads half a dozen modules to learn the terminal's.
    return argparse.HelpFormatter(prog, width=100)


def _common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-d", "--database", metavar="PATH", help="the database file, or sqlite:///PATH ($VMPILOT_DATABASE)")
    add("--migrations", metavar="DIR", help="the migration files ($VMPILOT_MIGRATIONS, else those that ship)")
    add("--timeout", metavar="SECONDS", type=_seconds, default=30.0, help="how long to wait for a lock (30)")
    add("--json", action="store_true", help="one JSON object on standard output")
    add("--quiet", action="store_true", help="print errors only")
    add("--verbose", action="store_true", help="say on standard error what is used")
    add("--version", action="version", version=f"vmpilot {__version__}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}")
    return seconds


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _upgrade_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", default="head", help=f"{_TARGET} (head)")
    _trial_options(parser)
    parser.add_argument("--backup", action="store_true", help="back up first ($VMPILOT_MIGRATE_BACKUP=1)")


def _downgrade_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="?", default="-1", help=f"{_TARGET} (-1)")
    _trial_options(parser)
    parser.add_argument("--no-backup", dest="backup", action="store_false", help="do not back up first")


def _trial_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--dry-run", action="store_true", help="rehearse on a private copy")
    group.add_argument("--sql", action="store_true", help="print a script for the sqlite3 shell, run nothing")


def _current_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check-heads", action="store_true", help="exit 1 unless the database is at head")


def _stamp_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=_TARGET)


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="NAME", nargs="*", help="what the migration does, in a few words")
    parser.add_argument("-m", "--message", metavar="NAME", help="the same, as Alembic takes it")


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", metavar="SECONDS", type=_seconds, help="wait until the database is at head")
    parser.add_argument("--full", action="store_true", help="the thorough and slow PRAGMA integrity_check")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-copy", action="store_true", help="prove the pending ones on a copy of the database"
    )


def _restore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP", help="the file that a backup wrote")


def _place(options: argparse.Namespace) -> files.Place:
    return files.located(options.migrations or os.environ.get("VMPILOT_MIGRATIONS") or None)


# --- commands


def _upgrade(options: argparse.Namespace) -> Reply:
    backup = options.backup or os.environ.get("VMPILOT_MIGRATE_BACKUP", "0") not in ("", "0")
    return _move("upgrade", options, backup)


def _downgrade(options: argparse.Namespace) -> Reply:
    return _move("downgrade", options, options.backup)


def _move(action: str, options: argparse.Namespace, backup: bool) -> Reply:
    place, database = _place(options), located(options.database)
    wish = Wish(action, place, files.discover(place), options.target)
    _say_what_is_used(options, database, place)
    if options.sql:
        from ..tools.sql import script

        lines = script(wish, database, timeout=options.timeout)
        return Reply({"sql": "\n".join(lines)}, lines)
    if options.dry_run:
        return _rehearse(wish, database, options)
    kept: list[str] = []

    def prelude(version: str) -> None:
        if backup:
            kept.extend(_back_up(database, version, options))

    steps = runner.run(wish, database, timeout=options.timeout, report=_reporter(options), prelude=prelude)
    before, after, at = _outcome(wish, database, steps, options)
    data = _moved(database, before, after, map(_step_data, steps))
    return Reply(data | {"backup": kept[0] if kept else None}, [at if steps else f"{at}, nothing to do"])


def _outcome(
    wish: Wish, database: str, steps: tuple[Step, ...], options: argparse.Namespace
) -> tuple[str | None, str | None, str]:
    """Return the versions before and after a run, and where the database is in words."""
    if not steps and wish.history and options.target == "head":
        head = wish.history[-1].version  # what a start-up finds; it need not look twice
        return head, head, f"{database} is at {head} (head)"
    where = runner.current(wish.place, database, timeout=options.timeout)
    before, after = (steps[0].before, steps[-1].after) if steps else (where.version, where.version)
    return before, after, f"{database} is at {_at(where)}"


def _moved(database: str, before: str | None, after: str | None, steps: Iterable[Any]) -> dict[str, Any]:
    return {
        "database": database,
        "from": None if before == BASE else before,
        "to": None if after == BASE else after,
        "steps": list(steps),
        "dry_run": False,
        "backup": None,
    }


def _back_up(database: str, version: str, options: argparse.Namespace) -> list[str]:
    from ..tools.backup import take

    path = take(database, version, timeout=options.timeout, report=_pages_reporter(options))
    _end_live_line(options)
    if path and not options.json and not options.quiet:
        print(f"backed up to {path}", flush=True)
    return [path] if path else []


def _rehearse(wish: Wish, database: str, options: argparse.Namespace) -> Reply:
    from ..tools.dry_run import rehearse

    result = rehearse(wish, database, timeout=options.timeout, report=_live_reporter(options))
    _end_live_line(options)
    where = runner.current(wish.place, database, timeout=options.timeout)
    done = [rehearsed.step for rehearsed in result.steps]
    after = done[-1].after if done else where.version
    steps = [
        _step_data(rehearsed.step)
        | {"changes": rehearsed.changes, "rows": [_rows_data(rows) for rows in rehearsed.rows]}
        for rehearsed in result.steps
    ]
    copy = {"bytes": result.size, "took_ms": round(1000 * result.seconds, 3)}
    data = _moved(database, where.version, after, steps) | {"dry_run": True, "copy": copy}
    lines = [f"copied {database}: {result.size} bytes ({duration(1000 * result.seconds)})"] if done else []
    for rehearsed in result.steps:
        step = rehearsed.step
        lines.append(f"would {step.action} {_title(step)} ({duration(1000 * step.took)})")
        lines += [f"  {change}" for change in rehearsed.changes]
        lines += [f"  {_rows_line(*rows)}" for rows in rehearsed.rows if rows[1] != rows[2]]
    if result.error:
        return Reply(
            data | _error_data(result.error), lines, 1, f"error: {result.error}; this was a rehearsal"
        )
    return Reply(data, [*lines, f"{database} is untouched"] if done else [f"{database}: nothing to do"])


def _rows_data(rows: tuple[str, int | None, int | None]) -> dict[str, Any]:
    return dict(zip(("table", "before", "after"), rows, strict=True))


def _rows_line(table: str, before: int | None, after: int | None) -> str:
    return f"rows of {table}: {'none' if before is None else before} -> {'none' if after is None else after}"


def _current(options: argparse.Namespace) -> Reply:
    place = _place(options)
    where = runner.current(place, located(options.database), timeout=options.timeout)
    _say_what_is_used(options, where.database, place)
    failed = options.check_heads and not where.at_head
    return Reply(where._asdict(), [_at(where)] if where.version else [], int(failed))


def _history(options: argparse.Namespace) -> Reply:
    place = _place(options)
    where, entries = runner.history(place, located(options.database), timeout=options.timeout)
    _say_what_is_used(options, where.database, place)
    data = {
        "database": where.database,
        "version": where.version,
        "migrations": [entry._asdict() for entry in entries],
    }
    return Reply(data, _table(entries, where.version))


def _heads(options: argparse.Namespace) -> Reply:
    history = files.discover(_place(options))
    head = history[-1].version if history else None
    return Reply({"head": head}, [f"{head} (head)"] if head else [])


def _stamp(options: argparse.Namespace) -> Reply:
    place, database = _place(options), located(options.database)
    _say_what_is_used(options, database, place)
    step = runner.stamp(place, options.target, database, timeout=options.timeout)
    data = _moved(database, step.before, step.after, [_step_data(step)])
    return Reply(data, [f"{database} is stamped {step.after}"])


def _create(options: argparse.Namespace) -> Reply:
    from ..tools.create import create

    words = options.words + ([options.message] if options.message is not None else [])
    if not words:
        _parser("create").error("the following arguments are required: NAME")
    up, down = create(" ".join(words), _place(options))
    return Reply({"up": up, "down": down}, [up, down])


def _check(options: argparse.Namespace) -> Reply:
    from ..tools.check import check, wait

    place, database = _place(options), located(options.database)
    _say_what_is_used(options, database, place)
    if options.wait is None:
        health = check(database, place, full=options.full, timeout=options.timeout)
    else:
        health = wait(
            database,
            place,
            seconds=options.wait,
            full=options.full,
            timeout=options.timeout,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    data = {
        "database": health.database,
        "ok": health.ok,
        "problems": [problem._asdict() for problem in health.problems],
        "remarks": health.remarks,
    }
    lines = [f"{problem.kind}: {problem.message}" for problem in health.problems]
    lines += [f"remark: {remark}" for remark in health.remarks]
    return Reply(
        data, [*lines, f"{health.database} is at head and sound"] if health.ok else lines, int(not health.ok)
    )


def _verify(options: argparse.Namespace) -> Reply:
    from ..tools.verify import verify, verify_on_copy

    place = _place(options)
    if options.on_copy:
        database = located(options.database)
        _say_what_is_used(options, database, place)
        proof = verify_on_copy(database, place, timeout=options.timeout)
    else:
        proof = verify(place)
    lines = []
    for verdict in proof.migrations:
        lines.append(f"{'ok  ' if verdict.ok else 'FAIL'}  {verdict.version} {verdict.name}".rstrip())
        lines += [f"      {text}" for text in (*verdict.problems, *verdict.remarks)]
        if options.on_copy:
            lines += [f"      {_rows_line(*rows)}" for rows in verdict.rows]
            lines += [f"      a downgrade would cost: {text}" for text in verdict.loses]
    data = {"ok": proof.ok, "migrations": [_verdict_data(verdict) for verdict in proof.migrations]}
    failed = sum(not verdict.ok for verdict in proof.migrations)
    total = f"{len(proof.migrations)} {'migration' if len(proof.migrations) == 1 else 'migrations'}"
    return Reply(data, [*lines, f"{total}, {failed} with problems"], int(not proof.ok))


def _verdict_data(verdict: "Verdict") -> dict[str, Any]:
    return verdict._asdict() | {"rows": [_rows_data(rows) for rows in verdict.rows]}


def _restore(options: argparse.Namespace) -> Reply:
    from ..tools.backup import restore

    result = restore(options.backup, located(options.database), _place(options), timeout=options.timeout)
    lines = [f"kept what was there as {result.kept}"] if result.kept else []
    lines.append(f"{result.database} is at {result.version or BASE}, restored from {result.backup}")
    return Reply(result._asdict(), lines)


_COMMANDS = {
    "upgrade": _Command("Apply pending migrations up to TARGET.", _upgrade_options, _upgrade),
    "downgrade": _Command("Undo migrations down to TARGET, after a backup.", _downgrade_options, _downgrade),
    "current": _Command("Print where the database is.", _current_options, _current),
    "history": _Command("List every migration as seen from the database.", _no_options, _history),
    "heads": _Command("Print the newest version.", _no_options, _heads),
    "stamp": _Command("Record a version without running SQL.", _stamp_options, _stamp),
    "create": _Command("Write the next numbered pair of files.", _create_options, _create),
    "check": _Command("Say whether the database is at head and sound.", _check_options, _check),
    "verify": _Command("Prove the files: up, down, up again for each.", _verify_options, _verify),
    "restore": _Command("Put a backup back, after checking it.", _restore_options, _restore),
}
_OTHER_NAMES = {"status": "history", "revision": "create"}


# --- text


def _at(where: runner.Current) -> str:
    if where.version is None:
        return BASE
    if where.version == where.head:
        return f"{where.version} (head)"
    return where.version if where.known else f"{where.version} (unknown)"


def _step_data(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "version": step.version,
        "name": step.name,
        "took_ms": round(1000 * step.took, 3),
    }


def _reporter(options: argparse.Namespace) -> Callable[[Progress], None]:
    """Return what prints a line for each committed step and, on a terminal, a live one before that."""
    live = _live_reporter(options)

    def report(progress: Progress) -> None:
        live(progress)
        step = progress.step
        if progress.done and not options.json and not options.quiet:
            verb = "applied" if step.action == "upgrade" else "undone"
            with suppress(BrokenPipeError):  # that nobody reads on is no reason to stop half-way
                _end_live_line(options)
                print(f"{verb} {_title(step)} ({duration(1000 * step.took)})", flush=True)

    return report


def _live_reporter(options: argparse.Namespace) -> Callable[[Progress], None]:
    """Return what shows the running step on a terminal, and elsewhere nothing."""

    def report(progress: Progress) -> None:
        if not progress.done:
            at = f"statement {min(progress.statement + 1, progress.statements)} of {progress.statements}"
            print(f"{_ERASE}{_title(progress.step)}: {at}, {_clock(progress.elapsed)}", end="", flush=True)

    return report if _is_live(options) else lambda progress: None


def _pages_reporter(options: argparse.Namespace) -> Callable[[int, int], None]:
    """Return what shows on a terminal how much of a backup is done."""

    def report(done: int, total: int) -> None:
        print(f"{_ERASE}backup: {100 * done // max(total, 1)} %", end="", flush=True)

    return report if _is_live(options) else lambda done, total: None


def _is_live(options: argparse.Namespace) -> bool:
    return sys.stdout.isatty() and not options.json and not options.quiet


def _clock(seconds: float) -> str:
    return duration(1000 * seconds) if seconds >= 1 else f"{seconds:.1f} s"


_ERASE = "\r\x1b[K"


def _end_live_line(options: argparse.Namespace) -> None:
    if _is_live(options):
        print(_ERASE, end="", flush=True)


def _title(step: Step) -> str:
    return f"{step.version} {step.name}".rstrip()


def duration(milliseconds: float) -> str:
    """Return a length of time with the unit that suits it."""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


_COLOURS = {"applied": "32", "pending": "33", "edited": "31", "late": "31", "unknown": "31"}


def _table(entries: Iterable[runner.Entry], version: str | None) -> list[str]:
    rows = [("", "version", "name", "state", "applied at", "took")]
    for entry in entries:
        mark = "*" if entry.version == version else ""
        took = "" if entry.took_ms is None else duration(entry.took_ms)
        rows.append((mark, entry.version, entry.name, entry.state, _local(entry.applied_at), took))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if not _coloured():
        return [line.rstrip() for line in lines]
    return [
        f"\x1b[{_COLOURS[row[3]]}m{line.rstrip()}\x1b[0m" if row[3] in _COLOURS else line.rstrip()
        for row, line in zip(rows, lines, strict=True)
    ]


def _coloured() -> bool:
    """Tell whether standard output shows colours: https://no-color.org"""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _local(moment: str | None) -> str:
    """Return a UTC time in the reader's zone."""
    if not moment:
        return ""
    from datetime import datetime

    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _say_what_is_used(options: argparse.Namespace, database: str, place: files.Place) -> None:
    if options.verbose:
        print(f"database: {database}", f"migrations: {place}", sep="\n", file=sys.stderr)


def _print_json(data: dict[str, Any]) -> None:
    import json

    print(json.dumps(data))
