"""Alert rules and remote write, by a real Prometheus (Debian's package; `make monitoring` installs it)."""

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, Gauge, start_http_server

FOLDER = Path(__file__).parents[2] / "deployment" / "monitoring"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_every_alert_rule_fires_when_it_must_and_not_before() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_rule_is_shown_to_fire_and_to_be_silent() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    cases = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    shown = [case for test in cases for case in test["alert_rule_test"]]

    names = {rule["alert"] for group in rules for rule in group["rules"]}
    assert {case["alertname"] for case in shown if case["exp_alerts"]} == names
    assert {case["alertname"] for case in shown if not case["exp_alerts"]} == names


@pytest.mark.parametrize(
    "remote",
    [
        {},
        {"REMOTE_WRITE_URL": "http://inside:9090/api/v1/write"},
        {"REMOTE_WRITE_URL": "https://x/write", "REMOTE_WRITE_BEARER_TOKEN_FILE": "token"},
        {"REMOTE_WRITE_URL": "https://x/write", "REMOTE_WRITE_USERNAME": "u", "REMOTE_WRITE_PASSWORD_FILE": "token"},
    ],
)
def test_the_configuration_is_one_prometheus_takes(remote: dict[str, str], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    settings = {name: str(token) if value == "token" else value for name, value in remote.items()}
    done = start_sh({"CHECK": "1", "PROMETHEUS_CONFIG": str(tmp_path / "written.yml"), **settings})

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("way", "says"), [("authorization", {"credentials_file"}), ("basic_auth", {"username", "password_file"})]
)
def test_a_prometheus_outside_takes_the_example_with_either_credential(
    way: str, says: set[str], tmp_path: Path
) -> None:
    lines = (FOLDER / "outside-prometheus.example.yml").read_text().splitlines()
    if way == "basic_auth":
        without = [line for line in lines if "authorization:" not in line and "credentials_file:" not in line]
        lines = [re.sub(r"^    # (?=basic_auth:|  username:|  password_file:)", "    ", line) for line in without]
    # promtool looks whether the files of credentials are there.
    (tmp_path / "secret").write_text("secret")
    written = tmp_path / "outside.yml"
    written.write_text(re.sub(r"/etc/prometheus/\S+", str(tmp_path / "secret"), "\n".join(lines)))
    done = subprocess.run(
        ["promtool", "check", "config", str(written)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stdout + done.stderr
    (read,) = yaml.safe_load(written.read_text())["scrape_configs"]
    assert {"authorization", "basic_auth"} & set(read) == {way}
    assert set(read[way]) == says


def test_a_credential_never_goes_out_in_clear(tmp_path: Path) -> None:
    done = start_sh(
        {
            "CHECK": "1",
            "PROMETHEUS_CONFIG": str(tmp_path / "written.yml"),
            "REMOTE_WRITE_URL": "http://outside/write",
            "REMOTE_WRITE_BEARER_TOKEN_FILE": "/token",
        }
    )

    assert done.returncode == 2
    assert "Use https" in done.stderr


def start_sh(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(FOLDER / "start.sh")],
        env={"PATH": "/usr/bin:/bin", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", **(environment or {})})
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def make_certificates(folder: Path) -> None:
    """A CA, and a certificate for 127.0.0.1 that serves both sides."""
    request = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca = [*request, "-x509", "-subj", "/CN=test CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"]
    own = [*request, "-subj", "/CN=127.0.0.1", "-keyout", "own.key", "-out", "own.csr"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ["openssl", "x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    for command in (ca, own, [*signed, "-days", "2", "-extfile", "names", "-out", "own.pem"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_what_is_fetched_is_written_on_over_tls_with_a_client_certificate(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    registry = CollectorRegistry()
    Gauge("archiver_landing_free_bytes", "As the API has it", registry=registry).set(42)
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: own.pem, key_file: own.key, client_ca_file: ca.pem, "
        "client_auth_type: RequireAndVerifyClientCert}\n"
    )
    (tmp_path / "outside.yml").write_text("global: {scrape_interval: 1h}\n")
    metrics_port, inner_port, outer_port = free_port(), free_port(), free_port()
    base = (FOLDER / "prometheus.yml").read_text()
    (tmp_path / "base.yml").write_text(
        base.replace("archiver-service-api:8000", f"127.0.0.1:{metrics_port}").replace("interval: 30s", "interval: 1s")
    )
    outside = [
        "prometheus",
        f"--config.file={tmp_path / 'outside.yml'}",
        f"--storage.tsdb.path={tmp_path / 'outside'}",
        f"--web.listen-address=127.0.0.1:{outer_port}",
        f"--web.config.file={tmp_path / 'web.yml'}",
        # Debian 12's Prometheus calls it a feature; newer ones an option.
        "--enable-feature=remote-write-receiver",
    ]
    inside = [
        *("sh", str(FOLDER / "start.sh")),
        f"--storage.tsdb.path={tmp_path / 'inside'}",
        f"--web.listen-address=127.0.0.1:{inner_port}",
    ]
    settings = {
        "PROMETHEUS_BASE": str(tmp_path / "base.yml"),
        "PROMETHEUS_CONFIG": str(tmp_path / "written.yml"),
        "REMOTE_WRITE_URL": f"https://127.0.0.1:{outer_port}/api/v1/write",
        "REMOTE_WRITE_CA_FILE": str(tmp_path / "ca.pem"),
        "REMOTE_WRITE_CERT_FILE": str(tmp_path / "own.pem"),
        "REMOTE_WRITE_KEY_FILE": str(tmp_path / "own.key"),
    }
    server, thread = start_http_server(metrics_port, "127.0.0.1", registry=registry)
    try:
        with running(outside), running(inside, settings):
            assert arrives(outer_port, tmp_path, within_s=150)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def arrives(port: int, folder: Path, within_s: float) -> bool:
    """Whether the metric comes to be known outside in time."""
    trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    trust.load_cert_chain(folder / "own.pem", folder / "own.key")
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, trust_env=False, timeout=10) as client:
        while time.monotonic() < deadline:
            try:
                found = client.get("/api/v1/query", params={"query": "archiver_landing_free_bytes"}).json()
            except (httpx.TransportError, ValueError):
                found = {}
            result = found.get("data", {}).get("result", [])
            if result:
                return bool(result[0]["value"][1] == "42")
            pause.wait(0.5)
    return False
