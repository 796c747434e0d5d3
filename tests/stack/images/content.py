"""Names of images by what they are made from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = "archiver-offline"
_DIGITS = 12


def tag_of(name: str, inputs: Iterable[bytes]) -> str:
    """The image's full name: it changes when one of `inputs` does, or their order."""
    digest = hashlib.sha256()
    for each in inputs:
        digest.update(hashlib.sha256(each).digest())
    return f"{REPOSITORY}/{name}:{digest.hexdigest()[:_DIGITS]}"


def folder_content(folder: Path) -> list[bytes]:
    """Names and content of the files below `folder`, in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [part for path in files for part in (path.relative_to(folder).as_posix().encode(), path.read_bytes())]
