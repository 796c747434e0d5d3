"""/token and the bearer tokens of uploads."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from jwcrypto.jwk import JWK  # type: ignore[import-untyped]
from jwcrypto.jwt import JWT  # type: ignore[import-untyped]

from archiver.local.identity.testing import run_identity
from archiver.local.scicat.defaults import INGESTOR, OTHER_USER
from support.backend_api import COLLEAGUE, FOREIGNER, OPERATOR, Api, Client, RunApi

UPLOAD = {"dataset_id": "p/x", "dataset_size_gib": 1}


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def keycloak_token(api: Api, **form: str) -> dict[str, object]:
    """An answer of Keycloak itself, for a user who logs in there."""
    answer = httpx.post(
        f"{api.config.identity.idp_url}/realms/facility/protocol/openid-connect/token",
        data={"client_id": "archiver-service-api", **form},
    )
    found: dict[str, object] = answer.raise_for_status().json()
    return found


def test_an_ingestor_gets_a_token_and_is_remembered(api: Api) -> None:
    answer = Client(api.base, api.catalogue.token()).post("/token")
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {
        "access_token",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
        "token_type",
        "not-before-policy",
        "session_state",
        "scope",
    }
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] > 0
    session = api.ledger.find_session(str(claims_of(body["access_token"])["sid"]))
    assert session is not None
    assert session.user == INGESTOR
    assert "p12345" in session.groups


def test_every_user_has_a_session_of_their_own(api: Api) -> None:
    tokens = [api.client(user).token or "" for user in (INGESTOR, COLLEAGUE, INGESTOR)]
    assert len({claims_of(token)["sid"] for token in tokens}) == 3


def test_users_of_no_ingestor_group_are_refused(api: Api) -> None:
    answer = Client(api.base, api.catalogue.token(OTHER_USER)).post("/token")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "SCICAT_INGESTOR_GROUPS" in answer.json()["details"]


def test_without_configured_groups_only_operators_get_tokens(start_api: RunApi) -> None:
    with start_api(identity={"scicat_ingestor_groups": ()}) as api:
        assert Client(api.base, api.catalogue.token()).post("/token").status_code == 403
        assert Client(api.base, api.catalogue.token(OPERATOR)).post("/token").status_code == 201


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "e30.e30.x", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"])
def test_what_is_no_scicat_token_is_401(api: Api, token: str) -> None:
    answer = api.anonymous().post("/token", headers={"Authorization": f"Bearer {token}".strip()})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "not-authenticated"


def test_missing_bearers_are_401_with_a_challenge(api: Api) -> None:
    for path in ("/token", "/s3/requestDatasetUpload", "/s3/completeUpload"):
        for headers in ({}, {"Authorization": "Basic dTpw"}):
            answer = api.anonymous().post(path, UPLOAD, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="archiver"'


def test_a_refreshed_token_is_still_the_same_user(api: Api) -> None:
    pid = api.catalogue.new_dataset()
    made = Client(api.base, api.catalogue.token()).post("/token").json()
    refreshed = keycloak_token(api, grant_type="refresh_token", refresh_token=made["refresh_token"])
    assert Client(api.base, str(refreshed["access_token"])).request_upload(pid).status_code == 201


def test_a_user_of_keycloak_is_judged_by_their_own_groups(api: Api) -> None:
    made = keycloak_token(api, grant_type="password", username="alice", password="alice-local")
    alice = Client(api.base, str(made["access_token"]))
    assert alice.request_upload(api.catalogue.new_dataset()).status_code == 201
    foreign = alice.request_upload(api.catalogue.new_dataset("p54321"))
    assert (foreign.status_code, foreign.json()["code"]) == (403, "forbidden")


def test_the_service_account_alone_may_touch_nothing(api: Api) -> None:
    made = keycloak_token(api, grant_type="password", username="archiver-service", password="archiver-service-local")
    answer = Client(api.base, str(made["access_token"])).request_upload(api.catalogue.new_dataset())
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_id_and_refresh_tokens_are_no_access_tokens(api: Api) -> None:
    made = keycloak_token(api, grant_type="password", username="alice", password="alice-local", scope="openid")
    for kind in ("id_token", "refresh_token"):
        answer = Client(api.base, str(made[kind])).request_upload("p/x")
        assert (answer.status_code, answer.json()["code"]) == (401, "not-authenticated"), kind


def test_a_wrong_password_of_the_service_account_is_500_and_says_what_to_check(start_api: RunApi) -> None:
    from pydantic import SecretStr

    with start_api(identity={"idp_password": SecretStr("wrong")}) as api:
        answer = Client(api.base, api.catalogue.token()).post("/token")
        assert (answer.status_code, answer.json()["code"]) == (500, "service-account-refused")
        assert "IDP_PASSWORD" in answer.json()["details"]


def test_settings_that_do_not_fit_the_tokens_show_at_token(start_api: RunApi) -> None:
    for wrong in ({"idp_audience": "somebody"}, {"idp_algorithm": "ES256"}):
        with start_api(identity=wrong) as api:
            answer = Client(api.base, api.catalogue.token()).post("/token")
            assert (answer.status_code, answer.json()["code"]) == (500, "service-account-refused")
            assert "IDP_AUDIENCE" in answer.json()["details"]


def test_the_issuer_and_the_address_of_the_keys_are_two_settings(start_api: RunApi) -> None:
    public = "https://id.facility.example"
    with (
        run_identity(issuer_url=public) as inner,
        start_api(identity={"idp_url": public, "idp_internal_url": inner}) as api,
    ):
        assert api.client().request_upload(api.catalogue.new_dataset()).status_code == 201


@dataclass
class Realm:
    """A realm of the test's own, whose keys it holds, behind an address that can be counted and cut off."""

    url: str
    key: JWK
    keys: list[JWK]
    fetches: int = 0
    away: bool = False

    def token(self, key: JWK | None = None, **changes: object) -> str:
        signer = key or self.key
        claims = {
            "iss": f"{self.url}/realms/facility",
            "aud": "account",
            "exp": 4_000_000_000,
            "sub": "7",
            "typ": "Bearer",
            "groups": ["/p12345"],
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        jwt = JWT(header={"alg": "RS256", "kid": signer["kid"]}, claims=kept)
        jwt.make_signed_token(signer)
        return str(jwt.serialize())


@pytest.fixture
def realm() -> Iterator[Realm]:
    from fastapi import FastAPI, HTTPException

    from support.backend_api import serve

    key = JWK.generate(kty="RSA", size=2048, kid="one", use="sig")
    found = Realm("", key, [key])
    app = FastAPI()

    @app.get("/realms/facility/protocol/openid-connect/certs")
    def certs() -> dict[str, object]:
        found.fetches += 1
        if found.away:
            raise HTTPException(503)
        return {"keys": [json.loads(each.export_public()) for each in found.keys]}

    with serve(app) as found.url:
        yield found


@pytest.fixture
def guarded(start_api: RunApi, realm: Realm) -> Iterator[Api]:
    with start_api(identity={"idp_url": realm.url}) as api:
        yield api


def ask(api: Api, token: str) -> tuple[int, str]:
    """What a token is worth: 404 is what a good one gets for an unknown data set."""
    answer = Client(api.base, token).request_upload("20.500.11935/unknown")
    return answer.status_code, answer.json()["code"]


def test_keys_are_fetched_once(guarded: Api, realm: Realm) -> None:
    assert [ask(guarded, realm.token()) for _ in range(5)] == [(404, "unknown-dataset")] * 5
    assert realm.fetches == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "never"},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://elsewhere/realms/facility"},
        {"iss": None},
        {"typ": "ID"},
        {"nbf": 3_999_999_999},
    ],
)
def test_tokens_with_wrong_claims_are_refused(guarded: Api, realm: Realm, changes: dict[str, object]) -> None:
    assert ask(guarded, realm.token(**changes)) == (401, "not-authenticated")


