"""Proves what `create` refuses that no command line can ask for; the rest is among the transcripts."""

import zipfile
from pathlib import Path

import pytest

from vmpilot.migrate import HistoryError, create


def test_nothing_is_written_inside_a_package(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("migrations/0001_one.up.sql", "")
        place = zipfile.Path(archive, "migrations/")
        with pytest.raises(HistoryError) as caught:
            create("two", place)
    assert str(caught.value) == (
        f"{place}: these migrations belong to the installed package; nothing was written; "
        "name a directory with --migrations"
    )


def test_a_directory_too_deep_to_be_made_is_refused(tmp_path: Path) -> None:
    place = f"{tmp_path}/{'x/' * 1500}"
    with pytest.raises(HistoryError) as caught:
        create("two", place)
    assert str(caught.value) == f"{place}: file name too long"
    assert list(tmp_path.iterdir()) == []
