"""Calls to a server: its answer, or an error that quotes it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx
import stamina

from archiver.local.ingestor.errors import ServerRefusedError, ServerUnreachableError

T = TypeVar("T")

TRIES = 10
PATIENCE_S = 120.0
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}
_QUOTED = 500


def what_it_says(response: httpx.Response) -> str:
    """The reason in an error's body, whatever its shape, with the status."""
    try:
        body: Any = response.json()
    except ValueError:
        body = response.text
    if isinstance(body, dict):
        told = [body.get("message"), body.get("details") or body.get("detail") or body.get("error")]
        body = ": ".join(str(part) for part in told if part) or body
    return f"{response.status_code} {response.reason_phrase}: {str(body)[:_QUOTED]}"


def send(
    http: httpx.Client,
    method: str,
    url: str,
    *,
    what: str,
    expect: tuple[int, ...],
    headers: Mapping[str, str] | None = None,
    **content: Any,
) -> httpx.Response:
    """The answer to one request, when its status is one of `expect`.

    `what` says in an error what was tried; `content` is what httpx takes as a body.

    Raises:
        ServerUnreachableError: no answer, or one that may be another in a moment.
        ServerRefusedError: any other answer.
    """
    try:
        response = http.request(method, url, headers=headers, **content)
    except httpx.RequestError as error:
        raise ServerUnreachableError(
            f"{what}: no answer ({type(error).__name__} {error}). Check that the server runs."
        ) from error
    if response.status_code in expect:
        return response
    kind = ServerUnreachableError if response.status_code in _MAY_PASS else ServerRefusedError
    raise kind(f"{what}: the server answered {what_it_says(response)}")


def with_patience(work: Callable[[], T]) -> T:
    """`work`, tried again while a server is unreachable; then that error. Only for what may be done twice."""
    for attempt in stamina.retry_context(
        on=ServerUnreachableError, attempts=TRIES, timeout=PATIENCE_S, wait_initial=0.5, wait_max=15
    ):
        with attempt:
            result = work()
    return result
