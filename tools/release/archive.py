"""The archive of a release: what a host needs to run it, besides the images."""

import gzip
import io
import re
import subprocess
import tarfile
from fnmatch import fnmatchcase
from pathlib import Path

from tools.errors import ToolError
from tools.release.version import Version

CONTENT = (
    ".env",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "deployment",
    "docker-compose.scaled.yml",
    "docker-compose.yml",
    "prefect.yaml",
    "src/archiver/config/*.json",
    "src/archiver/config/*.toml",
)
"""Files of the project, by patterns, and folders with all that is in them."""
_ENVIRONMENT = ".env"
_TAG = re.compile(r"^OPENEM_IMAGE_TAG=.*$", re.MULTILINE)


def archive_name(version: Version) -> str:
    """Its file name; without the ending, the folder in it."""
    return f"archiver-{version}.tar.gz"


def pinned(environment: str, version: Version) -> str:
    """The text of `.env` with the images of `version`.

    Raises:
        ToolError: it does not name the images' tag once.
    """
    if len(_TAG.findall(environment)) != 1:
        raise ToolError(f"{_ENVIRONMENT} must have one line OPENEM_IMAGE_TAG=..., which a release sets.")
    return _TAG.sub(f"OPENEM_IMAGE_TAG={version}", environment)


def make_archive(root: Path, version: Version, folder: Path) -> Path:
    """Write the archive of the project at `root`, the same for the same commit, into `folder`; its path.

    Only what is committed goes into it, not the files as they lie here: never a secret or a value of whoever makes it.

    Raises:
        ToolError: git fails, or something of `CONTENT` is not there.
    """
    made_at = int(_git(root, "log", "-1", "--format=%ct"))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / archive_name(version)
    top = archive_name(version).removesuffix(".tar.gz")
    with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", "--format=tar", "HEAD"))) as committed:
        files = {
            member.name: _packed(committed, member, version) for path in CONTENT for member in _members(committed, path)
        }
    with (
        target.open("wb") as written,
        gzip.GzipFile(filename="", mode="wb", fileobj=written, mtime=made_at) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for file, (content, mode) in sorted(files.items()):
            member = tarfile.TarInfo(f"{top}/{file}")
            member.size, member.mtime, member.mode = len(content), made_at, mode
            tar.addfile(member, io.BytesIO(content))
    return target


def _packed(committed: tarfile.TarFile, member: tarfile.TarInfo, version: Version) -> tuple[bytes, int]:
    """Content and mode of a file, as the archive has them."""
    found = committed.extractfile(member)
    content = b"" if found is None else found.read()
    if member.name == _ENVIRONMENT:
        content = pinned(content.decode(), version).encode()
    return content, 0o755 if member.mode & 0o100 else 0o644


def _members(committed: tarfile.TarFile, path: str) -> list[tarfile.TarInfo]:
    """The files that `path` of `CONTENT` names."""
    files = [member for member in committed if member.isfile()]
    found = [each for each in files if fnmatchcase(each.name, path) or each.name.startswith(f"{path}/")]
    if not found:
        raise ToolError(f"{path} belongs into the archive of a release, and git knows no such file.")
    return found


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"git {arguments[0]} failed: {error}") from error
