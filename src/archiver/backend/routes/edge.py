"""/s3/edge: bodies streamed on to the landing storage.

Answers are S3's own, or look like them: whoever sends to a presigned URL expects them.
"""

import base64
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from xml.sax.saxutils import escape

import structlog
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from archiver.backend.context import Context, ContextDep
from archiver.backend.edge.stream import StreamError, WrongLengthError
from archiver.backend.edge.urls import PATH, BadTicketError, ExpiredTicketError, Ticket
from archiver.backend.errors import request_id, status_of
from archiver.backend.uploads import LARGEST_PART
from archiver.workflow.errors import ArchiverError
from archiver.workflow.ledger.errors import OverReservationError

log = structlog.get_logger(__name__)

router = APIRouter(tags=["upload_edge"])

CHECKSUM_HEADER = "x-amz-checksum-sha256"
_HANDED_BACK = ("etag", CHECKSUM_HEADER, "content-type", "x-amz-request-id", "retry-after")
_SIZE = re.compile(r"[0-9]{1,15}")
_XML = "application/xml"


class _RefusedError(Exception):
    """What is wrong with a PUT before S3 is asked, as S3 would say it."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


def _refusal(error: ArchiverError) -> _RefusedError:
    if isinstance(error, BadTicketError | ExpiredTicketError):
        return _RefusedError(HTTPStatus.FORBIDDEN, "AccessDenied", str(error))
    if isinstance(error, OverReservationError):
        return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "EntityTooLarge", str(error))
    status = status_of(error)
    code = {HTTPStatus.CONFLICT: "OperationAborted", HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable"}
    return _RefusedError(status, code.get(status, "InternalError"), str(error))


@router.put(
    PATH + "/{ticket}",
    operation_id="put_through_edge",
    summary="Send an object or a part",
    response_class=Response,
    responses={
        200: {"description": "Stored; the ETag is in the header"},
        400: {"description": "Refused by S3, or the checksum is malformed", "content": {_XML: {}}},
        403: {"description": "The URL is not good any more, or never was", "content": {_XML: {}}},
        409: {"description": "The data set has no open upload", "content": {_XML: {}}},
        411: {"description": "Content-Length is missing", "content": {_XML: {}}},
        413: {"description": "More than was reserved", "content": {_XML: {}}},
        "4XX": {"description": "Refused by S3 for another reason", "content": {_XML: {}}},
        503: {"description": "Try again", "content": {_XML: {}}},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_through_edge(request: Request, context: ContextDep, ticket: str) -> Response:
    """Stream the body of a PUT to a URL that /s3/presignedUrls gave on to S3."""
    try:
        return await _pass_on(request, context, ticket)
    except _RefusedError as error:
        refused = error
    except ArchiverError as error:
        refused = _refusal(error)
    except WrongLengthError as error:
        refused = _RefusedError(HTTPStatus.BAD_REQUEST, "IncompleteBody", str(error))
    except ClientDisconnect:
        # Nobody reads this answer; S3's connection is already dropped, so nothing is stored.
        refused = _RefusedError(HTTPStatus.BAD_REQUEST, "RequestTimeout", "The client went away.")
    except StreamError as error:
        refused = _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", f"{error} Try again.")
    log.warning("edge_refused", code=refused.code, details=str(refused), status=int(refused.status))
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refused.code}</Code><Message>{escape(str(refused))}</Message>"
        f"<RequestId>{escape(request_id(request))}</RequestId></Error>"
    )
    return Response(body, int(refused.status), media_type=_XML)


async def _pass_on(request: Request, context: Context, text: str) -> Response:
    ticket = context.office.read(text)
    size = _announced_size(request)
    checksum = _checksum(request)
    bucket = context.config.store.s3_landingzone_bucket
    await context.lanes.edge.run(lambda: context.ledger.hold_object(ticket.pid, ticket.key, ticket.part, size))
    async with context.streamer.slot():
        signed = context.store.signed_put(
            bucket,
            ticket.key,
            size=size,
            upload_id=ticket.upload_id or None,
            part=ticket.part or None,
            checksum_sha256=checksum,
        )
        answer = await context.streamer.put(signed.url, signed.headers, size, _counted(request, context))
    if answer.status >= 400:
        log.warning("edge_put_refused_by_s3", status=answer.status, **_described(ticket), body=answer.body[:500])
    headers = {name: answer.headers[name] for name in _HANDED_BACK if name in answer.headers}
    return Response(answer.body, answer.status, headers=headers)


def _described(ticket: Ticket) -> dict[str, str | int]:
    return {"pid": ticket.pid, "key": ticket.key, "part": ticket.part}


def _announced_size(request: Request) -> int:
    length = request.headers.get("content-length", "")
    if not _SIZE.fullmatch(length):
        raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "MissingContentLength", "Send Content-Length.")
    if int(length) > LARGEST_PART:
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST, "EntityTooLarge", "At most 5 GiB can be sent at once. Ask for more parts."
        )
    return int(length)


def _checksum(request: Request) -> str | None:
    checksum = request.headers.get(CHECKSUM_HEADER)
    if checksum is None:
        return None
    try:
        digest = base64.b64decode(checksum, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "InvalidDigest", f"{CHECKSUM_HEADER} is no SHA-256 in base64.")
    return checksum


async def _counted(request: Request, context: Context) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        context.metrics.edge_bytes.inc(len(chunk))
        yield chunk
