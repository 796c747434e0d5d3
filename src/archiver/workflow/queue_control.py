"""An operator's hand on the queue: runs are cancelled, pools paused, and what the queue needs is looked at."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

import structlog

from archiver.workflow.errors import QueueError
from archiver.workflow.job_queue import DEPLOYMENTS, JobQueue, NotFoundError, instant, missing
from archiver.workflow.monitor import Limit

log = structlog.get_logger(__name__)

OUR_FLOWS = "archiver.workflow.flows."
"""What the entrypoint of every deployment of this service begins with."""
_PAGE = 200


@dataclass(frozen=True, slots=True)
class PoolState:
    """A work pool as the server knows it."""

    name: str
    is_paused: bool
    online: tuple[str, ...]
    """Names of its workers that are at work or wait for it."""
    last_seen: datetime | None
    """When any worker of the pool last gave a sign of life; None when none ever did."""


class QueueControl(JobQueue):
    """The queue, and what operators may do to it. Raises what `JobQueue` does."""

    def cancel(self, run_id: UUID) -> bool:
        """Asks a run to end; one that waits ends at once. False when it has ended already.

        Raises:
            QueueError: the server would not change its state.
            QueueRefusedError: the server does not know the run.
        """
        state = {"type": "CANCELLING", "name": "Cancelling", "message": "Cancelled by an operator."}
        with missing(f"the run {run_id}"):
            answer = self._call("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": False})
        if answer.get("status") == "ACCEPT":
            log.warning("run_cancelled", run_id=str(run_id))
            return True
        found = self.run(run_id)
        # A run without a process goes straight to Cancelled, which the server calls a rejection.
        if found is not None and found.state_type == "CANCELLED":
            return True
        if found is not None and found.is_finished:
            return False
        raise QueueError(f"Prefect would not cancel the run {run_id}: {answer.get('details')}.")

    def missing_deployments(self) -> list[str]:
        """Deployments (as `flow/deployment`) that jobs need and the server does not have."""
        lacking = []
        for flow, deployment in DEPLOYMENTS.values():
            try:
                self._call("GET", f"/deployments/name/{quote(flow)}/{quote(deployment)}")
            except NotFoundError:
                lacking.append(f"{flow}/{deployment}")
        return lacking

    def missing_limits(self) -> list[str]:
        """Limits on the use of the share that flows hold and the server does not have."""
        lacking = []
        for limit in Limit:
            try:
                self._call("GET", f"/v2/concurrency_limits/{quote(limit)}")
            except NotFoundError:
                lacking.append(str(limit))
        return lacking

    def pool_names(self) -> list[str]:
        """The pools that this service's flows run in."""
        pools: set[str] = set()
        offset = 0
        while True:
            with missing("deployments"):
                page = self._call("POST", "/deployments/filter", {"limit": _PAGE, "offset": offset})
            pools |= {
                each["work_pool_name"]
                for each in page
                if each.get("work_pool_name") and str(each.get("entrypoint") or "").startswith(OUR_FLOWS)
            }
            offset += len(page)
            if len(page) < _PAGE:
                return sorted(pools)

    def pools(self) -> list[PoolState]:
        """Those pools as they are now."""
        return [self._pool(name) for name in self.pool_names()]

    def _pool(self, name: str) -> PoolState:
        path = f"/work_pools/{quote(name, safe='')}"
        with missing(f"the work pool {name}"):
            pool = self._call("GET", path)
            workers = self._call("POST", f"{path}/workers/filter", {})
        seen = [instant(each["last_heartbeat_time"]) for each in workers if each.get("last_heartbeat_time")]
        return PoolState(
            name=name,
            is_paused=bool(pool["is_paused"]),
            online=tuple(sorted(each["name"] for each in workers if each.get("status") == "ONLINE")),
            last_seen=max(seen, default=None),
        )

    def set_paused(self, pool: str, is_paused: bool) -> None:
        """Lets a pool start no more runs, or start them again. Runs that are at work go on."""
        with missing(f"the work pool {pool}"):
            self._call("PATCH", f"/work_pools/{quote(pool, safe='')}", {"is_paused": is_paused})
        log.warning("pool_paused" if is_paused else "pool_resumed", pool=pool)
