"""`python -m archiver.config.register_landing`: sets up a MinIO landing storage of our own.

Buckets, and a user for the API and another for the flows, each with the rights its work needs and no other. Running
it again changes nothing, but a secret that was changed.
"""

import json
import logging
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import stamina
import structlog
import urllib3
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error
from pydantic import SecretStr

from archiver.config.logs import configure_logs
from archiver.config.settings import ObjectStoreSettings
from archiver.config.sources import EnvironmentSettings, UnreadableSecretFileError

log = structlog.get_logger("archiver.config.register_landing")  # by name: run with -m, it is `__main__`

_TIMEOUT = urllib3.Timeout(connect=10, read=30)
_PATIENCE_S = 120.0

_READ = ("s3:GetObject", "s3:GetObjectAttributes", "s3:GetObjectVersion", "s3:GetObjectVersionAttributes")
_WRITE = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_DELETE = ("s3:DeleteObject",)
_LIST = ("s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads")


class LandingError(Exception):
    """The landing storage could not be set up."""


class LandingSettings(EnvironmentSettings):
    """Who may set up the landing storage, and the users it shall have."""

    minio_root_user: SecretStr = SecretStr("")
    minio_root_password: SecretStr = SecretStr("")
    s3_api_user: SecretStr = SecretStr("")
    s3_api_password: SecretStr = SecretStr("")
    s3_flows_user: SecretStr = SecretStr("")
    s3_flows_password: SecretStr = SecretStr("")


@dataclass(frozen=True)
class LandingUser:
    """A user of the storage and what it may do."""

    policy: str
    name: str
    password: str
    rights: dict[str, Any]


def _allow(actions: tuple[str, ...], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": sorted(actions), "Resource": [f"arn:aws:s3:::{resource}"]}


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def api_rights(landing_bucket: str) -> dict[str, Any]:
    """Uploads and what belongs to them, in the landing zone alone."""
    return _policy(_allow(_LIST, landing_bucket), _allow(_READ + _WRITE + _DELETE, f"{landing_bucket}/*"))


def flows_rights(landing_bucket: str, retrieval_bucket: str) -> dict[str, Any]:
    """The landing zone is read and emptied, retrieved copies are written and removed.

    The smoke test uploads its own data sets with it, so it may write to the landing zone too.
    """
    return _policy(
        *(
            statement
            for bucket in (landing_bucket, retrieval_bucket)
            for statement in (_allow(_LIST, bucket), _allow(_READ + _WRITE + _DELETE, f"{bucket}/*"))
        )
    )


def wanted_users(settings: LandingSettings, store: ObjectStoreSettings) -> tuple[LandingUser, ...]:
    """The users that shall be there.

    Raises:
        LandingError: a name or password is missing, or both users are the same.
    """
    given = {name: secret.get_secret_value().strip() for name, secret in settings}
    if empty := [name.upper() for name, value in given.items() if not value]:
        raise LandingError(f"These are empty: {', '.join(empty)}. Set them, or their {empty[0]}_FILE.")
    names = {given["minio_root_user"], given["s3_api_user"], given["s3_flows_user"]}
    if len(names) < 3:
        raise LandingError("The API, the flows and MinIO's root need a user each. Give them different names.")
    landing, retrieval = store.s3_landingzone_bucket, store.s3_retrieval_bucket
    return (
        LandingUser("archiver-api", given["s3_api_user"], given["s3_api_password"], api_rights(landing)),
        LandingUser(
            "archiver-flows", given["s3_flows_user"], given["s3_flows_password"], flows_rights(landing, retrieval)
        ),
    )


def register_landing(settings: LandingSettings, store: ObjectStoreSettings) -> None:
    """Make buckets, policies and users as they shall be.

    Raises:
        LandingError: settings are missing, or the storage refuses or does not answer.
    """
    users = wanted_users(settings, store)
    address = urlsplit(store.s3_endpoint)
    secure = address.scheme == "https"
    ca_file = str(store.s3_ca_file) if store.s3_ca_file else None
    pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False, ca_certs=ca_file, cert_reqs="CERT_REQUIRED")
    root = StaticProvider(
        settings.minio_root_user.get_secret_value().strip(), settings.minio_root_password.get_secret_value().strip()
    )
    buckets = Minio(endpoint=address.netloc, credentials=root, region=store.s3_region, secure=secure, http_client=pool)
    admin = MinioAdmin(
        endpoint=address.netloc, credentials=root, region=store.s3_region, secure=secure, http_client=pool
    )
    try:
        for bucket in (store.s3_landingzone_bucket, store.s3_retrieval_bucket):
            _ensure_bucket(buckets, bucket)
        for user in users:
            _ensure_user(admin, user)
    except (MinioException, MinioAdminException, S3Error) as error:
        raise LandingError(f"The landing storage at {store.s3_endpoint} refused: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise LandingError(
            f"The landing storage at {store.s3_endpoint} did not answer ({error}). Start it, or correct S3_ENDPOINT."
        ) from error


@stamina.retry(on=urllib3.exceptions.HTTPError, timeout=_PATIENCE_S, attempts=None)
def _ensure_bucket(buckets: Minio, bucket: str) -> None:
    if not buckets.bucket_exists(bucket_name=bucket):
        buckets.make_bucket(bucket_name=bucket)
        log.info("bucket_made", bucket=bucket)


def _ensure_user(admin: MinioAdmin, user: LandingUser) -> None:
    admin.policy_add(user.policy, policy=user.rights)
    admin.user_add(user.name, user.password)
    # Sets the user's policies: what it was given besides is taken away.
    admin.policy_set(user.policy, user=user.name)
    log.info("user_registered", user=user.name, policy=user.policy, attached=_attached(admin, user.name))


def _attached(admin: MinioAdmin, user: str) -> str:
    return str(json.loads(admin.user_info(user)).get("policyName", ""))


def main() -> int:
    """Set up the storage the settings name; the exit status."""
    configure_logs()
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        register_landing(LandingSettings(), ObjectStoreSettings())
    except (LandingError, UnreadableSecretFileError) as error:
        log.error("landing_storage_not_set_up", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
