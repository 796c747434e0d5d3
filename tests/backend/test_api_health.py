"""Liveness, readiness, metrics, and the errors of the framework."""

import socket
from datetime import datetime

import httpx

from archiver.config.settings import UploadMode
from archiver.local.scicat.testing import run_scicat
from support.backend_api import Api, RunApi, scicat_config


def test_a_living_service_says_so(api: Api) -> None:
    answer = api.anonymous().get("/health/livez")
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    assert datetime.fromisoformat(answer.json()["timestamp"]).tzinfo is not None


def test_a_service_whose_dependencies_answer_is_ready(api: Api) -> None:
    answer = api.anonymous().get("/health/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


def test_readiness_names_every_dependency_that_does_not_answer(start_api: RunApi) -> None:
    nowhere = "http://127.0.0.1:9"
    with start_api(
        queue={"prefect_api_url": f"{nowhere}/api"},
        identity={"idp_internal_url": nowhere},
        catalogue={"scicat_endpoint": nowhere},
    ) as api:
        answer = api.anonymous().get("/health/readyz")
        assert answer.status_code == 503
        body = answer.json()
        assert body["status"] == "not ready"
        assert {error["dependency"] for error in body["errors"]} == {"SciCat", "Keycloak", "Prefect"}
        assert {error["endpoint"] for error in body["errors"]} >= {f"{nowhere}/api/health", f"{nowhere}/api/v3/health"}
        assert all(error["message"] for error in body["errors"])


def test_a_dependency_that_hangs_does_not_hold_readiness_up(start_api: RunApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with start_api(queue={"prefect_api_url": url, "prefect_timeout_s": 3600}) as api:
            errors = api.anonymous().get("/health/readyz").json()["errors"]
            assert [(error["dependency"], error["message"]) for error in errors] == [
                ("Prefect", "no answer within 3 s")
            ]
            assert api.anonymous().get("/health/livez").status_code == 200


def test_a_service_that_lost_its_landing_storage_is_not_ready(start_api: RunApi) -> None:
    with start_api(store={"s3_endpoint": "http://127.0.0.1:9"}, landing={"upload_mode": UploadMode.EDGE}) as api:
        answer = api.anonymous().get("/health/readyz")
        assert answer.status_code == 503
        assert [error["dependency"] for error in answer.json()["errors"]] == ["S3"]


def test_unknown_paths_and_methods_answer_json(api: Api) -> None:
    unknown = api.anonymous().get("/nowhere")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    wrong = api.anonymous().get("/s3/presignedUrls")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    for body in (unknown.json(), wrong.json()):
        assert set(body) >= {"code", "message", "details", "timestamp", "request_id"}


def test_paths_work_with_the_public_prefix_and_without(api: Api) -> None:
    stripped = api.base.removesuffix("/archiver/api/v1")
    assert httpx.get(f"{stripped}/health/livez").status_code == 200
    assert httpx.get(f"{api.base}/health/livez").status_code == 200
    servers = httpx.get(f"{stripped}/openapi.json").json()["servers"]
    assert servers == [{"url": "/archiver/api/v1"}]


def test_every_answer_carries_the_request_id(api: Api) -> None:
    given = api.anonymous().get("/nowhere", headers={"X-Request-ID": "job-17.a"})
    assert given.headers["X-Request-ID"] == "job-17.a"
    assert given.json()["request_id"] == "job-17.a"
    made = api.anonymous().get("/health/livez", headers={"X-Request-ID": "no\tgood id"})
    assert made.headers["X-Request-ID"].isalnum()


def test_browsers_of_the_named_origins_may_call(api: Api) -> None:
    for origin, allowed in (("http://localhost:5173", True), ("http://127.0.0.1:8123", True), ("https://evil", False)):
        answer = api.anonymous().get("/health/livez", headers={"Origin": origin})
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


def test_a_catalogue_that_comes_back_makes_the_service_ready(start_api: RunApi) -> None:
    with run_scicat(scicat_config()) as url, start_api(catalogue={"scicat_endpoint": url}) as api:
        httpx.post(f"{url}/_sim/faults", json={"path_regex": "/health", "status": 503, "times": 1}).raise_for_status()
        assert api.anonymous().get("/health/readyz").status_code == 503
        assert api.anonymous().get("/health/readyz").status_code == 200
