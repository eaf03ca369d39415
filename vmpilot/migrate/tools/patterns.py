"""From the words of a person to the databases that are meant: patterns, files of names, standard input.

Nothing is opened but files of names, and nothing is judged: what is no database says so when it is its turn.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .. import access
from ..access import Lack
from ..database.connection import UNCHANGED
from ..database.copies import is_copy
from ..errors import AccessError, not_of_the_caller

# What SQLite keeps beside a database: https://www.sqlite.org/tempfiles.html
_BESIDE = ("-journal", "-shm", "-wal")


class Meant(NamedTuple):
    """The databases that are meant, each once; words that mean none, and why; how many files are left out."""

    databases: tuple[str, ...]
    errors: tuple[tuple[str, AccessError], ...]
    left_out: int


def meant(words: Iterable[str], standard_input: Callable[[], bytes]) -> Meant:
    """Return what words mean: a path, a pattern (`*`, `**`, `?`, `[...]`), `@FILE` with a path a line, `-`.

    `standard_input` is called for the paths that `-` stands for. A backup that was made here, and what SQLite
    keeps beside a database that is there, is no database of its own and is left out, also where it is named:
    a shell makes names of a `*` that is not quoted. Directories are left out of what a pattern matches; one
    in which a pattern may not look is an error.
    """
    found: dict[str, str] = {}
    errors: list[tuple[str, AccessError]] = []
    left_out: set[str] = set()
    for word in words:
        closed = [*_closed(word)] if _is_pattern(word) else []
        errors += [(lack.where, AccessError(access.told(lack, UNCHANGED))) for lack in closed]
        try:
            names = _names(word, standard_input)
        except AccessError as error:
            errors += [] if closed else [(word, error)]
            continue
        others = {name for name in names if _is_no_database(name)}
        left_out |= set(map(os.path.abspath, others))
        for name in names:
            if name not in others:
                found.setdefault(os.path.abspath(name), name)
    return Meant(tuple(found.values()), tuple(errors), len(left_out))


def _names(word: str, standard_input: Callable[[], bytes]) -> list[str]:
    """Return the names that a word means; raise AccessError if it means none."""
    if word == "-":
        where, names = "standard input", _lines(standard_input())
    elif word.startswith("@"):
        where, names = word[1:], _lines(_read(word[1:]))
    elif _is_pattern(word):
        where, names = word, _matches(word)
    else:
        return [word]
    if not names:
        raise AccessError(f"{where}: {'no match' if where == word else 'no name in it'}; {UNCHANGED}")
    return names


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and "://" not in word and not os.path.lexists(word)


def _matches(pattern: str) -> list[str]:
    return sorted(name for name in glob.iglob(pattern, recursive=True) if not os.path.isdir(name))


def _closed(pattern: str) -> Iterator[Lack]:
    """Yield the directories in which a pattern may not look: what is in there would silently be left out."""
    parts = pattern.split(os.sep)
    for count, following in enumerate(parts):
        if not following:  # before the root, or behind a doubled separator
            continue
        directories = os.sep.join((*parts[:count], "")) or os.curdir
        right = access.READ if glob.has_magic(following) else access.SEARCH
        found = (access.lacking(each, right) for each in glob.iglob(directories, recursive=True))
        yield from (lack._replace(where=lack.where.rstrip(os.sep) or os.sep) for lack in found if lack)


def _read(path: str) -> bytes:
    if odd := access.impossible(path):
        raise AccessError(f"{path}: the name of a file of names {odd}; {UNCHANGED}")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        not_of_the_caller(error)
        lack = access.reason(error, path, access.READ)
        raise AccessError(access.told(lack, UNCHANGED)) from error


def _lines(data: bytes) -> list[str]:
    return [os.fsdecode(line.strip()) for line in data.splitlines() if line.strip()]


def _is_no_database(name: str) -> bool:
    if is_copy(name):
        return True
    return any(name.endswith(ending) and os.path.lexists(name.removesuffix(ending)) for ending in _BESIDE)
