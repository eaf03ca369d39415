"""From where a database is to where it is asked to go: the steps as algebra, and every kind of target.

Up to six migrations every pair of positions is tried: exhaustive beats random where the space is small.
"""

from itertools import product

import pytest

from vmpilot.migrate.errors import VersionError
from vmpilot.migrate.files.directory import History, Migration, build
from vmpilot.migrate.files.plan import Step, head, known, number_of, resolve, steps, version

NAMES = ("0_a.up.sql", "0001_b.up.sql", "3.up.sql", "0010_d.up.sql", "000200-e.up.sql", f"{10**31}_f.up.sql")
HISTORIES = [build(NAMES[:size], "m") for size in range(len(NAMES) + 1)]
PLACES = [(history, at) for history in HISTORIES for at in range(len(history) + 1)]
WAYS = [(history, at, goal) for history, at in PLACES for goal in range(len(history) + 1)]

FOUR = build(["0001_a.up.sql", "0002_b.up.sql", "0003_c.up.sql", "0004_d.up.sql"], "m")


def test_there_are_ways_to_try() -> None:
    assert len(HISTORIES) == 7
    assert len(WAYS) == sum(size**2 for size in range(1, 8))


def test_a_plan_has_one_step_for_each_migration_between() -> None:
    for history, at, goal in WAYS:
        found = steps(history, at, goal)
        assert len(found) == abs(goal - at)
        assert {step.action for step in found} <= {"upgrade" if goal > at else "downgrade"}
        passed = history[at:goal] or history[goal:at][::-1]
        assert [(step.version, step.name) for step in found] == [(it.version, it.name) for it in passed]
        assert all(step.took == 0 for step in found)


def test_each_step_begins_where_the_one_before_it_ended() -> None:
    for history, at, goal in WAYS:
        found = steps(history, at, goal)
        places = [version(history, at), *(step.after for step in found)]
        assert [step.before for step in found] == places[:-1]
        assert places[-1] == version(history, goal)


def test_a_downgrade_mirrors_the_upgrade() -> None:
    for history, at, goal in WAYS:
        there, back = steps(history, at, goal), steps(history, goal, at)
        actions = {"upgrade": "downgrade", "downgrade": "upgrade"}
        assert back == tuple(
            Step(actions[step.action], step.version, step.name, step.after, step.before)
            for step in there[::-1]
        )


def test_two_plans_that_meet_are_one() -> None:
    for (history, at, goal), middle in product(WAYS, range(len(NAMES) + 1)):
        if min(at, goal) <= middle <= max(at, goal):
            assert steps(history, at, middle) + steps(history, middle, goal) == steps(history, at, goal)


def test_steps_by_name() -> None:
    assert steps(FOUR, 1, 3) == (
        Step("upgrade", "0002", "b", "0001", "0002"),
        Step("upgrade", "0003", "c", "0002", "0003"),
    )
    assert steps(FOUR, 2, 0) == (
        Step("downgrade", "0002", "b", "0002", "0001"),
        Step("downgrade", "0001", "a", "0001", "base"),
    )


# Targets


def test_head_and_base() -> None:
    for history, at in PLACES:
        assert resolve("head", history, at, {}, "app.db") == head(history) == len(history)
        assert resolve("base", history, at, {}, "app.db") == 0


def test_a_version_is_its_number_whatever_the_padding() -> None:
    for history, at in PLACES:
        for position, migration in enumerate(history, 1):
            for target in (migration.version, str(migration.number), str(migration.number).zfill(32)):
                assert resolve(target, history, at, {}, "app.db") == position


def test_steps_are_counted_from_where_the_database_is() -> None:
    for history, at, goal in WAYS:
        assert resolve(f"{goal - at:+}", history, at, {}, "app.db") == goal
        assert resolve(f"{goal - at:+03}", history, at, {}, "app.db") == goal
    assert resolve("-0", FOUR, 2, {}, "app.db") == 2


REVISIONS = {"57dc007f6d46": 1, "57dd00000000": 2, "ae1027a6acf": 3, "12": 2, "ae": 1}


@pytest.mark.parametrize(("target", "position"), [*REVISIONS.items(), ("0004", 4), ("4", 4)])
def test_a_revision_stands_for_its_migration(target: str, position: int) -> None:
    assert resolve(target, FOUR, 0, REVISIONS, "app.db") == position


