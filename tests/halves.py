"""Running the tests in two processes, which take file after file from one list: half the time on two cores.

What they report is told by one of them as if it had run all. A process is forked, so what is collected is
collected once; it must be done before there is a thread.
"""

import os
import pickle
import sys
import traceback
from collections.abc import Iterator
from itertools import groupby
from tempfile import TemporaryFile
from typing import IO, Any

import pytest

_SIZE = 2  # bytes of the number of a file
_LONG = {"promises", "shell"}  # folders with the files that take longest


def run(session: pytest.Session) -> None:
    """Run all tests of a session, and report them."""
    files = [[*items] for _, items in groupby(session.items, lambda item: item.path)]
    files.sort(key=lambda items: _LONG.isdisjoint(items[0].path.parts))  # or one would run alone in the end
    reading, writing = os.pipe()
    os.write(writing, b"".join(number.to_bytes(_SIZE, "big") for number in range(len(files))))
    os.close(writing)
    # What is captured goes into files, of which each process needs its own.
    capture = session.config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    with TemporaryFile() as reports:
        child = os.fork()
        capture.start_global_capturing()
        capture.suspend_global_capture()
        if not child:
            _run_apart(session, _taken(files, reading), reports)
        _run(_taken(files, reading))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        reports.seek(0)
        hook, config = session.config.hook, session.config
        while data := _next(reports):
            hook.pytest_runtest_logreport(
                report=hook.pytest_report_from_serializable(config=config, data=data)
            )
    assert not code, f"the second process ended with {code}"


def _next(reports: IO[bytes]) -> Any:
    try:
        return pickle.load(reports)
    except EOFError:
        return None


def _taken(files: list[list[pytest.Item]], reading: int) -> Iterator[pytest.Item]:
    """Yield the tests of the files that this process gets."""
    while number := os.read(reading, _SIZE):
        yield from files[int.from_bytes(number, "big")]


def _run(items: Iterator[pytest.Item]) -> None:
    # What comes next is known one test ahead, because it tells which fixtures can stay.
    item = next(items, None)
    while item:
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item = following


def _run_apart(session: pytest.Session, items: Iterator[pytest.Item], reports: IO[bytes]) -> None:
    """Run tests in the second process, which shows nothing, and write down what they report."""
    code = 1
    try:
        manager = session.config.pluginmanager
        manager.unregister(name="terminalreporter")
        manager.register(_Writer(session.config, reports))
        _run(items)
        manager.getplugin("capturemanager").stop_global_capturing()
        reports.flush()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


class _Writer:
    """A plugin that writes down reports."""

    def __init__(self, config: pytest.Config, reports: IO[bytes]) -> None:
        self.config = config
        self.reports = reports

    def pytest_runtest_logreport(self, report: Any) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        pickle.dump(data, self.reports)
