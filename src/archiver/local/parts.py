"""What a part of the embedded stack is: a program, when it may start, and how one knows that it is ready."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

Probe = Callable[[httpx.AsyncClient], Awaitable[bool]]
"""Tells whether a part is ready; False as long as it is not. The client is shared by all probes."""


@dataclass(frozen=True)
class Part:
    """A program of the stack."""

    name: str
    command: tuple[str, ...]
    environment: Callable[[], Mapping[str, str]]
    """Its whole environment, asked for when it starts: the parts it comes after are ready then."""
    after: tuple[str, ...] = ()
    """Parts that must be ready before it starts, and must stay until it has ended."""
    ready: Callable[[], Probe] | None = None
    """Makes a probe at each start. None: the part is a job that has to end with exit code 0; then it is done."""
    url: str = ""
    working_folder: Path | None = None
    ready_within_s: float = 120.0
    end_within_s: float = 15.0
    """How long it may take to end after SIGTERM before it is killed, seconds."""

    @property
    def is_job(self) -> bool:
        """Tell whether it runs once and ends by itself."""
        return self.ready is None


@dataclass(frozen=True)
class HttpProbe:
    """Ready when a GET (or, with a body, a POST) of `url` answers 200 and `accept` likes what it says."""

    url: str
    auth: tuple[str, str] | None = None
    body: Mapping[str, object] | None = None
    accept: Callable[[object], bool] | None = field(default=None, compare=False)

    async def __call__(self, client: httpx.AsyncClient) -> bool:
        """Ask once."""
        method = "GET" if self.body is None else "POST"
        request = client.build_request(method, self.url, json=self.body)
        auth = httpx.BasicAuth(*self.auth) if self.auth else None
        try:
            answer = await client.send(request, auth=auth)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK and (self.accept is None or self.accept(answer.json()))


@dataclass(frozen=True)
class CallProbe:
    """Ready when `ask` says so; it may block for a while."""

    ask: Callable[[], bool]

    async def __call__(self, client: httpx.AsyncClient) -> bool:
        """Ask once."""
        return await asyncio.to_thread(self.ask)


def new_file_probe(file: Path) -> CallProbe:
    """Ready when the part has written `file`; one that an earlier start left is removed."""
    file.unlink(missing_ok=True)
    return CallProbe(file.exists)
