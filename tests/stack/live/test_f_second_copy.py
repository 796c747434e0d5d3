"""A further share, as the documentation says to add one: each data set lies on both."""

from pathlib import Path

import pytest

from stack.archive import datablocks_of_whole_bag
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.payload import write_noise
from stack.visitor import Visitor

pytestmark = [pytest.mark.timeout(7200), pytest.mark.long]

_COPY = "lts-mock-copy"
_FOLDER = "/tmp/LTS-copy"  # inside containers


def test_each_data_set_is_copied_to_a_further_share(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, tmp_path: Path
) -> None:
    with_copies = stack.with_values({"PREFECT_WORKER_LTS_COPY_VOLUME_NAME": _COPY, "LTS_COPIES": _FOLDER})
    with_copies.compose("run", "--rm", "lts", "init", "--root", _FOLDER)
    with_copies.up()
    try:
        pid = visitor.ingest(write_noise(tmp_path / "twice", 3, 5000, 31))
        visitor.archived(pid)
        assert datablocks_of_whole_bag(stack, pid) == datablocks_of_whole_bag(stack, pid, _COPY) != []
        with_copies.compose("run", "--rm", "lts", "verify", "--all", "--root", _FOLDER)
        operators = ("exec", "-T", "reconciliation", "archiver")
        with_copies.compose(*operators, "lts", "heal", pid)
        with_copies.compose(*operators, "retire", pid, "--reason", "only tried", "--by", "the tests", "--dry-run")
    finally:
        prefect.forget_variable("lts_copies")
        stack.up()
