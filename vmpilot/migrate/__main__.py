"""`python -m vmpilot.migrate`: the command line as a process.

Signals, streams and the exit code; everything else is in cli.
"""

import os
import signal
import sys
from types import FrameType

from .cli.commands import Terminated, main


def _stop(number: int, frame: FrameType | None) -> None:
    # One signal is enough: a second one would break into the rollback or the message.
    # Not SIG_IGN: of one that is pending already, Python would complain on standard error.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _run() -> int:
    # Set here, not inherited: a shell starts what it runs in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    # The locale may be unable to say what a script or a path holds.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    try:
        try:
            code = main(sys.argv[1:])
        except SystemExit as end:  # help and wrong usage
            code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone; keep the interpreter from failing at it once more when it flushes:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _end(code: int) -> None:
    # The interpreter sets its handlers back while it ends: a late signal would kill it, with another code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


_end(_run())
