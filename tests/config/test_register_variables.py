"""Which variables are registered, and with which values."""

from pathlib import Path

import pytest

from archiver.config.register import find_configuration_file
from archiver.config.register_changes import ConfigurationError
from archiver.config.register_variables import find_variables, known_variables, read_variables


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in known_variables():
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


def _file(folder: Path, text: str) -> Path:
    file = folder / "vars.toml"
    file.write_text(text)
    return file


def test_values_become_texts_and_sections_only_group(tmp_path: Path) -> None:
    file = _file(tmp_path, 'ARCHIVER_TARGET_SIZE_GB = 20.5\n[s3]\ns3_endpoint = "http://s3:9000"\n')

    assert find_variables(file) == {"archiver_target_size_gb": "20.5", "s3_endpoint": "http://s3:9000"}


def test_the_environment_wins_and_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_NUM_WORKERS", "3")
    monkeypatch.setenv("SCICAT_ENDPOINT", "https://scicat.example")

    found = find_variables(_file(tmp_path, "archiver_num_workers = 16"))

    assert found == {"archiver_num_workers": "3", "scicat_endpoint": "https://scicat.example"}


def test_an_empty_value_is_not_registered(tmp_path: Path) -> None:
    assert find_variables(_file(tmp_path, 's3_endpoint = ""')) == {}


def test_older_names_are_translated(tmp_path: Path) -> None:
    file = _file(tmp_path, 'minio_region = "eu-west-1"\nlts_storage_root = "/tmp/LTS"')

    assert read_variables(file) == {"s3_region": "eu-west-1", "lts_root_folder": "/tmp/LTS"}


def test_unknown_names_are_refused_all_at_once(tmp_path: Path) -> None:
    file = _file(tmp_path, 'archiver_num_worker = 1\nminio_staging_bucket = "staging"')

    with pytest.raises(ConfigurationError, match=r"archiver_num_worker, minio_staging_bucket \(.*no longer"):
        read_variables(file)


@pytest.mark.parametrize("name", ["s3_password", "ledger_url", "prefect_api_url"])
def test_secrets_and_the_way_to_the_server_are_no_variables(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_variables(_file(tmp_path, f'{name} = "x"'))


def test_a_value_that_does_not_fit_its_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="s3_url_expiration_days"):
        find_variables(_file(tmp_path, "s3_url_expiration_days = 8"))


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"vars\.toml"):
        read_variables(_file(tmp_path, "= 1"))


@pytest.mark.parametrize("name", ["vars_prod.toml", "vars_dev.toml"])
def test_the_files_of_the_deployments_fit(name: str) -> None:
    assert find_variables(find_configuration_file(name))["s3_landingzone_bucket"] == "landingzone"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no-such-file\.toml does not exist"):
        find_configuration_file("no-such-file.toml")
