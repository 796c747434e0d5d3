"""Where a Keycloak is asked that is not at the root of its host."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from archiver.backend.identity import IdentityProvider
from archiver.config.settings import IdentitySettings
from archiver.workflow.errors import ArchiverError

_asked: list[str] = []


class _Recorder(BaseHTTPRequestHandler):
    """Notes what is asked for, and knows nothing."""

    def do_GET(self) -> None:
        _asked.append(self.path)
        self.send_error(404)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    _asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorder) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/keycloak"
        server.shutdown()
        serving.join()


def test_tokens_and_keys_are_asked_for_below_the_path_of_keycloak(address: str) -> None:
    settings = IdentitySettings(idp_url=address, idp_realm="facility", idp_password=SecretStr("some password"))
    identity = IdentityProvider(settings)
    with pytest.raises(ArchiverError):
        identity.service_token()
    with pytest.raises(ArchiverError):
        identity.check()
    realm = "/keycloak/realms/facility/protocol/openid-connect"
    assert _asked == [f"{realm}/token", f"{realm}/certs"]
