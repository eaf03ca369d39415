"""One SQL file: its statements with their lines, its directives, its checksum.

Pure: text in, values out; no file, no database, no clock may enter here.
"""

import re
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ..errors import HistoryError

# The tokens that decide where a statement ends, as SQLite's tokenizer reads them:
# https://www.sqlite.org/src/file/src/tokenize.c
_SPACE = r"[ \t\n\f\r\ufeff]"
# A quote or comment that is never closed reaches to the end of the text: so no attempt fails half-way,
# which the possessive quantifiers of Python 3.11.0 to 3.11.4 get wrong (python/cpython issue 106052).
_COMMENT = r"--[^\n]*+|/\*(?s:.*?)(?:\*/|\Z)"
_QUOTED = r"""'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|`[^`]*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z)"""
_TRIVIA = rf"(?:{_SPACE}++|{_COMMENT})*+"
_PLAIN = r"""[^;'"`\[/-]*+"""
_CODE = rf"{_PLAIN}(?:(?:{_QUOTED}|{_COMMENT}|[/-]){_PLAIN})*+"
_ROWS = r"(?i:insert|update|delete|replace|select|with|values)(?![\w$])"

# One match per statement: its text, and its first word unless that only handles rows.
_STATEMENT = re.compile(rf"{_TRIVIA}((?:(?={_ROWS})|([A-Za-z]*+)){_CODE});?")
_TRIGGER = re.compile(
    rf"(?:explain{_TRIVIA}(?:query{_TRIVIA}plan{_TRIVIA})?)?create{_TRIVIA}(?:temp(?:orary)?{_TRIVIA})*trigger(?![\w$])",
    re.IGNORECASE,
)
_TRIGGER_END = re.compile(rf"end{_TRIVIA}", re.IGNORECASE)
_WRAPPER_BEGIN = re.compile(
    rf"begin(?:{_TRIVIA}(?:deferred|immediate|exclusive))?(?:{_TRIVIA}transaction)?{_TRIVIA}", re.IGNORECASE
)
_WRAPPER_END = re.compile(rf"(?:commit|end)(?:{_TRIVIA}transaction)?{_TRIVIA}", re.IGNORECASE)
_KEYS_PRAGMA = re.compile(rf"pragma{_TRIVIA}(?:\w+{_TRIVIA}\.{_TRIVIA})?foreign_keys\b", re.IGNORECASE)
_CONTROL = {"begin", "commit", "end", "rollback", "savepoint", "release", "attach", "detach"}

# A doubled quote, a blob and a number with a point are one token each; all behind ASCII is a letter.
_WHOLE = (
    r"""[xX]'[^']*+'|(?:'[^']*+')++|(?:"[^"]*+")++|(?:`[^`]*+`)++|\[[^\]]*+\]"""
    r"""|[0-9][\w.]*+|[^\x00-#%-/:-@\[-^`{-\x7f]++"""
)
_TOKEN = re.compile(rf"(?:{_COMMENT}|({_WHOLE}|[^ \t\n\f\r])){_SPACE}*+")
_COMMENT_LINE = re.compile(rf"{_QUOTED}|/\*(?s:.*?)\*/|--([^\n]*+)")
_WORD = re.compile(r"[A-Za-z_]+")
_DIRECTIVE = re.compile(r"vmpilot:[ \t]*(\S*)[ \t]*(.*)", re.IGNORECASE)
_MARKER = re.compile(r"migrate:(?:up|down)\b|\+goose\b|\+migrate\b", re.IGNORECASE)
_TELLING = re.compile(r"--[ \t]*(?:vmpilot:|migrate:|\+goose|\+migrate)", re.IGNORECASE)
_REVISION = re.compile(r"[A-Za-z0-9_.]{1,32}")
_OPEN = re.compile(
    r"""(?:'[^']*')+(?!')|(?:"[^"]*")+(?!")|(?:`[^`]*`)+(?!`)|\[[^\]]*\]|--[^\n]*|/\*(?s:.*?)\*/|(['"`\[]|/\*)"""
)
_OPENINGS = {"'": "string", "/*": "comment"}

