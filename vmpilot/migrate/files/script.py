"""One SQL file: its statements with their lines, its directives, its checksum.

Pure: text in, values out; no file, no database, no clock may enter here.
"""

import re
from collections.abc import Iterator, MutableSequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import islice

from .. import tokens
from ..errors import HistoryError, counted
from ..limits import LONGEST, RUNNERS
from ..typed import Any, NamedTuple

_END = {"commit", "end"}
_BEGIN = {"begin", "begin deferred", "begin immediate", "begin exclusive"}
_CONTROL = {"begin", "commit", "end", "rollback", "savepoint", "release", "attach", "detach", "vacuum"}
_ONE_DATABASE = ("attach", "detach", "vacuum into")

# What no statement begins with, and whose command it is.
_CLIENTS = {
    ".": "the sqlite3 shell",
    "\\": "psql",
    "/": "SQL*Plus",
    "@": "SQL*Plus",
    "go": "sqlcmd",
    "delimiter": "the mysql client",
    "source": "the mysql client",
    "use": "the mysql client",
}
_REFUSED = {*_CLIENTS, "#"}
_INTERNAL = {"sqlite_sequence", "sqlite_stat1", "sqlite_stat3", "sqlite_stat4"}
_CHANGING = {"create", "alter", "drop", *tokens.WRITING}

_DIRECTIVE = r"(?i:vmpilot:)[ \t]*(\S*)[ \t]*(.*)"
_MARKER = r"(?i:migrate:(?:up|down)\b|\+goose\b|\+migrate\b)"
_TELLING = r"--\s*(?i:vmpilot:|migrate:|\+goose|\+migrate)"
# Each with the files that it may stand in.
_DIRECTIVES = {
    "revision": ("up",),
    "no-transaction": ("up", "down"),
    "irreversible": ("down",),
    "unguarded": ("up", "down"),
    "foreign-keys-on": ("up", "down"),
}
_REASONED = ("irreversible", "unguarded", "foreign-keys-on")
_OPENINGS = {"'": "string", "/": "comment"}

# For the checksum.
_LONG = 1 << 18
_PORTION = 1 << 16
_SHORT = 1 << 10  # bytes of a statement whose shape is worth remembering
_BLANKS = b" \t\n\f\r"
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NUMBERS_APART = re.compile(rb"0[ \t\n\f\r]+0")
_ZEROS = re.compile(b"0+")
_COMMENTING = (b"--", b"/*")
_UNCLEAR = b"?"
_RUNNERS = tuple(name.encode() for name in RUNNERS)
_QUOTES = b'"`['
# Byte order marks: https://www.unicode.org/faq/utf_bom.html#bom4
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")


Offsets = MutableSequence[int]


class Script(NamedTuple):
    """One checked SQL file.

    `starts` and `ends` are the offsets of its statements in `text`: two numbers a statement keep
    a file of any size at about its own size in memory. `words` are the lower-case words of all
    statements that do more than handle rows: what a reader needs to know which guards apply.
    `irreversible`, `unguarded` and `keys_on` are the reasons behind these directives (the last is
    foreign-keys-on), empty where there is none. `kept` tells that it comes from a database, which is not
    trusted, and not from a file; `names_ours` that it names a table of the runner, be it in a comment.
    """

    file: str
    text: str
    starts: Offsets
    ends: Offsets
    words: frozenset[str]
    revision: str
    transactional: bool
    irreversible: str
    unguarded: str = ""
    keys_on: str = ""
    kept: bool = False
    names_ours: bool = False


def parse(file: str, data: bytes, direction: str) -> Script:
    """Return the checked script in `data`, the content of `file`, an "up" or a "down" script.

    Raises HistoryError with the line of whatever may not stand in a migration.
    """
    text = _decode(file, data)
    starts, ends, words, control = _split(file, text)
    # As bytes, because that is quick for a file of any size, and the names are ASCII.
    lowered = data.lower()
    names_ours = any(name in lowered for name in _RUNNERS)
    del lowered
    if names_ours:
        _refuse_ours(file, text, starts, ends)
    directives = _directives(file, text, direction, starts[0] if starts else len(text))
    transactional = "no-transaction" not in directives
    if control:
        _unwrap(file, text, starts, ends, control, transactional)
    if names_ours and not transactional and "writable_schema" in words:
        _refuse_schema(file, text, starts, ends)
    if "foreign-keys-on" in directives and words & {"drop", "rename"}:
        _check_keys_on(file, text, starts, ends)
    return Script(
        file,
        text,
        starts,
        ends,
        words,
        directives.get("revision", ""),
        transactional,
        directives.get("irreversible", ""),
        directives.get("unguarded", ""),
        directives.get("foreign-keys-on", ""),
        names_ours=names_ours,
    )


