"""Prefect variables: settings of the flows that are no secrets."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from pydantic import SecretStr, ValidationError

from archiver.config.register_changes import Change, ConfigurationError, keep, settle
from archiver.config.settings import FlowConfiguration
from archiver.config.sources import EnvironmentSettings, read_environment

log = structlog.get_logger(__name__)

FLOW_SETTINGS: tuple[type[EnvironmentSettings], ...] = tuple(
    field.annotation
    for field in FlowConfiguration.model_fields.values()
    if isinstance(field.annotation, type) and issubclass(field.annotation, EnvironmentSettings)
)
"""Settings that flows read from Prefect variables (and, where secret, from blocks)."""

# How a run reaches the server from which it reads its variables cannot be one of them.
_NO_VARIABLES = frozenset({"prefect_api_url"})

_OLDER_NAMES = {"lts_storage_root": "lts_root_folder"}
_OLDER_PREFIX, _PREFIX = "minio_", "s3_"

_GONE = {
    "s3_staging_bucket": "data sets are no longer staged in S3",
    "archiver_lts_wait_before_verify_s": "the share is polled now; see archiver_lts_file_timeout_s",
    "scicat_datasets_api_prefix": "data sets are read and written under scicat_api_prefix",
}


def known_variables() -> frozenset[str]:
    """Names that may be registered: every setting of the flows that is no secret."""
    return frozenset(
        name
        for settings in FLOW_SETTINGS
        for name, field in settings.model_fields.items()
        if field.annotation is not SecretStr and name not in _NO_VARIABLES
    )


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):  # a [section] only groups
            yield from _flat(value)
        else:
            yield key, value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ";".join(str(entry) for entry in value)
    return str(value)


def read_variables(file: Path) -> dict[str, str]:
    """Variables in a TOML file, by today's lower-case names; sections only group, older names are translated.

    Raises:
        ConfigurationError: the file cannot be read, or names something that is no setting of the flows.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read as TOML: {error}. Correct it.") from error
    known = known_variables()
    variables: dict[str, str] = {}
    refused: list[str] = []
    for key, value in _flat(document):
        name = key.lower()
        if name.startswith(_OLDER_PREFIX):
            name = _PREFIX + name.removeprefix(_OLDER_PREFIX)
        name = _OLDER_NAMES.get(name, name)
        if name not in known:
            refused.append(f"{key} ({_GONE[name]})" if name in _GONE else key)
            continue
        if name != key.lower():
            log.warning("older_variable_name", file=str(file), used=key, use_instead=name)
        variables[name] = _text(value)
    if refused:
        raise ConfigurationError(
            f"{file} names variables the flows do not have: {', '.join(refused)}. "
            f"Remove or correct them; known are {', '.join(sorted(known))}."
        )
    return variables


def find_variables(file: Path | None) -> dict[str, str]:
    """Variables to register: those of the file and those set in the environment, which wins. Empty ones are left out.

    Raises:
        ConfigurationError: the file is wrong, or a value does not fit its setting.
    """
    variables = read_variables(file) if file else {}
    for name in known_variables():
        value = read_environment(name.upper(), os.environ)
        if value is not None:
            variables[name] = value
    variables = {name: value for name, value in sorted(variables.items()) if value}
    for settings in FLOW_SETTINGS:
        own = {name: value for name, value in variables.items() if name in settings.model_fields}
        try:
            settings.load(own)
        except ValidationError as error:
            wrong = "; ".join(f"{entry['loc'][0]}: {entry['msg']}" for entry in error.errors())
            raise ConfigurationError(
                f"Variables of {file or 'the environment'} do not fit their settings: {wrong}. Correct them."
            ) from error
    return variables


def register_variables(client: SyncPrefectClient, variables: Mapping[str, str], *, dry_run: bool) -> Iterator[Change]:
    """Register each variable whose value is not there yet, and tell of those that nothing here sets (any more)."""
    for name in sorted(known_variables() - variables.keys()):
        if (left := client.read_variable_by_name(name)) is not None:
            yield keep("variable", name, str(left.value))
    for name, value in variables.items():
        existing = client.read_variable_by_name(name)

        def write(name: str = name, value: str = value, exists: bool = existing is not None) -> None:
            if exists:
                client.update_variable(VariableUpdate(name=name, value=value))
            else:
                client.create_variable(VariableCreate(name=name, value=value))

        yield settle(
            "variable",
            name,
            exists=existing is not None,
            equal=existing is not None and existing.value == value,
            write=write,
            dry_run=dry_run,
            detail=value,
        )
