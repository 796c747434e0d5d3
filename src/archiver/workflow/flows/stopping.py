"""A run that is being cancelled ends its work, which goes on in threads that nobody can end from outside.

A data set is worked on in a thread of the job's run. When the run is told to end, its main thread is; the others
would go on, and take the end of the process they use for the share for a fault worth another try.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from archiver.workflow.errors import StoppedError

_asked: ContextVar[threading.Event | None] = ContextVar("asked_to_stop", default=None)


@contextmanager
def stopping_together() -> Iterator[None]:
    """Threads started within (with this context) stop at their next `check` when this ends by an exception."""
    asked = threading.Event()
    token = _asked.set(asked)
    try:
        yield
    except BaseException:
        asked.set()
        raise
    finally:
        _asked.reset(token)


class Stop:
    """Whether the run that this thread works for is being ended; looks at the run it was made in."""

    def __init__(self) -> None:
        self._asked = _asked.get()

    @property
    def is_asked(self) -> bool:
        """Whether it is."""
        return self._asked is not None and self._asked.is_set()

    def check(self) -> None:
        """Returns while the run goes on.

        Raises:
            StoppedError: it is being ended.
        """
        if self.is_asked:
            raise StoppedError(
                "The run was cancelled. What it had finished stays, and a new run of the job goes on from there."
            )
