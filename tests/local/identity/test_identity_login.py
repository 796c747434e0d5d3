"""Logging in with a browser: authorization code flow with PKCE, as Keycloak does it."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from keycloak.pkce_utils import generate_code_challenge, generate_code_verifier

from archiver.local.identity.codes import CODE_LIFETIME_S
from archiver.local.identity.testing import MovableClock

AUTH = "/realms/facility/protocol/openid-connect/auth"
TOKEN = "/realms/facility/protocol/openid-connect/token"
USERINFO = "/realms/facility/protocol/openid-connect/userinfo"
BACK = "http://127.0.0.1:8000/login/callback"
VERIFIER = generate_code_verifier()
CHALLENGE, METHOD = generate_code_challenge(VERIFIER)
ASKED = {
    "client_id": "archiver-service-api",
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": "openid",
    "state": "s&t/te",
    "code_challenge": CHALLENGE,
    "code_challenge_method": METHOD,
}
OLGA = {"username": "olga", "password": "olga-local"}
EXCHANGE = {
    "grant_type": "authorization_code",
    "client_id": "archiver-service-api",
    "redirect_uri": BACK,
    "code_verifier": VERIFIER,
}


def code(http: httpx.Client, **changes: str) -> str:
    """The code of a login."""
    answer = http.post(AUTH, data=ASKED | OLGA | changes)
    assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


def test_a_user_logs_in_and_the_client_gets_tokens(http: httpx.Client) -> None:
    page = http.get(AUTH, params=ASKED)
    assert page.status_code == httpx.codes.OK
    assert 'name="password"' in page.text
    assert 'value="s&amp;t/te"' in page.text

    answer = http.post(AUTH, data=ASKED | OLGA)
    back = urlsplit(answer.headers["Location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == BACK
    assert parse_qs(back.query)["state"] == ["s&t/te"]

    tokens = http.post(TOKEN, data=EXCHANGE | {"code": parse_qs(back.query)["code"][0]})
    assert tokens.status_code == httpx.codes.OK, tokens.text
    assert {"access_token", "refresh_token", "id_token"} <= set(tokens.json())
    user = http.get(USERINFO, headers={"Authorization": f"Bearer {tokens.json()['access_token']}"}).json()
    assert (user["preferred_username"], user["groups"]) == ("olga", ["archiver-operators"])


def test_a_wrong_password_shows_the_form_again_with_the_reason(http: httpx.Client) -> None:
    answer = http.post(AUTH, data=ASKED | OLGA | {"password": "wrong"})

    assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert "Invalid user credentials" in answer.text
    assert f'value="{CHALLENGE}"' in answer.text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_id": "nobody"}, "Client not found."),
        ({"client_id": "scicat-hook"}, "Invalid parameter: redirect_uri"),
        ({"redirect_uri": "https://elsewhere.example/"}, "Invalid parameter: redirect_uri"),
        ({"response_type": "token"}, "Only response_type=code is simulated"),
        ({"code_challenge_method": "plain"}, "code challenge method"),
        ({"scope": "everything"}, "Invalid scopes"),
    ],
)
def test_what_is_not_registered_gets_no_form(http: httpx.Client, change: dict[str, str], error: str) -> None:
    for answer in (http.get(AUTH, params=ASKED | change), http.post(AUTH, data=ASKED | OLGA | change)):
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert error in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code_verifier": generate_code_verifier()}, "PKCE verification failed: Code mismatch"),
        ({"code_verifier": ""}, "PKCE verification failed: Code mismatch"),
        ({"redirect_uri": f"{BACK}/other"}, "Incorrect redirect_uri"),
        ({"code": "made-up"}, "Code not valid"),
    ],
)
def test_a_code_is_good_only_for_who_asked_for_it(http: httpx.Client, change: dict[str, str], error: str) -> None:
    given = code(http)
    answer = http.post(TOKEN, data=EXCHANGE | {"code": given} | change)

    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json() == {"error": "invalid_grant", "error_description": error}


def test_a_code_is_good_once(http: httpx.Client) -> None:
    given = code(http)
    assert http.post(TOKEN, data=EXCHANGE | {"code": given}).status_code == httpx.codes.OK

    assert http.post(TOKEN, data=EXCHANGE | {"code": given}).json()["error_description"] == "Code not valid"


def test_a_code_is_good_for_a_minute(http: httpx.Client, clock: MovableClock) -> None:
    given = code(http)
    clock.offset_seconds += CODE_LIFETIME_S

    assert http.post(TOKEN, data=EXCHANGE | {"code": given}).json()["error_description"] == "Code not valid"
