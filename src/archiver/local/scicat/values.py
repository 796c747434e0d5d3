"""Ids, dates and documents in the forms the backend gives them."""

from __future__ import annotations

import itertools
import json
import re
import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Document = dict[str, Any]
"""One JSON object as it is stored or sent."""

_DATE_ONLY = re.compile(r"\d{4}(-\d{2}){0,2}")
_ISO_DATE = re.compile(r"\d{4}-\d{2}(-\d{2})?([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|z|[+-]\d{2}:?\d{2})?)?|\d{4}")


def dumps(value: Any) -> str:
    """Compact JSON text, ASCII only (lone surrogates in names stay representable)."""
    return json.dumps(value, separators=(",", ":"))


def new_uuid() -> str:
    """A random UUID (version 4) as text."""
    return str(uuid.uuid4())


def object_ids() -> Iterator[str]:
    """An endless series of ids of 24 hexadecimal digits, unique between calls."""
    prefix = secrets.token_hex(8)
    return (f"{prefix}{number:08x}" for number in itertools.count(1))


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """``moment`` as the backend prints dates: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=50_000)
def parse_iso(text: str) -> datetime | None:
    """The moment an ISO 8601 text names, or None if it is none.

    A date alone is read as UTC, a date with a time but no zone in the machine's zone, as JavaScript does.
    """
    if not _ISO_DATE.fullmatch(text):
        return None
    if _DATE_ONLY.fullmatch(text):
        text = f"{text}-01-01"[:10]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None and len(text) <= len("2026-01-01"):
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def normal_date(value: Any) -> Any:
    """An ISO date text in the form the backend stores; anything else unchanged."""
    return _normal_text(value) if isinstance(value, str) else value


@lru_cache(maxsize=50_000)
def _normal_text(text: str) -> str:
    moment = parse_iso(text)
    return text if moment is None else iso(moment)
