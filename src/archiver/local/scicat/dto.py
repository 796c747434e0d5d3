"""Validation of request bodies: known fields only, each of its type, with the backend's kind of messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archiver.local.scicat.errors import ApiError, hand_made, invalid
from archiver.local.scicat.values import dumps, parse_iso

Kind = Literal[
    "string", "text", "email", "emails", "date", "integer", "number", "boolean", "object", "strings", "objects",
    "address", "anything", "files",
]  # fmt: skip

_EMAIL = re.compile(r"[^@\s;]+@[^@\s;]+")
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)?[\w.-]+(:\d+)?(/\S*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Field:
    """What one field of a body must be."""

    kind: Kind
    required: bool = False


@dataclass(frozen=True)
class Problem:
    """One field that is wrong: the object it is in (``""`` or ``dataFileList.0.``), which rule, and the text."""

    where: str
    name: str
    constraint: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}{self.text}"


Spec = Mapping[str, Field]

FILE: Spec = {
    "path": Field("string", required=True),
    "size": Field("number", required=True),
    "time": Field("date", required=True),
    "chk": Field("string"),
    "uid": Field("string"),
    "gid": Field("string"),
    "perm": Field("string"),
    "type": Field("string"),
}


def optional(spec: Spec) -> Spec:
    """The same fields with none of them required (a PATCH)."""
    return {name: Field(field.kind) for name, field in spec.items()}


def problems(body: Any, spec: Spec, where: str = "") -> list[Problem]:
    """Everything wrong with ``body`` measured by ``spec``; ``null`` counts as not given."""
    given = body if isinstance(body, dict) else {}
    found = [
        Problem(where, name, "whitelistValidation", f"property {name} should not exist")
        for name in given
        if name not in spec
    ]
    for name, field in spec.items():
        value = given.get(name)
        if value is None:
            if field.required:
                constraint, text, _ = _CHECKS[field.kind]
                found.append(Problem(where, name, constraint, text.format(name)))
            continue
        constraint, text, check = _CHECKS[field.kind]
        if not check(value):
            found.append(Problem(where, name, constraint, text.format(name)))
        elif field.kind == "files":
            for index, entry in enumerate(value):
                if not _is_plain_file(entry):
                    found += problems(entry, FILE, f"{where}{name}.{index}.")
    return found


def _is_plain_file(entry: Any) -> bool:
    # Data sets have hundreds of thousands of entries, nearly all of them good.
    if not isinstance(entry, dict) or not entry.keys() <= FILE.keys():
        return False
    size, moment = entry.get("size"), entry.get("time")
    texts = (value for name, value in entry.items() if name != "size")
    return (
        "path" in entry
        and type(size) in {int, float}
        and all(type(value) is str for value in texts)
        and isinstance(moment, str)
        and parse_iso(moment) is not None
    )


def check(body: Any, spec: Spec) -> dict[str, Any]:
    """``body`` if it fits ``spec``; raises the 400 whose message is a list."""
    found = problems(body, spec)
    if found:
        raise invalid([str(problem) for problem in found])
    return body if isinstance(body, dict) else {}


def nested_errors(found: list[Problem]) -> ApiError:
    """The 400 of v3 data sets, whose message is itself JSON text."""
    by_name: dict[str, dict[str, str]] = {}
    for problem in found:
        by_name.setdefault(problem.name, {})[problem.constraint] = problem.text
    listed = [{"property": name, "children": [], "constraints": constraints} for name, constraints in by_name.items()]
    return hand_made(400, dumps(listed))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kind) for one in value)


def is_email(value: Any) -> bool:
    """Whether ``value`` is one e-mail address."""
    return isinstance(value, str) and _EMAIL.fullmatch(value) is not None


_CHECKS: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "string": ("isString", "{} must be a string", lambda value: isinstance(value, str)),
    "text": ("isNotEmpty", "{} should not be empty", lambda value: isinstance(value, str) and value != ""),
    "email": ("isEmail", "{} must be an email", is_email),
    "emails": (
        "customContactEmail",
        "{} must hold one e-mail address or several with ; between them",
        lambda value: isinstance(value, str) and all(is_email(one.strip()) for one in value.split(";")),
    ),
    "date": (
        "isDateString",
        "{} must be a valid ISO 8601 date string",
        lambda value: isinstance(value, str) and parse_iso(value) is not None,
    ),
    "integer": (
        "isInt",
        "{} must be an integer number",
        lambda value: _is_number(value) and value == int(value),
    ),
    "number": ("isNumber", "{} must be a number", _is_number),
    "boolean": ("isBoolean", "{} must be a boolean value", lambda value: isinstance(value, bool)),
    "object": ("isObject", "{} must be an object", lambda value: isinstance(value, dict)),
    "strings": ("isString", "each value in {} must be a string", _is_list_of(str)),
    "objects": ("isArray", "{} must be an array of objects", _is_list_of(dict)),
    "address": (
        "isUrl",
        "{} must be a URL address",
        lambda value: isinstance(value, str) and _ADDRESS.fullmatch(value) is not None,
    ),
    "anything": ("isDefined", "{} should be given", lambda value: True),
    "files": ("arrayNotEmpty", "{} should not be empty", lambda value: isinstance(value, list) and bool(value)),
}
