"""What a check found, and how an error becomes a finding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from archiver.cli.errors import explain_settings
from archiver.config.settings import OpenDeploymentError
from archiver.config.sources import UnreadableSecretFileError
from archiver.workflow.errors import ArchiverError

_EXPECTED = (ArchiverError, OpenDeploymentError, UnreadableSecretFileError)


class Verdict(StrEnum):
    """How it is."""

    GOOD = "good"
    WARNING = "warning"
    """Works, and needs a look."""
    BAD = "bad"
    SKIPPED = "skipped"
    """Not looked at, for the reason given: nothing is known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `detail` says what was seen and, unless it is good, what to do."""

    group: str
    name: str
    verdict: Verdict
    detail: str


Finder = Callable[[], Iterator[Finding]]
"""Looks at one group and gives findings as they come."""


def findings_of(group: str, finder: Finder) -> Iterator[Finding]:
    """What `finder` finds. What ends it before its time is a bad finding, so that other groups are still looked at."""
    try:
        yield from finder()
    except _EXPECTED as error:
        yield Group(group).bad("looked at", str(error))
    except ValidationError as error:
        yield Group(group).bad("settings", explain_settings(error))


@dataclass(frozen=True, slots=True)
class Group:
    """Makes the findings of one group."""

    name: str

    def good(self, name: str, detail: str) -> Finding:
        """It is as it must be."""
        return Finding(self.name, name, Verdict.GOOD, detail)

    def bad(self, name: str, detail: str) -> Finding:
        """It is not."""
        return Finding(self.name, name, Verdict.BAD, detail)

    def warning(self, name: str, detail: str) -> Finding:
        """It works, and needs a look."""
        return Finding(self.name, name, Verdict.WARNING, detail)

    def skipped(self, name: str, detail: str) -> Finding:
        """It was not looked at."""
        return Finding(self.name, name, Verdict.SKIPPED, detail)

    def check(self, name: str, look: Callable[[], str]) -> Finding:
        """Good with what `look` says, or bad with the words of the service's error that it raised."""
        try:
            return self.good(name, look())
        except _EXPECTED as error:
            return self.bad(name, str(error))
        except ValidationError as error:
            return self.bad(name, explain_settings(error))
