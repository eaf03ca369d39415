"""Every error that leaves the package, with the steps that it carries.

No other module defines an exception, and nothing here knows where a message is shown.

A message reads `where: what[; what happened to the database][; what to do]`, on one line of printable
characters: what it quotes can come from a database or a file name, and must not take a terminal or forge a
line of a log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from .typed import Any, NamedTuple, TypeVar

_LONGEST = 8000
_SHOWN = 5  # of many findings of one kind

_T = TypeVar("_T")


def printable(text: str) -> str:
    """Return a text of any origin as one line of printable characters and of bounded length.

    Control characters are shown as Python writes them, all others that cannot be seen by their number
    (U+200B), and a byte of a file name that is no text as `\\xff`. What is too long loses its middle.
    """
    text = _cut(text)
    return text if text.isprintable() else _cut("".join(map(_shown, text)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _shown(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:  # https://peps.python.org/pep-0383/
        return f"\\x{code - 0xDC00:02x}"
    return ascii(character)[1:-1] if code < 0xA0 else f"U+{code:04X}"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}" + "s" * (number != 1)


def some(found: Sequence[str]) -> str:
    """Return the first few of many words, and how many more there are."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


class Step(NamedTuple):
    """One migration in one direction: planned, or done (then `took` says how many seconds it took)."""

    action: str
    version: str
    name: str
    before: str
    after: str
    took: float = 0.0


class MigrationError(Exception):
    """The one class that callers catch; its text is the whole message.

    `database` is the path of the database, None if there was none yet; `steps` are the Steps that were
    committed before the error.
    """

    kind = ""

    def __init__(self, message: str, *, database: str | None = None) -> None:
        super().__init__(printable(message))
        self.database = database
        self.steps: tuple[Step, ...] = ()


class HistoryError(MigrationError):
    """The migration files are wrong: fix the files."""

    kind = "history"

    def __init__(self, message: str, *, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.file = file
        self.line = line


class VersionError(MigrationError):
    """A version is unknown, or cannot be reached that way: ask differently."""

    kind = "version"

    def __init__(self, message: str, *, version: str = "") -> None:
        super().__init__(message)
        self.version = version


class StepError(MigrationError):
    """The SQL of one migration failed: fix that line."""

    kind = "step"

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, version: str = "", statement: str = ""
    ) -> None:
        super().__init__(message)
        self.file = file
        self.line = line
        self.version = version
        self.statement = statement


class AccessError(MigrationError):
    """The database or a file cannot be opened, locked, read or written: fix the system.

    `backup` is the newest backup of a damaged database that nothing was said of yet, "" if there is none.
    """

    kind = "access"
    backup = ""


# --- what is raised by others, and is no failure of a file or a database


def called(callback: Callable[..., _T], *values: Any) -> _T:
    """Call a function of the caller; this frame tells later who raised an error."""
    return callback(*values)


def is_of_the_caller(error: BaseException) -> bool:
    """Tell whether a callback or a signal handler of the caller raised an error.

    Its class tells nothing: the TimeoutError of an alarm is an OSError, as that of a network disk is. A
    handler runs between any two lines of ours: https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
    """
    trace = error.__traceback__
    if trace is None or trace.tb_next is None:  # straight out of what was called where it was caught
        return False
    signal = sys.modules.get("_signal")  # without it nobody has set a handler; it is never imported here,
    handlers = map(signal.getsignal, signal.valid_signals()) if signal else ()  # as no descriptor may be left
    codes = {called.__code__, *map(_code, handlers)}
    while trace and trace.tb_frame.f_code not in codes:
        trace = trace.tb_next
    return trace is not None


def not_of_the_caller(error: Exception) -> Exception:
    """Return an error that is caught, unless the caller raised it: then it comes out."""
    if is_of_the_caller(error):
        raise error
    return error


def _code(handler: Any) -> Any:
    """Return the code of a function, a partial one or an object that can be called; None if it has none."""
    function = getattr(handler, "func", handler)
    found = getattr(function, "__code__", None)
    return found or getattr(vars(type(function)).get("__call__"), "__code__", None)


class passed_over:
    """Suppress errors of these kinds, but for what the caller raised."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self.kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return error is not None and isinstance(error, self.kinds) and not is_of_the_caller(error)
