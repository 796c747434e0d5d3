"""Files that are ingested: noise, the same each time."""

import random
from pathlib import Path

from archiver.config.settings import MEBIBYTE

LARGE_FILES = 4
LARGE_FILE_BYTES = 32 * MEBIBYTE
"""With datablocks of 50 MB, a datablock each."""


def write_noise(folder: Path, count: int, size: int, seed: int) -> Path:
    """`count` files of `size` bytes in a new folder; the folder."""
    folder.mkdir(parents=True)
    noise = random.Random(seed)
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(noise.randbytes(size))
    return folder
