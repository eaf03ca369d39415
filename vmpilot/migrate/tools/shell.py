"""What SQL means in the `sqlite3` shell where that is not what it means in a run.

Only looks at text and at what a connection has. The shell reads lines, has functions of its own, and lacks
those of the application: https://www.sqlite.org/cli.html
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..database.connection import Session
from ..database.settings import SETTINGS
from ..errors import passed_over, printable
from ..tokens import Token, alone, calls, folded, head, pairs, unquoted, unusual

_ENDINGS = ("/", "go")
_PARAMETERS = "?:@$"
# Of the shells up to 3.53, whatever has been built into them.
_SHELLS = (
    *("base64", "base85", "completion", "dtostr", "edit", "fsdir", "generate_series", "is_base85"),
    *("load_extension", "lsmode", "median", "percentile", "percentile_cont", "percentile_disc", "readfile"),
    *("realpath", "regexp", "regexpi", "sqlite_dbdata", "sqlite_dbptr", "stmtrand", "strtod", "uint"),
    *("usleep", "writefile", "zipfile", "zipfile_cds"),
)
_NEVER = ("load_extension",)  # which a run may not call
_FAMILIES = ("decimal", "ieee754", "sha1", "sha3", "shell_", "sqlar_")
# These tell, as a table, of the connection and not of the database.
_PRAGMAS = SETTINGS | {
    *("collation_list", "compile_options", "data_version", "database_list", "function_list"),
    *("module_list", "pragma_list", "temp_store_directory"),
}


class Known(NamedTuple):
    """What a run has: `names` of functions, collations and modules; `own` are the application's alone."""

    names: frozenset[str]
    own: frozenset[str]


def known(session: Session, plain: Session) -> Known:
    """Return what a connection has; `plain` is one of which nobody knows."""
    names, usual = _names(session), _names(plain)
    built_in = {folded(name) for name, own in _functions(session) if not own}
    own = {folded(name) for name, own in _functions(session) if own}
    unusual = own - {folded(name) for name, own in _functions(plain) if own}
    return Known(names, frozenset(unusual | (names - usual - built_in)))


def _names(session: Session) -> frozenset[str]:
    found = {folded(name) for name, _ in _functions(session)}
    for kind in ("module", "collation"):
        with passed_over(*session.failures):  # other modules do not know the pragma
            found.update(folded(row[0]) for row in session.rows(f"SELECT name FROM pragma_{kind}_list"))
    return frozenset(found)


def _functions(session: Session) -> list[tuple[str, bool]]:
    with passed_over(*session.failures):
        found = session.rows("SELECT DISTINCT name, builtin FROM pragma_function_list")
        return [(name, not built_in) for name, built_in in found]
    return []


def misread(text: str, has: Known) -> Iterator[tuple[int, str]]:
    """Yield offset and reason of what the shell reads in another way than a run.

    Whether a statement is complete it asks sqlite3_complete, which knows no byte order mark, and some
    control characters only at the start: https://www.sqlite.org/c3ref/complete.html
    """
    for token in alone(text, *_ENDINGS):
        if token.start + len(token.text) < len(text):  # otherwise a semicolon comes behind it
            yield token.start, f'a line of only "{token.text}" ends a statement there'
    for token in unusual(text):
        what = "is a parameter, and NULL there" if token.text[0] in _PARAMETERS else "is no blank there"
        yield token.start, f"{printable(token.text)} {what}"
    yield from differing(text, has)


def differing(text: str, has: Known) -> Iterator[tuple[int, str]]:
    """Yield offset and reason of what SQL uses that is something else there, or not there at all."""
    for token in calls(text):
        name = folded(unquoted(token.text))
        yield from _only_one_has(token, f"{name}()", has)
        if name == "total_changes":
            yield token.start, "total_changes() tells there of another connection"
    is_virtual = head(text).kind == "virtual table"
    for last, token in pairs(text):
        name, before = folded(unquoted(token.text)), last.text.upper() if last.kind == "word" else ""
        if before == "COLLATE" or (before == "USING" and is_virtual):
            what = "collation" if before == "COLLATE" else "module"
            yield from _only_one_has(token, f"the {what} {name}", has)
        elif last.text != "." and name.startswith("pragma_") and name.removeprefix("pragma_") in _PRAGMAS:
            yield token.start, f"{name} tells there of another connection"


def _only_one_has(token: Token, what: str, has: Known) -> Iterator[tuple[int, str]]:
    name = folded(unquoted(token.text))
    is_shells = name in _SHELLS or name.startswith(_FAMILIES)
    if name in has.own:
        yield token.start, f"{what} is the application's own"
    elif is_shells and (name not in has.names or name in _NEVER):
        yield token.start, f"{what} is the shell's own, and not in a run"
