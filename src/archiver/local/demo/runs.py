"""What operators see of a job meanwhile: the state and the progress of its run in Prefect."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from archiver.config.settings import QueueSettings
from archiver.workflow.errors import QueueError
from archiver.workflow.job_queue import JobQueue

_BEFORE_WORK = {"Scheduled", "Late", "Pending", "Submitting", "AwaitingConcurrencySlot"}
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)


@dataclass(frozen=True, slots=True)
class RunView:
    """The newest run for a job."""

    id: str
    name: str
    state: str
    """As Prefect calls it: `Running`."""
    percent: float | None
    """None while there is no progress yet."""
    description: str

    @property
    def is_at_work(self) -> bool:
        """Its process has begun with it."""
        return self.state not in _BEFORE_WORK

    @property
    def summary(self) -> str:
        """State and progress in a few words."""
        return f"{self.state}; {self.description}" if self.description else self.state


class RunWindow:
    """Looks at runs over Prefect's REST API."""

    def __init__(self, settings: QueueSettings) -> None:
        self._queue = JobQueue.open(settings)
        user, _, password = settings.prefect_api_auth_string.get_secret_value().partition(":")
        self._http = httpx.Client(
            base_url=settings.prefect_api_url, timeout=_TIMEOUT, auth=httpx.BasicAuth(user, password) if user else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._queue.close()

    def of_job(self, job_id: str) -> RunView | None:
        """The newest run for a job; None while it waits to be queued, or Prefect does not answer."""
        try:
            runs = self._queue.runs_of_job(job_id)
        except QueueError:
            return None  # the catalogue says how the job goes; this is only to look at
        if not runs:
            return None
        run = runs[-1]
        progress = self._progress(str(run.id))
        return RunView(
            id=str(run.id),
            name=run.name,
            state=run.state_name or run.state_type,
            percent=None if progress is None else float(progress["data"] or 0),
            # Which data set it is of is known here.
            description="" if progress is None else str(progress["description"] or "").partition(" (at ")[0],
        )

    def _progress(self, run_id: str) -> dict[str, Any] | None:
        """The newest progress artifact of the runs for single data sets below a job's run."""
        wanted = {
            "artifacts": {"type": {"any_": ["progress"]}},
            "flow_runs": {"parent_flow_run_id": {"any_": [run_id]}},
            "sort": "UPDATED_DESC",
            "limit": 1,
        }
        try:
            answer = self._http.post("/artifacts/filter", json=wanted)
        except httpx.RequestError:
            return None
        found = answer.json() if answer.is_success else []
        return found[0] if found else None
