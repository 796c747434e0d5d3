"""The realm as python-keycloak sees it: the client library the service uses, without and with asyncio."""

import json
import uuid
from collections.abc import Callable

import pytest
from jwcrypto.jwk import JWK, JWKSet  # type: ignore[import-untyped]
from jwcrypto.jws import InvalidJWSSignature  # type: ignore[import-untyped]
from jwcrypto.jwt import (  # type: ignore[import-untyped]
    JWTExpired,
    JWTInvalidClaimValue,
    JWTMissingKey,
)
from keycloak import KeycloakOpenID
from keycloak.exceptions import KeycloakAuthenticationError, KeycloakPostError

from archiver.local.identity.testing import MovableClock

OpenIDClient = Callable[..., KeycloakOpenID]


def test_a_password_grant_is_answered_in_keycloaks_shape(openid: OpenIDClient) -> None:
    answer = openid().token("alice", "alice-local")
    assert set(answer) == {
        "access_token", "expires_in", "refresh_token", "refresh_expires_in", "token_type",
        "not-before-policy", "session_state", "scope", "id_token",
    }  # fmt: skip
    assert answer["token_type"] == "Bearer"
    assert (answer["expires_in"], answer["refresh_expires_in"]) == (300, 1800)
    assert answer["scope"] == "openid email profile"


def test_an_access_token_verifies_and_carries_the_users_claims(openid: OpenIDClient, identity: str) -> None:
    client = openid()
    answer = client.token("alice", "alice-local")
    claims = client.decode_token(answer["access_token"])
    assert claims["iss"] == f"{identity}/realms/facility"
    assert claims["aud"] == "account"
    assert claims["azp"] == "archiver-service-api"
    assert claims["typ"] == "Bearer"
    assert claims["sid"] == answer["session_state"]
    assert claims["preferred_username"] == "alice"
    assert claims["email"] == "alice@facility.example"
    assert claims["name"] == "Alice Example"
    assert claims["groups"] == ["p12345"]
    assert "default-roles-facility" in claims["realm_access"]["roles"]
    assert claims["exp"] - claims["iat"] == 300
    assert uuid.UUID(claims["sub"])
    assert uuid.UUID(claims["jti"])
    assert "session_state" not in claims


def test_an_id_token_comes_with_the_scope_openid_only(openid: OpenIDClient) -> None:
    client = openid()
    with_openid = client.token("alice", "alice-local", scope="openid")
    id_claims = client.decode_token(with_openid["id_token"])
    assert (id_claims["typ"], id_claims["aud"]) == ("ID", "archiver-service-api")
    assert "id_token" not in client.token("alice", "alice-local", scope="")


def test_two_logins_of_a_user_are_two_sessions_of_one_subject(openid: OpenIDClient) -> None:
    client = openid()
    first, second = (client.decode_token(client.token("alice", "alice-local")["access_token"]) for _ in range(2))
    assert first["sid"] != second["sid"]
    assert first["sub"] == second["sub"]


@pytest.mark.parametrize("scope", ["openid", "openid offline_access"])
def test_a_refresh_keeps_the_session(openid: OpenIDClient, scope: str) -> None:
    client = openid()
    before = client.token("alice", "alice-local", scope=scope)
    after = client.refresh_token(before["refresh_token"])
    assert after["session_state"] == before["session_state"]
    assert client.decode_token(after["access_token"])["sid"] == before["session_state"]
    assert after["scope"] == before["scope"]
    again = client.refresh_token(after["refresh_token"])
    assert again["session_state"] == before["session_state"]


def test_an_offline_session_outlives_the_ordinary_one(openid: OpenIDClient, clock: MovableClock) -> None:
    client = openid()
    ordinary = client.token("alice", "alice-local")
    offline = client.token("alice", "alice-local", scope="openid offline_access")
    assert offline["refresh_expires_in"] == 0
    clock.offset_seconds = 86_400
    with pytest.raises(KeycloakPostError, match="Token is not active"):
        client.refresh_token(ordinary["refresh_token"])
    assert client.refresh_token(offline["refresh_token"])["session_state"] == offline["session_state"]
    clock.offset_seconds = 40 * 86_400
    with pytest.raises(KeycloakPostError, match="Offline user session not found"):
        client.refresh_token(offline["refresh_token"])


