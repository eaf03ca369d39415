"""What the names of files and the rows of the two tables have in common; neither room knows the other."""

VERSION_TABLE = "alembic_version"
LOG_TABLE = "migration_log"
RUNNERS = (VERSION_TABLE, LOG_TABLE)

DIGITS = 32  # of a version; SQLite's and Python's integers have fewer, so a version is a text
LONGEST = 255  # characters of a revision, of a value and of a name


def is_version(text: str) -> bool:
    """Tell whether a text can be a version."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def is_fit(name: str) -> bool:
    """Tell whether a name can be printed and logged: no control characters, and nothing that is no UTF-8."""
    return name.isprintable() or not any(
        character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in name
    )
