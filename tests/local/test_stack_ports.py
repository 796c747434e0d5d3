"""Ports of the embedded stack."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from archiver.local.ports import HOST, PortInUseError, check_free, choose_free, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as server:
        yield int(server.getsockname()[1])


def test_each_name_gets_a_free_port_of_its_own() -> None:
    ports = choose_free(["a", "b", "c"], {})

    assert len(set(ports.values())) == 3
    assert all(is_free(port) for port in ports.values())


def test_the_earlier_port_is_taken_again() -> None:
    (port,) = choose_free(["a"], {}).values()

    assert choose_free(["a", "b"], {"a": port})["a"] == port


def test_an_earlier_port_that_is_taken_is_replaced(taken: int) -> None:
    assert choose_free(["a"], {"a": taken})["a"] != taken


def test_a_fixed_port_in_use_is_named_with_its_setting(taken: int) -> None:
    with pytest.raises(PortInUseError, match=rf"{taken} \(api; API_PORT\).*ARCHIVER_LOCAL_PORTS=free"):
        check_free({"api": taken}, {"api": "API_PORT"})


def test_two_parts_on_one_port_are_refused() -> None:
    with pytest.raises(PortInUseError, match="same port"):
        check_free({"api": 20_000, "s3": 20_000}, {"api": "API_PORT", "s3": "S3_PORT"})


_HOLDS = """
import sys
from archiver.local.ports import choose_free
print(choose_free(["s3"], {"s3": int(sys.argv[1])})["s3"], flush=True)
sys.stdin.read()
"""


def test_a_port_that_another_process_has_chosen_is_not_chosen_again_before_it_listens() -> None:
    port = choose_free(["s3"], {})["s3"]
    other = choose_free(["other"], {})["other"]
    words = [sys.executable, "-c", _HOLDS]

    with subprocess.Popen([*words, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        theirs = int(process.stdout.readline())
        assert theirs != port
        assert choose_free(["s3"], {"s3": theirs})["s3"] != theirs
        assert choose_free(["s3"], {"s3": other})["s3"] == other
        process.stdin.close()

    assert choose_free(["s3"], {"s3": theirs})["s3"] == theirs
