"""/status: a page for operators, and the login to it."""

from typing import Annotated

from fastapi import APIRouter, Cookie, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from archiver.backend.context import Context, ContextDep
from archiver.backend.errors import NotAuthenticatedError
from archiver.backend.status.login import LOGIN_S, SESSION_S
from archiver.backend.status.page import HEADERS, describe, render
from archiver.workflow.overview import Limits, look

router = APIRouter(include_in_schema=False)

SESSION_COOKIE = "archiver_session"
LOGIN_COOKIE = "archiver_login"


def _path(context: Context, route: str) -> str:
    return context.config.api.api_root_path.rstrip("/") + route


def _keep(context: Context, answer: Response, name: str, value: str, lifetime_s: int) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=lifetime_s,
        path=_path(context, "/"),
        secure=context.config.public_url.startswith("https:"),
        httponly=True,
        # Lax, not strict: the browser comes back from Keycloak, another site.
        samesite="lax",
    )


def _drop(context: Context, answer: Response, name: str) -> None:
    answer.delete_cookie(name, path=_path(context, "/"), httponly=True, samesite="lax")


@router.get("/status")
async def status(context: ContextDep, archiver_session: Annotated[str | None, Cookie()] = None) -> Response:
    """Show how the service is doing; outside development to operators only."""
    user = ""
    if context.config.asks_operators_to_log_in:
        session = context.login.sessions.open(archiver_session)
        if session is None:
            return RedirectResponse(_path(context, "/login"), 303, headers={"Cache-Control": "no-store"})
        user = session["user"]
    config = context.config
    limits = Limits.of(config.landing, config.store, config.lts, config.archiving, config.fixity, config.backup)
    overview = await context.lanes.probes.run(lambda: look(context.ledger, context.status_queue, limits))
    return HTMLResponse(render(describe(overview, config, user)), headers=HEADERS)


@router.get("/login")
async def login(context: ContextDep) -> Response:
    """Send the browser to Keycloak."""
    url, cookie = context.login.begin()
    answer = RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})
    _keep(context, answer, LOGIN_COOKIE, cookie, LOGIN_S)
    return answer


@router.get("/login/callback")
async def come_back(
    context: ContextDep,
    state: str = "",
    code: str = "",
    error_description: str = "",
    archiver_login: Annotated[str | None, Cookie()] = None,
) -> Response:
    """Let in who comes back from Keycloak as an operator."""
    if not code:
        raise NotAuthenticatedError(f"Keycloak did not log you in: {error_description[:200] or 'it gave no code'}.")
    session = await context.lanes.slow.run(lambda: context.login.finish(archiver_login, state, code))
    answer = RedirectResponse(_path(context, "/status"), 303, headers={"Cache-Control": "no-store"})
    _keep(context, answer, SESSION_COOKIE, session, SESSION_S)
    _drop(context, answer, LOGIN_COOKIE)
    return answer


@router.post("/logout")
async def logout(context: ContextDep) -> Response:
    """Forget the session of this browser."""
    # Not back to the page: Keycloak, where the user still is logged in, would let the browser in again.
    answer = HTMLResponse(f'Logged out. <a href="{_path(context, "/status")}">Status page</a>', headers=HEADERS)
    _drop(context, answer, SESSION_COOKIE)
    return answer
