"""The public prefix of the API, whether or not the proxy strips it."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """Says under which prefix the API is reached, so that paths work with it and without.

    Also the address of the OpenAPI document on the /docs page follows from it.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with `root_path` and a path that begins with it."""
        if scope["type"] == "http" and self._root_path and not scope.get("root_path"):
            path = scope["path"]
            if path != self._root_path and not path.startswith(self._root_path + "/"):
                path = self._root_path + path
            scope = {**scope, "root_path": self._root_path, "path": path}
        await self._app(scope, receive, send)
