"""What a job of a work pool looks like."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from docker.models.containers import (  # type: ignore[import-untyped]
    _create_container_args as create_kwargs,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from prefect_docker.worker import DockerWorkerJobConfiguration  # type: ignore[import-untyped]

from archiver.config.register import find_configuration_file
from archiver.config.register_changes import ConfigurationError
from archiver.config.register_pools import PoolType, pool_template
from archiver.config.register_secrets import REGISTRY_TOKEN, REGISTRY_USER

_PRODUCTION = {
    "PREFECT_RUNTIME_IMAGE_NAME": "registry.example/workflow",
    "OPENEM_IMAGE_TAG": "1.2.3",
    "PREFECT_NETWORK": "archiver",
    "PREFECT_WORKER_LTS_VOLUME_NAME": "nfs-lts-share",
    "LTS_ROOT_FOLDER": "/tmp/LTS",
    "PREFECT_WORKER_LTS_COPY_VOLUME_NAME": "lts-no-copy",
    "LTS_COPY_FOLDER": "/tmp/LTS-copy",
    "PREFECT_ARCHIVER_HOST_SCRATCH": "/mnt/scratch",
    "ARCHIVER_SCRATCH_FOLDER": "/storage",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_API_URL": "http://prefect-server:4200/api",
    "PREFECT_JOB_MEMORY": "4g",
    "CA_FOLDER": "archiver-ca",
    "LTS_USER_ID": "123",
    "LTS_GROUP_ID": "456",
    "ENVIRONMENT": "prod",
}


def _file(folder: Path, document: object) -> Path:
    file = folder / "template.json"
    file.write_text(json.dumps(document))
    return file


def _defaults(template: dict[str, Any]) -> dict[str, Any]:
    return {name: field.get("default") for name, field in template["variables"]["properties"].items()}


@pytest.mark.parametrize("pool_type", list(PoolType))
def test_every_run_shows_that_it_is_alive_twice_a_minute(pool_type: PoolType) -> None:
    env = _defaults(pool_template(pool_type, None, {}))["env"]

    assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


@pytest.mark.parametrize("name", ["prefect-jobtemplate-prod.json", "prefect-jobtemplate-dev.json"])
def test_the_templates_of_the_deployments_mount_the_share(name: str) -> None:
    template = pool_template(PoolType.DOCKER, find_configuration_file(name), _PRODUCTION)

    defaults = _defaults(template)
    assert defaults["image"] == "registry.example/workflow:1.2.3"
    assert defaults["volumes"] == [
        "nfs-lts-share:/tmp/LTS",
        "lts-no-copy:/tmp/LTS-copy",
        "/mnt/scratch:/storage",
        "archiver-ca:/etc/archiver/ca:ro",
        "archiver-credentials:/run/archiver:ro",
    ]
    assert defaults["mem_limit"] == "4g"
    assert defaults["container_create_kwargs"]["user"] == "123:456"
    assert defaults["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert template["job_configuration"]["image"] == "{{ image }}"


@pytest.mark.parametrize("name", ["prefect-jobtemplate-prod.json", "prefect-jobtemplate-dev.json"])
def test_the_engine_is_asked_for_a_run_without_rights_and_with_an_end_of_its_log(name: str) -> None:
    defaults = _defaults(pool_template(PoolType.DOCKER, find_configuration_file(name), _PRODUCTION))
    job = DockerWorkerJobConfiguration(**{field: value for field, value in defaults.items() if value is not None})

    # As the engine gets it, but for its network, which it would be asked about.
    asked = create_kwargs({**job.container_create_kwargs, "image": job.image, "command": "true", "version": "1.41"})

    host = asked["host_config"]
    assert asked["user"] == "123:456"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "5"}}


def test_the_credential_of_prefect_is_in_no_environment_of_a_container() -> None:
    template = pool_template(PoolType.DOCKER, find_configuration_file("prefect-jobtemplate-prod.json"), _PRODUCTION)
    job = DockerWorkerJobConfiguration(env=_defaults(template)["env"])

    with temporary_settings({PREFECT_API_AUTH_STRING: "archiver:of-the-worker"}):
        job.prepare_for_flow_run(FlowRun(flow_id=uuid4(), id=uuid4()))

    assert "PREFECT_API_AUTH_STRING" not in job.env
    assert "of-the-worker" not in str(job.env)
    assert job.env["PREFECT_API_AUTH_STRING_FILE"] == "/run/archiver/prefect_api_auth_string"


def test_a_name_that_is_not_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\$\{OPENEM_IMAGE_TAG\}, which is not set"):
        pool_template(PoolType.DOCKER, _file(tmp_path, {"image": "x:${OPENEM_IMAGE_TAG}"}), {})


def test_a_default_of_something_jobs_do_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="image"):
        pool_template(PoolType.PROCESS, _file(tmp_path, {"image": "x"}), {})


def test_a_whole_template_is_taken_as_it_is(tmp_path: Path) -> None:
    whole = {
        "job_configuration": {"image": "{{ image }}", "env": "{{ env }}"},
        "variables": {"properties": {"image": {"default": "mine"}, "env": {"default": {"MINE": "1"}}}},
    }

    template = pool_template(PoolType.DOCKER, _file(tmp_path, whole), {})

    assert template["job_configuration"] == whole["job_configuration"]
    assert _defaults(template)["image"] == "mine"
    assert _defaults(template)["env"]["MINE"] == "1"
    assert _defaults(template)["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_jobs_log_in_to_the_registry_only_where_both_secrets_exist() -> None:
    both = pool_template(PoolType.DOCKER, None, {}, registry_login=[REGISTRY_USER, REGISTRY_TOKEN])
    one = pool_template(PoolType.DOCKER, None, {}, registry_login=[REGISTRY_USER])

    login = _defaults(both)["registry_credentials"]
    assert login["password"] == "{{ prefect.blocks.secret.github-openem-access-token }}"
    assert _defaults(one)["registry_credentials"] is None
