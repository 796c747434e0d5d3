"""Logs: one line an event, key=value, through the standard library so that whoever hosts us can collect them."""

import logging
import sys
from collections.abc import Mapping

import structlog
from structlog.typing import EventDict, Processor


def _carrying(ids: Mapping[str, object]) -> Processor:
    def carry(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {**ids, **event}

    return carry


def configure_logs(
    level: str = "INFO", *, handler: logging.Handler | None = None, ids: Mapping[str, object] | None = None
) -> None:
    """Send structlog events of this process to the `archiver` logger and that to stderr (or `handler`).

    Exceptions, context variables (`job_id`, `pid`, `run_id`, `request_id`) and times are part of each line. So is
    what `ids` holds at the time, in lines of all threads: for a process that works on one thing at a time.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _carrying(ids if ids is not None else {}),
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logger = logging.getLogger("archiver")
    logger.setLevel(level.upper())
    if handler is None and not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stderr)
    if handler is not None:
        logger.addHandler(handler)
