"""Ports of the parts of an embedded stack, all on the loopback interface."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from archiver.workflow.errors import PermanentError

HOST = "127.0.0.1"

# Below the range from which systems take ports for outgoing connections: such a port could be gone before its
# part has opened it.
_FIRST, _LAST = 15_000, 32_000
_TRIES = 1000
_held: dict[Path, int] = {}
"""The descriptor of this process on the file of `_hold`, which must stay open: closing any lets all locks go."""


class PortInUseError(PermanentError):
    """Something else listens on a port of the stack."""

    code = "port-in-use"


def is_free(port: int) -> bool:
    """Tell whether a part could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _hold(port: int) -> bool:
    """Keep a port from processes that choose theirs at the same time, until this process ends; False where one has it.

    A part listens only some time after its port was chosen. Each port is a byte of one file that belongs to the user.
    """
    file = Path(tempfile.gettempdir()) / f"archiver-ports-{os.getuid()}"
    if file not in _held:
        _held[file] = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(_held[file], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True


def choose_free(names: Iterable[str], earlier: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name: the one it had `earlier` where that is still free.

    Raises:
        PortInUseError: none is left.
    """
    chosen: dict[str, int] = {}
    numbers = random.Random()  # noqa: S311  # only to keep several stacks from trying the same ones
    for name in names:
        candidates = [earlier[name]] if name in earlier else []
        candidates += [numbers.randrange(_FIRST, _LAST) for _ in range(_TRIES)]
        for port in candidates:
            if port not in chosen.values() and is_free(port) and _hold(port):
                chosen[name] = port
                break
        else:
            raise PortInUseError(f"No free port for {name} between {_FIRST} and {_LAST}. End what uses them.")
    return chosen


def check_free(ports: Mapping[str, int], settings: Mapping[str, str]) -> None:
    """Refuse ports that are in use; `settings` names the setting of each.

    Raises:
        PortInUseError: at least one is, or two parts have the same.
    """
    if len(set(ports.values())) < len(ports):
        raise PortInUseError(f"Two parts have the same port: {dict(ports)}. Give each its own.")
    taken = [f"{port} ({name}; {settings[name]})" for name, port in ports.items() if not is_free(port)]
    if taken:
        raise PortInUseError(
            f"In use on {HOST}: port {', '.join(taken)}. End what listens there, set another port by the "
            "named setting, or set ARCHIVER_LOCAL_PORTS=free."
        )
