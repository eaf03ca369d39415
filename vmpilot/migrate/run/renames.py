"""What a script calls tables and columns otherwise than before it, and which tables it makes.

Reads its text only. SQLite follows a new name in all foreign keys: https://www.sqlite.org/lang_altertable.html
"""

from collections.abc import Iterable, Iterator, Sequence

from ..files.script import Script, statements
from ..tokens import Head, folded, head, renamed_column
from ..typed import NamedTuple
from .catalog import Catalog, heads_of


class Place(NamedTuple):
    """What tells a foreign key from others, in folded names.

    Of several keys of the same columns to the same parent SQLite lists `number` before it.
    """

    table: str
    parent: str
    columns: tuple[str, ...]
    number: int


class Rename(NamedTuple):
    """The new `name` of a table, or of its `column`; all folded."""

    table: str
    column: str
    name: str


def about_tables(script: Script) -> Iterator[Head]:
    """Yield what the statements that create, alter or drop a table do, in their order."""
    return (one for one in heads_of(script) if one.kind == "table")


def renames(script: Script) -> tuple[Rename, ...]:
    """Return what a script calls otherwise, in its order."""
    texts = statements(script) if "rename" in script.words else ()
    found = ((head(text), renamed_column(text)) for text in texts if text[0] in "aA")
    return tuple(
        Rename(folded(one.name), folded(column), folded(one.renamed or name))
        for one, (column, name) in found
        if one.kind == "table" and (one.renamed or name)
    )


def followed(at: Place, renamed: Iterable[Rename]) -> Place:
    """Return what tells a foreign key from others behind these statements."""
    table, parent, columns, number = at
    for name, column, new in renamed:
        if not column:
            table, parent = (new if each == name else each for each in (table, parent))
        elif name == table:
            columns = tuple(new if each == column else each for each in columns)
    return Place(table, parent, columns, number)


def names_after(renamed: Sequence[Rename]) -> dict[str, str]:
    """Return what the tables are called then that one of these statements names."""
    names: dict[str, str] = {}
    for one in reversed(renamed):
        if not one.column:
            names[one.table] = names.get(one.name, one.name)
    return {one.table: names.get(one.table, one.table) for one in renamed}


def made(script: Script, before: Catalog) -> frozenset[str]:
    """Return the tables, folded, that a script has made, by all their names."""
    found, gone = set[str](), set[str]()
    for one in about_tables(script):
        name, renamed = folded(one.name), folded(one.renamed)
        if one.verb == "create" and (name in gone or name not in before.tables):
            found.add(name)
        elif one.verb == "drop" or renamed:
            gone.add(name)
            found |= {renamed} if renamed and name in found else set()
    return frozenset(found)
