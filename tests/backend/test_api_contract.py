"""The OpenAPI document, and whether the API keeps to it whatever it is sent."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

import archiver
from archiver.backend.openapi import document
from archiver.local.ports import choose_free
from support.backend_api import JOB_ACCOUNT, Api
from support.instrument import eventually

CHECKED_IN = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
CONTRACT = {
    ("post", "/archiver/jobs"): ("archiving", "create_job", {"BasicAuth", "BearerAuth"}),
    ("post", "/s3/requestDatasetUpload"): ("s3upload", "request_dataset_upload", {"BearerAuth"}),
    ("post", "/s3/presignedUrls"): ("s3upload", "get_presigned_urls", {"BearerAuth"}),
    ("post", "/s3/completeUpload"): ("s3upload", "complete_upload", {"BearerAuth"}),
    ("post", "/s3/abortMultipartUpload"): ("s3upload", "abort_multipart_upload", {"BearerAuth"}),
    ("post", "/s3/finalizeDatasetUpload"): ("s3upload", "FinalizeDatasetUpload", {"BearerAuth"}),
    ("post", "/s3/abortDatasetUpload"): ("s3upload", "AbortDatasetUpload", {"BearerAuth"}),
    ("post", "/token"): ("service_token", "create_new_service_token", {"SciCatAuth"}),
    ("get", "/health/livez"): ("health", "livez", set()),
    ("get", "/health/readyz"): ("health", "readyz", set()),
}
FIELDS = {
    "CreateJobBody": {"id", "type"},
    "CreateJobResp": {"uuid", "name"},
    "UploadRequestBody": {"dataset_id", "dataset_size_gib"},
    "UploadRequestSuccessfulResp": {"message"},
    "PresignedUrlBody": {"dataset_id", "object_name", "parts"},
    "PresignedUrlResp": {"upload_id", "urls"},
    "CompletePart": {"part_number", "etag", "checksum_sha256"},
    "CompleteUploadBody": {"dataset_id", "object_name", "upload_id", "parts", "checksum_sha256"},
    "CompleteUploadResp": {"location", "key"},
    "AbortUploadBody": {"dataset_id", "object_name", "upload_id"},
    "AbortUploadResp": {"message", "upload_id", "object_name"},
    "FinalizeDatasetUploadBody": {
        "dataset_id",
        "create_archiving_job",
        "owner_group",
        "owner_user",
        "contact_email",
    },
    "FinalizeDatasetUploadResp": {"dataset_id", "message"},
    "AbortDatasetUploadBody": {"dataset_id"},
    "AbortDatasetUploadResp": {"dataset_id", "message"},
}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document())
    return found


def test_the_checked_in_document_is_the_apis() -> None:
    assert CHECKED_IN.read_text(encoding="utf-8") == document(), (
        f"run: python -m archiver.backend.openapi {CHECKED_IN.name}"
    )


def test_operations_are_those_of_clients_in_the_field(openapi: dict[str, Any]) -> None:
    assert openapi["info"]["title"] == "ETHZ Archiver Service"
    for (method, path), (tag, operation_id, schemes) in CONTRACT.items():
        operation = openapi["paths"][path][method]
        assert (operation["tags"], operation["operationId"]) == ([tag], operation_id)
        assert {name for alternative in operation.get("security", []) for name in alternative} == schemes
        if method == "post":
            assert {"201", "422", "500"} <= set(operation["responses"])
            assert "200" not in operation["responses"]
    assert "507" in openapi["paths"]["/s3/requestDatasetUpload"]["post"]["responses"]
    schemes = openapi["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {
        "BasicAuth": "basic",
        "BearerAuth": "bearer",
        "SciCatAuth": "bearer",
    }


def test_fields_are_those_of_clients_in_the_field(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    for name, fields in FIELDS.items():
        assert (set(schemas[name]["properties"]), set(schemas[name]["required"])) == (fields, fields), name
    assert set(schemas["CreateServiceTokenResp"]["required"]) == {"access_token", "refresh_token"}
    assert "not-before-policy" in schemas["CreateServiceTokenResp"]["properties"]
    assert {"message", "dataset_id", "requested_size_gib"} <= set(
        schemas["UploadRequestUnsuccessfulResp"]["properties"]
    )
    assert {"code", "message"} <= set(schemas["InternalError"]["required"])
    assert set(schemas["HTTPValidationError"]["properties"]) >= {"detail", "code", "message"}


schema = schemathesis.openapi.from_dict(json.loads(document()))


@pytest.fixture(scope="module")
def bearer(api: Api) -> str:
    return str(api.client().token)


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_whatever_is_sent_the_api_keeps_to_its_document(case: schemathesis.Case[Any], api: Api, bearer: str) -> None:
    headers = {"Authorization": f"Bearer {bearer}"}
    auth = None
    if case.path.startswith("/archiver"):
        headers, auth = {}, JOB_ACCOUNT
    answer = case.call(base_url=api.base, headers=headers, auth=auth)
    assert "x-request-id" in answer.headers
    if answer.status_code >= 500:
        raise AssertionError(f"{answer.status_code}: {answer.text}")
    # Whether a data set exists, or a name is safe, no schema can say: valid requests may be refused.
    case.validate_response(answer, excluded_checks=[schemathesis.checks.positive_data_acceptance])


@contextmanager
def program(api: Api, folder: Path, **more: str) -> Iterator[Path]:
    """The API as a program that answers; the file of its log."""
    (port,) = choose_free(["api"], {}).values()
    config = api.config
    environment = {
        "PATH": os.environ["PATH"],
        "ENVIRONMENT": "development",
        "UVICORN_HOST": "127.0.0.1",
        "UVICORN_PORT": str(port),
        "S3_ENDPOINT": config.store.s3_endpoint,
        "S3_USER": config.store.s3_user.get_secret_value(),
        "S3_PASSWORD": config.store.s3_password.get_secret_value(),
        "S3_LANDINGZONE_BUCKET": config.store.s3_landingzone_bucket,
        "SCICAT_ENDPOINT": config.catalogue.scicat_endpoint,
        "IDP_URL": config.identity.idp_url,
        "PREFECT_API_URL": config.queue.prefect_api_url,
        "LEDGER_URL": config.ledger.ledger_url.get_secret_value(),
    } | more
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "archiver.backend"], env=environment, stdout=log, stderr=log, cwd=folder
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/readyz", trust_env=False, timeout=20).status_code == 200
        except httpx.TransportError:
            return False

    try:
        assert eventually(answers)
        yield folder / "log"
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)


def test_the_service_starts_as_a_program_and_stops_on_a_signal(api: Api, tmp_path: Path) -> None:
    with program(api, tmp_path) as log:
        pass

    assert "event=request" in log.read_text()


def test_in_development_the_api_starts_anew_when_its_code_changes(api: Api, tmp_path: Path) -> None:
    code = tmp_path / "archiver"
    shutil.copytree(Path(archiver.__file__).parent, code)
    with program(api, tmp_path, UVICORN_RELOAD="true", PYTHONPATH=str(tmp_path)) as log:
        with (code / "backend" / "app.py").open("a", encoding="utf-8") as module:
            module.write("\n# changed\n")

        assert eventually(lambda: log.read_text().count("Application startup complete") == 2), log.read_text()


def test_an_open_deployment_is_not_started(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "ENVIRONMENT": "prod"}
    ended = subprocess.run(
        [sys.executable, "-m", "archiver.backend"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "UPLOAD_EDGE_KEY" in ended.stderr
