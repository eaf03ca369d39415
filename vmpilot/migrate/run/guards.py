"""What must hold before a step may commit.

Reads inside the step's transaction and says what it found; nothing is run, repaired or raised here.

A guard costs nothing where a step cannot have broken what it guards: without foreign keys no row is
checked, without views and triggers nothing is compiled.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..database.connection import Session, refusal
from ..database.expansion import MOST, overgrown
from ..database.tables import TABLES
from ..files.script import Script
from ..tokens import quoted
from .keys import Keys, about_tables, have_actions, keys_after, keys_now, lack_words, main

_SHOWN = 5
_TEXTS = "SELECT +type, +name, +sql FROM main.sqlite_master WHERE type IN ('view', 'trigger')"
_ACTIONS = "ON DELETE and ON UPDATE actions do not run during a step"
_BEGIN_WITH = 'begin the file with "-- vmpilot: {} REASON"'
UNTRIED = f"it stands for more than {MOST} tokens, so this was not tried"
_UNGUARDED = f"to leave that to a later file, {_BEGIN_WITH.format('unguarded')}"


class Finding(NamedTuple):
    """One thing that a step has broken.

    `kind` is rows, actions (rows for which actions are declared), key, compile or unreadable.
    """

    kind: str
    words: str


class Integrity(NamedTuple):
    """What is true at one moment.

    `objects` are the views and triggers: type, name, table. `broken` holds what does not compile,
    `unreadable` the tables that cannot be read, with SQLite's words. `reaching` tells that a view or a
    trigger mentions one of the runner's own tables.
    """

    keys: Keys
    objects: frozenset[tuple[str, str, str]]
    broken: dict[tuple[str, str], str]
    unreadable: dict[str, str]
    reaching: bool


def integrity(session: Session, script: Script, last: Integrity | None) -> Integrity:
    """Return what is true before the step of `script`.

    `last` is what was true after the step before, None if there was none.
    """
    if last is None:
        objects = _objects(session)
        last = Integrity(keys_now(session), objects, _broken(session, objects), {}, _reaching(session))
    return last._replace(unreadable=_unreadable(session, script))


def seen_again(session: Session, script: Script, last: Integrity | None) -> Integrity:
    """Return what is true before the step of `script`, where others have written since the step before.

    What this run itself has left behind is still held against it.
    """
    now = integrity(session, script, None)
    left = last.keys.lacking if last else {}
    lacking = {at: left.get(at, lack) for at, lack in now.keys.lacking.items()}
    return now._replace(keys=now.keys._replace(lacking=lacking))


def findings(session: Session, script: Script, before: Integrity) -> tuple[tuple[Finding, ...], Integrity]:
    """Return what the step of `script` has broken, and what is true now."""
    now = before
    found: list[Finding] = []
    keys, orphans, spoiled = keys_after(session, script, before.keys)
    if orphans or spoiled:
        kind = "actions" if have_actions(session, orphans) else "rows" if orphans else "key"
        found.append(Finding(kind, _violations([*spoiled, *(words for _, words in orphans)])))
    now = before._replace(keys=keys)
    telling = {"view", "trigger", "writable_schema"}
    if script.words & telling or (before.objects and script.words & {"table", "index"}):
        objects = _objects(session)
        broken, reaching = _broken(session, objects), _reaching(session)
        now = now._replace(objects=objects, broken=broken, reaching=reaching)
        found += _stopped(before, now)
    for table, words in _unreadable(session, script).items():
        if table not in before.unreadable:
            found.append(Finding("unreadable", f"table {table} cannot be read any more: {words}"))
    return tuple(found), now


def unparented(now: Integrity) -> tuple[Finding, ...]:
    """Return what a run must not end with: the keys whose parent table is missing, and was not before it."""
    lacking = now.keys.lacking.values()
    return tuple(Finding("key", f"{lack_words(lack.key)}: {lack.since}") for lack in lacking if lack.since)


def refused(script: Script, found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return those findings that a script may not leave; all others are known from then on."""
    return tuple(one for one in found if not script.unguarded or one.kind == "unreadable")


def advice(script: Script, found: Iterable[Finding]) -> str:
    """Say what a guard has to do with these findings, and which directive fits them."""
    kinds = {finding.kind for finding in found}
    if not kinds & {"rows", "actions"}:
        return _UNGUARDED if kinds & {"key", "compile"} else ""
    rebuilds = any(one.renamed or one.verb == "drop" for one in about_tables(script))
    if "actions" in kinds and not rebuilds:
        return f"{_ACTIONS}; to have them run, {_BEGIN_WITH.format('foreign-keys-on')}"
    return f"{_ACTIONS}; {_UNGUARDED}"


