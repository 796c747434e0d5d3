"""/archiver/jobs, as SciCat's URL action calls it."""

import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from support.backend_api import JOB_ACCOUNT, OPERATOR, Api, Client, Parts, RunApi
from support.s3_servers import Relay

ANY_ID = "046b6c7f-0b8a-43b9-b35d-6489e6daee91"


def post_job(api: Api, body: object, **options: Any) -> httpx.Response:
    return api.anonymous().post("/archiver/jobs", body, **{"auth": JOB_ACCOUNT, **options})


def hook_token(api: Api, client_id: str, secret: str) -> str:
    answer = httpx.post(
        f"{api.config.identity.idp_url}/realms/facility/protocol/openid-connect/token",
        data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret},
    )
    return str(answer.raise_for_status().json()["access_token"])


@pytest.mark.parametrize("path", ["/archiver/jobs", "/archiver/jobs/"])
def test_a_job_becomes_a_flow_run(job_id: str, api: Api, path: str) -> None:
    answer = api.anonymous().post(path, {"id": job_id, "type": "archive"}, auth=JOB_ACCOUNT)
    assert answer.status_code == 201
    (asked,) = api.queue.asked
    assert asked["parameters"] == {"job_id": job_id}
    assert answer.json() == {"uuid": api.queue.runs[f"{job_id}#1"]["id"], "name": f"archive-{job_id}"}
    (recorded,) = api.ledger.runs(job_id)
    assert (str(recorded.run_id), recorded.job_type) == (answer.json()["uuid"], "archive")


def test_the_log_the_run_and_an_error_share_the_ids_of_request_and_job(job_id: str, api: Api) -> None:
    headers = {"X-Request-ID": f"hook-{job_id}"}
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        assert post_job(api, {"id": job_id, "type": "archive"}, headers=headers).status_code == 201
        api.queue.deployed = False
        refused = post_job(api, {"id": str(uuid.uuid4()), "type": "retrieve"}, headers=headers)

    assert f"request-hook-{job_id}" in api.queue.asked[0]["tags"]
    queued = next(line for line in lines if line["event"] == "job_queued")
    assert (queued["request_id"], queued["job_id"]) == (f"hook-{job_id}", job_id)
    assert queued["run_id"] == api.queue.runs[f"{job_id}#1"]["id"]
    assert refused.json()["request_id"] == f"hook-{job_id}"
    error = next(line for line in lines if line["event"] == "request_refused")
    assert error["request_id"] == refused.json()["request_id"]
    assert error["job_id"] != job_id


