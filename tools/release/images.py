"""The images of the service: what is built, how it is called, and which tags a release gets."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from tools.release.version import Version

DOCKERFILE = "runtime.Dockerfile"
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that deployments pull."""

    target: str
    """Stage of the Dockerfile."""
    setting: str
    """Name in `.env` under which deployments name it."""
    default: str


IMAGES = (
    Image("api", "OPENEM_BACKEND_IMAGE_NAME", "ghcr.io/swissopenem/scopemarchiver-archiver-service-api"),
    Image("flows", "PREFECT_RUNTIME_IMAGE_NAME", "ghcr.io/swissopenem/scopemarchiver-archiver-service-workflow"),
    Image("config", "PREFECT_CONFIG_IMAGE_NAME", "ghcr.io/swissopenem/scopemarchiver-archiver-service-config"),
)


def release_tags(version: Version, released: Iterable[Version]) -> tuple[str, ...]:
    """Tags of the images of `version`: itself, its series, and `latest`.

    A correction of an older version takes a tag from no newer one: neither its series' nor `latest`.
    """
    others = list(released)
    tags = [str(version)]
    if all(other <= version for other in others if other.series == version.series):
        tags.append(version.series)
    if all(other <= version for other in others):
        tags.append(LATEST)
    return tuple(tags)


def names(image: Image, tags: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Full names of an image."""
    return [f"{environment.get(image.setting) or image.default}:{tag}" for tag in tags]


def released_versions(root: Path) -> list[Version]:
    """Versions that the tags of this repository name."""
    listed = subprocess.run(
        ["git", "tag", "--list", "v*"], cwd=root, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found = []
    for tag in listed.split():
        try:
            found.append(Version.of_tag(tag))
        except ToolError:  # a tag somebody made for something else
            continue
    return found


def build_and_push(root: Path, tags: Iterable[str], version: Version) -> list[str]:
    """Build every image, then push every name; the names.

    All are built before any is pushed: a release never has only some of its images.

    Raises:
        ToolError: docker failed; its own words stand above.
    """
    chosen = tuple(tags)
    pushed: list[str] = []
    for image in IMAGES:
        wanted = names(image, chosen, os.environ)
        labels = [
            f"--label=org.opencontainers.image.version={version}",
            "--label=org.opencontainers.image.licenses=Apache-2.0",
        ]
        tag_options = [option for name in wanted for option in ("--tag", name)]
        _docker(root, "build", "--file", DOCKERFILE, "--target", image.target, *labels, *tag_options, ".")
        pushed += wanted
    for name in pushed:
        _docker(root, "push", name)
    return pushed


def _docker(root: Path, *arguments: str) -> None:
    try:
        subprocess.run(["docker", *arguments], cwd=root, check=True, timeout=3600)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"docker {arguments[0]} failed: {error}") from error