def test_refreshing_prolongs_a_session_up_to_its_longest_life(openid: OpenIDClient, clock: MovableClock) -> None:
    client = openid()
    answer = client.token("alice", "alice-local")
    while clock.offset_seconds < 34_500:
        clock.offset_seconds += 1_700
        answer = client.refresh_token(answer["refresh_token"])
    assert 0 < answer["refresh_expires_in"] < 1800
    clock.offset_seconds = 36_001
    with pytest.raises(KeycloakPostError, match="Token is not active"):
        client.refresh_token(answer["refresh_token"])


def test_the_right_client_id_is_enough_to_refresh_and_another_is_not(openid: OpenIDClient) -> None:
    refresh_token = openid().token("alice", "alice-local")["refresh_token"]
    with pytest.raises(KeycloakPostError, match="Token client and authorized client"):
        openid("scicat-hook", "scicat-hook-local").refresh_token(refresh_token)
    assert openid().refresh_token(refresh_token)["access_token"]


def test_a_clients_own_credentials_give_its_role_and_no_session(openid: OpenIDClient) -> None:
    client = openid("scicat-hook", "scicat-hook-local")
    answer = client.token(grant_type="client_credentials", scope="")
    assert "refresh_token" not in answer
    assert answer["refresh_expires_in"] == 0
    claims = client.decode_token(answer["access_token"])
    assert "archiver-jobs" in claims["realm_access"]["roles"]
    assert claims["preferred_username"] == "service-account-scicat-hook"
    assert claims["azp"] == "scicat-hook"
    assert "sid" not in claims


def test_wrong_credentials_are_an_authentication_error(openid: OpenIDClient) -> None:
    with pytest.raises(KeycloakAuthenticationError) as wrong_password:
        openid().token("alice", "not hers")
    assert '"invalid_grant"' in str(wrong_password.value)
    with pytest.raises(KeycloakAuthenticationError) as wrong_secret:
        openid("scicat-hook", "wrong").token(grant_type="client_credentials")
    assert '"unauthorized_client"' in str(wrong_secret.value)


def test_user_info_tells_who_the_bearer_is(openid: OpenIDClient) -> None:
    client = openid()
    access_token = client.token("alice", "alice-local")["access_token"]
    info = client.userinfo(access_token)
    assert isinstance(info, dict)
    assert info["sub"] == client.decode_token(access_token)["sub"]
    assert info["preferred_username"] == "alice"
    assert info["groups"] == ["p12345"]


def test_logout_ends_the_session_and_only_this_one(openid: OpenIDClient) -> None:
    client = openid()
    ended, other = client.token("alice", "alice-local"), client.token("alice", "alice-local")
    assert client.logout(ended["refresh_token"]) == {}
    with pytest.raises(KeycloakPostError, match="Session not active"):
        client.refresh_token(ended["refresh_token"])
    with pytest.raises(KeycloakAuthenticationError, match="User session not found"):
        client.userinfo(ended["access_token"])
    assert client.logout(ended["refresh_token"]) == {}
    assert client.refresh_token(other["refresh_token"])["session_state"] == other["session_state"]


