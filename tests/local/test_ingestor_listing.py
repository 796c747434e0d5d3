"""What a folder becomes in the catalogue's list: Go's modes, whole seconds, what is sent and what is left out."""

import os
import socket
import stat
from datetime import datetime
from pathlib import Path

import pytest

from archiver.local.ingestor.catalogue import BLOCK_FILES, file_lists
from archiver.local.ingestor.listing import ListedEntry, ListedKind, Listing, go_mode, list_folder, rfc3339
from archiver.workflow.datablocks.entries import EntryKind, parse_mode, parse_time


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (stat.S_IFREG | 0o644, "-rw-r--r--"),
        (stat.S_IFREG, "----------"),
        (stat.S_IFDIR | 0o755, "drwxr-xr-x"),
        (stat.S_IFLNK | 0o777, "Lrwxrwxrwx"),
        (stat.S_IFREG | stat.S_ISUID | 0o755, "urwxr-xr-x"),
        (stat.S_IFREG | stat.S_ISUID | stat.S_ISGID | 0o750, "ugrwxr-x---"),
        (stat.S_IFDIR | stat.S_ISVTX | 0o777, "dtrwxrwxrwx"),
        (stat.S_IFCHR | 0o600, "Dcrw-------"),
        (stat.S_IFBLK | 0o660, "Drw-rw----"),
        (stat.S_IFIFO | 0o644, "prw-r--r--"),
        (stat.S_IFSOCK | 0o700, "Srwx------"),
    ],
)
def test_modes_are_written_as_go_writes_them(mode: int, text: str) -> None:
    assert go_mode(mode) == text


def test_the_archive_reads_every_mode_that_is_written() -> None:
    for bits in range(0o1000):
        assert parse_mode(go_mode(stat.S_IFREG | bits)) == (EntryKind.FILE, bits)
        assert parse_mode(go_mode(stat.S_IFDIR | stat.S_ISGID | bits)) == (EntryKind.FOLDER, bits)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich", "Asia/Kolkata"])
def test_times_are_whole_seconds_with_their_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for seconds in (0, 1_700_000_000, 1_720_000_000, -86_400):
            text = rfc3339(seconds)
            assert parse_time(text) == seconds
            assert datetime.fromisoformat(text).utcoffset() is not None
            assert "." not in text
        assert rfc3339(0).endswith("Z") == (zone == "UTC")
    finally:
        monkeypatch.undo()
        time.tzset()


def _by_path(listing: Listing) -> dict[str, ListedEntry]:
    return {entry.path: entry for entry in listing.entries}


def test_folders_come_before_what_is_in_them_and_names_in_order(tmp_path: Path) -> None:
    for name in ("b/z", "b/a/x", "a", "b-c", "ü ñ", "new\nline", "-dash", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty folder").mkdir()

    found = [entry.path for entry in list_folder(tmp_path).entries]

    assert found == [
        *("-dash", ".hidden", "a", "b", "b/a", "b/a/x", "b/z", "b-c"),
        *("empty folder", "new\nline", "ü ñ"),
    ]


def test_an_entry_says_what_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(b"12345")
    file.chmod(0o640)
    os.utime(file, ns=(0, 1_600_000_000_987_654_321))
    (tmp_path / "inner").mkdir(mode=0o750)

    listing = list_folder(tmp_path)
    data, inner = _by_path(listing)["data.bin"], _by_path(listing)["inner"]

    assert (data.kind, data.size, data.upload_bytes) == (ListedKind.FILE, 5, 5)
    assert (data.mtime, data.mode) == (1_600_000_000, "-rw-r-----")
    assert data.user
    assert data.group
    assert (inner.kind, inner.upload_bytes, inner.mode) == (ListedKind.FOLDER, 0, "drwxr-x---")
    assert inner.size == (tmp_path / "inner").stat().st_size
    assert listing.uploads == [data]


def test_a_link_is_listed_with_its_own_size_and_sent_with_its_targets_bytes(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("target")
    os.utime(tmp_path / "link", (1, 1_500_000_000), follow_symlinks=False)

    link = _by_path(list_folder(tmp_path))["link"]

    assert (link.kind, link.size, link.upload_bytes) == (ListedKind.LINK, len("target"), 1000)
    assert (link.mode, link.mtime) == ("Lrwxrwxrwx", 1_500_000_000)


def test_what_has_no_bytes_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to("folder")
    (tmp_path / "to nowhere").symlink_to("missing")
    (tmp_path / "round").symlink_to("round")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "back\\slash").touch()
    (tmp_path / os.fsdecode(b"latin\xe9")).touch()
    previous = Path.cwd()
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        os.chdir(previous)
        listing = list_folder(tmp_path)

    assert [entry.path for entry in listing.entries] == ["folder", "kept"]
    reasons = dict(listing.left_out)
    assert reasons.keys() == {
        *("back\\slash", os.fsdecode(b"latin\xe9"), "pipe", "round", "socket", "to folder", "to nowhere"),
    }
    assert "folder" in reasons["to folder"]
    assert "nowhere" in reasons["to nowhere"]
    assert all(reasons.values())


def test_what_a_filter_refuses_is_not_looked_into(tmp_path: Path) -> None:
    for name in ("keep/a", "drop/b", "keep/drop/c", "keep/drop.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    listing = list_folder(tmp_path, lambda path, is_folder: not (is_folder and path.endswith("drop")))

    assert [entry.path for entry in listing.entries] == ["keep", "keep/a", "keep/drop.txt"]
    assert not listing.left_out


def test_a_file_from_elsewhere_can_be_added(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"123")
    (tmp_path / "folder").mkdir()

    listing = list_folder(tmp_path / "folder").with_file("large", elsewhere)

    assert [(entry.path, entry.source, entry.upload_bytes) for entry in listing.entries] == [("large", elsewhere, 3)]
    assert listing.with_file("gone", tmp_path / "gone").left_out[0].path == "gone"


def _entry(number: int, size: int) -> ListedEntry:
    return ListedEntry(f"f{number}", Path("f"), ListedKind.FILE, size, size, 0, "-rw-r--r--", "u", "g")


def test_lists_of_files_are_cut_at_twenty_thousand_entries() -> None:
    entries = [_entry(number, 1) for number in range(2 * BLOCK_FILES + 1)]

    portions = list(file_lists(entries))

    assert [len(portion) for portion in portions] == [BLOCK_FILES, BLOCK_FILES, 1]
    assert [entry for portion in portions for entry in portion] == entries


def test_lists_of_files_are_cut_where_they_reach_two_hundred_gigabytes() -> None:
    entries = [_entry(number, 150_000_000_000) for number in range(5)]
    assert [len(portion) for portion in file_lists(entries)] == [2, 2, 1]


def test_an_empty_folder_has_no_lists() -> None:
    assert list(file_lists([])) == []
