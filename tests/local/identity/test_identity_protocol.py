"""The realm on the wire: Keycloak's error codes, Basic credentials, issuers, controls."""

import base64
import json
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from archiver.local.identity.config import Client, IdentityConfig, User
from archiver.local.identity.testing import MovableClock, run_identity

TOKEN = "/realms/facility/protocol/openid-connect/token"
LOGOUT = "/realms/facility/protocol/openid-connect/logout"
USERINFO = "/realms/facility/protocol/openid-connect/userinfo"
CERTS = "/realms/facility/protocol/openid-connect/certs"
ALICE = {
    "grant_type": "password",
    "client_id": "archiver-service-api",
    "username": "alice",
    "password": "alice-local",
}
HOOK = {
    "grant_type": "client_credentials",
    "client_id": "scicat-hook",
    "client_secret": "scicat-hook-local",
}


def _claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(claims, dict)
    return claims


@pytest.mark.parametrize(
    ("form", "status", "error", "description"),
    [
        ({"client_id": "x"}, 400, "invalid_request", "Missing form parameter: grant_type"),
        (ALICE | {"grant_type": "implicit"}, 400, "unsupported_grant_type", "Unsupported grant_type"),
        ({"grant_type": "password"}, 400, "invalid_client", "Missing client_id parameter"),
        (
            ALICE | {"client_id": "nobody"},
            401, "invalid_client", "Invalid client or Invalid client credentials",
        ),
        (ALICE | {"password": "wrong"}, 401, "invalid_grant", "Invalid user credentials"),
        (ALICE | {"username": "nobody"}, 401, "invalid_grant", "Invalid user credentials"),
        (ALICE | {"scope": "everything"}, 400, "invalid_scope", "Invalid scopes: everything"),
        (
            {"grant_type": "password", "client_id": "archiver-service-api"},
            401, "invalid_request", "Missing parameter: username",
        ),
        (
            ALICE | {"client_id": "scicat-hook", "client_secret": "scicat-hook-local"},
            400, "unauthorized_client", "Client not allowed for direct access grants",
        ),
        (
            HOOK | {"client_secret": "wrong"},
            401, "unauthorized_client", "Invalid client or Invalid client credentials",
        ),
        (
            {"grant_type": "client_credentials", "client_id": "scicat-hook"},
            401, "unauthorized_client", "Invalid client or Invalid client credentials",
        ),
        (
            {"grant_type": "client_credentials", "client_id": "archiver-service-api"},
            401, "unauthorized_client", "Public client not allowed to retrieve service account",
        ),
        (
            {"grant_type": "refresh_token", "client_id": "archiver-service-api"},
            400, "invalid_request", "No refresh token",
        ),
        (
            {"grant_type": "refresh_token", "client_id": "archiver-service-api", "refresh_token": "a.b.c"},
            400, "invalid_grant", "Invalid refresh token",
        ),
    ],
)  # fmt: skip
def test_a_refused_grant_has_keycloaks_code(
    http: httpx.Client, form: dict[str, str], status: int, error: str, description: str
) -> None:
    answer = http.post(TOKEN, data=form)
    assert answer.status_code == status
    assert answer.json() == {"error": error, "error_description": description}


def test_a_parameter_given_twice_is_refused(http: httpx.Client) -> None:
    answer = http.post(TOKEN, data={**ALICE, "username": ["alice", "archiver-service"]})
    assert answer.status_code == 400
    assert answer.json()["error_description"] == "duplicated parameter"


def test_a_json_body_is_not_a_token_request(http: httpx.Client) -> None:
    assert http.post(TOKEN, json=ALICE).status_code == 415


def test_another_realm_does_not_exist(http: httpx.Client) -> None:
    answer = http.post(TOKEN.replace("facility", "elsewhere"), data=ALICE)
    assert answer.status_code == 404
    assert answer.json()["error"] == "Realm does not exist"


def test_tokens_are_not_to_be_cached(http: httpx.Client) -> None:
    assert http.post(TOKEN, data=ALICE).headers["cache-control"] == "no-store"


