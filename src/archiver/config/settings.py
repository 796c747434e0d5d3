"""Every setting of the service, typed; a class for each concern, so that a process reads only what it needs.

Each field is the environment variable of its upper-case name (see `archiver.config.sources`).
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, model_validator

from archiver.config.sources import EnvironmentSettings

TERABYTE = 1000**4
GIGABYTE = 1000**3
GIBIBYTE = 1024**3
MEBIBYTE = 1024**2


def _split_groups(value: object) -> object:
    if isinstance(value, str):
        return tuple(group.strip() for group in value.split(";") if group.strip())
    return value


def _with_scheme(value: object) -> object:
    """Older deployments give host:port and mean https."""
    if isinstance(value, str):
        value = value.rstrip("/")
        return value if not value or "://" in value else f"https://{value}"
    return value


Folders = Annotated[tuple[Path, ...], BeforeValidator(_split_groups)]
Groups = Annotated[tuple[str, ...], BeforeValidator(_split_groups)]
Url = Annotated[str, BeforeValidator(_with_scheme)]


class Environment(StrEnum):
    """Where the service runs; anything but development refuses to be open."""

    PRODUCTION = "prod"
    DEVELOPMENT = "development"


class UploadMode(StrEnum):
    """How presigned uploads reach the landing storage."""

    AUTO = "auto"
    """Probe the storage at start: direct where it takes the client's unsigned headers, else the edge."""
    DIRECT = "direct"
    EDGE = "edge"


class ServiceSettings(EnvironmentSettings):
    """What kind of deployment this is."""

    environment: Environment = Environment.PRODUCTION
    """Anything but development refuses empty and well-known secrets."""
    host: str = "localhost"
    """Public host name."""


class ObjectStoreSettings(EnvironmentSettings):
    """The S3 storage that holds the landing zone and the retrieval bucket."""

    s3_endpoint: Url = ""
    """Address inside; https where it names no scheme."""
    s3_external_endpoint: Url = ""
    """Address that presigned URLs carry; the inner one where it is empty."""
    s3_region: str = "eu-west-1"
    """Region that requests are signed for."""
    s3_user: SecretStr = SecretStr("")
    """Access key."""
    s3_password: SecretStr = SecretStr("")
    """Secret key."""
    s3_landingzone_bucket: str = "landingzone"
    """Where uploads land."""
    s3_retrieval_bucket: str = "retrieval"
    """Where retrieved copies lie."""
    s3_url_expiration_days: int = Field(7, ge=1, le=7)
    """Lifetime of retrieval links and of the retrieved copies. SigV4 allows 7 days at most."""
    s3_total_retrieval_space_tb: float = Field(10, gt=0)
    """What retrieved copies may take of the storage together, TB of 10^12 bytes."""
    retrieval_space_timeout_s: float = Field(6 * 3600, gt=0)
    """How long a run waits for space in the retrieval bucket."""
    s3_ca_file: Path | None = None
    """CA bundle for an endpoint with a private CA."""

    @property
    def public_endpoint(self) -> str:
        """URL that clients outside can reach."""
        return self.s3_external_endpoint or self.s3_endpoint

    @property
    def retrieval_capacity_bytes(self) -> int:
        """What retrieved copies may take together, bytes."""
        return int(self.s3_total_retrieval_space_tb * TERABYTE)

    @property
    def retrieval_lifetime(self) -> timedelta:
        """How long retrieval links and retrieved copies live."""
        return timedelta(days=self.s3_url_expiration_days)


class LandingZoneSettings(EnvironmentSettings):
    """Space and time granted to uploads."""

    s3_total_landing_space_tb: float = Field(100, gt=0)
    """Capacity, TB of 10^12 bytes."""
    free_space_factor: float = Field(0.9, gt=0, le=1)
    """Share of the capacity that may be reserved."""
    url_expiration_seconds: int = Field(3600, ge=60, le=7 * 24 * 3600)
    """Shortest lifetime of an upload URL; larger files get more."""
    upload_minimum_rate_mib_s: float = Field(10, gt=0)
    """Slowest upload the URL lifetime must suffice for, MiB/s."""
    upload_expiration_hours: int = Field(14 * 24, ge=1)
    """Idle time after which an open upload loses its reservation, hours."""
    upload_mode: UploadMode = UploadMode.AUTO
    """Whether upload URLs point to the landing storage or to the API's upload edge."""
    upload_edge_key: SecretStr = SecretStr("")
    """Signs the URLs of the upload edge."""
    upload_edge_url: Url = ""
    """Public base URL of the API as clients reach it; https://HOST + API_ROOT_PATH where it is empty."""

    @property
    def capacity_bytes(self) -> int:
        """Bytes that may be reserved in total."""
        return int(self.s3_total_landing_space_tb * TERABYTE * self.free_space_factor)


