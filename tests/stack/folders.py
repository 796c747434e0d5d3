"""Where the stack's tests keep what they make: below the user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`XDG_CACHE_HOME` (or `~/.cache`)`/archiver-stack`; it may be removed at any time between two test runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archiver-stack"
