"""Real S3 servers to test against, and a relay that can break connections to them."""

import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from archiver.config.settings import ObjectStoreSettings
from archiver.local.ports import HOST, choose_free

MINIO_BINARY = os.environ.get("MINIO_BINARY", "")
SERVERS = ["seaweedfs", *(["minio"] if MINIO_BINARY else [])]


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    name: str
    settings: ObjectStoreSettings


@contextmanager
def run_minio(folder: Path) -> Iterator[ObjectStoreSettings]:
    """MinIO from the program that MINIO_BINARY names."""
    ports = choose_free(("s3", "console"), {})
    user, password = secrets.token_hex(8), secrets.token_hex(16)
    with (folder / "minio.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(MINIO_BINARY, "server", str(folder / "data")),
                *("--address", f"{HOST}:{ports['s3']}", "--console-address", f"{HOST}:{ports['console']}"),
            ],
            env={**os.environ, "MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        endpoint = f"http://{HOST}:{ports['s3']}"
        deadline = time.monotonic() + 60
        while not _answers(f"{endpoint}/minio/health/ready"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        yield ObjectStoreSettings(s3_endpoint=endpoint, s3_user=SecretStr(user), s3_password=SecretStr(password))
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


class Relay:
    """Passes TCP on to a server; answers of the next connections can be cut after so many bytes."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.connections = 0
        self.cuts: deque[int] = deque()
        """For each coming connection, in order: bytes of the answer after which it is reset."""
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    @property
    def address(self) -> str:
        """Base URL."""
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def close_connections(self) -> None:
        """Ends every connection, as a server that restarts does."""
        for used in self._sockets:
            _reset(used)

    def close(self) -> None:
        """Stops."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_connections()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            self._start(self._pump, client, server, None)
            self._start(self._pump, server, client, self.cuts.popleft() if self.cuts else None)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                if limit is not None and passed + len(data) >= limit:
                    sink.sendall(data[: limit - passed])
                    break
                sink.sendall(data)
                passed += len(data)
        except OSError:
            pass
        finally:
            _reset(source)
            _reset(sink)


def _reset(used: socket.socket) -> None:
    try:
        used.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        used.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        used.close()
