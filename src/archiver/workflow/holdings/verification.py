"""Whether a bag on the share is what was published: every checksum read anew, nothing missing, nothing added.

Nothing is ever altered here. What is wrong is collected, not raised: one bad file must not hide the next.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from archiver.workflow.datablocks.bag import BAG_INFO, BAGIT, MANIFEST, TAG_MANIFEST, read_bag_info, read_manifest
from archiver.workflow.errors import PermanentError, TransientError, UnsafeNameError
from archiver.workflow.holdings.damage import Damage, DamageKind
from archiver.workflow.holdings.member_check import MemberCheck
from archiver.workflow.holdings.reading import chunks, folder_of, is_sha256, opened, read_tag_file
from archiver.workflow.isolation import Progress
from archiver.workflow.names import RETIREMENT_FOLDER, check_file_path
from archiver.workflow.storage.lts import LongTermStorage, ShareAddress

_MUST_BE_PRESENT = (BAGIT, BAG_INFO)
"""Besides the manifests, which are read."""
_PAYLOAD = "data/"


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying a bag came to."""

    pid: str
    files: int
    """Files of the bag that were read."""
    size: int
    """Bytes that were read."""
    members: int | None
    """Files in the tars whose SHA-256 was checked; None where that was not asked for."""
    damages: tuple[Damage, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


def verify_bag(progress: Progress, address: ShareAddress, pid: str, *, members: bool) -> Verification:
    """Read a bag whole, past the page cache, and compare it with its manifests; with `members`, each file in its
    tars with the index too. Progress counts bytes.

    Raises:
        WrongShareError: another share, or none, is mounted by now.
    """
    check = _BagCheck(progress, address.open(), pid, members=members)
    check.run()
    if check.damages:
        address.open()  # a share that went away meanwhile is no damage of the bag
    return Verification(pid, check.files, check.size, check.members if members else None, tuple(check.damages))


class _BagCheck:
    """One pass over a bag."""

    def __init__(self, progress: Progress, share: LongTermStorage, pid: str, *, members: bool) -> None:
        self._progress = progress
        self._share = share
        self._folder = folder_of(pid)
        self._with_members = members
        self.damages: list[Damage] = []
        self.files = 0
        self.size = 0
        self.members = 0

    def run(self) -> None:
        """All of it."""
        present = dict(self._present(""))
        tags = self._manifest(TAG_MANIFEST)
        payload = self._manifest(MANIFEST)
        for path, sha256 in (tags or {}).items():
            self._check_file(path, sha256)
        for path, sha256 in (payload or {}).items():
            if path.startswith(_PAYLOAD):
                self._check_file(path, sha256)
            else:
                self._note(path, DamageKind.UNSAFE, f"{MANIFEST} lists it, and it does not lie below {_PAYLOAD}")
        self._check_completeness(present, tags, payload)

    def _note(self, path: str, kind: DamageKind, detail: str) -> None:
        self.damages.append(Damage(path, kind, detail))

    def _present(self, folder: str) -> Iterator[tuple[str, int]]:
        """Paths and bytes of all files in the bag."""
        try:
            names = self._share.names(f"{self._folder}/{folder}" if folder else self._folder)
        except (PermanentError, TransientError, UnsafeNameError) as error:
            self._note(folder, DamageKind.UNREADABLE, str(error))
            return
        for name, is_folder in names:
            self._progress(0)
            path = f"{folder}/{name}" if folder else name
            if path == RETIREMENT_FOLDER:  # which tells of the bag, and is no part of it
                continue
            if is_folder:
                yield from self._present(path)
            else:
                yield path, self._size(path)

    def _size(self, path: str) -> int:
        try:
            return self._share.size(f"{self._folder}/{path}") or 0
        except (PermanentError, TransientError, UnsafeNameError):
            return 0  # reported when it is read, or as not listed

    def _manifest(self, name: str) -> dict[str, str] | None:
        """Checksum by path; None where it cannot be read."""
        try:
            return read_manifest(read_tag_file(self._share, f"{self._folder}/{name}").decode())
        except FileNotFoundError:
            self._note(name, DamageKind.MISSING, "it is not there")
        except UnicodeDecodeError:
            self._note(name, DamageKind.ALTERED, "it is not UTF-8")
        except (PermanentError, TransientError) as error:
            self._note(name, DamageKind.UNREADABLE, str(error))
        return None

    # ------------------------------------------------------------------------------------------ what is there

    def _check_completeness(
        self, present: dict[str, int], tags: dict[str, str] | None, payload: dict[str, str] | None
    ) -> None:
        for path in _MUST_BE_PRESENT:
            if path not in present and path not in (tags or {}):
                self._note(path, DamageKind.MISSING, "it is not there")
        for path in present:
            manifest, listed = (MANIFEST, payload) if path.startswith(_PAYLOAD) else (TAG_MANIFEST, tags)
            if path != TAG_MANIFEST and listed is not None and path not in listed:
                self._note(path, DamageKind.UNLISTED, f"{manifest} does not list it")
        sizes = [size for path, size in present.items() if path.startswith(_PAYLOAD)]
        self._check_oxum(f"{sum(sizes)}.{len(sizes)}")

    def _check_oxum(self, found: str) -> None:
        try:
            content = read_tag_file(self._share, f"{self._folder}/{BAG_INFO}")
        except (FileNotFoundError, PermanentError, TransientError):
            return  # reported when its checksum was to be taken
        recorded = read_bag_info(content.decode("utf-8", "replace")).get("Payload-Oxum", "")
        if recorded != found:
            detail = f"its Payload-Oxum (bytes.files) is {recorded!r}; what lies below {_PAYLOAD} gives {found}"
            self._note(BAG_INFO, DamageKind.ALTERED, detail)

    # ------------------------------------------------------------------------------------------ what it contains

    def _check_file(self, path: str, sha256: str) -> None:
        try:
            size, found = self._read(check_file_path(path), sha256)
        except UnsafeNameError as error:
            self._note(path, DamageKind.UNSAFE, str(error))
        except FileNotFoundError:
            self._note(path, DamageKind.MISSING, "it is not there")
        except (PermanentError, TransientError) as error:
            self._note(path, DamageKind.UNREADABLE, str(error))
        else:
            self.files += 1
            self.size += size
            if found != sha256:
                was = f"was {sha256}" if is_sha256(sha256) else f"the manifest has {sha256[:80]!r}"
                self._note(path, DamageKind.ALTERED, f"SHA-256 is {found} ({size} bytes), {was}")

    def _read(self, path: str, sha256: str) -> tuple[int, str]:
        """Bytes and SHA-256 of a file; the members of a tar are checked on the way where that is asked for."""
        digest = hashlib.sha256()
        size = 0
        with ExitStack() as stack:
            reader = stack.enter_context(opened(self._share, f"{self._folder}/{path}"))
            members = None
            if self._with_members and path.startswith(_PAYLOAD):
                members = stack.enter_context(
                    MemberCheck(self._progress, self._share, self._folder, path, sha256, self.damages.append)
                )
            for data in chunks(reader):
                digest.update(data)
                if members is not None:
                    members.feed(size, data)
                size += len(data)
                self._progress(len(data))
            if members is not None:
                members.finish()
                self.members += members.checked
        return size, digest.hexdigest()
