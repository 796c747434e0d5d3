"""Log-in, tokens, accounts and health (API v3 only)."""

from __future__ import annotations

import re

from archiver.local.scicat.accounts import FOREVER_SECONDS, user_view
from archiver.local.scicat.context import V3, Call, Reply, Route
from archiver.local.scicat.dto import Field, check
from archiver.local.scicat.errors import ApiError, invalid, refused, refused_bare
from archiver.local.scicat.matching import from_loopback, matches
from archiver.local.scicat.queries import json_object
from archiver.local.scicat.rights import Caller
from archiver.local.scicat.values import Document, iso, now

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def login(call: Call) -> Reply:
    """A token for user name and password; 401 for wrong ones."""
    caller = _credentials(call)
    token = call.catalogue.accounts.token(caller)
    lifetime = call.catalogue.config.jwt_lifetime_seconds
    return Reply.of(
        {
            "access_token": token,
            "id": token,
            "expires_in": lifetime,
            "ttl": lifetime,
            "created": iso(now()),
            "userId": caller.id,
            "user": user_view(caller),
        },
        201,
    )


def dead_login(call: Call) -> Reply:
    """The old log-in: checks the credentials and gives nothing."""
    _credentials(call)
    return Reply(None, 201)


def logout(call: Call) -> Reply:
    """Ends nothing: tokens have no state. 401 with a bare text for an anonymous caller."""
    if call.caller is None:
        raise ApiError(401, "Not logged in")
    return Reply.of({"logout": "successful"})


def whoami(call: Call) -> Reply:
    """The caller with the present groups; an empty body for an anonymous one."""
    caller = call.caller
    if caller is None:
        return Reply(None)
    return Reply.of(
        {
            "_id": caller.id,
            "username": caller.username,
            "email": caller.email,
            "currentGroups": list(caller.groups),
            "authStrategy": "local",
        }
    )


def my_self(call: Call) -> Reply:
    """The caller's account."""
    return Reply.of(user_view(_signed_in(call)))


def my_identity(call: Call) -> Reply:
    """The caller's identity, whose profile lists the groups."""
    return Reply.of(_identity(_signed_in(call), call))


def my_settings(call: Call) -> Reply:
    """The caller's settings of the user interface."""
    caller = _signed_in(call)
    return Reply.of({"datasetCount": 25, "jobCount": 25, "userId": caller.id, "_id": caller.id[::-1], "__v": 0})


def list_users(call: Call) -> Reply:
    """All accounts for an admin, otherwise the caller's own."""
    caller = _signed_in(call)
    shown = call.catalogue.accounts.all() if call.rights.admin else [caller]
    return Reply.of([user_view(one) for one in shown])


def read_user(call: Call) -> Reply:
    """One account: one's own, or any for an admin."""
    return Reply.of(user_view(_own_or_any(call)))


def read_identity(call: Call) -> Reply:
    """One account's identity: one's own, or any for an admin."""
    return Reply.of(_identity(_own_or_any(call), call))


def find_identity(call: Call) -> Reply:
    """The first identity a filter selects; only the caller's own for others than admins."""
    caller = _signed_in(call)
    text = call.query.get("filter")
    where = from_loopback(json_object(text, "filter").get("where") or {}) if text else {}
    shown = call.catalogue.accounts.all() if call.rights.admin else [caller]
    identities = (_identity(one, call) for one in shown)
    return Reply.of(next((one for one in identities if matches(one, where)), None))


def issue_token(call: Call) -> Reply:
    """An admin makes a token for any account: ``never`` (100 years), seconds, or ``7d`` and the like."""
    _signed_in(call)
    call.allow(call.rights.admin)
    caller = call.catalogue.accounts.by_id(call.params["id"])
    if caller is None:
        raise refused(404, "There is no such user")
    body = check(call.body, {"expiresIn": Field("string")})
    wanted = body.get("expiresIn", str(call.catalogue.config.jwt_lifetime_seconds))
    return Reply.of({"jwt": call.catalogue.accounts.token(caller, _seconds(wanted))}, 201)


def health(call: Call) -> Reply:
    """Always up here; a fault can say otherwise."""
    up = {"mongodb": {"status": "up"}}
    return Reply.of({"status": "ok", "info": up, "error": {}, "details": up})


def _credentials(call: Call) -> Caller:
    given = call.body if isinstance(call.body, dict) else {}
    caller = call.catalogue.accounts.login(given.get("username"), given.get("password"))
    if caller is None:
        raise refused_bare(401)
    return caller


def _signed_in(call: Call) -> Caller:
    if call.caller is None:
        raise refused(401, "Unauthenticated")
    return call.caller


def _own_or_any(call: Call) -> Caller:
    caller = _signed_in(call)
    call.allow(call.rights.admin or call.params["id"] == caller.id)
    found = call.catalogue.accounts.by_id(call.params["id"])
    if found is None:
        raise refused(404, "There is no such user")
    return found


def _identity(caller: Caller, call: Call) -> Document:
    started = iso(call.catalogue.started)
    return {
        "authStrategy": "local",
        "externalId": "",
        "provider": "local",
        "userId": caller.id,
        "_id": caller.id[::-1],
        "created": started,
        "modified": started,
        "__v": 0,
        "id": caller.id[::-1],
        "profile": {
            "displayName": caller.username,
            "email": caller.email,
            "username": caller.username,
            "thumbnailPhoto": "error: no photo found",
            "id": caller.id,
            "emails": [{"value": caller.email}],
            "accessGroups": list(caller.groups),
            "_id": caller.id,
        },
    }


def _seconds(wanted: object) -> int:
    if wanted == "never":
        return FOREVER_SECONDS
    form = re.fullmatch(r"(\d+)([smhdwy]?)", str(wanted))
    if form is None:
        raise invalid(["expiresIn must be never, a number of seconds, or a number with a unit"])
    return int(form[1]) * _UNIT_SECONDS[form[2] or "s"]


ROUTES = [
    Route(V3, "GET", "/health", health),
    Route(V3, "POST", "/auth/login", login),
    Route(V3, "POST", "/auth/ldap", login),
    Route(V3, "POST", "/auth/msad", login),
    Route(V3, "POST", "/auth/logout", logout),
    Route(V3, "GET", "/auth/whoami", whoami),
    Route(V3, "POST", "/users/login", dead_login),
    Route(V3, "GET", "/users/my/self", my_self),
    Route(V3, "GET", "/users/my/identity", my_identity),
    Route(V3, "GET", "/users/my/settings", my_settings),
    Route(V3, "GET", "/users", list_users),
    Route(V3, "GET", "/users/{id}", read_user),
    Route(V3, "GET", "/users/{id}/userIdentity", read_identity),
    Route(V3, "POST", "/users/{id}/jwt", issue_token),
    Route(V3, "GET", "/useridentities/findOne", find_identity),
]