def statement(script: Script, index: int) -> str:
    """Return the text of a statement, without the semicolon that ends it."""
    return script.text[script.starts[index] : script.ends[index]]


def statements(script: Script) -> Iterator[str]:
    """Yield the statements in order."""
    text = script.text
    return (text[start:end] for start, end in zip(script.starts, script.ends, strict=True))


def line(script: Script, index: int, inside: int = 0) -> int:
    """Return the line, counted from 1, on which a statement starts, or an offset inside of it stands."""
    return _line(script.text, script.starts[index] + inside)


def shortened(text: str, length: int = 80) -> str:
    """Return `text` on one line of at most `length` characters."""
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."


def checksum(script: Script) -> str:
    """Return the SHA-256 of the tokens of all statements, in hexadecimal.

    Comments, white space, byte order mark and line ends do not count.

    To take every token apart costs more than to run it. So three things are hashed, which together tell each
    token: what stands outside of strings, without blanks; what stands in strings; and the shape of each
    statement, the lengths of its tokens. A file has many statements, but few shapes.
    """
    if len(script.text) < _LONG:
        sha256 = _light_sha256()
    else:
        from hashlib import sha256
    code, strings, shapes = sha256(), sha256(), sha256()
    for portion in _portions(script):
        outside, inside, found = _said(portion)
        if _UNCLEAR in found:
            outside, inside, found = _said(tokens.plainer(portion))
        code.update(outside.translate(None, _BLANKS))
        strings.update(inside.replace(b"\r\n", b"\n"))
        shapes.update(b";".join(found))
    return str(sha256(code.digest() + strings.digest() + shapes.digest()).hexdigest())


@cache
def _light_sha256() -> Any:
    """Return what hashes a short text: OpenSSL takes as long to load as Python's own module to hash 1 MB.

    That has no public name, but the library does the same: https://github.com/python/cpython/blob/3.13/Lib/random.py
    """
    for name in ("_sha2", "_sha256"):  # since Python 3.12, and before
        with suppress(ImportError):
            return __import__(name).sha256
    from hashlib import sha256

    return sha256


def _portions(script: Script) -> Iterator[str]:
    """Cut a script before some of its statements, if it is long."""
    if script.starts and script.ends[-1] - script.starts[0] <= _PORTION:
        yield script.text[script.starts[0] : script.ends[-1]]
        return
    from bisect import bisect_left

    at = 0
    while at < len(script.starts):
        start = script.starts[at]
        at = bisect_left(script.starts, start + _PORTION)
        yield script.text[start : script.starts[at] if at < len(script.starts) else script.ends[-1]]


def _said(sql: str) -> tuple[bytes, bytes, list[bytes]]:
    """Return what stands outside of strings, what in them, and the shapes.

    One of these is unclear if something else than a string hides a quote: then nothing of it is right.
    """
    parts = sql.encode().split(b"'")
    # Behind each a NUL, which is in no file: so it does not matter where a portion ends.
    inside = b"\0".join([*parts[1::2], b""])
    outside = b"''".join(parts[::2])
    # One byte is found to be missing much sooner than two.
    if any(sign[:1] in outside and sign in outside for sign in _COMMENTING):
        return outside, inside, [_UNCLEAR]
    forms = outside.translate(_DIGITS).split(b";")
    shapes = {form: (_known_shape if len(form) <= _SHORT else _shape)(form) for form in {*forms}}
    return outside, inside, [shapes[form] for form in forms]


