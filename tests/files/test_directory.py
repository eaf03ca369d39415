"""The names in a migrations directory: what they make, and that each one that breaks a rule is refused.

A file that is silently skipped is a lost migration, so the near misses matter more than the hits.
"""

import importlib.resources
import itertools
import os
import random
import re
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import denied, nobody, running, write

from vmpilot.migrate.errors import AccessError, HistoryError
from vmpilot.migrate.files.directory import Migration, Place, build, discover, load, located, number_after
from vmpilot.migrate.files.script import statements


def refusals(names: list[str]) -> list[str]:
    """Return the messages with which a directory `m` of these names is refused."""
    with pytest.raises(HistoryError) as caught:
        build(names, "m")
    error = caught.value
    first, *others = str(error).split("; m/")
    assert first.startswith((error.file + ": expected", error.file + ": has the number"))
    assert error.line == 0
    return [first, *("m/" + other for other in others)]


@pytest.mark.parametrize(
    ("name", "number", "version", "title"),
    [
        ("0001_initial_schema.up.sql", 1, "0001", "initial_schema"),
        ("20261122093000_add_title.up.sql", 20261122093000, "20261122093000", "add_title"),
        ("0157.up.sql", 157, "0157", ""),
        ("1-add-title.up.sql", 1, "1", "add-title"),
        ("0.up.sql", 0, "0", ""),
        ("007__x.up.sql", 7, "007", "_x"),
        ("0001_two words, ünï.codé.up.sql", 1, "0001", "two words, ünï.codé"),
        ("0001_up.up.sql", 1, "0001", "up"),
        ("0001_a.down.b.up.sql", 1, "0001", "a.down.b"),
        ("9" * 32 + "_x.up.sql", int("9" * 32), "9" * 32, "x"),
    ],
)
def test_a_name_says_number_version_and_name(name: str, number: int, version: str, title: str) -> None:
    assert build([name], "m") == (Migration(number, version, title, name, ""),)
    down = name.removesuffix(".up.sql") + ".down.sql"
    assert build([down, name], "m") == (Migration(number, version, title, name, down),)


def test_the_order_is_the_number_whatever_the_padding() -> None:
    names = ["10_d.up.sql", "9_c.up.sql", "0000_a.up.sql", f"{10**31}_e.up.sql", "000000002_b.up.sql"]
    versions = ["0000", "000000002", "9", "10", str(10**31)]
    for shuffled in itertools.permutations(names):
        assert [migration.version for migration in build(shuffled, "m")] == versions


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "0001"),
        (["0001.up.sql"], "0002"),
        (["0.up.sql"], "0001"),
        (["1.up.sql", "99_x.up.sql"], "0100"),
        (["9999.up.sql"], "10000"),
        (["000099.up.sql"], "000100"),
        (["20261122093000.up.sql"], "20261122093001"),
    ],
)
def test_the_next_free_number_is_as_wide_as_the_newest(names: list[str], expected: str) -> None:
    assert number_after(build(names, "m")) == expected


OTHERS = (
    *(
        "README.md",
        ".gitkeep",
        "0001_x.go",
        "0001_x.up.sql.bak",
        "0001_x.up.sql~",
        "0001_x.up.sql.swp",
        "sql",
    ),
    *(
        ".0001_x.up.sql",
        ".sql",
        ".hidden.SQL",
        "0001_x.upsql",
        "0001_x.sqlite",
        "0001_x.up.sql.orig",
        "0001_x.up.sql.gz",
        "notes.sql.txt",
        "0001_x.txt",
        ".0001_x.up.sql.part",
        ".0001_x.up.sql.icloud.swp",
        "__pycache__",
    ),
)


def test_hidden_files_and_other_endings_are_left_alone() -> None:
    assert build(OTHERS, "m") == ()
    assert len(build([*OTHERS, "0001_x.up.sql"], "m")) == 1


