"""`python -m archiver.config.prefect_ui`: Prefect's pages, apart from its server.

A server that asks for a credential makes its pages ask people for it. In the stack people prove who they are to the
proxy, which adds the server's credential: nobody needs to know it, and what the browser sends in the same header does
not get in its way. So the pages come from a process that has neither the credential nor the database.
"""

import uvicorn
from prefect.server.api.server import create_ui_app

PORT = 4200


def main() -> None:
    """Serve the pages under PREFECT_SERVER_UI_SERVE_BASE until a signal."""
    uvicorn.run(
        create_ui_app(ephemeral=False),
        host="0.0.0.0",  # noqa: S104  # nosec B104  # inside a container; the proxy alone is published
        port=PORT,
        ws="none",
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
