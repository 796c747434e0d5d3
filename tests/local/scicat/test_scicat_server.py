"""The simulator as a process of its own: start, restart, end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from archiver.local.scicat.config import ScicatConfig, load_config
from archiver.local.scicat.errors import ConfigError
from archiver.local.scicat.testing import run_scicat

_DEADLINE_SECONDS = 60


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "archiver.local.scicat", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_until_healthy(process: subprocess.Popen[str], base_url: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            if httpx.get(f"{base_url}/api/v3/health", timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError("the simulator did not become healthy")


def test_a_restarted_process_keeps_documents_tokens_and_users(
    config: ScicatConfig, tmp_path: Path, dataset_body: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "config.json").write_text(config.model_dump_json())
    port = _free_port()
    arguments = ["--port", str(port), "--data", str(tmp_path / "data"), "--config", str(tmp_path / "config.json")]
    base_url = f"http://127.0.0.1:{port}"
    headers: dict[str, str] = {}
    pid = ""
    for round_number in range(2):
        with _start(*arguments) as process:
            _wait_until_healthy(process, base_url)
            with httpx.Client(base_url=base_url, timeout=20, trust_env=False) as client:
                if round_number == 0:
                    token = client.post(
                        "/api/v3/auth/login", json={"username": "alice", "password": "alice-pw"}
                    ).json()["access_token"]
                    headers = {"authorization": f"Bearer {token}"}
                    pid = client.post("/api/v4/datasets", json=dataset_body(), headers=headers).json()["pid"]
                read = client.get(f"/api/v3/datasets/{quote(pid, safe='')}", headers=headers)
                assert read.json()["pid"] == pid
                process.send_signal(signal.SIGTERM)
                output, log = process.communicate(timeout=20)
        assert output == ""
        assert "scicat.starting" in log
        assert "Traceback" not in log


def test_a_call_that_is_held_does_not_hold_up_the_end(config: ScicatConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config.model_dump_json())
    port = _free_port()
    base_url = f"http://127.0.0.1:{port}"
    with _start("--port", str(port), "--config", str(tmp_path / "config.json")) as process:
        _wait_until_healthy(process, base_url)
        fault = {"path_regex": "/whoami", "delay_seconds": 600}
        httpx.post(f"{base_url}/_sim/faults", json=fault, timeout=10, trust_env=False).raise_for_status()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as held:
            held.sendall(b"GET /api/v3/auth/whoami HTTP/1.1\r\nHost: x\r\n\r\n")
            deadline = time.monotonic() + _DEADLINE_SECONDS
            while httpx.get(f"{base_url}/_sim/faults", timeout=10, trust_env=False).json()[0]["fired"] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)


def test_an_unusable_configuration_ends_the_process_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"accounts": 5}')
    with _start("--config", str(tmp_path / "config.json")) as process:
        _, log = process.communicate(timeout=_DEADLINE_SECONDS)
    assert process.returncode == 2
    assert "accounts" in log
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.json")


def test_documents_outlive_the_server_of_a_test(
    config: ScicatConfig, tmp_path: Path, dataset_body: Callable[..., dict[str, Any]]
) -> None:
    admin = {"username": "admin", "password": "admin-pw"}
    for expected in (1, 2):
        with (
            run_scicat(config, tmp_path) as base_url,
            httpx.Client(base_url=base_url, timeout=20, trust_env=False) as client,
        ):
            token = client.post("/api/v3/auth/login", json=admin).json()["access_token"]
            client.headers["authorization"] = f"Bearer {token}"
            client.post("/api/v4/datasets", json=dataset_body()).raise_for_status()
            assert client.get("/_sim/state").json()["datasets"] == expected


def test_two_catalogues_in_one_process_know_nothing_of_each_other(
    config: ScicatConfig, dataset_body: Callable[..., dict[str, Any]]
) -> None:
    with run_scicat(config) as one, run_scicat(config) as other:
        login = {"username": "admin", "password": "admin-pw"}
        token = httpx.post(f"{one}/api/v3/auth/login", json=login, timeout=20, trust_env=False).json()["id"]
        headers = {"authorization": f"Bearer {token}"}
        httpx.post(
            f"{one}/api/v4/datasets", json=dataset_body(), headers=headers, timeout=20, trust_env=False
        ).raise_for_status()
        states = [httpx.get(f"{url}/_sim/state", timeout=20, trust_env=False).json() for url in (one, other)]
        assert [state["datasets"] for state in states] == [1, 0]
        foreign = httpx.get(f"{other}/api/v4/datasets", headers=headers, timeout=20, trust_env=False)
        assert foreign.status_code == 403
