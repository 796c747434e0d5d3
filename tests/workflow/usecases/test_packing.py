"""A datablock as it is packed: every kind of file in its place in the tar, and nothing wrong gets through."""

import hashlib
import io
import json
import os
import tarfile
import tracemalloc
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from archiver.config.settings import MEBIBYTE, ObjectStoreSettings
from archiver.workflow.bags import take_turn, turn_path
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.datablocks.index import DatablockTotals, Member, read_index
from archiver.workflow.errors import ChangedDuringArchivingError, WrongChecksumError
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.lts import ShareAddress, initialise_share
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.transfer import RANGE, SMALL_OBJECT, PackOrder, pack_datablock

PID = "20.500.12345/packing"
INDEX = "index.jsonl"
TAR = "datablock.tar"
MTIME = 1_700_000_000
WORKERS = 3


class Packing:
    """Objects in a landing zone, and the order to pack them."""

    def __init__(self, store: ObjectStore, settings: ObjectStoreSettings, share: ShareAddress, folder: Path) -> None:
        self._store = store
        self._settings = settings
        self._share = share
        self._folder = folder
        self._prefix = f"{uuid.uuid4()}/{dataset_prefix(PID)}"
        self.entries: list[Entry] = []
        self.contents: dict[str, bytes] = {}
        self.reported = 0

    def put(self, path: str, content: bytes, *, parts: Sequence[int] = (), listed: str = "") -> None:
        """A file in the landing zone, uploaded in `parts` of so many bytes where there are any."""
        bucket = self._settings.s3_landingzone_bucket
        if parts:
            stream = io.BytesIO(content)
            with self._store.multipart_writer(bucket, self._prefix + path) as writer:
                for number, size in enumerate(parts, start=1):
                    writer.write_part(number, stream.read(size))
                etag = writer.complete().etag
        else:
            etag = self._store.put(bucket, self._prefix + path, content).etag
        self.entries.append(Entry(path, EntryKind.FILE, len(content), MTIME, 0o640, etag, listed))
        self.contents[path] = content

    def put_folder(self, path: str) -> None:
        self.entries.append(Entry(path, EntryKind.FOLDER, 0, MTIME, 0o750, "", ""))

    def pack(self, window_bytes: int = 64 * MEBIBYTE) -> DatablockTotals:
        plan = self._folder / "plan.jsonl"
        plan.write_text("".join(json.dumps([0, *entry]) + "\n" for entry in self.entries), encoding="ascii")
        take_turn(self._report, self._share, PID, "attempt", from_scratch=True)
        order = PackOrder(
            store=self._settings,
            bucket=self._settings.s3_landingzone_bucket,
            prefix=self._prefix,
            share=self._share,
            plan_file=plan,
            plan_offset=0,
            entries=len(self.entries),
            index=0,
            archive_id=TAR,
            index_path=INDEX,
            attempt="attempt",
            turn_path=turn_path(PID),
            workers=WORKERS,
            window_bytes=window_bytes,
        )
        return pack_datablock(self._report, order)

    def _report(self, count: int, /) -> None:
        self.reported += count

    @property
    def tar(self) -> Path:
        return self._share.root / TAR

    def index(self) -> list[Member]:
        with (self._share.root / INDEX).open(encoding="ascii") as lines:
            return [record for record in read_index(lines) if isinstance(record, Member)]


@pytest.fixture
def packing(s3_server: ObjectStoreSettings, tmp_path: Path) -> Iterator[Packing]:
    root = tmp_path / "share"
    root.mkdir()
    with ObjectStore.open(s3_server) as store:
        yield Packing(store, s3_server, ShareAddress(root, initialise_share(root)), tmp_path)


def _unpacked(tar: Path) -> Mapping[str, bytes | None]:
    with tarfile.open(tar, "r:") as opened:
        found = {}
        for member in opened:
            content = opened.extractfile(member) if member.isfile() else None
            found[member.name] = None if content is None else content.read()
    return found


def test_files_of_every_size_lie_where_the_index_says(packing: Packing) -> None:
    packing.put_folder("empty")
    for number in range(300):
        packing.put(f"many/{number:03}", os.urandom(number * 7))
    packing.put("none", b"")
    packing.put("block", os.urandom(512))
    packing.put("small", os.urandom(SMALL_OBJECT))
    packing.put("large", os.urandom(SMALL_OBJECT + 1))
    packing.put("parts", os.urandom(2 * RANGE + 3), parts=(RANGE + 1, RANGE + 2))
    packing.put("ünïcode " + "long/" * 40 + "name", b"x")

    totals = packing.pack()

    assert _unpacked(packing.tar) == {"empty": None, **packing.contents}
    whole = packing.tar.read_bytes()
    assert (totals.packed_size, totals.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert (totals.files, totals.folders, totals.size) == (306, 1, sum(map(len, packing.contents.values())))
    index = packing.index()
    assert [member.path for member in index] == [entry.path for entry in packing.entries]
    for member in index[1:]:
        content = packing.contents[member.path]
        assert whole[member.offset : member.offset + member.size] == content
        assert member.sha256 == hashlib.sha256(content).hexdigest()
        assert member.origin == ("upload-sha256-composite" if member.path == "parts" else "upload-sha256")
    assert packing.reported == totals.size


def test_a_window_smaller_than_a_piece_only_makes_it_slower(packing: Packing) -> None:
    packing.put("parts", os.urandom(2 * RANGE + 3), parts=(2 * RANGE + 3,))
    packing.put("small", os.urandom(SMALL_OBJECT))

    packing.pack(window_bytes=MEBIBYTE)

    assert _unpacked(packing.tar) == packing.contents


def test_large_and_small_files_together_stay_within_the_window(packing: Packing) -> None:
    window = 4 * RANGE
    packing.put("large", bytes(5 * RANGE), parts=(5 * RANGE,))
    for number in range(2 * window // SMALL_OBJECT):
        packing.put(f"small/{number:02}", bytes(SMALL_OBJECT))

    tracemalloc.start()
    try:
        packing.pack(window_bytes=window)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # A thread that has handed over its batch lets go of it when it next runs, on a busy machine a little later.
    gathered_for_writing, batches_let_go, all_else = 4 * MEBIBYTE, (1 + WORKERS) * SMALL_OBJECT, 6 * MEBIBYTE
    assert peak <= window + gathered_for_writing + batches_let_go + all_else


@pytest.mark.parametrize("size", [1_000, SMALL_OBJECT + 1], ids=["small", "large"])
def test_a_file_without_its_listed_checksum_is_named_and_nothing_is_left(packing: Packing, size: int) -> None:
    for number in range(20):
        packing.put(f"good/{number}", os.urandom(1_000))
    packing.put("wrong", bytes(size), listed="md5:" + "0" * 32)
    packing.put("z", b"after it")

    with pytest.raises(WrongChecksumError, match="'wrong'"):
        packing.pack()
    assert not list(packing.tar.parent.glob(f"{TAR}*"))


@pytest.mark.parametrize("size", [1_000, SMALL_OBJECT + 1], ids=["small", "large"])
def test_a_file_that_was_replaced_is_named_and_nothing_is_left(packing: Packing, size: int) -> None:
    packing.put("first", b"first")
    packing.put("replaced", bytes(size))
    packing.entries[-1] = replace_etag(packing.entries[-1])

    with pytest.raises(ChangedDuringArchivingError, match="replaced"):
        packing.pack()
    assert not list(packing.tar.parent.glob(f"{TAR}*"))


def replace_etag(entry: Entry) -> Entry:
    """The same file, planned in another version."""
    return entry._replace(etag="0" * 32)
