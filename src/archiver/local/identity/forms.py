"""Reading a request the way the OAuth endpoints do: form-encoded body, Basic and Bearer headers."""

import base64
from typing import Annotated
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Depends, Request

from archiver.local.identity.errors import OAuthError, invalid_request

_FORM_TYPE = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """Give the fields of a form-encoded body.

    Raises OAuthError 415 for another content type, 400 for a field given twice or a body that is no form.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _FORM_TYPE:
        raise OAuthError(415, "HTTP 415 Unsupported Media Type")
    try:
        body = (await request.body()).decode("ascii")
        pairs = parse_qsl(body, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise invalid_request("the body is not form-encoded UTF-8") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise invalid_request("duplicated parameter")
    return form


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """Give client id and secret of a Basic header (form-encoded inside, RFC 6749 2.3.1), None without one.

    Raises OAuthError 401 for a Basic header that cannot be read.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, separator, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError as error:
        raise OAuthError(401, "invalid_client", "Invalid client or Invalid client credentials") from error
    if not separator:
        raise OAuthError(401, "invalid_client", "Invalid client or Invalid client credentials")
    return unquote_plus(client_id), unquote_plus(secret)


def bearer_token(request: Request) -> str | None:
    """Give the token of a Bearer header, None without one."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


FormFields = Annotated[dict[str, str], Depends(read_form)]
BasicCredentials = Annotated[tuple[str, str] | None, Depends(basic_credentials)]
BearerToken = Annotated[str | None, Depends(bearer_token)]
