"""Whether a bag on the share is what its manifests say."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from archiver.config.settings import MEBIBYTE
from archiver.local.demo.errors import DemoFailedError

_MANIFESTS = ("manifest-sha256.txt", "tagmanifest-sha256.txt")


def check_bag(bag: Path, progress: Callable[[int, int], None] = lambda count, files: None) -> int:
    """Check every file of a published bag against the manifests; how many there are.

    `progress` is told how many more bytes and files are checked.

    Raises:
        DemoFailedError: the bag is not there, or not what its manifests say.
    """
    if not (bag / "bagit.txt").is_file():
        raise DemoFailedError(f"There is no bag in {bag}, although the job ended well. See the log of its run.")
    checked = 0
    for manifest in _MANIFESTS:
        for line in (bag / manifest).read_text(encoding="utf-8").splitlines():
            expected, _, path = line.partition("  ")
            if _sha256(bag / path, progress) != expected:
                raise DemoFailedError(f"{bag / path} is not what {manifest} says: its SHA-256 differs.")
            checked += 1
    return checked


def _sha256(file: Path, progress: Callable[[int, int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while block := opened.read(MEBIBYTE):
                digest.update(block)
                progress(len(block), 0)
    except OSError as error:
        raise DemoFailedError(f"{file} is in the bag's manifest and cannot be read: {error.strerror}.") from error
    progress(0, 1)
    return digest.hexdigest()
