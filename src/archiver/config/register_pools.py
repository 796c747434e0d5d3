"""Work pools: where runs are started, how many at once, and what a job of theirs looks like."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool, WorkQueue
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from archiver.config.register_changes import Action, Change, ConfigurationError, settle
from archiver.config.register_limits import PoolLimits, Queue
from archiver.config.register_secrets import REGISTRY_TOKEN, REGISTRY_USER

HEARTBEAT_S = 30
"""How often a running flow shows that it is alive; Prefect's shortest."""

_ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    "PREFECT_LOGGING_EXTRA_LOGGERS": "archiver",
    # What the server answers while its database is away; other codes of that kind are tried again by default.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}


class PoolType(StrEnum):
    """How a pool's workers start runs."""

    DOCKER = "docker"
    PROCESS = "process"


@dataclass(frozen=True)
class Pool:
    """A work pool as it shall be."""

    name: str
    type: PoolType
    base_job_template: dict[str, Any]
    limits: PoolLimits


def _default_template(pool_type: PoolType) -> dict[str, Any]:
    if pool_type is PoolType.PROCESS:
        return ProcessWorker.get_default_base_job_template()
    # Only where Docker workers are configured is their package needed.
    from prefect_docker import DockerWorker  # type: ignore[import-untyped]

    template: dict[str, Any] = DockerWorker.get_default_base_job_template()
    return template


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    """`value` with ${NAME} in its texts replaced from the environment; KeyError for a name that is not set."""
    if isinstance(value, str):
        return Template(value).substitute(environment)
    if isinstance(value, list):
        return [_filled(entry, environment) for entry in value]
    if isinstance(value, dict):
        return {key: _filled(entry, environment) for key, entry in value.items()}
    return value


def _read_json(file: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read as JSON: {error}. Correct it.") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{file} must hold a JSON object.")
    if "job_configuration" in document:
        return document  # a whole template has placeholders of its own
    try:
        filled: dict[str, Any] = _filled(document, environment)
    except KeyError as error:
        raise ConfigurationError(
            f"{file} uses ${{{error.args[0]}}}, which is not set. Set it in the environment."
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{file}: {error}. Write $$ for a dollar sign.") from error
    return filled


def pool_template(
    pool_type: PoolType,
    file: Path | None,
    environment: Mapping[str, str],
    *,
    registry_login: Collection[str] = (),
) -> dict[str, Any]:
    """The base job template of a pool: Prefect's own for its type with the defaults of `file`.

    A file that is a whole template (it has `job_configuration`) replaces Prefect's own. Both get the
    environment variables every run needs. `registry_login` holds the names of secrets that exist: with both
    of the image registry among them, jobs log in there unless the file says otherwise.

    Raises:
        ConfigurationError: the file cannot be read, or sets something this type of pool does not have.
    """
    document = _read_json(file, environment) if file else {}
    if "job_configuration" in document:
        template, defaults = document, {}
    else:
        template, defaults = _default_template(pool_type), document
    properties = template.get("variables", {}).get("properties", {})
    unknown = [name for name in defaults if name not in properties]
    if unknown:
        raise ConfigurationError(
            f"{file} sets {', '.join(unknown)}, which a {pool_type} job does not have. "
            f"Known are {', '.join(properties)}."
        )
    if "registry_credentials" in properties and {REGISTRY_USER, REGISTRY_TOKEN} <= set(registry_login):
        defaults.setdefault(
            "registry_credentials",
            {
                "username": f"{{{{ prefect.blocks.secret.{REGISTRY_USER} }}}}",
                "password": f"{{{{ prefect.blocks.secret.{REGISTRY_TOKEN} }}}}",
                "registry_url": "ghcr.io",
            },
        )
    for name, value in defaults.items():
        properties[name] = {**properties[name], "default": value}
    env = properties.setdefault("env", {"type": "object", "title": "Environment Variables"})
    env["default"] = _ENVIRONMENT | (env.get("default") or {})
    return template


def _register_queues(
    client: SyncPrefectClient, pool: str, queues: Mapping[str, Queue], *, pool_exists: bool, dry_run: bool
) -> Iterator[Change]:
    # From the highest priority down: giving a queue its place moves the ones below it.
    for name, wanted in sorted(queues.items(), key=lambda entry: entry[1].priority):
        existing = None
        if pool_exists:
            try:
                existing = client.read_work_queue_by_name(name, work_pool_name=pool)
            except ObjectNotFound:
                existing = None

        def write(name: str = name, wanted: Queue = wanted, found: WorkQueue | None = existing) -> None:
            priority, limit = wanted.priority, wanted.limit
            if found is None:
                client.create_work_queue(name, work_pool_name=pool, priority=priority, concurrency_limit=limit)
            else:
                client.update_work_queue(found.id, priority=priority, concurrency_limit=limit)

        yield settle(
            "work queue",
            f"{pool}/{name}",
            exists=existing is not None,
            equal=existing is not None
            and (existing.priority, existing.concurrency_limit) == (wanted.priority, wanted.limit),
            write=write,
            dry_run=dry_run,
            detail=f"priority {wanted.priority}, limit {wanted.limit or 'none'}",
        )


def _read_pool(client: SyncPrefectClient, name: str) -> WorkPool | None:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        return None


def register_pool(client: SyncPrefectClient, pool: Pool, *, dry_run: bool) -> Iterator[Change]:
    """Register a work pool, its template, limit and queues.

    Raises:
        ConfigurationError: a pool of that name but another type is there.
    """
    existing = _read_pool(client, pool.name)
    if existing is not None and existing.type != pool.type:
        raise ConfigurationError(
            f"The work pool {pool.name} is there with type {existing.type}, and a pool's type cannot change. "
            f"Delete it (prefect work-pool delete {pool.name}) or set PREFECT_WORKPOOL_TYPE={existing.type}."
        )

    def write() -> None:
        if existing is None:
            client.create_work_pool(
                WorkPoolCreate(
                    name=pool.name,
                    type=pool.type,
                    base_job_template=pool.base_job_template,
                    concurrency_limit=pool.limits.limit,
                )
            )
        else:
            client.update_work_pool(
                pool.name,
                WorkPoolUpdate(base_job_template=pool.base_job_template, concurrency_limit=pool.limits.limit),
            )

    change = settle(
        "work pool",
        pool.name,
        exists=existing is not None,
        equal=existing is not None
        and existing.base_job_template == pool.base_job_template
        and existing.concurrency_limit == pool.limits.limit,
        write=write,
        dry_run=dry_run,
        detail=f"{pool.type}, limit {pool.limits.limit or 'none'}",
    )
    yield change
    there = not (change.action is Action.CREATED and dry_run)
    yield from _register_queues(client, pool.name, pool.limits.queues, pool_exists=there, dry_run=dry_run)
