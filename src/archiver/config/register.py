"""Registers with a Prefect server what the service needs there, before the first run and after each change.

Variables and secrets for the flows, concurrency limits, work pools with their queues, and the automation that
ends runs whose process is gone. Running it again changes only what differs; what operators made by hand under
other names is left alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import stamina
import structlog
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import SecretStr

from archiver.config.register_automations import register_dead_run_automation
from archiver.config.register_changes import Change, ConfigurationError
from archiver.config.register_limits import Limits, read_limits, register_limits
from archiver.config.register_pools import Pool, PoolType, pool_template, register_pool
from archiver.config.register_secrets import find_secrets, register_secrets
from archiver.config.register_variables import find_variables, register_variables
from archiver.config.settings import ServiceSettings, refuse_weak
from archiver.config.sources import EnvironmentSettings

log = structlog.get_logger("archiver.config.register")  # by name: run with -m, it is `__main__`

_HEALTH_TIMEOUT_S = 5


class RegistrationSettings(EnvironmentSettings):
    """What to register where."""

    prefect_api_url: str = ""
    """The server to register with."""
    prefect_vars_file: str = ""
    """TOML file of variables: a path, or the name of a file of this package. None where it is empty."""
    prefect_limits_file: str = "concurrency-limits.toml"
    """TOML file of limits and queues: a path, or the name of a file of this package."""
    prefect_job_template: str = ""
    """JSON file of defaults for the job template of both pools, or a whole template; as above."""
    prefect_workpool_type: PoolType = PoolType.DOCKER
    """What runs flows: containers, or processes of the machine."""
    prefect_archival_workpool_name: str = "archival-docker-workpool"
    """Pool for archiving."""
    prefect_retrieval_workpool_name: str = "retrieval-docker-workpool"
    """Pool for retrieving."""


@dataclass(frozen=True)
class Registration:
    """All that shall be on the server, read and checked before anything is changed there."""

    variables: dict[str, str]
    secrets: dict[str, str]
    limits: Limits
    pools: tuple[Pool, ...]


def find_configuration_file(name: str) -> Path:
    """The file of this name: as a path, else among the files of this package.

    Raises:
        ConfigurationError: there is none.
    """
    packaged = Path(__file__).parent / name
    for candidate in (Path(name), packaged):
        if candidate.is_file():
            return candidate
    raise ConfigurationError(
        f"The file {name} does not exist, neither in {Path.cwd()} nor in {packaged.parent}. "
        "Give the path of an existing file."
    )


def read_registration(settings: RegistrationSettings) -> Registration:
    """Read files and environment; nothing is sent.

    Raises:
        ConfigurationError: a file is missing or not as it must be.
        UnreadableSecretFileError: a `*_FILE` setting names a file that cannot be read.
        OpenDeploymentError: outside development, a secret is a well-known default.
    """
    variables = settings.prefect_vars_file and find_configuration_file(settings.prefect_vars_file)
    limits = read_limits(find_configuration_file(settings.prefect_limits_file))
    template_file = settings.prefect_job_template and find_configuration_file(settings.prefect_job_template)
    secrets = find_secrets()
    given = {name.upper().replace("-", "_"): SecretStr(value) for name, value in secrets.items()}
    # Those that are missing here may have been made by hand, and stay.
    refuse_weak(ServiceSettings().environment, given, missing_too=False)
    template = pool_template(
        settings.prefect_workpool_type, template_file or None, os.environ, registry_login=secrets.keys()
    )
    return Registration(
        variables=find_variables(variables or None),
        secrets=secrets,
        limits=limits,
        pools=(
            Pool(
                settings.prefect_archival_workpool_name,
                settings.prefect_workpool_type,
                template,
                limits.archival,
            ),
            Pool(
                settings.prefect_retrieval_workpool_name,
                settings.prefect_workpool_type,
                template,
                limits.retrieval,
            ),
        ),
    )


def wait_for_server(url: str, seconds: float) -> None:
    """Return once the Prefect server at `url` (ending in /api) is healthy.

    Raises:
        ConfigurationError: it is not within `seconds`.
    """

    def ask() -> None:
        httpx.get(f"{url}/health", timeout=_HEALTH_TIMEOUT_S).raise_for_status()

    try:
        if seconds > 0:
            retrying = stamina.RetryingCaller(
                attempts=None, timeout=seconds, wait_initial=0.2, wait_max=2.0, wait_jitter=0.2
            )
            retrying.on(httpx.HTTPError)(ask)
        else:
            ask()
    except httpx.HTTPError as error:
        raise ConfigurationError(
            f"No healthy Prefect server answers at {url} ({error}). Start it, or correct PREFECT_API_URL."
        ) from error


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        advice = (
            "Set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING."
            if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
            else f"It said: {error.response.text[:500]}"
        )
        raise ConfigurationError(
            f"The Prefect server refused {error.request.method} {error.request.url} ({status}). {advice}"
        ) from error
    except httpx.HTTPError as error:
        raise ConfigurationError(
            f"The Prefect server did not answer ({error}). Check that it runs and run this again."
        ) from error


def register(
    settings: RegistrationSettings,
    *,
    dry_run: bool = False,
    wait_s: float = 0,
    report: Callable[[Change], None] = lambda change: None,
) -> list[Change]:
    """Make the server at `PREFECT_API_URL` hold what files and environment say; tell what was (to be) changed.

    With `dry_run` nothing is changed. `wait_s` is how long to wait for the server, seconds.

    Raises:
        ConfigurationError: the input is wrong (then nothing was sent), or the server refuses or is away.
    """
    if not settings.prefect_api_url:
        raise ConfigurationError("PREFECT_API_URL is not set. Set it to the server's address, ending in /api.")
    wanted = read_registration(settings)
    wait_for_server(settings.prefect_api_url, wait_s)
    changes: list[Change] = []

    def note(change: Change) -> None:
        changes.append(change)
        report(change)
        log.info("registered", kind=change.kind, name=change.name, action=change.action, dry_run=dry_run)

    with _client() as client:
        for change in register_variables(client, wanted.variables, dry_run=dry_run):
            note(change)
        for change in register_secrets(client, wanted.secrets, dry_run=dry_run):
            note(change)
        for change in register_limits(client, wanted.limits.limits, dry_run=dry_run):
            note(change)
        for pool in wanted.pools:
            for change in register_pool(client, pool, dry_run=dry_run):
                note(change)
        pools = [pool.name for pool in wanted.pools]
        for change in register_dead_run_automation(client, pools, dry_run=dry_run):
            note(change)
    return changes
