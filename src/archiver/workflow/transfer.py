"""The three movements of bytes: pack a datablock, prove it, bring it back.

Each is one pass over the bytes, written to run in a child process (`archiver.workflow.isolation`): it is given
plain orders, opens what it needs itself and reports progress. Memory is bounded by the order's window.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import stamina
import structlog

from archiver.config.settings import MEBIBYTE, ObjectStoreSettings
from archiver.workflow.datablocks.digests import Bytes, CompositeDigest, Digest, FileDigests, hex_of_base64, new_digest
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.datablocks.index import DatablockTotals, Member, member_line, totals_line
from archiver.workflow.datablocks.tar import member_header, padding, trailer
from archiver.workflow.errors import (
    ChangedDuringArchivingError,
    ClaimLostError,
    DamagedError,
    PermanentError,
    TransientError,
    VerificationError,
    WrongChecksumError,
    WrongShareError,
)
from archiver.workflow.isolation import Progress
from archiver.workflow.storage.lts import PosixShare, Reader, ShareAddress, Writer
from archiver.workflow.storage.object_store import ObjectChangedError, ObjectStore
from archiver.workflow.storage.s3_records import Checksum, StoredObject
from archiver.workflow.tar_upload import TarUpload

log = structlog.get_logger(__name__)

SMALL_OBJECT = 4 * MEBIBYTE
"""Up to here an object is fetched whole, with its checksum, in one request."""
_BATCH = 1 * MEBIBYTE
"""Content of neighbouring small objects that one thread fetches, one after another."""
_BATCH_ENTRIES = 128
_SIGN_OF_LIFE_S = 5.0
RANGE = 16 * MEBIBYTE
READ_CHUNK = 8 * MEBIBYTE
PROOF_READ_BACK = "read back by the client that wrote it, its page cache dropped before"
_PARALLEL_HASHING_FROM = 1 * MEBIBYTE
_WRITE_BUFFER = 4 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class PackOrder:
    """Stream planned entries from the landing zone into one tar on the share."""

    store: ObjectStoreSettings
    bucket: str
    prefix: str
    """Key prefix of the data set, ending in a slash."""
    share: ShareAddress
    plan_file: Path
    """Scratch copy of the plan."""
    plan_offset: int
    """Where this datablock's entries begin in it, bytes."""
    entries: int
    """How many lines belong to this datablock."""
    index: int
    archive_id: str
    index_path: str
    """Where the datablock's index goes on the share."""
    attempt: str
    turn_path: str
    """Where the share says which attempt's turn it is."""
    workers: int
    window_bytes: int


@dataclass(frozen=True, slots=True)
class ProveOrder:
    """Read a tar on the share back and compare it."""

    share: ShareAddress
    archive_id: str
    packed_size: int
    algorithm: str
    digest: str
    patience_s: float
    """How long a file just written may stay unreadable."""


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """Bring a tar from the share back into a bucket, checked while it is read."""

    store: ObjectStoreSettings
    bucket: str
    share: ShareAddress
    archive_id: str
    packed_size: int
    sha256: str
    workers: int
    window_bytes: int
    patience_s: float


# ---------------------------------------------------------------------------------------------- reading ahead


@dataclass(frozen=True, slots=True)
class _Batch:
    """Neighbours in the tar, each small enough to be fetched whole."""

    entries: Sequence[Entry]
    length: int
    """Their content in the tar, padding included, bytes."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of one large object, fetched by one request."""

    entry: Entry
    start: int
    length: int
    """Bytes of it; in memory it takes a buffer of `RANGE`."""


def _stretches(entries: Iterable[Entry]) -> Iterator[_Batch | _Piece]:
    """What is fetched as one, in order."""
    batch: list[Entry] = []
    length = 0
    for entry in entries:
        if not entry.is_folder and entry.size > SMALL_OBJECT:
            if batch:
                yield _Batch(batch, length)
                batch, length = [], 0
            for start in range(0, entry.size, RANGE):
                yield _Piece(entry, start, min(RANGE, entry.size - start))
            continue
        occupied = 0 if entry.is_folder else entry.size + len(padding(entry.size))
        if batch and (length + occupied > _BATCH or len(batch) >= _BATCH_ENTRIES):
            yield _Batch(batch, length)
            batch, length = [], 0
        batch.append(entry)
        length += occupied
    if batch:
        yield _Batch(batch, length)


@dataclass(frozen=True, slots=True)
class _FetchedMember:
    """A small file or a folder, where it lies in its batch; its bytes have every checksum that is known for it."""

    entry: Entry
    content: int
    """Where its content begins in the batch, bytes."""
    sha256: str
    origin: str