PROPOSALS = [
    # the examples of the design
    ("3_x.up..sql", "0003_x.up.sql"),
    ("0004_x_up.sql", "0004_x.up.sql"),
    ("0005_x.UP.SQL", "0005_x.up.sql"),
    # endings
    ("0001_x.sql", "0001_x.up.sql"),
    ("0001.sql", "0001.up.sql"),
    ("0001_x.Up.sql", "0001_x.up.sql"),
    ("0001_x.up.Sql", "0001_x.up.sql"),
    ("0001_x.down.SQL", "0001_x.down.sql"),
    ("0001_x.DOWN.sql", "0001_x.down.sql"),
    ("0001_x_down.sql", "0001_x.down.sql"),
    ("0001_x.down..sql", "0001_x.down.sql"),
    ("0001_x.up .sql", "0001_x.up.sql"),
    ("0001_x.up.up.sql", "0001_x.up.sql"),
    ("0001_x.up.down.sql", "0001_x.down.sql"),
    ("0001_x.down.up.sql", "0001_x.down.sql"),
    ("0001.down.up.sql", "0001.down.sql"),
    ("0001_x.up.sql.sql", "0001_x.up.sql"),
    ("0001_x.upp.sql", "0001_x_upp.up.sql"),
    ("0001_x.up.sql.up.up.sql", "0001_x.up.sql"),
    ("0001_download.up..sql", "0001_download.up.sql"),
    # numbers
    ("x.up.sql", "0008_x.up.sql"),
    ("up.sql", "0008.up.sql"),
    ("_x.up.sql", "0008_x.up.sql"),
    ("V1__x.sql", "0008_v1_x.up.sql"),
    ("-1_x.up.sql", "0008_1_x.up.sql"),
    ("1.5_x.up.sql", "0001_5_x.up.sql"),
    ("1e3_x.up.sql", "0001_e3_x.up.sql"),
    ("٣_x.up.sql", "0008_x.up.sql"),
    ("²_x.up.sql", "0008_x.up.sql"),
    (" 0001_x.up.sql", "0001_x.up.sql"),
    ("0001_x.up.sql ", "0001_x.up.sql"),
    ("1" * 33 + "_x.up.sql", "1" * 32 + "_1_x.up.sql"),
    ("1" * 33 + ".up.sql", "1" * 32 + "_1.up.sql"),
    # between number and name
    ("0001x.up.sql", "0001_x.up.sql"),
    ("0001 x.up.sql", "0001_x.up.sql"),
    ("0001.x.up.sql", "0001_x.up.sql"),
    ("0001_.up.sql", "0001.up.sql"),
    ("0001-.down.sql", "0001.down.sql"),
    # others
    ("schema.SQL", "0008_schema.up.sql"),
    ("0001_fix: it.up..sql", "0001_fix_it.up.sql"),
    ("0001_É.UP.sql", "0001.up.sql"),
    ("0001_x.up.sql.txt", "0001_x.up.sql"),
    ("0001_x.down.sql.TXT", "0001_x.down.sql"),
    ("3_x.UP.sql.txt", "0003_x.up.sql"),
    # a number that another one has
    ("0007_x.UP.sql", "0008_x.up.sql"),
    ("7_GOOD.UP.sql", "0008_good.up.sql"),
    ("0007_good.sql", "0008_good.up.sql"),
]


