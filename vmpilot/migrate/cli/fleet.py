"""The command `fleet`: a line for each failure, with --json an object for each database, and how far it is.

What becomes of a database is decided below, in `tools.fleet`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing, suppress

from ..errors import MigrationError, counted, printable
from ..files.directory import Place
from ..tools.fleet import Finished, Stop, Work, each, files
from ..tools.patterns import Meant, meant
from ..typed import Any, NamedTuple
from . import text
from .options import Options
from .text import Reply
from .usage import shown

_SHOWN_EACH = 0.1  # seconds between two live lines


class _Count(NamedTuple):
    """How far a fleet is: how many databases there are, and of them upgraded, at head already, and failed."""

    total: int
    upgraded: int = 0
    same: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Return of how many it is known what became of them."""
        return self.upgraded + self.same + self.failed


def upgrade_all(options: Options, place: Place, how: dict[str, Any]) -> Reply:
    """Upgrade the databases that the words of a command line mean; go on after errors."""
    found = meant(options.pattern, _standard_input)
    if options.verbose:
        text.say(f"databases: {len(found.databases)}")
        text.say(f"migrations: {place}")
    timeout, backup = float(how["timeout"]), bool(options.backup)
    work = Work(
        files(place),
        "head",
        backup,
        timeout,
        create=False,
        connect=how["connect"],
        stop=Stop(),
        say=text.say_of_a_wait(options.form),
    )
    count, started = _Count(len(found.databases) + len(found.errors)), time.monotonic()
    for word, error in found.errors:
        count = count._replace(failed=count.failed + 1)
        _tell_failure(word, str(error), error, options.form)
    last = 0.0
    with closing(each(found.databases, work, threads=options.jobs)) as outcomes:
        for outcome in outcomes:
            count = _counted(count, outcome)
            options.doing = f"{count.done} of {count.total} done, {count.failed} failed"
            _tell(outcome, options.form)
            now = time.monotonic()
            if now - last >= _SHOWN_EACH:
                last = now
                text.show_first_that_fits(_progress(count, now - started), options.form)
    text.end_live_line(options.form)
    return Reply({}, [_summary(count, found, time.monotonic() - started)], int(count.failed > 0))


def interrupted(options: Options) -> str:
    """Return how far a fleet was that a signal has ended."""
    done = getattr(options, "doing", "")
    return f"interrupted; {done or 'nothing was changed'}; a further run does what is left"


def _counted(count: _Count, outcome: Finished) -> _Count:
    if not outcome.result:
        return count._replace(failed=count.failed + 1)
    if outcome.result.steps:
        return count._replace(upgraded=count.upgraded + 1)
    return count._replace(same=count.same + 1)


def _tell(outcome: Finished, form: str) -> None:
    if error := outcome.error:
        name, said = os.fspath(outcome.database), str(error)
        # Each time with its name first: that sorts.
        told = said if said.startswith(printable(name)) else f"{shown(name)}: {said}"
        _tell_failure(name, told, error, form)
    elif outcome.result and form == "json":
        print(json.dumps(text.one_of_many(outcome.result, outcome.seconds)), flush=True)


def _tell_failure(name: str, told: str, error: MigrationError, form: str) -> None:
    if form == "json":
        print(json.dumps({"database": shown(name), "error": text.failure(error).data["error"]}), flush=True)
        return
    text.end_live_line(form)
    text.say(f"error: {told}")


def _progress(count: _Count, seconds: float) -> tuple[str, ...]:
    """Return how far a fleet is, in fewer and fewer columns."""
    rate = count.done / max(seconds, 0.001)
    quick = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    left = _clock((count.total - count.done) / max(rate, 0.001))
    return (
        f"{count.done} of {count.total} done, {count.failed} failed, {quick} per second, {left} left",
        f"{count.done}/{count.total}, {count.failed} failed, {quick}/s, {left} left",
        f"{count.done}/{count.total}, {count.failed} failed",
    )


def _clock(seconds: float) -> str:
    """Return a length of time that is only guessed: in whole seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _summary(count: _Count, found: Meant, seconds: float) -> str:
    told = f"{counted(count.total, 'database')}: {count.upgraded} upgraded, {count.same} at head already"
    beside = "of those beside databases (backups, logs) left out"
    left_out = f"; {counted(found.left_out, 'file')} {beside}" if found.left_out else ""
    return f"{told}, {count.failed} failed ({text.duration(1000 * seconds)}){left_out}"


def _standard_input() -> bytes:
    with suppress(AttributeError, OSError):  # closed, or no file of the system
        return sys.stdin.buffer.read()
    return b""
