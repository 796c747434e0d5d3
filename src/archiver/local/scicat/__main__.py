"""``python -m archiver.local.scicat``: serve a simulated catalogue until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import structlog
from pydantic import SecretStr

from archiver.config.settings import ApiSettings, CatalogueSettings
from archiver.config.sources import EnvironmentSettings
from archiver.local.scicat.config import ScicatConfig, load_config
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, stack_config
from archiver.local.scicat.errors import ConfigError
from archiver.local.scicat.server import make_server


class SimulatorSettings(EnvironmentSettings):
    """What else than the service's own credentials a simulator in a deployment is given."""

    scicat_ingestor_password: SecretStr = SecretStr("")


def _deployed_config(hook_url: str | None) -> ScicatConfig:
    """The stack's configuration, with the secrets of the environment; an account without one has its name."""
    job_hook = ApiSettings()
    passwords = {
        ARCHIVER: CatalogueSettings().scicat_password.get_secret_value(),
        INGESTOR: SimulatorSettings().scicat_ingestor_password.get_secret_value(),
    }
    return stack_config(
        hook_url=hook_url,
        hook_username=job_hook.job_endpoint_username.get_secret_value(),
        hook_password=job_hook.job_endpoint_password.get_secret_value(),
        passwords={name: password for name, password in passwords.items() if password},
    )


def main() -> int:
    """Read the arguments, serve, give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m archiver.local.scicat", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on")
    parser.add_argument("--data", type=Path, help="folder that keeps the documents (default: memory only)")
    parser.add_argument("--config", type=Path, help="JSON file of a ScicatConfig (default: the stack's)")
    parser.add_argument("--hook-url", help="where each new job is posted, with JOB_ENDPOINT_USERNAME and _PASSWORD")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log = structlog.get_logger("archiver.local.scicat")
    try:
        config = _deployed_config(arguments.hook_url) if arguments.config is None else load_config(arguments.config)
    except ConfigError as error:
        log.error("scicat.config_unusable", reason=str(error))  # noqa: TRY400 - the text says it all
        return 2
    if arguments.data is not None:
        config = config.model_copy(update={"data_folder": arguments.data})
    log.info("scicat.starting", host=arguments.host, port=arguments.port, accounts=len(config.accounts))
    make_server(config, host=arguments.host, port=arguments.port).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