def test_a_token_of_several_audiences_is_taken(guarded: Api, realm: Realm) -> None:
    assert ask(guarded, realm.token(aud=["broker", "account"])) == (404, "unknown-dataset")


def test_forged_tokens_are_refused(guarded: Api, realm: Realm) -> None:
    other = JWK.generate(kty="RSA", size=2048, kid="one", use="sig")
    assert ask(guarded, realm.token(other)) == (401, "not-authenticated")
    header, payload, signature = realm.token().split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","kid":"one"}').rstrip(b"=").decode()
    assert ask(guarded, f"{unsigned}.{payload}.") == (401, "not-authenticated")
    assert ask(guarded, f"{header}.{payload}.{signature[:-6]}AAAAAA") == (401, "not-authenticated")
    # The public key taken for a secret: the classic confusion of algorithms.
    secret = JWK(kty="oct", k=base64.urlsafe_b64encode(realm.key.export_to_pem()).decode(), kid="one")
    confused = JWT(header={"alg": "HS256", "kid": "one"}, claims=claims_of(realm.token()))
    confused.make_signed_token(secret)
    assert ask(guarded, confused.serialize()) == (401, "not-authenticated")


def test_a_new_key_is_found_and_made_up_ones_do_not_flood_the_provider(guarded: Api, realm: Realm) -> None:
    new = JWK.generate(kty="RSA", size=2048, kid="two", use="sig")
    realm.keys.append(new)
    assert ask(guarded, realm.token(new)) == (404, "unknown-dataset")
    made_up = JWK.generate(kty="RSA", size=2048, kid="made up", use="sig")
    assert [ask(guarded, realm.token(made_up)) for _ in range(4)] == [(401, "not-authenticated")] * 4
    assert realm.fetches == 1
    assert ask(guarded, realm.token()) == (404, "unknown-dataset")


def test_known_tokens_are_good_while_the_provider_is_away(guarded: Api, realm: Realm) -> None:
    assert ask(guarded, realm.token()) == (404, "unknown-dataset")
    realm.away = True
    assert ask(guarded, realm.token()) == (404, "unknown-dataset")


def test_without_any_key_the_provider_being_away_is_503(guarded: Api, realm: Realm) -> None:
    realm.away = True
    assert ask(guarded, realm.token()) == (503, "identity-provider")
    assert ask(guarded, realm.token()) == (503, "identity-provider")


def test_a_user_of_another_group_cannot_touch_a_data_set(api: Api) -> None:
    pid = api.catalogue.new_dataset()
    api.client().request_upload(pid)
    foreigner = api.client(FOREIGNER)
    for path, body in (
        ("/s3/requestDatasetUpload", {"dataset_id": pid, "dataset_size_gib": 1}),
        ("/s3/abortDatasetUpload", {"dataset_id": pid}),
        (
            "/s3/presignedUrls",
            {"dataset_id": pid, "object_name": f"openem-network/datasets/{pid}/raw_files/a", "parts": 1},
        ),
        (
            "/s3/finalizeDatasetUpload",
            {
                "dataset_id": pid,
                "create_archiving_job": False,
                "owner_group": "p54321",
                "owner_user": "x",
                "contact_email": "x",
            },
        ),
    ):
        answer = foreigner.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
    assert api.client(OPERATOR).post("/s3/abortDatasetUpload", {"dataset_id": pid}).status_code == 201
