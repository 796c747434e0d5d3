"""The process that starts the embedded stack and keeps it: `python -m archiver.local.launcher`.

Two kinds of end are provided for. In order: SIGTERM, Ctrl-C, or (with `--owned`) the end of its standard input.
And not in order: should it be killed, the keeper (archiver.local.leftovers) ends every part.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from archiver.local import leftovers
from archiver.local.blueprint import Blueprint
from archiver.local.credentials import ensure_credentials
from archiver.local.parts import Part
from archiver.local.ports import check_free, choose_free
from archiver.local.seaweedfs import PORT_NAMES as SEAWEEDFS_PORTS
from archiver.local.settings import LocalSettings, PortChoice
from archiver.local.stack_parts import parts
from archiver.local.state import PartState, Phase, StackState, hold, read_state, write_state
from archiver.local.supervisor import PartFailedError, Supervisor
from archiver.workflow.errors import ArchiverError

log = structlog.get_logger("archiver.local.launcher")  # by name: run with -m, it is `__main__`

_ORPHANS_WITHIN_S = 10.0

Report = Callable[[StackState], None]
MakeParts = Callable[[Blueprint], Sequence[Part]]


def _choose_ports(settings: LocalSettings, earlier: dict[str, int]) -> dict[str, int]:
    """A port for every part. SeaweedFS has inner ones besides that of S3: those are always free ones."""
    fixed = {
        "api": settings.archiver_local_api_port,
        "prefect": settings.archiver_local_prefect_port,
        "scicat": settings.archiver_local_scicat_port,
        "identity": settings.archiver_local_identity_port,
        "s3": settings.archiver_local_s3_port,
        "postgres": settings.archiver_local_postgres_port,
    }
    inner = [f"seaweedfs_{name}" for name in SEAWEEDFS_PORTS if name != "s3"]
    if settings.archiver_local_ports is PortChoice.FREE:
        return choose_free([*fixed, *inner], earlier)
    check_free(fixed, {name: f"ARCHIVER_LOCAL_{name.upper()}_PORT" for name in fixed})
    return fixed | choose_free(inner, earlier)


@contextlib.contextmanager
def _keeper(mark: str, log_file: Path) -> Iterator[None]:
    """A process that ends all that is left of this launch should the launcher be killed."""
    with log_file.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", leftovers.__file__, mark],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        left = leftovers.end_leftovers(mark, _ORPHANS_WITHIN_S)
        if left:
            log.warning("leftovers_ended", pids=left)
        keeper.communicate(leftovers.IN_ORDER)


class Launcher:
    """One launch of a stack."""

    def __init__(self, settings: LocalSettings, report: Report, make_parts: MakeParts, *, restart: bool) -> None:
        folder = settings.folder
        launch = uuid.uuid4().hex
        earlier = read_state(folder)
        leftovers.end_leftovers(leftovers.mark_of(folder))
        credentials = ensure_credentials(folder)
        self._plan = Blueprint(
            folder=folder,
            ports=_choose_ports(settings, earlier.ports if earlier else {}),
            credentials=credentials,
            flows_file=settings.flows_file,
        )
        self._report = report
        self._started = time.monotonic()
        self._supervisor = Supervisor(make_parts(self._plan), folder, launch, lambda _: self._note(), restart=restart)
        self._state = StackState(
            folder=folder,
            launch=launch,
            launcher_pid=os.getpid(),
            phase=Phase.STARTING,
            started_at=datetime.now(UTC),
            parts=self._supervisor.statuses(),
            urls=self._plan.urls,
            ports=dict(self._plan.ports),
            credentials=credentials.model_dump(),
        )

    def _note(self, **changes: object) -> None:
        statuses = self._supervisor.statuses()
        dead = [part for part in statuses if part.state is PartState.DEAD]
        if self._state.phase is Phase.READY and dead and not changes:
            changes = {"phase": Phase.DEGRADED, "message": "\n".join(part.message for part in dead)}
        self._state = self._state.model_copy(update={"parts": statuses, **changes})
        write_state(self._state)
        self._report(self._state)

    def _all_ready(self) -> None:
        self._note(
            phase=Phase.READY,
            ready_after_s=round(time.monotonic() - self._started, 1),
            environment=self._plan.service_environment(),
        )
        log.info("stack_ready", seconds=self._state.ready_after_s)

    async def run(self, owner: int | None) -> int:
        """Keep the stack until it is told to end; the exit code."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        if owner is not None:

            def look() -> None:
                if not os.read(owner, 1):
                    stop.set()

            loop.add_reader(owner, look)
        stopping = asyncio.create_task(self._say_when_ending(stop))
        try:
            mark = leftovers.mark_of(self._state.folder, self._state.launch)
            with _keeper(mark, self._plan.logs / "keeper.log"):
                self._note()
                await self._supervisor.run(stop, self._all_ready)
            self._note(phase=Phase.ENDED)
        except PartFailedError as error:
            self._note(phase=Phase.FAILED, message=str(error))
            return 1
        finally:
            stopping.cancel()
            if owner is not None:
                loop.remove_reader(owner)
            self._plan.seaweedfs.remove_sockets()
        return 0

    async def _say_when_ending(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._note(phase=Phase.ENDING)


def launch(
    settings: LocalSettings,
    report: Report = lambda state: None,
    *,
    make_parts: MakeParts = parts,
    restart: bool = False,
    owner: int | None = None,
    held: Callable[[], None] = lambda: None,
) -> int:
    """Start the stack in this process and keep it until SIGTERM, SIGINT, or the end of the stream `owner`.

    With `restart` a part that dies is started again (a few times); without, its death ends the stack.
    `held` is called once the folder is this launcher's.
    Returns 0, or 1 where a part failed (the state then says which and why).

    Raises:
        AlreadyRunningError: a stack runs in the folder.
        PortInUseError: a port is taken.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    with hold(settings.folder):
        held()
        return asyncio.run(Launcher(settings, report, make_parts, restart=restart).run(owner))


def detach() -> Callable[[], None]:
    """Go on in a process of its own, under no terminal; this one ends when the returned function is called there.

    Its exit code is 0 then, and 1 if the other ends without having called it.
    """
    told, telling = os.pipe()
    if os.fork():
        os.close(telling)
        os._exit(0 if os.read(told, 1) else 1)
    os.close(told)
    os.setsid()

    def tell() -> None:
        os.write(telling, b"1")
        os.close(telling)

    return tell


def main() -> int:
    """Be the launcher of a stack that outlives the command which starts it, or of one owned by a program."""
    parser = argparse.ArgumentParser(prog="python -m archiver.local.launcher", description=__doc__)
    parser.add_argument("--restart", action="store_true", help="start parts that die again")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--owned", action="store_true", help="end when standard input does")
    how.add_argument("--detached", action="store_true", help="go to the background once the folder is held")
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = LocalSettings()
        if arguments.owned:
            return launch(settings, restart=arguments.restart, owner=sys.stdin.fileno())
        return launch(settings, restart=arguments.restart, held=detach())
    except ArchiverError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