class CatalogueSettings(EnvironmentSettings):
    """SciCat."""

    scicat_endpoint: Url = ""
    """Base URL; https where it names no scheme."""
    scicat_api_prefix: str = "/api/v3"
    """API version in which data sets and datablocks are read and written."""
    scicat_jobs_api_prefix: str = "/api/v4"
    """API version in which jobs are read and written: /api/v4 or /api/v3."""
    scicat_user: SecretStr = SecretStr("")
    """Functional account."""
    scicat_password: SecretStr = SecretStr("")
    """Its password."""
    scicat_timeout_s: float = Field(20, gt=0, lt=30)
    """Read timeout; SciCat's own calls hang 30 s when its database is away."""
    scicat_retry_s: float = Field(120, ge=0)
    """How long a call is tried again before it counts as failed."""
    scicat_ca_file: Path | None = None
    """CA bundle for a private CA."""
    scicat_frontend_url: Url = ""
    """Address of SciCat's pages, for links to data sets; no links where it is empty."""
    storage_location: str = "ETHZ"
    """Site that `storageLocation` of an archived data set names."""


CLOCK_LEEWAY_S = 10
"""Difference of clocks that is forgiven where a token says until when it is good, seconds."""


class IdentitySettings(EnvironmentSettings):
    """Keycloak."""

    idp_url: Url = ""
    """Public base URL: what the `iss` of tokens starts with."""
    idp_internal_url: Url = ""
    """Base URL to fetch keys and tokens from, where it differs from the public one."""
    idp_realm: str = "facility"
    """Realm of Keycloak."""
    idp_audience: str = "account"
    """`aud` that tokens must have."""
    idp_algorithm: Literal["RS256", "RS384", "RS512", "ES256", "ES384", "PS256"] = "RS256"
    """Algorithm that tokens must be signed with."""
    idp_username: str = "archiver-service"
    """Service account whose token /token hands out."""
    idp_password: SecretStr = SecretStr("")
    """Its password."""
    idp_client_id: str = "archiver-service-api"
    """Client that tokens are asked with."""
    idp_client_secret: SecretStr = SecretStr("")
    """Of a confidential client; clients in the field need a public one."""
    idp_timeout_s: float = Field(5, gt=0)
    """Of each call, seconds."""
    idp_ca_file: Path | None = None
    """CA bundle for a private CA."""
    scicat_ingestor_groups: Groups = ()
    """SciCat groups that may ask for /token; any one suffices."""
    operator_groups: Groups = ()
    """Groups whose members may touch every data set."""
    job_endpoint_role: str = "archiver-jobs"
    """Realm role that lets a bearer post to /archiver/jobs."""

    @property
    def issuer(self) -> str:
        """`iss` that tokens must carry."""
        return f"{self.idp_url}/realms/{self.idp_realm}"

    @property
    def connection_url(self) -> str:
        """Base URL for calls from inside."""
        return self.idp_internal_url or self.idp_url


class ApiSettings(EnvironmentSettings):
    """The HTTP front door itself."""

    uvicorn_host: str = "0.0.0.0"  # noqa: S104  # nosec B104  # inside a container; the proxy alone is published
    """Address to listen at."""
    uvicorn_port: int = 8000
    """Port to listen at."""
    uvicorn_log_level: str = "info"
    """Least level that is logged."""
    uvicorn_reload: bool = False
    """Whether the API starts anew when its code changes; in development only."""
    api_root_path: str = "/archiver/api/v1"
    """Public prefix of the API, which the proxy may have removed."""
    job_endpoint_username: SecretStr = SecretStr("")
    """Name that SciCat's URL action sends."""
    job_endpoint_password: SecretStr = SecretStr("")
    """Password that SciCat's URL action sends."""
    cors_origins: Groups = ("http://localhost:5173",)
    """Pages of which origins may call the API from a browser."""
    status_page_login: bool = False
    """Whether the status page asks for a login in development, too; elsewhere it always does."""
    metrics_bearer_token: SecretStr = SecretStr("")
    """Lets a Prometheus outside read /metrics with this bearer token."""
    metrics_username: SecretStr = SecretStr("")
    """Lets it read them with Basic authentication, together with the password."""
    metrics_password: SecretStr = SecretStr("")
    """Password of Basic authentication for /metrics."""


