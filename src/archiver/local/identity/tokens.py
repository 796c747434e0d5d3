"""Which claims a token carries: access, ID and refresh tokens with the claims Keycloak gives them."""

import base64
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from archiver.local.identity.config import Client, IdentityConfig, User
from archiver.local.identity.errors import InvalidTokenError
from archiver.local.identity.keys import KeyRing
from archiver.local.identity.scopes import EMAIL, OPENID, PROFILE
from archiver.local.identity.sessions import Session

Claims = dict[str, Any]
Clock = Callable[[], float]

_ACCOUNT_ROLES = ["manage-account", "manage-account-links", "view-profile"]


@dataclass(frozen=True)
class Subject:
    """Whom a token is about: a user, or the service account of a client."""

    id: str
    username: str
    email: str | None
    first_name: str | None
    last_name: str | None
    groups: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class RefreshClaims:
    """What a refresh token says; `expires_at` is None for offline tokens."""

    sid: str
    client_id: str
    issuer: str
    expires_at: int | None


def user_subject(realm: str, user: User) -> Subject:
    """Give the subject of a user; the id is the same after every restart."""
    return Subject(
        _subject_id(realm, user.username),
        user.username.lower(),
        user.email,
        user.first_name,
        user.last_name,
        user.groups,
        user.roles,
    )


def service_account_subject(realm: str, client: Client) -> Subject:
    """Give the subject of a client's service account."""
    username = f"service-account-{client.client_id}".lower()
    roles = client.service_account_roles or ()
    return Subject(_subject_id(realm, username), username, None, None, None, (), roles)


class TokenMint:
    """Makes the tokens of one realm and reads its own refresh tokens."""

    def __init__(self, config: IdentityConfig, keys: KeyRing, clock: Clock) -> None:
        self._config = config
        self._keys = keys
        self._clock = clock

    def now(self) -> int:
        """Give the realm's time in whole Unix seconds."""
        return int(self._clock())

    def access_token(self, issuer: str, client_id: str, subject: Subject, scope: str, sid: str | None) -> str:
        """Give a signed access token (`typ` Bearer); a service account has no session, its `sid` is None."""
        now = self.now()
        realm_roles = [f"default-roles-{self._config.realm}", "offline_access", "uma_authorization"]
        claims: Claims = {
            "exp": now + self._config.access_token_lifetime_seconds,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": issuer,
            "aud": "account",
            "sub": subject.id,
            "typ": "Bearer",
            "azp": client_id,
            "acr": "1",
            "realm_access": {"roles": [*realm_roles, *subject.roles]},
            "resource_access": {"account": {"roles": _ACCOUNT_ROLES}},
            "scope": scope,
            **person_claims(subject, scope),
        }
        if sid is not None:
            claims["sid"] = sid
        return self._keys.sign(claims)

    def id_token(
        self, issuer: str, client_id: str, subject: Subject, scope: str, sid: str | None, access_token: str
    ) -> str:
        """Give the ID token that goes with an access token (`aud` is the client)."""
        now = self.now()
        half = hashlib.sha256(access_token.encode("ascii")).digest()[:16]
        claims: Claims = {
            "exp": now + self._config.access_token_lifetime_seconds,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": issuer,
            "aud": client_id,
            "sub": subject.id,
            "typ": "ID",
            "azp": client_id,
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode("ascii"),
            "acr": "1",
            **person_claims(subject, scope),
        }
        if sid is not None:
            claims["sid"] = sid
        return self._keys.sign(claims)

    def refresh_token(self, issuer: str, session: Session, subject: Subject) -> str:
        """Give a refresh token that carries the session; it ends with the session, an offline one never."""
        claims: Claims = {
            "iat": self.now(),
            "jti": str(uuid.uuid4()),
            "iss": issuer,
            "aud": issuer,
            "sub": subject.id,
            "typ": "Offline" if session.offline else "Refresh",
            "azp": session.client_id,
            "sid": session.sid,
            "scope": session.scope,
        }
        if not session.offline:
            claims["exp"] = session.expires_at
        return self._keys.sign_private(claims)

    def read_refresh_token(self, token: str) -> RefreshClaims:
        """Give what a refresh token says, expired or not.

        Raises InvalidTokenError if it is not a refresh token of this realm.
        """
        claims = self._keys.verify_private(token)
        if claims.get("typ") not in ("Refresh", "Offline"):
            raise InvalidTokenError("not a refresh token")
        return RefreshClaims(claims["sid"], claims["azp"], claims["iss"], claims.get("exp"))

    def read_access_token(self, token: str, issuer: str) -> Claims:
        """Give the claims of an access token of this realm and issuer that is still good.

        Raises InvalidTokenError otherwise.
        """
        claims = self._keys.verify(token)
        if claims.get("typ") != "Bearer":
            raise InvalidTokenError("not an access token")
        if claims["iss"] != issuer:
            raise InvalidTokenError(f"Invalid token issuer. Expected '{issuer}'")
        if claims["exp"] <= self.now():
            raise InvalidTokenError("Token is not active")
        return claims


def person_claims(subject: Subject, scope: str) -> Claims:
    """Give the claims about the person that the scope opens: groups, and with `profile`/`email` the rest."""
    scopes = scope.split()
    claims: Claims = {"groups": list(subject.groups)}
    if PROFILE in scopes:
        claims["preferred_username"] = subject.username
        names = {"given_name": subject.first_name, "family_name": subject.last_name}
        claims |= {claim: name for claim, name in names.items() if name}
        if full := " ".join(name for name in names.values() if name):
            claims["name"] = full
    if EMAIL in scopes:
        claims["email_verified"] = subject.email is not None
        if subject.email is not None:
            claims["email"] = subject.email
    return claims


def opens_id_token(scope: str) -> bool:
    """Tell whether the scope makes the request an OpenID Connect one."""
    return OPENID in scope.split()


def _subject_id(realm: str, username: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"realm:{realm}:user:{username.lower()}"))
