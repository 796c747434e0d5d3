"""Runs that are struck: starting them, watching them, and what must hold whatever happened to them."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import create_engine, text

from archiver.config.settings import FlowConfiguration, QueueSettings, ServiceSettings
from support.facility import Facility
from support.faults_points import Fault, Point
from support.faults_runner import Order, Outcome

_TESTS = Path(__file__).parents[1]
_PROGRAM = "import sys; from support.faults_runner import main; main(sys.argv[1])"
EVERY_POINT = os.environ.get("ARCHIVER_ALL_FAULT_POINTS") == "1"
"""Strike at every call, also at those whose failure leaves the same behind as that of the one before."""
DEADLINE_S = 240
"""For anything a run may take."""


class RunEndedError(Exception):
    """A run ended that should have stopped at a point."""


class StruckRun:
    """A run of a use case in processes of its own. Killed at the end of its `with` block, should it still live."""

    def __init__(self, connection: Connection, order: Order) -> None:
        self.order = order
        self._connection = connection
        connection.send(order)
        self.group = self._told("started")
        """Its process group."""
        self._status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is None:
            self.kill()
            self.ended()
        self._connection.close()

    def _told(self, *wanted: str) -> int:
        if not self._connection.poll(DEADLINE_S):
            raise TimeoutError(f"the run of {self.order.pid} does not come on: {self.order.folder / 'log'}")
        what, number = self._connection.recv()
        if what == "ended":
            self._status = number
        if what not in wanted:
            raise RunEndedError(f"{what} {number} where {wanted} was due: {self.log}")
        return int(number)

    def wait_until_stopped(self) -> None:
        """Returns when it stopped at a point.

        Raises:
            RunEndedError: it ended instead.
        """
        self._told("stopped")

    def go_on(self) -> None:
        """Let it go on after a stop; nothing where it ended meanwhile."""
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)

    def ended(self) -> int:
        """Its exit status (negative: the signal), when nothing of it is alive any more."""
        if self._status is None:
            self._told("ended")
        assert self._status is not None
        return self._status

    def outcome(self) -> Outcome:
        """How it ended by itself."""
        assert self.ended() == 0, self.log
        found: Outcome = pickle.loads((self.order.folder / "outcome").read_bytes())
        return found

    @property
    def log(self) -> str:
        """What it said."""
        return (self.order.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def calls(self) -> list[Point]:
        """The calls it began, in order (of one process; those of several are interleaved)."""
        lines = (self.order.folder / "calls").read_text(encoding="ascii").splitlines()
        fields = [line.split("\t") for line in lines]
        return [Point(process, call, int(number)) for process, call, number in fields]


class Runner:
    """The program that runs use cases; see `support.faults_runner`."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder

    def start(
        self,
        facility: Facility,
        use_case: str,
        pid: str,
        *faults: Fault,
        holder: str = "first run",
        new_children: bool = False,
    ) -> StruckRun:
        """Begin a run with the facility's settings."""
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._folder))
        order = Order(use_case, pid, holder, configuration_of(facility), folder, faults, new_children)
        return StruckRun(Client(self._address, "AF_UNIX"), order)

    def run(self, facility: Facility, use_case: str, pid: str, *faults: Fault, holder: str = "first run") -> Outcome:
        """A whole run that ends by itself."""
        with self.start(facility, use_case, pid, *faults, holder=holder) as run:
            return run.outcome()


@contextmanager
def run_runner(folder: Path) -> Iterator[Runner]:
    """The program, with a folder for what its runs leave to read."""
    with tempfile.TemporaryDirectory(prefix="runner-") as short:  # the path of a socket must be short
        address = f"{short}/socket"
        environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
        with subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                yield Runner(address, folder)
            finally:
                process.kill()


def configuration_of(facility: Facility) -> FlowConfiguration:
    """The facility's settings as a run loads them."""
    tools = facility.tools
    return FlowConfiguration(
        service=ServiceSettings(),
        store=tools.store_settings,
        catalogue=facility.catalogue_settings,
        ledger=facility.ledger_settings,
        lts=tools.lts,
        archiving=tools.settings,
        queue=QueueSettings(),
    )


def let_claims_grow_old(facility: Facility, pid: str) -> None:
    """As if the time after which a silent run counts as dead had passed for what it held of `pid`."""
    engine = create_engine(facility.ledger_settings.ledger_url.get_secret_value())
    try:
        with engine.begin() as connection:
            for table, column in (("datasets", "pid"), ("retrievals", "archive_id")):
                connection.execute(
                    text(
                        f"UPDATE {table} SET heartbeat_at = heartbeat_at - interval '1 day' "
                        f"WHERE position(:pid in {column}) > 0"
                    ),
                    {"pid": pid},
                )
    finally:
        engine.dispose()
