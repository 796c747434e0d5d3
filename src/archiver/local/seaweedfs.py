"""A SeaweedFS server from a wheel, on the loopback interface: the S3 storage of the embedded stack and of tests."""

import json
import os
import secrets
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import structlog
from pydantic import SecretStr

from archiver.config.settings import MEBIBYTE, ObjectStoreSettings
from archiver.local.ports import HOST, choose_free
from archiver.local.private_files import write_private

log = structlog.get_logger(__name__)

PORT_NAMES = ("s3", "s3_grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")
"""Every port the server listens on. Other ports for the same folder are fine at the next start."""
END_WITHIN_S = 1.0
"""Seconds between SIGTERM and SIGKILL.

After SIGTERM the server takes no more writes and then waits 15 s for streams it has with itself. Everything
acknowledged is with the kernel by then: killing it loses nothing.
"""
READY_WITHIN_S = 60.0

_VOLUMES = 200
"""Into how many files the free space is divided: enough for several buckets, few enough to cost nothing."""
_SMALLEST_VOLUME_MIB = 1024
_LARGEST_VOLUME_MIB = 30_000
_PROBE_TIMEOUT_S = 3.0
_POLL_S = 0.05

# The defaults would drop uploads older than a day, and turn full volumes into erasure-coded ones.
_MASTER_TOML = """\
[master.maintenance]
scripts = "volume.deleteEmpty -quietFor=24h -apply"
sleep_minutes = 60

[master.volume_growth]
copy_1 = 2
"""


class SeaweedFsError(Exception):
    """The embedded SeaweedFS cannot be started."""


@dataclass(frozen=True)
class SeaweedFs:
    """How one server is run. All its data lies under `folder`, which must also be its working folder."""

    folder: Path
    ports: Mapping[str, int]
    """A port for each of PORT_NAMES."""
    user: str
    password: SecretStr
    volume_mib: int | None = None
    """Size of a volume file, MiB; from the free space where it is None."""

    @property
    def url(self) -> str:
        """The S3 endpoint."""
        return f"http://{HOST}:{self.ports['s3']}"

    @property
    def health_url(self) -> str:
        """Answers 200 once S3 itself listens; `is_ready` also asks whether there is storage behind it."""
        return f"{self.url}/healthz"

    @property
    def log_file(self) -> Path:
        """Where `run_seaweedfs` puts what the server says."""
        return self.folder / "server.log"

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables to add to the server's environment: a soft limit of its memory while it takes uploads."""
        return {"GOMEMLIMIT": "1GiB"}

    def prepare(self) -> None:
        """Writes the configuration files; the credentials are readable by the owner only."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "data").mkdir(exist_ok=True)
        identity = {
            "name": "archiver",
            "credentials": [{"accessKey": self.user, "secretKey": self.password.get_secret_value()}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(self.folder / "identities.json", json.dumps({"identities": [identity]}))
        (self.folder / "master.toml").write_text(_MASTER_TOML, encoding="utf-8")

    def command(self) -> tuple[str, ...]:
        """The command line; run it in `folder`, after `prepare`.

        Raises:
            SeaweedFsError: the server's program is not installed.
        """
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        if not weed.is_file():
            raise SeaweedFsError(f"{weed} is missing. Install the package with its extra `local`.")
        return (
            str(weed),
            "-logtostderr=true",
            "-config_dir=.",
            "server",
            "-dir=data",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.peers=none",
            f"-master.port={self.ports['master']}",
            f"-master.port.grpc={self.ports['master_grpc']}",
            f"-master.volumeSizeLimitMB={self.volume_mib or self._fitting_volume_mib()}",
            "-master.telemetry=false",
            f"-volume.port={self.ports['volume']}",
            f"-volume.port.grpc={self.ports['volume_grpc']}",
            "-volume.max=0",
            "-volume.preStopSeconds=0",
            "-filer",
            f"-filer.port={self.ports['filer']}",
            f"-filer.port.grpc={self.ports['filer_grpc']}",
            "-filer.localSocket=filer.sock",
            "-s3",
            f"-s3.port={self.ports['s3']}",
            f"-s3.port.grpc={self.ports['s3_grpc']}",
            "-s3.config=identities.json",
            "-s3.localSocket=s3.sock",
            "-s3.autoCreateBucket=false",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        )

    def is_ready(self) -> bool:
        """Asks once whether S3 answers and can store something."""
        if _get(self.ports["s3"], "/healthz") is None:
            return False
        status = _get(self.ports["master"], "/dir/status")
        return status is not None and json.loads(status).get("Topology", {}).get("Max", 0) > 0

    def remove_sockets(self) -> None:
        """Removes the inner sockets that a killed server leaves; where they are cannot be configured."""
        folder = Path("/tmp")  # noqa: S108  # nosec B108
        for name in ("master", "volume", "filer", "s3"):
            port = self.ports[f"{name}_grpc"]
            (folder / f"seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)

    def _fitting_volume_mib(self) -> int:
        free = shutil.disk_usage(self.folder).free
        return max(_SMALLEST_VOLUME_MIB, min(_LARGEST_VOLUME_MIB, free // _VOLUMES // MEBIBYTE))


def _get(port: int, path: str) -> bytes | None:
    """The body of a 200, else None."""
    connection = HTTPConnection(HOST, port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == 200 else None


@contextmanager
def run_seaweedfs(
    folder: Path, *, user: str | None = None, password: str | None = None, volume_mib: int | None = None
) -> Iterator[ObjectStoreSettings]:
    """A server with its data in `folder` while the block runs, on free ports; settings to reach it.

    No bucket is made. Credentials are random where not given.

    Raises:
        SeaweedFsError: it did not get ready; the message quotes the end of its log.
    """
    server = SeaweedFs(
        folder.resolve(),
        choose_free(PORT_NAMES, {}),
        user or secrets.token_hex(8),
        SecretStr(password or secrets.token_urlsafe(24)),
        volume_mib,
    )
    server.prepare()
    with server.log_file.open("ab") as output:
        process = subprocess.Popen(
            server.command(),
            cwd=server.folder,
            env={**os.environ, **server.environment},
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_ready(server, process)
        yield ObjectStoreSettings(s3_endpoint=server.url, s3_user=SecretStr(server.user), s3_password=server.password)
    finally:
        _end(process)
        server.remove_sockets()


def _wait_until_ready(server: SeaweedFs, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not server.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            said = server.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SeaweedFsError(f"SeaweedFS did not get ready; its log {server.log_file} ends with:\n{said}")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
