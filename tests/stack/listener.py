"""Somebody on the inner network who is told things: a small HTTP server in a container."""

from types import TracebackType
from typing import Self
from uuid import uuid4

from stack.operated import OperatedStack
from stack.waiting import wait_for

_PORT = 8099
_LISTEN = f"""
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Listening(BaseHTTPRequestHandler):
    def do_POST(self):
        said = self.rfile.read(int(self.headers["Content-Length"]))
        sys.stdout.write("HEARD " + said.decode().replace(chr(10), " ") + chr(10))
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()

server = HTTPServer(("", {_PORT}), Listening)
print("LISTENING", flush=True)
server.serve_forever()
"""


class Listener:
    """Keeps what is posted to `url`, which is reached from services and runs."""

    def __init__(self, stack: OperatedStack) -> None:
        self._stack = stack
        self._name = f"listener-{uuid4().hex[:8]}"

    @property
    def url(self) -> str:
        """The address, as the notifications take it."""
        return f"json://{self._name}:{_PORT}/"

    def _lines(self) -> list[str]:
        return self._stack.engine.docker("logs", self._name).splitlines()

    def heard(self) -> list[str]:
        """What was posted so far."""
        return [line.removeprefix("HEARD ") for line in self._lines() if line.startswith("HEARD ")]

    def __enter__(self) -> Self:
        configuration = self._stack.configuration()
        network = configuration["networks"]["inner"]["name"]
        image = configuration["services"]["prefect-server"]["image"]
        self._stack.engine.docker(
            *("run", "--detach", "--name", self._name, "--network", network, "--entrypoint", "python"),
            *(image, "-c", _LISTEN),
        )
        wait_for("the listener listens", lambda: "LISTENING" in self._lines(), 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.engine.docker("rm", "--force", self._name)
