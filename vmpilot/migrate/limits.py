"""What the names of files and the rows of the two tables have in common; neither room knows the other."""

VERSION_TABLE = "alembic_version"
LOG_TABLE = "migration_log"
RUNNERS = (VERSION_TABLE, LOG_TABLE)

DIGITS = 32  # of a version; SQLite's and Python's integers have fewer, so a version is a text
LONGEST = 255  # characters of a revision, of a value and of a name
LETTER = r"[^\x00-\x1f\x7f\ud800-\udfff]"  # in a name: what a person can read, and UTF-8 can say


def is_version(text: str) -> bool:
    """Tell whether a text can be a version."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS
