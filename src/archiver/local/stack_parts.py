"""The parts of the embedded stack. A new one is a function added to `parts`."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.local.blueprint import ARCHIVAL_POOL, RETRIEVAL_POOL, Blueprint
from archiver.local.identity.config import facility_config
from archiver.local.parts import CallProbe, HttpProbe, Part, Probe, new_file_probe
from archiver.local.ports import HOST
from archiver.local.private_files import write_private
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, OTHER_USER, stack_config
from archiver.local.seaweedfs import END_WITHIN_S as SEAWEEDFS_END_WITHIN_S

_SERVER_WITHIN_S = 180


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _database(plan: Blueprint) -> Part:
    return Part(
        name="postgres",
        command=_python(
            "-m",
            "archiver.local.database",
            *("--data", str(plan.folder / "postgres")),
            *("--port", str(plan.ports["postgres"])),
            *("--addresses", str(plan.addresses)),
        ),
        environment=plan.plain,
        ready=lambda: new_file_probe(plan.addresses),
        url=f"postgresql://{HOST}:{plan.ports['postgres']}",
        end_within_s=60,
    )


def _object_store(plan: Blueprint) -> Part:
    plan.seaweedfs.prepare()
    return Part(
        name="s3",
        command=plan.seaweedfs.command(),
        environment=lambda: {**plan.plain(), **plan.seaweedfs.environment},
        ready=lambda: CallProbe(plan.seaweedfs.is_ready),
        url=plan.urls.s3,
        working_folder=plan.seaweedfs.folder,
        end_within_s=SEAWEEDFS_END_WITHIN_S,
    )


def _scicat(plan: Blueprint) -> Part:
    own = plan.credentials
    config = stack_config(
        hook_url=f"{plan.urls.api}/archiver/jobs",
        hook_username=own.job_endpoint_username,
        hook_password=own.job_endpoint_password,
        passwords={
            ARCHIVER: own.scicat_password,
            INGESTOR: own.ingestor_password,
            OTHER_USER: own.otheruser_password,
        },
    )
    file = plan.folder / "realm" / "scicat.json"
    write_private(file, config.model_dump_json(by_alias=True, indent=2))
    return Part(
        name="scicat",
        command=_python(
            *("-m", "archiver.local.scicat", "--host", HOST, "--port", str(plan.ports["scicat"])),
            *("--config", str(file), "--data", str(plan.folder / "scicat")),
        ),
        environment=plan.plain,
        ready=lambda: HttpProbe(f"{plan.urls.scicat}/api/v3/health"),
        url=plan.urls.scicat,
    )


def _identity(plan: Blueprint) -> Part:
    own = plan.credentials
    config = facility_config().with_secrets(
        passwords={
            "archiver-service": own.idp_password,
            "alice": own.alice_password,
            "olga": own.olga_password,
        },
        client_secrets={"scicat-hook": own.scicat_hook_secret},
    )
    file = plan.folder / "realm" / "identity.json"
    write_private(file, json.dumps(config.model_dump(), default=SecretStr.get_secret_value, indent=2))
    realm = f"{plan.urls.identity}/realms/{config.realm}"
    return Part(
        name="identity",
        command=_python(
            *("-m", "archiver.local.identity", "--host", HOST, "--port", str(plan.ports["identity"])),
            *("--config", str(file), "--data", str(plan.folder / "identity")),
        ),
        environment=plan.plain,
        ready=lambda: HttpProbe(f"{realm}/.well-known/openid-configuration"),
        url=plan.urls.identity,
    )


def _prepare(plan: Blueprint) -> Part:
    return Part(
        name="prepare",
        command=_python("-m", "archiver.local.prepare"),
        environment=plan.service,
        after=("postgres", "s3"),
    )


def _prefect_server(plan: Blueprint) -> Part:
    return Part(
        name="prefect-server",
        command=_python(*("-m", "prefect", "server", "start", "--host", HOST, "--port", str(plan.ports["prefect"]))),
        environment=plan.prefect_server,
        after=("postgres",),
        ready=lambda: HttpProbe(f"{plan.urls.prefect_api}/health"),
        url=plan.urls.prefect_ui,
        # Prefect reads a prefect.toml or .env of its working folder.
        working_folder=plan.prefect_home,
        ready_within_s=_SERVER_WITHIN_S,
    )


def _configure(plan: Blueprint) -> Part:
    return Part(
        name="configure",
        command=_python("-m", "archiver.cli", "configure", "--wait", str(_SERVER_WITHIN_S)),
        environment=plan.configure,
        # Not after the server, but while it starts: half of the work is importing Prefect.
        after=("postgres",),
        ready_within_s=_SERVER_WITHIN_S + 60,
        working_folder=plan.prefect_home,
    )


def _deployment(plan: Blueprint) -> Part:
    return Part(
        name="flows-deployment",
        command=_python(*("-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(plan.flows_file))),
        environment=plan.configure,
        after=("prefect-server", "configure", "prepare"),
        working_folder=plan.prefect_home,
    )


def _worker_probe(plan: Blueprint, pool: str, name: str) -> Callable[[], Probe]:
    def seen_since_now() -> Probe:
        start = datetime.now(UTC)

        def seen(answer: object) -> bool:
            return isinstance(answer, list) and any(
                worker["name"] == name and datetime.fromisoformat(worker["last_heartbeat_time"]) > start
                for worker in answer
            )

        user, _, password = plan.credentials.prefect_auth.partition(":")
        url = f"{plan.urls.prefect_api}/work_pools/{pool}/workers/filter"
        return HttpProbe(url, auth=(user, password), body={}, accept=seen)

    return seen_since_now


def _worker(plan: Blueprint, kind: str, pool: str) -> Part:
    name = f"local-{kind}"
    return Part(
        name=f"prefect-{kind}-worker",
        command=_python(*("-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name)),
        environment=plan.worker,
        after=("prefect-server", "configure", "prepare"),
        ready=_worker_probe(plan, pool, name),
        working_folder=plan.prefect_home,
    )


def _api(plan: Blueprint) -> Part:
    return Part(
        name="api",
        command=_python("-m", "archiver.backend"),
        environment=plan.service,
        after=("prepare", "scicat", "identity"),
        ready=lambda: HttpProbe(f"{plan.urls.api}/health/livez"),
        url=plan.urls.api,
        working_folder=plan.scratch,
    )


def _beats_since_now(plan: Blueprint) -> Callable[[], bool]:
    """Asks for a pass that found everything in order to reach."""
    start = datetime.now(UTC)
    settings = LedgerSettings(ledger_url=SecretStr(plan.service_environment()["LEDGER_URL"]))

    def beats() -> bool:
        # Half of the service comes with these: not before the first parts are on their way.
        from archiver.workflow.ledger.ledger import Ledger
        from archiver.workflow.reconciliation import SERVICE

        with Ledger.open(settings) as ledger:
            beat = ledger.last_beat(SERVICE)
        return beat is not None and beat > start

    return beats


def _reconciliation(plan: Blueprint) -> Part:
    return Part(
        name="reconciliation",
        command=_python("-m", "archiver.workflow.reconciliation"),
        environment=plan.service,
        after=("prepare", "scicat", "prefect-server", "flows-deployment"),
        ready=lambda: CallProbe(_beats_since_now(plan)),
        working_folder=plan.scratch,
    )


def parts(plan: Blueprint) -> tuple[Part, ...]:
    """Every part, in the order in which they are shown."""
    return (
        _database(plan),
        _object_store(plan),
        _scicat(plan),
        _identity(plan),
        _prepare(plan),
        _prefect_server(plan),
        _configure(plan),
        _deployment(plan),
        _worker(plan, "archival", ARCHIVAL_POOL),
        _worker(plan, "retrieval", RETRIEVAL_POOL),
        _api(plan),
        _reconciliation(plan),
    )
