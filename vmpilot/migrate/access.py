"""What the system does not let this process do with a file or a directory, in words.

Nothing is opened or changed here: the system is only asked, and only after it has refused something or
right before much work that it would refuse.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from .errors import is_of_the_caller
from .typed import NamedTuple

READ, WRITE, SEARCH = "read", "write to", "search"
_BY_EFFECTIVE = os.access in os.supports_effective_ids
_ASKED = {READ: os.R_OK, WRITE: os.W_OK, SEARCH: os.X_OK}
_OF_OWNER = {READ: stat.S_IRUSR, WRITE: stat.S_IWUSR, SEARCH: stat.S_IXUSR}
_LETTERS = {READ: "r", WRITE: "w", SEARCH: "x"}
_READ_ONLY = "on a read-only file system"
_DENIALS = (errno.EACCES, errno.EPERM, errno.EROFS)


class Lack(NamedTuple):
    """What is not allowed: the file or directory, what is missing, and the cure if there is just one."""

    where: str
    what: str
    cure: str = ""


def told(lack: Lack, fate: str) -> str:
    """Return the whole message of something that is not allowed."""
    return "; ".join(filter(None, (f"{lack.where}: {lack.what}", fate, lack.cure)))


def both(one: Lack, other: Lack) -> Lack:
    """Return two of which neither is enough as one, with the cure if it is the same."""
    if one.what == _READ_ONLY:  # then so is all that lies beside it
        return one
    what = f"{one.what}, and {other.where}: {other.what}"
    begun = " ".join(one.cure.split(" ")[:3])
    if begun.startswith("run: chmod ") and other.cure.startswith(f"{begun} "):
        return Lack(one.where, what, one.cure + other.cure.removeprefix(begun))
    return Lack(one.where, what, one.cure if one.cure == other.cure else "")


def impossible(path: str) -> str:
    """Return why nothing can have this path, "" if something can; of such a one the system is never asked."""
    if "\0" in path:
        return "holds a NUL"
    if path.isascii():  # nearly always
        return ""
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        return f"holds U+{ord(path[error.start]):04X}, which is half a character"
    return ""


def unlikely(path: str) -> str:
    """Return what makes a path one that nobody meant, "" if nothing does: what a file of settings leaves."""
    if "\r" in path:
        return "holds a carriage return"
    if path != path.strip().strip("\ufeff"):
        return f"begins or ends with a {'line feed' if path.endswith(chr(10)) else 'blank'}"
    if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'`":
        return "stands in quotes, take them off"
    return ""


def is_denial(error: BaseException) -> bool:
    """Tell whether the system refused something for want of a permission."""
    return isinstance(error, OSError) and error.errno in _DENIALS


def lacking(path: str, *rights: str) -> Lack | None:
    """Return the first of some rights to a path that this process does not have, None if it has all.

    What does not exist lacks nothing, unless it may not even be looked for.
    """
    try:
        if rights and may(path, *rights):  # nearly always
            return None
        os.stat(path)
    except (OSError, ValueError) as error:
        if is_of_the_caller(error):
            raise
        if not isinstance(error, PermissionError):  # not there, or a path that none can have
            return None
        closed = (each for each in _above(path) if os.path.isdir(each) and not may(each, SEARCH))
        return next((_lack(each, SEARCH) for each in closed), Lack(path, _words(error)))
    missing = (_lack(path, right) for right in rights if not may(path, right))
    return next(filter(None, missing), None)


def may(path: str, *rights: str) -> bool:
    """Tell whether this process, with its effective user, has all these rights to what is there."""
    asked = os.F_OK
    for right in rights:
        asked |= _ASKED[right]
    return os.access(path, asked, effective_ids=_BY_EFFECTIVE)


def is_read_only(path: str) -> bool:
    """Tell whether the file system on which something lies lets nobody write to it."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def reason(error: OSError, path: str, *rights: str) -> Lack:
    """Return what an error of the system says of a path: which of these rights is missing, if one is.

    For what is not there, they are looked for in the nearest directory above it.
    """
    return (lacking(nearest(path), *rights) if is_denial(error) else None) or Lack(path, _words(error))


def nearest(path: str) -> str:
    """Return a path itself or, of the directories above it, the nearest one that there is."""
    while path not in ("", os.sep) and _is_missing(path):
        path = os.path.dirname(path)
    return path or os.curdir


def _is_missing(path: str) -> bool:
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if is_of_the_caller(error):
            raise
        return not isinstance(error, PermissionError)  # for want of which there may be something
    return False


def user(number: int) -> str:
    """Return the name of a user, or the number of one who has none."""
    import pwd  # only what is refused needs it

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def quoted(path: str) -> str:
    """Return a path as a shell takes it."""
    from shlex import quote  # only what is refused needs it

    return quote(path)


def _above(path: str) -> Iterator[str]:
    """Yield the directories on the way to a path, and to what its links lead to, from the outermost."""
    for whole in dict.fromkeys((path, os.path.realpath(path))):
        way = [whole]
        while (parent := os.path.dirname(way[-1])) not in ("", way[-1]):
            way.append(parent)
        yield from (way[:0:-1] if os.path.isabs(whole) else (os.curdir, *way[:0:-1]))


def _words(error: OSError) -> str:
    words = error.strerror or str(error)
    return words[:1].lower() + words[1:]


def _lack(path: str, right: str) -> Lack | None:
    """Return what is missing where a right was refused; None if the path is gone by now: a journal may be."""
    try:
        found = os.stat(path)
        if right == WRITE and is_read_only(path):
            return Lack(path, _READ_ONLY)
    except OSError as error:
        if is_of_the_caller(error):
            raise
        return None
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    mode = stat.S_IMODE(found.st_mode)
    belongs = f"it belongs to {user(found.st_uid)}, mode {mode:04o}"
    where = os.path.abspath(path) if path == os.curdir else path
    what = f"no permission to {right} this {kind} as {user(os.geteuid())} ({belongs})"
    return Lack(where, what, _cure(where, right, found))


def _cure(path: str, right: str, found: os.stat_result) -> str:
    """Return what gives a right, if only one thing does: to others than root, root's files can be given."""
    owner_may = bool(found.st_mode & _OF_OWNER[right])
    if found.st_uid == os.geteuid():
        return "" if owner_may else f"run: chmod u+{_LETTERS[right]} {quoted(os.path.abspath(path))}"
    if not owner_may:
        return ""
    if found.st_uid:
        return f"run this as {user(found.st_uid)}"
    if right == WRITE and stat.S_ISREG(found.st_mode) and may(os.path.dirname(path) or os.curdir, WRITE):
        return f"to give it to this user, run as root: chown {os.geteuid()} {quoted(os.path.abspath(path))}"
    return ""
