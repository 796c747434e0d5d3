"""The reference of settings, from the classes that read them."""

import types
import typing
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from archiver.config import settings as service
from archiver.config.register import RegistrationSettings
from archiver.config.settings import ApiConfiguration, FlowConfiguration
from archiver.config.sources import EnvironmentSettings
from archiver.local.settings import LocalSettings
from tools.docs.markdown import generated, table
from tools.docs.source import ROOT, attribute_docstrings

_INTRODUCTION = """\
Every setting is an environment variable. A secret may also be a file: `NAME_FILE` names it, and a newline at its
end is stripped. An empty value counts as not set. Names of the older service (`MINIO_*` for `S3_*`,
`SCICAT_INGESTOR_GROUP` for `SCICAT_INGESTOR_GROUPS`, `LTS_STORAGE_ROOT` for `LTS_ROOT_FOLDER`) are read where the new
one is not set, with a warning.

Flows read, in this order: their environment, the Prefect variable (or, for secrets, the block) of the lower-case name
that `archiver configure` registered, the default."""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}


def _classes() -> list[type[EnvironmentSettings]]:
    found = [
        value
        for value in vars(service).values()
        if isinstance(value, type) and issubclass(value, EnvironmentSettings) and value is not EnvironmentSettings
    ]
    return [*found, RegistrationSettings, LocalSettings]


def _readers(cls: type[EnvironmentSettings]) -> str:
    names = [
        reader
        for reader, configuration in (("the API", ApiConfiguration), ("flows and reconciliation", FlowConfiguration))
        if any(field.annotation is cls for field in configuration.model_fields.values())
    ]
    return f"Read by {' and '.join(names)}." if names else ""


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(each) for each in arguments if each is not types.NoneType)
    if origin is tuple:
        return "texts, parted by `;`"
    if origin is typing.Annotated:
        return _type(arguments[0])
    return _WORDS.get(annotation, str(annotation))


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    said = [
        f"{sign} {getattr(entry, name):,}"
        for entry in field.metadata
        for name, sign in signs.items()
        if hasattr(entry, name)
    ]
    return f" {', '.join(said)}" if said else ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "from this machine" if field.default_factory else "must be set"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple):
        value = ";".join(value)
    if value in ("", None):
        return "none"
    shown = str(value).replace(str(ROOT), "<checkout>")
    return f"`{shown}`"


def _rows(cls: type[EnvironmentSettings]) -> Iterable[tuple[str, str, str, str]]:
    meanings = attribute_docstrings(cls)
    for name, field in cls.model_fields.items():
        yield (
            f"`{name.upper()}`",
            _type(field.annotation) + _bounds(field),
            _default(field),
            meanings.get(name, "") or (field.description or ""),
        )


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for cls in _classes():
        title = " ".join((cls.__doc__ or cls.__name__).split("\n\n", maxsplit=1)[0].split())
        parts += [f"## {title.rstrip('.')}", *filter(None, [_readers(cls)])]
        parts.append(table(("setting", "type", "default", "meaning"), _rows(cls)))
    return generated("Settings", *parts)
