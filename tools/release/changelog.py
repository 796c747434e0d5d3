"""CHANGELOG.md as <https://keepachangelog.com> describes it: found by section, and moved on for a release."""

import re
from datetime import date

from tools.errors import ToolError
from tools.release.version import Version

_HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)
_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "Unreleased"


def _sections(text: str) -> dict[str, str]:
    """What stands below each heading of a version, by its name."""
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return {heading["name"]: text[heading.end() : end].strip() for heading, end in zip(headings, ends, strict=True)}


def section(text: str, version: Version) -> str:
    """What the changelog says of `version`, without its heading.

    Raises:
        ToolError: it says nothing.
    """
    found = _sections(text).get(str(version))
    if not found:
        raise ToolError(f"CHANGELOG.md says nothing of {version}. Describe it: make release-prepare VERSION={version}.")
    return found


def check(text: str) -> None:
    """Make sure that the changelog can be read by people and by `section`.

    Raises:
        ToolError: versions are not in order or undated, or a heading is not one of the six kinds.
    """
    headings = list(_HEADING.finditer(text))
    if not headings or headings[0]["name"] != UNRELEASED:
        raise ToolError(f"CHANGELOG.md must begin with '## [{UNRELEASED}]'.")
    released = [Version.parse(heading["name"]) for heading in headings[1:]]
    if released != sorted(set(released), reverse=True):
        raise ToolError("CHANGELOG.md must name each version once, newest first.")
    for heading in headings[1:]:
        try:
            date.fromisoformat(heading["date"] or "")
        except ValueError as error:
            raise ToolError(f"CHANGELOG.md must date {heading['name']}: '## [1.2.3] - 2026-01-31'.") from error
    unknown = [kind for kind in re.findall(r"^### (.+)$", text, re.MULTILINE) if kind not in _KINDS]
    if unknown:
        raise ToolError(f"CHANGELOG.md has headings it should not have: {', '.join(unknown)}; use {', '.join(_KINDS)}.")


def release(text: str, version: Version, day: date) -> str:
    """The changelog with what was unreleased standing below `version`, and an empty unreleased section above.

    Raises:
        ToolError: nothing is unreleased, or the version stands there already.
    """
    sections = _sections(text)
    if str(version) in sections:
        raise ToolError(f"CHANGELOG.md has a section of {version} already.")
    if not sections.get(UNRELEASED):
        raise ToolError(f"CHANGELOG.md has nothing below '## [{UNRELEASED}]': what would {version} be released for?")
    heading = f"## [{UNRELEASED}]"
    return text.replace(heading, f"{heading}\n\n## [{version}] - {day.isoformat()}", 1)
