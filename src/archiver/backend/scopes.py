"""Reading an ASGI scope."""

from starlette.types import Scope

UNMATCHED = "unmatched"


def route_template(scope: Scope) -> str:
    """Path template of the route that took the request, like `/s3/edge/{ticket}`; `unmatched` where none did."""
    path = getattr(scope.get("route"), "path", UNMATCHED)
    return str(path)
