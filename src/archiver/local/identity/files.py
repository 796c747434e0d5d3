"""Files and folders that only their owner may read."""

import os
from pathlib import Path

PRIVATE_FILE_MODE = 0o600
_PRIVATE_FOLDER_MODE = 0o700


def private_folder(path: Path) -> Path:
    """Make the folder, with its parents, if it is missing (a new one is 0700), and give it back."""
    path.mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    return path


def private_file(path: Path) -> Path:
    """Make an empty file of mode 0600, or set that mode on the one that is there; give the path back."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE_MODE))
    path.chmod(PRIVATE_FILE_MODE)
    return path


def replace_private_file(path: Path, content: str) -> None:
    """Write the file whole or not at all, with mode 0600 from its first byte on."""
    new = path.with_name(path.name + ".new")
    private_file(new).write_text(content, encoding="utf-8")
    new.replace(path)
