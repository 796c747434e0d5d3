"""What lies on the long-term storage, looked at from beside the service."""

from datetime import UTC, datetime
from pathlib import Path

from archiver.workflow.names import bag_folder
from stack.operated import OperatedStack

VOLUME = "lts-mock-volume"

_CHECK = """
set -eu
cd "/there/{bag}"
sha256sum --check --quiet manifest-sha256.txt
test "$(find /there -path '*{end}/bagit.txt' | wc -l)" = 1
find . -name '*.tar' | sort
! find . -name '*.part*' -o -name '.*.tmp*' | grep -q .
"""


def datablocks_of_whole_bag(stack: OperatedStack, pid: str, volume: str = VOLUME) -> list[str]:
    """Names of the tars of a data set's bag, the only one it has, whose checksums are all as its manifest says.

    Raises:
        CommandFailedError: there is no bag, more than one, or it is not whole.
    """
    bag = str(bag_folder(pid))
    listed = stack.in_volume(volume, _CHECK.format(bag=bag, end=pid))
    return [Path(line).name for line in listed.split()]


def first_byte_at(stack: OperatedStack, pid: str) -> datetime:
    """When the first of a data set's tars was begun: they keep their inode when they get their final name."""
    script = f"stat --format %W /there/{bag_folder(pid)}/data/datablocks/*.tar | sort -n | head -1"
    return datetime.fromtimestamp(int(stack.in_volume(VOLUME, script)), UTC)


def bytes_so_far(root: Path, pid: str) -> int:
    """What lies in a data set's folder below the root of the share, bytes; 0 while there is none."""
    found = 0
    for file in (root / bag_folder(pid)).rglob("*"):
        try:
            found += file.stat().st_size
        except FileNotFoundError:  # it got its final name just now
            continue
    return found
