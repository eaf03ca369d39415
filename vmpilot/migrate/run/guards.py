"""What must hold before a step may commit.

Reads inside the step's transaction and says what it found; what is tried is undone again, and nothing is
repaired or raised here.

A guard costs nothing where a step cannot have broken what it guards (`reach`), whatever else there is: what
it goes by is kept from step to step (`catalog`). What was true before the step is looked up only where
something is wrong after it: then the step is undone, looked at, and done again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from ..database.connection import Session, refusal
from ..database.settings import has_temporary
from ..errors import counted, not_of_the_caller, some
from ..files.script import Script
from ..limits import RUNNERS
from ..tokens import fires_on, folded, quoted, tokens, unquoted
from ..typed import NamedTuple
from .catalog import (
    Catalog,
    Object,
    below,
    changing,
    mentioning,
    missing,
    read,
    read_after,
    seeing,
    unindexed,
    untriggered,
    with_shadows,
)
from .effects import NO_KEYS, Keys, keys_after, keys_known, keys_now, kind_of
from .keys import is_mismatch, lack_words, main
from .reach import reach
from .renames import about_tables

_ACTIONS = "ON DELETE and ON UPDATE actions do not run during a step"
_BEGIN_WITH = 'begin the file with "-- vmpilot: {} REASON"'
_FIRED_TOO = "SELECT +name FROM sqlite_temp_master WHERE type = 'trigger'"  # which is the caller's affair
_TEMPORARY = "SELECT +sql FROM sqlite_temp_master WHERE type IN ('view', 'trigger')"
_UNGUARDED = f"to leave that to a later file, {_BEGIN_WITH.format('unguarded')}"


class Finding(NamedTuple):
    """One thing that a step has broken.

    `kind` is that of rows without a parent (`effects.kind_of`), or key, compile or unreadable.
    """

    kind: str
    words: str


Broken = dict[tuple[str, str], str]  # kind and name of what does not compile, with SQLite's words


class Integrity(NamedTuple):
    """What is known of a database at one moment.

    `broken` holds what of the views and triggers does not compile, `unreadable` the tables that cannot be
    read, with SQLite's words; None if nobody has looked. `reaching` tells that a view or a trigger mentions
    one of the runner's own tables.
    """

    keys: Keys
    catalog: Catalog
    broken: Broken | None
    unreadable: dict[str, str] | None
    reaching: bool


def at_start(session: Session, last: Integrity | None) -> Integrity:
    """Return what is known where others may have written since the last step, or at the start of a run.

    What this run itself has left behind is still held against it.
    """
    catalog = read(session)
    keys = keys_now(session, catalog, last.keys if last else NO_KEYS)
    return Integrity(keys, catalog, None, None, _reaching(session, catalog))


def looked_at(session: Session, script: Script, known: Integrity) -> Integrity:
    """Return the same with all that is true before the step of `script` of what it can break."""
    catalog, broken = known.catalog, known.broken
    if broken is None:
        broken = _broken(session, catalog, frozenset(catalog.objects.values()))
        broken = _without_keys(script, catalog, broken)
    keys = keys_known(session, script, catalog, known.keys)
    return known._replace(keys=keys, broken=broken, unreadable=_unreadable(session, script))


class Findings(NamedTuple):
    """What a step has broken, and what is known `now`.

    Without `certain`, what was found may have been so before the step: nobody has looked.
    """

    found: tuple[Finding, ...]
    now: Integrity
    certain: bool


def findings(session: Session, script: Script, before: Integrity) -> Findings:
    """Return what the step of `script` has broken; only what it can have broken is looked at."""
    found: list[Finding] = []
    catalog = read_after(session, script, before.catalog)
    change = keys_after(session, script, before.catalog, catalog, before.keys)
    certain = change.certain
    if change.orphans or change.spoiled:
        kind = kind_of(session, change) if change.orphans else "key"
        found.append(Finding(kind, _violations([*change.spoiled, *(words for _, words in change.orphans)])))
    now = Integrity(change.now, catalog, before.broken, None, before.reaching)
    telling = {"view", "trigger", "writable_schema"}
    if script.words & telling or (before.catalog.objects and script.words & {"table", "index"}):
        looked = _seeing(script, before.catalog, catalog, before.broken or {})
        broken = _without_keys(script, catalog, _broken(session, catalog, looked))
        certain &= before.broken is not None or not broken
        found += _stopped(before, broken)
        known = _still(before.broken, catalog, looked, broken)
        now = now._replace(broken=known, reaching=_reaching(session, catalog))
    for table, words in _unreadable(session, script).items():
        certain &= before.unreadable is not None
        if table not in (before.unreadable or ()):
            found.append(Finding("unreadable", f"table {table} cannot be read any more: {words}"))
    if script.keys_on:  # with which not all of it was seen
        now = now._replace(broken=None)
    return Findings(tuple(found), now, certain)


def not_compiling(session: Session) -> Broken:
    """Return the views and triggers of a database that do not compile, with SQLite's words."""
    catalog = read(session)
    return _broken(session, catalog, frozenset(catalog.objects.values()))


