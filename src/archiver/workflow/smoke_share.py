"""Shares of smoke tests: each a folder of the long-term storage that is a share by itself.

What a test writes and removes lies in its own share; the archive's bags are in no path that leads from there.
Functions to be run in a child process (`archiver.workflow.isolation`).
"""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archiver.workflow.errors import PermanentError, WrongShareError
from archiver.workflow.isolation import Progress
from archiver.workflow.storage.lts import IDENTITY_FILE, PosixShare, ShareAddress, look_at

SMOKE_FOLDER = "archiver-smoke-test"
"""Folder of the long-term storage's root that holds the shares of smoke tests."""


def _root(address: ShareAddress, test: uuid.UUID) -> Path:
    return address.root / SMOKE_FOLDER / str(test)


def make_smoke_share(progress: Progress, address: ShareAddress, test: uuid.UUID) -> ShareAddress:
    """A new share for the smoke test `test` on the share at `address`.

    Raises:
        WrongShareError: another share than the archive's, or none, is mounted.
        ArchiverError: of the share.
    """
    share = address.open()
    path = f"{SMOKE_FOLDER}/{test}/{IDENTITY_FILE}"
    with share.create(path, uuid.uuid4().hex) as writer:
        writer.write(f"{uuid.uuid4()}\n".encode())
        writer.commit()
    share.seal(path)
    progress(0)
    root = _root(address, test)
    return ShareAddress(root, PosixShare(root).identity())


def remove_smoke_share(progress: Progress, address: ShareAddress, test: uuid.UUID) -> None:
    """Remove the share of a smoke test with all it holds, sealed files too; nothing where there is none.

    Raises:
        WrongShareError: another share than the archive's is mounted, or the folder is the archive's own root.
        PermanentError: something cannot be removed.
    """
    address.open()
    root = _root(address, test)
    with _to_be_done_by_hand(root):
        is_share = look_at(root / IDENTITY_FILE) is not None
    if is_share and PosixShare(root).identity() == address.identity:
        raise WrongShareError(f"{root} is the archive itself. Nothing was removed; find out how it is mounted there.")
    with _to_be_done_by_hand(root):
        # The identity last: what is left of a removal that was broken off is still known for what it is.
        # And nothing is passed over: one that cannot be listed is not empty.
        for folder, folders, files in os.walk(root, topdown=False, onerror=_refuse):
            for name in files:
                if Path(folder, name) != root / IDENTITY_FILE:
                    Path(folder, name).unlink()
                    progress(0)
            for name in folders:
                place = Path(folder, name)
                place.unlink() if place.is_symlink() else place.rmdir()
        if look_at(root) is not None:
            (root / IDENTITY_FILE).unlink(missing_ok=True)
            root.rmdir()


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def _to_be_done_by_hand(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"{error.filename} of a smoke test could not be removed: {error.strerror}. Remove {root} by hand."
        ) from error


def old_smoke_shares(progress: Progress, address: ShareAddress, older_than_s: float) -> list[uuid.UUID]:
    """Smoke tests that were begun longer ago than that and left their share behind."""
    share = address.open()
    latest = time.time() - older_than_s
    found = []
    for name, is_folder in share.names(SMOKE_FOLDER):
        progress(0)
        try:
            test = uuid.UUID(name)
            if is_folder and _root(address, test).stat().st_mtime < latest:
                found.append(test)
        except (ValueError, FileNotFoundError):
            continue  # not ours, or just being removed
    return found
