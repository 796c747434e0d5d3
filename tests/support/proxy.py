"""The proxy of the stack as it is configured, between a client and small upstreams, all on the loopback interface."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import stamina

from archiver.local.ports import choose_free

ROOT = Path(__file__).parents[2]
HOST = "localhost"
SERVICES = {
    "archiver-service-api": 8000,
    "prefect-ui": 4200,
    "prefect-server": 4200,
    "authentik-proxy": 9000,
    "keycloak": 8080,
    "scicat": 3000,
    "grafana": 3000,
}
SECRETS = {
    "prefect_api_auth_string": "archiver:of-prefect",
    "dashboard_user": "operator",
    "dashboard_password": "of-the-person",
}
_START_WITHIN_S = 60


@dataclass
class Upstream:
    """A server that remembers what it was asked."""

    name: str
    server: ThreadingHTTPServer
    seen: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


def _handler(upstream: list[Upstream]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = self.headers.get("content-length")
            body = self.rfile.read(int(length)) if length else b""
            own = upstream[0]
            own.seen.append(
                {
                    "method": self.command,
                    "path": self.path,
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "bytes": len(body),
                }
            )
            answer = json.dumps({"service": own.name}).encode()
            self.send_response(own.status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  # names of the standard library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@contextmanager
def _upstream(name: str) -> Iterator[Upstream]:
    own: list[Upstream] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(own))
    server.daemon_threads = True
    own.append(Upstream(name, server))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield own[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    port: int
    plain_port: int
    private_port: int
    authority: Path
    upstreams: Mapping[str, Upstream]

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.tls, timeout=60, trust_env=False)


def certificate_folder(folder: Path) -> Path:
    """A certificate for localhost as `make certs` makes it."""
    subprocess.run([ROOT / "deployment" / "make-certs.sh", HOST], cwd=folder, check=True, capture_output=True)
    return folder / ".certs"


def traefik() -> Path:
    """The binary that belongs to this Python."""
    return Path(sys.executable).with_name("traefik")


def configuration(folder: Path, addresses: Mapping[str, str], secrets: Mapping[str, str]) -> Path:
    """A copy of deployment/traefik and of its secrets in which only addresses and paths are others."""
    copy = folder / "traefik"
    shutil.copytree(ROOT / "deployment" / "traefik", copy)
    own = folder / "secrets"
    own.mkdir()
    for name, value in secrets.items():
        (own / name).write_text(f"{value}\n")
    for file in copy.iterdir():
        text = file.read_text()
        for there, here in {**addresses, "/etc/archiver/traefik": str(copy), "/run/secrets": str(own)}.items():
            text = text.replace(there, here)
        file.write_text(text)
    return copy


def start_command(copy: Path) -> list[str]:
    return ["/bin/sh", str(copy / "start.sh")]


def start_environment(s3: str, *, auth_middleware: str = "", environment: str = "prod") -> dict[str, str]:
    """What docker-compose.yml gives the proxy."""
    return {
        "PATH": f"{traefik().parent}:{os.environ['PATH']}",
        "HOST": HOST,
        "ENVIRONMENT": environment,
        "API_ROOT_PATH": "/archiver/api/v1",
        "AUTH_MIDDLEWARE": auth_middleware,
        "S3_ENDPOINT": s3,
        "S3_CA_FILE": "",
    }


@contextmanager
def running_proxy(
    folder: Path,
    *,
    auth_middleware: str = "",
    environment: str = "prod",
    changes: Mapping[str, str] | None = None,
) -> Iterator[Proxy]:
    """The proxy with every upstream; `changes` replaces text of its configuration."""
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(_upstream(name)) for name in (*SERVICES, "s3")}
        ports = choose_free(("plain", "tls", "private", "health"), {})
        certificates = certificate_folder(folder)
        addresses = {
            **{f"http://{name}:{port}": upstreams[name].address for name, port in SERVICES.items()},
            '":80"': f'"127.0.0.1:{ports["plain"]}"',
            '":443"': f'"127.0.0.1:{ports["tls"]}"',
            '":4200"': f'"127.0.0.1:{ports["private"]}"',
            "127.0.0.1:8082": f"127.0.0.1:{ports['health']}",
            **(changes or {}),
        }
        pem = {
            "certificate": (certificates / "cert_bundle.pem").read_text(),
            "certificate_key": (certificates / "cert.key").read_text(),
        }
        copy = configuration(folder, addresses, SECRETS | pem)
        log = stack.enter_context((folder / "traefik.log").open("wb"))
        process = subprocess.Popen(
            start_command(copy),
            env=start_environment(upstreams["s3"].address, auth_middleware=auth_middleware, environment=environment),
            stdout=log,
            stderr=log,
        )
        try:
            proxy = Proxy(ports["tls"], ports["plain"], ports["private"], certificates / "ca.pem", upstreams)
            _wait(proxy, process, folder / "traefik.log")
            yield proxy
        finally:
            process.terminate()
            process.wait(timeout=30)


class NotReadyError(Exception):
    """The proxy does not pass requests on yet."""


def _wait(proxy: Proxy, process: subprocess.Popen[bytes], log: Path) -> None:
    def ask() -> None:
        if process.poll() is not None:
            raise AssertionError(log.read_text())
        with proxy.client() as client:
            answer = client.get("/archiver/api/v1/health/livez")
        if answer.status_code != 200:
            raise NotReadyError(answer.status_code)

    retrying = stamina.RetryingCaller(attempts=None, timeout=_START_WITHIN_S, wait_initial=0.1, wait_max=0.5)
    retrying.on((httpx.HTTPError, NotReadyError))(ask)
    for upstream in proxy.upstreams.values():
        upstream.seen.clear()
