"""Files that only their owner may read, replaced as a whole."""

import os
import tempfile
from pathlib import Path


def write_private(file: Path, text: str) -> None:
    """Put `text` in place of `file` (mode 0600) in one step: readers see the old content or the new."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as draft:
            draft.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
