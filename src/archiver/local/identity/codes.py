"""Logins in a browser: what may ask for one, and the codes they end with."""

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from archiver.local.identity.config import Client, IdentityConfig
from archiver.local.identity.errors import OAuthError, invalid_grant, invalid_request
from archiver.local.identity.scopes import granted_scope

CODE_LIFETIME_S = 60


@dataclass(frozen=True)
class LoginRequest:
    """What a client asks the user to log in for. `challenge` is S256 of a verifier, or empty."""

    client_id: str
    redirect_uri: str
    scope: str
    state: str
    challenge: str

    def back(self, **answer: str) -> str:
        """The URL that takes the browser back to the client."""
        fields = answer | ({"state": self.state} if self.state else {})
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode(fields)}"


@dataclass(frozen=True)
class _Code:
    request: LoginRequest
    username: str
    expires_at: int


def _is_registered(client: Client, redirect_uri: str) -> bool:
    return any(
        redirect_uri.startswith(known[:-1]) if known.endswith("*") else redirect_uri == known
        for known in client.redirect_uris
    )


def read_login_request(config: IdentityConfig, fields: Mapping[str, str]) -> LoginRequest:
    """The request in the query or the form of the authorization endpoint.

    Raises OAuthError for what Keycloak answers with an error page, since it knows nowhere to send the browser back to.
    """
    client = config.client(fields.get("client_id", ""))
    if client is None:
        raise invalid_request("Client not found.")
    redirect_uri = fields.get("redirect_uri", "")
    if not _is_registered(client, redirect_uri):
        raise invalid_request("Invalid parameter: redirect_uri")
    if fields.get("response_type") != "code":
        raise OAuthError(400, "unsupported_response_type", "Only response_type=code is simulated")
    method = fields.get("code_challenge_method")
    if fields.get("code_challenge") and method != "S256":
        raise invalid_request("Invalid parameter: code challenge method is not matching the configured one")
    scope = granted_scope(fields.get("scope", ""))
    return LoginRequest(
        client.client_id, redirect_uri, scope, fields.get("state", ""), fields.get("code_challenge", "")
    )


class Codes:
    """Codes given out and not yet used, in memory. Safe to be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Code] = {}

    def give(self, request: LoginRequest, username: str, now: int) -> str:
        """A code for a user who has logged in; good once, for a minute."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._open = {each: known for each, known in self._open.items() if known.expires_at > now}
            self._open[code] = _Code(request, username, now + CODE_LIFETIME_S)
        return code

    def take(self, client: Client, form: Mapping[str, str], now: int) -> tuple[str, str]:
        """User name and scope of the code in `form`, which is used up by this.

        Raises OAuthError when it is not good, or not this client's.
        """
        with self._lock:
            found = self._open.pop(form.get("code", ""), None)
        if found is None or found.expires_at <= now or found.request.client_id != client.client_id:
            raise invalid_grant("Code not valid")
        if form.get("redirect_uri") != found.request.redirect_uri:
            raise invalid_grant("Incorrect redirect_uri")
        verifier = form.get("code_verifier", "")
        if found.request.challenge and not hmac.compare_digest(found.request.challenge, _challenge(verifier)):
            raise invalid_grant("PKCE verification failed: Code mismatch")
        return found.username, found.request.scope


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode("ascii")
