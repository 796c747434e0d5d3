"""A share of the test's own, and one child process for all tests that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.workflow.isolation import ChildProcess
from archiver.workflow.storage.lts import ShareAddress
from support.bags import new_share


@pytest.fixture
def share(tmp_path: Path) -> ShareAddress:
    return new_share(tmp_path / "lts")


@pytest.fixture(scope="session")
def child() -> Iterator[ChildProcess]:
    with ChildProcess(60) as started:
        yield started
