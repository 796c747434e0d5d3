"""Parts start in the order of their needs, are watched, and end in the opposite order."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from archiver.local.parts import Part, new_file_probe
from archiver.local.state import PartState, PartStatus
from archiver.local.supervisor import PartFailedError, Supervisor

_SERVE = """
import pathlib, signal, sys
order, name, ready = (pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]))
def note(what):
    with order.open("a") as file: file.write(f"{what} {name}\\n")
def end(*_):
    note("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("start")
print("serving", flush=True)
ready.touch()
signal.pause()
"""
_DEAF = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[3]).touch()
while True: signal.pause()
"""
_FAIL = "import sys; print('no such table'); sys.exit(7)"


class Workshop:
    """Makes parts and runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order_file = folder / "order"
        self.seen: list[PartStatus] = []
        self.stop = asyncio.Event()
        self.all_ready = asyncio.Event()

    def part(
        self,
        name: str,
        *after: str,
        program: str = _SERVE,
        job: bool = False,
        ready_within_s: float = 30,
        end_within_s: float = 30,
    ) -> Part:
        ready = self.folder / f"{name}.ready"
        return Part(
            name=name,
            command=(sys.executable, "-S", "-c", program, str(self.order_file), name, str(ready)),
            environment=lambda: os.environ,
            after=after,
            ready=None if job else lambda: new_file_probe(ready),
            ready_within_s=ready_within_s,
            end_within_s=end_within_s,
        )

    def supervisor(self, *parts: Part, restart: bool = False) -> Supervisor:
        return Supervisor(parts, self.folder, "launch", self.seen.append, restart=restart)

    @asynccontextmanager
    async def running(self, supervisor: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
        """The supervisor with all parts ready; ended afterwards."""
        task = asyncio.create_task(supervisor.run(self.stop, self.all_ready.set))
        ready = asyncio.create_task(self.all_ready.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        yield task
        self.stop.set()
        await asyncio.gather(task, return_exceptions=True)

    def order(self) -> list[str]:
        return self.order_file.read_text().splitlines()


@pytest.fixture
async def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def _status(supervisor: Supervisor, name: str) -> PartStatus:
    return next(status for status in supervisor.statuses() if status.name == name)


def _pid(supervisor: Supervisor, name: str) -> int:
    pid = _status(supervisor, name).pid
    assert pid is not None
    return pid


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # processes tell nobody
            await asyncio.sleep(0.02)


async def test_parts_start_after_those_they_need_and_end_before_them(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(
        workshop.part("api", "tables"),
        workshop.part("tables", "database", program="pass", job=True),
        workshop.part("database"),
    )

    async with workshop.running(supervisor):
        assert workshop.order() == ["start database", "start api"]
        assert _status(supervisor, "tables").state is PartState.DONE
    assert workshop.order() == ["start database", "start api", "end api", "end database"]
    assert {status.name: status.state for status in supervisor.statuses()} == {
        "api": PartState.ENDED,
        "tables": PartState.DONE,
        "database": PartState.ENDED,
    }


async def test_a_job_that_fails_is_named_with_its_last_words_and_all_others_end(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(
        workshop.part("database"), workshop.part("tables", "database", program=_FAIL, job=True)
    )

    with pytest.raises(PartFailedError, match=r"(?s)tables ended with exit code 7.*no such table"):
        await supervisor.run(workshop.stop, workshop.all_ready.set)

    assert not workshop.all_ready.is_set()
    assert workshop.order() == ["start database", "end database"]


async def test_last_words_are_those_of_this_start(workshop: Workshop) -> None:
    (workshop.folder / "logs").mkdir()
    (workshop.folder / "logs" / "tables.log").write_text("words of yesterday\n")
    supervisor = workshop.supervisor(workshop.part("tables", program=_FAIL, job=True))

    with pytest.raises(PartFailedError) as caught:
        await supervisor.run(workshop.stop, workshop.all_ready.set)

    assert "yesterday" not in str(caught.value)


async def test_a_part_that_is_not_ready_in_time_fails_the_start(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.part("slow", program="import signal; signal.pause()", ready_within_s=0.3))

    with pytest.raises(PartFailedError, match="slow was not ready within"):
        await supervisor.run(workshop.stop, workshop.all_ready.set)

    assert all(_is_gone(status.pid) for status in workshop.seen if status.pid)


async def test_the_death_of_a_part_ends_the_others(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.part("database"), workshop.part("api", "database"))

    async with workshop.running(supervisor) as task:
        os.kill(_pid(supervisor, "api"), signal.SIGKILL)
        with pytest.raises(PartFailedError, match=r"(?s)api was ended by SIGKILL.*serving"):
            await task
    assert workshop.order() == ["start database", "start api", "end database"]


async def test_with_restarts_a_part_that_dies_is_started_again(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.part("api"), restart=True)

    async with workshop.running(supervisor):
        first = _pid(supervisor, "api")
        os.kill(first, signal.SIGKILL)
        await _until(lambda: _status(supervisor, "api").restarts == 1)
        await _until(lambda: _status(supervisor, "api").state is PartState.READY)
        assert _pid(supervisor, "api") != first


async def test_a_part_that_dies_again_and_again_stays_dead_and_the_others_go_on(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.part("api"), workshop.part("database"), restart=True)

    async with workshop.running(supervisor) as task:
        killed: set[int] = set()

        def kill_again() -> bool:
            api = _status(supervisor, "api")
            if api.state is PartState.READY and api.pid and api.pid not in killed:
                killed.add(api.pid)
                os.kill(api.pid, signal.SIGKILL)
            return api.state is PartState.DEAD

        await _until(kill_again)
        assert not task.done()
        assert _status(supervisor, "database").state is PartState.READY
        assert "api was ended by SIGKILL" in _status(supervisor, "api").message


async def test_a_part_that_ignores_sigterm_is_killed(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.part("deaf", program=_DEAF, end_within_s=0.2))

    async with workshop.running(supervisor):
        pid = _pid(supervisor, "deaf")
    assert _is_gone(pid)


_WITH_CHILD = """
import os, pathlib, signal, subprocess, sys
own_session = {own_session}
code = "import signal; signal.pause()"
child = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=own_session)
with pathlib.Path(sys.argv[1]).open("a") as file: file.write(f"{{child.pid}}\\n")
pathlib.Path(sys.argv[3]).touch()
signal.pause()
"""


@pytest.mark.parametrize("own_session", [False, True])
async def test_what_a_part_has_started_ends_with_the_stack(workshop: Workshop, own_session: bool) -> None:
    program = _WITH_CHILD.format(own_session=own_session)
    supervisor = workshop.supervisor(workshop.part("worker", program=program))

    async with workshop.running(supervisor):
        (child,) = map(int, workshop.order())
        assert not _is_gone(child)
    await _until(lambda: _is_gone(child))


async def test_a_part_that_is_started_again_finds_nothing_of_its_own_group(workshop: Workshop) -> None:
    program = _WITH_CHILD.format(own_session=False)
    supervisor = workshop.supervisor(workshop.part("worker", program=program), restart=True)

    async with workshop.running(supervisor):
        os.kill(_pid(supervisor, "worker"), signal.SIGKILL)
        await _until(lambda: len(workshop.order()) == 2)
        await _until(lambda: _is_gone(int(workshop.order()[0])))
        assert not _is_gone(int(workshop.order()[1]))


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_need_that_is_no_part_is_refused(workshop: Workshop) -> None:
    with pytest.raises(ValueError, match="database"):
        workshop.supervisor(workshop.part("api", "database"))
