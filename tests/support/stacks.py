"""The whole embedded stack for tests."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archiver.local.stack import Stack, leftovers_of, running_stack


@contextmanager
def whole_stack() -> Iterator[Stack]:
    """A stack on free ports whose parts are started again when they die; nothing of it may be left afterwards."""
    # Not a folder of pytest: PostgreSQL may run as another user, who could not pass through.
    folder = Path(tempfile.mkdtemp(prefix="archiver-stack-"))
    try:
        with running_stack(folder, restart=True) as running:
            yield running
        assert leftovers_of(folder) == []
    finally:
        shutil.rmtree(folder)
