"""How every result shows itself: as lines for people and as an object for --json.

Results come in, a Reply goes out, and one function prints it. Beside it stands what appears while a command
still works: a line for each step that is committed and, on a terminal, a live one. Nothing is decided here.

A form is "text", "json" or "quiet".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ..errors import MigrationError, counted, printable
from ..files.plan import BASE, Progress, Step
from ..run.request import Current, Result
from ..typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..run.request import Entry
    from ..tools.backup import Backup
    from ..tools.check import Health
    from ..tools.dry_run import Rehearsal, Rehearsed
    from ..tools.restore import Restored, Saved
    from ..tools.schema import Schema
    from ..tools.verify import Proof, Verdict


class Reply(NamedTuple):
    """What a command answers: an object for --json, lines for people, the exit code, and an error.

    The lines are printable, whatever they quote: `_said` sees to that, but for a script and for colours.
    """

    data: dict[str, Any]
    lines: Iterable[str]
    code: int = 0
    error: str = ""


def show(reply: Reply, form: str) -> int:
    """Print a reply and return its exit code."""
    if form == "json":
        import json

        if reply.data:  # a fleet has told all
            print(json.dumps(reply.data))
        return reply.code
    lines = reply.lines if form == "text" else ()
    if not reply.error:
        _print(lines)
        return reply.code
    with suppress(OSError):  # that nobody reads the result is no reason to keep the error back
        end_live_line(form)
        _print(lines)
        print(end="", flush=True)
    say(f"error: {reply.error}")
    return reply.code


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def say(line: str) -> None:
    """Print a message of one line, which is no result: where standard error is full, nowhere."""
    with suppress(OSError):  # what could not be said is no reason to stop; the exit code tells
        print(printable(line), file=sys.stderr, flush=True)


def _said(lines: Iterable[str]) -> list[str]:
    """Return lines in which names of files and from databases cannot take the terminal."""
    return [printable(line) for line in lines]


# --- results


def moved(result: Result, backup: str | None) -> Reply:
    """Return what a run did."""
    said = f"{result.now.database} is at {position(result.now)}"
    lines = [said if result.steps else f"{said}, nothing to do"]
    return Reply(_result_data(result) | {"backup": backup}, _said(lines))


def made(database: str) -> str:
    """Say that a database was created: its name may be mistyped."""
    return printable(f"created {database}")


def stamped(result: Result) -> Reply:
    """Return what a stamp recorded."""
    lines = [f"{result.now.database} is stamped {result.now.version or BASE}"]
    return Reply(_result_data(result), _said(lines))


def rehearsed(rehearsal: Rehearsal) -> Reply:
    """Return how a run went on a copy of the database."""
    database, steps, before = rehearsal.database, rehearsal.steps, rehearsal.before
    data = _moved(database, before, steps[-1].step.after if steps else before, map(_rehearsed_data, steps))
    copy = {"bytes": rehearsal.size, "took_ms": _milliseconds(rehearsal.seconds)}
    data |= {"dry_run": True, "copy": copy}
    lines = [line for step in steps for line in _rehearsed_lines(step)]
    if steps:
        lines.insert(0, f"copied {database}: {rehearsal.size} bytes ({duration(1000 * rehearsal.seconds)})")
    if rehearsal.error:
        failed = failure(rehearsal.error)
        return Reply(failed.data | data, _said(lines), failed.code, f"{failed.error}; this was a rehearsal")
    lines = [*lines, f"{database} is untouched"] if steps else [f"{database}: nothing to do"]
    return Reply(data, _said(lines))


def scripted(lines: list[str]) -> Reply:
    """Return the script that would do what a run does."""
    return Reply({"sql": "\n".join(lines)}, lines)


def current(where: Current) -> Reply:
    """Return where a database is; at base there is no line."""
    return Reply(where._asdict(), _said([position(where)] if where.version else []))


def history(where: Current, entries: Sequence[Entry]) -> Reply:
    """Return every migration as seen from a database."""
    migrations = [entry._asdict() for entry in entries]
    data = {"database": where.database, "version": where.version, "migrations": migrations}
    return Reply(data, _table(entries, where.version))


def heads(head: str | None) -> Reply:
    """Return the newest version, None if there is no migration."""
    return Reply({"head": head}, [f"{head} (head)"] if head else [])


def created(up: str, down: str) -> Reply:
    """Return the two files that were written."""
    return Reply({"up": up, "down": down}, _said([up, down]))


def renumbered(up: str, down: str | None) -> Reply:
    """Return the names that files have now."""
    return Reply({"up": up, "down": down}, _said([up, *([down] if down else [])]))


def checked(health: Health) -> Reply:
    """Return all that was found to be wrong with a database."""
    data = health._asdict() | {"problems": [problem._asdict() for problem in health.problems]}
    lines = [f"{problem.kind}: {problem.message}" for problem in health.problems]
    lines += [f"remark: {remark}" for remark in health.remarks]
    lines += [f"{health.database} is at head and sound"] if health.ok else []
    return Reply(data, _said(lines), int(not health.ok))


def proven(proof: Proof) -> Reply:
    """Return what was found of each migration."""
    return _proof(proof, lambda verdict: [])


def proven_on_copy(proof: Proof) -> Reply:
    """Return what was found of each migration, and what it does to the rows of a database."""
    return _proof(proof, _rows_lines)


def declared(schema: Schema) -> Reply:
    """Return a schema as SQL, which is a script: printed as it is."""
    return Reply(schema._asdict(), schema.sql.split("\n")[:-1])


def drawn(schema: Schema) -> Reply:
    """Return a schema as a picture."""
    return Reply(schema._asdict(), schema.mermaid.split("\n")[:-1])


def completed(shell: str, script: str) -> Reply:
    """Return what a shell is to read, as it is."""
    return Reply({"shell": shell, "script": script}, script.split("\n")[:-1])


def saved(database: str, backups: Sequence[Saved]) -> Reply:
    """Return the backups that there are of a database."""
    data = {"database": database, "backups": [backup._asdict() for backup in backups]}
    lines = [f"{_local(backup.taken_at)}  {_bytes(backup.bytes)}  {backup.path}" for backup in backups]
    return Reply(data, _said(lines or [f"no backups of {database}"]))


def backed_up(backup: Backup) -> str:
    """Say where a backup is."""
    if backup.unfinished:
        return f"{backup.unfinished} is unfinished: no new backup, {backup.path} is kept"
    return f"backed up to {backup.path}" + f"; {backup.doubt}" * bool(backup.doubt)


def restored(result: Restored) -> Reply:
    """Return what was put back."""
    lines = [f"kept what was there as {result.kept}"] if result.kept else []
    lines.append(f"{result.database} is at {result.version or BASE}, restored from {result.backup}")
    return Reply(result._asdict(), _said(lines))


def failure(error: MigrationError, backup: str | None = None) -> Reply:
    """Return why a command failed, what was committed before, and the backup that was taken before."""
    facts = {name: getattr(error, name, None) or None for name in _FACTS}
    told = {"kind": error.kind, "message": str(error), **facts}
    data = {"error": told, "steps": [_step_data(step) for step in error.steps], "backup": backup}
    return Reply(data, (), 1, str(error))


_FACTS = ("file", "line", "version", "database", "statement")


def position(where: Current) -> str:
    """Return where a database is, in words."""
    if where.version is None:
        return BASE
    if where.at_head:
        return f"{where.version} (head)"
    return where.version if where.known else f"{where.version} (unknown)"


def _result_data(result: Result) -> dict[str, Any]:
    now = result.now
    return _moved(now.database, result.before, now.version or BASE, map(_step_data, result.steps))


def one_of_many(result: Result, seconds: float) -> dict[str, Any]:
    """Return what became of one database of a fleet."""
    data = _result_data(result)
    told = {name: data[name] for name in ("database", "from", "to", "steps")}
    return told | {"took_ms": _milliseconds(seconds)}


def _moved(database: str, before: str, after: str, steps: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "database": database,
        "from": None if before == BASE else before,
        "to": None if after == BASE else after,
        "steps": list(steps),
        "dry_run": False,
        "backup": None,
    }


def _step_data(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "version": step.version,
        "name": step.name,
        "took_ms": _milliseconds(step.took),
    }


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _rehearsed_data(rehearsed: Rehearsed) -> dict[str, Any]:
    rows = [_rows_data(rows) for rows in rehearsed.rows]
    return _step_data(rehearsed.step) | {"changes": rehearsed.changes, "rows": rows}


def _rehearsed_lines(rehearsed: Rehearsed) -> list[str]:
    step = rehearsed.step
    return [
        f"would {step.action} {_title(step)} ({duration(1000 * step.took)})",
        *(f"  {change}" for change in rehearsed.changes),
        *(f"  {_rows_line(*rows)}" for rows in rehearsed.rows if rows[1] != rows[2]),
    ]


def _rows_data(rows: tuple[str, int | None, int | None]) -> dict[str, Any]:
    return dict(zip(("table", "before", "after"), rows, strict=True))


def _rows_line(table: str, before: int | None, after: int | None) -> str:
    return f"rows of {table}: {'none' if before is None else before} -> {'none' if after is None else after}"


def _proof(proof: Proof, more: Callable[[Verdict], list[str]]) -> Reply:
    lines = []
    for verdict in proof.migrations:
        lines.append(f"{'ok  ' if verdict.ok else 'FAIL'}  {verdict.version} {verdict.name}".rstrip())
        lines += [f"      {text}" for text in (*verdict.problems, *verdict.remarks, *more(verdict))]
    failed = sum(not verdict.ok for verdict in proof.migrations)
    total = counted(len(proof.migrations), "migration")
    data = {"ok": proof.ok, "migrations": [_verdict_data(verdict) for verdict in proof.migrations]}
    return Reply(data, _said([*lines, f"{total}, {failed} with problems"]), int(not proof.ok))


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return verdict._asdict() | {"rows": [_rows_data(rows) for rows in verdict.rows]}


def _rows_lines(verdict: Verdict) -> list[str]:
    costs = [f"a downgrade would cost: {text}" for text in verdict.loses]
    return [_rows_line(*rows) for rows in verdict.rows] + costs


# --- while a command works


def tell(line: str, form: str) -> None:
    """Print at once, in place of the live line, what is done for good."""
    if form == "text":
        with suppress(OSError):  # that nobody reads on is no reason to stop half-way
            end_live_line(form)
            print(printable(line), flush=True)


def step_reporter(form: str) -> Callable[[Progress], None]:
    """Return what prints a line for each committed step and, on a terminal, a live one before that."""
    live = live_reporter(form)

    def report(progress: Progress) -> None:
        live(progress)
        step = progress.step
        if progress.done:
            verb = "applied" if step.action == "upgrade" else "undone"
            what = duration(1000 * step.took) if progress.statements else "no statement"
            tell(f"{verb} {_title(step)} ({what})", form)

    return report


def live_reporter(form: str) -> Callable[[Progress], None]:
    """Return what shows the running step on a terminal, and elsewhere nothing."""

    def report(progress: Progress) -> None:
        if not progress.done:
            at = f"statement {min(progress.statement + 1, progress.statements)} of {progress.statements}"
            _show_live(_title(progress.step), f": {at}, {_clock(progress.elapsed)}")

    return report if _is_live(form) else lambda progress: None


def pages_reporter(form: str) -> Callable[[int, int], None]:
    """Return what shows on a terminal how much of a backup is done."""

    def report(done: int, total: int) -> None:
        _show_live("backup", f": {100 * done // max(total, 1)} %")

    return report if _is_live(form) else lambda done, total: None


def show_first_that_fits(lines: Sequence[str], form: str) -> None:
    """Show on a terminal the first of these lines for which there is room, else what fits of the last."""
    if _is_live(form):
        fitting = (line for line in lines if _width(line) < _room())
        _show_live("", next(fitting, lines[-1]))


def say_of_a_wait(form: str) -> Callable[[str], None]:
    """Return what says that a lock is waited for, in place of the live line; only where lines are wanted."""

    def say_so(line: str) -> None:
        end_live_line(form)
        say(printable(line))

    return say_so if form == "text" else lambda line: None


def end_live_line(form: str) -> None:
    """Erase the live line, if there can be one."""
    if _is_live(form):
        _print_piece(_ERASE)


_ERASE = "\r\x1b[K"


def _show_live(name: str, rest: str) -> None:
    """Show a live line that stays one: the name is what is shortened.

    The last column stays empty, because some terminals go to the next line as soon as it is filled.
    """
    room = _room() - 1
    rest = shortened(rest, room)
    _print_piece(f"{_ERASE}{shortened(name, room - len(rest))}{rest}")


def _print_piece(piece: str) -> None:
    with suppress(OSError):  # a terminal that has gone is no reason to stop half-way
        print(piece, end="", flush=True)


def _is_live(form: str) -> bool:
    return form == "text" and _knows_escapes()


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _knows_escapes() -> bool:
    """Tell whether standard output is a terminal that is more than paper: one that says what it is.

    https://man7.org/linux/man-pages/man7/term.7.html
    """
    return _is_terminal() and os.environ.get("TERM", "") not in ("", "dumb")


def _room() -> int:
    """Return how many columns the terminal has at this moment, 80 if it does not tell."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    return _COLUMNS