class QueueSettings(EnvironmentSettings):
    """The Prefect server that queues and runs flows."""

    prefect_api_url: str = "http://127.0.0.1:4200/api"
    """The server's API."""
    prefect_api_auth_string: SecretStr = SecretStr("")
    """user:password of the server."""
    prefect_ui_url: str = ""
    """Public address of the Prefect UI, for links."""
    prefect_timeout_s: float = Field(15, gt=0)
    """Of each call, seconds."""


class LedgerSettings(EnvironmentSettings):
    """The ledger's PostgreSQL database."""

    ledger_url: SecretStr = SecretStr("")
    """SQLAlchemy URL: postgresql+psycopg://user:password@host:port/database."""


class LtsSettings(EnvironmentSettings):
    """The long-term storage share."""

    lts_root_folder: Path = Path("/tmp/LTS")  # noqa: S108  # nosec B108  # mount point of the older deployments
    """Where the share is mounted."""
    lts_free_space_percentage: float = Field(1, ge=0, lt=100)
    """Share of the LTS that must stay free after writing, percent."""
    lts_free_space_timeout_s: float = Field(6 * 3600, ge=0)
    """How long a run waits for space on the LTS."""
    lts_stall_timeout_s: float = Field(600, gt=0)
    """A call to the share that shows no progress for so long is given up and its process killed."""
    archiver_lts_file_timeout_s: float = Field(300, ge=0)
    """How long a file just written may stay unreadable."""
    lts_recall_hours: float = Field(48, gt=0)
    """How long a retrieval waits for a datablock to come from tape, hours."""
    lts_recall_batch: int = Field(16, ge=1, le=200)
    """Datablocks of one retrieval that are asked for from tape at the same time."""
    lts_copies: Folders = ()
    """Mount points of further shares that hold a copy of each bag, parted by `;`. Their order must stay."""
    lts_copies_timeout_s: float = Field(6 * 3600, gt=0)
    """How long publishing waits for a share of a copy that is missing."""


class ArchivingSettings(EnvironmentSettings):
    """How data sets are packed."""

    archiver_target_size_gb: float = Field(100, gt=0)
    """Target size of a datablock, GB of 10^9 bytes."""
    archiver_datablock_files: int = Field(20_000, ge=1)
    """Most files in a datablock: each takes some 2 kB of memory while the datablock is registered. Also bounded so that
    one catalogue request stays under 15 MB."""
    archiver_scratch_folder: Path = Path("/storage")
    """Working folder for lists; no payload is ever copied there."""
    archiver_num_workers: int = Field(8, ge=1, le=64)
    """Parallel reads from S3 for one datablock."""
    archiver_window_mib: int = Field(128, ge=16)
    """Payload held in memory at most, MiB."""
    archiver_parallel_datasets: int = Field(4, ge=1)
    """Data sets of one job that are worked on at the same time."""
    claim_timeout_s: float = Field(120, ge=10)
    """A claim without heartbeat for so long may be taken over."""
    claim_wait_s: float = Field(3600, ge=0)
    """How long a run waits for another one that works on the same data."""

    @property
    def target_bytes(self) -> int:
        """Target size of a datablock, bytes."""
        return int(self.archiver_target_size_gb * GIGABYTE)


class FixitySettings(EnvironmentSettings):
    """Audits that read the archive again."""

    fixity_hours: float = Field(6, gt=0)
    """How long one audit may take, hours. What it has begun to read, it reads to its end."""
    fixity_terabytes: float = Field(20, gt=0)
    """How much one audit may read, TB of 10^12 bytes; one datablock it reads in any case."""
    fixity_period_days: float = Field(365, gt=0)
    """Every datablock is to be read once in so many days."""
    fixity_every_hours: float = Field(24, gt=0)
    """How often audits are scheduled, as `prefect.yaml` says it, hours."""
    fixity_stub_percent: float = Field(10, ge=0, le=100)
    """A file with less than this share of its bytes at hand is a stub, its content on tape; 0 where the file system
    compresses, and no file is one."""
    fixity_recall_batch: int = Field(8, ge=1, le=100)
    """Stubs that are recalled together, where an audit is told to recall any."""
    fixity_recall_hours: float = Field(4, gt=0)
    """How long a batch may take to come from tape, hours."""

    @property
    def period(self) -> timedelta:
        """Within which every datablock is to be read once."""
        return timedelta(days=self.fixity_period_days)


