"""The two ways back to a user: links, each checked and unpacked, or the script that does it by itself."""

import base64
import hashlib
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from archiver.config.settings import MEBIBYTE
from archiver.local.demo.errors import DemoFailedError
from archiver.workflow.download_script import Download, folder_of

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_POLL_S = 0.5
_TAIL = 2000

Progress = Callable[[int, int], None]
"""Told how many more bytes and datablocks have come."""


def links_of(result: Mapping[str, Any], pid: str) -> list[Download]:
    """The links to the datablocks of `pid` in a job's result.

    Raises:
        DemoFailedError: there are none.
    """
    found = [
        Download(pid, str(each["name"]), int(each["packedSize"]), str(each["sha256"]), str(each["url"]))
        for each in result.get("result", ())
        if each.get("datasetId") == pid
    ]
    if not found:
        raise DemoFailedError(f"The retrieve job ended well, but its result has no links to {pid}.")
    return found


def script_of(result: Mapping[str, Any]) -> str:
    """The download script of a job's result.

    Raises:
        DemoFailedError: there is none.
    """
    script = result.get("downloadScript")
    if not script:
        raise DemoFailedError("The retrieve job ended well, but its result has no download script.")
    return base64.b64decode(str(script)).decode("utf-8")


def download_by_links(downloads: Sequence[Download], folder: Path, progress: Progress) -> Path:
    """Fetch each datablock, check its SHA-256, unpack it below `folder`; where the data set is then.

    Raises:
        DemoFailedError: a link does not work, or brings something else than was archived.
    """
    folder.mkdir(parents=True)
    unpacked = folder / "files"
    unpacked.mkdir()
    with httpx.Client(timeout=_TIMEOUT) as http:
        for download in downloads:
            tar = folder / download.name
            _fetch(http, download, tar, progress)
            _unpack(tar, unpacked)
            tar.unlink()
            progress(0, 1)
    return unpacked


def _fetch(http: httpx.Client, download: Download, file: Path, progress: Progress) -> None:
    digest = hashlib.sha256()
    try:
        with http.stream("GET", download.url) as answer, file.open("wb") as opened:
            if answer.status_code != httpx.codes.OK:
                raise DemoFailedError(f"The link to {download.name} was answered with {answer.status_code}.")
            for block in answer.iter_bytes(MEBIBYTE):
                digest.update(block)
                opened.write(block)
                progress(len(block), 0)
    except httpx.HTTPError as error:
        raise DemoFailedError(f"{download.name} could not be downloaded: {type(error).__name__} {error}.") from error
    if digest.hexdigest() != download.sha256:
        raise DemoFailedError(f"{download.name} is not what was archived: its SHA-256 differs.")


def _unpack(tar: Path, folder: Path) -> None:
    """Everything in a tar, with the modes it says: only names that would lead elsewhere are refused."""

    def keep_modes(member: tarfile.TarInfo, where: str) -> tarfile.TarInfo:
        tarfile.data_filter(member, where)
        return member.replace(uid=None, gid=None, uname=None, gname=None, deep=False)  # type: ignore[arg-type]

    try:
        with tarfile.open(tar, "r:") as opened:
            opened.extractall(folder, filter=keep_modes)  # noqa: S202  # nosec B202  # the filter checks
    except tarfile.TarError as error:
        raise DemoFailedError(f"{tar.name} cannot be unpacked: {error}.") from error


def download_by_script(script: str, pid: str, folder: Path, progress: Progress) -> Path:
    """Run the script as a user would; where the data set is then.

    Raises:
        DemoFailedError: it failed; the message quotes what it said.
    """
    folder.mkdir(parents=True)
    file, log = folder / "download.sh", folder / "download.log"
    file.write_text(script, encoding="utf-8")
    target = folder / "here"
    seen = 0
    with log.open("wb") as output:
        # The archive's modes are what is to be seen, not what this user's umask leaves of them.
        process = subprocess.Popen(
            ["bash", str(file), str(target)],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0,
        )
        try:
            while process.poll() is None:
                time.sleep(_POLL_S)
                fetched = sum(tar.stat().st_size for tar in _tars(target))
                if fetched > seen:
                    progress(fetched - seen, 0)
                    seen = fetched
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        said = log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
        raise DemoFailedError(f"The download script failed with exit code {process.returncode}: {said}")
    return target / folder_of(pid)


def _tars(target: Path) -> list[os.DirEntry[str]]:
    """Downloads of the script that are not unpacked yet."""
    try:
        with os.scandir(target) as entries:
            folders = [entry.path for entry in entries if entry.name.endswith(".download")]
        return [tar for folder in folders for tar in os.scandir(folder)]
    except FileNotFoundError:  # not there yet, or gone just now
        return []
