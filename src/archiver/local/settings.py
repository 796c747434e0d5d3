"""Settings of the embedded stack: where it keeps its data, and at which ports its parts answer."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

import archiver
from archiver.config.sources import EnvironmentSettings

_DEFAULT_FOLDER = ".archiver"
_FLOWS_FILE = "prefect.yaml"


class PortChoice(StrEnum):
    """How ports are chosen."""

    FIXED = "fixed"
    """The ones in these settings; a port in use is an error."""
    FREE = "free"
    """Any that are free; the same ones again for the same folder where they still are."""


def project_folder() -> Path:
    """The checkout this package is installed from, else the current folder."""
    checkout = Path(archiver.__file__).resolve().parents[2]
    return checkout if (checkout / _FLOWS_FILE).is_file() else Path.cwd()


def default_folder() -> Path:
    """Data folder of a stack that was given none."""
    return project_folder() / _DEFAULT_FOLDER


class LocalSettings(EnvironmentSettings):
    """The embedded stack."""

    archiver_local_folder: Path = Field(default_factory=default_folder)
    """Data, logs and credentials of the stack. Parts find nothing of it elsewhere."""
    archiver_local_ports: PortChoice = PortChoice.FIXED
    """Fixed ports, or any that are free."""
    archiver_local_api_port: int = Field(8000, ge=1024, le=65535)
    """Of the API."""
    archiver_local_prefect_port: int = Field(4200, ge=1024, le=65535)
    """Of the Prefect server."""
    archiver_local_scicat_port: int = Field(3000, ge=1024, le=65535)
    """Of the simulator of SciCat."""
    archiver_local_identity_port: int = Field(8180, ge=1024, le=65535)
    """Of the simulator of Keycloak."""
    archiver_local_s3_port: int = Field(8333, ge=1024, le=65535)
    """Of the S3 server."""
    archiver_local_postgres_port: int = Field(5433, ge=1024, le=65535)
    """Of PostgreSQL."""

    archiver_local_flows_file: Path | None = None
    """Deployments to register; the project's prefect.yaml where it is None."""

    @property
    def flows_file(self) -> Path:
        """The file of deployments, absolute."""
        return (self.archiver_local_flows_file or project_folder() / _FLOWS_FILE).resolve()

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return self.archiver_local_folder.expanduser().resolve()
