"""Files that follow from a seed: what a smoke test gives, and what must come back. Nothing of them is kept. Pure."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import NamedTuple

from archiver.config.settings import MEBIBYTE
from archiver.workflow.names import parent_folders

CHUNK = MEBIBYTE
"""Content comes in pieces of this length, bytes; the last one of a file may be shorter."""
FOLDER_MODE = 0o750
_FIRST_TIME = int(datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp())
_MODES = (0o644, 0o600, 0o755, 0o440)
_PLACES = (
    "frame_{:06}.raw",
    "images/frame_{:06}.raw",
    "with blanks/frame {:06}.raw",
    "Größe/μ_{:06}.raw",
    # Longer than the classic tar header has room for.
    "/".join(f"{name}-{'x' * 50}" for name in ("one", "two", "three")) + "/frame_{:06}.raw",
)


class SmokeFile(NamedTuple):
    """A file as it is given."""

    path: str
    size: int
    mtime: int
    """Whole seconds since 1970."""
    mode: int
    """Permission bits."""


@dataclass(frozen=True)
class SmokeFiles:
    """`count` files of `size` bytes each, in several folders, with times and modes of their own."""

    seed: str
    count: int
    size: int

    @property
    def total_bytes(self) -> int:
        """Of all files together."""
        return self.count * self.size

    def files(self) -> Iterator[SmokeFile]:
        """The files, always the same ones."""
        for number in range(self.count):
            path = _PLACES[number % len(_PLACES)].format(number)
            mtime = _FIRST_TIME + number * 86_413 % 600_000_000
            yield SmokeFile(path, self.size, mtime, _MODES[number % len(_MODES)])

    def folders(self) -> list[SmokeFile]:
        """The folders above the files, outermost first, with size 0."""
        paths = {folder for file in self.files() for folder in parent_folders(file.path)}
        return [SmokeFile(path, 0, _FIRST_TIME, FOLDER_MODE) for path in sorted(paths)]

    def content(self, file: SmokeFile) -> Iterator[bytes]:
        """A file's bytes, in chunks. No two chunks of the same seed are alike."""
        for start in range(0, file.size, CHUNK):
            mark = hashlib.sha256(f"{self.seed}/{file.path}/{start}".encode()).digest()
            turn = int.from_bytes(mark[:4], "big") % CHUNK
            yield b"".join((mark, self._noise[turn:], self._noise[:turn]))[: min(CHUNK, file.size - start)]

    @cached_property
    def _noise(self) -> bytes:
        """Bytes that cannot be compressed, made once: making all of the content so would be the slowest stage."""
        return random.Random(self.seed).randbytes(CHUNK)  # noqa: S311  # nothing is to be kept secret
