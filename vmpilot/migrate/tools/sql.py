"""A plan as a script for the `sqlite3` shell, with the same effect as the run itself.

Reads only. What a script cannot do, the guards and the wait for a lock, is not in it. What means something
else in the shell (`shell`) is refused here.
"""

from collections.abc import Iterator
from typing import Any

from ..database import structure, tables
from ..database.confined import ASKED, called
from ..database.connection import UNCHANGED, Session, refusal
from ..database.opening import SQLITE3, Connect, reading, scratch
from ..database.settings import SETTINGS, setting
from ..database.tables import Record
from ..errors import AccessError, HistoryError, StepError, printable
from ..files.script import Script, line, statements
from ..limits import RUNNERS
from ..run import adoption
from ..run.planning import Task, end, planned, start
from ..run.play import failure, has_wal_after, journal_mode, kept_from_wal, lacks_wal
from ..run.request import Request, mending
from ..tokens import body, folded, head, literal, plain
from .shell import Known, differing, known, misread

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
# Settings by which a shell, or the .sqliterc of its user, can make a statement do something else.
_MEANING = ("ignore_check_constraints", "legacy_alter_table", "recursive_triggers", "trusted_schema")
_PLACED = "temporary storage cannot be changed from within a transaction"
_TEMPORARY = frozenset(("temp", "temporary"))
_OBJECTS = "SELECT +type, +name, +tbl_name, +sql FROM main.sqlite_master WHERE sql IS NOT NULL ORDER BY name"
# What was written into the schema by hand is read anew, and counts as a change for other connections.
_READ_ANEW = (
    "PRAGMA writable_schema = RESET;",
    "CREATE VIEW main.vmpilot_read_anew AS SELECT 1;",
    "DROP VIEW main.vmpilot_read_anew;",
)


def script(request: Request, database: Any, *, timeout: float, connect: Connect = SQLITE3) -> list[str]:
    """Return the lines of a script that takes `database` to where `request` asks; reads only.

    `connect` is how the application opens a path; the shell opens it without.

    It stops at the first error, and at once where the database is not at the version that it was
    made for. Raises MigrationError, also for a statement that the shell would read otherwise than SQLite.
    """
    with mending(request.directory.place), reading(database, timeout, connect) as session:
        plan = planned(request, session)
        tasks = plan.tasks
        if not tasks:
            return [f"-- {session.database!a}: nothing to do"]
        with scratch() as plain:
            has = known(session, plain)
        for task in tasks:
            _check(task.script, has)
            _refuse_unseen(task)
        _refuse_commands(session)
        _refuse_differing(session, tasks, has)
        _check_modes(session, tasks)
        _check_places(tasks)
        first = [f"{ddl};" for ddl in tables.missing(session)]
        begins, last = adoption.begins(session, plan.status), ""
        if begins:
            first.append(_log(adoption.BEGUN))
        if begins or adoption.is_begun(plan.status.recorded):
            last = adoption.last_version(plan.status)
        words = frozenset(_MEANING).union(*(task.script.words for task in tasks))
        settings = {name: setting(session, name) for name in sorted(SETTINGS & words)} | {"foreign_keys": "0"}
        lines = _lines(tasks, first, last, settings, session.database)
        # Of CR LF the shell drops the CR.
        return [text.replace("\r\n", "\r\r\n") for text in lines]


def _lines(
    tasks: tuple[Task, ...], first: list[str], last: str, settings: dict[str, str], database: str
) -> Iterator[str]:
    """Yield the lines of a script; `first` begin its first step, at version `last` a comparison ends."""
    positions = printable(f"from {tasks[0].step.before} to {tasks[-1].step.after}")
    yield f"-- {database!a}: {positions}; to run it: sqlite3 DATABASE < SCRIPT"
    yield ".bail on"
    yield from _as_in_a_run()
    yield from (f"PRAGMA {name} = {settings[name]};" for name in _MEANING)
    for task in tasks:
        yield ""
        yield f"-- {printable(f'{task.step.action} {task.step.version} {task.step.name}')}".rstrip()
        yield f"PRAGMA foreign_keys = {'ON' if task.script.keys_on else 'OFF'};"
        yield "BEGIN IMMEDIATE;"
        yield from first
        first = []
        yield _expectation(task.value_before)
        yield from _step(task, settings)
        yield from (_log(note) for note in adoption.notes_of_end(last, task.step, task.value_after))
        yield "COMMIT;"
        if task.script.words & _TEMPORARY:
            # Whatever it was before, it changes, and that drops all TEMP objects:
            # https://www.sqlite.org/pragma.html#pragma_temp_store
            yield from (f"PRAGMA temp_store = {place};" for place in ("FILE", "MEMORY", "DEFAULT"))


def _as_in_a_run() -> Iterator[str]:
    """Yield what makes the shell read SQL like the library of the run: its defaults differ by version.

    https://www.sqlite.org/quirks.html#double_quoted_string_literals_are_accepted
    https://www.sqlite.org/c3ref/c_dbconfig_defensive.html
    """
    with scratch() as session:
        for name, sql in (("dqs_ddl", 'CREATE TABLE a (b CHECK (b <> "c"))'), ("dqs_dml", 'SELECT "c"')):
            yield f".dbconfig {name} {'off' if refusal(session, sql) else 'on'}"
    yield ".dbconfig defensive off"


def _step(task: Task, settings: dict[str, str]) -> Iterator[str]:
    value, after = task.value_before, task.value_after
    if not task.script.transactional:
        yield _log(start(task))
        yield "COMMIT;"
    yield from (f"{text};" for text in statements(task.script))
    if "writable_schema" in task.script.words:
        yield from _READ_ANEW
    yield from _put_back(task.script, settings)
    if not task.script.transactional:
        yield "BEGIN IMMEDIATE;"
        yield _expectation(value)
    yield "DELETE FROM main.alembic_version;"
    if after:
        yield f"INSERT INTO main.alembic_version (version_num) VALUES ({_literal(after)});"
    yield _log(end(task), task.down, task.down_checksum)


