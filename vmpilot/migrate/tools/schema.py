"""The schema that the migration files make, as SQL to be committed and read in reviews, and as a picture.

It tells what there is and nothing of the way there: in which order migrations made it, and whether a table
was altered or rebuilt, leaves no trace. No database is needed, and none is touched.
"""

from collections.abc import Iterable
from os import PathLike
from typing import NamedTuple

from ..database.connection import interruptible
from ..database.declared import Column, Rule, Table, completed, declared, spelling
from ..database.opening import SQLITE3, Connect
from ..database.structure import WHOLE, Object, definition, objects, unique
from ..files import directory as directories
from ..files.plan import resolve
from ..run.planning import revisions_for
from ..tokens import folded, identifier, table_places, tokens, unquoted
from .mermaid import diagram
from .replay import replayed


class Schema(NamedTuple):
    """What the files make up to `version`, None for base: `sql` runs as it is, `mermaid` is an erDiagram."""

    version: str | None
    sql: str
    mermaid: str


def schema(
    migrations: "str | PathLike[str] | directories.Entry | None" = None,
    *,
    target: str = "head",
    connect: Connect = SQLITE3,
) -> Schema:
    """Return the schema that the files make up to `target`, less the tables of the runner.

    The migrations are played on an empty database in memory, opened by `connect` with what only the
    application has. Tables stand before virtual tables and views, each sorted by name and with its indexes
    and triggers; a rule about one column stands with that column. Comments inside of tables and indexes are
    left out; views and triggers are shown as they are written. Raises VersionError for a target that the
    files do not have, HistoryError and StepError for what is wrong with the files.

    >>> schema(target="0001").sql.splitlines()[0]
    'CREATE TABLE chats ('
    """
    directory = directories.listed(directories.located(migrations))
    history = directory.history
    revisions = revisions_for(target, history, directory)
    goal = resolve(target, history, len(history), revisions, str(directory.place))
    with replayed(directory, history[:goal], connect) as session, interruptible(session):
        found, alike = objects(session), unique(session)
    tables = _tables(found)
    version = history[goal - 1].version if goal else None
    return Schema(version, _sql(found, tables), diagram(tables, alike))


def _tables(found: Iterable[Object]) -> dict[str, Table]:
    told = {folded(each.name): declared(each.name, each.sql) for each in found if each.kind == "table"}
    return {name: completed(table, told) for name, table in told.items()}


def _sql(found: Iterable[Object], tables: dict[str, Table]) -> str:
    """Return all of it, with an empty line between what does not belong together."""
    parts: dict[str, list[Object]] = {}
    for each in found:
        parts.setdefault(folded(each.table), []).append(each)
    whole = [each for each in found if each.kind in WHOLE]
    whole.sort(key=lambda each: (WHOLE.index(each.kind), folded(each.name)))
    groups = []
    for each in whole:
        own = sorted(parts[folded(each.name)], key=lambda part: (_RANKS.index(part.kind), folded(part.name)))
        groups.append("".join(f"{_statement(part, tables)};\n" for part in own))
    return "\n".join(groups)


_RANKS = (*WHOLE, "index", "trigger")


def _statement(each: Object, tables: dict[str, Table]) -> str:
    if each.kind == "table":
        return _created(tables[folded(each.name)])
    if each.kind == "index":
        return _indexed(each, tables[folded(each.table)])
    return _as_written(each)


def _created(table: Table) -> str:
    items = [*map(_column, table.columns), *map(_rule, table.rules)]
    options = f" {', '.join(table.options)}" if table.options else ""
    inside = ",\n".join(f"    {item}" for item in items)
    return f"CREATE TABLE {identifier(table.name)} (\n{inside}\n){options}"


def _column(column: Column) -> str:
    return " ".join(filter(None, (identifier(column.name), column.type, *map(_rule, column.rules))))


def _rule(rule: Rule) -> str:
    told = [f"CONSTRAINT {identifier(rule.name)}"] if rule.name else []
    told.append(rule.kind)
    if rule.columns:
        is_key = rule.kind == "FOREIGN KEY"
        told.append(f"({', '.join(map(identifier, rule.columns) if is_key else rule.columns)})")
    if rule.parent:
        told += ["REFERENCES"] * (rule.kind == "FOREIGN KEY") + [identifier(rule.parent)]
    if rule.theirs:
        told.append(f"({', '.join(map(identifier, rule.theirs))})")
    return " ".join(filter(None, (*told, rule.text)))


def _indexed(index: Object, table: Table) -> str:
    names = {folded(table.name): table.name} | {folded(each.name): each.name for each in table.columns}
    text = definition("index", index.sql, spelling(names))
    unique = "UNIQUE " * text.startswith("UNIQUE ")
    terms = text.removeprefix("UNIQUE ")
    return f"CREATE {unique}INDEX {identifier(index.name)} ON {identifier(table.name)} {terms}"


def _as_written(each: Object) -> str:
    """Return a view, a trigger or a virtual table as it is written, but for the quotes around names.

    A rename puts these around every name of a table: https://www.sqlite.org/lang_altertable.html#altertabrename
    """
    found = [*tokens(each.sql)]
    at = len(f"create {each.kind}".split())  # the name is the next one
    text, rest = (
        [f"CREATE {each.kind.upper()} {identifier(each.name)}"],
        found[at].start + len(found[at].text),
    )
    tables = {token.start for token in table_places(found)} if each.kind in ("view", "trigger") else ()
    for token in found[at + 1 :] if tables else ():
        if token.kind == "name" or (token.kind == "double" and token.start in tables):
            text += [each.sql[rest : token.start], identifier(unquoted(token.text))]
            rest = token.start + len(token.text)
    text.append(each.sql[rest:])
    return "".join(text)