@dataclass(frozen=True, slots=True)
class _FetchedBatch:
    """A stretch of the tar, headers and padding included."""

    data: bytearray
    members: Sequence[_FetchedMember]


@dataclass(frozen=True, slots=True)
class _FetchedPiece:
    piece: _Piece
    data: memoryview
    checksum: Checksum | None
    """Known with the first piece of an object."""


def _memory(stretch: _Batch | _Piece) -> int:
    """Bytes that it takes while it is held."""
    return stretch.length if isinstance(stretch, _Batch) else RANGE


class _ReadAhead:
    """Stretches in order, fetched by several threads, holding at most the window's bytes.

    Buffers of large pieces are used again; those that wait for it count, and go where batches need their room.
    """

    def __init__(self, progress: Progress, store: ObjectStore, order: PackOrder) -> None:
        self._progress = progress
        self._store = store
        self._order = order
        self._buffers: deque[bytearray] = deque()
        self._arrived = 0
        """Objects of batches so far: a sign of life, for all who write it only ever change it."""
        self._ended = False

    def _fetch_batch(self, batch: _Batch) -> _FetchedBatch:
        """The batch as it stands in the tar: each object is received where it belongs.

        Raises:
            WrongChecksumError: a file does not have a checksum that is known for it.
        """
        headers = [member_header(entry) for entry in batch.entries]
        data = bytearray(batch.length + sum(map(len, headers)))  # zero bytes, as padding must be
        members = []
        offset = 0
        with memoryview(data) as view:
            for entry, header in zip(batch.entries, headers, strict=True):
                if self._ended:
                    break  # nobody waits for this batch any more
                view[offset : offset + len(header)] = header
                offset += len(header)
                if entry.is_folder:
                    members.append(_FetchedMember(entry, offset, "", ""))
                    continue
                with view[offset : offset + entry.size] as content:
                    key = self._order.prefix + entry.path
                    checksum = self._store.read_whole_into(self._order.bucket, key, entry.etag, content)
                    digests = _digests_for(entry, checksum)
                    for digest in digests.all():
                        digest.update(content)
                _check(entry, digests)
                members.append(_FetchedMember(entry, offset, digests.sha256, digests.origin))
                offset += entry.size + len(padding(entry.size))
                self._arrived += 1
        return _FetchedBatch(data, members)

    def _fetch_piece(self, piece: _Piece, buffer: bytearray) -> _FetchedPiece:
        entry, key = piece.entry, self._order.prefix + piece.entry.path
        checksum = None
        if piece.start == 0:
            head = self._store.head(self._order.bucket, key)
            if head is None or head.etag != entry.etag:
                raise ObjectChangedError("The object is not the one that was planned.", [key])
            checksum = head.checksum
        view = memoryview(buffer)[: piece.length]
        self._store.read_range_into(self._order.bucket, key, entry.etag, piece.start, view)
        return _FetchedPiece(piece, view, checksum)

    def __call__(self, entries: Iterable[Entry]) -> Iterator[_FetchedBatch | _FetchedPiece]:
        """The stretches' bytes; each is valid until the next one is asked for."""
        waiting: deque[tuple[int, bytearray | None, Future[_FetchedBatch | _FetchedPiece]]] = deque()
        held = 0
        stretches = _stretches(entries)
        upcoming = next(stretches, None)
        with ThreadPoolExecutor(self._order.workers, "read-ahead") as pool:
            try:
                while upcoming is not None or waiting:
                    while upcoming is not None and (
                        not waiting
                        or (
                            held + _memory(upcoming) <= self._order.window_bytes
                            and len(waiting) < 2 * self._order.workers
                        )
                    ):
                        self._make_room(held, upcoming)
                        buffer, future = self._begin(pool, upcoming)
                        waiting.append((_memory(upcoming), buffer, future))
                        held += _memory(upcoming)
                        upcoming = next(stretches, None)
                    memory, buffer, future = waiting.popleft()
                    yield self._result(future)
                    held -= memory
                    if buffer is not None:
                        self._buffers.append(buffer)
            finally:
                self._ended = True
                for _, _, future in waiting:
                    future.cancel()

    def _make_room(self, held: int, upcoming: _Batch | _Piece) -> None:
        """Give up buffers that nothing uses where a batch would exceed the window beside them."""
        if isinstance(upcoming, _Batch):
            while self._buffers and held + upcoming.length + len(self._buffers) * RANGE > self._order.window_bytes:
                self._buffers.pop()

    def _result(self, future: Future[_FetchedBatch | _FetchedPiece]) -> _FetchedBatch | _FetchedPiece:
        """Waited for as long as it takes; objects that arrive meanwhile count as progress, though it is slow."""
        seen = self._arrived
        while not wait([future], _SIGN_OF_LIFE_S).done:
            if seen != self._arrived:
                seen = self._arrived
                self._progress(0)
        return future.result()

    def _begin(
        self, pool: ThreadPoolExecutor, stretch: _Batch | _Piece
    ) -> tuple[bytearray | None, Future[_FetchedBatch | _FetchedPiece]]:
        if isinstance(stretch, _Batch):
            return None, pool.submit(self._fetch_batch, stretch)
        buffer = self._buffers.popleft() if self._buffers else bytearray(RANGE)
        return buffer, pool.submit(self._fetch_piece, stretch, buffer)


