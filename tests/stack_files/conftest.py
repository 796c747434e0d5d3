"""The proxy, once for all tests that only ask it something."""

from collections.abc import Iterator

import pytest

from support.proxy import Proxy, running_proxy


@pytest.fixture(scope="module")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Proxy:
    for upstream in shared_proxy.upstreams.values():
        upstream.seen.clear()
    return shared_proxy
