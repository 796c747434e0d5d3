"""The files that make datablocks on the share a BagIt bag (RFC 8493). Pure.

`sha256sum -c manifest-sha256.txt` and `tar` suffice to check and read it; the rest is for people and for repair.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BAGIT = "bagit.txt"
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
BAG_INFO = "bag-info.txt"
BAGIT_TEXT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A file below `data/`."""

    path: str
    """Relative to the bag."""
    size: int
    sha256: str


def _escaped(path: str) -> str:
    return path.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def manifest(checksums: Iterable[tuple[str, str]]) -> str:
    """A manifest from (SHA-256, path) pairs, sorted by path."""
    lines = sorted(checksums, key=lambda pair: pair[1])
    return "".join(f"{sha256}  {_escaped(path)}\n" for sha256, path in lines)


def read_manifest(text: str) -> dict[str, str]:
    """SHA-256 by path."""
    found = {}
    for line in text.split("\n"):
        if not line:
            continue
        sha256, _, path = line.partition("  ")
        found[path.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")] = sha256
    return found


def bag_info(fields: Iterable[tuple[str, str]], payload: Iterable[PayloadFile]) -> str:
    """`bag-info.txt` with the payload's octet count; values are kept on one line."""
    files = list(payload)
    oxum = f"{sum(file.size for file in files)}.{len(files)}"
    pairs = [*fields, ("Payload-Oxum", oxum)]
    lines = "".join(f"{label}: {' '.join(value.split())}\n" for label, value in pairs)
    return lines.encode("utf-8", "replace").decode()  # half of a surrogate pair, from a name in the catalogue


def read_bag_info(text: str) -> dict[str, str]:
    """Fields of a `bag-info.txt` written by `bag_info`."""
    return dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)


def tag_manifest(checksums: Mapping[str, str]) -> str:
    """From the SHA-256 of each tag file by its path; `bagit.txt` never varies, and is listed before it is there."""
    listed = {**checksums, BAGIT: hashlib.sha256(BAGIT_TEXT.encode()).hexdigest()}
    return manifest((sha256, path) for path, sha256 in listed.items())
