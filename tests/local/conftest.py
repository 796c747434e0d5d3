"""The whole embedded stack, started once for all tests that ask for it."""

from collections.abc import Iterator

import pytest

from archiver.local.stack import Stack
from support.stacks import whole_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Tests share it and its data."""
    with whole_stack() as running:
        yield running