def _shape(form: bytes) -> bytes:
    """Return the lengths of the tokens of a statement, and the names in it that have blanks.

    Every digit of it is 0, and a number counts as one digit: so there are few forms. But where two numbers
    stand side by side, which one has which of the digits must not be lost.
    """
    apart = _NUMBERS_APART.search(form)
    if not apart:
        form = _ZEROS.sub(b"0", form)
    found = tokens.texts(form.decode())
    is_plain = form.isascii() and len(form.translate(None, _QUOTES)) == len(form)
    if is_plain:  # so no name has blanks, and only blanks are passed over
        return ("=" * bool(apart) + " ".join([str(len(text)) for text in found])).encode()
    names = [text for text in found if text[0] in '"`[']
    passed_over = "".join(found).encode().translate(None, _BLANKS) != form.translate(None, _BLANKS)
    if passed_over or any("'" in name or not tokens.is_closed(name) for name in names):
        return _UNCLEAR
    whole = {name for name in names if len(name.split()) > 1 or name != name.strip()}
    lengths = map(str, map(len, found))
    said = " ".join(text if text in whole else length for text, length in zip(found, lengths, strict=True))
    return ("=" * bool(apart) + said).replace("\r\n", "\n").encode()


_known_shape = lru_cache(256)(_shape)  # statements of many files are alike


def _decode(file: str, data: bytes) -> str:
    nul, is_utf_32 = data.find(b"\0"), data[:4] in _UTF_32
    if is_utf_32 or data[:2] in _UTF_16 or (nul >= 0 and _has_every_second(data)):
        what = f"saved as UTF-{32 if is_utf_32 else 16}, expected UTF-8; save it as UTF-8"
        raise HistoryError(f"{file}:1: {what}", file=file, line=1)
    if nul >= 0:
        number = data.count(b"\n", 0, nul) + 1
        raise HistoryError(f"{file}:{number}: a NUL byte is not allowed here", file=file, line=number)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x} is"
        what = f"{found} not UTF-8"
        if letter := _in_windows_1252(data, error.start):
            what = f'saved as Windows-1252 ({found} "{letter}" there), expected UTF-8; save it as UTF-8'
        raise HistoryError(f"{file}:{number}: {what}", file=file, line=number) from error
    return text.removeprefix("\ufeff")


def _has_every_second(data: bytes) -> bool:
    """Tell whether every second byte is NUL, as in UTF-16 without a byte order mark."""
    halves = (data[0:512:2], data[1:512:2])
    return (
        len(data) > 1
        and any(half.count(0) > 0.8 * len(half) for half in halves)
        and not all(0 in half for half in halves)
    )


def _in_windows_1252(data: bytes, at: int) -> str:
    """Return what a byte between ASCII means in Windows-1252, if a file can be of that kind.

    In UTF-8 no such byte stands alone; several side by side can be anything.
    """
    alone = data[at + 1 : at + 2] < b"\x80"
    try:
        letter = data[at : at + 1].decode("cp1252")
        return letter if alone and data.decode("cp1252") else ""
    except UnicodeDecodeError:
        return ""


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _refuse(file: str, text: str, offset: int, what: str) -> HistoryError:
    number = _line(text, offset)
    return HistoryError(f"{file}:{number}: {what}", file=file, line=number)


_Control = list[tuple[int, str]]


def _offsets(text: str) -> Offsets:
    """Return an empty list of offsets in a text, which has few or takes eight bytes for each."""
    if len(text) < _LONG:
        return []
    from array import array

    return array("q")


def _split(file: str, text: str) -> tuple[Offsets, Offsets, frozenset[str], _Control]:
    """Return the offsets of all statements, their telling words, and those that control transactions."""
    starts, ends = _offsets(text), _offsets(text)
    telling: list[str] = []
    control: _Control = []
    internal: list[int] = []
    for start, end, word in tokens.statements(text):
        starts.append(start)
        ends.append(end)
        if not word:
            continue
        if word in _REFUSED:
            raise _refuse_command(file, text, start)
        telling.append(text[start:end])
        if word in _CONTROL and (word != "vacuum" or _writes_copy(text, start, end)):
            control.append((len(starts) - 1, word if word != "vacuum" else "vacuum into"))
        if word == "create" and _makes_internal(text, start, end):
            internal.append(start)
    # Where only a semicolon stands behind the last statement, all is closed: nearly always, and much quicker.
    is_closed = bool(ends) and ends[-1] >= 0 and text[ends[-1] :].strip() == ";"
    if not is_closed and (at := tokens.unclosed(text, starts[-1] if starts else 0)) >= 0:
        what = f"this {_OPENINGS.get(text[at], 'quoted name')} is never closed"
        raise _refuse(file, text, at, what)
    if ends and ends[-1] < 0:
        raise _refuse(file, text, starts[-1], "this trigger has no END;")
    words = tokens.letters("\n".join(telling))
    if internal and "writable_schema" not in words:
        name = tokens.head(text, internal[0]).name
        raise _leave_out(file, text, internal, f"SQLite keeps {name} itself")
    return starts, ends, frozenset(words), control


