"""A plan as a script for the `sqlite3` shell, with the same effect as the run itself.

Reads only. What a script cannot do, the guards and the wait for a lock, is not in it.
"""

from collections.abc import Iterator
from typing import Any

from ..database import tables
from ..database.connection import Session
from ..database.opening import reading, scratch
from ..database.settings import SETTINGS, setting
from ..database.tables import Record
from ..files.script import Script, checksum, statements
from ..run.planning import Request, Task, planned
from ..tokens import head, quoted, tokens

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


def script(request: Request, database: Any, *, timeout: float) -> list[str]:
    """Return the lines of a script that takes `database` to where `request` asks; reads only.

    It stops at the first error, and at once where the database is not at the version that it was
    made for. Raises MigrationError.
    """
    with reading(database, timeout) as session:
        tasks = planned(request, session).tasks
        if not tasks:
            return [f"-- {session.database!a}: nothing to do"]
        missing = tables.missing(session)
        words = frozenset().union(*(task.script.words for task in tasks))
        settings = {name: setting(session, name) for name in sorted(SETTINGS & words)}
    with scratch() as quoting:
        return list(_lines(tasks, missing, settings, session.database, quoting))


def _lines(
    tasks: tuple[Task, ...],
    missing: list[str],
    settings: dict[str, str],
    database: str,
    quoting: Session,
) -> Iterator[str]:
    first, last = tasks[0].step, tasks[-1].step
    yield f"-- {database!a}: from {first.before} to {last.after}; to run it: sqlite3 DATABASE < SCRIPT"
    yield ".bail on"
    for task in tasks:
        yield ""
        yield f"-- {task.step.action} {task.step.version} {task.step.name}".rstrip()
        yield "PRAGMA foreign_keys = OFF;"
        yield "BEGIN IMMEDIATE;"
        yield from (f"{ddl};" for ddl in missing)
        missing = []
        yield _expectation(task.value_before, quoting)
        yield from _step(task, quoting)
        yield "COMMIT;"
        yield from _put_back(task.script, settings)


def _put_back(script: Script, settings: dict[str, str]) -> Iterator[str]:
    """Yield what undoes a step's settings and TEMP objects, so that the next one starts like the first."""
    yield from (f"PRAGMA {name} = {value};" for name, value in settings.items() if name in script.words)
    if script.words & {"temp", "temporary"}:
        made = (one for one in map(head, statements(script)) if one.verb == "create" and one.temporary)
        drops = ((one.kind.split()[-1], one.name) for one in made if one.kind != "index")
        yield from (f"DROP {kind.upper()} IF EXISTS temp.{quoted(name)};" for kind, name in drops)


def _step(task: Task, quoting: Session) -> Iterator[str]:
    step, value, after = task.step, task.value_before, task.value_after
    if not task.script.transactional:
        yield _log(Record("start", step.version, step.name, value, after), None, quoting)
        yield "COMMIT;"
    yield from map(_terminated, statements(task.script))
    if not task.script.transactional:
        yield "BEGIN IMMEDIATE;"
        yield _expectation(value, quoting)
    yield "DELETE FROM alembic_version;"
    if after:
        yield f"INSERT INTO alembic_version (version_num) VALUES ({_literal(after, quoting)});"
    mark = checksum(task.script) if step.action == "upgrade" else ""
    yield _log(Record(step.action, step.version, step.name, value, after, mark), task.down, quoting)


def _expectation(value: str, quoting: Session) -> str:
    """Return a statement that fails unless `value` is the only row of alembic_version, or at base none."""
    rows = "(SELECT group_concat(version_num) FROM alembic_version)"
    return (
        f"INSERT INTO alembic_version SELECT NULL WHERE coalesce({rows}, '') <> {_literal(value, quoting)};"
    )


def _log(record: Record, down: Script | None, quoting: Session) -> str:
    values = [*record[:6], down.text if down else None, checksum(down) if down else None]
    literals = [*(_literal(value, quoting) for value in values), _NOW, "0"]
    return f"INSERT INTO migration_log ({', '.join(tables.LOG_COLUMNS)}) VALUES ({', '.join(literals)});"


def _literal(value: str | None, quoting: Session) -> str:
    if value and "\r" in value:  # the shell drops it from the end of a line
        return f"CAST(x'{value.encode().hex()}' AS TEXT)"
    return str(quoting.value("SELECT quote(?)", (value,)))


def _terminated(text: str) -> str:
    """Return a statement with its semicolon, which a last comment must not swallow.

    The shell drops the CR of a line's end, so one inside a string is spelled out.
    """
    if "\r\n" in text:
        text = "".join(_spelled_out(text))
    return text + ("\n;" if "--" in text.rpartition("\n")[2] else ";")


def _spelled_out(text: str) -> Iterator[str]:
    end = 0
    for token in tokens(text):
        if token.kind == "string" and "\r\n" in token.text:
            yield text[end : token.start]
            yield "(" + token.text.replace("\r\n", "' || char(13, 10) || '") + ")"
            end = token.start + len(token.text)
    yield text[end:]