@pytest.mark.parametrize(("name", "proposal"), PROPOSALS)
def test_a_name_that_nearly_matches_is_refused(name: str, proposal: str) -> None:
    good = ["0007_good.up.sql", "0007_good.down.sql"]
    assert refusals([name, *good]) == [f"m/{name}: expected a name like {proposal}"]
    assert build([*good, proposal.replace(".down.", ".up.")], "m")  # the proposal is a name that fits


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("0003_x.up.sql.part", "0003_x.up.sql"),
        ("0003_x.down.sql.crdownload", "0003_x.down.sql"),
        ("0003_x.up.sql.download", "0003_x.up.sql"),
        ("0003_x.up.sql.Partial", "0003_x.up.sql"),
        (".0003_x.up.sql.icloud", "0003_x.up.sql"),
        (".0007_x.up.sql.icloud", "0008_x.up.sql"),
        ("0007_good.down.sql.part", "0007_good.down.sql"),
    ],
)
def test_a_download_that_has_not_ended_is_no_file_to_skip(name: str, meant: str) -> None:
    with pytest.raises(HistoryError) as caught:
        build([name, "0007_good.up.sql"], "m")
    assert str(caught.value) == f"m/{name}: a download that has not ended, expected {meant}"
    assert caught.value.file == f"m/{name}"


@pytest.mark.parametrize("ending", [".txt", ".part", ".crdownload"])
def test_a_copy_beside_the_file_itself_is_left_alone(ending: str) -> None:
    assert len(build(["0007_good.up.sql", f"0007_good.up.sql{ending}"], "m")) == 1


FREE = "the next free number is"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # What cannot be printed
        (["0001_a\nb.up.sql"], [r"0001_a\nb.up.sql: expected a name like 0001_a_b.up.sql"]),
        (["0001_\x1b[2J.up..sql"], [r"0001_\x1b[2J.up..sql: expected a name like 0001_2j.up.sql"]),
        (["0001_\udcff.up.sql"], [r"0001_\udcff.up.sql: expected a name like 0001.up.sql"]),
        # A down without its up
        (["0001_a.down.sql"], ["0001_a.down.sql: expected 0001_a.up.sql beside it"]),
        (["7.down.sql"], ["7.down.sql: expected 7.up.sql beside it"]),
        (
            ["0001_a.up.sql", "0001-a.down.sql", "1_a.down.sql"],
            [
                "0001-a.down.sql: expected 0001-a.up.sql beside it",
                "1_a.down.sql: expected 1_a.up.sql beside it",
            ],
        ),
        # A number twice
        (
            ["0001_a.up.sql", "0001_b.up.sql"],
            [f"0001_b.up.sql: has the number of 0001_a.up.sql; {FREE} 0002"],
        ),
        (
            ["3_b.up.sql", "3_b.down.sql", "0003-b.up.sql", "000012.up.sql"],
            [f"3_b.up.sql: has the number of 0003-b.up.sql; {FREE} 000013"],
        ),
        (
            ["0.up.sql", "00.up.sql", "000.up.sql"],
            [
                f"00.up.sql: has the number of 0.up.sql; {FREE} 0001",
                f"000.up.sql: has the number of 00.up.sql; {FREE} 0002",
            ],
        ),
        # All offenders are named at once
        (
            [
                "b.sql",
                "0002_a.up.sql",
                "2_b.up.sql",
                "0009_gone.down.sql",
                "0001_good.up.sql",
                "0003_x.UP.sql",
            ],
            [
                f"2_b.up.sql: has the number of 0002_a.up.sql; {FREE} 0010",
                "0003_x.UP.sql: expected a name like 0003_x.up.sql",
                "0009_gone.down.sql: expected 0009_gone.up.sql beside it",
                "b.sql: expected a name like 0011_b.up.sql",
            ],
        ),
        # Two halves of a pair stay together, and no two files are told the same name
        (
            ["0003-Add_X.up.sql", "0003-Add_X.DOWN.sql", "3_y.UP.sql", "3_y.DOWN.sql", "y.sql", "Y.SQL"],
            [
                "0003-Add_X.DOWN.sql: expected a name like 0003-Add_X.down.sql",
                "3_y.DOWN.sql: expected a name like 0004_y.down.sql",
                "3_y.UP.sql: expected a name like 0004_y.up.sql",
                "Y.SQL: expected a name like 0005_y.up.sql",
                "y.sql: expected a name like 0006_y.up.sql",
            ],
        ),
        (
            ["0009_gone.down.sql", "0009_other.UP.sql", "9_gone.UP.sql", "9_gone.sql"],
            [
                "0009_gone.down.sql: expected 0009_gone.up.sql beside it",
                "0009_other.UP.sql: expected a name like 0010_other.up.sql",
                "9_gone.UP.sql: expected a name like 0009_gone.up.sql",
                "9_gone.sql: expected a name like 0011_gone.up.sql",
            ],
        ),
    ],
)
def test_names_are_refused_all_at_once_whatever_their_order(names: list[str], expected: list[str]) -> None:
    for shuffled in itertools.permutations(names):
        assert refusals(list(shuffled)) == [f"m/{told}" for told in expected]


