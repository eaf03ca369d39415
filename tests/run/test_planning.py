"""Which way a command goes: every pair of positions up to four migrations, on a real database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import pasteable, write

from vmpilot.migrate import VersionError, downgrade, migrate, stamp

NAMES = ("0_a", "0001_b", "3", "000200-e")
VERSIONS = ("base", "0", "0001", "3", "000200")
WORDS = {"upgrade": ("already", "back", "downgrade"), "downgrade": ("only", "forward", "upgrade")}
WAYS = [(at, goal) for at in range(len(VERSIONS)) for goal in range(len(VERSIONS))]


@pytest.fixture(autouse=True)
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("migrations").mkdir()
    for name in NAMES:
        write(Path("migrations"), name, "")


def moved(action: str, goal: str, connection: sqlite3.Connection) -> list[str]:
    if action == "upgrade":
        steps = migrate(connection, "migrations", target=goal)
    else:
        steps = downgrade(connection, "migrations", target=goal, backup=False)
    return [step.after for step in steps]


@pytest.mark.parametrize("action", WORDS)
def test_a_command_goes_its_own_way_or_stays(action: str) -> None:
    ahead = action == "upgrade"
    for at, goal in WAYS:
        with closing(sqlite3.connect(":memory:")) as connection:
            stamp(VERSIONS[at], connection, "migrations")
            if at == goal or (goal > at) == ahead:
                way = range(at + 1, goal + 1) if ahead else range(at - 1, goal - 1, -1)
                assert moved(action, VERSIONS[goal], connection) == [VERSIONS[each] for each in way]
            else:
                word, way, back = WORDS[action]
                with pytest.raises(VersionError) as caught:
                    moved(action, VERSIONS[goal], connection)
                assert caught.value.version == VERSIONS[goal]
                assert str(caught.value) == pasteable(
                    f"cannot {action} to {VERSIONS[goal]}: :memory: is {word} at {VERSIONS[at]}; "
                    f"to go {way}, run: python3 -m vmpilot.migrate {back} {VERSIONS[goal]}",
                    ":memory:",
                )
