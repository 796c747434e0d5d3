"""Memory and writes of a process and all below it, as the kernel counts them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_EVERY_S = 0.1


@dataclass
class Tree:
    """What was seen of a process and its descendants while it was watched."""

    root: int
    peak_bytes: int = 0
    """Largest sum, of those alive together, of the peak of each since it began: never less than what they took."""
    peak_of_run: int = 0
    """Peak of the root alone, bytes."""
    _written: dict[int, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Reads the counters once."""
        together = 0
        for pid in (self.root, *_descendants(self.root)):
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
                counters = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
            except OSError:
                continue  # ended meanwhile
            peak = _field(status, "VmHWM:")
            if peak is not None:
                together += peak * 1024
                if pid == self.root:
                    self.peak_of_run = peak * 1024
            written = _field(counters, "write_bytes:")
            if written is not None:
                self._written[pid] = max(self._written.get(pid, 0), written)
        self.peak_bytes = max(self.peak_bytes, together)

    @property
    def written_bytes(self) -> int:
        """Bytes handed to file systems: the root's count holds those of children it has waited for."""
        own = self._written.get(self.root, 0)
        return max(own, sum(written for pid, written in self._written.items() if pid != self.root))

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.look()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _field(text: str, name: str) -> int | None:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return None


def _descendants(root: int) -> list[int]:
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            children = [
                int(child)
                for task in os.scandir(f"/proc/{pid}/task")
                for child in Path(task.path, "children").read_text(encoding="ascii").split()
            ]
        except OSError:
            continue
        found += children
        waiting += children
    return found


@contextmanager
def timed() -> Iterator[list[float]]:
    """Puts the seconds that the block took into the list it gives."""
    taken: list[float] = []
    began = time.monotonic()
    yield taken
    taken.append(time.monotonic() - began)
