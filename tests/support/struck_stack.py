"""The whole embedded stack with runs that are stopped in the middle, to be struck there from outside."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
import pytest

from archiver.config.settings import (
    ArchivingSettings,
    CatalogueSettings,
    LedgerSettings,
    LtsSettings,
    ObjectStoreSettings,
    QueueSettings,
)
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR
from archiver.local.stack import Stack
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.job_queue import RunState
from archiver.workflow.jobs import UNFINISHED_STATUSES
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.monitor import Limit
from archiver.workflow.names import DATASETS_FOLDER, RAW_FILES
from archiver.workflow.queue_control import QueueControl
from archiver.workflow.storage.lts import PosixShare, ShareAddress
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.tools import Tools
from support.facility import Facility
from support.faults_checks import Witness
from support.faulty_proxy import FaultyProxy, Trouble, faulty_proxy

SETTINGS = {
    "ARCHIVER_TARGET_SIZE_GB": "0.000015",
    "ARCHIVER_NUM_WORKERS": "2",
    "CLAIM_TIMEOUT_S": "10",
    "RECONCILIATION_DEAD_RUN_S": "60",
}
"""Of the stack: small datablocks, and what is dead counts as dead early."""
WITHIN_S = 300.0
"""For anything that must come; much more than it takes."""
_POLL_S = 0.2

T = TypeVar("T")


def soon(look: Callable[[], T], wanted: Callable[[T], bool] = bool, within_s: float = WITHIN_S) -> T:
    """What is looked at, once it is as wanted.

    Raises:
        AssertionError: it is not in time; shows how it is.
    """
    deadline = time.monotonic() + within_s
    while not wanted(found := look()):
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(_POLL_S)
    return found


@dataclass(frozen=True)
class StruckStack:
    """A stack whose runs, and no other part, reach S3 through a proxy."""

    stack: Stack
    facility: Facility
    proxy: FaultyProxy
    queue: QueueControl

    # ------------------------------------------------------------------------------ jobs and their runs

    def submit(self, job_type: str, *witnesses: Witness) -> str:
        """A job, as a user submits it; its id."""
        return self.facility.submit(job_type, *(witness.pid for witness in witnesses))

    def set_archivable(self, witness: Witness) -> None:
        """What whoever asks for a data set to be archived once more does before."""
        path = f"v3/datasets/{witness.pid.replace('/', '%2F')}/datasetlifecycle"
        self.facility.call("PATCH", path, {"archivable": True}, ARCHIVER)

    def runs(self, job: str) -> list[RunState]:
        return self.queue.runs_of_job(job)

    def run(self, job: str) -> RunState:
        """The newest run of a job."""
        return soon(lambda: self.runs(job))[-1]

    def end_of(self, job: str) -> str:
        """What SciCat says of a job once it and its runs have ended."""

        def status() -> str:
            return str(self.facility.job(job)["statusCode"])

        ended = soon(status, lambda found: found not in UNFINISHED_STATUSES)
        soon(lambda: self.runs(job), lambda runs: all(run.is_finished for run in runs))
        return ended

    def must_succeed(self, job: str, runs: int = 1) -> None:
        """The job ends well, after so many runs."""
        assert self.end_of(job) == "finishedSuccessful", self.facility.job(job)["statusMessage"]
        found = self.runs(job)
        assert len(found) == runs, [f"{run.state_name}: {run.message}" for run in found]

    # ------------------------------------------------------------------------------ in the middle

    def hold_archive_jobs(self) -> Callable[[], None]:
        """From now on archive jobs stop where they read a file, and so write to the share; what lets them go on."""
        return self.proxy.spoil(Trouble.HELD, lambda call: _dataset_read(call) is not None)

    def hold_retrieve_jobs(self) -> Callable[[], None]:
        """From now on retrieve jobs stop where they write what they read from the share; what lets them go on."""
        return self.proxy.spoil(Trouble.HELD, lambda call: _dataset_copied(call) is not None)

    def is_held(self, witness: Witness) -> bool:
        return any(witness.pid in (_dataset_read(call), _dataset_copied(call)) for call in self.proxy.passing())

    def most_written_at_once(self) -> int:
        """How many data sets were ever read from the landing zone, and so written to the share, at the same time."""
        return self.proxy.most_at_once(_dataset_read)

    def wait_until_held(self, *witnesses: Witness) -> None:
        for witness in witnesses:
            soon(lambda witness=witness: self.is_held(witness))  # type: ignore[misc]

    def processes(self, job: str) -> list[int]:
        """Of all runs of a job: what Prefect started, and their children for the share."""
        return [pid for run in self.runs(job) for pid in _processes_of(run.id)]

    def kill_processes(self, job: str) -> None:
        """SIGKILL to what runs the flow; children end with it."""
        found = self.processes(job)
        assert found, "the run has no process"
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def tasks_at_work(self, kind: str, job: str = "") -> int:
        """How many tasks are running whose names begin so, of all jobs or one."""
        question: dict[str, object] = {"task_runs": {"state": {"type": {"any_": ["RUNNING"]}}, "name": {"like_": kind}}}
        with self._prefect() as client:
            if job:
                runs = [str(run.id) for run in self.runs(job)]
                within = {"flow_runs": {"parent_flow_run_id": {"any_": runs}}}
                found = client.post("flow_runs/filter", json=within).raise_for_status().json()
                question["flow_runs"] = {"id": {"any_": [run["id"] for run in found]}}
            return int(client.post("task_runs/count", json=question).raise_for_status().json())

    # ------------------------------------------------------------------------------ places under limits

    def places(self) -> dict[str, int]:
        """How many are taken, by limit."""
        with self._prefect() as client:
            found = {limit: client.get(f"v2/concurrency_limits/{limit}").raise_for_status().json() for limit in Limit}
        return {str(limit): int(answer["active_slots"]) for limit, answer in found.items()}

    @contextmanager
    def place_taken(self, limit: Limit) -> Iterator[None]:
        """A place under the limit is somebody else's."""
        body = {"names": [str(limit)], "slots": 1}
        with self._prefect() as client:
            client.post("v2/concurrency_limits/increment", json=body | {"mode": "concurrency"}).raise_for_status()
            try:
                yield
            finally:
                client.post("v2/concurrency_limits/decrement", json=body).raise_for_status()

    def wait_for_free_places(self, within_s: float = WITHIN_S) -> None:
        soon(self.places, lambda taken: not any(taken.values()), within_s)

    def _prefect(self) -> httpx.Client:
        user, _, password = self.stack.credentials.prefect_auth.partition(":")
        url = f"{self.stack.urls.prefect_api}/"
        return httpx.Client(base_url=url, auth=(user, password), timeout=30, trust_env=False)


