"""Where, when and of what figures are taken."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from archiver.local.settings import project_folder
from benchmarks.report import Circumstances

_GIBIBYTE = 1024**3


def circumstances(factor: float, runs: int, versions: Mapping[str, str]) -> Circumstances:
    """As it is now."""
    return Circumstances(
        machine=_machine(),
        commit=_commit(),
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        factor=factor,
        runs=runs,
        load_before=os.getloadavg()[0],
        versions={"Python": platform.python_version(), **versions},
    )


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIBIBYTE
    return f"{len(os.sched_getaffinity(0))} cores of {_processor()}, {memory:.0f} GiB, {platform.platform(terse=True)}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Of the checkout, marked where it holds changes; empty outside of one."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=project_folder(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip()