def _violations(words: list[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    noun = "violation" if len(words) == 1 else "violations"
    return f"{len(words)} new foreign key {noun}: " + ", ".join(words[:_SHOWN]) + more


def _stopped(before: Integrity, now: Integrity) -> Iterator[Finding]:
    """Yield the views and triggers that do not compile, unless they did not before."""
    known = {(kind, name) for kind, name, _ in before.objects}
    for what, words in now.broken.items():
        if what not in before.broken:
            more = " any more" if what in known else ""
            yield Finding("compile", f"{what[1]} does not compile{more}: {words}")


def tables(script: Script, *verbs: str) -> tuple[str, ...]:
    """Return the tables that the CREATE TABLE or ALTER TABLE statements of a script name."""
    if "table" not in script.words or not script.words & set(verbs):
        return ()
    heads = (found for found in about_tables(script) if found.verb in verbs)
    return tuple(dict.fromkeys(name for found in heads for name in (found.name, found.renamed) if name))


def _objects(session: Session) -> frozenset[tuple[str, str, str]]:
    sql = "SELECT +type, +name, +tbl_name FROM main.sqlite_master WHERE type IN ('view', 'trigger')"
    return frozenset((kind, name, table) for kind, name, table in session.rows(sql))


def _reaching(session: Session) -> bool:
    told = " OR ".join(f"instr(lower(sql), '{name}')" for name in TABLES)
    asked = f"WHERE type IN ('view', 'trigger') AND ({told})"
    places = ("main.sqlite_master", "sqlite_temp_master")
    return any(session.rows(f"SELECT 1 FROM {place} {asked} LIMIT 1") for place in places)


def _broken(session: Session, objects: frozenset[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return the views and triggers that do not compile, with SQLite's words; too much is not tried."""
    untried = overgrown(session.rows(_TEXTS)) if objects else frozenset[tuple[str, str]]()
    broken = dict.fromkeys(untried, UNTRIED)
    for name in sorted(name for kind, name, _ in objects if kind == "view" and (kind, name) not in untried):
        broken["view", name] = refusal(session, f"SELECT * FROM {main(name)}")
    if not any(kind == "trigger" for kind, _ in untried):  # other triggers can fire that one
        for table in sorted({table for kind, _, table in objects if kind == "trigger"}):
            if ("view", table) not in untried and _silent(session, table):
                triggers = {name for kind, name, on in objects if kind == "trigger" and on == table}
                for name in sorted(triggers):
                    broken["trigger", name] = _alone(session, table, triggers - {name})
    return {what: words for what, words in broken.items() if words}


def _silent(session: Session, table: str) -> str:
    """Return why a table cannot fire its triggers, or nothing."""
    columns = [row[1] for row in session.rows(f"PRAGMA main.table_xinfo({quoted(table)})") if not row[6]]
    assignments = ", ".join(f"{quoted(name)} = {quoted(name)}" for name in columns)
    name = main(table)
    for sql in (
        f"INSERT INTO {name} DEFAULT VALUES",
        f"UPDATE {name} SET {assignments}",
        f"DELETE FROM {name}",
    ):
        # A view takes only what one of its INSTEAD OF triggers handles.
        if (words := refusal(session, sql)) and not words.startswith("cannot modify"):
            return words
    return ""


def _alone(session: Session, table: str, others: set[str]) -> str:
    """Return why `table` cannot fire its triggers when these others are out of the way."""
    session.run("SAVEPOINT vmpilot_guard")
    try:
        for other in others:
            session.run(f"DROP TRIGGER {main(other)}")
        return _silent(session, table)
    finally:
        session.run("ROLLBACK TO vmpilot_guard")
        session.run("RELEASE vmpilot_guard")


def _unreadable(session: Session, script: Script) -> dict[str, str]:
    """Return those tables of a script that exist and cannot be read, with SQLite's words."""
    if "as" not in script.words:  # only a generated column makes a table unreadable
        return {}
    refusals = {
        name: refusal(session, f"SELECT * FROM {main(name)}") for name in tables(script, "create", "alter")
    }
    return {
        name: words for name, words in refusals.items() if words and not words.startswith("no such table")
    }
