"""What a check came to."""

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    """It could not be done here; nothing is known."""


@dataclass(frozen=True, slots=True)
class Result:
    """One check, run once."""

    title: str
    outcome: Outcome
    seen: str
    """In a few words: what was counted, or why it was not run."""
    seconds: float = 0
    details: tuple[str, ...] = field(default=())
    """What failed, a line for each."""
