"""What SciCat answers, its errors in all their shapes made two kinds of exception.

SciCat's error bodies come in six shapes: an object with `message` (a text or a list of texts) and
`statusCode`; one with `status` instead, whose `message` may itself be JSON; a 500 that wraps another
reply as `response`; a bare JSON string; nothing; and whatever a proxy in front of it sends.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from archiver.workflow.errors import (
    BadJobError,
    CatalogueError,
    CatalogueRefusedError,
    UnknownDatasetError,
)

_SHOWN = 400
_PASSING = {408, 425, 429}

Hook = Callable[[dict[str, Any]], Any]


class FailedCallError(CatalogueError):
    """SciCat could not be reached, or failed itself. `status` is None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RefusedCallError(CatalogueRefusedError):
    """SciCat refused a call with `status`, saying `reason`."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def is_about_the_route(self) -> bool:
        """The path itself is unknown to the server, not the thing it names."""
        return self.status == 404 and (not self.reason or self.reason.startswith(("Cannot ", "<")))


def _texts(message: Any) -> list[str]:
    """The texts in a `message`: a text, JSON in a text, a list, or constraints of a nested validation."""
    if isinstance(message, str):
        if message.lstrip()[:1] in ("[", "{"):
            try:
                return _texts(json.loads(message)) or [message]
            except ValueError:
                pass
        return [message]
    if isinstance(message, list):
        return [text for item in message for text in _texts(item)]
    if isinstance(message, dict):
        found = [str(text) for text in (message.get("constraints") or {}).values()]
        return found + [text for child in message.get("children") or [] for text in _texts(child)]
    return []


def _read_object(body: dict[str, Any], status: int) -> tuple[int, str]:
    wrapped = body.get("response")
    if isinstance(wrapped, dict):
        inner = body.get("status")
        return _read_object(wrapped, inner if isinstance(inner, int) else status)
    code = body.get("statusCode", body.get("status"))
    texts = _texts(body.get("message"))
    if isinstance(details := body.get("error"), str) and details.startswith("["):
        texts.append(details)
    return code if isinstance(code, int) else status, "; ".join(texts)


def read_error(reply: httpx.Response) -> tuple[int, str]:
    """The status that is meant (a wrapped one where there is one) and the reason, at most 400 characters."""
    status, reason = reply.status_code, reply.text.strip()
    try:
        body = reply.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        status, reason = _read_object(body, status)
    elif isinstance(body, str):
        reason = body
    return status, reason[:_SHOWN]


def meant_status(reply: httpx.Response) -> int:
    """The reply's status, or the one it wraps."""
    return reply.status_code if reply.is_success else read_error(reply)[0]


def raise_for_error(reply: httpx.Response, purpose: str) -> None:
    """Nothing for a reply of success.

    Args:
        purpose: what was asked for, as it completes "SciCat failed to …".

    Raises:
        FailedCallError: SciCat failed; another try may do.
        RefusedCallError: SciCat refused.
    """
    if reply.is_success:
        return
    status, reason = read_error(reply)
    if status >= 500 or status in _PASSING:
        raise FailedCallError(
            f"SciCat failed to {purpose}: {status} {reason or reply.reason_phrase}. "
            "If it lasts, look at SciCat's own log.",
            status,
        )
    error = RefusedCallError(f"SciCat refused to {purpose}: {status} {reason}.", status, reason)
    if error.is_about_the_route or reply.is_redirect:
        error = RefusedCallError(
            f"SciCat refused to {purpose}: {status}, there is no {reply.request.url.path}. "
            "Check SCICAT_ENDPOINT, SCICAT_API_PREFIX and SCICAT_JOBS_API_PREFIX.",
            status,
            reason,
        )
    elif status in (401, 403):
        error = RefusedCallError(
            f"SciCat refused to {purpose}: {status} {reason}. Check the rights of SCICAT_USER's groups.",
            status,
            reason,
        )
    raise error


def read_json(reply: httpx.Response, purpose: str, hook: Hook | None = None) -> Any:
    """The body of a reply of success; None where SciCat sends none, as it does for "nothing found".

    Args:
        hook: called for each object in the body; what it gives takes the object's place.

    Raises:
        RefusedCallError: the body is not JSON, as from a web page in the API's place.
    """
    if not reply.content:
        return None
    try:
        return json.loads(reply.content, object_hook=hook)
    except ValueError as error:
        raise RefusedCallError(
            f"SciCat was asked to {purpose} and answered with something that is not JSON: "
            f"{reply.text[:80]!r}. Check SCICAT_ENDPOINT and SCICAT_API_PREFIX.",
            reply.status_code,
            "",
        ) from error


def expect_object(value: Any, purpose: str) -> dict[str, Any]:
    """`value`, which must be a JSON object.

    Raises:
        CatalogueRefusedError: it is something else.
    """
    if not isinstance(value, dict):
        raise CatalogueRefusedError(
            f"SciCat was asked to {purpose} and answered with {type(value).__name__} instead of an object. "
            "Check that this version of SciCat is supported."
        )
    return value


def expect_list(value: Any, purpose: str) -> list[Any]:
    """`value`, which must be a JSON array.

    Raises:
        CatalogueRefusedError: it is something else.
    """
    if not isinstance(value, list):
        raise CatalogueRefusedError(
            f"SciCat was asked to {purpose} and answered with {type(value).__name__} instead of a list. "
            "Check that this version of SciCat is supported."
        )
    return value


@contextmanager
def unknown_dataset(pid: str) -> Iterator[None]:
    """What SciCat does not find within is the data set.

    Raises:
        UnknownDatasetError: in place of a 404.
    """
    try:
        yield
    except RefusedCallError as error:
        if error.status == 404 and not error.is_about_the_route:
            raise UnknownDatasetError(
                f"SciCat does not know the data set {pid}. Check its pid, and that it was ingested."
            ) from error
        raise


@contextmanager
def unknown_job(job_id: str) -> Iterator[None]:
    """What SciCat does not find within is the job; it says so with 400.

    Raises:
        BadJobError: in place of a 400 or 404.
    """
    try:
        yield
    except RefusedCallError as error:
        if error.status in (400, 404) and not error.is_about_the_route:
            raise BadJobError(f"SciCat does not know the job {job_id}: {error.reason}. Check the job's id.") from error
        raise
