"""/metrics: for a Prometheus inside the deployment, or one outside that has a credential."""

import base64
import hmac
import ipaddress

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException

from archiver.backend.context import ContextDep
from archiver.config.settings import ApiSettings

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


def _may_read(request: Request, settings: ApiSettings) -> bool:
    """Whether the caller has the token, or the name and password, that are set for a Prometheus outside."""
    token = settings.metrics_bearer_token.get_secret_value()
    name, password = settings.metrics_username.get_secret_value(), settings.metrics_password.get_secret_value()
    good = [f"Bearer {token}"] if token else []
    if name and password:
        good.append(f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}")
    given = request.headers.get("authorization", "").encode()
    return any(hmac.compare_digest(given, each.encode()) for each in good)


@router.get("/metrics")
async def metrics(request: Request, context: ContextDep) -> Response:
    """Give the metrics to callers inside and to those with the credential; to others this path does not exist."""
    if not _is_inside(request) and not _may_read(request, context.config.api):
        raise HTTPException(404)
    now = CollectorRegistry()
    now.register(await context.gauges.read(context.lanes.probes))
    text = generate_latest(context.metrics.registry) + generate_latest(now)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
