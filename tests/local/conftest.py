"""The whole embedded stack, started once for all tests that ask for it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.local.stack import Stack, leftovers_of, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack on free ports whose parts are started again when they die. Tests share it and its data."""
    # Not a folder of pytest: PostgreSQL may run as another user, who could not pass through.
    folder = Path(tempfile.mkdtemp(prefix="archiver-stack-"))
    try:
        with running_stack(folder, restart=True) as running:
            yield running
        assert leftovers_of(folder) == []
    finally:
        shutil.rmtree(folder)