_COLUMNS = 80


def _clock(seconds: float) -> str:
    return duration(1000 * seconds) if seconds >= 1 else f"{seconds:.1f} s"


# --- parts of lines


def _title(step: Step) -> str:
    return printable(f"{step.version} {step.name}".rstrip())


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


def _bytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"


_COLOURS = {"applied": "32", "pending": "33", "edited": "31", "other": "31", "late": "31", "unknown": "31"}


def _table(entries: Iterable[Entry], version: str | None) -> list[str]:
    rows = [("", "version", "state", "applied at", "took".ljust(len("1 min 2 s")), "name")]
    for entry in entries:
        mark = "*" if entry.version == version else ""
        took = "" if entry.took_ms is None else duration(entry.took_ms)
        told = entry.state, _local(entry.applied_at), took
        rows.append((mark, printable(entry.version), *told, printable(entry.name)))
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)][:-1]
    shown, room = _columns(widths)
    lines = [
        "  ".join((*(_padded(row[at], widths[at]) for at in shown), shortened(row[-1], room))).rstrip()
        for row in rows
    ]
    if not _is_coloured():
        return lines
    return [
        f"\x1b[{_COLOURS[row[2]]}m{line}\x1b[0m" if row[2] in _COLOURS else line
        for row, line in zip(rows, lines, strict=True)
    ]


