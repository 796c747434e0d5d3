"""What operators see of runs: Prefect's API through the proxy, with the credentials of the dashboards."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx
from pydantic import SecretStr

from archiver.config.settings import QueueSettings
from archiver.workflow.job_queue import UNFINISHED, JobQueue, RunState
from stack.addresses import Addresses
from stack.waiting import wait_for


class PrefectView:
    """A person at the dashboard."""

    def __init__(self, addresses: Addresses, user: str, password: str) -> None:
        self._http = httpx.Client(
            base_url=addresses.prefect_api, auth=httpx.BasicAuth(user, password), timeout=httpx.Timeout(60, connect=10)
        )
        self._queue = JobQueue.open(
            QueueSettings(
                prefect_api_url=addresses.prefect_api, prefect_api_auth_string=SecretStr(f"{user}:{password}")
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._queue.close()

    def _post(self, path: str, body: object) -> Any:
        answer = self._http.post(path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _get(self, path: str) -> Any:
        answer = self._http.get(path)
        answer.raise_for_status()
        return answer.json()

    def is_answering(self) -> bool:
        """Whether the server can be used."""
        try:
            return self._http.get("/admin/version").is_success
        except httpx.TransportError:
            return False

    def runs(self, *states: str, name_like: str | None = None) -> list[dict[str, Any]]:
        """Runs in one of the types of `states` (all without any), the newest first."""
        wanted: dict[str, Any] = {}
        if states:
            wanted["state"] = {"type": {"any_": list(states)}}
        if name_like is not None:
            wanted["name"] = {"like_": name_like}
        body = {"flow_runs": wanted, "sort": "START_TIME_DESC", "limit": 200}
        found: list[dict[str, Any]] = self._post("/flow_runs/filter", body)
        return found

    def runs_of_job(self, job_id: str) -> list[RunState]:
        """The runs that worked on a job, the oldest first."""
        return list(self._queue.runs_of_job(job_id))

    def run(self, run_id: str) -> dict[str, Any]:
        """One run."""
        found: dict[str, Any] = self._get(f"/flow_runs/{run_id}")
        return found

    def start(self, flow: str, deployment: str, parameters: dict[str, object]) -> str:
        """Start a deployment by hand; the run's id."""
        there = self._get(f"/deployments/name/{flow}/{deployment}")
        body = {"parameters": parameters, "name": f"by-hand-{uuid4().hex[:8]}", "state": {"type": "SCHEDULED"}}
        return str(self._post(f"/deployments/{there['id']}/create_flow_run", body)["id"])

    def cancel(self, run_id: str) -> None:
        """The button in the UI."""
        self._post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def forget_variable(self, name: str) -> None:
        """Remove a variable, as in the UI."""
        self._http.delete(f"/variables/name/{name}").raise_for_status()

    def ended(self, run_id: str, within_s: float = 600) -> dict[str, Any]:
        """The run, once it has ended."""

        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["state_type"] not in UNFINISHED else None

        return wait_for(f"end of the run {run_id}", look, within_s)

    def workers_online(self, pool: str) -> list[str]:
        """Names of the workers of a pool that are there."""
        found = self._post(f"/work_pools/{pool}/workers/filter", {"workers": {"status": {"any_": ["ONLINE"]}}})
        return [str(worker["name"]) for worker in found]

    def limits(self) -> dict[str, dict[str, Any]]:
        """The limits by their names."""
        found: list[dict[str, Any]] = self._post("/v2/concurrency_limits/filter", {})
        return {limit["name"]: limit for limit in found}

    def taken_slots(self) -> dict[str, int]:
        """Limits with places that are taken."""
        return {name: limit["active_slots"] for name, limit in self.limits().items() if limit["active_slots"]}

    def registered(self) -> dict[str, Any]:
        """Everything that configuration and deployment register, without what counts time or use."""
        kinds = {
            "deployments": "/deployments/filter",
            "pools": "/work_pools/filter",
            "automations": "/automations/filter",
            "variables": "/variables/filter",
            "limits": "/v2/concurrency_limits/filter",
        }
        return {kind: _lasting(self._post(path, {})) for kind, path in kinds.items()}


_PASSING = {
    "updated",
    "last_polled",
    "status",  # whether a worker has asked lately
    "active_slots",
    "slot_decay_per_second",
    "denied_slots",
    "avg_slot_occupancy_seconds",
}


def _lasting(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{key: value for key, value in each.items() if key not in _PASSING} for each in found]
    for each in kept:
        # Each deployment of flows makes the schedules anew.
        for schedule in each.get("schedules", ()):
            for key in ("id", "created", "updated"):
                schedule.pop(key, None)
        # Sets, which each process of the server gives in an order of its own.
        trigger = each.get("trigger", {})
        trigger.update({key: sorted(trigger[key]) for key in ("after", "expect", "for_each") if key in trigger})
    return sorted(kept, key=lambda each: str(each["id"]))
