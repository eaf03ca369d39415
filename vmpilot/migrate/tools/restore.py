"""Putting a backup back, after checking that it is a sound one of this database."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from operator import attrgetter
from typing import Any, NamedTuple

from .. import access
from ..database import tables
from ..database.connection import (
    UNCHANGED,
    Session,
    interruptible,
    is_read_only,
    is_sqlite3,
    is_wreck,
    snapshot,
    translated,
)
from ..database.copies import BEFORE_RESTORE, HEADER, among, moment
from ..database.names import located, misnamed
from ..database.opening import SQLITE3, Connect, reading, refuse_unwritable, writing
from ..database.tables import NOTHING
from ..errors import AccessError, MigrationError, VersionError, passed_over, printable
from ..files import directory as directories
from ..files.directory import Directory
from ..files.plan import BASE
from ..run import guards, status
from ..run.status import Status
from ..tokens import folded
from .copying import (
    Private,
    asked,
    check_sound,
    copy,
    directory_of,
    held,
    make_alike,
    named,
    refuse_link_of_another,
    refused,
    separate,
    silent,
    size,
    synced,
    temporary,
    told,
    transfer,
)


class Saved(NamedTuple):
    """A backup that lies beside a database: its path, what it was named after, UTC time in ISO 8601, bytes.

    `name` is the version that was backed up, or "before-restore".
    """

    path: str
    name: str
    taken_at: str
    bytes: int


class Restored(NamedTuple):
    """What a restore did.

    `version` is where the database is now, None at base; `kept` is the copy of what it held before,
    None if it held nothing.
    """

    database: str
    backup: str
    version: str | None
    kept: str | None


def backups(database: Any = None) -> tuple[Saved, ...]:
    """Return the backups that lie beside a database, newest first; reads only. Raises AccessError.

    >>> _ = migrate("app.db", target="0001"), migrate("app.db", backup=True)
    >>> [saved.name for saved in backups("app.db")]
    ['0001']
    """
    path = located(database)
    if not isinstance(path, str):
        raise misnamed(path, "database: expected a path")
    directory = directory_of(path)
    with told(directory, rights=(access.READ, access.SEARCH)), os.scandir(directory) as entries:
        return tuple(sorted(_saved(path, entries), key=attrgetter("taken_at", "path"), reverse=True))


def _saved(database: str, entries: "Iterator[os.DirEntry[str]]") -> Iterator[Saved]:
    """Yield what looks like a backup of a database: only what can have been named here."""
    files = {entry.name: entry for entry in entries if entry.is_file(follow_symlinks=False)}
    for copied in among(database, files):
        with passed_over(ValueError, FileNotFoundError):  # no date; or gone since
            size = files[copied.file].stat(follow_symlinks=False).st_size
            path = os.path.join(os.path.dirname(database), copied.file)
            yield Saved(path, copied.name, moment(copied), size)


def _log(text: str) -> None:
    import logging

    logging.getLogger("vmpilot.migrate").warning("%s", printable(text))


def restore(
    backup: str | os.PathLike[str],
    database: Any = None,
    migrations: "str | os.PathLike[str] | directories.Entry | None" = None,
    *,
    timeout: float = 30.0,
    create: bool = True,
    connect: Connect = SQLITE3,
    say: Callable[[str], None] = _log,
) -> Restored:
    """Put a backup back, after keeping what the database holds now as `<database>.before-restore.TIME.bak`.

    Open connections see one state or the other. A database in WAL mode stays in it, any other gets the
    journal mode of the backup. `say` is called, before anything is changed, with what is odd but no
    reason to stop: a backup of another database; by default that is logged as a warning. `create` False
    refuses a database that is not there. `connect` is how the application opens a path, of a module that has
    the backup API. Raises AccessError for what is no sound backup of this database,
    and VersionError for one of a version that the migration files do not know.

    >>> _ = migrate("app.db", target="0001"), migrate("app.db", backup=True)
    >>> restore(backups("app.db")[0].path, "app.db").version
    '0001'
    """
    directory = directories.listed(directories.located(migrations))
    path, where = os.fsdecode(backup), located(database, create=create)
    if not isinstance(where, str) and not is_sqlite3(where):
        raise misnamed(where, "database: expected a path or a connection of sqlite3")
    _refuse_as_backup(path, where)
    with reading(path, timeout, connect) as source, snapshot(source):
        if not size(source):
            raise refused(path, "empty, expected a database")
        if not hasattr(source.connection, "backup"):
            raise refused(path, "its connection has no backup API, without which nothing can be put back")
        with interruptible(source):
            doubt = check_sound(source, path)
        if isinstance(where, str):
            _refuse_as_target(where, timeout, connect)
        version = _checked_version(source, directory, where, timeout, connect)
        if doubt:
            say(f"{path}: {doubt}")
        if _is_of_another(source, where, timeout, connect):
            say(f"{path} is a backup of another database: its log began elsewhere")
        kept = _keep(where, timeout, connect)
        name = _put_over(source, where, timeout, connect)
    return Restored(name, path, None if version == BASE else version, kept)


def _refuse_as_backup(path: str, where: Any) -> None:
    """Raise AccessError for what is no file, is the database itself, or could be changed by being opened."""
    if lack := access.lacking(path, access.READ):
        raise AccessError(access.told(lack, UNCHANGED), database=path)
    if not os.path.exists(path):
        raise refused(path, "no such file")
    with passed_over(OSError):  # there is no database, or it may not be looked for
        if isinstance(where, str) and os.path.samefile(path, where):
            raise refused(path, "the database itself, expected a backup of it")
    for beside in (f"{path}-journal", f"{path}-wal"):
        # SQLite would play it back, and even remove a file that it names; an empty one, which a reader of
        # ours leaves when it is killed, does nothing: https://www.sqlite.org/atomiccommit.html#_hot_rollback_journals
        with passed_over(FileNotFoundError):
            if os.lstat(beside).st_size:
                raise refused(path, f"{beside} lies beside it, and beside a backup there is none")


def _refuse_as_target(path: str, timeout: float, connect: Connect) -> None:
    """Raise AccessError for a file that is neither a database nor empty nor missing.

    A damaged database with its header is one. SQLite is asked first: opening a database otherwise
    would drop the locks of this process. https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks
    """
    refuse_link_of_another(path)
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise refused(path, "no regular file, expected a database")
    refuse_unwritable(path)  # before what it holds is kept for nothing
    try:
        with reading(path, timeout, connect) as session:
            size(session)
    except AccessError as error:
        if not is_wreck(error.__cause__):
            raise
        os.close(_opened(path))


def _opened(path: str) -> int:
    """Open what SQLite refused; return the descriptor. Raises AccessError if it is no damaged database."""
    with told(path):
        whole = os.path.realpath(path) if os.path.islink(path) else path
        handle = os.open(whole, os.O_RDWR | os.O_NOFOLLOW)
        found = os.pread(handle, len(HEADER), 0)
    if found != HEADER:
        os.close(handle)
        raise refused(path, "neither a database nor empty", "; to have one there, move it away first")
    return handle


def _truncate(path: str) -> None:
    handle = _opened(path)
    try:
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _checked_version(
    source: Session, directory: Directory, where: Any, timeout: float, connect: Connect
) -> str:
    """Return the version of a backup; raise MigrationError if it is none of these migrations' databases."""
    at = status.status(source.database, tables.read(source), directory)
    if not status.has_files(at):
        told = f"{status.unknown_words(at)}; {UNCHANGED}"
        raise VersionError(told, version=status.version(at))
    if at.recorded == NOTHING:
        foreign = _foreign_tables(source, directory, where, timeout, connect)
    else:
        foreign = _foreign_migrations(at)
    if foreign:
        raise refused(source.database, f"a database of another project, with {foreign}")
    return status.version(at)


