"""The script with which a user downloads and unpacks what was retrieved. Pure."""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_HEAD = r"""#!/usr/bin/env bash
# Downloads the retrieved data sets, checks their SHA-256 and unpacks them.
# Stops at the first error; run it again to go on where it stopped.
#   usage: bash download.sh [FOLDER]        (default: the current folder)
set -euo pipefail

target=${1:-.}
mkdir -p -- "$target"
cd -- "$target"

fail() { printf 'ERROR: %s\n' "$*" >&2; exit 1; }
for tool in curl tar; do
    command -v "$tool" >/dev/null || fail "$tool is needed and was not found; install it and run this script again."
done
if command -v sha256sum >/dev/null; then
    checksum() { sha256sum < "$1" | cut -d ' ' -f 1; }
elif command -v shasum >/dev/null; then
    checksum() { shasum -a 256 < "$1" | cut -d ' ' -f 1; }
else
    fail "sha256sum (or shasum) is needed and was not found; install it and run this script again."
fi

# fetch FOLDER NAME BYTES SHA256 URL
fetch() {
    local folder=$1 name=$2 bytes=$3 sha256=$4 url=$5
    local file="$folder.download/$name" mark="$folder.download/$name.unpacked"
    if [ -e "$mark" ]; then
        printf '%s: done before\n' "$name"
        return
    fi
    mkdir -p -- "$folder.download" "$folder"
    if [ ! -e "$file" ] || [ "$(wc -c < "$file")" -ne "$bytes" ]; then
        printf '%s: downloading %s bytes\n' "$name" "$bytes"
        curl --fail --location --show-error --silent --retry 5 --retry-delay 2 --continue-at - \
            --output "$file" -- "$url" ||
            fail "$name could not be downloaded. If the link has expired, request the data set again."
    fi
    printf '%s: checking\n' "$name"
    if [ "$(checksum "$file")" != "$sha256" ]; then
        rm -f -- "$file"
        fail "$name is not what was archived (its SHA-256 differs) and was removed; run this script again."
    fi
    printf '%s: unpacking into %s\n' "$name" "$folder"
    # Folders that were read-only at the instrument may get more files from the next tar.
    find "$folder" -type d ! -perm -u+w -exec chmod u+w {} +
    # Read from standard input: some tars take a name with a colon for another computer's.
    tar --extract --file - --directory "$folder" --no-same-owner --same-permissions < "$file" ||
        fail "$name could not be unpacked; is there enough space in $target?"
    : > "$mark"
    rm -f -- "$file"
}

"""


@dataclass(frozen=True, slots=True)
class Download:
    """A datablock to be fetched by its link."""

    pid: str
    name: str
    """File name of the tar."""
    packed_size: int
    sha256: str
    url: str


def folder_of(pid: str) -> str:
    """Folder a data set is unpacked into, unless another one of the same script has taken it."""
    return pid.replace("/", "-")


def _folders(pids: Iterable[str]) -> Mapping[str, str]:
    """A folder for each pid, shared with no other: neither itself nor the one its downloads are kept in."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for pid in dict.fromkeys(pids):
        folder, number = folder_of(pid), 1
        while taken & {folder, f"{folder}.download"}:
            number += 1
            folder = f"{folder_of(pid)}_{number}"
        folders[pid] = folder
        taken |= {folder, f"{folder}.download"}
    return folders


def download_script(downloads: Iterable[Download], expires_at: datetime) -> str:
    """A bash script that fetches, checks and unpacks each data set into a folder of its own.

    Files are kept as `FOLDER.download/` until they are unpacked, so that an interrupted download is continued.
    """
    wanted = list(downloads)
    folders = _folders(download.pid for download in wanted)
    lines = [f"# The links work until {expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.\n"]
    for pid, folder in folders.items():
        lines.append(f"# Data set {json.dumps(pid)}\n")
        for download in (each for each in wanted if each.pid == pid):
            values = (folder, download.name, str(download.packed_size), download.sha256, download.url)
            lines.append(f"fetch {' '.join(shlex.quote(value) for value in values)}\n")
    lines.append("\n" + "".join(f"rm -rf -- {shlex.quote(folder + '.download')}\n" for folder in folders.values()))
    lines.append("printf 'All data sets were downloaded, checked and unpacked into %s\\n' \"$PWD\"\n")
    return _HEAD + "".join(lines)
