"""`python3 -m vmpilot.migrate`: the command line as a process.

Signals, streams and the exit code; everything else is in cli.
"""

import os
import signal
import sys
from types import FrameType

from .cli.commands import Terminated, main

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _stop(number: int, frame: FrameType | None) -> None:
    # One is enough: a second one would break into the rollback or the message. Blocked and not ignored:
    # of one that is pending already, Python would complain on standard error.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _run() -> int:
    try:
        # Set here, not inherited: a shell starts what it runs in the background with SIGINT ignored.
        for number in _SIGNALS:
            signal.signal(number, _stop)
        code = _answered()
        # What comes now is too late; while the interpreter ends, it would be killed with another code.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    except KeyboardInterrupt as interrupt:  # before there was something to stop, or when all was said
        return 143 if isinstance(interrupt, Terminated) else 130
    return code


def _answered() -> int:
    if sys.stdout is None:  # a process that starts with it closed; what is printed goes nowhere
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # The locale may be unable to say what a script or a path holds.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    try:
        try:
            code = main(sys.argv[1:])
        except SystemExit as end:  # help and wrong usage
            code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
    except OSError as error:
        # The reader has gone, or the disk is full; keep the interpreter from failing at it once more when
        # it flushes: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError) and sys.stderr:
            print(f"error: standard output: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    return code


sys.exit(_run())
