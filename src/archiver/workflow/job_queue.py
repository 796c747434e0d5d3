"""The queue of jobs: flow runs on a Prefect server, asked for and looked at over its REST API.

Whoever puts jobs in the queue needs neither Prefect nor the flows' code. A job's run has an idempotency key,
so that asking for the same attempt again, after a lost answer or from two places at once, finds the same run.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import UUID

import httpx
import stamina
import structlog

from archiver.config.settings import QueueSettings
from archiver.workflow.errors import BadJobError, PermanentError, QueueError

log = structlog.get_logger(__name__)

DEPLOYMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "archive": ("archive_datasetlist", "datasets_archival"),
    "retrieve": ("retrieve_datasetlist", "datasets_retrieval"),
}
"""For each type of job the flow and the deployment that work on it."""

UNFINISHED: Final = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
"""Types of state a run is in before it has ended."""

REQUEST_TAG: Final = "request-"
"""Begins the tag of a run that names the request to the API which asked for it."""

_TAG = "archiver"
DATASET_TAG = "archiver-dataset"
"""Of the runs within a job's run, one for each data set; a tag of their own, for they are no runs of the job."""
_PAGE = 200
PATIENCE_S: Final = 30.0


class DeploymentMissingError(PermanentError):
    """The Prefect server does not know the deployment that works on jobs of a type."""

    code = "deployment-missing"


class QueueRefusedError(PermanentError):
    """The Prefect server refused a request: credentials, or another version than was expected."""

    code = "queue-refused"


