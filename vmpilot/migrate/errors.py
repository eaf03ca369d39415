"""Every error that leaves the package.

No other module defines an exception, and nothing here knows how a message is shown.

A message reads `where: what[; what happened to the database][; what to do]`, on one line.
"""

from typing import Any


class MigrationError(Exception):
    """The one class that callers catch; its text is the whole message.

    `database` is the path of the database, None if there was none yet; `steps` are the Steps that were
    committed before the error.
    """

    kind = ""

    def __init__(self, message: str, *, database: str | None = None) -> None:
        super().__init__(" ".join(message.splitlines()))
        self.database = database
        self.steps: tuple[Any, ...] = ()


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
    """The database or a file cannot be opened, locked, read or written: fix the system."""

    kind = "access"