_SHORTEST_NAME = 8
_KEPT_COLUMNS = 3  # mark, version and state


def _columns(widths: Sequence[int]) -> tuple[list[int], int]:
    """Return the columns for which there is room on a terminal before the name, and what is left for that."""
    shown = list(range(len(widths)))
    if not _is_terminal():
        return shown, sys.maxsize
    while True:
        room = _room() - sum(widths[at] + 2 for at in shown)
        if room >= _SHORTEST_NAME or len(shown) <= _KEPT_COLUMNS:
            return shown, max(room, _SHORTEST_NAME)
        shown.pop()


def _is_coloured() -> bool:
    """Tell whether standard output shows colours: https://no-color.org"""
    return _knows_escapes() and not os.environ.get("NO_COLOR")


def _local(moment: str | None) -> str:
    """Return a UTC time in the reader's zone, which is told; what is no time, as it is.

    In UTC where the zone is none, or where it would lead out of the years that there are.
    """
    if not moment:
        return ""
    from datetime import UTC, datetime

    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return shortened(printable(moment), _LONGEST_TIME)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    with suppress(ValueError, OverflowError):
        at = at.astimezone()
    told = at.isoformat(" ", "minutes")
    return f"{told[:16]} {told[16:].replace('+00:00', 'UTC')}"


_LONGEST_TIME = len("2026-11-25 18:20 +01:00")


# --- columns of a terminal


def shortened(text: str, columns: int) -> str:
    """Return as much of a text as a terminal shows in so many columns, with … where the rest was."""
    if _width(text) <= columns:
        return text
    kept = ""
    for character in text:
        if _width(kept + character) >= columns:
            break
        kept += character
    return f"{kept}…" if columns > 0 else ""


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - _width(text))


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes at most.

    Two for what is wide in East Asia (https://www.unicode.org/reports/tr11/), none for what is put on top
    of the character before; of that, a variation selector can make it wider.
    """
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    wide = sum(east_asian_width(character) in "WF" for character in text)
    on_top = sum(category(character) in ("Mn", "Me") and character != "\ufe0f" for character in text)
    return len(text) + wide - on_top
