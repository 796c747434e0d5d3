"""Where settings come from: the environment, secret files, names of older deployments, Prefect variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import structlog
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

log = structlog.get_logger(__name__)

FILE_SUFFIX = "_FILE"


class UnreadableSecretFileError(Exception):
    """A `*_FILE` setting names a file that cannot be read."""


def _older_names(name: str) -> list[str]:
    """Names under which deployments of the older service set `name`."""
    if name == "SCICAT_INGESTOR_GROUPS":
        return ["SCICAT_INGESTOR_GROUP"]
    if name.startswith("S3_"):
        return ["MINIO_" + name.removeprefix("S3_")]
    if name == "LTS_ROOT_FOLDER":
        return ["LTS_STORAGE_ROOT"]
    return []


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UnreadableSecretFileError(
            f"{name}{FILE_SUFFIX} names {path}, which cannot be read: {reason}. Create the file or correct the setting."
        ) from error


def read_environment(name: str, environment: Mapping[str, str]) -> str | None:
    """The value of `name`: itself, the file its `_FILE` sibling names, or its older name (with a warning).

    An empty value or file counts as not set, because compose files pass on unset variables as empty ones.
    """
    for candidate in [name, *_older_names(name)]:
        value = environment.get(candidate) or None
        if value is None and (path := environment.get(candidate + FILE_SUFFIX)):
            value = _read_secret(candidate, path) or None
        if value is not None:
            if candidate != name:
                log.warning("older_setting_name", used=candidate, use_instead=name)
            return value
    return None


class _Environment(PydanticBaseSettingsSource):
    """Fields by their upper-case names from the process environment."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return read_environment(field_name.upper(), os.environ), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


class EnvironmentSettings(BaseSettings):
    """Base of all settings: every field is read from the environment variable of its upper-case name.

    Order: arguments, environment (`NAME`, `NAME_FILE`, older names), default.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment as this service reads it; no other source."""
        return init_settings, _Environment(settings_cls)

    @classmethod
    def load(cls, registered: Mapping[str, str] | None = None) -> Self:
        """Settings with `registered` values (Prefect variables and secret blocks) below the environment.

        `registered` maps lower-case field names to values; empty ones count as not set.
        """
        missing: dict[str, Any] = {
            name: registered[name]
            for name in cls.model_fields
            if registered and registered.get(name) and read_environment(name.upper(), os.environ) is None
        }
        return cls(**missing)
