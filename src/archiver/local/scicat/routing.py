"""From an HTTP request to a handler and back, with the transport habits of the real backend.

Paths are matched without regard to case, a trailing slash is tolerated, and ids stay percent-encoded until a
handler's parameters are made, so that a pid with an unencoded slash finds no route.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, cast
from urllib.parse import parse_qsl, unquote

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from archiver.local.scicat.context import AsyncHandler, Call, Catalogue, Handler, Reply, Route, Version
from archiver.local.scicat.errors import ApiError, refused, unhandled
from archiver.local.scicat.values import dumps

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_FORM = "application/x-www-form-urlencoded"


class RawPath:
    """Middleware: routes see the path as it was sent, without a trailing slash, fixed words in one spelling."""

    def __init__(self, app: ASGIApp, words: Iterable[str]) -> None:
        self._app = app
        self._spelling = {word.lower(): word for word in words}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            raw = cast("bytes", scope.get("raw_path") or scope["path"].encode()).split(b"?")[0].decode("latin-1")
            if raw.lower().startswith("/api/"):
                parts = raw.rstrip("/").split("/")
                path = "/".join(self._spelling.get(part.lower(), part) for part in parts)
                scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def add_routes(app: FastAPI, catalogue: Catalogue, routes: Iterable[Route]) -> set[str]:
    """Serve every route; gives the fixed words of their paths."""
    words = {"api", "v3", "v4"}
    for route in routes:
        words |= {part for part in route.path.split("/") if part and not part.startswith("{")}
        for version in route.versions:
            app.add_api_route(
                f"/api/v{version}{route.path}",
                _endpoint(catalogue, route.handler, version),
                methods=[route.method],
                include_in_schema=False,
                response_model=None,
            )
    return words


def add_error_replies(app: FastAPI) -> None:
    """Give refusals and unknown paths the backend's bodies."""

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for this type only
        return json_response(Reply.of(error.body, error.status))

    async def no_route(request: Request, error: Exception) -> Response:
        raw = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
        return json_response(Reply.of(refused(404, f"Cannot {request.method} {raw}").body, 404))

    async def uncaught(request: Request, error: Exception) -> Response:
        return json_response(Reply.of(unhandled().body, 500))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(Exception, uncaught)
    app.add_exception_handler(HTTPException, no_route)


def json_response(reply: Reply) -> Response:
    """The response of a reply."""
    if reply.text is None:
        return Response(status_code=reply.status)
    return Response(reply.text.encode(), status_code=reply.status, media_type="application/json; charset=utf-8")


def _endpoint(
    catalogue: Catalogue, handler: Handler | AsyncHandler, version: Version
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await _read(request, catalogue.config.body_limit_bytes)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        call = Call(
            catalogue=catalogue,
            version=version,
            caller=catalogue.accounts.of_request(request.headers, request.query_params),
            params={name: _decoded(value) for name, value in request.path_params.items()},
            query=request.query_params,
            query_lists=request.query_params.getlist,
            headers=request.headers,
            body=_parse(body, kind),
            merge_patch=kind == _MERGE_PATCH,
        )
        if inspect.iscoroutinefunction(handler):
            return json_response(await cast("AsyncHandler", handler)(call))
        return json_response(await catalogue.transact(cast("Handler", handler), call))

    return endpoint


async def _read(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    if size > limit:
        raise unhandled()
    return b"".join(chunks)


def _parse(body: bytes, kind: str) -> Any:
    if not body or kind not in {_JSON, _MERGE_PATCH, _FORM}:
        return {}
    try:
        text = body.decode()
        if kind == _FORM:
            return dict(parse_qsl(text, keep_blank_values=True))
        parsed = json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise refused(400, f"The body is no JSON: {error}") from error
    if not isinstance(parsed, dict | list):
        raise refused(400, "The body must be a JSON object or array")
    return parsed


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _decoded(part: str) -> str:
    try:
        if not _BAD_ESCAPE.search(part):
            return unquote(part, errors="strict")
    except UnicodeDecodeError:
        pass
    raise refused(400, f"Failed to decode param '{part}'")


def raw_error(status: int, body: Any) -> Response:
    """A response that is no handler's: a fault that was asked for."""
    return Response(dumps(body).encode(), status_code=status, media_type="application/json; charset=utf-8")