def _writes_copy(text: str, start: int, end: int) -> bool:
    """Tell whether a VACUUM is one INTO a file: https://www.sqlite.org/lang_vacuum.html"""
    return any(
        token.kind == "word" and token.text.lower() == "into" for token in tokens.tokens(text, start, end)
    )


def _makes_internal(text: str, start: int, end: int) -> bool:
    """Tell whether a statement is one that only `.schema` prints: https://www.sqlite.org/fileformat2.html#intschema"""
    if text.find("sqlite_", start, end) < 0:
        return False
    head = tokens.head(text, start, end)
    return head.kind == "table" and tokens.folded(head.name) in _INTERNAL


def _refuse_command(file: str, text: str, start: int) -> HistoryError:
    command = text[start : start + 40].split()[0].rstrip(";")
    client = _CLIENTS.get(command.lower()) or _CLIENTS.get(command[0])
    if not client:
        return _refuse(file, text, start, "# is not allowed here, a comment begins with --")
    what = f"{command} is not allowed here, it is a command of {client} and no SQL"
    return _refuse(file, text, start, what)


def _refuse_ours(file: str, text: str, starts: Offsets, ends: Offsets) -> None:
    """Raise HistoryError where a file changes a table of the runner, as what Alembic prints does.

    TEMP tables of these names are not the runner's. What is done to its own in other ways is seen before
    COMMIT.
    """
    found: list[tuple[int, str]] = []
    for start, end in zip(starts, ends, strict=True):
        if not any(name in text[start:end].lower() for name in RUNNERS):
            continue
        if name := _changed(head := tokens.head(text, start, end)):
            found.append((start, name))
        elif (head.verb, head.kind) == ("create", "trigger"):
            _refuse_trigger(file, text, start, end)
    if found:
        offsets = [start for start, _ in found]
        raise _leave_out(file, text, offsets, f"the runner keeps {found[0][1]} itself")


def _refuse_trigger(file: str, text: str, start: int, end: int) -> None:
    """Raise HistoryError where the body of a trigger, which fires some day, changes a table of the runner."""
    for at, until in tokens.body(text, start, end):
        if name := _changed(tokens.head(text, at, until)):
            raise _refuse(file, text, at, f"this trigger changes {name}, which only the runner may change")


def _refuse_schema(file: str, text: str, starts: Offsets, ends: Offsets) -> None:
    """Raise HistoryError where a file writes the schema of a table of the runner outside a transaction."""
    for start, end in zip(starts, ends, strict=True):
        head, said = tokens.head(text, start, end), text[start:end].lower()
        name = next((name for name in RUNNERS if name in said), "")
        if name and head.verb in tokens.WRITING and tokens.folded(head.name) in tokens.SCHEMA:
            raise _refuse(file, text, start, f"this changes {name}, which only the runner may change")


def _changed(head: tokens.Head) -> str:
    """Return which table of the runner a statement changes."""
    if head.verb not in _CHANGING or (head.temporary and head.kind != "trigger"):
        return ""
    named = map(tokens.folded, (head.name, head.table, head.renamed))
    return next((name for name in named if name in RUNNERS), "")


def _leave_out(file: str, text: str, offsets: list[int], reason: str) -> HistoryError:
    more = len(offsets) - 1
    others = f" and {counted(more, 'other')}" if more else ""
    return _refuse(file, text, offsets[0], f"leave this line{others} out: {reason}")


