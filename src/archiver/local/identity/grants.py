"""The grants of the token endpoint, logout and user info: who is given which tokens, without HTTP."""

import hmac
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import SecretStr

from archiver.local.identity.codes import Codes, LoginRequest
from archiver.local.identity.config import Client, IdentityConfig, User
from archiver.local.identity.errors import InvalidTokenError, OAuthError, invalid_grant, invalid_request
from archiver.local.identity.scopes import OFFLINE_ACCESS, granted_scope, narrowed_scope
from archiver.local.identity.sessions import Session, SessionStore
from archiver.local.identity.tokens import (
    Claims,
    RefreshClaims,
    Subject,
    TokenMint,
    opens_id_token,
    person_claims,
    service_account_subject,
    user_subject,
)

_log = structlog.get_logger(__name__)

Form = Mapping[str, str]
TokenAnswer = dict[str, Any]


class Realm:
    """One realm at work. `issuer` is the realm's URL as the caller reached it (or as it is configured)."""

    def __init__(self, config: IdentityConfig, sessions: SessionStore, mint: TokenMint) -> None:
        self._config = config
        self._sessions = sessions
        self._mint = mint
        self._codes = Codes()

    def log_in(self, request: LoginRequest, login: str, password: str) -> str:
        """Give the code of a user who logged in with a browser.

        Raises OAuthError for credentials that are not good.
        """
        return self._codes.give(request, self._known_user(login, password).username, self._mint.now())

    def token(self, form: Form, credentials: tuple[str, str] | None, issuer: str) -> TokenAnswer:
        """Answer the token endpoint. `credentials` are client id and secret of a Basic header.

        Raises OAuthError with the status, code and description Keycloak gives.
        """
        grant = form.get("grant_type")
        if grant is None:
            raise invalid_request("Missing form parameter: grant_type")
        if grant not in ("password", "refresh_token", "client_credentials", "authorization_code"):
            raise OAuthError(400, "unsupported_grant_type", "Unsupported grant_type")
        client = self._authenticated_client(form, credentials)
        if grant == "password":
            answer = self._password_grant(client, form, issuer)
        elif grant == "refresh_token":
            answer = self._refresh_grant(client, form, issuer)
        elif grant == "authorization_code":
            answer = self._code_grant(client, form, issuer)
        else:
            answer = self._client_credentials_grant(client, form, issuer)
        _log.info("token_granted", grant=grant, client=client.client_id, sid=answer.get("session_state"))
        return answer

    def logout(self, form: Form, credentials: tuple[str, str] | None, issuer: str) -> None:
        """End the session of a refresh token; a session that is already gone is no error.

        Raises OAuthError for a client or a refresh token that is not good.
        """
        client = self._authenticated_client(form, credentials)
        self._sessions.end(self._good_refresh_token(client, form, issuer).sid)

    def user_info(self, access_token: str | None, issuer: str) -> Claims:
        """Give the claims about the user of an access token.

        Raises OAuthError 401 with a challenge for a missing or bad token or an ended session, 403 for a
        token without the scope openid.
        """
        if access_token is None:
            raise self._challenge(401, None, None)
        try:
            claims = self._mint.read_access_token(access_token, issuer)
        except InvalidTokenError as error:
            raise self._challenge(401, "invalid_token", "Token verification failed") from error
        if not opens_id_token(claims["scope"]):
            raise self._challenge(403, "insufficient_scope", "Missing openid scope")
        session = self._sessions.find(claims.get("sid", ""), self._mint.now())
        user = None if session is None else self._config.user(session.username)
        if user is None:
            description = "User session not found or doesn't have client attached on it"
            raise self._challenge(401, "invalid_token", description)
        subject = user_subject(self._config.realm, user)
        return {"sub": subject.id, **person_claims(subject, claims["scope"])}

    def _authenticated_client(self, form: Form, credentials: tuple[str, str] | None) -> Client:
        header_id, header_secret = credentials or (None, None)
        client_id = form.get("client_id", header_id)
        secret = form.get("client_secret", header_secret)
        if client_id is None:
            raise OAuthError(400, "invalid_client", "Missing client_id parameter")
        refusal = "Invalid client or Invalid client credentials"
        client = self._config.client(client_id)
        if client is None:
            raise OAuthError(401, "invalid_client", refusal)
        if client.client_secret is not None and not _is_secret(client.client_secret, secret):
            raise OAuthError(401, "unauthorized_client", refusal)
        return client

    def _password_grant(self, client: Client, form: Form, issuer: str) -> TokenAnswer:
        if not client.direct_access_grants:
            raise OAuthError(400, "unauthorized_client", "Client not allowed for direct access grants")
        scope = granted_scope(form.get("scope", ""))
        login = form.get("username")
        if login is None:
            raise OAuthError(401, "invalid_request", "Missing parameter: username")
        return self._open_session(client, self._known_user(login, form.get("password")), scope, issuer)

    def _code_grant(self, client: Client, form: Form, issuer: str) -> TokenAnswer:
        username, scope = self._codes.take(client, form, self._mint.now())
        user = self._config.user(username)
        if user is None:
            raise invalid_grant("Code not valid")
        return self._open_session(client, user, scope, issuer)

    def _known_user(self, login: str, password: str | None) -> User:
        user = self._config.user(login)
        if user is None or not _is_secret(user.password, password):
            raise invalid_grant("Invalid user credentials", status=401)
        if not user.fully_set_up:
            raise invalid_grant("Account is not fully set up")
        return user

    def _open_session(self, client: Client, user: User, scope: str, issuer: str) -> TokenAnswer:
        now = self._mint.now()
        offline = OFFLINE_ACCESS in scope.split()
        session = self._sessions.open(
            username=user.username,
            client_id=client.client_id,
            scope=scope,
            offline=offline,
            now=now,
            expires_at=self._session_end(offline=offline, started_at=now, now=now),
        )
        return self._session_answer(session, user_subject(self._config.realm, user), scope, issuer)

    def _refresh_grant(self, client: Client, form: Form, issuer: str) -> TokenAnswer:
        claims = self._good_refresh_token(client, form, issuer)
        now = self._mint.now()
        session = self._sessions.find(claims.sid, now)
        user = None if session is None else self._config.user(session.username)
        if session is None or user is None:
            offline = claims.expires_at is None
            raise invalid_grant("Offline user session not found" if offline else "Session not active")
        self._sessions.prolong(
            session.sid, self._session_end(offline=session.offline, started_at=session.started_at, now=now)
        )
        session = self._sessions.find(claims.sid, now) or session
        scope = narrowed_scope(session.scope, form.get("scope", ""))
        return self._session_answer(session, user_subject(self._config.realm, user), scope, issuer)

    def _client_credentials_grant(self, client: Client, form: Form, issuer: str) -> TokenAnswer:
        if client.public:
            description = "Public client not allowed to retrieve service account"
            raise OAuthError(401, "unauthorized_client", description)
        if client.service_account_roles is None:
            raise OAuthError(401, "unauthorized_client", "Client not enabled to retrieve service account")
        scope = granted_scope(form.get("scope", ""))
        subject = service_account_subject(self._config.realm, client)
        answer = self._access_answer(client.client_id, subject, scope, issuer, sid=None)
        return answer | {"refresh_expires_in": 0}

    def _session_answer(self, session: Session, subject: Subject, scope: str, issuer: str) -> TokenAnswer:
        answer = self._access_answer(session.client_id, subject, scope, issuer, session.sid)
        return answer | {
            "refresh_token": self._mint.refresh_token(issuer, session, subject),
            "refresh_expires_in": 0 if session.offline else session.expires_at - self._mint.now(),
            "session_state": session.sid,
        }

    def _access_answer(self, client_id: str, subject: Subject, scope: str, issuer: str, sid: str | None) -> TokenAnswer:
        access_token = self._mint.access_token(issuer, client_id, subject, scope, sid)
        answer: TokenAnswer = {
            "access_token": access_token,
            "expires_in": self._config.access_token_lifetime_seconds,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": scope,
        }
        if opens_id_token(scope):
            answer["id_token"] = self._mint.id_token(issuer, client_id, subject, scope, sid, access_token)
        return answer

    def _good_refresh_token(self, client: Client, form: Form, issuer: str) -> RefreshClaims:
        token = form.get("refresh_token")
        if token is None:
            raise invalid_request("No refresh token")
        try:
            claims = self._mint.read_refresh_token(token)
        except InvalidTokenError as error:
            raise invalid_grant("Invalid refresh token") from error
        if claims.expires_at is not None and claims.expires_at <= self._mint.now():
            raise invalid_grant("Token is not active")
        if claims.issuer != issuer:
            raise invalid_grant(f"Invalid token issuer. Expected '{issuer}', but was '{claims.issuer}'")
        if claims.client_id != client.client_id:
            raise invalid_grant("Invalid refresh token. Token client and authorized client don't match")
        return claims

    def _session_end(self, *, offline: bool, started_at: int, now: int) -> int:
        if offline:
            return now + self._config.offline_session_lifetime_seconds
        idle_end = now + self._config.refresh_token_lifetime_seconds
        return min(idle_end, started_at + self._config.session_lifetime_seconds)

    def _challenge(self, status: int, error: str | None, description: str | None) -> OAuthError:
        challenge = f'Bearer realm="{self._config.realm}"'
        if error is not None:
            challenge += f', error="{error}", error_description="{description}"'
        return OAuthError(status, error or "unauthorized", description, {"WWW-Authenticate": challenge})


def _is_secret(expected: SecretStr, given: str | None) -> bool:
    if given is None:
        return False
    return hmac.compare_digest(expected.get_secret_value().encode(), given.encode())
