"""Every error as JSON: `code`, `message`, `details`, `timestamp`, `request_id`.

A client in the field knows only 201, 422 and 500 on some routes, and takes anything else for success or dies of
it. There, errors of the request answer 422 and errors of the service 500; everywhere else the fitting status.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from archiver.backend.request_ids import HEADER
from archiver.workflow.errors import (
    ArchiverError,
    BadJobError,
    DatasetBusyError,
    TransientError,
    UnknownDatasetError,
    UserError,
)
from archiver.workflow.ledger.errors import (
    LargerThanLandingZoneError,
    NoLandingSpaceError,
    NoOpenUploadError,
    OverReservationError,
    UploadFinalizedError,
    UploadOpenError,
)

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 30
FAILED = {
    "create_job": "Failed to create job",
    "create_new_service_token": "Failed to create a service token",
    "request_dataset_upload": "Failed to request the upload",
    "get_presigned_urls": "Failed to get presigned urls",
    "complete_upload": "Failed to complete upload",
    "abort_multipart_upload": "Failed to abort multipart upload",
    "FinalizeDatasetUpload": "Failed to finalize dataset",
    "AbortDatasetUpload": "Failed to abort the upload",
}
"""`message` by operation id."""
NARROW = {"get_presigned_urls", "complete_upload"}
"""Operations whose client knows only 201, 422 and 500."""


class NotAuthenticatedError(UserError):
    """Nobody, or nobody we know, is asking."""

    code = "not-authenticated"

    def __init__(self, message: str, *schemes: str) -> None:
        self.challenge = ", ".join(schemes)
        super().__init__(message)


class ForbiddenError(UserError):
    """The one who asks must not do this."""

    code = "forbidden"


class AlreadyArchivedError(UserError):
    """The data set is in the archive; nothing can be uploaded for it or taken back."""

    code = "already-archived"


class NoSpaceForDatasetError(TransientError):
    """The answer to an upload that must wait for space."""

    code = NoLandingSpaceError.code

    def __init__(self, pid: str, requested_gib: int, reason: str) -> None:
        self.pid = pid
        self.requested_gib = requested_gib
        super().__init__(reason)


_STATUS: Sequence[tuple[type[ArchiverError], HTTPStatus]] = (
    (NotAuthenticatedError, HTTPStatus.UNAUTHORIZED),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (UnknownDatasetError, HTTPStatus.NOT_FOUND),
    (AlreadyArchivedError, HTTPStatus.CONFLICT),
    (UploadOpenError, HTTPStatus.CONFLICT),
    (UploadFinalizedError, HTTPStatus.CONFLICT),
    (NoOpenUploadError, HTTPStatus.CONFLICT),
    (DatasetBusyError, HTTPStatus.CONFLICT),
    (LargerThanLandingZoneError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (OverReservationError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (BadJobError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NoSpaceForDatasetError, HTTPStatus.INSUFFICIENT_STORAGE),
    (UserError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ArchiverError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""The first that fits counts."""


def status_of(error: ArchiverError) -> HTTPStatus:
    """The HTTP status that tells this error best."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def request_id(request: Request) -> str:
    """Id of a request; empty outside the application."""
    return str(getattr(request.state, "request_id", ""))


def _operation(request: Request) -> str:
    return str(getattr(request.scope.get("route"), "operation_id", "") or "")


def _narrowed(operation: str, status: HTTPStatus) -> HTTPStatus:
    if operation not in NARROW or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return status
    return HTTPStatus.UNPROCESSABLE_ENTITY if status < 500 else HTTPStatus.INTERNAL_SERVER_ERROR


def _answer(
    request: Request,
    status: HTTPStatus,
    code: str,
    message: str,
    details: str,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body = {
        "code": code,
        "message": message,
        "details": details,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "request_id": request_id(request),
        **(more or {}),
    }
    return JSONResponse(body, int(status), headers=dict(headers or {}))


async def answer_archiver_error(request: Request, error: Exception) -> Response:
    """The answer for what the service raises on purpose."""
    assert isinstance(error, ArchiverError)  # noqa: S101  # registered for this type
    operation = _operation(request)
    status = _narrowed(operation, status_of(error))
    details = str(error)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, NotAuthenticatedError) and error.challenge:
        headers["WWW-Authenticate"] = error.challenge
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if status is HTTPStatus.UNPROCESSABLE_ENTITY:
        more["detail"] = [{"loc": ["body"], "msg": details, "type": error.code}]
    if isinstance(error, NoSpaceForDatasetError):
        more |= {"dataset_id": error.pid, "requested_size_gib": error.requested_gib}
        message = f"Not enough free space for dataset {error.pid}"
    else:
        message = FAILED.get(operation, status.phrase)
    tell = log.error if status is HTTPStatus.INTERNAL_SERVER_ERROR else log.warning
    tell("request_refused", code=error.code, operation=operation, details=details, status=int(status))
    return _answer(request, status, error.code, message, details, more, headers)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """422 with FastAPI's list in `detail`."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this type
    problems = [
        {"loc": list(problem["loc"]), "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()
    ]
    details = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    more = {"detail": jsonable_encoder(problems)}
    return _answer(
        request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "The request is not valid", details, more
    )


async def answer_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.BAD_REQUEST:
        # The framework's only 400: a body that is not even text. Other bad bodies are 422, and clients expect it.
        problem = {"type": "json_invalid", "loc": ["body"], "msg": "The body cannot be read as JSON in UTF-8"}
        return await answer_validation_error(request, RequestValidationError([problem]))
    code = status.phrase.lower().replace(" ", "-")
    return _answer(request, status, code, status.phrase, str(error.detail), headers=error.headers)


async def answer_bug(request: Request, error: Exception) -> Response:
    """500 for what nobody foresaw. The cause is in the log only; the framework logs the traceback."""
    log.error("unforeseen_error", error=repr(error), path=request.url.path, request_id=request_id(request))
    status = _narrowed(_operation(request), HTTPStatus.INTERNAL_SERVER_ERROR)
    message = FAILED.get(_operation(request), status.phrase)
    details = f"The service made a mistake. Tell its operators the request id {request_id(request)}."
    return _answer(request, status, "internal-error", message, details, headers={HEADER: request_id(request)})


def answer_errors(app: FastAPI) -> None:
    """Registers the answers above."""
    app.add_exception_handler(ArchiverError, answer_archiver_error)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_bug)