def _put_back(script: Script, settings: dict[str, str]) -> Iterator[str]:
    """Yield what undoes the settings that a step can have changed, where a run undoes them."""
    for name in sorted(SETTINGS & script.words):
        value = settings[name]
        if name == "journal_mode":
            value = _mode_to_put_back(script)
        if value:
            yield f"PRAGMA {name} = {value};"


def _mode_to_put_back(script: Script) -> str:
    """Return what to put back: nothing for a write-ahead log, which is a property of the file."""
    return "" if (journal_mode(script) or "wal") == "wal" else "DELETE"


def _expectation(value: str) -> str:
    """Return a statement that fails unless `value` is the only row of alembic_version, or at base none."""
    rows = "(SELECT group_concat(version_num) FROM main.alembic_version)"
    return f"INSERT INTO main.alembic_version SELECT NULL WHERE coalesce({rows}, '') <> {_literal(value)};"


def _log(record: Record, down: Script | None = None, down_checksum: str | None = None) -> str:
    values = [*record[:6], down.text if down else None, down_checksum]
    literals = [*map(_literal, values), _NOW, "0"]
    return f"INSERT INTO main.migration_log ({', '.join(tables.LOG_COLUMNS)}) VALUES ({', '.join(literals)});"


def _literal(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = literal(value)
    return text if "\0" not in value else "(" + text.replace("\0", "' || char(0) || '") + ")"


def _check(script: Script, has: Known) -> None:
    """Raise HistoryError for a statement of which the shell would make something else."""
    for index, text in enumerate(statements(script)):
        for place, reason in misread(text, has):
            number = line(script, index, place)
            what = f"--sql cannot say this to the sqlite3 shell: {reason}"
            raise HistoryError(f"{script.file}:{number}: {what}", file=script.file, line=number)


def _refuse_unseen(task: Task) -> None:
    """Raise StepError where a script that the database kept does something unseen.

    It writes the schema itself, as text, or holds characters that a terminal obeys: that may be where the
    lines are shown.
    """
    script = task.script
    if not script.kept:
        return
    file, version = script.file, task.step.version
    if "writable_schema" in script.words:
        what = f"PRAGMA writable_schema in the sqlite3 shell: {ASKED}; {UNCHANGED}"
        raise StepError(f"{file}: {what}", file=file, version=version)
    for index, text in enumerate(statements(script)):
        if (at := _obeyed(text)) >= 0:
            number = line(script, index, at)
            what = f"the database kept U+{ord(text[at]):04X} in this down script, which a terminal would obey"
            raise StepError(f"{file}:{number}: {what}; {UNCHANGED}", file=file, line=number, version=version)


def _obeyed(text: str) -> int:
    """Return the offset of the first control character that is no blank and no end of a line, -1 for none."""
    controls = (at for at, one in enumerate(text) if one < " " or "\x7f" <= one < "\xa0")
    return next((at for at in controls if text[at] not in "\t\n\f" and text[at : at + 2] != "\r\n"), -1)


def _refuse_commands(session: Session) -> None:
    """Raise AccessError where a trigger or a view calls a function by which only the shell runs a command.

    https://www.sqlite.org/cli.html#the_edit_sql_function
    """
    for kind, name, _, sql in session.rows(_OBJECTS):
        if what := called(sql):
            told = f"{kind} {plain(name)} calls {what}, which the sqlite3 shell would run; {UNCHANGED}"
            raise AccessError(f"{session.database}: {told}", database=session.database)


def _refuse_differing(session: Session, tasks: tuple[Task, ...], has: Known) -> None:
    """Raise AccessError where something that the steps can reach calls what is not the same in the shell."""
    reached = structure.reach(session, *(task.script.text for task in tasks))
    for kind, name, table, sql in session.rows(_OBJECTS):
        if folded(name) in reached or folded(table) in reached:
            reasons = [reason for _, reason in differing(sql, has)]
            ours = [head(sql[at:end]).name for at, end in body(sql)] if kind == "trigger" else []
            reasons += [f"it changes {each}, which a run refuses" for each in ours if folded(each) in RUNNERS]
            if reasons:
                what = f"--sql cannot say this to the sqlite3 shell: {kind} {plain(name)}: {reasons[0]}"
                raise AccessError(f"{session.database}: {what}; {UNCHANGED}", database=session.database)


def _check_places(tasks: tuple[Task, ...]) -> None:
    """Raise HistoryError where a transaction would keep a step from saying where TEMP objects are kept.

    The run says so as soon as an earlier step has made some, the shell begins each step without them.
    """
    begun = False
    for task in tasks:
        script = task.script
        for index, text in enumerate(statements(script)) if begun and script.transactional else ():
            one = head(text) if "temp_store" in script.words else None
            if one and folded(one.name) == "temp_store" and one.value.lower() not in ("", "0", "default"):
                error = failure(script, index, _PLACED)
                raise HistoryError(str(error), file=error.file, line=error.line)
        begun |= bool(script.words & _TEMPORARY)


def _check_modes(session: Session, tasks: tuple[Task, ...]) -> None:
    """Raise HistoryError where a transaction would keep a step from beginning a write-ahead log.

    The run says so, the shell would pass over it.
    """
    has_log = not lacks_wal(session)
    for task in tasks:
        if not has_log and (error := kept_from_wal(task.script)):
            raise HistoryError(str(error), file=error.file, line=error.line)
        has_log = has_wal_after(task.script, has_log)
