"""The version of the project: said once, in pyproject.toml."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tools.errors import ToolError

_NUMBERS = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """A released version, as <https://semver.org> orders them."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version that `text` (`1.2.3`) names.

        Raises:
            ToolError: it names none.
        """
        found = _NUMBERS.fullmatch(text)
        if found is None:
            raise ToolError(f"{text!r} is no version: it must be three numbers, like 1.2.3.")
        return cls(*(int(number) for number in found.groups()))

    @classmethod
    def of_tag(cls, tag: str) -> Self:
        """The version of a git tag (`v1.2.3`).

        Raises:
            ToolError: the tag is no such tag.
        """
        if not tag.startswith("v"):
            raise ToolError(f"{tag!r} is no tag of a release: it must be 'v' and the version, like v1.2.3.")
        return cls.parse(tag.removeprefix("v"))

    @property
    def series(self) -> str:
        """What an installation follows that wants corrections only: `1.2`."""
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        """As pyproject.toml says it."""
        return f"{self.major}.{self.minor}.{self.patch}"


def project_version(pyproject: Path) -> Version:
    """The version that pyproject.toml names.

    Raises:
        ToolError: it names none that can be released.
    """
    try:
        named = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise ToolError(f"{pyproject} names no version: {error}.") from error
    return Version.parse(named)


def check_tag(tag: str, version: Version) -> None:
    """Make sure that a tag releases what the project says it is.

    Raises:
        ToolError: it does not.
    """
    if Version.of_tag(tag) != version:
        raise ToolError(
            f"The tag is {tag}, but pyproject.toml says {version}. Set the version there first, then tag that commit."
        )