def test_a_repeated_job_is_one_run(job_id: str, api: Api) -> None:
    answers = [post_job(api, {"id": job_id, "type": "retrieve"}).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(api.queue.runs) == 1
    assert len(api.ledger.runs(job_id)) == 1


def test_whole_jobs_of_either_version_are_taken(job_id: str, api: Api) -> None:
    v4 = {
        "_id": job_id,
        "type": "archive",
        "statusCode": "jobSubmitted",
        "jobParams": {"datasetList": [{"pid": "p/x", "files": []}]},
        "contactEmail": "a@b.ch",
        "__v": 0,
    }
    v3 = {"id": job_id, "emailJobInitiator": "a@b.ch", "type": "archive", "datasetList": [], "jobStatusMessage": "x"}
    assert [post_job(api, body).status_code for body in (v4, v3)] == [201, 201]
    assert len(api.queue.runs) == 1


def test_a_job_sent_as_text_is_read_as_json(job_id: str, api: Api) -> None:
    text = f'{{"id": "{job_id.replace("-", "")}", "type": "archive"}}'
    for headers in ({"Content-Type": "text/plain;charset=UTF-8"}, {}):
        answer = post_job(api, None, content=text, headers=headers)
        assert answer.status_code == 201, answer.text
    assert [asked["parameters"]["job_id"] for asked in api.queue.asked] == [job_id, job_id]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"id": "no-uuid", "type": "archive"}, ["body", "id"]),
        ({"id": 7, "type": "archive"}, ["body", "id"]),
        ({"id": ANY_ID, "type": "public"}, ["body", "type"]),
        ({"id": ANY_ID}, ["body", "type"]),
        ({"type": "archive"}, ["body", "id"]),
        ([], ["body"]),
        (None, ["body"]),
    ],
)
def test_a_job_that_is_none_is_422_and_says_where(api: Api, body: object, where: list[str]) -> None:
    answer = post_job(api, body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == where
    assert answer.json()["code"] == "invalid-request"
    assert not api.queue.asked


def test_broken_json_is_422(api: Api) -> None:
    assert post_job(api, None, content=b'{"id": ').status_code == 422
    assert post_job(api, None, content=b"\xff\xfe").status_code == 422


def test_missing_and_wrong_credentials_are_401_with_a_challenge(job_id: str, api: Api) -> None:
    body = {"id": job_id, "type": "archive"}
    missing = api.anonymous().post("/archiver/jobs", body)
    assert missing.status_code == 401
    assert "Basic" in missing.headers["WWW-Authenticate"]
    assert "Bearer" in missing.headers["WWW-Authenticate"]
    assert missing.json()["code"] == "not-authenticated"
    for account in ((JOB_ACCOUNT[0], "wrong"), ("wrong", JOB_ACCOUNT[1]), ("", "")):
        wrong = post_job(api, body, auth=account)
        assert (wrong.status_code, "Basic" in wrong.headers["WWW-Authenticate"]) == (401, True)
        assert wrong.json()["details"] == "Incorrect username or password."
    for header in ("Basic !!!", "Basic", "Digest x", "Bearer"):
        assert post_job(api, body, auth=None, headers={"Authorization": header}).status_code == 401
    assert not api.queue.asked


def test_an_unset_job_account_lets_nobody_in(job_id: str, start_api: RunApi) -> None:
    with start_api(api={"job_endpoint_username": SecretStr(""), "job_endpoint_password": SecretStr("")}) as api:
        assert post_job(api, {"id": job_id, "type": "archive"}, auth=("", "")).status_code == 401


def test_a_bearer_needs_the_role(job_id: str, api: Api) -> None:
    body = {"id": job_id, "type": "archive"}
    hook = {"Authorization": f"Bearer {hook_token(api, 'scicat-hook', 'scicat-hook-local')}"}
    assert post_job(api, body, auth=None, headers=hook).status_code == 201
    ingestor = api.client().post("/archiver/jobs", body)
    assert (ingestor.status_code, ingestor.json()["code"]) == (403, "forbidden")
    assert "archiver-jobs" in ingestor.json()["details"]
    assert api.client(OPERATOR).post("/archiver/jobs", body).status_code == 201


def test_a_missing_deployment_is_500_and_says_what_to_do(job_id: str, api: Api) -> None:
    api.queue.deployed = False
    answer = post_job(api, {"id": job_id, "type": "archive"})
    assert answer.status_code == 500
    assert answer.json()["message"] == "Failed to create job"
    assert answer.json()["code"] == "deployment-missing"
    assert "datasets_archival" in answer.json()["details"]


def test_a_run_is_queued_though_the_ledger_is_away(job_id: str, parts: Parts, start_api: RunApi) -> None:
    address = make_url(parts.ledger_url)
    assert address.host is not None
    relay = Relay((address.host, address.port or 5432))
    relay_url = address.set(host=urlsplit(relay.address).hostname, port=urlsplit(relay.address).port)
    with start_api(ledger={"ledger_url": SecretStr(relay_url.render_as_string(hide_password=False))}) as api:
        relay.close()
        assert post_job(api, {"id": job_id, "type": "archive"}).status_code == 201
        assert f"{job_id}#1" in api.queue.runs
        ready = api.anonymous().get("/health/readyz")
        assert [error["dependency"] for error in ready.json()["errors"]] == ["Ledger"]
        refused = Client(api.base, api.catalogue.token()).post("/token")
        assert (refused.status_code, refused.json()["code"]) == (503, "ledger")
        assert int(refused.headers["Retry-After"]) > 0
