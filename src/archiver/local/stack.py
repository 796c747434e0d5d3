"""The embedded stack as seen from outside: start it, find it, look at its parts, end it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from archiver.config.sources import EnvironmentSettings
from archiver.local.credentials import Credentials
from archiver.local.leftovers import end_leftovers, find_leftovers, mark_of
from archiver.local.settings import LocalSettings, PortChoice
from archiver.local.state import (
    PartState,
    PartStatus,
    Phase,
    StackState,
    Urls,
    is_held,
    launcher_pid,
    read_state,
    write_state,
)
from archiver.workflow.errors import PermanentError

Settings = TypeVar("Settings", bound=EnvironmentSettings)

START_WITHIN_S = 300.0
END_WITHIN_S = 120.0
_POLL_S = 0.1
_LOG = "launcher.log"
_TAIL_BYTES = 4000


class StackFailedError(PermanentError):
    """The stack did not start, or did not end."""

    code = "stack-failed"


@dataclass(frozen=True)
class Stack:
    """A stack that is ready."""

    folder: Path
    urls: Urls
    credentials: Credentials
    environment: dict[str, str]
    """Every setting of the service, secrets included, by its environment variable."""

    def settings(self, kind: type[Settings]) -> Settings:
        """Settings of the service as its parts have them; the environment of this process does not count."""
        own = {name: self.environment[name.upper()] for name in kind.model_fields if name.upper() in self.environment}
        return kind.model_validate(own)

    def state(self) -> StackState:
        """What the launcher says now.

        Raises:
            StackFailedError: the stack is gone.
        """
        state = stack_state(self.folder)
        if state is None:
            raise StackFailedError(f"{self.folder} holds no stack any more. Start it: archiver up.")
        return state

    def part(self, name: str) -> PartStatus:
        """The part of this name as it is now; KeyError for one that is none."""
        return {part.name: part for part in self.state().parts}[name]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a part's process, as a failure would; its process id.

        Raises:
            StackFailedError: the part does not run.
        """
        pid = self.part(name).pid
        if pid is None:
            raise StackFailedError(f"{name} does not run.")
        os.kill(pid, number)
        return pid

    def wait_for_restart(self, name: str, killed_pid: int, within_s: float = 60.0) -> PartStatus:
        """Wait until a part that was killed is ready again under another process id (a stack with restarts).

        Raises:
            StackFailedError: it is not, in time.
        """
        deadline = time.monotonic() + within_s
        while True:
            part = self.part(name)
            if part.state is PartState.READY and part.pid not in (None, killed_pid):
                return part
            if time.monotonic() > deadline:
                raise StackFailedError(f"{name} is {part.state} and not ready again: {part.message}")
            time.sleep(_POLL_S)


def stack_state(folder: Path) -> StackState | None:
    """State of the stack in `folder`, that of a killed launcher recognised as such; None if there never was one."""
    folder = folder.expanduser().resolve()
    held = is_held(folder)
    state = read_state(folder)
    if state is None or held or state.phase in (Phase.ENDED, Phase.FAILED):
        return state
    return state.model_copy(
        update={
            "phase": Phase.KILLED,
            "message": "The launcher was killed. Start the stack again: archiver up.",
            "parts": tuple(part.model_copy(update={"state": PartState.ENDED, "pid": None}) for part in state.parts),
        }
    )


def _as_stack(state: StackState) -> Stack:
    return Stack(
        folder=state.folder,
        urls=state.urls,
        credentials=Credentials.model_validate(state.credentials),
        environment=state.environment,
    )


def current_stack(folder: Path | None = None) -> Stack | None:
    """The stack that is ready in `folder` (default: ARCHIVER_LOCAL_FOLDER), or None."""
    state = stack_state(folder or LocalSettings().folder)
    return _as_stack(state) if state is not None and state.phase is Phase.READY else None


def _launcher_command(settings: LocalSettings, how: str, *, restart: bool) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "archiver.local.launcher", how, *(["--restart"] if restart else [])]
    own = settings.model_dump(mode="json", exclude_none=True) | {"archiver_local_folder": settings.folder}
    return command, os.environ | {name.upper(): str(value) for name, value in own.items()}


def _open_log(folder: Path) -> BinaryIO:
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    return (folder / "logs" / _LOG).open("ab")


