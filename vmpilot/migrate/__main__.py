"""`python3 -m vmpilot.migrate` and `vmpilot-migrate`: the command line as a process.

Signals, streams and the exit code; everything else is in cli.
"""

from __future__ import annotations

import gc

from .typed import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    import signal
else:  # what `signal` itself adds to this, enumerations, takes longer to load than all of cli
    import _signal as signal

# What is loaded stays: to look through it again and again for what can go takes longer than many a migration.
gc.set_threshold(50_000)

# Until there is something to stop, Ctrl-C ends this at once and without a traceback, as SIGTERM does.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import io  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from types import FrameType  # noqa: E402

from .cli.commands import Terminated, main  # noqa: E402
from .cli.text import say  # noqa: E402

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _stop(number: int, frame: FrameType | None) -> None:
    # One is enough: a second one would break into the rollback or the message. Blocked and not ignored:
    # of one that is pending already, Python would complain on standard error.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def run() -> int:
    """Run the command line as this process; return its exit code. The script `vmpilot-migrate` calls it."""
    try:
        # Set here, not inherited: a shell starts what it runs in the background with SIGINT ignored.
        for number in _SIGNALS:
            signal.signal(number, _stop)
        code = _answered()
        # What comes now is too late; while the interpreter ends, it would be killed with another code.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    except KeyboardInterrupt as interrupt:  # before there was something to stop, or when all was said
        code = 143 if isinstance(interrupt, Terminated) else 130
    for stream in (sys.stdout, sys.stderr):
        _let_go(stream)
    # While the interpreter ends, it would look twice through all that was loaded for what can go.
    gc.freeze()
    return code


def _answered() -> int:
    sys.stdout, sys.stderr = _usable(sys.stdout), _usable(sys.stderr)
    # The locale may be unable to say what a script or a path holds.
    cast(io.TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        try:
            code = main(sys.argv[1:])
        except SystemExit as end:  # help and wrong usage
            code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
    except OSError as error:
        _let_go(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # the disk is full
            say(f"error: standard output: {(error.strerror or str(error)).lower()}")
        code = 1
    return code


def _let_go(stream: TextIO) -> None:
    """Keep the interpreter from failing at a stream when it flushes it at its end, with a code of its own.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Patient(io.FileIO):
    """A file that waits for room where it would otherwise take nothing: what it leads to is non-blocking.

    To make it blocking would make it so for all who share it:
    https://man7.org/linux/man-pages/man2/fcntl.2.html
    """

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Write what there is room for, but something, and return how much."""
        from select import select

        while (written := cast("int | None", super().write(data))) is None:
            select((), (self,), ())
        return written


def _usable(stream: TextIO | None) -> TextIO:
    """Return a stream that takes all that is written: one that is closed takes it nowhere."""
    if stream is None:  # as a process finds it that starts with it closed
        return open(os.devnull, "w")
    try:
        if os.get_blocking(stream.fileno()):
            return stream
    except OSError:  # no file of the system
        return stream
    raw = io.BufferedWriter(cast(io.RawIOBase, _Patient(stream.fileno(), "w", closefd=False)))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True)


if __name__ == "__main__":
    sys.exit(run())
