"""Where the proxy lets whom through, with the real Traefik and the stack's own configuration."""

import base64
import http.client
import subprocess
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from support.proxy import HOST, ROOT, SECRETS, Proxy, configuration, running_proxy, start_command, start_environment

_PERSON = (SECRETS["dashboard_user"], SECRETS["dashboard_password"])
_OF_PREFECT = "Basic " + base64.b64encode(SECRETS["prefect_api_auth_string"].encode()).decode()
_OBJECT = "/landingzone/openem-network/datasets/1/raw_files/a%20b?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0"


def _only_request(proxy: Proxy, service: str) -> dict[str, object]:
    """What `service` was asked; fails if another one was asked too."""
    asked = {name: upstream.seen for name, upstream in proxy.upstreams.items() if upstream.seen}
    assert list(asked) == [service]
    (request,) = asked[service]
    return dict(request)


def test_the_api_gets_its_requests_with_their_path_and_knows_that_they_came_through_the_proxy(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/archiver/api/v1/s3/upload", json={"a": 1}, headers={"Authorization": "Bearer x"})

    assert answer.json() == {"service": "archiver-service-api"}
    request = _only_request(proxy, "archiver-service-api")
    headers = request["headers"]
    assert isinstance(headers, dict)
    assert request["path"] == "/archiver/api/v1/s3/upload"
    assert headers["authorization"] == "Bearer x"
    assert headers["x-forwarded-for"] == "127.0.0.1"  # for which the API refuses its metrics
    assert headers["x-forwarded-proto"] == "https"


def test_a_header_that_only_looks_like_one_of_the_proxy_is_not_passed_on(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.get("/archiver/api/v1/health/livez", headers={"X_Forwarded_For": "192.0.2.1", "X-Other": "kept"})

    headers = _only_request(proxy, "archiver-service-api")["headers"]
    assert isinstance(headers, dict)
    assert "x_forwarded_for" not in headers
    assert headers["x-other"] == "kept"


def test_a_presigned_url_reaches_the_landing_storage_as_it_was_signed(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.put(_OBJECT, content=b"12345", headers={"x-amz-checksum-sha256": "abc="})

    assert answer.json() == {"service": "s3"}
    request = _only_request(proxy, "s3")
    headers = request["headers"]
    assert isinstance(headers, dict)
    assert request["path"] == _OBJECT
    assert headers["host"] == f"{HOST}:{proxy.port}"
    assert headers["x-amz-checksum-sha256"] == "abc="
    assert request["bytes"] == 5


def test_workers_elsewhere_reach_prefect_with_their_own_credential_and_nothing_else(proxy: Proxy) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.private_port}", timeout=60, trust_env=False) as client:
        answer = client.get("/api/health", headers={"Authorization": "Basic of-the-worker"})
        others = [client.get(path).status_code for path in ("/", "/prefect-ui/", "/archiver/api/v1/health/livez")]

    assert answer.json() == {"service": "prefect-server"}
    headers = _only_request(proxy, "prefect-server")["headers"]
    assert isinstance(headers, dict)
    assert headers["authorization"] == "Basic of-the-worker"
    assert others == [404, 404, 404]


def test_the_storage_class_that_minio_refuses_is_taken_off(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.put(_OBJECT, content=b"12345", headers={"X-Amz-Storage-Class": "GLACIER"})

    headers = _only_request(proxy, "s3")["headers"]
    assert isinstance(headers, dict)
    assert "x-amz-storage-class" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/minio/admin/v3/list-users",
        "/minio/v2/metrics/cluster",
        "/archiver/prefect/api/flow_runs/filter",
        "/outpost.goauthentik.io/start",
    ],
)
def test_what_is_for_nobody_outside_reaches_no_service_that_would_answer(proxy: Proxy, path: str) -> None:
    with proxy.client() as client:
        client.get(path)

    asked = {name for name, upstream in proxy.upstreams.items() if upstream.seen}
    assert asked <= ({"s3"} if path.startswith("/outpost") else set())


def test_development_services_have_no_route_in_production(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.get("/keycloak/admin/")
        client.get("/scicat/api/v3/datasets")

    assert not proxy.upstreams["keycloak"].seen
    assert not proxy.upstreams["scicat"].seen


def test_another_host_name_is_not_served(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.get("/archiver/api/v1/health/livez", headers={"Host": "elsewhere.example"})

    assert answer.status_code == 404
    assert not any(upstream.seen for upstream in proxy.upstreams.values())


def test_unencrypted_requests_are_sent_to_the_encrypted_port(proxy: Proxy) -> None:
    answer = httpx.get(f"http://{HOST}:{proxy.plain_port}/archiver/api/v1/", timeout=30, trust_env=False)

    assert answer.status_code in (301, 308)
    assert answer.headers["location"].startswith(f"https://{HOST}")
    assert not any(upstream.seen for upstream in proxy.upstreams.values())


@pytest.mark.parametrize("path", ["/prefect-ui/dashboard", "/prefect-ui/api/flow_runs/filter"])
@pytest.mark.parametrize(
    "login", [None, ("operator", "wrong"), tuple(SECRETS["prefect_api_auth_string"].split(":"))], ids=str
)
def test_prefect_is_for_people_whom_the_proxy_knows(proxy: Proxy, path: str, login: tuple[str, str] | None) -> None:
    with proxy.client() as client:
        answer = client.get(path, auth=login) if login else client.get(path)

    assert answer.status_code == 401
    assert not any(upstream.seen for upstream in proxy.upstreams.values())


def test_prefects_api_gets_its_own_credential_instead_of_the_persons(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/prefect-ui/api/flow_runs/filter", json={}, auth=_PERSON)

    assert answer.status_code == 200
    request = _only_request(proxy, "prefect-server")
    headers = request["headers"]
    assert isinstance(headers, dict)
    assert request["path"] == "/api/flow_runs/filter"
    assert headers["authorization"] == _OF_PREFECT


def test_prefects_pages_learn_neither_credential(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.get("/prefect-ui/dashboard", auth=_PERSON)

    request = _only_request(proxy, "prefect-ui")
    headers = request["headers"]
    assert isinstance(headers, dict)
    assert request["path"] == "/prefect-ui/dashboard"
    assert "authorization" not in headers


def _put_slowly(proxy: Proxy, seconds: float) -> int:
    """Status of an upload whose body takes so long."""
    connection = http.client.HTTPSConnection(HOST, proxy.port, context=proxy.tls, timeout=60)
    try:
        connection.putrequest("PUT", _OBJECT)
        connection.putheader("Content-Length", "10")
        connection.endheaders()
        for _ in range(10):
            connection.send(b"x")
            time.sleep(seconds / 10)  # a slow sender is what is tested
        return connection.getresponse().status
    finally:
        connection.close()


def test_an_upload_may_take_as_long_as_it_takes(proxy: Proxy) -> None:
    assert _put_slowly(proxy, 4) == 200


def test_with_a_read_timeout_the_same_upload_would_break_off(tmp_path: Path) -> None:
    with running_proxy(tmp_path, changes={"readTimeout: 0": "readTimeout: 1"}) as proxy:
        try:
            status = _put_slowly(proxy, 4)
        except (OSError, http.client.HTTPException):
            status = 0

        assert status != 200


def test_authentik_takes_the_place_of_the_password(tmp_path: Path) -> None:
    with running_proxy(tmp_path, auth_middleware="authentik") as proxy, proxy.client() as client:
        proxy.upstreams["authentik-proxy"].status = 401
        refused = client.get("/prefect-ui/api/admin/version", auth=_PERSON)

        assert refused.status_code == 401
        assert not proxy.upstreams["prefect-server"].seen

        proxy.upstreams["authentik-proxy"].status = 200
        allowed = client.get("/prefect-ui/api/admin/version", headers={"Cookie": "authentik_proxy=1"})

        assert allowed.status_code == 200
        (request,) = proxy.upstreams["prefect-server"].seen
        assert request["headers"]["authorization"] == _OF_PREFECT
        asked = proxy.upstreams["authentik-proxy"].seen[-1]
        assert asked["path"] == "/outpost.goauthentik.io/auth/traefik"
        assert asked["headers"]["cookie"] == "authentik_proxy=1"


def test_the_development_services_are_reached_in_development(tmp_path: Path) -> None:
    with running_proxy(tmp_path, environment="development") as proxy, proxy.client() as client:
        client.get("/keycloak/realms/facility")
        client.get("/scicat/api/v3/datasets/a%2Fb")

        assert [each["path"] for each in proxy.upstreams["keycloak"].seen] == ["/keycloak/realms/facility"]
        assert [each["path"] for each in proxy.upstreams["scicat"].seen] == ["/api/v3/datasets/a%2Fb"]


def test_the_dashboard_of_the_monitoring_is_for_people_whom_the_proxy_knows(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/grafana/d/archiver").status_code == 401
        assert not proxy.upstreams["grafana"].seen
        assert client.get("/grafana/d/archiver", auth=_PERSON).json() == {"service": "grafana"}

    request = _only_request(proxy, "grafana")
    assert request["path"] == "/grafana/d/archiver"
    assert "authorization" not in dict(request["headers"])  # type: ignore[call-overload]


def test_a_name_of_any_characters_arrives_as_it_was_signed(proxy: Proxy) -> None:
    path = "/landingzone/datasets/1/raw_files/a%25b%23c%3Fd%3Be%5Cf%2Fg%20h%C3%BC?X-Amz-Signature=0"

    connection = http.client.HTTPSConnection(HOST, proxy.port, context=proxy.tls, timeout=60)
    with closing(connection):
        connection.request("GET", path)
        assert connection.getresponse().status == 200

    assert _only_request(proxy, "s3")["path"] == path


def test_which_characters_names_may_have_does_not_depend_on_the_version_of_the_proxy() -> None:
    entries = yaml.safe_load((ROOT / "deployment/traefik/traefik.yml").read_text())["entryPoints"]
    allowed = entries["websecure"]["http"]["encodedCharacters"]

    assert {name for name, value in allowed.items() if value} == {
        f"allowEncoded{character}"
        for character in ("Slash", "BackSlash", "Semicolon", "Percent", "QuestionMark", "Hash")
    }


@pytest.mark.parametrize("value", ["", "admin"])
@pytest.mark.parametrize("name", ["prefect_api_auth_string", "dashboard_password"])
def test_the_proxy_does_not_start_with_an_empty_or_known_secret(tmp_path: Path, name: str, value: str) -> None:
    copy = configuration(tmp_path, {}, SECRETS | {name: value})

    ended = subprocess.run(
        start_command(copy),
        check=False,
        env=start_environment("http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 78
    assert name in ended.stderr
    assert "make secrets" in ended.stderr
