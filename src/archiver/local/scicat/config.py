"""What a simulated catalogue is set up with: accounts, groups' rights, job types and their actions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from archiver.local.scicat.errors import ConfigError
from archiver.local.scicat.schemas import check_schema
from archiver.local.scicat.templates import Template


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Account(_Model):
    """A functional account: it logs in with a password and belongs to groups."""

    username: str = Field(min_length=1)
    password: str = Field(min_length=1, repr=False)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    groups: tuple[str, ...] = ()


class GroupLists(_Model):
    """The backend's environment variables that give groups rights; ``#all`` means every account.

    The last four are compared by substring with the joined list, as the backend does: the group ``arch`` has the
    rights given to ``archivemanager``.
    """

    admin: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    create_dataset: tuple[str, ...] = ("#all",)
    create_dataset_with_pid: tuple[str, ...] = ()
    create_dataset_privileged: tuple[str, ...] = ()
    update_dataset_lifecycle: tuple[str, ...] = ()
    create_job_privileged: tuple[str, ...] = ()
    update_job_privileged: tuple[str, ...] = ()
    delete_job: tuple[str, ...] = ()


class ValidateAction(_Model):
    """Refuses a job (400) unless values found in the request or in each data set fit a schema."""

    action_type: Literal["validate"] = Field("validate", alias="actionType")
    request: dict[str, dict[str, Any]] = {}
    datasets: dict[str, dict[str, Any]] = {}

    @field_validator("request", "datasets")
    @classmethod
    def _schemas_are_understood(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for schema in value.values():
            check_schema(schema)
        return value


class UrlAction(_Model):
    """Calls a URL once the job is saved; ``url``, ``headers`` and ``body`` are templates."""

    action_type: Literal["url"] = Field("url", alias="actionType")
    url: str
    method: Literal["GET", "POST", "PUT", "DELETE"] = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    ignore_errors: bool = Field(False, alias="ignoreErrors")

    @model_validator(mode="after")
    def _templates_are_understood(self) -> UrlAction:
        for text in (self.url, self.body or "", *self.headers.values()):
            Template(text)
        return self


Action = Annotated[ValidateAction | UrlAction, Field(discriminator="action_type")]


class JobRule(_Model):
    """Who may do it (``#datasetOwner``, ``@group``, a user name …) and what happens then."""

    auth: str
    actions: tuple[Action, ...] = ()


_CREATE_AUTH = frozenset({"#all", "#authenticated", "#datasetPublic", "#datasetAccess", "#datasetOwner", "#jobAdmin"})
_UPDATE_AUTH = frozenset({"#all", "#jobOwnerUser", "#jobOwnerGroup", "#jobAdmin"})


class JobType(_Model):
    """One configured type of job."""

    job_type: str = Field(alias="jobType", min_length=1)
    create: JobRule
    update: JobRule

    @model_validator(mode="after")
    def _rules_are_known(self) -> JobType:
        for auth, known in ((self.create.auth, _CREATE_AUTH), (self.update.auth, _UPDATE_AUTH)):
            if auth.startswith("#") and auth not in known:
                raise ValueError(f"job type {self.job_type}: {auth} is none of {', '.join(sorted(known))}")
        return self


class ScicatConfig(_Model):
    """Everything a simulated catalogue is started with.

    Without ``data_folder`` the documents live in memory and end with the process.
    """

    accounts: tuple[Account, ...] = ()
    groups: GroupLists = GroupLists()
    jobs: tuple[JobType, ...] = ()
    config_version: str = "simulator-1"
    data_folder: Path | None = None
    pid_prefix: str = "20.500.12345"
    jwt_lifetime_seconds: int = Field(3600, gt=0)
    body_limit_bytes: int = Field(16 * 1024 * 1024, gt=0)
    hook_timeout_seconds: float = Field(300.0, gt=0)
    default_status_code: str = "jobSubmitted"
    default_status_message: str = "Job submitted."
    retention_shift_years: int = -1
    publication_shift_years: int = 3

    @model_validator(mode="after")
    def _names_are_unique(self) -> ScicatConfig:
        for what, names in (
            ("user name", [account.username for account in self.accounts]),
            ("e-mail", [account.email for account in self.accounts]),
            ("job type", [job.job_type for job in self.jobs]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"each {what} may occur only once")
        return self

    def job_type(self, name: str) -> JobType | None:
        """The configured type of this name, or None."""
        return next((job for job in self.jobs if job.job_type == name), None)


def load_config(file: Path) -> ScicatConfig:
    """Read a configuration from a JSON file; raises ConfigError if it cannot be read or used."""
    try:
        return ScicatConfig.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{file} is no usable configuration: {error}") from error