def test_the_names_that_are_proposed_are_the_same_in_every_process() -> None:
    names = ["0001.up.sql", "0001.down.sql", "1.up.sql", "1_.down.sql", "1_.up.sql"]
    expected = [
        "m/1.up.sql: has the number of 0001.up.sql; the next free number is 0002",
        "m/1_.down.sql: expected a name like 0003.down.sql",
        "m/1_.up.sql: expected a name like 0003.up.sql",
    ]
    assert refusals(names) == expected
    program = f"from vmpilot.migrate.files.directory import build; build({names}, 'm')"
    with running("-c", program, PYTHONHASHSEED="3") as process:
        assert process.communicate()[1].endswith(f"HistoryError: {'; '.join(expected)}\n")


numbers = st.sampled_from(["", "1", "0001", "3", "07"])
words = st.sampled_from(["", "_x", "-X", " y", "_x_y"])
endings = st.sampled_from(
    [
        ".sql",
        ".UP.sql",
        "_up.sql",
        ".DOWN.sql",
        ".down..sql",
        ".up.sql.txt",
        ".down.sql.part",
        ".up.sql",
        ".SQL ",
    ]
)


@given(st.sets(st.tuples(numbers, words, endings).map("".join), max_size=8))
@example({"3_x.DOWN.sql", "3.up.sql", "3_x.up.sql"})
def test_who_renames_all_files_as_told_has_a_history(names: set[str]) -> None:
    lone = re.compile(r"m/(?:.*): expected (.*) beside it")
    told = re.compile(r"m/(.*): (?:a download that has not ended, expected|expected a name like) (.*)")
    double = re.compile(rf"m/(.*): has the number of .*; {FREE} ([0-9]+)")
    try:
        build([*names], "m")
        return
    except HistoryError as error:
        problems = re.split("; (?=m/)", str(error))
    new: list[str] = []
    halves: dict[str, str] = {}
    for problem in problems:
        if match := told.fullmatch(problem):
            names.remove(match[1])
            new.append(match[2])
        elif match := double.fullmatch(problem):
            names -= {name for name in names if name.startswith(match[1])}  # what was copied from it goes too
            new.append(f"{match[2]}_renumbered.up.sql")
            halves[match[1].replace(".up.", ".down.")] = f"{match[2]}_renumbered.down.sql"
    new = [halves.get(name, name) for name in new]  # the down of what gets another number goes with it
    assert len({*new}) == len(new)
    assert names & {*new} == set()
    names |= {*new}
    names |= {name.replace(".down.", ".up.") for name in names if name.endswith(".down.sql")}
    names |= {match[1] for problem in problems if (match := lone.fullmatch(problem))}
    build([*names], "m")


# Any history, and one corruption

titles = st.text(alphabet="abcABC 09_-é", max_size=8).map(lambda text: text and "_" + text + "x")
pairs = st.dictionaries(
    st.integers(0, 10**32 - 1) | st.integers(0, 99),
    st.tuples(st.integers(0, 4), titles, st.booleans()),
    min_size=1,
    max_size=6,
)
Pairs = dict[int, tuple[int, str, bool]]


