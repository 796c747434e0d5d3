"""Run the identity provider simulator: `python -m archiver.local.identity --port 8180 --data FOLDER`."""

import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn
from pydantic import ValidationError

from archiver.local.identity.app import create_identity
from archiver.local.identity.config import facility_config, load_config

# An open call (one that a fault delays) must not hold up the end of the process.
_SECONDS_TO_FINISH = 1


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8180,
    config: Annotated[
        Path | None, typer.Option(help="JSON file of the realm; the built-in realm 'facility' without it.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that keeps keys and sessions; in memory without it.")
    ] = None,
    issuer_url: Annotated[
        str | None, typer.Option(help="Public base URL in tokens and discovery; the caller's without it.")
    ] = None,
) -> None:
    """Serve one simulated realm until SIGTERM or SIGINT."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        realm = facility_config() if config is None else load_config(config)
    except (OSError, ValidationError) as error:
        msg = f"{config} does not describe a realm: {error}"
        raise typer.BadParameter(msg, param_hint="--config") from error
    uvicorn.run(
        create_identity(realm, data=data, issuer_url=issuer_url),
        host=host,
        port=port,
        proxy_headers=False,
        ws="none",
        access_log=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )


if __name__ == "__main__":
    typer.run(serve)
