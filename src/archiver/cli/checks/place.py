"""What runs in this place: it decides which rights a credential must have here, and what can be looked at.

Each image of the service has only the packages that its work needs, and only where the share is mounted can anything
read or write it, so nobody has to say it in a setting of its own.
"""

import os
from importlib.util import find_spec

from archiver.config.sources import read_environment

ASK_API = (
    "Not looked at here: what the API needs for it is not installed. Run the doctor where the API runs, too: "
    "docker compose --env-file .env exec archiver-service-api archiver doctor"
)
ASK_FLOWS = (
    "Not looked at here: LTS_ROOT_FOLDER is not set. Run the doctor where flows run or the reconciliation, too: "
    "docker compose --env-file .env exec reconciliation archiver doctor"
)
_OF_THE_API = ("jwcrypto", "keycloak")


def has_api() -> bool:
    """Whether the API could run here."""
    return all(find_spec(package) is not None for package in _OF_THE_API)


def has_flows() -> bool:
    """Whether flows or the reconciliation run here: the share is theirs."""
    return read_environment("LTS_ROOT_FOLDER", os.environ) is not None
