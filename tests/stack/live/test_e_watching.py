"""What tells operators how the stack does: Prometheus, /metrics for one outside, messages to their channel."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stack.commands import CommandFailedError
from stack.engine import Engine
from stack.folders import cache_folder
from stack.listener import Listener
from stack.operated import OperatedStack
from stack.payload import write_noise
from stack.standins import one_image, read_values
from stack.visitor import Visitor
from stack.waiting import wait_for

pytestmark = [pytest.mark.timeout(7200), pytest.mark.long]

_ASK = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
"""


@pytest.fixture
def watched(stack: OperatedStack, engine: Engine) -> Iterator[OperatedStack]:
    """The stack with the Prometheus of the profile `monitoring`."""
    image = one_image(engine, read_values(stack.folder / ".env"), "PROMETHEUS_IMAGE", cache_folder())
    watched = stack.with_values({"PROMETHEUS_IMAGE": image, "COMPOSE_PROFILES": "minio,development,monitoring"})
    watched.up("prometheus")
    try:
        yield watched
    finally:
        watched.compose("rm", "--stop", "--force", "--volumes", "prometheus")


def _ask_prometheus(stack: OperatedStack, path: str) -> Any:
    answer = json.loads(stack.inside("prefect-server", "python", "-c", _ASK, f"http://prometheus:9090/api/v1{path}"))
    assert answer["status"] == "success"
    return answer["data"]


def test_the_prometheus_of_the_stack_reads_its_metrics_and_has_its_rules(watched: OperatedStack) -> None:
    def up() -> bool:
        try:
            targets = _ask_prometheus(watched, "/targets")["activeTargets"]
        except CommandFailedError:  # it is not ready yet
            return False
        return [target["health"] for target in targets] == ["up"]

    wait_for("Prometheus has read the API's metrics", up, 120, 2)
    names = _ask_prometheus(watched, "/label/__name__/values")
    assert any(name.startswith("archiver_") for name in names)
    groups = _ask_prometheus(watched, "/rules")["groups"]
    assert [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    assert sum(len(group["rules"]) for group in groups) > 5


def test_a_prometheus_outside_reads_the_metrics_with_token_or_password_only(stack: OperatedStack) -> None:
    with httpx.Client(timeout=30) as http:
        url = f"{stack.addresses.api}/metrics"
        assert http.get(url).status_code == 404
        assert http.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 404
        assert http.get(url, auth=(stack.secret("metricsuser"), "wrong")).status_code == 404
        by_token = http.get(url, headers={"Authorization": f"Bearer {stack.secret('metricstoken')}"})
        by_password = http.get(url, auth=(stack.secret("metricsuser"), stack.secret("metricspass")))
    for read in (by_token, by_password):
        assert read.status_code == 200
        assert "archiver_" in read.text


def test_operators_are_told_of_a_job_that_failed(stack: OperatedStack, visitor: Visitor, tmp_path: Path) -> None:
    with Listener(stack) as listener, stack.secret_changed("notifyurls", listener.url):
        for service in ("prefect-config", "reconciliation"):
            stack.compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
        stack.wait_until_ready()
        pid = visitor.ingest(write_noise(tmp_path / "lost", 3, 1000, 5), never_sent="1.bin")
        job = visitor.finished(visitor.job_of(pid).id)
        told = wait_for("a message to the operators", listener.heard, 120)
    stack.compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", "prefect-config", "reconciliation")
    stack.wait_until_ready()
    assert any(job.id in each and "1.bin" in each for each in told), told
