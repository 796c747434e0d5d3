"""Faults on demand: errors, delays, lost connections, before and after the effect."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

Body = Callable[..., dict[str, Any]]
Arm = Callable[..., None]


def test_the_next_n_matching_calls_fail_and_later_ones_pass(alice: httpx.Client, arm: Arm) -> None:
    arm(method="GET", path_regex="/datasets$", times=2, status=503)
    assert alice.get("/api/v3/auth/whoami").status_code == 200
    failed = [alice.get("/api/v3/datasets") for _ in range(2)]
    assert [reply.status_code for reply in failed] == [503, 503]
    assert failed[0].json()["statusCode"] == 503
    assert alice.get("/api/v3/datasets").status_code == 200


def test_a_500_has_the_backends_bare_body_and_other_bodies_can_be_given(anonymous: httpx.Client, arm: Arm) -> None:
    arm(path_regex="/health", status=500)
    assert anonymous.get("/api/v3/health").json() == "Internal server error"
    down = {"status": "error", "info": {}, "error": {"mongodb": {"status": "down"}}}
    arm(path_regex="/health", status=503, body=down)
    reply = anonymous.get("/api/v3/health")
    assert (reply.status_code, reply.json()) == (503, down)


def test_a_fault_lets_the_first_calls_pass_or_lasts_until_removed(anonymous: httpx.Client, arm: Arm) -> None:
    arm(path_regex="/health", skip=2, times=None, status=500)
    statuses = [anonymous.get("/api/v3/health").status_code for _ in range(5)]
    assert statuses == [200, 200, 500, 500, 500]
    (listed,) = anonymous.get("/_sim/faults").json()
    assert (listed["fired"], listed["passed"]) == (3, 2)
    assert anonymous.delete(f"/_sim/faults/{listed['id']}").json() == {"count": 1}
    assert anonymous.get("/api/v3/health").status_code == 200


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_failed_call_took_effect_only_if_asked(
    alice: httpx.Client, anonymous: httpx.Client, dataset_body: Body, arm: Arm, after_effect: bool
) -> None:
    arm(method="POST", path_regex="/datasets", status=500, after_effect=after_effect)
    assert alice.post("/api/v4/datasets", json=dataset_body()).status_code == 500
    assert anonymous.get("/_sim/state").json()["datasets"] == int(after_effect)


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_dropped_connection_gives_no_reply_at_all(
    alice: httpx.Client, anonymous: httpx.Client, dataset_body: Body, arm: Arm, after_effect: bool
) -> None:
    arm(method="POST", path_regex="/datasets", drop_connection=True, after_effect=after_effect)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        alice.post("/api/v4/datasets", json=dataset_body())
    assert anonymous.get("/_sim/state").json()["datasets"] == int(after_effect)
    assert alice.post("/api/v4/datasets", json=dataset_body()).status_code == 201


def test_a_held_call_times_out_at_the_client_and_others_go_on(
    alice: httpx.Client, anonymous: httpx.Client, arm: Arm
) -> None:
    arm(path_regex="/whoami", delay_seconds=30)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(alice.get, "/api/v3/auth/whoami", timeout=1.0)
        assert anonymous.get("/api/v3/health").status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            held.result()


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_call_can_be_merely_late(alice: httpx.Client, dataset_body: Body, arm: Arm, after_effect: bool) -> None:
    arm(path_regex="/datasets", delay_seconds=0.05, after_effect=after_effect)
    assert alice.post("/api/v4/datasets", json=dataset_body()).json()["owner"] == "Alice"


def test_paths_are_matched_as_they_were_sent(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Callable[..., str], arm: Arm
) -> None:
    pid = new_dataset()
    arm(method="get", path_regex=r"/datasets/20\.500\.12345%2F[^/]+$", status=502)
    assert alice.get(path_of(pid, "datablocks")).status_code == 200
    assert alice.get(path_of(pid)).status_code == 502


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"status": 200},
        {"status": 500, "drop_connection": True},
        {"status": 500, "times": 0},
        {"status": 500, "path_regex": "("},
        {"status": 500, "surprise": 1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(anonymous: httpx.Client, fault: dict[str, Any]) -> None:
    assert anonymous.post("/_sim/faults", json=fault).status_code == 422


def test_the_controls_are_never_spoilt_and_a_reset_removes_everything_but_accounts(
    alice: httpx.Client, anonymous: httpx.Client, new_dataset: Callable[..., str], arm: Arm
) -> None:
    new_dataset()
    arm(times=None, status=500)
    assert alice.get("/api/v3/auth/whoami").status_code == 500
    assert anonymous.post("/_sim/reset").json()["datasets"] == 0
    assert anonymous.get("/_sim/faults").json() == []
    assert alice.get("/api/v3/auth/whoami").json()["username"] == "alice"
    assert anonymous.delete("/_sim/faults").json() == {"count": 0}
