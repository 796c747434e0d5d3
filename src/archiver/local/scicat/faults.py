"""Faults on demand: the next calls that match fail, hang or lose their connection.

Only the simulator has this; no SciCat does. See ``control`` for the endpoints that arm faults.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archiver.local.scicat.connections import Connections
from archiver.local.scicat.errors import refused, unhandled
from archiver.local.scicat.routing import raw_error

_log = structlog.get_logger(__name__)

CONTROL_PREFIX = "/_sim/"


class Fault(BaseModel):
    """What goes wrong with matching calls.

    - ``method`` (null: any) and ``path_regex`` (searched in the path as it was sent, percent-encoded, without the
      query) say which calls;
    - the first ``skip`` of them pass, then ``times`` fail (null: until the fault is removed);
    - the call is held for ``delay_seconds``, then answered with ``status`` (and ``body``, or the backend's usual
      one), or its connection is dropped without a reply; with neither it is only late;
    - ``after_effect``: the call is carried out first, what fails is its reply.
    """

    model_config = ConfigDict(extra="forbid")

    method: str | None = None
    path_regex: str = ""
    skip: int = Field(0, ge=0)
    times: int | None = Field(1, ge=1)
    delay_seconds: float = Field(0.0, ge=0)
    status: int | None = Field(None, ge=400, le=599)
    body: Any = None
    drop_connection: bool = False
    after_effect: bool = False

    @field_validator("path_regex")
    @classmethod
    def _is_a_regex(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Fault:
        if self.status is None and not self.drop_connection and not self.delay_seconds:
            raise ValueError("give status, drop_connection or delay_seconds")
        if self.status is not None and self.drop_connection:
            raise ValueError("a dropped connection has no status")
        return self

    def matches(self, method: str, path: str) -> bool:
        """Whether this call is one that is meant."""
        if self.method is not None and self.method.upper() != method:
            return False
        return re.search(self.path_regex, path) is not None


class ArmedFault(BaseModel):
    """A fault that waits for calls: how many it let pass and how many it made fail so far."""

    id: int
    fault: Fault
    passed: int = 0
    fired: int = 0

    @property
    def spent(self) -> bool:
        """Whether it will do nothing any more."""
        return self.fault.times is not None and self.fired >= self.fault.times


class Faults:
    """The armed faults, oldest first; the first that matches a call decides."""

    def __init__(self) -> None:
        self._armed: list[ArmedFault] = []
        self._ids = itertools.count(1)

    def arm(self, fault: Fault) -> ArmedFault:
        """Let ``fault`` wait for calls."""
        armed = ArmedFault(id=next(self._ids), fault=fault)
        self._armed.append(armed)
        return armed

    def all(self) -> list[ArmedFault]:
        """Every fault that was armed and not removed, spent ones included."""
        return list(self._armed)

    def remove(self, fault_id: int | None = None) -> int:
        """Remove one fault, or all; gives how many there were."""
        kept = [] if fault_id is None else [armed for armed in self._armed if armed.id != fault_id]
        removed = len(self._armed) - len(kept)
        self._armed = kept
        return removed

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this call, counted as fired; None if the call may pass."""
        for armed in self._armed:
            if armed.spent or not armed.fault.matches(method, path):
                continue
            if armed.passed < armed.fault.skip:
                armed.passed += 1
                continue
            armed.fired += 1
            return armed.fault
        return None


class FaultInjection:
    """Middleware that lets armed faults happen."""

    def __init__(self, app: ASGIApp, faults: Faults, connections: Connections) -> None:
        self._app = app
        self._faults = faults
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            await self._app(scope, receive, send)
            return
        path = (scope.get("raw_path") or scope["path"].encode()).split(b"?")[0].decode("latin-1")
        fault = self._faults.take(scope["method"], path)
        if fault is None:
            await self._app(scope, receive, send)
            return
        _log.info(
            "scicat.fault",
            method=scope["method"],
            path=path,
            status=fault.status,
            delay_seconds=fault.delay_seconds,
            dropped=fault.drop_connection,
            after_effect=fault.after_effect,
        )
        if fault.after_effect:
            await self._spoil_reply(fault, scope, receive, send)
        else:
            await asyncio.sleep(fault.delay_seconds)
            if fault.drop_connection or fault.status is not None:
                await self._fail(fault, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    async def _spoil_reply(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        reply: list[Message] = []

        async def keep(message: Message) -> None:
            reply.append(message)

        await self._app(scope, receive, keep)
        await asyncio.sleep(fault.delay_seconds)
        if fault.drop_connection or fault.status is not None:
            await self._fail(fault, scope, receive, send)
            return
        for message in reply:
            await send(message)

    async def _fail(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.drop_connection:
            self._connections.cut(scope.get("client"))
            # The server takes the call for failed, and answers it, unless it has seen the connection go.
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if not fault.after_effect:
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
        assert fault.status is not None  # noqa: S101 - checked by the callers
        body = fault.body
        if body is None:
            body = unhandled().body if fault.status == 500 else refused(fault.status, "Injected fault").body
        await raw_error(fault.status, body)(scope, receive, send)
