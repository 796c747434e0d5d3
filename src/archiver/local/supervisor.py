"""Starts parts in the order of their needs, watches them, and ends them in the opposite order."""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx
import structlog

from archiver.local import leftovers
from archiver.local.parts import Part, Probe
from archiver.local.state import PartState, PartStatus
from archiver.workflow.errors import PermanentError

log = structlog.get_logger(__name__)

_POLL_S = 0.1
_PROBE_TIMEOUT_S = 3.0
_TAIL_LINES = 12
_TAIL_BYTES = 16_384
_LOG_BYTES = 16 * 1024 * 1024
_RESTARTS = 5
_RESTARTS_WITHIN_S = 120.0


class PartFailedError(PermanentError):
    """A part ended, or was not ready in time."""

    code = "part-failed"


def log_tail(file: Path, start: int = 0) -> str:
    """The last lines of a log, indented; none of what stands before byte `start`."""
    with contextlib.suppress(FileNotFoundError), file.open("rb") as source:
        source.seek(0, os.SEEK_END)
        source.seek(max(start, source.tell() - _TAIL_BYTES))
        lines = source.read().decode("utf-8", "replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
    return ""


def _signal_group(pid: int, number: signal.Signals) -> None:
    # The group is the part's own: it is started as the leader of one.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


class _Kept:
    """A part and what is known of it."""

    def __init__(self, part: Part, log_file: Path) -> None:
        self.part = part
        self.status = PartStatus(name=part.name, url=part.url, log=log_file)
        self.log_start = 0
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.deaths: deque[float] = deque(maxlen=_RESTARTS)


class Supervisor:
    """Keeps `parts` running, logs in `folder`/logs; `changed` is called with the status of a part that changes.

    The processes of each part carry a mark of `folder`, `launch` and the part (archiver.local.leftovers).
    """

    def __init__(
        self,
        parts: Sequence[Part],
        folder: Path,
        launch: str,
        changed: Callable[[PartStatus], None],
        *,
        restart: bool = False,
    ) -> None:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._launch = launch
        self._changed = changed
        self._restart = restart
        self._kept = {part.name: _Kept(part, folder / "logs" / f"{part.name}.log") for part in parts}
        for part in parts:
            if unknown := [name for name in part.after if name not in self._kept]:
                raise ValueError(f"{part.name} comes after {unknown}, which are no parts")

    def statuses(self) -> tuple[PartStatus, ...]:
        """All parts, in the order given."""
        return tuple(kept.status for kept in self._kept.values())

    async def run(self, stop: asyncio.Event, all_ready: Callable[[], None]) -> None:
        """Start everything, call `all_ready`, and go on until `stop` is set; then, or on failure, end everything.

        Where parts are started again, one that dies too often stays dead and the others go on.

        Raises:
            PartFailedError: a part was not ready in time or ended by itself. All others are ended by then.
        """
        async with httpx.AsyncClient(timeout=_PROBE_TIMEOUT_S, trust_env=False) as client:
            keepers = [asyncio.create_task(self._keep(kept, client)) for kept in self._kept.values()]
            everything = asyncio.create_task(self._all_ready())
            try:
                if await self._first(stop, keepers, everything):
                    all_ready()
                    await self._first(stop, keepers, None)
            finally:
                for task in (everything, *keepers):
                    task.cancel()
                await asyncio.gather(everything, *keepers, return_exceptions=True)
                await asyncio.gather(*(self._end_in_order(kept) for kept in self._kept.values()))

    async def _all_ready(self) -> None:
        await asyncio.gather(*(kept.ready.wait() for kept in self._kept.values()))

    @staticmethod
    async def _first(
        stop: asyncio.Event, keepers: Sequence[asyncio.Task[None]], goal: asyncio.Task[None] | None
    ) -> bool:
        """Wait for the goal (True), the wish to stop (False), or the failure of a part (raised)."""
        wish: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        pending: set[asyncio.Task[Any]] = {wish, *keepers}
        if goal is not None:
            pending.add(goal)
        try:
            while True:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if wish in done:
                    return False
                if goal is not None and goal in done:
                    return True
        finally:
            wish.cancel()

    def _note(self, kept: _Kept, **changes: object) -> None:
        kept.status = kept.status.model_copy(update=changes)
        log.info("part", part=kept.part.name, state=str(kept.status.state), pid=kept.status.pid)
        self._changed(kept.status)

    async def _keep(self, kept: _Kept, client: httpx.AsyncClient) -> None:
        """Start a part when those before it are ready; return when a job is done, go on with anything else."""
        await asyncio.gather(*(self._kept[name].ready.wait() for name in kept.part.after))
        while True:
            probe = kept.part.ready() if kept.part.ready else None
            process = await self._start(kept)
            try:
                await self._become_ready(kept, process, probe, client)
                if kept.part.is_job:
                    return
                await self._live(kept, process)
            except PartFailedError as error:
                # Neither itself (not ready in time) nor what it started may live on beside the next one.
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
                if kept.ready.is_set() and self._may_restart(kept):
                    restarts = kept.status.restarts + 1
                    self._note(kept, state=PartState.STARTING, message=str(error), restarts=restarts)
                    continue
                self._note(kept, state=PartState.DEAD, pid=None, message=str(error))
                if self._restart and kept.ready.is_set():
                    return
                raise

    def _may_restart(self, kept: _Kept) -> bool:
        if not self._restart:
            return False
        kept.deaths.append(time.monotonic())
        return len(kept.deaths) < _RESTARTS or kept.deaths[-1] - kept.deaths[0] > _RESTARTS_WITHIN_S

    async def _start(self, kept: _Kept) -> asyncio.subprocess.Process:
        part, file = kept.part, kept.status.log
        if file.exists() and file.stat().st_size > _LOG_BYTES:
            file.replace(file.with_suffix(".log.1"))
        with file.open("ab") as output:
            output.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} {part.name}\n".encode())
            output.flush()
            kept.log_start = output.tell()
            kept.process = await asyncio.create_subprocess_exec(
                *part.command,
                env={**part.environment(), leftovers.TAG: self._mark(part)},
                cwd=part.working_folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                process_group=0,
            )
        self._note(kept, state=PartState.STARTING, pid=kept.process.pid)
        return kept.process

    def _mark(self, part: Part) -> str:
        return leftovers.mark_of(self._folder, self._launch, part.name)

    async def _become_ready(
        self,
        kept: _Kept,
        process: asyncio.subprocess.Process,
        probe: Probe | None,
        client: httpx.AsyncClient,
    ) -> None:
        part = kept.part
        started = time.monotonic()
        try:
            async with asyncio.timeout(part.ready_within_s):
                if probe is None:
                    if code := await process.wait():
                        raise PartFailedError(self._death(kept, code))
                else:
                    while not await probe(client):
                        if process.returncode is not None:
                            raise PartFailedError(self._death(kept, process.returncode))
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(process.wait(), _POLL_S)
        except TimeoutError as error:
            raise PartFailedError(
                f"{part.name} was not ready within {part.ready_within_s:.0f} s. Last lines of "
                f"{kept.status.log}:\n{log_tail(kept.status.log, kept.log_start)}"
            ) from error
        self._note(
            kept,
            state=PartState.DONE if part.is_job else PartState.READY,
            ready_after_s=round(time.monotonic() - started, 1),
            message="",
        )
        kept.ready.set()

    async def _live(self, kept: _Kept, process: asyncio.subprocess.Process) -> NoReturn:
        raise PartFailedError(self._death(kept, await process.wait()))

    @staticmethod
    def _death(kept: _Kept, code: int) -> str:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{kept.part.name} {how}. Last lines of {kept.status.log}:\n{log_tail(kept.status.log, kept.log_start)}"

    async def _end_in_order(self, kept: _Kept) -> None:
        dependents = [other for other in self._kept.values() if kept.part.name in other.part.after]
        await asyncio.gather(*(other.ended.wait() for other in dependents))
        try:
            await self._end(kept)
        finally:
            kept.ended.set()

    async def _end(self, kept: _Kept) -> None:
        process = kept.process
        if process is None:
            return
        if process.returncode is None:
            self._note(kept, state=PartState.ENDING)
            _signal_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), kept.part.end_within_s)
            except TimeoutError:
                log.warning("part_killed", part=kept.part.name, pid=process.pid)
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        # Runs that a worker started are in groups of their own, and report their end while the server is there.
        await asyncio.to_thread(leftovers.end_leftovers, self._mark(kept.part))
        if kept.status.state not in (PartState.DEAD, PartState.DONE):
            self._note(kept, state=PartState.ENDED, pid=None)
