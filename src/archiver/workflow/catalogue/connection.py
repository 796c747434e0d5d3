"""HTTP to SciCat: time limits, retries, and the service account's token on every call."""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Self, TypeVar

import httpx
import stamina
import structlog

from archiver.config.settings import CatalogueSettings
from archiver.workflow.catalogue.responses import (
    FailedCallError,
    Hook,
    RefusedCallError,
    expect_object,
    meant_status,
    raise_for_error,
    read_json,
)
from archiver.workflow.catalogue.session import Session, Token
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 15_000_000
"""SciCat answers 500 to a body over 16 MB, and its database takes no larger document either."""

_CONNECT_S = 5.0
_CONNECTIONS = 32
_LIFETIME_UNLESS_TOLD_S = 3600.0
_MERGE_PATCH = "application/merge-patch+json"

T = TypeVar("T")


def retrying(within_s: float) -> Iterator[stamina.Attempt]:
    """Attempts for what may pass (`CatalogueError`), with back-off, begun within so many seconds."""
    if within_s <= 0:
        return iter(stamina.retry_context(on=CatalogueError, attempts=1))
    return iter(
        stamina.retry_context(on=CatalogueError, attempts=None, timeout=within_s, wait_initial=0.2, wait_max=10.0)
    )


class Connection:
    """Calls to one SciCat as its service account, or as somebody else. Thread-safe."""

    def __init__(self, settings: CatalogueSettings) -> None:
        """Connects to nothing yet.

        Raises:
            CatalogueRefusedError: SCICAT_ENDPOINT is not set or SCICAT_CA_FILE cannot be used.
        """
        if not settings.scicat_endpoint:
            raise CatalogueRefusedError("SCICAT_ENDPOINT is not set. Set it to the base URL of SciCat.")
        self._settings = settings
        self.retry_s = settings.scicat_retry_s
        self._http = httpx.Client(
            base_url=settings.scicat_endpoint,
            verify=_trust(settings),
            timeout=httpx.Timeout(settings.scicat_timeout_s, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            headers={"Accept": "application/json"},
        )
        # Calls are made as different users; a cookie would tie them together.
        self._http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session = Session(self._log_in)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        purpose: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        merge: bool = False,
        hook: Hook | None = None,
        token: str | None = None,
        renew: bool = True,
        once: bool = False,
        within_s: float | None = None,
    ) -> Any:
        """The JSON that SciCat answers, None for an empty body.

        Args:
            method: HTTP method.
            path: path with API version, each segment quoted.
            purpose: what is asked for, as it completes "SciCat failed to …".
            query: query parameters.
            body: JSON to send.
            merge: send `body` as a merge patch.
            hook: see `read_json`.
            token: somebody else's token, used as it is; None for the service account's.
            renew: log in again when the service account's token is refused.
            once: without retries, for calls that must not be repeated blindly.
            within_s: time for retries, seconds; None for SCICAT_RETRY_S.

        Raises:
            FailedCallError: no proper answer within the time for retries.
            RefusedCallError: SciCat refused, after a new login where that might have helped.
            CatalogueRefusedError: `body` is longer than SciCat takes, or the login was refused.
        """
        request = self._http.build_request(
            method, path, params=query, content=_encode(body, purpose), headers=_headers(body, merge)
        )
        if once:
            return read_json(self._authorised(request, purpose, token, renew), purpose, hook)
        for attempt in retrying(self.retry_s if within_s is None else within_s):
            with attempt:
                reply = self._authorised(request, purpose, token, renew)
        return read_json(reply, purpose, hook)

    def call_anonymously(self, method: str, path: str, purpose: str) -> Any:
        """Like `call`, without a token and without retries."""
        reply = self._send(self._http.build_request(method, path), purpose)
        raise_for_error(reply, purpose)
        return read_json(reply, purpose)

    def write(self, send: Callable[[], T], settled: Callable[[], T | None], purpose: str) -> T:
        """What `send` gives, for a call that must not be carried out twice.

        After a failure, and after a refusal too, `settled` looks whether the call has taken effect all the
        same (its answer was lost, or another run has been there); what it gives, unless None, is the result.
        Only a failure that had no effect is tried again.

        Raises:
            CatalogueError: it failed for as long as calls are retried.
            CatalogueRefusedError: it was refused and had no effect.
        """
        for attempt in retrying(self.retry_s):
            with attempt:
                try:
                    return send()
                except (CatalogueError, RefusedCallError) as error:
                    found = settled()
                    if found is None:
                        raise
                    log.warning("catalogue_write_found_done", purpose=purpose, after=str(error))
                    return found
        raise AssertionError("a retry ends by a result or an error")

    def log_in_again(self) -> None:
        """A new token, for when SciCat takes the present one for nobody's without saying so."""
        self._session.renew(self._session.token())

    def _authorised(self, request: httpx.Request, purpose: str, token: str | None, renew: bool) -> httpx.Response:
        value = token or self._session.token()
        reply = self._send(request, purpose, value)
        if token is None and renew and meant_status(reply) in (401, 403):
            log.info("catalogue_refused_token", purpose=purpose, status=reply.status_code)
            reply = self._send(request, purpose, self._session.renew(value))
        raise_for_error(reply, purpose)
        return reply

    def _send(self, request: httpx.Request, purpose: str, token: str | None = None) -> httpx.Response:
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        try:
            return self._http.send(request)
        except httpx.RequestError as error:
            raise FailedCallError(
                f"SciCat did not answer when asked to {purpose}: {type(error).__name__} {error}. "
                f"Check that {self._settings.scicat_endpoint} is up and reachable from here."
            ) from error

    def _log_in(self) -> Token:
        """A token for SCICAT_USER, from one try: the call that needs it is retried as a whole."""
        purpose = "log in"
        credentials = {
            "username": self._settings.scicat_user.get_secret_value(),
            "password": self._settings.scicat_password.get_secret_value(),
        }
        path = f"{self._settings.scicat_api_prefix}/auth/login"
        reply = self._send(self._http.build_request("POST", path, json=credentials), purpose)
        try:
            raise_for_error(reply, purpose)
        except RefusedCallError as error:
            if error.is_about_the_route:
                raise
            raise CatalogueRefusedError(
                f"SciCat refused the login: {error.status} {error.reason}. Check SCICAT_USER and SCICAT_PASSWORD."
            ) from error
        body = expect_object(read_json(reply, purpose), purpose)
        lifetime = body.get("expires_in", body.get("ttl"))
        return Token(
            str(body.get("access_token") or body.get("id") or ""),
            float(lifetime) if isinstance(lifetime, int | float) else _LIFETIME_UNLESS_TOLD_S,
        )


def _encode(body: Any, purpose: str) -> bytes | None:
    if body is None:
        return None
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    if len(content) > MAX_BODY_BYTES:
        raise CatalogueRefusedError(
            f"SciCat cannot be asked to {purpose}: the request has {len(content):,} bytes, more than the "
            f"{MAX_BODY_BYTES:,} it takes. Lower ARCHIVER_DATABLOCK_FILES."
        )
    return content


def _headers(body: Any, merge: bool) -> dict[str, str]:
    if body is None:
        return {}
    return {"Content-Type": _MERGE_PATCH if merge else "application/json"}


def _trust(settings: CatalogueSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.scicat_ca_file)
    except OSError as error:
        raise CatalogueRefusedError(
            f"SCICAT_CA_FILE names {settings.scicat_ca_file}, which cannot be used: {error}. "
            "It must be readable and hold certificates in PEM form."
        ) from error
