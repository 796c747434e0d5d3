"""Signed, expiring URLs of the upload edge: each is the right to PUT one object, or one part of one."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from archiver.workflow.errors import UserError

PATH = "/s3/edge"


class BadTicketError(UserError):
    """The URL was not made by this service."""

    code = "bad-upload-url"


class ExpiredTicketError(UserError):
    """The URL's lifetime is over."""

    code = "expired-upload-url"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a URL allows. `part` 0 and an empty `upload_id` mean the whole object."""

    pid: str
    key: str
    upload_id: str = ""
    part: int = 0


class TicketOffice:
    """Signs tickets and reads them back. All processes with the same key know each other's."""

    def __init__(self, key: bytes, base_url: str, clock: Callable[[], float] = time.time) -> None:
        if not key:
            raise ValueError("the upload edge needs a key")
        # A key of its own for this purpose, of fixed length, whatever the secret is used for besides.
        self._key = hmac.digest(key, b"archiver upload edge, tickets v1", "sha256")
        self._base = base_url.rstrip("/") + PATH + "/"
        self._clock = clock

    def url(self, ticket: Ticket, lifetime: timedelta) -> str:
        """A URL that lets its holder PUT for `lifetime`."""
        expires = int(self._clock() + lifetime.total_seconds())
        fields = [ticket.pid, ticket.key, ticket.upload_id, ticket.part, expires]
        payload = _encode(json.dumps(fields, separators=(",", ":")).encode())
        return f"{self._base}{payload}.{_encode(self._sign(payload))}"

    def read(self, text: str) -> Ticket:
        """The ticket that a URL ends in.

        Raises:
            BadTicketError: it was not signed here.
            ExpiredTicketError: it was, and its time is over.
        """
        payload, _, signature = text.partition(".")
        if not text.isascii() or not hmac.compare_digest(_encode(self._sign(payload)), signature):
            raise BadTicketError("This upload URL was not made by this service. Ask /s3/presignedUrls for another.")
        pid, key, upload_id, part, expires = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if expires < self._clock():
            raise ExpiredTicketError("This upload URL has expired. Ask /s3/presignedUrls for another.")
        return Ticket(pid, key, upload_id, part)

    def _sign(self, payload: str) -> bytes:
        return hmac.digest(self._key, payload.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
