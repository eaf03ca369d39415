"""The tables of a schema as a picture: an `erDiagram`, which GitHub and others draw in Markdown.

https://mermaid.js.org/syntax/entityRelationshipDiagram.html Names of columns and types are words of few
characters there; what they cannot say stands behind them as a comment. Its grammar is
https://github.com/mermaid-js/mermaid/blob/develop/packages/mermaid/src/diagrams/er/parser/erDiagram.jison
"""

from collections.abc import Iterator, Mapping, Set

from ..database.declared import Column, Rule, Table, primary_key
from ..tokens import folded

_KEYS = ("pk", "fk", "uk")  # are no names there
_UNTYPED = "ANY"
_Unique = Set[frozenset[str]]


def diagram(tables: Mapping[str, Table], unique: Mapping[str, _Unique]) -> str:
    """Return the picture of tables: their columns and keys, and which of them reference which.

    Both are by folded names. `unique` are the sets of columns in which no two rows are alike.
    """
    lines, shown = ["erDiagram"], _shown(tables)
    for name, table in sorted(tables.items()):
        lines += [f"    {shown[name]} {{", *_columns(table, unique.get(name, frozenset())), "    }"]
    for name, table in sorted(tables.items()):
        lines += _references(table, {*unique.get(name, ()), _folded(primary_key(table))}, shown)
    return "".join(f"{line}\n" for line in lines)


def _shown(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return the names of tables and parents as they are drawn: each its own, and none empty."""
    parents = [rule.parent for _, table in sorted(tables.items()) for _, rule in _foreign_keys(table)]
    shown: dict[str, str] = {}
    for name in (*(table.name for _, table in sorted(tables.items())), *parents):
        if folded(name) in shown:
            continue
        drawn = _quoted(name or "_")
        while drawn in shown.values():
            drawn = f'{drawn[:-1]}_"'
        shown[folded(name)] = drawn
    return shown


def _columns(table: Table, unique: _Unique) -> Iterator[str]:
    primary = _folded(primary_key(table))
    foreign = {name for columns, _ in _foreign_keys(table) for name in _folded(columns)}
    for column in table.columns:
        name = folded(column.name)
        is_unique = frozenset((name,)) in unique and primary != {name}
        keys = ["PK"] * (name in primary) + ["FK"] * (name in foreign) + ["UK"] * is_unique
        word = _word(column.name)
        comment = [_quoted(column.name)] if word != column.name else []
        yield "        " + " ".join(filter(None, (_type(column), word, ", ".join(keys), *comment)))


def _references(table: Table, unique: _Unique, shown: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each reference, with how many rows there can be at both ends."""
    required = {folded(column.name) for column in table.columns if _is_required(column, table)}
    for columns, rule in _foreign_keys(table):
        own = _folded(columns)
        parents = "||" if own <= required else "|o"
        children = "o|" if any(each and each <= own for each in unique) else "o{"
        ends = f"{shown[folded(rule.parent)]} {parents}--{children} {shown[folded(table.name)]}"
        yield f"    {ends} : {_quoted(', '.join(columns))}"


def _foreign_keys(table: Table) -> list[tuple[tuple[str, ...], Rule]]:
    """Return the columns of each foreign key, and what they reference."""
    found = [((column.name,), rule) for column in table.columns for rule in column.rules if rule.parent]
    return [*found, *((rule.columns, rule) for rule in table.rules if rule.parent)]


def _is_required(column: Column, table: Table) -> bool:
    """Tell whether a column is never NULL: https://www.sqlite.org/lang_createtable.html#the_primary_key"""
    if any(rule.kind == "NOT NULL" for rule in column.rules):
        return True
    primary = _folded(primary_key(table))
    is_number = folded(column.type) == "integer" and primary == {folded(column.name)}
    return folded(column.name) in primary and (is_number or bool(table.options))


def _folded(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(folded, names))


def _type(column: Column) -> str:
    return _word(column.type.replace(", ", ","), "()") if column.type else _UNTYPED


def _word(text: str, more: str = "") -> str:
    """Return a text as a word of the grammar: of ASCII letters, digits and few others."""
    kept = (each if (each.isascii() and each.isalnum()) or each in more else "_" for each in text)
    word = "".join(kept)
    return f"_{word}" if (not word[:1].isalpha() and word[:1] != "_") or word.lower() in _KEYS else word


def _quoted(text: str) -> str:
    """Return a text in double quotes, without what may not stand between them."""
    kept = (each if each.isprintable() and each not in "%\\" else "_" for each in text.replace('"', "'"))
    return f'"{"".join(kept)}"'