# Taking every token of a bulk load apart costs as much as loading it. Counted in statements, because their
# number is the same after a cosmetic edit.
_CHECKSUM_BY_TOKEN = 10_000
_SMALL = 1 << 20


class Script(NamedTuple):
    """One checked SQL file.

    `starts` and `ends` are the offsets of its statements in `text`: two numbers a statement keep
    a file of any size at about its own size in memory. `words` are the lower-case words of all
    statements that do more than handle rows: what a reader needs to know which guards apply.
    """

    file: str
    text: str
    starts: "array[int]"
    ends: "array[int]"
    words: frozenset[str]
    revision: str
    transactional: bool
    irreversible: str


def parse(file: str, data: bytes, direction: str) -> Script:
    """Return the checked script in `data`, the content of `file`, an "up" or a "down" script.

    Raises HistoryError with the line of whatever may not stand in a migration.
    """
    text = _decode(file, data)
    starts, ends, words, control = _split(file, text)
    directives = _directives(file, text, direction, starts[0] if starts else len(text))
    transactional = "no-transaction" not in directives
    if control:
        _unwrap(file, text, starts, ends, control, transactional)
    return Script(
        file,
        text,
        starts,
        ends,
        words,
        directives.get("revision", ""),
        transactional,
        directives.get("irreversible", ""),
    )


def statement(script: Script, index: int) -> str:
    """Return the text of a statement, without the semicolon that ends it."""
    return script.text[script.starts[index] : script.ends[index]]


def statements(script: Script) -> Iterator[str]:
    """Yield the statements in order."""
    text = script.text
    return (text[start:end] for start, end in zip(script.starts, script.ends, strict=True))


def line(script: Script, index: int) -> int:
    """Return the line, counted from 1, on which a statement starts."""
    return _line(script.text, script.starts[index])


def shortened(text: str, length: int = 80) -> str:
    """Return `text` on one line of at most `length` characters."""
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."


def checksum(script: Script) -> str:
    """Return the SHA-256 of what the statements say, in hexadecimal.

    Comments, white space, byte order mark and line ends do not count. In files of more than 10,000
    statements, white space and comments count where they stand inside a statement.
    """
    from hashlib import sha256  # loads OpenSSL, which a start-up with nothing to do need not pay

    digest = sha256()
    said = _said(script)
    while chunk := list(islice(said, 4096)):  # not all at once: a token in a list weighs some 60 bytes
        digest.update("\0".join([*chunk, ""]).replace("\r\n", "\n").encode())
    return digest.hexdigest()


def _said(script: Script) -> Iterator[str]:
    """Return what counts in a script, piece by piece."""
    if len(script.starts) > _CHECKSUM_BY_TOKEN:
        return statements(script)
    if not script.starts:
        return iter(())
    start, end = script.starts[0], script.ends[-1]
    if end < _SMALL:
        return filter(None, _TOKEN.findall(script.text, start, end))
    return filter(None, (token[1] for token in _TOKEN.finditer(script.text, start, end)))


def _decode(file: str, data: bytes) -> str:
    if (nul := data.find(b"\0")) >= 0:
        number = data.count(b"\n", 0, nul) + 1
        raise HistoryError(f"{file}:{number}: a NUL byte is not allowed here", file=file, line=number)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        found = data[error.start]
        raise HistoryError(
            f"{file}:{number}: byte 0x{found:02x} is not UTF-8", file=file, line=number
        ) from error
    return text.removeprefix("\ufeff")


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _refuse(file: str, text: str, offset: int, what: str) -> HistoryError:
    number = _line(text, offset)
    return HistoryError(f"{file}:{number}: {what}", file=file, line=number)


_Control = list[tuple[int, str]]


