"""A running realm, and the client a service would use with it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from keycloak import KeycloakOpenID

from archiver.local.identity.config import IdentityConfig, facility_config
from archiver.local.identity.keys import KeyRing
from archiver.local.identity.testing import MovableClock, run_identity

OpenIDClient = Callable[..., KeycloakOpenID]


@pytest.fixture(scope="module")
def config() -> IdentityConfig:
    """The realm of the embedded stack."""
    return facility_config()


@pytest.fixture
def clock() -> MovableClock:
    """The time of the realm."""
    return MovableClock()


@pytest.fixture(scope="session")
def made_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys every realm may begin with: RSA keys take longer to make than most tests to run."""
    folder = tmp_path_factory.mktemp("keys")
    KeyRing.in_folder(folder)
    return folder


@pytest.fixture
def identity(config: IdentityConfig, clock: MovableClock, made_keys: Path, tmp_path: Path) -> Iterator[str]:
    """The base URL of a realm of the test's own."""
    data = shutil.copytree(made_keys, tmp_path / "identity")
    with run_identity(config, data=data, clock=clock) as base_url:
        yield base_url


@pytest.fixture
def openid(identity: str) -> OpenIDClient:
    """Makes the Keycloak client of the field, of the public client unless told otherwise."""

    def make(client_id: str = "archiver-service-api", secret: str | None = None) -> KeycloakOpenID:
        return KeycloakOpenID(identity, "facility", client_id, client_secret_key=secret, timeout=5)

    return make


@pytest.fixture
def http(identity: str) -> Iterator[httpx.Client]:
    """A bare HTTP client at the realm's base URL."""
    with httpx.Client(base_url=identity, timeout=5) as client:
        yield client
