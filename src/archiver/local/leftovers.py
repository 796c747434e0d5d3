"""Finds and ends every process of an embedded stack, also those whose parent is gone.

Each part is started with the environment variable `ARCHIVER_LOCAL_STACK`, which all its children inherit: a
process belongs to the stack whose mark stands there, whoever its parent is by now. The mark is the stack's
folder, an id of its launch (so that the keeper of a launcher that was killed leaves the next launch alone) and
the name of the part.

Run as a program (with nothing but the standard library, so that it is small) this is the stack's *keeper*: it
waits until its standard input is closed, which happens even when the launcher is killed, and then ends whatever
is left. A launcher that ends in order says so first, and the keeper has nothing to do.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

TAG = "ARCHIVER_LOCAL_STACK"
IN_ORDER = b"in order\n"
GRACE_S = 10.0
"""How long processes have between SIGTERM and SIGKILL, seconds."""
_POLL_S = 0.05


def _ancestors() -> set[int]:
    found = set()
    pid = os.getpid()
    while pid > 1:
        found.add(pid)
        try:
            # pid (name) state parent ...; the name may hold spaces and brackets
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def mark_of(folder: Path, launch: str = "", part: str = "") -> str:
    """What the processes of a part carry; without `part`, or `launch`, what those of several parts begin with."""
    return "#".join([str(folder), *([launch] if launch else []), *([part] if part else []), ""])


def find_leftovers(mark: str) -> list[int]:
    """Process ids of the stack whose mark begins with `mark`, without this process and those above it."""
    wanted = f"{TAG}={mark}".encode()
    own = _ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # gone, or somebody else's
            continue
        marked = any(line.startswith(wanted) for line in environment.split(b"\0"))
        if marked and not _is_zombie(int(entry.name)):
            found.append(int(entry.name))
    return found


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_leftovers(mark: str, grace_s: float = GRACE_S) -> list[int]:
    """End every process whose mark begins with `mark`: asked first, killed after `grace_s`. Their process ids."""
    found = find_leftovers(mark)
    _signal_all(found, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while left := find_leftovers(mark):
        if time.monotonic() > deadline:
            _signal_all(left, signal.SIGKILL)
        time.sleep(_POLL_S)
    return found


def main() -> None:
    """Keep the launch whose mark is the first argument."""
    # Ctrl-C in a terminal goes to the whole group: the launcher decides, this only follows it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.stdin.buffer.read() != IN_ORDER:
        end_leftovers(sys.argv[1])


if __name__ == "__main__":
    main()