class RetirementSettings(EnvironmentSettings):
    """Data sets that are withdrawn from the archive."""

    retire_restorable_days: float = Field(90, ge=0)
    """How long a withdrawn data set can be restored for certain, days; before that its bag cannot be removed. It holds
    for what is withdrawn from then on."""
    retire_by_required: bool = False
    """Whether operators must say who they are (`--by`): where all of them have the same login, as in a container."""

    @property
    def restorable_for(self) -> timedelta:
        """How long a withdrawn data set is kept for certain."""
        return timedelta(days=self.retire_restorable_days)


class ReconciliationSettings(EnvironmentSettings):
    """The reconciliation service."""

    reconciliation_interval_s: float = Field(60, gt=0)
    """Pause between two passes, seconds."""
    reconciliation_max_attempts: int = Field(3, ge=1)
    """Runs of one job, the first included."""
    reconciliation_dead_run_s: float = Field(180, ge=60)
    """A running flow without a sign of life for so long is dead."""
    reconciliation_share_hours: float = Field(6, ge=0)
    """How long after the share was compared with the ledger this is done again, hours; 0 leaves it out, where the
    share is not mounted."""
    reconciliation_share_stretch_s: float = Field(10, gt=0)
    """How long a pass walks the share before the next one goes on, seconds."""


class BackupSettings(EnvironmentSettings):
    """Backups of PostgreSQL, which the stack in containers makes."""

    postgres_backup_hours: int = Field(0, ge=0)
    """How often each database is backed up, whole hours; 0 where that is somebody else's to do."""

    @property
    def interval(self) -> timedelta | None:
        """Time between two backups; None where the service makes none."""
        return timedelta(hours=self.postgres_backup_hours) or None


class NotificationSettings(EnvironmentSettings):
    """The operators' channel; SciCat itself writes to users."""

    notify_urls: SecretStr = SecretStr("")
    """Addresses as the library apprise takes them, separated by white space; nobody is told where it is empty."""
    notify_success: bool = False
    """Whether jobs that end well are told, too; those that do not always are."""
    notify_expiry_hours: float = Field(24, ge=0)
    """How long before a user's links expire that is told, hours; 0: never."""


_EMPTY_OR_KNOWN = {"", "admin", "password", "changeme", "secret", "minioadmin", "username", "pw"}


class OpenDeploymentError(Exception):
    """A deployment outside development would be open to anyone."""


def refuse_weak(environment: Environment, secrets: Mapping[str, SecretStr], *, missing_too: bool = True) -> None:
    """Outside development every secret must be set to something that is not a known default.

    `missing_too=False` lets empty ones pass, where they may come from elsewhere.

    Raises:
        OpenDeploymentError: some are not; their names are told, never their values.
    """
    if environment is Environment.DEVELOPMENT:
        return
    values = {name: secret.get_secret_value().strip().lower() for name, secret in secrets.items()}
    weak = [name for name, value in values.items() if value in _EMPTY_OR_KNOWN and (value or missing_too)]
    if weak:
        raise OpenDeploymentError(
            f"ENVIRONMENT is {environment}, but these are empty or well-known defaults: "
            f"{', '.join(weak)}. Set them (or their {weak[0]}_FILE), or set ENVIRONMENT=development."
        )


