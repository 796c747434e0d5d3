"""The simulated identity provider as an ASGI application.

Under /realms/{realm} it answers like Keycloak. Under /_sim are controls no real one has, unprotected by
design: `POST /_sim/rotate-keys[?drop_old=true]`, `POST /_sim/revoke-sessions[?username=]`, and faults
(`POST`, `GET`, `DELETE /_sim/faults`, see `archiver.local.identity.faults.Fault`).
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from archiver.local.identity.config import IdentityConfig
from archiver.local.identity.controls import control_routes
from archiver.local.identity.errors import OAuthError
from archiver.local.identity.faults import FaultMiddleware, FaultPlan
from archiver.local.identity.files import private_folder
from archiver.local.identity.grants import Realm
from archiver.local.identity.keys import KeyRing
from archiver.local.identity.login import login_routes
from archiver.local.identity.routes import realm_routes
from archiver.local.identity.sessions import SessionStore
from archiver.local.identity.tokens import Clock, TokenMint


def create_identity(
    config: IdentityConfig,
    *,
    data: Path | None = None,
    issuer_url: str | None = None,
    clock: Clock = time.time,
) -> FastAPI:
    """Give the application of one realm.

    `data` is the folder that keeps keys and sessions across a restart (None: in memory); `issuer_url` is the
    public base URL, where it is not the one callers use; `clock` gives Unix seconds. Raises OSError if the
    folder cannot be used.
    """
    folder = None if data is None else private_folder(data)
    keys = KeyRing.in_folder(folder)
    sessions = SessionStore.in_folder(folder)
    faults = FaultPlan()
    realm = Realm(config, sessions, TokenMint(config, keys, clock))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        sessions.close()

    app = FastAPI(title="Identity provider simulator", lifespan=lifespan)
    app.include_router(realm_routes(config, realm, keys, issuer_url))
    app.include_router(login_routes(config, realm))
    app.include_router(control_routes(keys, sessions, faults))
    app.add_middleware(FaultMiddleware, plan=faults)

    @app.exception_handler(OAuthError)
    async def answer_error(_: Request, error: OAuthError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    return app
