"""A second copy of each bag, on a share of its own: made, published and healed from a copy that is proven.

A copy is a bag like every other, readable without the first. Its bytes come from the first share, where they were
just read back, each file's SHA-256 taken on the way and compared with the manifest before the file is put in place;
then the copy is read back, too. Functions to be run in a child process (`archiver.workflow.isolation`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from archiver.workflow.bags import turn_path, unfinished_files
from archiver.workflow.datablocks.bag import BAGIT, BAGIT_TEXT, MANIFEST, TAG_MANIFEST, read_manifest
from archiver.workflow.datablocks.digests import new_digest
from archiver.workflow.errors import DamagedError, NoSpaceError, PermanentError, VerificationError
from archiver.workflow.holdings.reading import chunks, opened, read_tag_file
from archiver.workflow.isolation import Progress
from archiver.workflow.names import PAYLOAD_FOLDER, TAG_FOLDER, bag_folder, check_file_path
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.transfer import check_turn

_TAGS_MAY_TAKE = 64 * 1024**2
"""Bytes left for tag files besides the payload."""


class CopyMissingError(PermanentError):
    """A share that must hold a copy could not be written to in time; the data set is not published."""

    code = "copy-missing"


class CopyConflictError(PermanentError):
    """A share that is to hold a copy has another, published bag in its place."""

    code = "copy-conflict"


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """Make a bag on one share what it is on another."""

    source: ShareAddress
    target: ShareAddress
    pid: str
    attempt: str
    free_percent: float
    """Share of the target that must stay free, percent."""
    heal: bool = False
    """The source is published, and wrong files of a published target are set aside and replaced. Else the source is
    about to be published by the attempt whose turn it is."""


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What was written."""

    files: int = 0
    size: int = 0
    """Bytes."""
    set_aside: tuple[str, ...] = ()
    """Where wrong files of the target lie now."""


def make_copy(progress: Progress, order: CopyOrder) -> CopyOutcome:
    """Copy a bag, all but what the target has already, which is read; `bagit.txt` comes last.

    The copy is sealed by `seal_copy`, once the source is published.

    Raises:
        DamagedError: a file of the source is not what its manifest says; it was not copied.
        VerificationError: the target does not read back as it was written.
        NoSpaceError: it would not fit.
        ClaimLostError: it is another attempt's turn.
        ArchiverError: of the shares.
    """
    return _Copying(progress, order).run()


def seal_copy(progress: Progress, address: ShareAddress, pid: str) -> bool:
    """Make a copy's files read-only; False where there is no copy."""
    share, bag = address.open(), bag_folder(pid)
    if share.size(f"{bag}/{BAGIT}") is None:
        return False
    for folder in (bag, f"{bag}/{TAG_FOLDER}", f"{bag}/{PAYLOAD_FOLDER}"):
        for name, is_folder in share.names(folder):
            progress(0)
            if not is_folder:
                share.seal(f"{folder}/{name}")
    return True


