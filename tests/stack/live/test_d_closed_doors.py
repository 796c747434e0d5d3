"""What is closed to whom, and where secrets are not."""

import json
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from archiver.workflow.errors import ArchiverError
from archiver.workflow.storage.object_store import ObjectStore
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.waiting import wait_for

pytestmark = pytest.mark.timeout(7200)

_INNER_PORTS = (3000, 4200, 5432, 6379, 8000, 8080, 8082, 9000, 9001)
_TRY_PORTS = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

# The engine's host, as it is seen from here. `docker network inspect` of older engines does not always know it.
routes = [line.split() for line in open("/proc/net/route")]
(gateway,) = {socket.inet_ntoa(bytes.fromhex(route[2])[::-1]) for route in routes if route[1] == "00000000"}

def answers(address):
    host, _, port = address.rpartition(":")
    host = gateway if host == "host" else host
    with socket.socket() as tried:
        tried.settimeout(5)
        return tried.connect_ex((host, int(port))) == 0

with ThreadPoolExecutor(200) as pool:
    for address, answered in zip(sys.argv[1:], pool.map(answers, sys.argv[1:])):
        if answered:
            print(address)
"""
_CALL_PREFECT = """
import urllib.error, urllib.request
request = urllib.request.Request(
    "http://prefect-server:4200/api/flow_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
)
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as refusal:
    print(refusal.code)
"""


def test_only_the_proxy_is_published(stack: OperatedStack) -> None:
    published = {
        each["Service"]: sorted({port["PublishedPort"] for port in each["Publishers"] or () if port["PublishedPort"]})
        for each in stack.services()
    }
    assert {service: ports for service, ports in published.items() if ports} == {"traefik": [80, 443]}


def test_no_other_port_answers_from_another_network(stack: OperatedStack) -> None:
    parts = [
        network["IPAddress"]
        for each in stack.services()
        for network in stack.inspect(each["ID"])["NetworkSettings"]["Networks"].values()
        if network["IPAddress"]
    ]
    tried = [f"{address}:{port}" for address in ("host", *parts) for port in _INNER_PORTS]
    assert len(parts) > 10
    found = stack.inside("prefect-server", "python", "-c", _TRY_PORTS, "host:443", *tried, network="bridge")
    assert found.split() == ["host:443"]


def test_prefect_refuses_who_brings_no_credentials(stack: OperatedStack) -> None:
    with httpx.Client(timeout=30) as http:
        for path in ("/flow_runs/filter", "/work_pools/filter"):
            assert http.post(f"{stack.addresses.prefect_api}{path}", json={}).status_code == 401
    assert stack.inside("prefect-server", "python", "-c", _CALL_PREFECT).strip() == "401"


def test_the_key_of_the_api_does_not_reach_what_was_retrieved(stack: OperatedStack) -> None:
    with (
        ObjectStore.open(stack.landing_storage("flows")) as flows,
        ObjectStore.open(stack.landing_storage("api")) as api,
    ):
        written = flows.put("retrieval", "tests/only flows", b"retrieved")
        api.put("landingzone", "tests/of the api", b"landed")
        with pytest.raises(ArchiverError):
            list(api.list("retrieval", ""))
        with pytest.raises(ArchiverError):
            api.put("retrieval", "tests/of the api", b"no")
        with pytest.raises(ArchiverError):
            api.head("retrieval", written.key)
        assert len(flows.delete("retrieval", list(flows.list("retrieval", "tests/")))) == 0
        assert len(api.delete("landingzone", list(api.list("landingzone", "tests/")))) == 0


def _secrets(stack: OperatedStack) -> dict[str, str]:
    values = {file.stem: file.read_text().strip() for file in (stack.folder / ".secrets").glob("*.txt")}
    found = {name: value for name, value in values.items() if value and "user" not in name}
    assert len(found) > 10
    return found


def test_no_secret_is_in_an_image(stack: OperatedStack) -> None:
    images = {each["image"] for each in stack.configuration()["services"].values() if "build" in each}
    assert len(images) == 4
    for image in images:
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            assert saving.stdout is not None
            assert list(_in_stream(iter(lambda: saving.stdout.read(1 << 22), b""), _secrets(stack))) == [], image  # type: ignore[union-attr]
        assert saving.returncode == 0


def _in_stream(blocks: Iterator[bytes], secrets: dict[str, str]) -> Iterator[str]:
    wanted = {name: value.encode() for name, value in secrets.items()}
    longest = max(map(len, wanted.values()))
    before = b""
    for block in blocks:
        seen = before + block
        yield from (name for name, value in wanted.items() if value in seen)
        before = block[-longest:]


def test_no_secret_is_in_a_log_or_in_the_environment_of_a_service(stack: OperatedStack) -> None:
    secrets = _secrets(stack)
    for each in stack.services():
        said = subprocess.run(["docker", "logs", each["Name"]], capture_output=True, check=True, timeout=60)
        logged = (said.stdout + said.stderr).decode("utf-8", "replace")
        assert [name for name, value in secrets.items() if value in logged] == [], each["Service"]
        environment = json.dumps(stack.inspect(each["ID"])["Config"])
        assert [name for name, value in secrets.items() if value in environment] == [], each["Service"]


def test_a_run_is_given_no_secret_in_its_environment(stack: OperatedStack, prefect: PrefectView) -> None:
    run = prefect.start("end_to_end_test", "end_to_end_test", {"file_size_MB": 1, "num_files": 1})
    container = wait_for("the container of the run", stack.runs, 120, 0.1)[0]
    environment = json.dumps(stack.inspect(container)["Config"])
    assert [name for name, value in _secrets(stack).items() if value in environment] == []
    assert prefect.ended(run)["state_type"] == "COMPLETED"
