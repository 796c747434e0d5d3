"""A use case run in a process of its own and watched."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import Tree
from benchmarks.sites import Site


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What a run of a use case took."""

    seconds: float
    cpu: tuple[float, float]
    """Processor seconds of the run and of its child."""
    tars: Mapping[str, int]
    """Bytes of each datablock by its archiveId."""
    peak_bytes: int
    """Resident memory of the run and its child together, at most."""
    peak_of_run: int
    """Of the run alone."""
    written_bytes: int
    notes: Any
    """When each step began."""


def run_use_case(site: Site, use_case: str, pid: str) -> MeasuredRun:
    """`archive` or `retrieve` the data set.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on standard error.
    """
    environment = {**os.environ, **site.environment}
    command = [sys.executable, "-m", "benchmarks.usecase", use_case, pid]
    with (
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        Tree(process.pid) as tree,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        tree.look()
        process.communicate(timeout=60)
    if not line:
        raise subprocess.CalledProcessError(process.returncode, command)
    said = json.loads(line)
    return MeasuredRun(
        said["seconds"],
        tuple(said["cpu"]),
        said["tars"],
        tree.peak_bytes,
        tree.peak_of_run,
        tree.written_bytes,
        said["notes"],
    )
