"""Retrieval from whichever share holds a good copy: the first one, and where it fails, the others in their order."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from archiver.workflow.errors import (
    ArchiverError,
    DamagedError,
    PermanentError,
    StalledError,
    TransientError,
    WrongShareError,
)
from archiver.workflow.monitor import Monitor
from archiver.workflow.second_copies import known_copies
from archiver.workflow.tools import Tools

log = structlog.get_logger(__name__)

T = TypeVar("T")


def _is_of_the_share(error: ArchiverError) -> bool:
    """Whether another share could do better; those of other parts of the service have types of their own."""
    return isinstance(error, DamagedError | WrongShareError | StalledError) or type(error) in (
        PermanentError,
        TransientError,
    )


@dataclass
class RetrievalSources:
    """The shares to retrieve a data set from."""

    tools: Tools
    monitor: Monitor
    failures: list[str] = field(default_factory=list)
    """Why the shares before the one that was used were not."""

    def first_good(self, pid: str, retrieve: Callable[[Tools], T]) -> T:
        """What `retrieve` gives, with the first share it succeeds with. What it brought before stays.

        Raises:
            ArchiverError: no share would do; the error of the first share.
        """
        self.failures.clear()
        shares = [self.tools.share, *known_copies(self.tools.ledger, self.tools.lts.lts_copies)]
        first: ArchiverError | None = None
        for share in shares:
            try:
                return retrieve(replace(self.tools, share=share))
            except ArchiverError as error:
                if not _is_of_the_share(error):
                    raise
                first = first or error
                if len(shares) > 1:
                    self._report(pid, f"the share at {share.root}: {error}")
                elif isinstance(error, DamagedError):
                    self.tools.ledger.expedite_checks(pid)
        assert first is not None  # noqa: S101  # there is at least one share
        raise first

    def _report(self, pid: str, failure: str) -> None:
        self.failures.append(failure)
        self.monitor.note(f"another copy is tried, for {failure}")
        log.error("copy_not_retrievable", pid=pid, reason=failure)
        self.tools.ledger.expedite_checks(pid)  # the next audit looks at it, and reports what is damaged

    @property
    def message(self) -> str:
        """What the operators must know of a retrieval that succeeded; empty where the first share was good."""
        if not self.failures:
            return ""
        return f"; NOT from the first share, the operators must look at it: {'; '.join(self.failures)}"
