"""The page on which a user of the realm logs in."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from archiver.local.identity.codes import read_login_request
from archiver.local.identity.config import IdentityConfig
from archiver.local.identity.errors import OAuthError, invalid_request
from archiver.local.identity.forms import FormFields
from archiver.local.identity.grants import Realm

_ASKED = ("client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method")


def read_query(request: Request) -> dict[str, str]:
    """The fields of the query.

    Raises OAuthError 400 for one that is given twice.
    """
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) != len(pairs):
        raise invalid_request("duplicated parameter")
    return dict(pairs)


def login_routes(config: IdentityConfig, realm: Realm) -> APIRouter:
    """Give the authorization endpoint: a form, and what its answer leads to."""
    router = APIRouter(prefix=f"/realms/{config.realm}/protocol/openid-connect", tags=["login"])
    Query = Annotated[dict[str, str], Depends(read_query)]  # noqa: N806

    @router.get("/auth", response_class=HTMLResponse)
    def ask_to_log_in(query: Query) -> str:
        """Show the form."""
        read_login_request(config, query)
        return _page(config.realm, query, "")

    @router.post("/auth")
    def log_in(form: FormFields) -> Response:
        """Take the browser back to the client with a code, or show the form again."""
        request = read_login_request(config, form)
        try:
            code = realm.log_in(request, form.get("username", ""), form.get("password", ""))
        except OAuthError as error:
            return HTMLResponse(_page(config.realm, form, error.description or error.error), error.status)
        return RedirectResponse(request.back(code=code), 303)

    return router


def _page(realm: str, asked: dict[str, str], problem: str) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(asked[name])}">' for name in _ASKED if name in asked
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Log in to {escape(realm)}</title>'
        '<meta name="viewport" content="width=device-width">'
        '<body style="font:16px/1.5 system-ui;max-width:22em;margin:4em auto;padding:0 1em">'
        f"<h1>Log in to {escape(realm)}</h1><p>Simulated identity provider.</p>"
        f'<p role="alert">{escape(problem)}</p><form method="post">{hidden}'
        '<p><label>User <input name="username" autofocus></label></p>'
        '<p><label>Password <input name="password" type="password"></label></p>'
        "<p><button>Log in</button></p></form>"
    )
