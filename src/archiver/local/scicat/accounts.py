"""The accounts of a catalogue: who logs in with what, and which account a request comes from."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from archiver.local.scicat.config import Account, ScicatConfig
from archiver.local.scicat.rights import Caller
from archiver.local.scicat.tokens import Tokens
from archiver.local.scicat.values import Document

FOREVER_SECONDS = 100 * 365 * 24 * 3600


class Accounts:
    """The configured accounts; their ids are derived from the names, so that a restart keeps them."""

    def __init__(self, config: ScicatConfig, tokens: Tokens) -> None:
        self._tokens = tokens
        self._lifetime = config.jwt_lifetime_seconds
        self._passwords = {account.username: account.password for account in config.accounts}
        self._callers = {account.username: _caller(account) for account in config.accounts}

    def all(self) -> list[Caller]:
        """Every account."""
        return list(self._callers.values())

    def named(self, username: str) -> Caller | None:
        """The account with this user name, or None."""
        return self._callers.get(username)

    def by_id(self, user_id: str) -> Caller | None:
        """The account with this id, or None."""
        return next((caller for caller in self._callers.values() if caller.id == user_id), None)

    def login(self, username: object, password: object) -> Caller | None:
        """The account these credentials belong to, or None."""
        if not isinstance(username, str) or not isinstance(password, str):
            return None
        expected = self._passwords.get(username)
        if expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
            return None
        return self._callers[username]

    def token(self, caller: Caller, lifetime_seconds: int | None = None) -> str:
        """A new access token for this account."""
        lifetime = self._lifetime if lifetime_seconds is None else lifetime_seconds
        return self._tokens.issue(user_view(caller), lifetime)

    def of_request(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Caller | None:
        """The account a request shows a valid token of; None (anonymous) for no, an invalid or expired one."""
        for shown in (headers.get("authorization"), query.get("access_token")):
            scheme, _, token = (shown or "").partition(" ")
            if scheme.lower() != "bearer" or not token:
                continue
            claims = self._tokens.read(token.strip())
            return None if claims is None else self._callers.get(str(claims.get("username")))
        return None


def user_view(caller: Caller) -> Document:
    """An account as the backend shows it."""
    return {
        "username": caller.username,
        "email": caller.email,
        "authStrategy": "local",
        "_id": caller.id,
        "__v": 0,
        "id": caller.id,
    }


def _caller(account: Account) -> Caller:
    derived = hashlib.sha256(account.username.encode()).hexdigest()[:24]
    return Caller(derived, account.username, account.email, account.groups)
