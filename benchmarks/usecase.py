"""One use case in a process of its own, without Prefect: `python -m benchmarks.usecase archive|retrieve PID`.

Settings come from the environment. It prints one line of JSON and then waits for the end of its standard input,
so that whoever measures can read the kernel's counters of it once more.
"""

import json
import logging
import resource
import sys
import time

import structlog

from archiver.config.settings import FlowConfiguration
from archiver.workflow.archiving import Archiving
from archiver.workflow.monitor import Monitor
from archiver.workflow.retrieval import Retrieval
from archiver.workflow.tools import open_tools


class _Stopwatch(Monitor):
    """Keeps when each step ended, seconds after the beginning."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self._began = time.monotonic()
        self.notes: list[tuple[float, str]] = []

    def note(self, message: str) -> None:
        self.notes.append((round(time.monotonic() - self._began, 2), message))


def main(use_case: str, pid: str) -> None:
    """Run it and say how long it took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with open_tools(FlowConfiguration.load({})) as tools:
        watch = _Stopwatch(pid)
        began = time.monotonic()
        if use_case == "archive":
            outcome = Archiving(tools, watch).archive(pid, "benchmark")
            tars = {totals.archive_id: totals.packed_size for totals in outcome.datablocks}
        else:
            brought = Retrieval(tools, watch).retrieve(pid, "benchmark")
            tars = {datablock.archive_id: datablock.packed_size for datablock in brought.tars}
        seconds = time.monotonic() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = [round(each.ru_utime + each.ru_stime, 2) for each in used]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "tars": tars, "notes": watch.notes}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
