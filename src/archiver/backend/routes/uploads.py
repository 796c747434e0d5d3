"""/s3: uploads of data sets."""

import base64

import structlog
from fastapi import APIRouter

from archiver.backend.auth import CallerDep
from archiver.backend.context import ContextDep
from archiver.backend.models import (
    AbortDatasetUploadBody,
    AbortDatasetUploadResp,
    AbortUploadBody,
    AbortUploadResp,
    CompleteUploadBody,
    CompleteUploadResp,
    FinalizeDatasetUploadBody,
    FinalizeDatasetUploadResp,
    PresignedUrlBody,
    PresignedUrlResp,
    UploadRequestBody,
    UploadRequestSuccessfulResp,
    UploadRequestUnsuccessfulResp,
)
from archiver.backend.routes.responses import CONFLICT, ERRORS, FORBIDDEN, NOT_FOUND, TOO_LARGE
from archiver.workflow.storage.object_store import CompletedPart

router = APIRouter(prefix="/s3", tags=["s3upload"])


@router.post(
    "/requestDatasetUpload",
    operation_id="request_dataset_upload",
    status_code=201,
    responses={
        **ERRORS,
        **FORBIDDEN,
        **NOT_FOUND,
        **CONFLICT,
        **TOO_LARGE,
        507: {"model": UploadRequestUnsuccessfulResp, "description": "No space now; ask again later"},
    },
)
async def request_dataset_upload(
    context: ContextDep, caller: CallerDep, body: UploadRequestBody
) -> UploadRequestSuccessfulResp:
    """Reserve space in the landing zone for a data set."""
    structlog.contextvars.bind_contextvars(pid=body.dataset_id)
    message = await context.lanes.slow.run(
        lambda: context.uploads.request(caller, body.dataset_id, body.dataset_size_gib)
    )
    return UploadRequestSuccessfulResp(message=message)


@router.post(
    "/presignedUrls",
    operation_id="get_presigned_urls",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN},
)
async def get_presigned_urls(context: ContextDep, caller: CallerDep, body: PresignedUrlBody) -> PresignedUrlResp:
    """Get URLs to send an object to, whole or in parts; each is in base64."""
    structlog.contextvars.bind_contextvars(pid=body.dataset_id)

    def make() -> PresignedUrlResp:
        upload_id, urls = context.uploads.presign(caller, body.dataset_id, body.object_name, body.parts)
        return PresignedUrlResp(upload_id=upload_id, urls=[base64.b64encode(url.encode()).decode() for url in urls])

    return await context.lanes.short.run(make)


@router.post("/completeUpload", operation_id="complete_upload", status_code=201, responses={**ERRORS, **FORBIDDEN})
async def complete_upload(context: ContextDep, caller: CallerDep, body: CompleteUploadBody) -> CompleteUploadResp:
    """Make the parts that were sent one object."""
    structlog.contextvars.bind_contextvars(pid=body.dataset_id)
    parts = [CompletedPart(part.part_number, part.etag, part.checksum_sha256 or None) for part in body.parts]
    done = await context.lanes.slow.run(
        lambda: context.uploads.complete(
            caller, body.dataset_id, body.object_name, body.upload_id, parts, body.checksum_sha256
        )
    )
    return CompleteUploadResp(location=done.location, key=done.key)


@router.post(
    "/abortMultipartUpload",
    operation_id="abort_multipart_upload",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
)
async def abort_multipart_upload(context: ContextDep, caller: CallerDep, body: AbortUploadBody) -> AbortUploadResp:
    """Drop the parts that were sent."""
    structlog.contextvars.bind_contextvars(pid=body.dataset_id)
    await context.lanes.short.run(
        lambda: context.uploads.abort_multipart(caller, body.dataset_id, body.object_name, body.upload_id)
    )
    return AbortUploadResp(
        message="Aborting multipart upload succeeded.", upload_id=body.upload_id, object_name=body.object_name
    )


@router.post(
    "/finalizeDatasetUpload",
    operation_id="FinalizeDatasetUpload",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
)
async def finalize_dataset_upload(
    context: ContextDep, caller: CallerDep, body: FinalizeDatasetUploadBody
) -> FinalizeDatasetUploadResp:
    """Say that everything is uploaded, and ask for archiving."""
    structlog.contextvars.bind_contextvars(pid=body.dataset_id)
    await context.lanes.slow.run(
        lambda: context.uploads.finalize(
            caller,
            body.dataset_id,
            create_job=body.create_archiving_job,
            owner_group=body.owner_group,
            owner_user=body.owner_user,
            contact_email=body.contact_email,
        )
    )
    return FinalizeDatasetUploadResp(dataset_id=body.dataset_id, message="Dataset upload finalized")


@router.post(
    "/abortDatasetUpload",
    operation_id="AbortDatasetUpload",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
)
async def abort_dataset_upload(
    context: ContextDep, caller: CallerDep, body: AbortDatasetUploadBody
) -> AbortDatasetUploadResp:
    """Give up the upload of a data set: what was sent is deleted."""
    structlog.contextvars.bind_contextvars(pid=body.dataset_id)
    await context.lanes.slow.run(lambda: context.uploads.abort(caller, body.dataset_id))
    return AbortDatasetUploadResp(dataset_id=body.dataset_id, message=f"Upload {body.dataset_id} aborted.")