def test_a_number_may_be_a_revision_too_if_both_are_one_migration() -> None:
    assert resolve("2", FOUR, 0, {"2": 2}, "app.db") == 2


def refusal(target: str, history: History, at: int, revisions: dict[str, int]) -> str:
    with pytest.raises(VersionError) as caught:
        resolve(target, history, at, revisions, "app.db")
    assert caught.value.version == target
    return str(caught.value)


def test_an_ambiguous_target_is_refused() -> None:
    assert refusal("0003", FOUR, 0, {"0003": 2}) == '"0003" can mean 0002 and 0003; nothing was changed'


NO_TARGETS = [
    *("", "0005", "5", "0", "00", "x", "Head", "heads", "BASE", " 1", "1 ", "1.0", "0x1", "1_0", "²", "٣"),
    *("+", "-", "+x", "--1", "+-1", "+ 1", "+²", "head-1", "0001_a", "57dc007f6d467", "9" * 33, "9" * 5000),
    *("haed", "bsae"),
    *("+" + "9" * 33, "-" + "9" * 5000, "; DROP TABLE chats"),
]


MISTYPED = {
    "Head": "head", "heads": "head", "BASE": "base", "haed": "head", "bsae": "base", "57dc007f6d467": "57dc007f6d46",
}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "history", "revisions", "known"),
    [
        *((target, FOUR, REVISIONS, "base to 0004") for target in NO_TARGETS),
        # Not the beginning of a revision: a slip of the finger, `downgrade 5`, would undo everything behind.
        ("5", FOUR, {"57dc007f6d46": 1}, "base to 0004"),
        ("0001", (), {}, "base"),
        ("abc", (FOUR[0], FOUR[2]), {"abc": 2, "def": 1}, "base to 0003"),  # of a file that comes too late
    ],
)
def test_a_target_that_does_not_exist_is_refused(
    target: str, history: History, revisions: dict[str, int], known: str
) -> None:
    question = f"; did you mean {MISTYPED[target]}?" if target in MISTYPED else ""
    assert refusal(target, history, min(2, len(history)), revisions) == (
        f'"{target}" is not a version that app.db can be asked to have: expected {known}; nothing was changed{question}'
    )


@pytest.mark.parametrize(
    ("target", "at", "expected"),
    [
        ("+1", 4, "cannot move by +1: app.db is at 0004, 0 steps from head; nothing was changed"),
        ("+2", 3, "cannot move by +2: app.db is at 0003, 1 step from head; nothing was changed"),
        ("+9", 0, "cannot move by +9: app.db is at base, 4 steps from head; nothing was changed"),
        ("-1", 0, "cannot move by -1: app.db is at base, 0 steps from base; nothing was changed"),
        ("-2", 1, "cannot move by -2: app.db is at 0001, 1 step from base; nothing was changed"),
        ("-5", 4, "cannot move by -5: app.db is at 0004, 4 steps from base; nothing was changed"),
    ],
)
def test_steps_beyond_either_end_are_refused(target: str, at: int, expected: str) -> None:
    assert refusal(target, FOUR, at, {}) == expected


def test_every_number_of_steps_beyond_an_end_is_refused() -> None:
    for history, at in PLACES:
        for goal in (-3, -1, len(history) + 1, len(history) + 3):
            assert refusal(f"{goal - at:+}", history, at, {}).startswith(f"cannot move by {goal - at:+}: ")


def test_head_is_the_newest_migration_that_has_files() -> None:
    gone = Migration(3, "0003", "c", "", "")
    assert head((FOUR[0], FOUR[1], gone)) == 2
    assert head((FOUR[0], gone, FOUR[3])) == 3
    assert head((gone,)) == 0
    assert resolve("head", (FOUR[0], FOUR[1], gone), 3, {}, "app.db") == 2


def test_what_is_known_in_words() -> None:
    assert known(FOUR) == "base to 0004"
    assert known(()) == "base"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("007", 7), ("9" * 32, int("9" * 32)), ("9" * 33, None), ("9" * 5000, None)),
        *(("", None), ("-1", None), ("+1", None), ("1_0", None), (" 1", None), ("²", None), ("٣", None)),
    ],
)
def test_a_version_has_up_to_32_ascii_digits(text: str, number: int | None) -> None:
    assert number_of(text) == number
