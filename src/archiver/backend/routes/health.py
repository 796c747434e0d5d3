"""/health: whether the process lives, and whether it can work."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from archiver.backend.context import ContextDep
from archiver.backend.models import Health, NotReady
from archiver.backend.readiness import find_unready

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/livez", operation_id="livez")
async def livez() -> Health:
    """Answer while the process lives."""
    return Health(status="healthy", timestamp=datetime.now(UTC))


@router.get(
    "/readyz",
    operation_id="readyz",
    response_model=Health,
    responses={503: {"model": NotReady, "description": "Something the service needs does not answer"}},
)
async def readyz(context: ContextDep) -> Response | Health:
    """Ask S3, SciCat, Keycloak, Prefect and the ledger's database whether they answer."""
    errors = await find_unready(context)
    now = datetime.now(UTC)
    if errors:
        body = NotReady(status="not ready", errors=errors, timestamp=now)
        return Response(body.model_dump_json(), 503, media_type="application/json")
    return Health(status="ready", timestamp=now)
