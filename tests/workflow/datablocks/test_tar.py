"""The tar of a datablock: any reader finds in it what was put in, and content lies where the index says."""

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.datablocks.tar import BLOCK, RECORD, member_header, padding, trailer
from support.strategies import ODD_PATHS, file_paths, without_clashes

GIB = 1024**3


def _content(entry: Entry) -> bytes:
    seed = entry.path.encode() or b"x"
    return (seed * (entry.size // len(seed) + 1))[: entry.size]


def _pack(entries: Sequence[Entry]) -> tuple[bytes, list[int]]:
    """The tar of `entries`, and where the content of each begins."""
    packed, offsets = bytearray(), []
    for entry in entries:
        packed += member_header(entry)
        offsets.append(len(packed))
        packed += _content(entry) + padding(entry.size)
    packed += trailer(len(packed))
    return bytes(packed), offsets


@st.composite
def members(draw: st.DrawFn) -> list[Entry]:
    """Members that can be unpacked side by side, with times that every file system keeps."""
    found = []
    for path in without_clashes(draw(st.lists(file_paths(), min_size=1, max_size=12))):
        kind = draw(st.sampled_from(EntryKind))
        size = 0 if kind is EntryKind.FOLDER else draw(st.one_of(st.just(0), st.integers(0, 3000)))
        mode = draw(st.integers(0, 0o777)) | (0o700 if kind is EntryKind.FOLDER else 0o400)
        found.append(Entry(path, kind, size, draw(st.integers(0, 2**32 - 1)), mode, "", ""))
    return found


def _gnu_tar(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> bytes:
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(
        ["tar", *arguments], input=stdin, capture_output=True, check=False, cwd=folder, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def _listed(packed: bytes | Path) -> list[tuple[str, int, str, str]]:
    """Name, size, time and mode of each member, as GNU tar tells them."""
    options = ["--list", "--verbose", "--numeric-owner", "--full-time", "--quoting-style=c"]
    if isinstance(packed, Path):
        shown = _gnu_tar(*options, "--file", str(packed))
    else:
        shown = _gnu_tar(*options, "--file", "-", stdin=packed)
    found = []
    for line in shown.decode("ascii").splitlines():
        mode, _, size, day, time, quoted = line.split(None, 5)
        name = quoted[1:-1].encode().decode("unicode_escape").encode("latin-1").decode()
        found.append((name, int(size), f"{day} {time}", mode))
    return found


def _told(entry: Entry) -> tuple[str, int, str, str]:
    when = datetime.fromtimestamp(entry.mtime, UTC).strftime("%Y-%m-%d %H:%M:%S")
    letters = "".join(letter if entry.mode >> 8 - place & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))
    folder = entry.is_folder
    return entry.path + "/" * folder, entry.size, when, ("d" if folder else "-") + letters


@given(members())
def test_the_standard_library_reads_back_what_was_packed(given_members: list[Entry]) -> None:
    packed, offsets = _pack(given_members)

    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as opened:
        found = opened.getmembers()
        assert [(each.name, each.isdir(), each.size, each.mtime, each.mode, each.offset_data) for each in found] == [
            (entry.path, entry.is_folder, entry.size, entry.mtime, entry.mode, offset)
            for entry, offset in zip(given_members, offsets, strict=True)
        ]
        assert {each.type for each in found} <= {tarfile.REGTYPE, tarfile.DIRTYPE}
        for each, entry in zip(found, given_members, strict=True):
            extracted = opened.extractfile(each)
            assert (extracted.read() if extracted else b"") == _content(entry)


@given(members())
def test_content_lies_where_the_index_says(given_members: list[Entry]) -> None:
    packed, offsets = _pack(given_members)

    for entry, offset in zip(given_members, offsets, strict=True):
        assert packed[offset : offset + entry.size] == _content(entry)


@given(members())
@settings(max_examples=25)
def test_gnu_tar_lists_the_same_names_sizes_times_and_modes(given_members: list[Entry]) -> None:
    packed, _ = _pack(given_members)

    assert _listed(packed) == [_told(entry) for entry in given_members]


@given(members())
@settings(max_examples=25)
def test_gnu_tar_unpacks_what_was_packed(given_members: list[Entry]) -> None:
    packed, _ = _pack(given_members)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Times in the future make it talk.
        _gnu_tar(
            "--extract", "--preserve-permissions", "--warning=no-timestamp", "--file", "-", stdin=packed, folder=folder
        )
        for entry in given_members:
            found = folder / entry.path
            status = found.stat()
            assert found.is_dir() == entry.is_folder
            assert (int(status.st_mtime), status.st_mode & 0o777) == (entry.mtime, entry.mode)
            if not entry.is_folder:
                assert found.read_bytes() == _content(entry)


def test_every_odd_name_survives_both_readers() -> None:
    given_members = [Entry(path, EntryKind.FILE, 5, 1_700_000_000, 0o640, "", "") for path in sorted(ODD_PATHS)]
    packed, _ = _pack(given_members)

    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        assert opened.getnames() == sorted(ODD_PATHS)
    assert [name for name, *_ in _listed(packed)] == sorted(ODD_PATHS)


@pytest.mark.parametrize("mtime", [-1, -2_208_988_800, 0, 8**11 - 1, 8**11, 253_402_300_799])
def test_times_far_from_today_are_kept(mtime: int) -> None:
    packed, _ = _pack([Entry("a", EntryKind.FILE, 1, mtime, 0o644, "", "")])

    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        assert opened.getmember("a").mtime == mtime


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 50_000 * GIB])
def test_sizes_beyond_the_old_limit_are_kept(size: int) -> None:
    header = member_header(Entry("large", EntryKind.FILE, size, 0, 0o644, "", ""))

    with tarfile.open(fileobj=io.BytesIO(header), mode="r|") as opened:
        found = opened.next()
    assert found is not None
    assert (found.name, found.size, found.offset_data) == ("large", size, len(header))


def test_gnu_tar_finds_the_member_after_a_file_of_nine_gibibytes(tmp_path: Path) -> None:
    large = Entry("large", EntryKind.FILE, 9 * GIB + 1, 0, 0o644, "", "")
    after = Entry("after", EntryKind.FILE, 0, 0, 0o644, "", "")
    tar = tmp_path / "large.tar"
    with tar.open("wb") as sparse:
        sparse.write(member_header(large))
        sparse.seek(large.size + len(padding(large.size)), os.SEEK_CUR)  # a hole, which takes no space
        sparse.write(member_header(after))
        sparse.write(trailer(sparse.tell()))

    assert _listed(tar) == [_told(large), _told(after)]


@given(st.integers(0, 10**16))
def test_padding_and_trailer_end_on_whole_blocks_and_records(size: int) -> None:
    assert (size + len(padding(size))) % BLOCK == 0
    assert len(padding(size)) < BLOCK
    offset = size + len(padding(size))
    assert (offset + len(trailer(offset))) % RECORD == 0
    assert 2 * BLOCK <= len(trailer(offset)) < 2 * BLOCK + RECORD
    assert not any(trailer(offset))


@given(members())
def test_a_header_takes_whole_blocks_and_is_the_same_each_time(given_members: list[Entry]) -> None:
    for entry in given_members:
        assert len(member_header(entry)) % BLOCK == 0
        assert member_header(entry) == member_header(entry)