def test_a_confidential_client_may_send_its_secret_in_a_basic_header(http: httpx.Client) -> None:
    grant = {"grant_type": "client_credentials"}
    assert http.post(TOKEN, data=grant, auth=("scicat-hook", "scicat-hook-local")).status_code == 200
    assert http.post(TOKEN, data=grant, auth=("scicat-hook", "wrong")).status_code == 401
    unreadable = http.post(TOKEN, data=grant, headers={"Authorization": "Basic !"})
    assert unreadable.json()["error"] == "invalid_client"


def test_a_user_logs_in_by_name_or_email_in_any_case(http: httpx.Client) -> None:
    by_email = http.post(TOKEN, data=ALICE | {"username": "Alice@Facility.example"}).json()
    by_name = http.post(TOKEN, data=ALICE | {"username": "ALICE"}).json()
    assert _claims(by_email["access_token"])["sub"] == _claims(by_name["access_token"])["sub"]


def test_an_access_token_is_no_refresh_token_and_neither_is_an_id_token(http: httpx.Client) -> None:
    tokens = http.post(TOKEN, data=ALICE | {"scope": "openid"}).json()
    for name in ("access_token", "id_token"):
        form = ALICE | {"grant_type": "refresh_token", "refresh_token": tokens[name]}
        answer = http.post(TOKEN, data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    for name in ("refresh_token", "id_token"):
        answer = http.get(USERINFO, headers={"Authorization": f"Bearer {tokens[name]}"})
        assert answer.status_code == 401


def test_user_info_challenges_who_brings_no_good_token(http: httpx.Client, clock: MovableClock) -> None:
    missing = http.get(USERINFO)
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == 'Bearer realm="facility"'
    without_openid = http.post(TOKEN, data=ALICE).json()["access_token"]
    answer = http.get(USERINFO, headers={"Authorization": f"Bearer {without_openid}"})
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    expiring = http.post(TOKEN, data=ALICE | {"scope": "openid"}).json()["access_token"]
    clock.offset_seconds = 301
    expired = http.get(USERINFO, headers={"Authorization": f"Bearer {expiring}"})
    assert (expired.status_code, expired.json()["error"]) == (401, "invalid_token")
    assert 'error="invalid_token"' in expired.headers["www-authenticate"]


def test_a_refresh_may_ask_for_less_but_never_gets_more(http: httpx.Client) -> None:
    refresh = ALICE | {"grant_type": "refresh_token"}
    first = http.post(TOKEN, data=ALICE | {"scope": "openid"}).json()
    less = http.post(TOKEN, data=refresh | {"refresh_token": first["refresh_token"], "scope": "email"}).json()
    assert less["scope"] == "email"
    assert "preferred_username" not in _claims(less["access_token"])
    more = refresh | {"refresh_token": less["refresh_token"], "scope": "openid offline_access"}
    assert http.post(TOKEN, data=more).json()["scope"] == "openid"


def test_logout_needs_a_good_refresh_token(http: httpx.Client) -> None:
    client = {"client_id": "archiver-service-api"}
    assert http.post(LOGOUT, data=client).json()["error"] == "invalid_request"
    assert http.post(LOGOUT, data=client | {"refresh_token": "x"}).json()["error"] == "invalid_grant"


def test_the_issuer_follows_the_host_by_which_it_is_called(identity: str) -> None:
    inner = identity.replace("127.0.0.1", "localhost")
    token = httpx.post(inner + TOKEN, data=ALICE, timeout=5).json()
    assert _claims(token["access_token"])["iss"] == f"{inner}/realms/facility"
    refresh = ALICE | {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    elsewhere = httpx.post(identity + TOKEN, data=refresh, timeout=5)
    assert elsewhere.status_code == 400
    assert elsewhere.json()["error_description"].startswith("Invalid token issuer.")


def test_a_configured_issuer_is_the_same_for_every_caller(config: IdentityConfig) -> None:
    with run_identity(config, issuer_url="https://sso.facility.example/keycloak/") as base_url:
        issuer = "https://sso.facility.example/keycloak/realms/facility"
        token = httpx.post(base_url + TOKEN, data=ALICE, timeout=5).json()
        assert _claims(token["access_token"])["iss"] == issuer
        described = httpx.get(base_url + "/realms/facility/.well-known/openid-configuration", timeout=5)
        assert described.json()["issuer"] == issuer
        assert described.json()["jwks_uri"] == f"{issuer}/protocol/openid-connect/certs"


@pytest.fixture
def unfinished_realm() -> Iterator[str]:
    """A realm whose only user has no last name, and whose client has no service account."""
    user = User(username="carol", password=SecretStr("pw"), email="carol@facility.example", first_name="Carol")
    client = Client(client_id="tool", client_secret=SecretStr("s3cret+/&"))
    with run_identity(IdentityConfig(realm="facility", clients=(client,), users=(user,))) as base_url:
        yield base_url


def test_an_account_that_is_not_fully_set_up_gets_no_token(unfinished_realm: str) -> None:
    form = {"grant_type": "password", "client_id": "tool", "client_secret": "s3cret+/&"}
    answer = httpx.post(unfinished_realm + TOKEN, data=form | {"username": "carol", "password": "pw"}, timeout=5)
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid_grant", "error_description": "Account is not fully set up"}


def test_a_client_without_a_service_account_has_no_credentials_grant(unfinished_realm: str) -> None:
    form = {"grant_type": "client_credentials", "client_id": "tool", "client_secret": "s3cret+/&"}
    answer = httpx.post(unfinished_realm + TOKEN, data=form, timeout=5)
    assert answer.status_code == 401
    assert answer.json()["error_description"] == "Client not enabled to retrieve service account"


def test_revoked_sessions_refresh_no_more(http: httpx.Client) -> None:
    alice = http.post(TOKEN, data=ALICE).json()
    service = ALICE | {"username": "archiver-service", "password": "archiver-service-local"}
    other = http.post(TOKEN, data=service).json()
    revoked = http.post("/_sim/revoke-sessions", params={"username": "alice"})
    assert revoked.json() == {"revoked": 1}
    refresh = ALICE | {"grant_type": "refresh_token"}
    gone = http.post(TOKEN, data=refresh | {"refresh_token": alice["refresh_token"]})
    assert gone.json() == {"error": "invalid_grant", "error_description": "Session not active"}
    assert http.post(TOKEN, data=refresh | {"refresh_token": other["refresh_token"]}).status_code == 200
    assert http.post("/_sim/revoke-sessions").json() == {"revoked": 1}


def test_a_planned_error_is_answered_as_often_as_planned(http: httpx.Client) -> None:
    fault = {"path_regex": "/certs$", "status": 503, "times": 2}
    assert http.post("/_sim/faults", json=fault).status_code == 201
    assert http.post(TOKEN, data=ALICE).status_code == 200
    assert http.get(CERTS).status_code == 503
    assert http.get("/_sim/faults").json()[0]["times"] == 1
    assert [http.get(CERTS).status_code for _ in range(2)] == [503, 200]
    assert http.get("/_sim/faults").json() == []


def test_planned_faults_can_be_called_off_and_fit_by_method(http: httpx.Client) -> None:
    http.post("/_sim/faults", json={"path_regex": ".*", "method": "post", "status": 500, "times": 9})
    assert http.get(CERTS).status_code == 200
    assert http.post(TOKEN, data=ALICE).status_code == 500
    assert http.delete("/_sim/faults").status_code == 204
    assert http.post(TOKEN, data=ALICE).status_code == 200


def test_a_planned_delay_is_longer_than_an_impatient_client_waits(http: httpx.Client) -> None:
    http.post("/_sim/faults", json={"path_regex": "/certs$", "delay_seconds": 60})
    with pytest.raises(httpx.ReadTimeout):
        http.get(CERTS, timeout=0.2)
    assert http.get(CERTS).status_code == 200


@pytest.mark.parametrize("fault", [{"path_regex": "("}, {"path_regex": "/", "status": 200}, {"path_regex": "/"}])
def test_a_fault_that_means_nothing_is_refused(http: httpx.Client, fault: dict[str, object]) -> None:
    assert http.post("/_sim/faults", json=fault).status_code == 422
