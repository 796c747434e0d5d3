"""Access tokens: JWTs signed with HS256, without a key id, groups not inside."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any

from archiver.local.scicat.values import Document, dumps

_HEADER = {"alg": "HS256", "typ": "JWT"}


class Tokens:
    """Signs and reads the tokens of one catalogue."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, claims: Document, lifetime_seconds: int) -> str:
        """A token that carries ``claims`` and expires after ``lifetime_seconds``."""
        issued = int(time.time())
        payload = {**claims, "iat": issued, "exp": issued + lifetime_seconds}
        signed = f"{_encode(dumps(_HEADER).encode())}.{_encode(dumps(payload).encode())}"
        return f"{signed}.{_encode(self._signature(signed))}"

    def read(self, token: str) -> Document | None:
        """The claims of a token, or None if it is expired, damaged or somebody else's."""
        signed, _, signature = token.rpartition(".")
        try:
            if not hmac.compare_digest(_decode(signature), self._signature(signed)):
                return None
            claims: Any = json.loads(_decode(signed.partition(".")[2]))
        except (binascii.Error, ValueError):
            return None
        if not isinstance(claims, dict) or claims.get("exp", 0) <= time.time():
            return None
        return claims

    def _signature(self, signed: str) -> bytes:
        return hmac.digest(self._secret, signed.encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
