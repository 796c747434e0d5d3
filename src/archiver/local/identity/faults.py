"""Fault injection: the next calls of a path answer with an error, or late. Only for tests and drills."""

import asyncio
import re
import threading
from typing import Self

import structlog
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.types import ASGIApp, Receive, Scope, Send

_log = structlog.get_logger(__name__)

CONTROL_PREFIX = "/_sim/"


class Fault(BaseModel):
    """What happens to the next `times` calls whose path holds `path_regex` (and whose method fits, if given).

    With a `status` the call is answered by that error and not carried out; with `delay_seconds` the answer,
    of whatever kind, comes that much later.
    """

    model_config = ConfigDict(extra="forbid")

    path_regex: str
    method: str | None = None
    times: int = Field(default=1, gt=0)
    status: int | None = Field(default=None, ge=400, le=599)
    delay_seconds: float = Field(default=0, ge=0)

    @field_validator("path_regex")
    @classmethod
    def _is_a_regex(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            msg = f"not a regular expression: {error}"
            raise ValueError(msg) from error
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.status is None and not self.delay_seconds:
            msg = "a fault needs a status, a delay_seconds or both"
            raise ValueError(msg)
        return self

    def fits(self, method: str, path: str) -> bool:
        """Tell whether a call is one of those meant."""
        return (self.method is None or self.method.upper() == method) and bool(re.search(self.path_regex, path))


class FaultPlan:
    """The faults still to come, oldest first. Safe to be used from several threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Put a fault behind those already planned."""
        with self._lock:
            self._faults.append(fault)

    def pending(self) -> list[Fault]:
        """Give the planned faults; `times` is what is left of each."""
        with self._lock:
            return list(self._faults)

    def clear(self) -> None:
        """Plan no fault any more."""
        with self._lock:
            self._faults = []

    def take(self, method: str, path: str) -> Fault | None:
        """Give the fault of this call and count it off, None if the call is to be answered as usual."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.fits(method, path):
                    left = fault.model_copy(update={"times": fault.times - 1})
                    self._faults[index : index + 1] = [left] if left.times else []
                    return fault
        return None


class FaultMiddleware:
    """Lets planned faults happen to every call but those of the simulator's own controls."""

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the call as planned, or pass it on."""
        fault = None
        if scope["type"] == "http" and not scope["path"].startswith(CONTROL_PREFIX):
            fault = self._plan.take(scope["method"], scope["path"])
        app = self._app
        if fault is not None:
            _log.info("fault_injected", path=scope["path"], status=fault.status, delay=fault.delay_seconds)
            await asyncio.sleep(fault.delay_seconds)
            if fault.status is not None:
                description = "For more on this error consult the server log."
                body = {"error": "unknown_error", "error_description": description}
                app = JSONResponse(body, status_code=fault.status)
        await app(scope, receive, send)
