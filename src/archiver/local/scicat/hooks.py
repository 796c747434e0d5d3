"""The ``url`` actions of jobs on the wire: what the backend sends, and what its caller sees of the answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import structlog

from archiver.local.scicat.config import Action, UrlAction
from archiver.local.scicat.errors import hand_made
from archiver.local.scicat.templates import Template

_log = structlog.get_logger(__name__)

_CLIENT_HEADERS = {
    "accept": "*/*",
    "accept-language": "*",
    "sec-fetch-mode": "cors",
    "user-agent": "node",
    "accept-encoding": "gzip, deflate",
}


class Hooks:
    """Makes the calls. There is no retry, as in the real backend."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def perform(self, actions: Iterable[Action], context: Mapping[str, Any]) -> None:
        """Call each ``url`` action in turn; the first that fails ends the request with its status.

        ``context`` has the keys ``job`` and ``request``. The job is stored already and stays as it is.
        """
        for action in actions:
            if isinstance(action, UrlAction):
                await self._call(action, {**context, "env": os.environ})

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _call(self, action: UrlAction, context: Mapping[str, Any]) -> None:
        log = _log.bind(job=context["job"]["id"], url=action.url)
        started = time.monotonic()
        try:
            response = await self._opened().send(self._request(action, context), follow_redirects=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            log.warning("scicat.hook_unreachable", reason=str(error) or type(error).__name__)
            if not action.ignore_errors:
                raise hand_made(400, "The job's URL action could not be carried out: fetch failed") from error
            return
        log.info("scicat.hook_called", status=response.status_code, seconds=round(time.monotonic() - started, 3))
        if not response.is_success and not action.ignore_errors:
            raise hand_made(response.status_code, f"The job's URL action was answered with an error: {response.text}")

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout, headers=_CLIENT_HEADERS, trust_env=False)
        return self._client

    def _request(self, action: UrlAction, context: Mapping[str, Any]) -> httpx.Request:
        headers = {name.lower(): Template(value).render(context) for name, value in action.headers.items()}
        content = None if action.body is None else Template(action.body).render(context).encode()
        if content is not None:
            headers.setdefault("content-type", "text/plain;charset=UTF-8")
        return self._opened().build_request(
            action.method, Template(action.url).render(context), headers=headers, content=content
        )
