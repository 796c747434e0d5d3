"""What a demo archives."""

from pathlib import Path

import pytest

from archiver.local.demo.errors import BadFolderError
from archiver.local.demo.selection import own_folder, standard_library


def test_the_standard_library_is_thousands_of_files_and_a_large_one() -> None:
    listing = standard_library().listing
    assert len(listing.uploads) > 1000
    assert max(entry.upload_bytes for entry in listing.uploads) > 100_000_000
    assert "os.py" in {entry.path for entry in listing.entries}
    names = {part for entry in listing.entries for part in entry.path.split("/")}
    assert not names & {"__pycache__", "site-packages"}
    assert len({entry.path for entry in listing.entries}) == len(listing.entries)


def test_a_folder_of_the_users_is_taken_whole(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "kept.pyc").touch()
    selection = own_folder(tmp_path)
    assert (selection.name, selection.folder) == (tmp_path.name, tmp_path)
    assert [entry.path for entry in selection.listing.entries] == ["__pycache__", "__pycache__/kept.pyc"]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder_is_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadFolderError, match=name):
        own_folder(tmp_path / name)
