"""The simulator as a process of its own: restarted, and ended by a signal."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from keycloak import KeycloakOpenID

from archiver.local.identity.testing import run_identity

CERTS = "/realms/facility/protocol/openid-connect/certs"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(url, timeout=5).raise_for_status()
        except httpx.TransportError:
            assert process.poll() is None, "the simulator ended while starting"
            assert time.monotonic() < deadline, "the simulator did not answer in time"
            time.sleep(0.05)
        else:
            return


@contextmanager
def _simulator(port: int, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "archiver.local.identity", "--port", str(port), "--data", str(data)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _await_answer(process, f"http://127.0.0.1:{port}{CERTS}")
            yield process
        finally:
            process.kill()


def test_sigterm_ends_the_process_even_while_a_call_is_open(tmp_path: Path) -> None:
    port = _free_port()
    base_url = f"http://127.0.0.1:{port}"
    with _simulator(port, tmp_path / "data") as process:
        fault = {"path_regex": "/certs$", "delay_seconds": 3600}
        httpx.post(f"{base_url}/_sim/faults", json=fault, timeout=5).raise_for_status()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as open_call:
            open_call.sendall(f"GET {CERTS} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            deadline = time.monotonic() + 10
            while httpx.get(f"{base_url}/_sim/faults", timeout=5).json():
                assert time.monotonic() < deadline, "the open call did not arrive"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) in (0, -signal.SIGTERM)


def test_a_restart_keeps_keys_and_sessions(tmp_path: Path) -> None:
    data, port = tmp_path / "data", _free_port()
    client = KeycloakOpenID(f"http://127.0.0.1:{port}", "facility", "archiver-service-api", timeout=5)
    with _simulator(port, data):
        before = client.token("alice", "alice-local")
        certs = client.certs()
    with _simulator(port, data):
        assert client.certs() == certs
        after = client.refresh_token(before["refresh_token"])
        assert after["session_state"] == before["session_state"]
        assert client.decode_token(before["access_token"])["sid"] == before["session_state"]


def test_a_restart_keeps_rotated_keys_and_ended_sessions(tmp_path: Path) -> None:
    with run_identity(data=tmp_path) as base_url:
        httpx.post(f"{base_url}/_sim/rotate-keys", timeout=5).raise_for_status()
        certs = httpx.get(base_url + CERTS, timeout=5).json()
        client = KeycloakOpenID(base_url, "facility", "archiver-service-api", timeout=5)
        client.token("alice", "alice-local")
        client.logout(client.token("alice", "alice-local")["refresh_token"])
    with run_identity(data=tmp_path) as base_url:
        assert httpx.get(base_url + CERTS, timeout=5).json() == certs
        assert len(certs["keys"]) == 3
        assert httpx.post(f"{base_url}/_sim/revoke-sessions", timeout=5).json() == {"revoked": 1}


def test_what_the_simulator_keeps_only_its_owner_may_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with run_identity(data=data) as base_url:
        client = KeycloakOpenID(base_url, "facility", "archiver-service-api", timeout=5)
        client.token("alice", "alice-local")
        httpx.post(f"{base_url}/_sim/rotate-keys", timeout=5).raise_for_status()
        modes = {file.name: file.stat().st_mode & 0o777 for file in data.iterdir()}
    assert {"keys.json", "sessions.sqlite"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_config_that_is_no_realm_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "realm.json"
    file.write_text('{"realm": "r"}')
    command = [sys.executable, "-m", "archiver.local.identity", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert b"--config" in ended.stderr
