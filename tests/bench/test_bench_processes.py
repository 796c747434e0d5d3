"""What is seen of a process and those below it."""

import subprocess
import sys

from benchmarks.processes import Tree

_MEGABYTE = 1_000_000
_ROOT = """
import subprocess, sys
for _ in range(2):
    child = "import sys; held = bytearray(100_000_000); print(len(held), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        print(process.stdout.readline(), flush=True)
        sys.stdin.readline()
        process.communicate()
"""


def test_memory_of_children_that_never_lived_together_is_not_added_up() -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", _ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as root,
        Tree(root.pid) as tree,
    ):
        assert root.stdin is not None
        assert root.stdout is not None
        for _ in range(2):
            assert root.stdout.readline()
            tree.look()
            print(file=root.stdin)
    assert 100 * _MEGABYTE < tree.peak_bytes < 200 * _MEGABYTE
    assert 0 < tree.peak_of_run < 100 * _MEGABYTE