def _is_of_another(source: Session, where: Any, timeout: float, connect: Connect) -> bool:
    """Tell whether the logs of a backup and of the database began with different rows."""
    with suppress(MigrationError), reading(where, timeout, connect) as session, snapshot(session):
        ours, theirs = tables.read(session).log, tables.read(source).log
        return bool(ours and theirs) and ours[0] != theirs[0]
    return False


def _foreign_tables(
    source: Session, directory: Directory, where: Any, timeout: float, connect: Connect
) -> str:
    """Name the tables of a database without a version if none is known here: it may be an old one of ours."""
    found = tables.names(source)
    scripts = [directory.script(migration.up) for migration in directory.history]
    known = {table for script in scripts for table in guards.tables(script, "create")}
    with suppress(MigrationError), reading(where, timeout, connect) as session:
        known |= tables.names(session)
    if {folded(name) for name in known} & {folded(name) for name in found}:
        return ""
    return "the tables " + ", ".join(sorted(found)) if found else ""


def _foreign_migrations(at: Status) -> str:
    """Name the migrations that were applied if each has another name and other statements here."""
    applied = at.timeline[: at.position]
    if any(status.state(at, migration) != "other" for migration in applied):
        return ""
    names = [status.full_name(at.applied[migration.number]) for migration in applied]
    return "the migrations " + ", ".join(names) if names else ""


