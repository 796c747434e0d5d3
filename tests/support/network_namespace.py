"""A host of its own as far as the network can tell: a network namespace with one cable to this one."""

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_NETWORK = "10.213.7"
"""Addresses of the cable's ends; of a range that is nobody's outside."""


@dataclass(frozen=True)
class OtherHost:
    """It reaches this one at `here` and nothing else."""

    name: str
    here: str
    """Address of this host on the cable."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The same command, run over there."""
        return ["ip", "netns", "exec", self.name, *arguments]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=30)


@contextmanager
def other_host() -> Iterator[OtherHost]:
    """Another host for the time of the block; needs root."""
    mark = uuid.uuid4().hex[:8]
    name, ours, theirs = f"archiver-{mark}", f"arc-a-{mark}", f"arc-b-{mark}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("address", "add", f"{_NETWORK}.1/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", f"{_NETWORK}.2/30", "dev", theirs)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", theirs, "up")
        yield OtherHost(name, f"{_NETWORK}.1")
    finally:
        _ip("netns", "delete", name)  # its end of the cable goes with it, and so does ours