class NotFoundError(Exception):
    """The server does not have what was asked for."""


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """The flow run that works, or worked, on one attempt at a job."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class RunState:
    """A flow run as the server knows it."""

    id: UUID
    name: str
    job_id: str
    """Empty for a run that was started by hand without one."""
    state_type: str
    """As `RUNNING`; see `UNFINISHED`."""
    state_name: str
    """As `AwaitingConcurrencySlot`."""
    message: str
    created_at: datetime
    last_sign: datetime
    """When the run last changed its state or, while it is unfinished, sent a heartbeat or another event."""

    @property
    def is_finished(self) -> bool:
        """It has ended, well or badly."""
        return self.state_type not in UNFINISHED


@dataclass(frozen=True, slots=True)
class Waiting:
    """Runs in one state."""

    count: int
    oldest: datetime | None
    """When the one that has been there longest was created; None where there is none."""


class JobQueue:
    """Jobs in Prefect's queue. Thread-safe.

    What may pass is tried again for as long as there is patience. Every method may raise

    - QueueError: the server did not answer properly in that time;
    - QueueRefusedError: it refused the request.
    """

    def __init__(self, settings: QueueSettings, patience_s: float) -> None:
        """See `open`."""
        self._patience_s = patience_s
        self._url = settings.prefect_api_url.rstrip("/")
        user, _, password = settings.prefect_api_auth_string.get_secret_value().partition(":")
        self._http = httpx.Client(
            base_url=self._url,
            timeout=httpx.Timeout(settings.prefect_timeout_s, connect=5.0),
            auth=httpx.BasicAuth(user, password) if user else None,
            headers={"Accept": "application/json"},
        )
        self._deployments: dict[str, UUID] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, settings: QueueSettings, *, patience_s: float = PATIENCE_S) -> Self:
        """A queue that connects with its first call.

        Args:
            settings: where the Prefect server is.
            patience_s: how long a call is tried again before it counts as failed, seconds.
        """
        return cls(settings, patience_s)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Nothing when the server is well. One try.

        Raises:
            QueueError: it is not, or cannot be reached.
        """
        with missing("its health"):
            if self._try("GET", "/health") is not True:
                raise QueueError(f"The Prefect server at {self._url} says it is not well. Look at its log.")

    def submit(self, job_id: str, job_type: str, attempt: int = 1, request_id: str = "") -> QueuedRun:
        """The run for this attempt at a job: a new one, or the one there is already.

        Args:
            job_id: SciCat's id of the job.
            job_type: a key of `DEPLOYMENTS`.
            attempt: counts from 1; a higher one starts a job again whose run has died.
            request_id: of the request that asked for it, for the run's log; empty where there was none.

        Raises:
            BadJobError: there are no jobs of this type.
            DeploymentMissingError: nothing is deployed for it.
        """
        body = {
            "name": f"{job_type}-{job_id}",
            "parameters": {"job_id": job_id},
            "tags": [
                *(_TAG, job_type, _job_tag(job_id), f"attempt-{attempt}"),
                *([f"{REQUEST_TAG}{request_id}"] if request_id else []),
            ],
            "idempotency_key": f"{job_id}#{attempt}",
        }
        try:
            run = self._call("POST", self._create_path(job_type), body)
        except NotFoundError:
            # Deployed anew since its id was read.
            self._forget_deployment(job_type)
            try:
                run = self._call("POST", self._create_path(job_type), body)
            except NotFoundError as error:
                raise _deployment_missing(job_type) from error
        queued = QueuedRun(UUID(run["id"]), str(run["name"]))
        log.info("job_queued", job_id=job_id, job_type=job_type, attempt=attempt, run_id=str(queued.id))
        return queued

    def run(self, run_id: UUID) -> RunState | None:
        """A run; None when the server has none of that id."""
        try:
            return self._with_events(self._call("GET", f"/flow_runs/{run_id}"))
        except NotFoundError:
            return None

    def runs_of_job(self, job_id: str) -> list[RunState]:
        """All runs for a job, the oldest first."""
        return self._runs({"tags": {"all_": [_TAG, _job_tag(job_id)]}})

    def unfinished_runs(self) -> list[RunState]:
        """All runs that wait or work, the oldest first."""
        return self._unfinished(_TAG)

    def unfinished_dataset_runs(self) -> list[RunState]:
        """All runs for single data sets, within those of jobs, that wait or work, the oldest first."""
        return self._unfinished(DATASET_TAG)

    def _unfinished(self, tag: str) -> list[RunState]:
        return self._runs({"tags": {"all_": [tag]}, "state": {"type": {"any_": list(UNFINISHED)}}})

    def declare_crashed(self, run_id: UUID, message: str) -> bool:
        """Ends a run whose process is gone, so that it gives back its place; False when it has ended already.

        Raises:
            QueueError: the server would not change its state.
            QueueRefusedError: the server does not know the run.
        """
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        with missing(f"the run {run_id}"):
            answer = self._call("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": False})
        if answer.get("status") == "ACCEPT":
            log.warning("run_declared_crashed", run_id=str(run_id), message=message)
            return True
        found = self.run(run_id)
        if found is not None and found.is_finished:
            return False
        raise QueueError(f"Prefect would not declare the run {run_id} crashed: {answer.get('details')}.")

    def waiting(self) -> dict[str, dict[str, Waiting]]:
        """For each type of job its unfinished runs, by the type of their state in lower case."""
        return {
            job_type: {state.lower(): self._waiting(job_type, state) for state in UNFINISHED}
            for job_type in DEPLOYMENTS
        }

    def _waiting(self, job_type: str, state: str) -> Waiting:
        flow, deployment = DEPLOYMENTS[job_type]
        body: dict[str, Any] = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"any_": [state]}}},
        }
        with missing("numbers of runs"):
            count = int(self._call("POST", "/flow_runs/count", body))
        if not count:
            return Waiting(0, None)
        oldest = {**body, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
        with missing("lists of runs"):
            found = self._call("POST", "/flow_runs/filter", oldest)
        return Waiting(count, instant(found[0]["created"]) if found else None)

    def _runs(self, wanted: Mapping[str, Any]) -> list[RunState]:
        found: list[RunState] = []
        while True:
            body = {
                "flow_runs": wanted,
                "sort": "START_TIME_ASC",
                "limit": _PAGE,
                "offset": len(found),
            }
            with missing("lists of runs"):
                page = self._call("POST", "/flow_runs/filter", body)
            found += [self._with_events(run) for run in page]
            if len(page) < _PAGE:
                return sorted(found, key=lambda run: run.created_at)

    def _with_events(self, run: Mapping[str, Any]) -> RunState:
        """A run from the server's JSON, its heartbeats looked up while it is unfinished."""
        state = run.get("state") or {}
        signs = [instant(run["updated"]), instant(run["created"])]
        if state.get("timestamp"):
            signs.append(instant(state["timestamp"]))
        state_type = str(run.get("state_type") or "")
        if state_type in UNFINISHED and state_type != "SCHEDULED":
            signs += self._last_event(run["id"], max(signs))
        return RunState(
            id=UUID(run["id"]),
            name=str(run["name"]),
            job_id=str((run.get("parameters") or {}).get("job_id") or ""),
            state_type=state_type,
            state_name=str(run.get("state_name") or ""),
            message=str(state.get("message") or ""),
            created_at=instant(run["created"]),
            last_sign=max(signs),
        )

    def _last_event(self, run_id: str, since: datetime) -> list[datetime]:
        """When the newest event of a run occurred, if there is one since."""
        wanted = {
            "resource": {"id": [f"prefect.flow-run.{run_id}"]},
            # Until later than now, for the clocks of workers may be ahead of the server's.
            "occurred": {
                "since": since.isoformat(),
                "until": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
            },
            "order": "DESC",
        }
        with missing("lists of events"):
            found = self._call("POST", "/events/filter", {"filter": wanted, "limit": 1})
        return [instant(event["occurred"]) for event in found["events"]]

    def _create_path(self, job_type: str) -> str:
        return f"/deployments/{self._deployment(job_type)}/create_flow_run"

    def _deployment(self, job_type: str) -> UUID:
        with self._lock:
            known = self._deployments.get(job_type)
        if known is not None:
            return known
        if job_type not in DEPLOYMENTS:
            raise BadJobError(
                f"There are no jobs of type {job_type!r}; use one of {', '.join(map(repr, DEPLOYMENTS))}."
            )
        flow, deployment = map(quote, DEPLOYMENTS[job_type])
        try:
            found = UUID(self._call("GET", f"/deployments/name/{flow}/{deployment}")["id"])
        except NotFoundError as error:
            raise _deployment_missing(job_type) from error
        with self._lock:
            self._deployments[job_type] = found
        return found

    def _forget_deployment(self, job_type: str) -> None:
        with self._lock:
            self._deployments.pop(job_type, None)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """The server's JSON. What may pass (a server on SQLite often is busy for a moment) is tried again."""
        for attempt in stamina.retry_context(
            on=QueueError, attempts=None, timeout=self._patience_s, wait_initial=0.1, wait_max=3.0
        ):
            with attempt:
                return self._try(method, path, body)
        raise AssertionError("a retry ends by a result or an error")

    def _try(self, method: str, path: str, body: Any = None) -> Any:
        try:
            reply = self._http.request(method, path, json=body)
        except httpx.RequestError as error:
            raise QueueError(
                f"The Prefect server at {self._url} did not answer: {type(error).__name__} {error}. "
                "Check PREFECT_API_URL and that the server runs."
            ) from error
        if reply.status_code >= 500 or reply.status_code in (408, 425, 429):
            raise QueueError(
                f"The Prefect server at {self._url} failed with {reply.status_code}: {reply.text[:200]}. "
                "If it lasts, look at its log."
            )
        if reply.status_code in (401, 403):
            raise QueueRefusedError(
                f"The Prefect server at {self._url} refused us: {reply.status_code}. Check PREFECT_API_AUTH_STRING."
            )
        if reply.status_code == httpx.codes.NO_CONTENT:
            return None
        try:
            answer = reply.json()
        except ValueError as error:
            raise QueueRefusedError(
                f"{self._url}{path} answered {reply.status_code} with something that is not JSON. "
                "Check PREFECT_API_URL; it ends in /api."
            ) from error
        if reply.status_code == 404:
            raise NotFoundError(path)
        if not reply.is_success:
            raise QueueRefusedError(
                f"The Prefect server refused {method} {path}: {reply.status_code} {reply.text[:400]}. "
                "Check that the deployments and the server are of the versions of this service."
            )
        return answer


@contextmanager
def missing(what: str) -> Iterator[None]:
    """A 404 where there must be something is taken for another server than Prefect's.

    Raises:
        QueueRefusedError: there was a 404.
    """
    try:
        yield
    except NotFoundError as error:
        raise QueueRefusedError(
            f"The server at PREFECT_API_URL knows nothing of {what}. Check the URL; it ends in /api."
        ) from error


def _deployment_missing(job_type: str) -> DeploymentMissingError:
    flow, deployment = DEPLOYMENTS[job_type]
    return DeploymentMissingError(
        f"Prefect has no deployment {flow}/{deployment}, which works on jobs of type {job_type!r}. "
        "Deploy the flows (prefect deploy --all)."
    )


def _job_tag(job_id: str) -> str:
    return f"job-{job_id}"


def instant(value: str) -> datetime:
    """A point in time as the server writes it, in UTC where it names no zone."""
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