def _wait_until_ready(
    folder: Path, pid: int, is_gone: Callable[[], bool], report: Callable[[StackState], None]
) -> Stack:
    """Follow the launch of the launcher `pid` to its end."""
    deadline = time.monotonic() + START_WITHIN_S
    shown: StackState | None = None
    while True:
        gone = is_gone()
        state = read_state(folder)
        if state is not None and state.launcher_pid != pid:
            state = None  # of an earlier launch
        if state is not None and state != shown:
            shown = state
            report(state)
        if gone:
            reason = state.message if state is not None and state.message else _launcher_said(folder)
            raise StackFailedError(f"The stack did not start: {reason}")
        if state is not None and state.phase is Phase.READY:
            return _as_stack(state)
        if state is not None and state.phase is Phase.DEGRADED:
            raise StackFailedError(
                f"The stack runs, but not whole: {state.message}\nStart it anew: archiver down, archiver up."
            )
        if time.monotonic() > deadline:
            raise StackFailedError(
                f"The stack was not ready within {START_WITHIN_S:.0f} s. See {folder / 'logs'}; "
                "end it with: archiver down."
            )
        time.sleep(_POLL_S)


def _launcher_said(folder: Path) -> str:
    file = folder / "logs" / _LOG
    text = file.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip() if file.exists() else ""
    last = text.splitlines()[-1] if text else "its launcher ended at once"
    return f"{last} (log: {file})"


def start_stack(
    settings: LocalSettings, report: Callable[[StackState], None] = lambda state: None
) -> tuple[Stack, bool]:
    """The stack in the settings' folder, started in the background where none runs; whether it was started now.

    Returns when all parts are ready. It outlives this process; parts that die are started again.

    Raises:
        StackFailedError: it did not get ready; the message names the part and quotes its log.
    """
    folder = settings.folder
    started = False
    pid = launcher_pid(folder)
    if pid is None:
        command, environment = _launcher_command(settings, "--detached", restart=True)
        with _open_log(folder) as output:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=START_WITHIN_S,
                check=False,
            )
        pid = launcher_pid(folder)
        # Not started, and none there that was quicker.
        if pid is None:
            raise StackFailedError(f"The stack did not start: {_launcher_said(folder)}")
        started = done.returncode == 0
    launcher = pid
    stack = _wait_until_ready(folder, launcher, lambda: launcher_pid(folder) != launcher, report)
    return stack, started


def stop_stack(folder: Path, within_s: float = END_WITHIN_S) -> bool:
    """End the stack in `folder`, and whatever a killed one left; whether there was anything to end.

    Raises:
        StackFailedError: its launcher does not end in time (everything is killed then).
    """
    folder = folder.expanduser().resolve()
    pid = launcher_pid(folder)
    if pid is None:
        ended = bool(end_leftovers(mark_of(folder)))
        state = stack_state(folder)
        if state is not None and state.phase is Phase.KILLED:
            write_state(state.model_copy(update={"phase": Phase.ENDED, "message": ""}))
        return ended
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + within_s
    while is_held(folder):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            end_leftovers(mark_of(folder), grace_s=0)
            raise StackFailedError(f"The launcher (pid {pid}) did not end within {within_s:.0f} s and was killed.")
        time.sleep(_POLL_S)
    return True


def leftovers_of(folder: Path) -> list[int]:
    """Process ids of all parts of the stack in `folder`, also those whose launcher was killed."""
    return find_leftovers(mark_of(folder.expanduser().resolve()))


@contextlib.contextmanager
def running_stack(
    folder: Path,
    *,
    ports: PortChoice | str = PortChoice.FREE,
    restart: bool = False,
    flows_file: Path | None = None,
    report: Callable[[StackState], None] = lambda state: None,
) -> Iterator[Stack]:
    """A stack with its data in `folder` while the block runs; it ends with this process at the latest.

    With `restart` a part that dies is started again; without, its death ends the stack.

    Raises:
        StackFailedError: it did not get ready; the message names the part and quotes its log.
    """
    chosen = {"archiver_local_folder": folder, "archiver_local_ports": PortChoice(ports)}
    if flows_file is not None:
        chosen["archiver_local_flows_file"] = flows_file
    settings = LocalSettings.model_validate(chosen)
    command, environment = _launcher_command(settings, "--owned", restart=restart)
    with _open_log(settings.folder) as output:
        launcher = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield _wait_until_ready(settings.folder, launcher.pid, lambda: launcher.poll() is not None, report)
    finally:
        if launcher.stdin is not None:
            launcher.stdin.close()
        try:
            launcher.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
            end_leftovers(mark_of(settings.folder), grace_s=0)