def stem(number: int, padding: int, title: str) -> str:
    return (padding * "0" + str(number))[-32:] + title


def listed(history: Pairs) -> list[str]:
    """Return the names of the files of a history."""
    stems = {stem(number, padding, title): down for number, (padding, title, down) in history.items()}
    ups = [name + ".up.sql" for name in stems]
    return ups + [name + ".down.sql" for name, down in stems.items() if down]


@given(pairs, st.randoms())
def test_any_history_is_built_whatever_the_order_of_its_files(
    history: Pairs, shuffler: random.Random
) -> None:
    names = [*listed(history), *OTHERS]
    shuffler.shuffle(names)
    built = build(names, "m")
    assert [migration.number for migration in built] == sorted(history)
    for migration in built:
        padding, title, down = history[migration.number]
        name = stem(migration.number, padding, title)
        assert (migration.up, migration.down) == (f"{name}.up.sql", f"{name}.down.sql" if down else "")
        assert (migration.version, migration.name) == (name.removesuffix(title) if title else name, title[1:])


def renamed(change: Callable[[str], str]) -> Callable[[list[str], str], tuple[list[str], str]]:
    """Return the corruption that gives the up file of a pair another name."""

    def corrupt(names: list[str], name: str) -> tuple[list[str], str]:
        down = name.removesuffix(".up.sql") + ".down.sql"
        bad = change(name)
        return [other for other in names if other not in (name, down)] + [bad], bad

    return corrupt


def orphaned(names: list[str], name: str) -> tuple[list[str], str]:
    down = name.removesuffix(".up.sql") + ".down.sql"
    return [other for other in names if other not in (name, down)] + [down], down


def doubled(names: list[str], name: str) -> tuple[list[str], str]:
    stem = name.removesuffix(".up.sql")
    twin = stem + ("_~.up.sql" if stem.isdigit() else "~.up.sql")  # sorts behind its elder
    return [*names, twin], twin


