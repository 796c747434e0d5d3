"""The comparison at the end of a demo finds whatever is not as it was."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from archiver.config.settings import MEBIBYTE
from archiver.local.demo.comparison import compare
from archiver.local.ingestor.listing import Listing, list_folder

TIME = 1_600_000_000


def _set_time(path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds), follow_symlinks=False)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"content of a")
    (folder / "sub" / "large").write_bytes(os.urandom(MEBIBYTE + 100))
    (folder / "sub" / "ünï\ncode").write_bytes(b"")
    (folder / "link").symlink_to("a.txt")
    for path in folder.rglob("*"):
        _set_time(path, TIME + 0.75)
    return folder


@pytest.fixture
def listing(given: Path) -> Listing:
    return list_folder(given)


@pytest.fixture
def returned(given: Path, tmp_path: Path) -> Path:
    """What the archive gives back: whole seconds, links as files."""
    folder = tmp_path / "returned"
    shutil.copytree(given, folder, symlinks=False)
    for path in folder.rglob("*"):
        _set_time(path, TIME)
    return folder


def _changed_byte(folder: Path) -> str:
    file = folder / "sub" / "large"
    content = bytearray(file.read_bytes())
    content[MEBIBYTE + 5] ^= 1
    file.write_bytes(content)
    _set_time(file, TIME)
    return "sub/large"


def _shorter(folder: Path) -> str:
    os.truncate(folder / "a.txt", 5)
    _set_time(folder / "a.txt", TIME)
    return "a.txt"


def _later(folder: Path) -> str:
    _set_time(folder / "a.txt", TIME + 1)
    return "a.txt"


def _other_mode(folder: Path) -> str:
    (folder / "a.txt").chmod(0o600)
    return "a.txt"


def _other_folder_mode(folder: Path) -> str:
    (folder / "sub" / "empty").chmod(0o700)
    return "sub/empty"


def _missing(folder: Path) -> str:
    (folder / "a.txt").unlink()
    return "a.txt"


def _missing_folder(folder: Path) -> str:
    (folder / "sub" / "empty").rmdir()
    return "sub/empty"


def _extra(folder: Path) -> str:
    (folder / "sub" / "extra").touch()
    return "sub/extra"


def _other_link(folder: Path) -> str:
    (folder / "link").write_bytes(b"something else")
    _set_time(folder / "link", TIME)
    return "link"


def _link_came_back(folder: Path) -> str:
    (folder / "a.txt").rename(folder / "sub" / "kept")
    (folder / "a.txt").symlink_to("sub/kept")
    (folder / "sub" / "kept").rename(folder / "link")
    return "a.txt"


def _file_for_folder(folder: Path) -> str:
    (folder / "sub" / "empty").rmdir()
    (folder / "sub" / "empty").touch()
    return "sub/empty"


@pytest.mark.parametrize(
    "change",
    [
        *(_changed_byte, _shorter, _later, _other_mode, _other_folder_mode, _missing, _missing_folder, _extra),
        *(_other_link, _link_came_back, _file_for_folder),
    ],
)
def test_a_change_is_found_and_named(listing: Listing, returned: Path, change: Callable[[Path], str]) -> None:
    path = change(returned)
    found = compare(listing, returned)
    assert [difference.path for difference in found] == [path]
    assert found[0].what


def test_what_came_back_whole_has_no_difference(listing: Listing, returned: Path) -> None:
    seen = [0, 0]

    def progress(count: int, files: int) -> None:
        seen[0] += count
        seen[1] += files

    assert compare(listing, returned, progress) == []
    assert seen == [listing.upload_bytes, len(listing.uploads)]


def test_the_first_byte_that_differs_is_named(listing: Listing, returned: Path) -> None:
    _changed_byte(returned)
    assert f"{MEBIBYTE + 5:,}" in compare(listing, returned)[0].what


def test_several_problems_of_one_file_are_all_named(listing: Listing, returned: Path) -> None:
    (returned / "a.txt").write_bytes(b"x")
    (returned / "a.txt").chmod(0o755)
    _set_time(returned / "a.txt", 0)
    assert len(compare(listing, returned)) == 3


def test_an_input_that_vanished_is_no_success(given: Path, listing: Listing, returned: Path) -> None:
    (given / "a.txt").unlink()
    (given / "link").unlink()
    assert {difference.path for difference in compare(listing, returned)} == {"a.txt", "link"}
