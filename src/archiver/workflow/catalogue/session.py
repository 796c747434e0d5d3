"""The service account's login: one token for all threads, renewed before it ends.

An expired token is not refused: SciCat carries on as if nobody had logged in, and answers with 403 or with
less than there is. So the token is renewed at four fifths of its life, and once more whenever a call with
it was refused.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from archiver.workflow.errors import CatalogueRefusedError

log = structlog.get_logger(__name__)

_SHARE_OF_LIFE = 0.8


class Token(NamedTuple):
    """A bearer token and its life, seconds."""

    value: str
    lifetime: float


class Session:
    """Holds the token of the service account. Thread-safe."""

    def __init__(self, login: Callable[[], Token], clock: Callable[[], float] = time.monotonic) -> None:
        """A session that is not logged in yet.

        Args:
            login: gives a new token; what it raises is raised by `token` and `renew`.
            clock: seconds that never go back.
        """
        self._login = login
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def token(self) -> str:
        """A token with at least a fifth of its life left."""
        with self._lock:
            if self._token is None or self._clock() >= self._renew_at:
                return self._log_in()
            return self._token

    def renew(self, refused: str) -> str:
        """Another token than `refused`: a new login, unless another thread has made one meanwhile."""
        with self._lock:
            if self._token is None or self._token == refused:
                return self._log_in()
            return self._token

    def _log_in(self) -> str:
        asked_at = self._clock()
        token = self._login()
        if not token.value:
            raise CatalogueRefusedError(
                "SciCat accepted the login and gave no token. Check SCICAT_ENDPOINT and SCICAT_API_PREFIX."
            )
        self._token = token.value
        self._renew_at = asked_at + _SHARE_OF_LIFE * token.lifetime
        log.info("catalogue_logged_in", lifetime_s=token.lifetime)
        return self._token
