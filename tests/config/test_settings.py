"""Where settings come from, and which deployments are refused."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from archiver.config.register import RegistrationSettings, read_registration
from archiver.config.settings import (
    ApiConfiguration,
    CatalogueSettings,
    Environment,
    FlowConfiguration,
    IdentitySettings,
    LandingZoneSettings,
    LtsSettings,
    ObjectStoreSettings,
    OpenDeploymentError,
    ServiceSettings,
    refuse_weak,
)
from archiver.config.sources import EnvironmentSettings, UnreadableSecretFileError

SECRETS = (
    "S3_USER",
    "S3_PASSWORD",
    "SCICAT_USER",
    "SCICAT_PASSWORD",
    "IDP_PASSWORD",
    "JOB_ENDPOINT_USERNAME",
    "JOB_ENDPOINT_PASSWORD",
    "UPLOAD_EDGE_KEY",
    "PREFECT_API_AUTH_STRING",
    "LEDGER_URL",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """An environment without any setting of this machine."""
    names = {name.upper() for kind in EnvironmentSettings.__subclasses__() for name in kind.model_fields}
    for name in list(os.environ):
        if name.removesuffix("_FILE") in names or name in names or name.startswith("MINIO_"):
            monkeypatch.delenv(name)
    return os.environ


# ------------------------------------------------------------------------------------------------ order


def test_the_environment_comes_before_what_is_registered_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered = {"s3_region": "registered", "s3_landingzone_bucket": "registered"}
    monkeypatch.setenv("S3_REGION", "environment")

    settings = ObjectStoreSettings.load(registered)

    assert settings.s3_region == "environment"
    assert settings.s3_landingzone_bucket == "registered"
    assert settings.s3_retrieval_bucket == "retrieval"


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_REGION", "environment")

    assert ObjectStoreSettings(s3_region="argument").s3_region == "argument"


def test_a_file_and_an_older_name_too_come_before_what_is_registered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "user").write_text("from the file")
    monkeypatch.setenv("S3_USER_FILE", str(tmp_path / "user"))
    monkeypatch.setenv("MINIO_REGION", "older")

    settings = ObjectStoreSettings.load({"s3_user": "registered", "s3_region": "registered"})

    assert settings.s3_user.get_secret_value() == "from the file"
    assert settings.s3_region == "older"


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, empty: str | None) -> None:
    if empty is not None:
        monkeypatch.setenv("S3_REGION", empty)
        monkeypatch.setenv("S3_REGION_FILE", empty)

    assert ObjectStoreSettings.load({"s3_region": "registered"}).s3_region == "registered"
    assert ObjectStoreSettings.load({"s3_region": ""}).s3_region == "eu-west-1"
    assert ObjectStoreSettings().s3_region == "eu-west-1"


def test_what_is_registered_for_other_classes_is_ignored() -> None:
    assert ObjectStoreSettings.load({"lts_root_folder": "/x", "unknown": "y"}) == ObjectStoreSettings()


def test_the_flows_read_every_class_from_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCICAT_ENDPOINT", "scicat.test")

    configuration = FlowConfiguration.load(
        {
            "lts_root_folder": "/mnt/lts",
            "archiver_target_size_gb": "2.5",
            "scicat_endpoint": "registered",
            "ledger_url": "postgresql+psycopg://x",
            "host": "h",
            "s3_user": "u",
            "prefect_ui_url": "https://ui.test",
        }
    )

    assert configuration.lts.lts_root_folder == Path("/mnt/lts")
    assert configuration.archiving.target_bytes == 2_500_000_000
    assert configuration.catalogue.scicat_endpoint == "https://scicat.test"
    assert configuration.ledger.ledger_url.get_secret_value() == "postgresql+psycopg://x"
    assert configuration.service.host == "h"
    assert configuration.store.s3_user.get_secret_value() == "u"
    assert configuration.queue.prefect_ui_url == "https://ui.test"


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_the_line_end_of_a_secret_file_is_no_part_of_the_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "password").write_text(f" pass word {ending}", newline="")
    monkeypatch.setenv("S3_PASSWORD_FILE", str(tmp_path / "password"))

    assert ObjectStoreSettings().s3_password.get_secret_value() == " pass word "


def test_a_value_comes_before_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_PASSWORD", "value")
    monkeypatch.setenv("S3_PASSWORD_FILE", "/does/not/exist")

    assert ObjectStoreSettings().s3_password.get_secret_value() == "value"


def test_an_empty_file_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    monkeypatch.setenv("S3_PASSWORD_FILE", str(tmp_path / "password"))

    assert ObjectStoreSettings.load({"s3_password": "registered"}).s3_password.get_secret_value() == "registered"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), (b"\xff\x00\xfe", "it is not UTF-8 text")]
)
def test_a_file_that_cannot_be_read_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("S3_PASSWORD_FILE", str(file))

    with pytest.raises(UnreadableSecretFileError) as caught:
        ObjectStoreSettings()
    assert str(caught.value).startswith(f"S3_PASSWORD_FILE names {file}, which cannot be read: {reason}. ")


def test_a_folder_in_place_of_a_secret_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIO_PASSWORD_FILE", str(tmp_path))

    with pytest.raises(UnreadableSecretFileError, match=r"MINIO_PASSWORD_FILE names .* Is a directory"):
        ObjectStoreSettings()


# ------------------------------------------------------------------------------------------------ older names


@pytest.mark.parametrize(
    ("older", "name"),
    [
        ("MINIO_ENDPOINT", "S3_ENDPOINT"),
        ("MINIO_LANDINGZONE_BUCKET", "S3_LANDINGZONE_BUCKET"),
        ("LTS_STORAGE_ROOT", "LTS_ROOT_FOLDER"),
        ("SCICAT_INGESTOR_GROUP", "SCICAT_INGESTOR_GROUPS"),
    ],
)
def test_an_older_name_is_read_with_a_warning(monkeypatch: pytest.MonkeyPatch, older: str, name: str) -> None:
    monkeypatch.setenv(older, "https://value")
    kinds = (ObjectStoreSettings, LtsSettings, IdentitySettings)
    kind = next(each for each in kinds if name.lower() in each.model_fields)

    with capture_logs() as logs:
        value = getattr(kind(), name.lower())

    assert value in ("https://value", Path("https://value"), ("https://value",))
    assert [(log["log_level"], log["used"], log["use_instead"]) for log in logs] == [("warning", older, name)]


def test_a_name_comes_before_its_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_REGION", "new")
    monkeypatch.setenv("MINIO_REGION", "older")

    with capture_logs() as logs:
        assert ObjectStoreSettings().s3_region == "new"
    assert logs == []


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("s3.facility.test:9000", "https://s3.facility.test:9000"),
        ("s3.facility.test/", "https://s3.facility.test"),
        ("http://127.0.0.1:8333", "http://127.0.0.1:8333"),
        ("https://s3.facility.test/base/", "https://s3.facility.test/base"),
    ],
)
def test_an_endpoint_without_scheme_means_https(monkeypatch: pytest.MonkeyPatch, given: str, read: str) -> None:
    monkeypatch.setenv("S3_ENDPOINT", given)

    assert ObjectStoreSettings().s3_endpoint == read


def test_links_carry_the_inner_address_where_there_is_no_outer_one() -> None:
    inner = ObjectStoreSettings(s3_endpoint="inner")

    assert inner.public_endpoint == "https://inner"
    assert ObjectStoreSettings(s3_endpoint="inner", s3_external_endpoint="outer").public_endpoint == "https://outer"


@pytest.mark.parametrize(
    ("given", "groups"), [("ingestor", ("ingestor",)), ("a; b ;;c", ("a", "b", "c")), (";", ()), ("a,b", ("a,b",))]
)
def test_groups_are_parted_by_semicolons(monkeypatch: pytest.MonkeyPatch, given: str, groups: tuple[str, ...]) -> None:
    monkeypatch.setenv("SCICAT_INGESTOR_GROUPS", given)

    assert IdentitySettings().scicat_ingestor_groups == groups


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (LandingZoneSettings, "FREE_SPACE_FACTOR", "1.1"),
        (LandingZoneSettings, "URL_EXPIRATION_SECONDS", "soon"),
        (ObjectStoreSettings, "S3_URL_EXPIRATION_DAYS", "8"),
        (CatalogueSettings, "SCICAT_TIMEOUT_S", "30"),
        (ServiceSettings, "ENVIRONMENT", "staging"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, kind: type[EnvironmentSettings], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=name.lower()):
        kind()


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "c0nfidential")
    monkeypatch.setenv("ENVIRONMENT", "development")

    assert "c0nfidential" not in repr(ApiConfiguration())
    monkeypatch.setenv("URL_EXPIRATION_SECONDS", "c0nfidential")
    with pytest.raises(ValidationError) as caught:
        LandingZoneSettings()
    assert "c0nfidential" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ open deployments


def _set_all(monkeypatch: pytest.MonkeyPatch, **others: str) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, others.get(name, f"long and random {name}"))


def test_production_is_the_default_and_accepts_secrets_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_all(monkeypatch)

    assert ApiConfiguration().service.environment is Environment.PRODUCTION


@pytest.mark.parametrize("weak", ["", "admin", "Password", " changeme ", "minioadmin", "   "])
@pytest.mark.parametrize("name", SECRETS)
def test_production_refuses_every_secret_that_is_empty_or_known(
    monkeypatch: pytest.MonkeyPatch, name: str, weak: str
) -> None:
    _set_all(monkeypatch, **{name: weak})

    with pytest.raises(OpenDeploymentError, match=rf"well-known defaults: {name}\. Set them \(or their {name}_FILE\)"):
        ApiConfiguration()


def test_production_names_all_that_is_missing() -> None:
    with pytest.raises(OpenDeploymentError) as caught:
        ApiConfiguration()

    assert ", ".join(SECRETS) in str(caught.value)


def test_development_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "development")
    monkeypatch.setenv("S3_PASSWORD", "minioadmin")

    assert ApiConfiguration().service.environment is Environment.DEVELOPMENT


def test_only_in_development_code_is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_all(monkeypatch)
    monkeypatch.setenv("UVICORN_RELOAD", "true")

    with pytest.raises(OpenDeploymentError, match="UVICORN_RELOAD is for development"):
        ApiConfiguration()


def test_the_reconciliation_is_refused_like_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_all(monkeypatch, LEDGER_URL="", S3_PASSWORD="minioadmin")

    with pytest.raises(OpenDeploymentError, match=r"well-known defaults: S3_PASSWORD, LEDGER_URL\."):
        FlowConfiguration().refuse_to_be_open()


def test_what_is_registered_for_the_flows_may_be_missing_but_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_weak(Environment.PRODUCTION, {"S3_PASSWORD": SecretStr("")}, missing_too=False)

    monkeypatch.setenv("PREFECT_WORKPOOL_TYPE", "process")
    monkeypatch.setenv("S3_PASSWORD", "minioadmin")
    with pytest.raises(OpenDeploymentError, match=r"well-known defaults: S3_PASSWORD\."):
        read_registration(RegistrationSettings())
