"""What is decided before the first part of an embedded stack starts: folders, addresses, and each part's settings."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import SecretStr

from archiver.config.settings import TERABYTE, ApiSettings, IdentitySettings
from archiver.local import database
from archiver.local.credentials import Credentials
from archiver.local.identity.config import facility_config
from archiver.local.ports import HOST
from archiver.local.scicat.defaults import INGESTOR
from archiver.local.seaweedfs import SeaweedFs
from archiver.local.state import Urls

ARCHIVAL_POOL = "archival-docker-workpool"
RETRIEVAL_POOL = "retrieval-docker-workpool"

OPERATORS = "archiver-operators"
"""Group of operators in the simulated identity provider."""

_HEARTBEAT_S = "30"
_RECONCILIATION_S = "10"
_LANDING_SHARE_OF_DISK = 0.5
# Prefect's own settings of a calling shell would mix with those of the stack.
_NOT_INHERITED = ("PREFECT_",)


@dataclass(frozen=True)
class Blueprint:
    """Everything that is decided before the first part starts."""

    folder: Path
    ports: Mapping[str, int]
    credentials: Credentials
    flows_file: Path
    """prefect.yaml."""

    def __post_init__(self) -> None:
        for folder in (self.prefect_home, self.share, self.scratch, self.logs, self.folder / "realm"):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def logs(self) -> Path:
        """Folder of the logs, one file for each part."""
        return self.folder / "logs"

    @property
    def share(self) -> Path:
        """Root of the long-term storage."""
        return self.folder / "lts"

    @property
    def scratch(self) -> Path:
        """Working folder of flows."""
        return self.folder / "scratch"

    @property
    def prefect_home(self) -> Path:
        """Prefect's own folder: leases, caches."""
        return self.folder / "prefect"

    @property
    def addresses(self) -> Path:
        """File in which the database part leaves its URLs."""
        return self.folder / "database.json"

    @cached_property
    def urls(self) -> Urls:
        """Where the parts answer."""
        base = {name: f"http://{HOST}:{port}" for name, port in self.ports.items()}
        return Urls(
            api=base["api"] + ApiSettings.model_fields["api_root_path"].default,
            prefect_api=f"{base['prefect']}/api",
            prefect_ui=base["prefect"],
            scicat=base["scicat"],
            identity=base["identity"],
            s3=base["s3"],
        )

    @cached_property
    def seaweedfs(self) -> SeaweedFs:
        """The S3 server."""
        return SeaweedFs(
            self.folder / "s3",
            {name.removeprefix("seaweedfs_"): port for name, port in self.ports.items()},
            self.credentials.s3_user,
            SecretStr(self.credentials.s3_password),
        )

    @cached_property
    def _inherited(self) -> dict[str, str]:
        """What parts take over from whoever starts the stack; settings the stack does not make itself included."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        return kept | {
            "NO_PROXY": f"{HOST},localhost",
            "no_proxy": f"{HOST},localhost",
            "PYTHONUNBUFFERED": "1",
            "DO_NOT_TRACK": "1",
        }

    @cached_property
    def _landing_space_tb(self) -> str:
        if wanted := os.environ.get("S3_TOTAL_LANDING_SPACE_TB"):
            return wanted
        free = shutil.disk_usage(self.folder).free
        return f"{max(free * _LANDING_SHARE_OF_DISK / TERABYTE, 0.01):.3f}"

    def prefect_client_environment(self) -> dict[str, str]:
        """Settings of everything that talks to the Prefect server."""
        return {
            "PREFECT_HOME": str(self.prefect_home),
            "PREFECT_API_URL": self.urls.prefect_api,
            "PREFECT_UI_URL": self.urls.prefect_ui,
            "PREFECT_API_AUTH_STRING": self.credentials.prefect_auth,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_ARCHIVAL_WORKPOOL_NAME": ARCHIVAL_POOL,
            "PREFECT_RETRIEVAL_WORKPOOL_NAME": RETRIEVAL_POOL,
        }

    def service_environment(self) -> dict[str, str]:
        """Every setting of the service that this stack makes, by its environment variable. Needs the database."""
        own, urls = self.credentials, self.urls
        ledger = database.read_addresses(self.addresses)[database.LEDGER]
        return self.prefect_client_environment() | {
            "ENVIRONMENT": "development",
            "HOST": HOST,
            "UVICORN_HOST": HOST,
            "UVICORN_PORT": str(self.ports["api"]),
            "S3_ENDPOINT": urls.s3,
            "S3_EXTERNAL_ENDPOINT": urls.s3,
            "S3_USER": own.s3_user,
            "S3_PASSWORD": own.s3_password,
            "S3_TOTAL_LANDING_SPACE_TB": self._landing_space_tb,
            "RECONCILIATION_INTERVAL_S": os.environ.get("RECONCILIATION_INTERVAL_S") or _RECONCILIATION_S,
            "UPLOAD_EDGE_KEY": own.upload_edge_key,
            "UPLOAD_EDGE_URL": urls.api,
            "SCICAT_ENDPOINT": urls.scicat,
            "SCICAT_USER": own.scicat_user,
            "SCICAT_PASSWORD": own.scicat_password,
            "SCICAT_INGESTOR_GROUPS": INGESTOR,
            "OPERATOR_GROUPS": OPERATORS,
            "IDP_URL": urls.identity,
            "IDP_REALM": facility_config().realm,
            "IDP_USERNAME": IdentitySettings.model_fields["idp_username"].default,
            "IDP_PASSWORD": own.idp_password,
            "IDP_CLIENT_ID": IdentitySettings.model_fields["idp_client_id"].default,
            "JOB_ENDPOINT_USERNAME": own.job_endpoint_username,
            "JOB_ENDPOINT_PASSWORD": own.job_endpoint_password,
            "LEDGER_URL": ledger.replace("postgresql://", "postgresql+psycopg://", 1),
            "LTS_ROOT_FOLDER": str(self.share),
            "ARCHIVER_SCRATCH_FOLDER": str(self.scratch),
        }

    def plain(self) -> dict[str, str]:
        """Environment of a part that reads no settings."""
        return self._inherited

    def service(self) -> dict[str, str]:
        """Environment of the service's own parts."""
        return self._inherited | self.service_environment()

    def prefect_server(self) -> dict[str, str]:
        """Environment of the Prefect server."""
        url = database.read_addresses(self.addresses)[database.PREFECT]
        return (
            self._inherited
            | self.prefect_client_environment()
            | {
                "PREFECT_SERVER_API_AUTH_STRING": self.credentials.prefect_auth,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": url.replace("postgresql://", "postgresql+asyncpg://", 1),
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": ("prefect.server.concurrency.lease_storage.filesystem"),
                "PREFECT_SERVER_UI_API_URL": self.urls.prefect_api,
                "PREFECT_SERVER_UI_SERVE_BASE": "/",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            }
        )

    def worker(self) -> dict[str, str]:
        """Environment of workers and of the runs they start.

        As in production, runs get no setting of the service from here: they read Prefect variables and blocks.
        """
        return (
            self._inherited
            | self.prefect_client_environment()
            | {
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": _HEARTBEAT_S,
                "PREFECT_LOGGING_EXTRA_LOGGERS": "archiver",
                "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
            }
        )

    def configure(self) -> dict[str, str]:
        """Environment of the registration: variables and secrets of the flows are registered from it."""
        return self.service() | {"PREFECT_WORKPOOL_TYPE": "process"}
