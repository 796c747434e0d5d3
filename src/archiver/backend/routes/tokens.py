"""/token: an upload token for users of SciCat."""

from typing import Any

from fastapi import APIRouter

from archiver.backend.auth import SciCatTokenDep
from archiver.backend.context import ContextDep
from archiver.backend.models import CreateServiceTokenResp
from archiver.backend.routes.responses import ERRORS, FORBIDDEN

router = APIRouter(tags=["service_token"])


@router.post(
    "/token",
    operation_id="create_new_service_token",
    status_code=201,
    response_model=CreateServiceTokenResp,
    responses={**ERRORS, **FORBIDDEN},
)
async def create_new_service_token(context: ContextDep, token: SciCatTokenDep) -> dict[str, Any]:
    """Exchange a SciCat token for one that may upload data sets of its user's groups."""
    return await context.lanes.slow.run(lambda: context.tokens.create(token))
