"""`python -m archiver.backend`: serve the API with the settings of the environment."""

import sys
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

import archiver
from archiver.backend.app import create_app
from archiver.config.logs import configure_logs
from archiver.config.settings import ApiConfiguration, OpenDeploymentError
from archiver.config.sources import UnreadableSecretFileError


def from_environment() -> FastAPI:
    """The application, made anew by each process that uvicorn starts because the code has changed."""
    configure_logs()
    config = ApiConfiguration()
    configure_logs(config.api.uvicorn_log_level)
    return create_app(config)


def main() -> int:
    """Serve until a signal; the exit status."""
    configure_logs()
    try:
        config = ApiConfiguration()
    except (OpenDeploymentError, UnreadableSecretFileError) as error:
        structlog.get_logger("archiver.backend").error("configuration_refused", error=str(error))
        return 2
    configure_logs(config.api.uvicorn_log_level)
    reload = config.api.uvicorn_reload
    uvicorn.run(
        "archiver.backend.__main__:from_environment" if reload else create_app(config),
        factory=reload,
        reload=reload,
        reload_dirs=[str(Path(archiver.__file__).parent)] if reload else None,
        host=config.api.uvicorn_host,
        port=config.api.uvicorn_port,
        log_level=config.api.uvicorn_log_level,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        # /metrics tells callers inside from the proxy's by its headers; they must stay as they came.
        proxy_headers=False,
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
