"""/metrics: for a Prometheus inside the deployment."""

import ipaddress

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException

from archiver.backend.context import ContextDep

router = APIRouter(include_in_schema=False)

_PROXY_HEADERS = ("x-forwarded-for", "forwarded", "x-real-ip")


def _is_inside(request: Request) -> bool:
    """Whether the caller reached us straight from this machine or network.

    What comes through the reverse proxy carries one of its headers, however private the proxy's address is.
    """
    if request.client is None or any(name in request.headers for name in _PROXY_HEADERS):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


@router.get("/metrics")
async def metrics(request: Request, context: ContextDep) -> Response:
    """Give the metrics to callers inside; to others this path does not exist."""
    if not _is_inside(request):
        raise HTTPException(404)
    now = CollectorRegistry()
    now.register(await context.gauges.read(context.lanes.probes))
    text = generate_latest(context.metrics.registry) + generate_latest(now)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
