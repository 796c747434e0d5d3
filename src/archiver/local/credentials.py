"""Credentials of an embedded stack: made up once for each data folder, known to nobody else."""

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from archiver.local.private_files import write_private

FILE = "credentials.json"
_BYTES = 24


def _secret() -> str:
    return secrets.token_urlsafe(_BYTES)


class Credentials(BaseModel):
    """Secrets of every part. User names are fixed where a simulator's default realm names them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    s3_user: str = Field(default_factory=lambda: f"archiver-{secrets.token_hex(4)}")
    s3_password: str = Field(default_factory=_secret)
    prefect_auth: str = Field(default_factory=lambda: f"archiver:{_secret()}")
    """`user:password` of the Prefect API."""
    job_endpoint_username: str = "scicat"
    job_endpoint_password: str = Field(default_factory=_secret)
    upload_edge_key: str = Field(default_factory=_secret)
    scicat_user: str = "archiveManager"
    scicat_password: str = Field(default_factory=_secret)
    ingestor_password: str = Field(default_factory=_secret)
    otheruser_password: str = Field(default_factory=_secret)
    idp_password: str = Field(default_factory=_secret)
    """Of the service user whose token `/token` hands out."""
    alice_password: str = Field(default_factory=_secret)
    olga_password: str = Field(default_factory=_secret)
    """Of an operator."""
    scicat_hook_secret: str = Field(default_factory=_secret)


def ensure_credentials(folder: Path) -> Credentials:
    """The credentials kept in `folder`; those it lacks are made up and kept from now on."""
    file = folder / FILE
    credentials = Credentials.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else Credentials()
    write_private(file, credentials.model_dump_json(indent=2))
    return credentials
