"""A Prefect server that is away for a while: what it is told is not worth a run, what it is asked comes later."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import structlog

from archiver.workflow.errors import QueueError

log = structlog.get_logger(__name__)


@contextmanager
def only_shown(what: str) -> Iterator[None]:
    """Work goes on, and the catalogue is told, also where this cannot be shown."""
    try:
        yield
    except (httpx.HTTPError, QueueError) as error:
        log.warning("not_shown_in_prefect", what=what, error=f"{type(error).__name__} {error}")


@contextmanager
def server_may_be_away() -> Iterator[None]:
    """Make the absence of the Prefect server a reason to try again: what was archived until then is found again.

    Raises:
        QueueError: in place of an error of the connection, or of the server itself.
    """
    try:
        yield
    except httpx.TransportError as error:
        raise QueueError(f"The Prefect server does not answer: {type(error).__name__} {error}.") from error
    except httpx.HTTPStatusError as error:
        if not error.response.is_server_error:
            raise
        raise QueueError(f"The Prefect server failed: {error}.") from error