def _dataset_read(call: str) -> str | None:
    """The data set of whose files a call to S3 reads one."""
    found = re.match(rf"GET /[^/]+/{DATASETS_FOLDER}/(.+)/{RAW_FILES}/", call)
    return found and found[1]


def _dataset_copied(call: str) -> str | None:
    """The data set of whose datablocks a call to S3 writes a part."""
    found = re.match(rf"PUT /[^/]+/{DATASETS_FOLDER}/(.+)/data/.*partNumber=", call)
    return found and found[1]


def _processes_of(run: UUID) -> Iterator[int]:
    mark = f"PREFECT__FLOW_RUN_ID={run}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _facility(stack: Stack, own: ExitStack) -> Facility:
    store, lts = stack.settings(ObjectStoreSettings), stack.settings(LtsSettings)
    catalogue, ledger = stack.settings(CatalogueSettings), stack.settings(LedgerSettings)
    opened = own.enter_context(Ledger.open(ledger))
    # As the first run would do it.
    identity = UUID(opened.remember(LTS_IDENTITY, str(PosixShare(lts.lts_root_folder).identity())))
    tools = Tools(
        store=own.enter_context(ObjectStore.open(store)),
        catalogue=own.enter_context(Catalogue.open(catalogue)),
        ledger=opened,
        share=ShareAddress(lts.lts_root_folder, identity),
        store_settings=store,
        lts=lts,
        settings=stack.settings(ArchivingSettings),
        storage_location=catalogue.storage_location,
    )
    passwords = {
        ARCHIVER: stack.credentials.scicat_password,
        INGESTOR: stack.credentials.ingestor_password,
    }
    return Facility(tools, stack.urls.scicat, ledger, catalogue, lts.lts_root_folder, passwords)


@contextmanager
def struck_stack(stack: Stack) -> Iterator[StruckStack]:
    """The stack, with the proxy put before S3 for runs."""
    with ExitStack() as own:
        proxy = own.enter_context(faulty_proxy(stack.urls.s3))
        queue = own.enter_context(QueueControl.open(stack.settings(QueueSettings)))
        struck = StruckStack(stack, _facility(stack, own), proxy, queue)
        with struck._prefect() as client:
            client.patch("variables/name/s3_endpoint", json={"value": proxy.url}).raise_for_status()
        yield struck


@contextmanager
def settings_of_the_stack() -> Iterator[None]:
    """Whatever stack is started within takes SETTINGS over."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        yield
