"""Containers of runs that are over, and how they are found and removed.

The engine removes a run's container when it exits. One that goes on after its run was ended (declared dead while it
hung, cancelled while its worker was gone, deleted by an operator) is seen by no worker any more: workers only know
the containers they have started themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import docker  # type: ignore[import-untyped]
import structlog
from docker.errors import DockerException, NotFound  # type: ignore[import-untyped]
from requests import RequestException

from archiver.workflow.errors import ArchiverError, TransientError
from archiver.workflow.job_queue import JobQueue, RunState

log = structlog.get_logger(__name__)

ROLE_LABEL: Final = "archiver.role=run"
"""Set by the job templates."""
POOL_LABEL: Final = "io.prefect.work-pool-name"
RUN_LABEL: Final = "io.prefect.flow-run-id"
LINGER: Final = timedelta(minutes=3)
"""A container ends some seconds after its run; one told to stop gets its time too."""
STOP_WITHIN_S: Final = 30
_TIMEOUT_S: Final = 60


class EngineError(TransientError):
    """The container engine did not do what it was asked."""

    code = "engine"


@dataclass(frozen=True)
class RunContainer:
    """A container that was started for a run."""

    id: str
    name: str
    run_id: UUID
    created_at: datetime


class Engine(Protocol):
    """What is asked of the container engine. Raises EngineError."""

    def run_containers(self, pool: str) -> Sequence[RunContainer]:
        """All containers on this host that workers of `pool` have started, running or not."""
        ...

    def remove(self, container: RunContainer) -> None:
        """Stop and remove it; one that is gone already is fine."""
        ...


class DockerEngine:
    """The Docker engine behind the socket."""

    def __init__(self) -> None:
        try:
            self._api = docker.from_env(timeout=_TIMEOUT_S).api
        except DockerException as error:
            raise EngineError(f"The container engine does not answer: {error}.") from error

    def run_containers(self, pool: str) -> Sequence[RunContainer]:
        """See Engine.

        Raises:
            EngineError: the engine does not list them.
        """
        wanted = {"label": [ROLE_LABEL, f"{POOL_LABEL}={pool}"]}
        try:
            found = self._api.containers(all=True, filters=wanted)
        except (DockerException, RequestException) as error:
            raise EngineError(f"The container engine does not list its containers: {error}.") from error
        return list(read_containers(found))

    def remove(self, container: RunContainer) -> None:
        """See Engine.

        Raises:
            EngineError: the engine does not remove it.
        """
        try:
            self._api.stop(container.id, timeout=STOP_WITHIN_S)
            self._api.remove_container(container.id, force=True)
        except NotFound:
            return
        except (DockerException, RequestException) as error:
            raise EngineError(f"The container {container.name} could not be removed: {error}.") from error


def read_containers(found: Sequence[dict[str, object]]) -> Iterator[RunContainer]:
    """Containers from the engine's list; those without a run's id are left out."""
    for each in found:
        labels, names = each["Labels"], each["Names"]
        assert isinstance(labels, dict)  # noqa: S101  # the engine's API says so
        assert isinstance(names, list)  # noqa: S101
        try:
            run_id = UUID(labels.get(RUN_LABEL, ""))
        except ValueError:
            continue
        created = datetime.fromtimestamp(float(str(each["Created"])), UTC)
        yield RunContainer(str(each["Id"]), str(names[0]).lstrip("/") if names else "", run_id, created)


def is_leftover(container: RunContainer, run: RunState | None, now: datetime) -> bool:
    """Whether nobody waits for this container any more: its run ended a while ago, or is not known."""
    if run is None:
        return now - container.created_at > LINGER
    return run.is_finished and now - run.last_sign > LINGER


def sweep(engine: Engine, queue: JobQueue, pool: str) -> int:
    """Remove the leftovers of a pool on this host; how many there were.

    One that cannot be removed now does not keep the others; it is tried again with the next sweep.

    Raises:
        ArchiverError: the engine or the Prefect server does not answer.
    """
    removed = 0
    for container in engine.run_containers(pool):
        run = queue.run(container.run_id)
        if not is_leftover(container, run, datetime.now(UTC)):
            continue
        state = "unknown" if run is None else run.state_name
        try:
            engine.remove(container)
        except ArchiverError as error:
            log.warning(
                "leftover_not_removed", container=container.name, run_id=str(container.run_id), error=str(error)
            )
            continue
        removed += 1
        log.warning("leftover_removed", container=container.name, run_id=str(container.run_id), run_state=state)
    return removed