def test_discovery_names_endpoints_that_answer(openid: OpenIDClient, identity: str) -> None:
    client = openid()
    described = client.well_known()
    assert described["issuer"] == f"{identity}/realms/facility"
    endpoints = [value for name, value in described.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(endpoints) == 5
    for endpoint in endpoints:
        assert client.connection.raw_get(endpoint).status_code in (200, 400, 401, 405)


def test_the_published_public_key_is_the_signing_key(openid: OpenIDClient) -> None:
    client = openid()
    pem = f"-----BEGIN PUBLIC KEY-----\n{client.public_key()}\n-----END PUBLIC KEY-----"
    claims = client.decode_token(client.token("alice", "alice-local")["access_token"], key=JWK.from_pem(pem.encode()))
    assert claims["preferred_username"] == "alice"


def _key_set(client: KeycloakOpenID) -> JWKSet:
    return JWKSet.from_json(json.dumps(client.certs()))


def test_the_key_set_also_lists_a_key_that_signs_nothing(openid: OpenIDClient) -> None:
    keys = openid().certs()["keys"]
    assert [key["use"] for key in keys] == ["sig", "enc"]
    assert all("d" not in key for key in keys)
    assert len({key["kid"] for key in keys}) == 2


def test_a_token_of_a_rotated_key_verifies_until_the_key_is_dropped(openid: OpenIDClient) -> None:
    client = openid()
    old_keys = _key_set(client)
    old = client.token("alice", "alice-local")
    client.connection.raw_post("_sim/rotate-keys", data={})
    new = client.token("alice", "alice-local")
    with pytest.raises(JWTMissingKey):
        client.decode_token(new["access_token"], key=old_keys)
    assert client.decode_token(new["access_token"])
    assert client.decode_token(old["access_token"])
    client.connection.raw_post("_sim/rotate-keys", data={}, drop_old="true")
    with pytest.raises(JWTMissingKey):
        client.decode_token(old["access_token"])
    with pytest.raises(KeycloakAuthenticationError, match="Token verification failed"):
        client.userinfo(old["access_token"])
    assert client.decode_token(client.refresh_token(old["refresh_token"])["access_token"])


def test_what_is_wrong_with_a_token_shows_when_it_is_verified_offline(
    openid: OpenIDClient, identity: str, clock: MovableClock
) -> None:
    client = openid()
    keys = _key_set(client)
    signing_key = keys.get_key(client.certs()["keys"][0]["kid"])
    issuer = f"{identity}/realms/facility"
    expected = {"iss": issuer, "aud": "account", "typ": "Bearer", "exp": None}
    token = client.token("alice", "alice-local")["access_token"]
    assert client.decode_token(token, key=keys, algs=["RS256"], check_claims=expected)
    with pytest.raises(JWTInvalidClaimValue):
        client.decode_token(token, key=keys, check_claims=expected | {"aud": "someone else"})
    with pytest.raises(JWTInvalidClaimValue):
        client.decode_token(token, key=keys, check_claims=expected | {"iss": "http://elsewhere"})
    header, payload, signature = token.split(".")
    forged = ".".join([header, payload, ("A" if signature[0] != "A" else "B") + signature[1:]])
    with pytest.raises(InvalidJWSSignature):
        client.decode_token(forged, key=signing_key, check_claims=expected)
    with pytest.raises(JWTMissingKey):
        client.decode_token(forged, key=keys, check_claims=expected)
    clock.offset_seconds = -3600
    stale = client.token("alice", "alice-local")["access_token"]
    with pytest.raises(JWTExpired):
        client.decode_token(stale, key=keys, check_claims=expected)


async def test_the_asyncio_methods_work_over_one_shared_connection(openid: OpenIDClient) -> None:
    client = openid()
    try:
        described = await client.a_well_known()
        before = await client.a_token("alice", "alice-local", scope="openid offline_access")
        after = await client.a_refresh_token(before["refresh_token"])
        claims = await client.a_decode_token(after["access_token"], check_claims={"iss": described["issuer"]})
        assert claims["sid"] == before["session_state"]
        info = await client.a_userinfo(after["access_token"])
        assert isinstance(info, dict)
        assert info["email"] == "alice@facility.example"
        assert (await client.a_certs()) == client.certs()
        assert (await client.a_public_key()) == client.public_key()
        await client.a_logout(after["refresh_token"])
        with pytest.raises(KeycloakPostError, match="Offline user session not found"):
            await client.a_refresh_token(after["refresh_token"])
    finally:
        await client.connection.aclose()