def _split(file: str, text: str) -> tuple["array[int]", "array[int]", frozenset[str], _Control]:
    """Return the offsets of all statements, their telling words, and those that control transactions.

    The rule for triggers is that of sqlite3_complete: https://www.sqlite.org/c3ref/complete.html
    """
    starts, ends = array("q"), array("q")
    words: set[str] = set()
    control: _Control = []
    trigger = -1
    for match in _STATEMENT.finditer(text):
        start, end = match.span(1)
        special = match.end(2) > start
        if trigger >= 0:
            if not (special and _TRIGGER_END.fullmatch(text, start, end)):
                continue
            start, trigger = trigger, -1
        elif special:
            word = match[2].lower()
            if word in ("create", "explain") and _TRIGGER.match(text, start):
                trigger = start
                continue
            if word in _CONTROL:
                control.append((len(starts), word))
        elif start == end:
            continue
        if special:
            words.update(_WORD.findall(text[start:end].lower()))
        starts.append(start)
        ends.append(end)
    _check_closed(file, text, starts[-1] if starts else 0)
    if trigger >= 0:
        raise _refuse(file, text, trigger, "this trigger has no END;")
    return starts, ends, frozenset(words), control


def _check_closed(file: str, text: str, start: int) -> None:
    """Raise HistoryError if a quote or comment behind offset `start` is never closed."""
    for match in _OPEN.finditer(text, start):
        if match[1]:
            what = f"this {_OPENINGS.get(match[1], 'quoted name')} is never closed"
            raise _refuse(file, text, match.start(), what)


def _unwrap(
    file: str, text: str, starts: "array[int]", ends: "array[int]", control: _Control, transactional: bool
) -> None:
    """Take a file's own BEGIN and COMMIT out; raise HistoryError for any other control statement."""
    first, last = control[0][0], control[-1][0]
    outside = [*range(first), *range(last + 1, len(starts))]
    wrapped = (
        transactional
        and first < last
        and _WRAPPER_BEGIN.fullmatch(text, starts[first], ends[first])
        and _WRAPPER_END.fullmatch(text, starts[last], ends[last])
        and all(_KEYS_PRAGMA.match(text, starts[index]) for index in outside)
    )
    refused = control[1:-1] if wrapped else control
    if refused:
        index, word = refused[0]
        reason = "a migration has one database" if "tach" in word else "the runner owns the transaction"
        raise _refuse(file, text, starts[index], f"{word.upper()} is not allowed here, {reason}")
    for index in (last, first):
        del starts[index], ends[index]


def _directives(file: str, text: str, direction: str, first: int) -> dict[str, str]:
    """Return the directives of the leading comment block, which ends at offset `first`."""
    found: dict[str, str] = {}
    # Only a file with such a comment pays for a look at every comment in it.
    telling = _TELLING.search(text)
    for match in _COMMENT_LINE.finditer(text, 0, len(text) if telling else first):
        comment = (match[1] or "").strip()
        if marker := _MARKER.match(comment):
            what = f'"-- {marker[0]}" belongs to a file that holds both directions; put them into two files'
            raise _refuse(file, text, match.start(), what)
        if directive := _DIRECTIVE.match(comment):
            name, value = directive[1], directive[2].strip()
            if problem := _problem(name, value, direction, name in found, match.start() > first):
                raise _refuse(file, text, match.start(), problem)
            found[name] = value
    return found


def _problem(name: str, value: str, direction: str, repeated: bool, late: bool) -> str:
    """Return what is wrong with a directive, or nothing."""
    allowed = {"revision": ("up",), "no-transaction": ("up", "down"), "irreversible": ("down",)}
    if name not in allowed:
        return f'"{name}" is not a directive; expected revision, no-transaction or irreversible'
    if direction not in allowed[name]:
        return f'"{name}" is not allowed here, it belongs in the .{allowed[name][0]}.sql file'
    if late:
        return f'"{name}" comes too late; directives stand before the first statement'
    if repeated:
        return f'"{name}" is given twice'
    if name == "revision" and (not _REVISION.fullmatch(value) or value.lower() in ("head", "base")):
        return f'"{value}" is not a revision; expected up to 32 letters, digits, "_" or "."'
    if name == "irreversible" and not value:
        return '"irreversible" needs a reason behind it'
    if name == "no-transaction" and value:
        return f'"no-transaction" stands alone, found "{value}" behind it'
    return ""
