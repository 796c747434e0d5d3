"""/archiver/jobs: SciCat's URL action puts jobs in the queue here."""

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from archiver.backend.auth import may_create_jobs
from archiver.backend.context import Context, ContextDep
from archiver.backend.errors import request_id
from archiver.backend.models import CreateJobBody, CreateJobResp
from archiver.backend.routes.responses import ERRORS, FORBIDDEN
from archiver.workflow.errors import TransientError

log = structlog.get_logger(__name__)


class _AlwaysJsonRoute(APIRoute):
    """Reads the body as JSON whatever it is called: SciCat's action sends text/plain unless told otherwise."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_as_json(request: Request) -> Response:
            others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
            headers = [*others, (b"content-type", b"application/json")]
            return await handle(Request({**request.scope, "headers": headers}, request.receive))

        return handle_as_json


router = APIRouter(
    prefix="/archiver", tags=["archiving"], dependencies=[Depends(may_create_jobs)], route_class=_AlwaysJsonRoute
)


@router.post("/jobs", operation_id="create_job", status_code=201, responses={**ERRORS, **FORBIDDEN})
@router.post("/jobs/", operation_id="create_job", status_code=201, include_in_schema=False)
async def create_job(request: Request, context: ContextDep, body: CreateJobBody) -> CreateJobResp:
    """Queue the flow run that works on a SciCat job. A job that is posted again has one run all the same."""
    structlog.contextvars.bind_contextvars(job_id=str(body.id))
    return await context.lanes.jobs.run(lambda: _submit(context, body, request_id(request)))


def _submit(context: Context, body: CreateJobBody, asked_by: str) -> CreateJobResp:
    job_id = str(body.id)
    run = context.queue.submit(job_id, body.type.value, request_id=asked_by)
    log.info("job_queued", run_id=str(run.id), type=body.type.value)
    try:
        context.ledger.record_run(job_id, body.type.value, 1, run.id)
    except TransientError as error:
        # The run exists and carries the job's id; the ledger's note of it is only an index.
        log.warning("run_not_recorded", run_id=str(run.id), error=str(error))
    return CreateJobResp(uuid=run.id, name=run.name)
