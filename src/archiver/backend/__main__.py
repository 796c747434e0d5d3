"""`python -m archiver.backend`: serve the API with the settings of the environment."""

import sys

import structlog
import uvicorn

from archiver.backend.app import create_app
from archiver.config.logs import configure_logs
from archiver.config.settings import ApiConfiguration, OpenDeploymentError
from archiver.config.sources import UnreadableSecretFileError


def main() -> int:
    """Serve until a signal; the exit status."""
    configure_logs()
    try:
        config = ApiConfiguration()
    except (OpenDeploymentError, UnreadableSecretFileError) as error:
        structlog.get_logger("archiver.backend").error("configuration_refused", error=str(error))
        return 2
    configure_logs(config.api.uvicorn_log_level)
    uvicorn.run(
        create_app(config),
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
