"""Which packages an image needs.

`pick.py wanted EXTRA...` names them, `pick.py versions` pins them, `pick.py locked FOLDER` adds the hashes of those in
FOLDER. The extra `build-system` stands for what builds the package itself.

The one lock file holds the packages of every image, each with its hashes. pip cannot take "these extras, at those
versions, with hashes" in one step: so the extras are fetched at the locked versions first, and installed from there
with the hashes of exactly what was fetched.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(extras: list[str]) -> Iterator[str]:
    """Requirements of the project and of its `extras`, as pyproject.toml states them."""
    document = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    if extras != ["build-system"]:
        yield from project["dependencies"]
    for extra in extras:
        if extra == "build-system":
            yield from document["build-system"]["requires"]
            continue
        for requirement in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)
            if own:
                yield from wanted(own[1].split(","))
            else:
                yield requirement


def _blocks() -> Iterator[tuple[str, str]]:
    """Name of each locked package, and its lines with version, marker and hashes."""
    text = Path("requirements.lock").read_text(encoding="utf-8")
    for block in re.split(r"\n(?=\S)", text):
        if found := re.match(r"[A-Za-z0-9._-]+", block):
            yield _normal(found[0]), block


def versions() -> Iterator[str]:
    """The locked versions without their hashes: constraints for fetching."""
    for _, block in _blocks():
        yield block.splitlines()[0].rstrip(" \\")


def locked(folder: Path) -> Iterator[str]:
    """The locked lines, with hashes, of the packages in `folder`."""
    fetched = {_normal(file.name.split("-")[0]) for file in folder.iterdir()}
    for name, block in _blocks():
        if name in fetched:
            yield block


def main() -> None:
    """Write what was asked for to stdout."""
    what, *rest = sys.argv[1:]
    lines = {"wanted": lambda: wanted(rest), "versions": versions, "locked": lambda: locked(Path(rest[0]))}[what]()
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
