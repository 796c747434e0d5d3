"""The ids that every log line of a run carries, the same as in the API's log."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prefect.runtime import flow_run

from archiver.workflow.job_queue import REQUEST_TAG


@contextmanager
def logged_with(**ids: str) -> Iterator[None]:
    """Log lines carry `ids`, the id of this run, and that of the request to the API which asked for it."""
    known = {"run_id": str(flow_run.id)} | ids
    for tag in flow_run.tags or []:
        if tag.startswith(REQUEST_TAG):
            known["request_id"] = tag.removeprefix(REQUEST_TAG)
    with structlog.contextvars.bound_contextvars(**known):
        yield