def can_break(session: Session, script: Script) -> frozenset[str]:
    """Return the tables, folded, in which a script can have left rows without a parent."""
    catalog = read(session)
    return reach(session, script, catalog, catalog).looked


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
    if not kinds & {"lost", "actions"}:
        return _UNGUARDED if kinds & {"rows", "key", "compile"} else ""
    rebuilds = any(one.renamed or one.verb == "drop" for one in about_tables(script))
    if "actions" in kinds and not rebuilds:
        return f"{_ACTIONS}; to have them run, {_BEGIN_WITH.format('foreign-keys-on')}"
    return f"{_ACTIONS}; {_UNGUARDED}"


def _violations(words: list[str]) -> str:
    return f"{counted(len(words), 'new foreign key violation')}: {some(words)}"


def _still(
    before: Broken | None, catalog: Catalog, looked: frozenset[Object], broken: Broken
) -> Broken | None:
    """Return all that does not compile: what is `broken` now, and what was so of those that were passed over.

    None where nobody has looked at these yet.
    """
    if before is None:
        return broken if len(looked) == len(catalog.objects) else None
    passed = {what: catalog.objects.get((what[0], folded(what[1]))) for what in before}
    return {what: before[what] for what, one in passed.items() if one and one not in looked} | broken


def _stopped(before: Integrity, broken: Broken) -> Iterator[Finding]:
    """Yield the views and triggers that do not compile, unless they did not before."""
    for what, words in broken.items():
        if what not in (before.broken or {}):
            more = " any more" if (what[0], folded(what[1])) in before.catalog.objects else ""
            yield Finding("compile", f"{what[1]} does not compile{more}: {words}")


def tables(script: Script, *verbs: str) -> tuple[str, ...]:
    """Return the tables that the CREATE TABLE or ALTER TABLE statements of a script name."""
    if "table" not in script.words or not script.words & set(verbs):
        return ()
    heads = (found for found in about_tables(script) if found.verb in verbs)
    return tuple(dict.fromkeys(name for found in heads for name in (found.name, found.renamed) if name))


def _reaching(session: Session, catalog: Catalog) -> bool:
    temporary = session.rows(_TEMPORARY) if has_temporary(session) else []
    texts = [text.lower() for (text,) in temporary]
    found = (one for name in RUNNERS for one in mentioning(catalog, name))
    return any(found) or any(name in text for text in texts for name in RUNNERS)


def _broken(session: Session, catalog: Catalog, looked: frozenset[Object]) -> Broken:
    """Return those of the views and triggers in `looked` that do not compile; too much is not tried."""
    if not looked:
        return {}
    from ..database.expansion import UNTRIED, overgrown

    untried = overgrown((one.kind, folded(one.name), one.sql) for one in below(catalog, looked))
    broken = {(one.kind, one.name): UNTRIED for one in looked if (one.kind, folded(one.name)) in untried}
    for name in sorted(one.name for one in looked if one.kind == "view"):
        if ("view", folded(name)) not in untried:
            broken["view", name] = refusal(session, f"SELECT * FROM {main(name)}")
    fired = sorted({folded(one.table) for one in looked if one.kind == "trigger"})
    if any(kind == "trigger" for kind, _ in untried):  # other triggers can fire that one
        fired = []
    temporary = session.rows(_FIRED_TOO) if fired and has_temporary(session) else []
    with _without(session, [f"temp.{quoted(name)}" for (name,) in temporary]):
        for table in fired:
            if ("view", table) not in untried:
                told = _not_fired(session, table, sorted(catalog.triggers[table]))
                broken |= {("trigger", name): words for name, words in told}
    return {what: words for what, words in broken.items() if words}


