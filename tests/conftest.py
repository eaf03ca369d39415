"""What all tests share: the sizes of the long sweeps, and how a history of migrations is written.

Which test kills which mutant. Each was made once, in a copy, and seen to die:

| mutant | dies in |
|---|---|
| no BEGIN; BEGIN for BEGIN IMMEDIATE; no plan under the lock, or only for the first step | test_races: processes_that_start_at_once |
| a lock is an error at once; COMMIT does not wait; the timeout is forgotten | test_races: processes_that_start_at_once, a_writer_is_waited_for |
| COMMIT for ROLLBACK; no ROLLBACK | test_guards: a_dangling_row_is_refused; test_connections: handed_back_as_it_came |
| foreign keys not switched off, or inside the transaction; not switched on again | test_guards: no_child_is_lost |
| guard of foreign keys removed; old violations count; rows told apart by number | test_guards: a_dangling_row, a_key_of_two_columns, rows_that_were_dangling_before |
| guard of views and triggers removed; an EXPLAIN of the same text twice; all triggers of a table named | test_guards: what_compiled_before, of_several_triggers |
| guard of unreadable tables removed; guard of the transaction removed | test_guards: a_generated_column, a_function_that_ends_the_transaction |
| views always compiled; keys always checked | test_guards: views_are_compiled_only, a_thousand_tables |
| what another connection wrote between two steps held against the next | test_guards: what_another_connection_leaves |
| compare-and-swap removed; version not recorded; log not written | test_ledger: it_does_not_move_from_anything_else, there_is_one_row |
| target off by one | test_plan; test_races |
| split at every semicolon, in quotes, in comments, in triggers; lines off by one; a control statement accepted | test_script |
| looks count in the checksum; white space inside text does not; checksum not compared | test_script; test_messages: files_that_were_edited |
| settings not put back, after success or failure; TEMP objects not dropped, or the caller's too | test_leaks |
| a TEMP table shadows alembic_version | test_leaks: temporary_objects_of_a_step |
| adoption removed, or not noted for the next run; the twin keeps TEMP objects | test_adoption |
| no progress handler; a second signal breaks the way out; the twin is deaf to signals | test_interrupts; test_scripts: control_c |
| nothing to do takes the lock; a read-only database is opened for writing | test_races: with_nothing_to_do |
| printed before it is committed; exit code 143 for 130; a reader that has gone | test_cli |
| no snapshot for a check; a missing function is drift; extras are drift | test_health |
| backup written in place, unchecked, with a wide mode; restore keeps nothing | test_backup |
| rehearsal copy left behind; original opened for writing; copy named in a message | test_rehearsal |
| no `exec`, no PYTHONSAFEPATH or a PYTHONPATH in migrate.sh; a trap, the wait or the exit code missing in docker-entrypoint.sh | test_scripts |
| an import that points right; a module that a no-op must not load | test_imports |
| migrations missing from wheel or sdist; a runtime dependency | test_package |
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import in_memory

settings.register_profile(
    "quick",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("full", settings.get_profile("quick"), max_examples=1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long sweeps in their full size")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "quick")
    start_like_everywhere()


def start_like_everywhere() -> None:
    """Leave nothing of the caller's surroundings to the tests and the processes that they start."""
    # A job in the background of a script has SIGINT ignored, and so would be what is to be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.umask(0o022)
    for name in [name for name in os.environ if name.startswith("VMPILOT_")]:
        del os.environ[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if "full" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long sweep: run with --full"))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory where there is one: no test needs a disk, and a disk is slow."""
    directory = Path(tempfile.mkdtemp(dir=in_memory()))
    yield directory
    with suppress(PermissionError):
        shutil.rmtree(directory)
        return
    subprocess.run(["chmod", "-R", "u+rwX", directory], check=True)
    shutil.rmtree(directory)


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """An empty directory for migration files."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return directory


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "app.db"
