"""What a demo archives: a folder of the user's, or the standard library of this Python and a large file."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

from archiver.local.demo.errors import BadFolderError
from archiver.local.ingestor.listing import Listing, list_folder

_NOT_OF_THE_LIBRARY = {"__pycache__", "site-packages", "dist-packages"}
_LARGE_FILE = "weed"
"""The S3 server's program, which the embedded stack brings with it: over 100 MB."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The data of a demo."""

    name: str
    folder: Path
    listing: Listing


def own_folder(folder: Path) -> Selection:
    """A folder of the user's, all of it.

    Raises:
        BadFolderError: there is none, or it may not be read.
    """
    folder = folder.expanduser().resolve()
    try:
        listing = list_folder(folder)
    except OSError as error:
        raise BadFolderError(
            f"{folder} cannot be read ({error.strerror}). Name a folder with files of yours."
        ) from error
    return Selection(folder.name, folder, listing)


def standard_library() -> Selection:
    """Thousands of small files and a large one, which every environment of this service holds."""
    folder = Path(sysconfig.get_path("stdlib")).resolve()
    listing = list_folder(folder, lambda path, is_folder: path.rpartition("/")[2] not in _NOT_OF_THE_LIBRARY)
    large = Path(sysconfig.get_path("scripts")) / _LARGE_FILE
    if large.is_file():
        listing = listing.with_file(_LARGE_FILE, large)
    return Selection("Python's standard library and a large file", folder, listing)