def _without_keys(script: Script, catalog: Catalog, broken: Broken) -> Broken:
    """Leave out what SQLite says of foreign keys: it compiles them with a trigger's table where they are on.

    https://www.sqlite.org/foreignkeys.html#fk_indexes
    """
    if not script.keys_on:
        return broken
    lost = {f"no such table: main.{name}" for child in catalog.lacking for name in missing(catalog, child)}
    return {
        (kind, name): words
        for (kind, name), words in broken.items()
        if kind == "view" or not (is_mismatch(words) or folded(words) in lost)
    }


def _seeing(script: Script, before: Catalog, catalog: Catalog, broken: Broken) -> frozenset[Object]:
    """Return the views and triggers that name what a script has created, altered or dropped, and so on.

    What is made on a table, an index or a trigger, stops nothing that only names the table, but it may mend
    what is `broken`. And where an index has gone, only an upsert can miss it that does not name it.
    """
    tables = unindexed(script, before)
    if tables is None or "writable_schema" in script.words:
        return frozenset(catalog.objects.values())
    heads = list(changing(script, before))
    names = {folded(name) for one in heads for name in (one.name, one.renamed)}
    names = with_shadows(before, names | untriggered(script, before)) - {""}
    found = seeing(catalog, names).union(one for one in seeing(catalog, tables) if one.kind == "trigger")
    if not broken:
        return found
    on = {folded(one.table) for one in heads} - {""}
    return found.union(one for one in seeing(catalog, on) if (one.kind, one.name) in broken)


def _not_fired(session: Session, table: str, triggers: Iterable[Object]) -> Iterator[tuple[str, str]]:
    """Yield the triggers that a table or view, folded, cannot fire, with SQLite's words."""
    events: dict[str, list[Object]] = {}
    for one in triggers:
        events.setdefault(fires_on(one.sql), []).append(one)
    for event, several in events.items():
        words = _refused(session, table, event)
        if words and len(several) > 1:
            yield from _each_alone(session, table, event, several)
        elif words:
            yield several[0].name, words


def _refused(session: Session, table: str, event: str) -> str:
    """Return why what fires triggers cannot be done to a table, folded, or nothing."""
    name = main(table)
    if event == "insert":
        return refusal(session, f"INSERT INTO {name} DEFAULT VALUES")
    if event == "delete":
        return refusal(session, f"DELETE FROM {name}")
    try:
        columns = [row[1] for row in session.rows(f"PRAGMA main.table_xinfo({quoted(table)})") if not row[6]]
    except session.failures as error:  # a view that does not compile
        return str(not_of_the_caller(error))
    assignments = ", ".join(f"{quoted(name)} = {quoted(name)}" for name in columns)
    return refusal(session, f"UPDATE {name} SET {assignments}")


def _each_alone(
    session: Session, table: str, event: str, triggers: Sequence[Object]
) -> Iterator[tuple[str, str]]:
    """Yield for each trigger of an event why it cannot be fired when the others are out of the way."""
    with _without(session, [main(one.name) for one in triggers]):
        for one in triggers:
            yield one.name, _refusal_of(session, table, event, one)


@contextmanager
def _without(session: Session, triggers: Collection[str]) -> Iterator[None]:
    """Put some triggers out of the way meanwhile, by their names with that of their schema."""
    if not triggers:
        yield
        return
    session.run("SAVEPOINT vmpilot_guard")
    try:
        for name in triggers:
            session.run(f"DROP TRIGGER {name}")
        yield
    finally:
        session.run("ROLLBACK TO vmpilot_guard")
        session.run("RELEASE vmpilot_guard")


def _refusal_of(session: Session, table: str, event: str, trigger: Object) -> str:
    """Return why a trigger that is made anew cannot be fired, or nothing; it is dropped again."""
    behind = islice(tokens(trigger.sql), 2, None)  # CREATE TRIGGER, which can also be its name
    name = next((each for each in behind if unquoted(each.text) == trigger.name), None)
    at = name.start if name else 0  # with its schema, because a TEMP table of that name would come first
    try:
        session.run(f"{trigger.sql[:at]}main.{trigger.sql[at:]}")
    except session.failures as error:
        return str(not_of_the_caller(error))
    words = _refused(session, table, event)
    session.run(f"DROP TRIGGER {main(trigger.name)}")
    return words


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
