"""What goes over the wire. Field names are the contract of clients in the field; unknown fields are ignored."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

MOST_PARTS = 10_000
"""S3's limit for one upload."""
EMAIL = {"format": "email"}

Gibibytes = Annotated[StrictInt, Field(ge=0)]


class JobType(StrEnum):
    """What a job asks for."""

    ARCHIVE = "archive"
    RETRIEVE = "retrieve"


class CreateJobBody(BaseModel):
    """A SciCat job. Whole jobs, as SciCat's URL action sends them, are taken too."""

    id: UUID
    type: JobType

    @model_validator(mode="before")
    @classmethod
    def _take_stored_form(cls, value: Any) -> Any:
        if isinstance(value, dict) and "id" not in value and "_id" in value:
            return {**value, "id": value["_id"]}
        return value


class CreateJobResp(BaseModel):
    """The flow run that works on the job."""

    uuid: UUID
    name: str


class UploadRequestBody(BaseModel):
    """Space asked for a data set; whole GiB, rounded down."""

    dataset_id: StrictStr
    dataset_size_gib: Gibibytes


class UploadRequestSuccessfulResp(BaseModel):
    """Space is reserved."""

    message: str


class PresignedUrlBody(BaseModel):
    """URLs asked for one object; `object_name` is the whole key."""

    dataset_id: StrictStr
    object_name: StrictStr
    parts: Annotated[StrictInt, Field(ge=1, le=MOST_PARTS)]


class PresignedUrlResp(BaseModel):
    """URLs in base64, in the order of the parts; `upload_id` is empty for a single one."""

    upload_id: str
    urls: list[str]


class CompletePart(BaseModel):
    """A part that was sent; `etag` without quotes, the checksum in base64."""

    part_number: Annotated[StrictInt, Field(ge=1, le=MOST_PARTS)]
    etag: StrictStr
    checksum_sha256: StrictStr


class CompleteUploadBody(BaseModel):
    """The parts of an object; `checksum_sha256` is the base64 SHA-256 over the parts' SHA-256."""

    dataset_id: StrictStr
    object_name: StrictStr
    upload_id: StrictStr
    parts: Annotated[list[CompletePart], Field(max_length=MOST_PARTS)]
    checksum_sha256: StrictStr


class CompleteUploadResp(BaseModel):
    """Where the object lies."""

    location: str
    key: str


class AbortUploadBody(BaseModel):
    """An upload in parts that is given up."""

    dataset_id: StrictStr
    object_name: StrictStr
    upload_id: StrictStr


class AbortUploadResp(BaseModel):
    """The parts are dropped."""

    message: str
    upload_id: str
    object_name: str


class FinalizeDatasetUploadBody(BaseModel):
    """Everything is uploaded."""

    dataset_id: StrictStr
    create_archiving_job: StrictBool
    owner_group: StrictStr
    owner_user: StrictStr
    contact_email: Annotated[StrictStr, Field(json_schema_extra=EMAIL)]


class FinalizeDatasetUploadResp(BaseModel):
    """The data set is ready to be archived."""

    dataset_id: str
    message: str


class AbortDatasetUploadBody(BaseModel):
    """The whole upload is given up."""

    dataset_id: StrictStr


class AbortDatasetUploadResp(BaseModel):
    """The landing zone holds nothing of the data set any more."""

    dataset_id: str
    message: str


class CreateServiceTokenResp(BaseModel):
    """Keycloak's answer; what it does not name is null, but for the lifetime."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    access_token: str
    expires_in: int | None = None
    refresh_token: str
    refresh_expires_in: int | None = None
    token_type: str | None = None
    not_before_policy: Annotated[int | None, Field(alias="not-before-policy")] = None
    session_state: str | None = None
    scope: str | None = None


class _ErrorBody(BaseModel):
    """Every error: `details` says what is wrong and what to do, `request_id` finds it in the log."""

    code: str
    message: str
    details: str = ""
    timestamp: datetime
    request_id: str = ""


class InternalError(_ErrorBody):
    """Any error that needs no more fields."""


class UploadRequestUnsuccessfulResp(_ErrorBody):
    """No space now, but it may come free: ask again later."""

    dataset_id: str
    requested_size_gib: int


class ValidationProblem(BaseModel):
    """One thing that is wrong with a request."""

    loc: list[str | int]
    msg: str
    type: str


class HTTPValidationError(_ErrorBody):
    """The request is not as it must be."""

    detail: list[ValidationProblem]


class Health(BaseModel):
    """The service lives, or is ready."""

    status: str
    timestamp: datetime


class Unready(BaseModel):
    """Something the service depends on does not answer."""

    dependency: str
    endpoint: str
    message: str


class NotReady(BaseModel):
    """What does not answer."""

    status: str
    errors: list[Unready]
    timestamp: datetime