def _unwrap(
    file: str, text: str, starts: Offsets, ends: Offsets, control: _Control, transactional: bool
) -> None:
    """Take a file's own BEGIN and COMMIT out; raise HistoryError for any other control statement."""
    first, last = control[0][0], control[-1][0]
    outside = [*range(first), *range(last + 1, len(starts))]
    wrapped = (
        transactional
        and first < last
        and _written(text, starts[first], ends[first]) in _BEGIN
        and _written(text, starts[last], ends[last]) in _END
        and all(_switches_keys(text, starts[index], ends[index]) for index in outside)
    )
    refused = control[1:-1] if wrapped else control
    if refused:
        index, word = refused[0]
        reason = (
            "a migration has one database" if word in _ONE_DATABASE else "the runner owns the transaction"
        )
        raise _refuse(file, text, starts[index], f"{word.upper()} is not allowed here, {reason}")
    for index in (last, first):
        del starts[index], ends[index]


def _written(text: str, start: int, end: int) -> str:
    """Return a short statement about a transaction as most people write it; of a long one its beginning."""
    first = islice(tokens.tokens(text, start, end), 4)
    return " ".join(token.text for token in first).lower().removesuffix(" transaction")


def _switches_keys(text: str, start: int, end: int) -> bool:
    head = tokens.head(text, start, end)
    return head.verb == "pragma" and tokens.folded(head.name) == "foreign_keys"


def _directives(file: str, text: str, direction: str, first: int) -> dict[str, str]:
    """Return the directives of the leading comment block, which ends at offset `first`."""
    found: dict[str, str] = {}
    # Only a file with such a comment pays for a look at every comment in it.
    if not tokens.compiled(_TELLING).search(text):
        return found
    for start, comment in tokens.comments(text):
        comment = comment.strip()
        if marker := tokens.compiled(_MARKER).match(comment):
            what = f'"-- {marker[0]}" belongs to a file that holds both directions; put them into two files'
            raise _refuse(file, text, start, what)
        if directive := tokens.compiled(_DIRECTIVE).match(comment):
            name, value = directive[1], directive[2].strip()
            if problem := _problem(name, value, direction, name in found, start > first):
                raise _refuse(file, text, start, problem)
            found[name] = value
    return found


def _check_keys_on(file: str, text: str, starts: Offsets, ends: Offsets) -> None:
    """Raise HistoryError for a table that is dropped or renamed while foreign keys are on.

    DROP TABLE deletes its rows first, with all that follows from that for the rows that refer to them:
    https://www.sqlite.org/foreignkeys.html#fk_schemacommands
    """
    for start, end in zip(starts, ends, strict=True):
        found = tokens.head(text, start, end)
        if found.renamed or (found.verb == "drop" and found.kind == "table"):
            what = "ALTER TABLE ... RENAME" if found.renamed else "DROP TABLE"
            told = f'{what} is not allowed in a file with "foreign-keys-on", put it into a file of its own'
            raise _refuse(file, text, start, told)


def _problem(name: str, value: str, direction: str, repeated: bool, late: bool) -> str:
    """Return what is wrong with a directive, or nothing."""
    if name not in _DIRECTIVES:
        *names, last = _DIRECTIVES
        return f'"{name}" is not a directive; expected {", ".join(names)} or {last}'
    if direction not in _DIRECTIVES[name]:
        return f'"{name}" is not allowed here, it belongs in the .{_DIRECTIVES[name][0]}.sql file'
    if late:
        return f'"{name}" comes too late; directives stand before the first statement'
    if repeated:
        return f'"{name}" is given twice'
    if name == "revision" and not is_revision(value):
        return f'"{value}" is not a revision; expected up to {LONGEST} printable characters without a space'
    if name in _REASONED and not value:
        return f'"{name}" needs a reason behind it'
    if name == "no-transaction" and value:
        return f'"no-transaction" stands alone, found "{value}" behind it'
    return ""


def is_revision(value: str) -> bool:
    """Tell whether a text can be a revision: what Alembic takes on SQLite."""
    named = 0 < len(value) <= LONGEST and value.lower() not in ("head", "base")
    return named and value.isprintable() and " " not in value