# ---------------------------------------------------------------------------------------------- packing


class _TarStream:
    """The tar being written: bytes, checksums and offset, with small writes gathered."""

    def __init__(self, writer: Writer, hashers: ThreadPoolExecutor) -> None:
        self.offset = 0
        self.sha256 = new_digest("sha256")
        self.xxh3_128 = new_digest("xxh3_128")
        self._writer = writer
        self._hashers = hashers
        self._gathered = bytearray()

    def write(self, data: Bytes, also: Iterable[Digest | CompositeDigest] = ()) -> None:
        """Append `data`, feeding it to `also` too."""
        digests = [self.sha256, self.xxh3_128, *also]
        if len(data) < _PARALLEL_HASHING_FROM:
            for digest in digests:
                digest.update(data)
            self._gathered += data
            if len(self._gathered) >= _WRITE_BUFFER:
                self.flush()
        else:
            hashing = [self._hashers.submit(digest.update, data) for digest in digests]
            self.flush()
            self._writer.write(data)
            for each in hashing:
                each.result()
        self.offset += len(data)

    def flush(self) -> None:
        """Hand on what was gathered."""
        if self._gathered:
            self._writer.write(self._gathered)
            self._gathered = bytearray()


class _IndexStream:
    """Lines of the index, gathered into fewer writes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= 2000:
            self.flush()

    def flush(self) -> None:
        self._writer.write("".join(self._lines).encode())
        self._lines.clear()


def _planned(order: PackOrder) -> Iterator[Entry]:
    with order.plan_file.open("rb") as lines:
        lines.seek(order.plan_offset)
        for _ in range(order.entries):
            _, path, kind, *rest = json.loads(lines.readline())
            yield Entry(path, EntryKind(kind), *rest)


def _digests_for(entry: Entry, checksum: Checksum | None) -> FileDigests:
    if checksum is None:
        return FileDigests(listed=entry.checksum)
    return FileDigests(checksum.sha256_base64, checksum.part_sizes, entry.checksum)


def _check(entry: Entry, digests: FileDigests) -> None:
    """All bytes of the file have passed: they have every checksum that is known for it.

    Raises:
        WrongChecksumError: they have not.
    """
    wrong = digests.disagreement()
    if wrong:
        raise WrongChecksumError(
            f"The bytes in the landing zone do not have {wrong}. Upload the file again, then archive again. File:",
            [entry.path],
        )


@contextmanager
def _changes_named() -> Iterator[None]:
    try:
        yield
    except ObjectChangedError as error:
        raise ChangedDuringArchivingError(
            f"A file was replaced or removed while it was being archived; nothing was lost. {error} "
            "Finish the upload, then archive again."
        ) from error


def check_turn(address: ShareAddress, turn_path: str, attempt: str) -> None:
    """It is this attempt's turn to put files in place; to be asked between writing a file and committing it.

    A run that was declared dead and goes on may not have heard of it yet, and must not put anything in the place of
    what the run which replaced it has proven. That one first says on the share whose turn it is, and then removes
    unfinished files: a file that is begun before that is gone, and one that is begun after it is not committed.

    Raises:
        ClaimLostError: it is another attempt's turn, or the data set is published.
        WrongShareError: another share is mounted meanwhile, or none.
    """
    if address.open().read_small(turn_path) != attempt.encode():
        raise ClaimLostError("Another run has the data set, by what the long-term storage says. This one must stop.")


def pack_datablock(progress: Progress, order: PackOrder) -> DatablockTotals:
    """Stream one datablock from the landing zone to the share, checking every file on the way.

    The tar is in place, complete and durable, before its index is; nothing else is left behind.

    Raises:
        ClaimLostError: it is another attempt's turn.
        WrongChecksumError: a file does not have a checksum that is known for it.
        ChangedDuringArchivingError: an object is not the planned one any more.
        ArchiverError: of the share and the object store.
    """
    share = order.share.open()
    with ExitStack() as stack:
        stack.enter_context(_changes_named())
        store = stack.enter_context(ObjectStore.open(order.store, max_connections=order.workers + 1))
        hashers = stack.enter_context(ThreadPoolExecutor(4, "hashing"))
        tar_writer = stack.enter_context(share.create(order.archive_id, order.attempt))
        index_writer = stack.enter_context(share.create(order.index_path, order.attempt))
        packing = _Packing(progress, _TarStream(tar_writer, hashers), _IndexStream(index_writer))
        for fetched in _ReadAhead(progress, store, order)(_planned(order)):
            if isinstance(fetched, _FetchedBatch):
                packing.add_batch(fetched)
            else:
                packing.add_piece(fetched)
        totals = packing.end(order)
        tar_writer.flush_to_medium()
        check_turn(order.share, order.turn_path, order.attempt)
        tar_writer.commit()
        check_turn(order.share, order.turn_path, order.attempt)
        index_writer.commit()
    return totals


class _Packing:
    """One datablock on its way: what came so far, in the tar and in its index."""

    def __init__(self, progress: Progress, tar: _TarStream, index: _IndexStream) -> None:
        self._progress = progress
        self._tar = tar
        self._index = index
        self._files = self._folders = self._size = self._unproven = 0
        self._digests = FileDigests()
        self._content_offset = 0
        """Both of the large file that is passing."""

    def add_batch(self, fetched: _FetchedBatch) -> None:
        """Small files and folders, checked already."""
        start = self._tar.offset
        self._tar.write(fetched.data)
        for member in fetched.members:
            self._add(member.entry, member.sha256, start + member.content, member.origin)
        self._progress(sum(member.entry.size for member in fetched.members))

    def add_piece(self, fetched: _FetchedPiece) -> None:
        """The next bytes of a large file."""
        entry, start = fetched.piece.entry, fetched.piece.start
        if start == 0:
            self._tar.write(member_header(entry))
            self._content_offset = self._tar.offset
            self._digests = _digests_for(entry, fetched.checksum)
        self._tar.write(fetched.data, self._digests.all())
        self._progress(len(fetched.data))
        if start + len(fetched.data) == entry.size:
            self._tar.write(padding(entry.size))
            _check(entry, self._digests)
            self._add(entry, self._digests.sha256, self._content_offset, self._digests.origin)

    def _add(self, entry: Entry, sha256: str, content_offset: int, origin: str) -> None:
        self._index.write(member_line(Member.of(entry, sha256, content_offset, origin)))
        if entry.is_folder:
            self._folders += 1
            return
        self._files += 1
        self._size += entry.size
        self._unproven += origin == "unproven"

    def end(self, order: PackOrder) -> DatablockTotals:
        """The tar and its index are whole."""
        tar = self._tar
        tar.write(trailer(tar.offset))
        tar.flush()
        totals = DatablockTotals(
            order.archive_id,
            order.index,
            self._files,
            self._folders,
            self._size,
            tar.offset,
            tar.sha256.hexdigest(),
            tar.xxh3_128.hexdigest(),
            self._unproven,
        )
        self._index.write(totals_line(totals))
        self._index.flush()
        return totals


# ---------------------------------------------------------------------------------------------- reading back


class _NotYetReadableError(TransientError):
    """A file that was written is not there, or cannot be read, yet."""


@contextmanager
def opened_patiently(
    share: PosixShare, archive_id: str, patience_s: float, progress: Progress, *, just_written: bool = False
) -> Iterator[Reader]:
    """A file on the share, waiting while it is not readable; one just written may also take time to appear.

    Raises:
        DamagedError: it is still not there after the patience.
        WrongShareError: because the share is not there any more, or another one.
        ArchiverError: of the share.
    """
    identity = share.identity()
    with ExitStack() as stack:
        try:
            for attempt in stamina.retry_context(
                on=(FileNotFoundError, TransientError) if just_written else TransientError,
                attempts=None,
                timeout=patience_s,
                wait_initial=0.2,
                wait_max=30,
            ):
                with attempt:
                    progress(0)
                    reader = stack.enter_context(share.open(archive_id))
                    first = bytearray(1)
                    reader.readinto(memoryview(first), 0)
        except FileNotFoundError as error:
            ShareAddress(share.root, identity).open()  # a file that is not there on another share is not damaged
            raise DamagedError(
                f"{archive_id} is not on the long-term storage. Nothing was changed; look for it there, and in "
                "its backup."
            ) from error
        yield reader


def _chunks(reader: Reader, pool: ThreadPoolExecutor, chunk: int = READ_CHUNK) -> Iterator[memoryview]:
    """The file from its beginning, read one chunk ahead; each chunk is valid until the next is asked for."""
    buffers = [bytearray(chunk), bytearray(chunk)]

    def read(number: int) -> memoryview:
        view = memoryview(buffers[number % 2])
        return view[: reader.readinto(view, number * chunk)]

    number, upcoming = 0, pool.submit(read, 0)
    while data := upcoming.result():
        number += 1
        upcoming = pool.submit(read, number)
        yield data


def prove_datablock(progress: Progress, order: ProveOrder) -> str:
    """Read a datablock back, from the medium as far as the client can see to it: what level that proves.

    Raises:
        VerificationError: it is not what was written, or cannot be read any more.
        DamagedError: it is not there.
        WrongShareError: nor is the share.
    """
    share = order.share.open()
    digest = new_digest(order.algorithm)
    try:
        with (
            opened_patiently(share, order.archive_id, order.patience_s, progress, just_written=True) as reader,
            ThreadPoolExecutor(1, "read-back") as pool,
        ):
            size = reader.size
            for data in _chunks(reader, pool):
                digest.update(data)
                progress(len(data))
    except (DamagedError, WrongShareError):
        raise
    except PermanentError as error:
        # A bad place on the medium is a reason to write the datablock anew, elsewhere; its source still lies there.
        raise VerificationError(f"{order.archive_id} cannot be read back: {error}") from error
    if size != order.packed_size or digest.hexdigest() != order.digest:
        raise VerificationError(
            f"{order.archive_id} does not read back as it was written ({size} bytes, {order.algorithm} "
            f"{digest.hexdigest()}; written: {order.packed_size} bytes, {order.digest}). Look at the share's health."
        )
    return PROOF_READ_BACK


def copy_datablock(progress: Progress, order: CopyOrder) -> None:
    """Bring a datablock back into a bucket; the object appears only when all bytes have the recorded SHA-256.

    Only for the holder of the claim on the copy.

    Raises:
        DamagedError: the tar is missing, or not what was archived. Nothing is changed by itself.
    """
    share = order.share.open()
    with ExitStack() as stack:
        store = stack.enter_context(ObjectStore.open(order.store, max_connections=order.workers + 1))
        reader = stack.enter_context(opened_patiently(share, order.archive_id, order.patience_s, progress))
        if reader.size != order.packed_size:
            raise _not_as_archived(order, f"{reader.size} bytes")
        upload = stack.enter_context(
            TarUpload(
                progress,
                store,
                order.bucket,
                order.archive_id,
                order.packed_size,
                workers=order.workers,
                window=order.window_bytes,
            )
        )
        for view in upload.space(order.packed_size):
            count = reader.readinto(view, upload.offset)
            if count != len(view):
                raise _not_as_archived(order, f"it ends after {upload.offset + count} bytes")
        found = upload.finish()
        if found != order.sha256:
            raise _not_as_archived(order, f"SHA-256 {found}")
        upload.complete()


def _not_as_archived(order: CopyOrder, found: str) -> DamagedError:
    return DamagedError(
        f"{order.archive_id} on the long-term storage is not what was archived ({found}; recorded: "
        f"{order.packed_size} bytes, SHA-256 {order.sha256}). Nothing was changed. "
        "See 'when the only copy is damaged' in the documentation."
    )


def object_sha256(store: ObjectStore, bucket: str, stored: StoredObject) -> str:
    """SHA-256 of an object's content, hexadecimal: as S3 keeps it, or by reading it where S3 does not.

    Raises:
        ObjectChangedError: it is not there any more in this version.
    """
    head = store.head(bucket, stored.key)
    if head is not None and head.etag == stored.etag and head.checksum and not head.checksum.part_sizes:
        return hex_of_base64(head.checksum.sha256_base64)
    digest = new_digest("sha256")
    buffer = memoryview(bytearray(min(RANGE, stored.size)))
    for start in range(0, stored.size, RANGE):
        view = buffer[: min(RANGE, stored.size - start)]
        store.read_range_into(bucket, stored.key, stored.etag, start, view)
        digest.update(view)
    return digest.hexdigest()