def _keep(database: Any, timeout: float, connect: Connect) -> str | None:
    """Copy what a database holds, sound or not, to `<database>.before-restore.TIME.bak`; return that path."""
    try:
        with separate(database, timeout, connect) as session:
            if not size(session):
                return None
            with temporary(directory_of(session.database)) as private:
                like = held(session.database)
                copy(session, private, silent, "")
                return _kept(private, session.database, like)
    except AccessError as error:
        if not is_wreck(error.__cause__):
            raise
        wreck = str(error.database)
    with temporary(directory_of(wreck)) as private, told(directory_of(wreck)):
        with open(wreck, "rb") as file, open(private.handle, "wb", closefd=False) as copied:
            shutil.copyfileobj(file, copied)
            like = os.fstat(file.fileno())
        return _kept(private, wreck, like)


def _kept(private: Private, database: str, like: os.stat_result) -> str:
    with synced(private.path):
        pass
    return named(private, database, BEFORE_RESTORE, like)


def _create(path: str, backup: str) -> None:
    """Create an empty database with owner and mode of a backup where there is no file yet."""
    # Of what is not there SQLite tells.
    with told(directory_of(path)), passed_over(FileExistsError, FileNotFoundError):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            make_alike(handle, os.stat(backup))
        finally:
            os.close(handle)


def _put_over(source: Session, where: Any, timeout: float, connect: Connect) -> str:
    """Put a backup in place of what is there, also of a wreck; return the name of the database.

    SQLite writes to nothing but a database or an empty file, and not to one whose header tells of a newer
    format; what is there is kept by then. https://www.sqlite.org/fileformat2.html#the_database_header
    """
    try:
        return _put(source, where, timeout, connect)
    except AccessError as error:
        cause = error.__cause__
        if not isinstance(where, str) or not (is_wreck(cause) or is_read_only(cause)):
            raise
    _truncate(where)
    return _put(source, where, timeout, connect)


def _put(source: Session, where: Any, timeout: float, connect: Connect) -> str:
    """Replace what a database holds by what `source` holds, in one transaction; return its name."""
    if isinstance(where, str):
        _create(where, source.database)
    with writing(where, timeout, connect) as session, translated(session):
        # While SQLite itself waits for the last readers, it lets no new ones in.
        asked(session, "PRAGMA busy_timeout = 100")
        size(session)
        if isinstance(where, str):
            held(where)
        # A write-ahead log is bound to its page size.
        resized = asked(session, "PRAGMA journal_mode") == "wal" and (
            asked(session, "PRAGMA page_size") != asked(source, "PRAGMA page_size")
        )
        if resized:
            asked(session, "PRAGMA journal_mode = DELETE")
        try:
            transfer(source, session.connection, session, silent)
        finally:
            if resized:
                asked(session, "PRAGMA journal_mode = WAL")
        return session.database
