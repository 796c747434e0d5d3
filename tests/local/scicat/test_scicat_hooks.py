"""URL actions: what goes over the wire, what the caller sees, what stays behind."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from archiver.local.scicat.config import JobRule, JobType, ScicatConfig, UrlAction
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, OTHER_USER, stack_config
from archiver.local.scicat.templates import Template
from archiver.local.scicat.testing import run_scicat

Body = Callable[..., dict[str, Any]]
NewDataset = Callable[..., str]
SignIn = Callable[[str], httpx.Client]


@pytest.fixture(scope="module")
def hook_actions(running_hook: Any) -> tuple[UrlAction, ...]:
    """Every new job is posted to the hook as a v4 job."""
    return (
        UrlAction(
            url=f"{running_hook.url}/hook/{{{{ job.type }}}}/{{{{ job.id }}}}",
            method="POST",
            headers={"content-type": "application/json", "Authorization": "Bearer hooksecret"},
            body="{{{ jsonify job }}}",
        ),
    )


def test_the_hook_gets_the_saved_job_with_the_configured_headers(
    alice: httpx.Client, hook: Any, new_dataset: NewDataset, job_body: Body
) -> None:
    job = alice.post("/api/v4/jobs", json=job_body(new_dataset())).json()
    (delivery,) = hook.deliveries
    assert (delivery.method, delivery.path) == ("POST", f"/hook/archive/{job['id']}")
    assert delivery.headers["authorization"] == "Bearer hooksecret"
    assert delivery.headers["content-type"] == "application/json"
    assert (delivery.headers["user-agent"], delivery.headers["sec-fetch-mode"]) == ("node", "cors")
    assert json.loads(delivery.body) == job
    assert "\n" in delivery.body


def test_the_hooks_handler_can_read_and_change_the_job_while_its_creator_waits(
    alice: httpx.Client, archiver: httpx.Client, hook: Any, new_dataset: NewDataset, job_body: Body
) -> None:
    seen: list[Any] = []

    def call_back(delivery: Any) -> None:
        path = f"/api/v4/jobs/{json.loads(delivery.body)['id']}"
        seen.append(archiver.get(path).json()["statusCode"])
        change = {"statusCode": "inProgress", "statusMessage": "started"}
        seen.append(archiver.patch(path, json=change).status_code)

    hook.during = call_back
    job = alice.post("/api/v4/jobs", json=job_body(new_dataset())).json()
    assert seen == ["jobSubmitted", 200]
    assert job["statusCode"] == "jobSubmitted"
    assert archiver.get(f"/api/v4/jobs/{job['id']}").json()["statusCode"] == "inProgress"


def test_many_hooks_that_call_back_at_once_do_not_block_each_other(
    alice: httpx.Client, archiver: httpx.Client, hook: Any, new_dataset: NewDataset, job_body: Body
) -> None:
    # More than the server has threads for handlers: all must be inside their hook before any goes on.
    number = 50
    together = threading.Barrier(number)

    def call_back(delivery: Any) -> None:
        together.wait(60)
        archiver.get(f"/api/v4/jobs/{json.loads(delivery.body)['id']}").raise_for_status()

    hook.during = call_back
    pid = new_dataset()
    with ThreadPoolExecutor(number) as pool:
        asked = [pool.submit(alice.post, "/api/v4/jobs", json=job_body(pid), timeout=60) for _ in range(number)]
        assert {one.result().status_code for one in asked} == {201}
    assert len(archiver.get("/api/v4/jobs").json()) == number


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 503])
def test_a_hooks_error_is_passed_on_and_the_job_stays_behind(
    alice: httpx.Client, archiver: httpx.Client, hook: Any, new_dataset: NewDataset, job_body: Body, status: int
) -> None:
    hook.status, hook.answer = status, "no room left"
    reply = alice.post("/api/v4/jobs", json=job_body(new_dataset()))
    assert reply.status_code == status
    assert set(reply.json()) == {"status", "message"}
    assert "no room left" in reply.json()["message"]
    (orphan,) = archiver.get("/api/v4/jobs").json()
    assert orphan["statusCode"] == "jobSubmitted"
    assert len(hook.deliveries) == 1


def _config_with(config: ScicatConfig, create: UrlAction, update: tuple[UrlAction, ...] = ()) -> ScicatConfig:
    note = JobType(
        job_type="note",
        create=JobRule(auth="#authenticated", actions=(create,)),
        update=JobRule(auth="#jobOwnerUser", actions=update),
    )
    return config.model_copy(update={"jobs": (note,)})


@pytest.mark.parametrize(("ignore", "status"), [(False, 400), (True, 201)])
def test_a_refused_connection_is_a_400_unless_errors_are_ignored(
    config: ScicatConfig, ignore: bool, status: int
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        action = UrlAction(url=f"http://127.0.0.1:{unused.getsockname()[1]}/", ignore_errors=ignore)
        with run_scicat(_config_with(config, action)) as base_url, _signed_in(base_url, "alice") as alice:
            reply = alice.post("/api/v4/jobs", json={"type": "note", "jobParams": {}, "ownerGroup": "p12345"})
            assert reply.status_code == status
            assert len(alice.get("/api/v4/jobs").json()) == 1
            if not ignore:
                assert "fetch failed" in reply.json()["message"]


def test_an_updates_hook_can_fail_after_the_change_was_saved(config: ScicatConfig, hook: Any) -> None:
    action = UrlAction(url=f"{hook.url}/hook", method="POST", body='{"id": "{{{ job.id }}}"}')
    with (
        run_scicat(_config_with(config, action, (action,))) as base_url,
        _signed_in(base_url, "alice") as alice,
    ):
        job = alice.post("/api/v4/jobs", json={"type": "note", "jobParams": {}, "ownerGroup": "p12345"}).json()
        hook.status = 502
        reply = alice.patch(f"/api/v4/jobs/{job['id']}", json={"statusCode": "done", "statusMessage": "x"})
        assert reply.status_code == 502
        assert alice.get(f"/api/v4/jobs/{job['id']}").json()["statusCode"] == "done"
    # Without a configured content type, a text is a text.
    assert hook.deliveries[0].headers["content-type"] == "text/plain;charset=UTF-8"


@contextmanager
def _signed_in(base_url: str, username: str, password: str | None = None) -> Iterator[httpx.Client]:
    credentials = {"username": username, "password": password or f"{username}-pw"}
    with httpx.Client(base_url=base_url, timeout=30, trust_env=False) as client:
        reply = client.post("/api/v3/auth/login", json=credentials)
        client.headers["authorization"] = f"Bearer {reply.json()['access_token']}"
        yield client


def test_the_stacks_configuration_posts_id_and_type_with_basic_credentials(hook: Any, raw_body: Body) -> None:
    stack = stack_config(
        hook_url=f"{hook.url}/archiver/jobs", hook_username="job", hook_password="pw", passwords={ARCHIVER: "a"}
    )
    with (
        run_scicat(stack) as base_url,
        _signed_in(base_url, INGESTOR, INGESTOR) as ingestor,
        _signed_in(base_url, ARCHIVER, "a") as archiver,
        _signed_in(base_url, OTHER_USER, OTHER_USER) as other,
    ):
        pid = ingestor.post("/api/v3/datasets", json=raw_body(pid="20.500.12345/mine")).json()["pid"]
        body = {"type": "archive", "ownerGroup": "p12345", "jobParams": {"datasetList": [{"pid": pid, "files": []}]}}
        job = ingestor.post("/api/v4/jobs", json=body).json()
        (delivery,) = hook.deliveries
        assert json.loads(delivery.body) == {"id": job["id"], "type": "archive"}
        assert delivery.headers["authorization"] == "Basic am9iOnB3"
        assert other.post("/api/v4/jobs", json={**body, "ownerGroup": "p54321"}).status_code == 403
        done = {"statusCode": "finishedSuccessful", "statusMessage": "done"}
        assert archiver.patch(f"/api/v4/jobs/{job['id']}", json=done).status_code == 200
        assert ingestor.patch(f"/api/v4/jobs/{job['id']}", json=done).status_code == 403
        archiver.patch(f"/api/v4/datasets/{pid.replace('/', '%2F')}/datasetlifecycle", json={"archivable": False})
        assert ingestor.post("/api/v4/jobs", json=body).status_code == 400


def test_a_configuration_survives_its_way_through_json() -> None:
    stack = stack_config(hook_url="http://127.0.0.1:1/", hook_username="u", hook_password="p")
    assert ScicatConfig.model_validate_json(stack.model_dump_json(by_alias=True)) == stack
    assert ScicatConfig.model_validate_json(stack.model_dump_json()) == stack


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ job.type }}", "a&lt;b"),
        ("{{{ job.type }}}", "a<b"),
        ("{{{job.jobParams.n}}}-{{{ job.none.x }}}-{{{ job.isPublished }}}", "3--false"),
        ("{{{ env.HOOK_TOKEN }}}", "secret"),
    ],
)
def test_templates_are_filled(template: str, expected: str) -> None:
    job = {"type": "a<b", "jobParams": {"n": 3}, "isPublished": False}
    assert Template(template).render({"job": job, "env": {"HOOK_TOKEN": "secret"}}) == expected


def test_the_v3_form_of_a_job_keeps_the_list_in_its_params_and_adds_the_user_name() -> None:
    listed = [{"pid": "p", "files": []}]
    job = {
        "id": "1",
        "type": "archive",
        "createdAt": "T",
        "statusCode": "jobSubmitted",
        "ownerUser": "alice",
        "contactEmail": "a@b",
        "jobParams": {"datasetList": listed},
    }
    assert json.loads(Template("{{{ jsonify (job_v3 job) }}}").render({"job": job})) == {
        "id": "1",
        "emailJobInitiator": "a@b",
        "type": "archive",
        "creationTime": "T",
        "jobParams": {"datasetList": listed, "username": "alice"},
        "jobStatusMessage": "jobSubmitted",
        "datasetList": listed,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"actionType": "url", "url": "{{ unless job }}"},
        {"actionType": "email"},
        {"actionType": "validate", "request": {"a": {"oneOf": []}}},
        {"actionType": "validate", "datasets": {"a": {"type": "text"}}},
    ],
)
def test_an_action_that_is_not_simulated_is_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobRule.model_validate({"auth": "#all", "actions": [wrong]})


def test_an_unknown_rule_or_a_repeated_name_is_refused_at_the_start(config: ScicatConfig) -> None:
    with pytest.raises(ValidationError, match="#datasetSomething"):
        JobType(job_type="x", create=JobRule(auth="#datasetSomething"), update=JobRule(auth="#all"))
    with pytest.raises(ValidationError, match="e-mail"):
        ScicatConfig(accounts=(*config.accounts, config.accounts[0].model_copy(update={"username": "new"})))
