"""Log-in, tokens and accounts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.testing import run_scicat


def _claims(token: str) -> tuple[Any, Any]:
    header, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    return header, payload


@pytest.mark.parametrize("form", ["json", "data"])
def test_a_log_in_answers_201_with_a_token_that_names_the_user_and_no_groups(
    anonymous: httpx.Client, form: str
) -> None:
    credentials = {"username": "alice", "password": "alice-pw"}
    if form == "json":
        reply = anonymous.post("/api/v3/auth/login", json=credentials)
    else:
        reply = anonymous.post("/api/v3/auth/login", data=credentials)
    body = reply.json()
    assert reply.status_code == 201
    assert body["access_token"] == body["id"]
    assert (body["expires_in"], body["ttl"]) == (3600, 3600)
    header, claims = _claims(body["access_token"])
    assert header == {"alg": "HS256", "typ": "JWT"}
    assert set(claims) == {"username", "email", "authStrategy", "_id", "__v", "id", "iat", "exp"}
    assert claims["exp"] - claims["iat"] == 3600
    assert body["user"]["username"] == "alice"


@pytest.mark.parametrize(
    "credentials", [{}, {"username": "alice"}, {"username": "alice", "password": "bob-pw"}, {"username": 1}]
)
def test_wrong_or_missing_credentials_give_401_without_an_error_key(
    anonymous: httpx.Client, credentials: dict[str, Any]
) -> None:
    reply = anonymous.post("/api/v3/auth/login", json=credentials)
    assert reply.status_code == 401
    assert reply.json() == {"message": "Unauthorized", "statusCode": 401}


def test_malformed_json_gives_400(anonymous: httpx.Client) -> None:
    reply = anonymous.post("/api/v3/auth/login", content=b"{", headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["statusCode"] == 400


def test_the_old_log_in_gives_201_and_nothing_else(anonymous: httpx.Client) -> None:
    reply = anonymous.post("/api/v3/users/login", json={"username": "alice", "password": "alice-pw"})
    assert (reply.status_code, reply.content) == (201, b"")


def test_whoami_shows_the_present_groups_and_is_empty_for_nobody(alice: httpx.Client, anonymous: httpx.Client) -> None:
    body = alice.get("/api/v3/auth/whoami").json()
    assert body["currentGroups"] == ["p12345"]
    nobody = anonymous.get("/api/v3/auth/whoami")
    assert (nobody.status_code, nobody.content) == (200, b"")


@pytest.mark.parametrize("header", ["", "raw token", "Bearer", "Bearer x.y.z", "Bearer é"])
def test_an_unusable_token_means_anonymous_not_401(
    anonymous: httpx.Client, new_dataset: Callable[..., str], path_of: Callable[..., str], header: str
) -> None:
    pid = new_dataset()
    headers = {b"authorization": header.encode()}
    assert anonymous.get("/api/v3/datasets", headers=headers).json() == []
    assert anonymous.get(path_of(pid), headers=headers).status_code == 403
    guarded = anonymous.get("/api/v4/datasets", headers=headers)
    assert guarded.status_code == 403
    assert guarded.json() == {"message": "Forbidden resource", "error": "Forbidden", "statusCode": 403}
    users = anonymous.get("/api/v3/users/my/self", headers=headers)
    assert users.status_code == 401
    assert users.json() == {"message": "Unauthenticated", "error": "Unauthorized", "statusCode": 401}


def test_an_expired_token_means_anonymous(admin: httpx.Client, alice: httpx.Client, anonymous: httpx.Client) -> None:
    alice_id = alice.get("/api/v3/users/my/self").json()["id"]
    expired = admin.post(f"/api/v3/users/{alice_id}/jwt", json={"expiresIn": "0"})
    # 0 seconds: the moment it is issued is the moment it ends.
    token = expired.json()["jwt"]
    reply = anonymous.get("/api/v3/auth/whoami", headers={"authorization": f"Bearer {token}"})
    assert (reply.status_code, reply.content) == (200, b"")


def test_a_token_in_the_query_needs_the_word_bearer(alice: httpx.Client, anonymous: httpx.Client) -> None:
    bearer = alice.headers["authorization"]
    named = anonymous.get("/api/v3/auth/whoami", params={"access_token": bearer})
    assert named.json()["username"] == "alice"
    raw = anonymous.get("/api/v3/auth/whoami", params={"access_token": bearer.removeprefix("Bearer ")})
    assert raw.content == b""


def test_an_admin_issues_long_lived_tokens_and_others_do_not(
    admin: httpx.Client, alice: httpx.Client, anonymous: httpx.Client
) -> None:
    alice_id = alice.get("/api/v3/users/my/self").json()["id"]
    issued = admin.post(f"/api/v3/users/{alice_id}/jwt", json={"expiresIn": "never"})
    assert issued.status_code == 201
    token = issued.json()["jwt"]
    _, claims = _claims(token)
    assert claims["exp"] - claims["iat"] > 99 * 365 * 86400
    who = anonymous.get("/api/v3/auth/whoami", headers={"authorization": f"Bearer {token}"})
    assert who.json()["username"] == "alice"
    assert alice.post(f"/api/v3/users/{alice_id}/jwt", json={}).status_code == 403
    _, claims = _claims(admin.post(f"/api/v3/users/{alice_id}/jwt", json={"expiresIn": "7d"}).json()["jwt"])
    assert claims["exp"] - claims["iat"] == 7 * 86400


def test_the_identity_lists_the_groups(alice: httpx.Client, as_filter: Callable[[Any], dict[str, str]]) -> None:
    identity = alice.get("/api/v3/users/my/identity").json()
    assert identity["profile"]["accessGroups"] == ["p12345"]
    assert identity["profile"]["username"] == "alice"
    found = alice.get("/api/v3/useridentities/findOne", params=as_filter({"where": {"profile.username": "alice"}}))
    assert found.json() == identity
    other = alice.get("/api/v3/useridentities/findOne", params=as_filter({"where": {"profile.username": "bob"}}))
    assert (other.status_code, other.content) == (200, b"")


def test_users_see_themselves_and_admins_everybody(alice: httpx.Client, bob: httpx.Client, admin: httpx.Client) -> None:
    assert [one["username"] for one in alice.get("/api/v3/users").json()] == ["alice"]
    assert len(admin.get("/api/v3/users").json()) > 5
    bob_id = bob.get("/api/v3/users/my/self").json()["id"]
    assert alice.get(f"/api/v3/users/{bob_id}").status_code == 403
    assert admin.get(f"/api/v3/users/{bob_id}/userIdentity").json()["profile"]["username"] == "bob"


def test_a_log_out_needs_a_user_and_ends_no_token(alice: httpx.Client, anonymous: httpx.Client) -> None:
    assert alice.post("/api/v3/auth/logout").json() == {"logout": "successful"}
    assert alice.get("/api/v3/auth/whoami").json()["username"] == "alice"
    refused = anonymous.post("/api/v3/auth/logout")
    assert (refused.status_code, refused.json()) == (401, "Not logged in")


def test_auth_users_health_and_datablocks_have_no_v4(admin: httpx.Client) -> None:
    for path in ("health", "users/my/self", "datablocks", "auth/whoami"):
        assert admin.get(f"/api/v4/{path}").status_code == 404
    assert admin.post("/api/v4/auth/login", json={}).status_code == 404


def test_the_lifetime_of_tokens_is_configurable(config: ScicatConfig) -> None:
    with run_scicat(config.model_copy(update={"jwt_lifetime_seconds": 7})) as base_url:
        reply = httpx.post(
            f"{base_url}/api/v3/auth/login",
            json={"username": "alice", "password": "alice-pw"},
            timeout=10,
            trust_env=False,
        )
    assert reply.json()["expires_in"] == 7


def test_health_needs_no_token(anonymous: httpx.Client) -> None:
    reply = anonymous.get("/api/v3/health")
    assert reply.status_code == 200
    assert reply.json()["details"] == {"mongodb": {"status": "up"}}
