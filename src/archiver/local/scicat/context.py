"""What every handler works with: the running catalogue, one call to it, one reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from starlette.concurrency import run_in_threadpool

from archiver.local.scicat.accounts import Accounts
from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.errors import forbidden_endpoint
from archiver.local.scicat.hooks import Hooks
from archiver.local.scicat.rights import Caller, Rights
from archiver.local.scicat.store import Store
from archiver.local.scicat.tokens import Tokens
from archiver.local.scicat.values import dumps, now, object_ids

_Result = TypeVar("_Result")
Version = Literal[3, 4]


class Catalogue:
    """One simulated catalogue: its configuration, documents, accounts and outgoing calls."""

    def __init__(self, config: ScicatConfig) -> None:
        self.config = config
        self.started: datetime = now()
        self.store = Store(config.data_folder)
        with self.store.transaction():
            secret = self.store.secret()
        self.accounts = Accounts(config, Tokens(secret))
        self.hooks = Hooks(config.hook_timeout_seconds)
        self.object_ids: Iterator[str] = object_ids()

    async def transact(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Do ``work`` in a thread as one transaction, so that the event loop goes on serving others."""

        def inside() -> _Result:
            with self.store.transaction():
                return work(*arguments)

        return await run_in_threadpool(inside)

    async def close(self) -> None:
        """Close the connections and the file of documents."""
        await self.hooks.close()
        self.store.close()


@dataclass(frozen=True)
class Reply:
    """A status and JSON text; no text means an empty body."""

    text: str | None
    status: int = 200

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Reply:
        """A reply whose body is ``value`` as JSON; None gives an empty body, as the backend does."""
        return cls(None if value is None else dumps(value), status)


@dataclass(frozen=True)
class Call:
    """One request, its path's parameters decoded, its body parsed (``{}`` if there was none)."""

    catalogue: Catalogue
    version: Version
    caller: Caller | None
    params: Mapping[str, str]
    query: Mapping[str, str]
    query_lists: Callable[[str], list[str]]
    headers: Mapping[str, str]
    body: Any
    merge_patch: bool
    rights: Rights = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rights", Rights(self.caller, self.catalogue.config.groups))

    @property
    def store(self) -> Store:
        """The catalogue's documents."""
        return self.catalogue.store

    @property
    def username(self) -> str:
        """The caller's user name, or ``anonymous``."""
        return "anonymous" if self.caller is None else self.caller.username

    def signed_in(self) -> Caller:
        """The caller; raises the 403 of a guarded endpoint for an anonymous one."""
        if self.caller is None:
            raise forbidden_endpoint()
        return self.caller

    def allow(self, permitted: bool) -> None:
        """Raise the 403 of a guarded endpoint unless ``permitted``."""
        if not permitted:
            raise forbidden_endpoint()


Handler = Callable[[Call], Reply]
AsyncHandler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """Where a handler is served: ``path`` under ``/api/v3``, ``/api/v4`` or both.

    A plain handler runs as one transaction in a thread; an async one arranges its transactions itself.
    """

    versions: tuple[Version, ...]
    method: str
    path: str
    handler: Handler | AsyncHandler


V3: tuple[Version, ...] = (3,)
V4: tuple[Version, ...] = (4,)
BOTH: tuple[Version, ...] = (3, 4)
