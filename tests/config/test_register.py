"""Registration with a real Prefect server, by the command of operators."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.prefect_server import PrefectServer

_VARIABLES = """
archiver_target_size_gb = 20
s3_endpoint = "http://s3.example:9000"
"""
_LIMITS = """
[limits]
read-from-lts-share = {reads}
write-to-lts-share = 2
[archival]
limit = 3
queues.urgent.priority = 1
queues.default.priority = 2
[retrieval]
limit = 5
"""
_POOLS = {"archival": "test-archival", "retrieval": "test-retrieval"}


class Registrar:
    """Runs `archiver configure` with files of its own."""

    def __init__(self, server: PrefectServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.variables = folder / "vars.toml"
        self.limits = folder / "limits.toml"
        self.variables.write_text(_VARIABLES)
        self.limits.write_text(_LIMITS.format(reads=1))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("S3_", "SCICAT_"))},
            **server.environment,
            "PREFECT_WORKPOOL_TYPE": "process",
            "PREFECT_ARCHIVAL_WORKPOOL_NAME": _POOLS["archival"],
            "PREFECT_RETRIEVAL_WORKPOOL_NAME": _POOLS["retrieval"],
        }

    def secret(self, name: str, content: str) -> None:
        file = self.folder / name
        file.write_text(content)
        self.environment[f"{name}_FILE"] = str(file)

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        files = ["--variables", str(self.variables), "--limits", str(self.limits)]
        return subprocess.run(
            [sys.executable, "-m", "archiver.cli", "configure", *files, *options],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def changes(self, *options: str, **environment: str) -> dict[str, str]:
        """What was done with what, things that stayed as they were left out."""
        done = self.run("--json", *options, **environment)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        return {
            f"{change['kind']} {change['name']}": change["action"]
            for change in answer["changes"]
            if change["action"] not in {"unchanged", "kept"}
        }

    def secret_value(self, block: str) -> object:
        path = f"block_types/slug/secret/block_documents/name/{block}"
        with self.server.client() as client:
            answer = client.get(path, params={"include_secrets": True})
        return answer.raise_for_status().json()["data"]["value"]

    def read(self, path: str) -> Any:
        with self.server.client() as client:
            return client.get(path).raise_for_status().json()

    def ask(self, path: str, question: Mapping[str, object]) -> Any:
        with self.server.client() as client:
            return client.post(path, json=question).raise_for_status().json()


@pytest.fixture
def registrar(prefect_server: PrefectServer, tmp_path: Path) -> Registrar:
    return Registrar(prefect_server, tmp_path)


def test_everything_is_there_after_a_registration_and_a_second_one_changes_nothing(
    registrar: Registrar,
) -> None:
    registrar.secret("S3_USER", "someone\n")
    registrar.changes()

    assert registrar.changes() == {}
    assert registrar.read("variables/name/archiver_target_size_gb")["value"] == "20"
    assert registrar.read("v2/concurrency_limits/write-to-lts-share")["limit"] == 2
    pool = registrar.read(f"work_pools/{_POOLS['archival']}")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 3)
    queues = registrar.ask(f"work_pools/{_POOLS['archival']}/queues/filter", {})
    assert {queue["name"]: queue["priority"] for queue in queues} == {"urgent": 1, "default": 2}


def test_a_secret_is_stored_without_its_line_end(registrar: Registrar) -> None:
    registrar.secret("SCICAT_PASSWORD", "of the catalogue\n")

    registrar.changes()

    assert registrar.secret_value("scicat-password") == "of the catalogue"


def test_only_what_differs_is_changed(registrar: Registrar) -> None:
    registrar.changes()
    registrar.limits.write_text(_LIMITS.format(reads=2))
    registrar.secret("S3_PASSWORD", os.urandom(8).hex())

    assert set(registrar.changes(ARCHIVER_TARGET_SIZE_GB="21")) == {
        "variable archiver_target_size_gb",
        "secret s3-password",
        "concurrency limit read-from-lts-share",
    }


def test_blocks_made_by_hand_stay(registrar: Registrar) -> None:
    registrar.secret("GITHUB_OPENEM_USERNAME", "by-hand")
    registrar.changes()
    del registrar.environment["GITHUB_OPENEM_USERNAME_FILE"]

    done = registrar.run()

    assert registrar.secret_value("github-openem-username") == "by-hand"
    assert "! kept      secret github-openem-username  (set by nothing here: " in done.stdout
    assert "by-hand" not in done.stdout + done.stderr


def test_a_variable_that_nothing_sets_any_more_stays_and_is_told(registrar: Registrar) -> None:
    registrar.changes(LTS_COPIES="/mnt/copy")

    done = registrar.run()

    assert registrar.read("variables/name/lts_copies")["value"] == "/mnt/copy"
    assert "! kept      variable lts_copies  (/mnt/copy; set by nothing here: " in done.stdout


def test_a_dry_run_tells_and_changes_nothing(registrar: Registrar) -> None:
    registrar.changes()

    planned = registrar.changes("--dry-run", STORAGE_LOCATION="elsewhere")

    assert planned == {"variable storage_location": "created"}
    with registrar.server.client() as client:
        assert client.get("variables/name/storage_location").status_code == httpx.codes.NOT_FOUND


def test_a_dry_run_for_new_pools_tells_their_queues_too(registrar: Registrar) -> None:
    registrar.changes()

    planned = registrar.changes("--dry-run", PREFECT_ARCHIVAL_WORKPOOL_NAME="new")

    assert planned["work pool new"] == "created"
    assert planned["work queue new/urgent"] == "created"


def test_silent_runs_of_both_pools_and_of_no_others_are_ended(registrar: Registrar) -> None:
    registrar.changes()

    (automation,) = registrar.ask("automations/filter", {})
    assert automation["enabled"]
    trigger = automation["trigger"]
    assert trigger["posture"] == "Proactive"
    assert trigger["within"] >= 90
    assert trigger["match_related"]["prefect.resource.name"] == sorted(_POOLS.values())
    assert automation["actions"][0]["state"] == "CRASHED"


def test_an_automation_that_was_switched_off_stays_off(registrar: Registrar) -> None:
    registrar.changes()
    (automation,) = registrar.ask("automations/filter", {})
    with registrar.server.client() as client:
        client.patch(f"automations/{automation['id']}", json={"enabled": False}).raise_for_status()
    try:
        registrar.changes(PREFECT_RETRIEVAL_WORKPOOL_NAME="test-other")

        (after,) = registrar.ask("automations/filter", {})
        assert "test-other" in after["trigger"]["match_related"]["prefect.resource.name"]
        assert not after["enabled"]
    finally:
        with registrar.server.client() as client:
            client.patch(f"automations/{automation['id']}", json={"enabled": True}).raise_for_status()


def test_secrets_are_never_shown(registrar: Registrar) -> None:
    registrar.secret("S3_PASSWORD", "hidden-from-view")

    done = registrar.run()

    assert done.returncode == 0, done.stderr
    assert "secret s3-password" in done.stdout
    assert "hidden-from-view" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("PREFECT_API_AUTH_STRING", "archiver:wrong", "Set PREFECT_API_AUTH_STRING"),
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", "correct PREFECT_API_URL"),
        ("PREFECT_API_URL", "", "PREFECT_API_URL is not set"),
        ("PREFECT_WORKPOOL_TYPE", "tractor", "PREFECT_WORKPOOL_TYPE"),
        ("S3_USER_FILE", "/no/such/file", "S3_USER_FILE names /no/such/file"),
    ],
)
def test_what_is_wrong_is_said_once_with_what_to_do(
    registrar: Registrar, setting: str, value: str, advice: str
) -> None:
    done = registrar.run(**{setting: value})

    assert done.returncode == 1
    assert advice in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if advice in line]) == 1


def test_a_pool_of_another_type_is_not_touched(registrar: Registrar) -> None:
    registrar.changes()

    done = registrar.run(PREFECT_WORKPOOL_TYPE="docker")

    assert done.returncode == 1
    assert "set PREFECT_WORKPOOL_TYPE=process" in done.stderr
    assert registrar.read(f"work_pools/{_POOLS['archival']}")["type"] == "process"