class _Copying:
    def __init__(self, progress: Progress, order: CopyOrder) -> None:
        self._progress = progress
        self._order = order
        self._source = order.source.open()
        self._target = order.target.open()
        self._bag = bag_folder(order.pid)
        self._files = 0
        self._size = 0
        self._set_aside: list[str] = []

    def run(self) -> CopyOutcome:
        files = list(self._wanted())
        if not self._order.heal:
            self._make_room_for(dict(files))
        self._check_space([path for path, _ in files])
        for path, sha256 in files:
            self._bring(path, sha256)
        return CopyOutcome(self._files, self._size, tuple(self._set_aside))

    def _wanted(self) -> Iterator[tuple[str, str]]:
        """Files of the bag and their SHA-256: the payload, the tags, then what makes it a bag."""
        for name in (MANIFEST, TAG_MANIFEST):
            content = read_tag_file(self._source, f"{self._bag}/{name}")
            listed = read_manifest(content.decode())
            yield from ((path, sha256) for path, sha256 in listed.items() if path != BAGIT)
        for name, content in (
            (TAG_MANIFEST, read_tag_file(self._source, f"{self._bag}/{TAG_MANIFEST}")),
            (BAGIT, BAGIT_TEXT.encode()),
        ):
            yield name, _sha256(content)

    def _make_room_for(self, wanted: dict[str, str]) -> None:
        """Before the source is published, a copy is nobody's: what an attempt with another plan left goes."""
        target, bag = self._target, self._bag
        present = target.read_small(f"{bag}/{TAG_MANIFEST}")
        if present is not None and _sha256(present) != wanted[TAG_MANIFEST]:
            self._remove(f"{bag}/{BAGIT}")
        for path in unfinished_files(self._progress, self._order.target, self._order.pid):
            self._remove(path)
        for folder in ("", f"{TAG_FOLDER}/", f"{PAYLOAD_FOLDER}/"):
            for name, is_folder in target.names(f"{bag}/{folder}".rstrip("/")):
                if not is_folder and f"{folder}{name}" not in wanted:
                    self._remove(f"{bag}/{folder}{name}")

    def _remove(self, path: str) -> None:
        if not self._target.remove_unsealed(path):
            raise CopyConflictError(
                f"{path} on the share at {self._order.target.root} is part of a published bag, and the first share "
                "has none. Nothing was changed. Find out which is right: 'archiver lts show' with each as --root."
            )

    def _check_space(self, paths: list[str]) -> None:
        needed = _TAGS_MAY_TAKE
        for path in paths:
            self._progress(0)
            if path.startswith(PAYLOAD_FOLDER):
                size = self._source.size(f"{self._bag}/{path}") or 0
                needed += 0 if self._target.size(f"{self._bag}/{path}") == size else size
        free, total = self._target.free_bytes()
        if free - needed < total * self._order.free_percent / 100:
            raise NoSpaceError(
                f"The share at {self._order.target.root} has {free} bytes free; {needed} are to be written and "
                f"{self._order.free_percent:g} % of it must stay free. Make space there."
            )

    def _bring(self, path: str, sha256: str) -> None:
        full = f"{self._bag}/{check_file_path(path)}"
        if self._sha256_on_target(full) == sha256:
            return
        if self._order.heal and self._target.size(full) is not None:
            self._set_aside.append(self._target.set_aside(full, self._order.attempt))
        fast = self._copy(full, path, sha256)
        self._read_back(full, fast)

    def _sha256_on_target(self, path: str) -> str | None:
        digest = new_digest("sha256")
        try:
            with opened(self._target, path) as reader:
                for data in chunks(reader):
                    digest.update(data)
                    self._progress(0)
        except FileNotFoundError:
            return None
        except PermanentError:
            if not self._order.heal:
                raise
            return None  # unreadable: to be set aside
        return digest.hexdigest()

    def _copy(self, full: str, path: str, sha256: str) -> str:
        """Write a file to the target; its fast digest, for the read-back."""
        order = self._order
        digest, fast = new_digest("sha256"), new_digest("xxh3_128")
        with self._target.create(full, order.attempt) as writer:
            if path == BAGIT:  # which the source may not have yet
                content = BAGIT_TEXT.encode()
                writer.write(content)
                digest.update(content)
                fast.update(content)
                self._size += len(content)
            else:
                with opened(self._source, full) as reader:
                    for data in chunks(reader):
                        writer.write(data)
                        digest.update(data)
                        fast.update(data)
                        self._size += len(data)
                        self._progress(len(data))
            if digest.hexdigest() != sha256:
                raise DamagedError(
                    f"{full} on the share at {order.source.root} is not what was archived (SHA-256 "
                    f"{digest.hexdigest()}, was {sha256}); it was not copied."
                )
            if not order.heal:
                check_turn(order.source, turn_path(order.pid), order.attempt)
            writer.commit()
        self._files += 1
        return fast.hexdigest()

    def _read_back(self, full: str, fast: str) -> None:
        digest = new_digest("xxh3_128")
        with opened(self._target, full) as reader:
            for data in chunks(reader):
                digest.update(data)
                self._progress(0)
        if digest.hexdigest() != fast:
            raise VerificationError(
                f"{full} does not read back from the share at {self._order.target.root} as it was written. "
                "Look at that share's health."
            )


def _sha256(content: bytes) -> str:
    digest = new_digest("sha256")
    digest.update(content)
    return digest.hexdigest()
