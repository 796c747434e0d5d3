"""Checks of ``validate`` actions: a path into a document and a small part of JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}

_KEYWORDS: dict[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, wanted: type(value) is type(wanted) and value == wanted,
    "enum": lambda value, wanted: any(type(value) is type(one) and value == one for one in wanted),
    "type": lambda value, wanted: _TYPES[wanted](value),
    "pattern": lambda value, wanted: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minimum": lambda value, wanted: not _TYPES["number"](value) or value >= wanted,
    "maximum": lambda value, wanted: not _TYPES["number"](value) or value <= wanted,
    "minItems": lambda value, wanted: not isinstance(value, list) or len(value) >= wanted,
    "maxItems": lambda value, wanted: not isinstance(value, list) or len(value) <= wanted,
}


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ValueError if ``schema`` uses a keyword or type that is not simulated."""
    for keyword, wanted in schema.items():
        if keyword not in _KEYWORDS:
            raise ValueError(f"schema keyword {keyword!r} is none of {', '.join(sorted(_KEYWORDS))}")
        if keyword == "type" and wanted not in _TYPES:
            raise ValueError(f"schema type {wanted!r} is none of {', '.join(sorted(_TYPES))}")


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether ``value`` satisfies every keyword of ``schema``."""
    return all(_KEYWORDS[keyword](value, wanted) for keyword, wanted in schema.items())


def find(document: Any, path: str) -> list[Any]:
    """The values at ``path`` (``a.b``, ``$.a.b``, ``a[*].b``, ``a[0]``); empty if there are none."""
    found = [document]
    for step in re.findall(r"[^.\[\]]+", path.removeprefix("$")):
        following: list[Any] = []
        for value in found:
            if isinstance(value, list):
                if step == "*":
                    following += value
                elif step.isdigit() and int(step) < len(value):
                    following.append(value[int(step)])
            elif isinstance(value, dict):
                if step == "*":
                    following += value.values()
                elif step in value:
                    following.append(value[step])
        found = following
    return found
