"""Signed cookies: what a browser keeps for us and cannot change."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping


class CookieJar:
    """Signs small records for one purpose and reads them back. All processes with the same key read each other's."""

    def __init__(self, key: bytes, purpose: str, lifetime_s: int, clock: Callable[[], float] = time.time) -> None:
        if not key:
            raise ValueError("cookies need a key")
        self._key = hmac.digest(key, f"archiver status page, {purpose} v1".encode(), "sha256")
        self._clock = clock
        self.lifetime_s = lifetime_s

    def seal(self, record: Mapping[str, str]) -> str:
        """`record` as the value of a cookie, good for the jar's lifetime."""
        content = {**record, "expires": str(int(self._clock()) + self.lifetime_s)}
        payload = _encode(json.dumps(content, separators=(",", ":")).encode())
        return f"{payload}.{self._sign(payload)}"

    def open(self, value: str | None) -> dict[str, str] | None:
        """The record; None for a cookie that is not there, not ours, or past its time."""
        payload, _, signature = (value or "").partition(".")
        if not payload.isascii() or not hmac.compare_digest(self._sign(payload).encode(), signature.encode()):
            return None
        record: dict[str, str] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return record if int(record.pop("expires")) > self._clock() else None

    def _sign(self, payload: str) -> str:
        return _encode(hmac.digest(self._key, payload.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
