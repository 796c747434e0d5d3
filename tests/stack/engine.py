"""A Docker engine to test on: the one that runs here, or one started for the test and ended with it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack.commands import CommandFailedError, run
from stack.waiting import wait_for

_START_S = 120
_STOP_S = 120
_TAIL = 3000
_ENGINE_PROGRAMS = ("dockerd", "containerd")


class NoEngineError(Exception):
    """There is no Docker engine here, and none can be started."""


@dataclass(frozen=True)
class Engine:
    """A running Docker engine, on its usual socket."""

    is_ours: bool
    """Started for this test; its images live in the cache folder."""

    def docker(self, *words: str | Path, timeout_s: float = 120, given: bytes | None = None) -> str:
        """What a `docker` command says.

        Raises:
            CommandFailedError: it failed.
        """
        # The builder of the engine itself: BuildKit's client is a plug-in that not every machine has.
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        return run(["docker", *words], timeout_s=timeout_s, given=given, environment=environment)

    def has_image(self, tag: str) -> bool:
        """Whether the engine holds this image."""
        return bool(self.docker("image", "ls", "--quiet", tag).strip())

    def can_have(self, tag: str) -> bool:
        """Whether the engine holds this image, or gets it from its registry now."""
        if self.has_image(tag):
            return True
        try:
            self.docker("pull", "--quiet", tag, timeout_s=900)
        except CommandFailedError:
            return False
        return True


@contextmanager
def running_engine(cache: Path) -> Iterator[Engine]:
    """An engine for the time of the block.

    Where none answers, Debian's is installed (needs root) and started with its data below `cache`, so that images
    outlive it.

    Raises:
        NoEngineError: none answers and none could be started; the message says why.
    """
    if _answers():
        yield Engine(is_ours=False)
        return
    _install()
    cache.mkdir(parents=True, exist_ok=True)
    _end_leftovers(cache)
    log = cache / "engine.log"
    with log.open("wb") as opened:
        daemon = subprocess.Popen(
            [
                *("dockerd", "--data-root", str(cache / "engine")),
                *("--exec-root", str(cache / "engine-run"), "--pidfile", str(cache / "engine.pid")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(daemon, log)
        yield Engine(is_ours=True)
    finally:
        daemon.terminate()
        try:
            daemon.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _end_leftovers(cache: Path) -> None:
    """End what is left of an engine of ours that was broken off, and holds its data. The next one ends its containers.

    The numbers in its files may be other processes by now, so they are not trusted.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:  # it ended just now
            continue
        if Path(words[0]).name in _ENGINE_PROGRAMS and any(word.startswith(str(cache)) for word in words):
            os.kill(int(process.name), signal.SIGKILL)
            wait_for(f"the end of {words[0]}", lambda process=process: _is_over(process), _STOP_S)  # type: ignore[misc]
    for file in (cache / "engine.pid", cache / "engine-run/containerd/containerd.pid"):
        file.unlink(missing_ok=True)


def _is_over(process: Path) -> bool:
    """Whether a process has ended; one that its parent has not asked for yet has no command line any more."""
    try:
        return not (process / "cmdline").read_bytes()
    except OSError:
        return True


def _answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        run(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=20)
    except CommandFailedError:
        return False
    return True


def _install() -> None:
    if shutil.which("dockerd"):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngineError("No Docker engine answers here. Start one, or run this as root on a Debian machine.")
    install("docker.io", "iptables")


def install(*packages: str) -> None:
    """Install Debian packages.

    Raises:
        NoEngineError: apt could not.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "update", "-qq"], timeout_s=600, environment=environment)
        wanted = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages]
        run(wanted, timeout_s=1200, environment=environment)
    except CommandFailedError as error:
        raise NoEngineError(f"{', '.join(packages)} could not be installed: {error}") from error


def _wait_until_it_answers(daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers():
        if daemon.poll() is not None or time.monotonic() > deadline:
            said = log.read_bytes()[-_TAIL:].decode("utf-8", "replace")
            raise NoEngineError(f"dockerd did not start; the end of {log}:\n{said}")
        time.sleep(0.2)
