"""Logging in to the status page with Keycloak: authorization code flow with PKCE."""

import hmac
import secrets
from urllib.parse import urlencode

from keycloak.pkce_utils import generate_code_challenge, generate_code_verifier

from archiver.backend.access import Access
from archiver.backend.errors import ForbiddenError, NotAuthenticatedError
from archiver.backend.identity import IdentityProvider
from archiver.backend.status.cookies import CookieJar
from archiver.config.settings import IdentitySettings

LOGIN_S = 600
"""Time to type a password."""
SESSION_S = 8 * 3600
"""A working day; then Keycloak is asked again, who knows whether the user still is an operator."""
_BEGIN_AGAIN = "Go to the status page and log in again."


class OperatorLogin:
    """Sends a browser to Keycloak and judges who comes back. Synchronous, thread-safe."""

    def __init__(
        self, identity: IdentityProvider, access: Access, settings: IdentitySettings, key: bytes, callback_url: str
    ) -> None:
        self._identity = identity
        self._access = access
        self._settings = settings
        self._callback_url = callback_url
        self._pending = CookieJar(key, "login", LOGIN_S)
        self.sessions = CookieJar(key, "session", SESSION_S)

    def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the cookie it must bring back."""
        state, verifier = secrets.token_urlsafe(24), generate_code_verifier()
        challenge, method = generate_code_challenge(verifier)
        asked = {
            "response_type": "code",
            "client_id": self._settings.idp_client_id,
            "redirect_uri": self._callback_url,
            "scope": "openid",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": method,
        }
        url = f"{self._settings.issuer}/protocol/openid-connect/auth?{urlencode(asked)}"
        return url, self._pending.seal({"state": state, "verifier": verifier})

    def finish(self, cookie: str | None, state: str, code: str) -> str:
        """The session cookie of an operator who came back from Keycloak.

        Raises:
            NotAuthenticatedError: this browser did not begin here, took too long, or Keycloak does not know the code.
            ForbiddenError: the user is in no group of operators.
            IdentityProviderError: Keycloak does not answer.
        """
        pending = self._pending.open(cookie)
        if pending is None or not hmac.compare_digest(pending["state"].encode(), state.encode()):
            raise NotAuthenticatedError(f"This login was not begun here, or took too long. {_BEGIN_AGAIN}")
        claims = self._identity.claims_of_code(code, self._callback_url, pending["verifier"])
        principal = self._access.principal(claims)
        if not principal.is_operator:
            raise ForbiddenError(
                f"{claims.username} is in no group of operators (OPERATOR_GROUPS). Ask for it in Keycloak."
            )
        return self.sessions.seal({"user": claims.username})
