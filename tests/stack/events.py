"""What the engine tells of containers while something goes on."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stack.operated import RUN_LABEL

_FORMAT = "{{.Action}} {{.ID}}"


@dataclass
class RunContainers:
    """Containers in which flows ran."""

    started: int = 0
    most_at_once: int = 0
    _alive: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        """Take a line of `docker events`: an action and an id."""
        action, _, container = line.strip().partition(" ")
        if action == "start":
            self.started += 1
            self._alive.add(container)
            self.most_at_once = max(self.most_at_once, len(self._alive))
        elif action == "die":
            self._alive.discard(container)


@contextmanager
def run_containers() -> Iterator[RunContainers]:
    """Counts the containers of flows; complete when the block has ended."""
    command = ["docker", "events", "--format", _FORMAT, "--filter", f"label={RUN_LABEL}"]
    command += ["--filter", "event=start", "--filter", "event=die"]
    counted = RunContainers()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        try:
            yield counted
        finally:
            events.terminate()
            for line in events.stdout:
                counted.hear(line)