class ApiConfiguration(BaseModel):
    """All the API needs, checked as a whole."""

    service: ServiceSettings = Field(default_factory=ServiceSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    store: ObjectStoreSettings = Field(default_factory=ObjectStoreSettings)
    landing: LandingZoneSettings = Field(default_factory=LandingZoneSettings)
    catalogue: CatalogueSettings = Field(default_factory=CatalogueSettings)
    identity: IdentitySettings = Field(default_factory=IdentitySettings)
    queue: QueueSettings = Field(default_factory=QueueSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    lts: LtsSettings = Field(default_factory=LtsSettings)
    archiving: ArchivingSettings = Field(default_factory=ArchivingSettings)
    fixity: FixitySettings = Field(default_factory=FixitySettings)
    backup: BackupSettings = Field(default_factory=BackupSettings)

    @property
    def public_url(self) -> str:
        """Base URL of the API as clients reach it."""
        return self.landing.upload_edge_url or f"https://{self.service.host}{self.api.api_root_path}"

    @property
    def asks_operators_to_log_in(self) -> bool:
        """Whether the status page is for operators who have logged in."""
        return self.api.status_page_login or self.service.environment is not Environment.DEVELOPMENT

    @model_validator(mode="after")
    def refuse_to_reload(self) -> "ApiConfiguration":
        """Outside development the code that runs is the code that was installed.

        Raises:
            OpenDeploymentError: UVICORN_RELOAD is set outside development.
        """
        if self.api.uvicorn_reload and self.service.environment is not Environment.DEVELOPMENT:
            raise OpenDeploymentError(
                f"ENVIRONMENT is {self.service.environment}, and UVICORN_RELOAD is for development. Unset it, or set "
                "ENVIRONMENT=development."
            )
        return self

    @model_validator(mode="after")
    def refuse_to_be_open(self) -> "ApiConfiguration":
        """Outside development every credential must be set to something that is not a known default."""
        secrets = {
            "S3_USER": self.store.s3_user,
            "S3_PASSWORD": self.store.s3_password,
            "SCICAT_USER": self.catalogue.scicat_user,
            "SCICAT_PASSWORD": self.catalogue.scicat_password,
            "IDP_PASSWORD": self.identity.idp_password,
            "JOB_ENDPOINT_USERNAME": self.api.job_endpoint_username,
            "JOB_ENDPOINT_PASSWORD": self.api.job_endpoint_password,
            "UPLOAD_EDGE_KEY": self.landing.upload_edge_key,
            "PREFECT_API_AUTH_STRING": self.queue.prefect_api_auth_string,
            "LEDGER_URL": self.ledger.ledger_url,
        }
        # These may be left out, but not be known to everybody.
        optional = {
            "METRICS_BEARER_TOKEN": self.api.metrics_bearer_token,
            "METRICS_PASSWORD": self.api.metrics_password,
        }
        secrets |= {name: secret for name, secret in optional.items() if secret.get_secret_value()}
        refuse_weak(self.service.environment, secrets)
        return self


class FlowConfiguration(BaseModel):
    """All that flows and the reconciliation need."""

    service: ServiceSettings = Field(default_factory=ServiceSettings)
    store: ObjectStoreSettings = Field(default_factory=ObjectStoreSettings)
    catalogue: CatalogueSettings = Field(default_factory=CatalogueSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    lts: LtsSettings = Field(default_factory=LtsSettings)
    archiving: ArchivingSettings = Field(default_factory=ArchivingSettings)
    fixity: FixitySettings = Field(default_factory=FixitySettings)
    queue: QueueSettings = Field(default_factory=QueueSettings)
    notifications: NotificationSettings = Field(default_factory=NotificationSettings)

    def refuse_to_be_open(self) -> None:
        """Outside development every credential must be set to something that is not a known default.

        Raises:
            OpenDeploymentError: some are not.
        """
        secrets = {
            "S3_USER": self.store.s3_user,
            "S3_PASSWORD": self.store.s3_password,
            "SCICAT_USER": self.catalogue.scicat_user,
            "SCICAT_PASSWORD": self.catalogue.scicat_password,
            "PREFECT_API_AUTH_STRING": self.queue.prefect_api_auth_string,
            "LEDGER_URL": self.ledger.ledger_url,
        }
        refuse_weak(self.service.environment, secrets)

    @classmethod
    def load(cls, registered: Mapping[str, str]) -> "FlowConfiguration":
        """Settings with `registered` values (Prefect variables and secret blocks) below the environment."""
        return cls(
            service=ServiceSettings.load(registered),
            store=ObjectStoreSettings.load(registered),
            catalogue=CatalogueSettings.load(registered),
            ledger=LedgerSettings.load(registered),
            lts=LtsSettings.load(registered),
            archiving=ArchivingSettings.load(registered),
            fixity=FixitySettings.load(registered),
            queue=QueueSettings.load(registered),
            notifications=NotificationSettings.load(registered),
        )