CORRUPTIONS: dict[str, Callable[[list[str], str], tuple[list[str], str]]] = {
    "upper-case direction": renamed(lambda name: name.replace(".up.sql", ".UP.sql")),
    "upper-case ending": renamed(lambda name: name.replace(".up.sql", ".up.SQL")),
    "two dots": renamed(lambda name: name.replace(".up.sql", ".up..sql")),
    "underscore for dot": renamed(lambda name: name.replace(".up.sql", "_up.sql")),
    "no direction": renamed(lambda name: name.replace(".up.sql", ".sql")),
    "two directions": renamed(lambda name: name.replace(".up.sql", ".down.up.sql")),
    "too many digits": renamed(lambda name: 33 * "0" + name),
    "no number": renamed(lambda name: "x" + name),
    "a negative number": renamed(lambda name: "-" + name),
    "no up": orphaned,
    "a number twice": doubled,
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@given(data=st.data())
def test_one_corruption_is_refused_and_names_the_file(corruption: str, data: st.DataObject) -> None:
    history = data.draw(pairs)
    names = listed(history)
    victim = data.draw(st.sampled_from([name for name in names if name.endswith(".up.sql")]))
    corrupted, bad = CORRUPTIONS[corruption](names, victim)
    data.draw(st.randoms()).shuffle(corrupted)
    (message,) = refusals(corrupted)
    assert message.startswith(f"m/{bad}: ")


# Directories


def refused(place: Place, name: str = "") -> str:
    """Return the message with which a directory, or a file in it, is refused."""
    with pytest.raises(HistoryError) as caught:
        load(place, name) if name else discover(place)
    assert str(caught.value).startswith(caught.value.file + ": ")
    return str(caught.value)


def closed(place: Place, name: str = "") -> str:
    """Return the message about a directory, or a file in it, that may not be read."""
    with pytest.raises(AccessError) as caught:
        load(place, name) if name else discover(place)
    return str(caught.value)


@pytest.fixture
def here(migrations: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand beside the directory of migrations, which holds one."""
    monkeypatch.chdir(migrations.parent)
    write(migrations, "0001_one", "SELECT 1;")
    return migrations


ONE = (Migration(1, "0001", "one", "0001_one.up.sql", "0001_one.down.sql"),)


def test_a_directory_is_read_by_its_names_only(here: Path) -> None:
    (here / "0001_one.up.sql").write_bytes(b"\0")
    (here / "README.md").write_text("read me")
    (here / "folder").mkdir()
    (here / ".git.sql").mkdir()
    assert discover("migrations") == ONE


def test_a_directory_may_be_empty(tmp_path: Path) -> None:
    assert discover(str(tmp_path)) == ()


def test_links_are_followed(here: Path) -> None:
    (here.parent / "elsewhere").symlink_to(here, target_is_directory=True)
    (here / "0002_two.up.sql").symlink_to("0001_one.up.sql")
    two = Migration(2, "0002", "two", "0002_two.up.sql", "")
    assert discover("elsewhere") == discover("elsewhere/") == (*ONE, two)
    assert list(statements(load("elsewhere", "0002_two.up.sql"))) == ["SELECT 1"]


def make_socket(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkdir, "a directory"),
        (os.mkfifo, "a special file"),
        (make_socket, "a special file"),
        (lambda name: os.symlink("nowhere", name), "a link to nothing"),
        (lambda name: os.symlink(os.path.basename(name), name), "a link to nothing"),
        (lambda name: os.symlink("..", name), "a directory"),
    ],
)
@pytest.mark.parametrize("name", ["0002_two.up.sql", "0001_two.down.sql", "notes.SQL"])
def test_an_entry_that_is_no_file_is_refused(
    make: Callable[[str], None], kind: str, name: str, here: Path
) -> None:
    make(f"migrations/{name}")
    assert refused("migrations") == f"migrations/{name}: {kind}, expected a file"


def test_a_directory_is_refused_for_the_names_in_it(here: Path) -> None:
    for direction in ("up", "down"):
        (here / f"0001_one.{direction}.sql").rename(here / f"0007_good.{direction}.sql")
    for name, refusal in PROPOSALS:
        Path(f"migrations/{name}").touch()
        assert refused("migrations") == f"migrations/{name}: expected a name like {refusal}"
        Path(f"migrations/{name}").unlink()


def test_an_entry_that_is_no_file_is_named_beside_the_others(here: Path) -> None:
    (here / "0003_x.UP.sql").touch()
    (here / "0004_x.up.sql").mkdir()
    (here / "0002_x.up.sql").mkdir()
    assert refused("migrations") == (
        "migrations/0003_x.UP.sql: expected a name like 0003_x.up.sql; "
        "migrations/0002_x.up.sql: a directory, expected a file; "
        "migrations/0004_x.up.sql: a directory, expected a file"
    )


def test_what_is_no_file_is_named_in_order() -> None:
    with pytest.raises(HistoryError) as caught:
        build(["0001_one.up.sql"], "m", [("0003.up.sql", "a directory"), ("0002.up.sql", "a special file")])
    assert str(caught.value) == (
        "m/0002.up.sql: a special file, expected a file; m/0003.up.sql: a directory, expected a file"
    )


def test_what_is_no_file_may_be_all_there_is() -> None:
    with pytest.raises(HistoryError) as caught:
        build([], "m", [("0001.up.sql", "a directory")])
    assert str(caught.value) == "m/0001.up.sql: a directory, expected a file"


def test_a_link_to_nothing_that_is_no_migration_is_left_alone(here: Path) -> None:
    (here / "notes").symlink_to("notes")
    (here / ".#0001_one.up.sql").symlink_to("user@host.1234")  # what Emacs leaves beside a file that it edits
    assert discover("migrations") == ONE


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("nowhere", "nowhere: no such file or directory"),
        ("migrations/0001_one.up.sql", "migrations/0001_one.up.sql: not a directory"),
        (300 * "m", f"{300 * 'm'}: file name too long"),
        ("loop", "loop: too many levels of symbolic links"),
        ("dangling", "dangling: no such file or directory"),
    ],
)
def test_a_place_that_is_no_directory_is_refused(place: str, expected: str, here: Path) -> None:
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    assert refused(place) == expected


def test_a_place_that_no_system_can_have_is_refused() -> None:
    with pytest.raises(ValueError) as words:
        os.scandir("a\0b")
    with pytest.raises(HistoryError) as caught:
        discover("a\0b")
    assert str(caught.value) == rf"a\x00b: {words.value}"
    assert caught.value.file == r"a\x00b"


def test_what_may_not_be_read_is_refused(here: Path) -> None:
    here.parent.chmod(0o755)
    here.chmod(0o755)
    (here / "0001_one.up.sql").chmod(0)
    with nobody():
        assert discover("migrations") == ONE
        assert closed("migrations", "0001_one.up.sql") == denied("migrations/0001_one.up.sql", "read")
    here.chmod(0o444)
    with nobody():
        assert closed("migrations", "0001_one.up.sql") == denied("migrations", "search")
    here.chmod(0)
    with nobody():
        message, expected = closed("migrations"), denied("migrations", "read")
    here.chmod(0o755)
    assert message == expected


def test_a_file_that_went_away_is_refused(here: Path) -> None:
    (here / "folder.up.sql").mkdir()
    for name, words in (("0002_two", "no such file or directory"), ("folder", "is a directory")):
        assert refused("migrations", f"{name}.up.sql") == f"migrations/{name}.up.sql: {words}"


def test_a_process_out_of_file_descriptors_is_no_fault_of_the_files(here: Path) -> None:
    taken = []
    try:
        while True:
            taken.append(os.open(".", os.O_RDONLY))
    except OSError:
        with pytest.raises(AccessError) as listing:
            discover("migrations")
        with pytest.raises(AccessError) as loading:
            load("migrations", "0001_one.up.sql")
    finally:
        for descriptor in taken:
            os.close(descriptor)
    assert str(listing.value) == "migrations: Too many open files; nothing was changed"
    assert str(loading.value) == "migrations/0001_one.up.sql: Too many open files; nothing was changed"


def test_a_file_knows_its_direction(here: Path) -> None:
    write(here, "0002_two", "-- vmpilot: revision x", "-- vmpilot: irreversible why")
    assert load("migrations", "0002_two.up.sql").revision == "x"
    assert load("migrations", "0002_two.down.sql").irreversible == "why"
    write(here, "0003_three", "", "-- vmpilot: revision x")
    with pytest.raises(HistoryError) as caught:
        load("migrations", "0003_three.down.sql")
    assert (caught.value.file, caught.value.line) == ("migrations/0003_three.down.sql", 1)


def test_a_short_file_that_is_read_again_is_not_made_out_again(here: Path) -> None:
    rows = "INSERT INTO t VALUES (1);\n"
    for name, text in (("0001_short", rows), ("0002_long", 1000 * rows)):
        write(here, name, text)
        first, again = load("migrations", f"{name}.up.sql"), load("migrations", f"{name}.up.sql")
        assert (again is first, again) == (name == "0001_short", first)
        write(here, name, text.replace("1", "2"))
        assert next(statements(load("migrations", f"{name}.up.sql"))) == "INSERT INTO t VALUES (2)"


@pytest.mark.parametrize("length", [0, 1, 2**14 - 1, 2**14, 2**14 + 1, 2**15, 300_000])
def test_a_long_file_is_read_to_its_end(here: Path, length: int) -> None:
    text = ("SELECT 1;\n" + "-" * length)[:length]
    (here / "0001_long.up.sql").write_text(text)
    assert load("migrations", "0001_long.up.sql").text == text


# Traversables


@pytest.fixture
def package(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in a zip file that can be imported and holds the migrations."""
    (here / "README.md").write_text("read me")
    Path("packed").mkdir()
    Path("packed/__init__.py").touch()
    shutil.move("migrations", "packed/migrations")
    shutil.make_archive("packed", "zip", base_dir="packed")
    shutil.rmtree("packed")
    monkeypatch.syspath_prepend("packed.zip")
    yield Path("packed.zip")
    sys.modules.pop("packed", None)


def test_a_zip_file_is_a_place_too(package: Path) -> None:
    place = importlib.resources.files("packed").joinpath("migrations")
    assert discover(place) == discover(zipfile.Path(package, "packed/migrations/")) == ONE
    assert list(statements(load(place, "0001_one.up.sql"))) == ["SELECT 1"]


def test_messages_name_a_place_inside_a_zip_file(package: Path) -> None:
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr("packed/migrations/0002_two.UP.sql", "")
        archive.writestr("packed/migrations/0003_three.up.sql/four", "")
    place = zipfile.Path(package, "packed/migrations/")
    assert refused(place) == (
        "packed.zip/packed/migrations/0002_two.UP.sql: expected a name like 0002_two.up.sql; "
        "packed.zip/packed/migrations/0003_three.up.sql: not a file, expected a file"
    )
    assert (
        refused(place, "0009.up.sql") == "packed.zip/packed/migrations/0009.up.sql: no such file or directory"
    )


def test_a_zip_file_that_was_closed_meanwhile_is_refused(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        place = zipfile.Path(archive, "packed/migrations/")
    words = "Attempt to use ZIP archive that was already closed"
    assert refused(place, "0001_one.up.sql") == f"packed.zip/packed/migrations/0001_one.up.sql: {words}"


@pytest.mark.parametrize("path", ["packed/nowhere", "packed/__init__.py"])
def test_a_zip_file_without_the_directory_is_refused(path: str, package: Path) -> None:
    assert refused(zipfile.Path(package, path)) == f"packed.zip/{path}: not a directory"


def test_a_place_is_a_path_or_a_traversable_or_the_bundled_one(package: Path) -> None:
    assert located("migrations") == located(Path("migrations")) == "migrations"
    assert located(zipped := zipfile.Path(package)) is zipped
    assert discover(located(None))[0].up == "0001_initial_schema.up.sql"
    for nothing in ("", " ", "\t\n"):
        with pytest.raises(HistoryError) as empty:
            located(nothing)
        assert str(empty.value) == "the path of the migrations is empty; nothing was changed"
    for impossible, found in (("a\0b", "a NUL"), ("\ud800", "U+D800, which is half a character")):
        with pytest.raises(HistoryError) as caught:
            located(impossible)
        shown = {"a\0b": "a\\x00b", "\ud800": "U+D800"}[impossible]
        assert str(caught.value) == f"{shown}: the path of the migrations holds {found}; nothing was changed"
    for wrong in (5, b"migrations", ["migrations"]):
        with pytest.raises(TypeError) as caught:
            located(wrong)  # type: ignore[arg-type]
        kind = type(wrong).__name__
        assert str(caught.value) == f"migrations: expected a path or a Traversable, not {kind}"


def test_what_a_file_of_settings_leaves_around_a_place_is_no_new_place(tmp_path: Path) -> None:
    for odd, told in (
        ("new\r", "holds a carriage return"),
        ("new ", "begins or ends with a blank"),
        ("'new'", "stands in quotes, take them off"),
    ):
        with pytest.raises(HistoryError) as caught:
            located(odd)
        shown = odd.replace("\r", "\\r")
        assert str(caught.value) == f"{shown}: the path of the migrations {told}; nothing was changed"
        os.mkdir(tmp_path / odd)  # what is there is meant
        assert located(str(tmp_path / odd)) == str(tmp_path / odd)
