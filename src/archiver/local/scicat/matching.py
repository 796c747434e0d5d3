"""Which documents a ``where`` selects: MongoDB's operators, and Loopback's on top of them for API v3.

Dates are stored as text here and as dates in the real catalogue, where a date never equals a text. The names
in ``DATE_FIELDS`` keep that difference: they match dates only, every other field matches no date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from archiver.local.scicat.errors import unhandled
from archiver.local.scicat.js_dates import js_date
from archiver.local.scicat.values import Document, parse_iso

DATE_FIELDS = frozenset(
    {
        "creationTime",
        "startTime",
        "endTime",
        "createdAt",
        "updatedAt",
        "dataFileList.time",
        "datasetlifecycle.dateOfDiskPurging",
        "datasetlifecycle.archiveRetentionTime",
        "datasetlifecycle.dateOfPublishing",
        "datasetlifecycle.publishedOn",
    }
)

_LOOPBACK = {
    "eq": "$eq",
    "neq": "$ne",
    "gt": "$gt",
    "gte": "$gte",
    "lt": "$lt",
    "lte": "$lte",
    "inq": "$in",
    "nin": "$nin",
    "exists": "$exists",
    "and": "$and",
    "or": "$or",
    "nor": "$nor",
}


def from_loopback(where: Any) -> Any:
    """A v3 ``where`` in MongoDB's words, with every text that JavaScript takes for a date made a date."""
    if isinstance(where, dict):
        translated: dict[str, Any] = {}
        for key, value in where.items():
            if key in {"like", "ilike", "regexp"}:
                translated |= {"$regex": from_loopback(value), "$options": "i" if key == "ilike" else ""}
            else:
                translated[_LOOPBACK.get(str(key), str(key))] = from_loopback(value)
        return translated
    if isinstance(where, list):
        return [from_loopback(value) for value in where]
    if isinstance(where, str):
        return js_date(where) or where
    return where


def matches(document: Document, where: Mapping[str, Any]) -> bool:
    """Whether ``document`` fulfils ``where``; an unknown operator fails like the real one (500)."""
    return all(_clause(document, key, condition) for key, condition in where.items())


def names_files(where: Any) -> bool:
    """Whether ``where`` asks for anything in ``dataFileList``."""
    if isinstance(where, Mapping):
        return any(key.split(".")[0] == "dataFileList" or names_files(value) for key, value in where.items())
    return isinstance(where, list) and any(names_files(value) for value in where)


def values_at(value: Any, path: str) -> list[Any]:
    """The values at a dotted path, fanning out over arrays; empty if the path leads nowhere."""
    found = [value]
    for step in path.split("."):
        following: list[Any] = []
        for one in found:
            if isinstance(one, Mapping):
                if step in one:
                    following.append(one[step])
            elif isinstance(one, list):
                if step.isdigit():
                    following += one[int(step) : int(step) + 1]
                following += [part[step] for part in one if isinstance(part, Mapping) and step in part]
        found = following
    return found


def _clause(document: Document, key: str, condition: Any) -> bool:
    if key in {"$and", "$or", "$nor"}:
        if not isinstance(condition, list):
            raise unhandled()
        results = (matches(document, one) for one in condition)
        if key == "$and":
            return all(results)
        return any(results) if key == "$or" else not any(results)
    if key.startswith("$"):
        raise unhandled()
    values = values_at(document, key)
    if key in DATE_FIELDS:
        values = [parse_iso(one) if isinstance(one, str) else one for one in values]
    return _holds(values, condition)


def _holds(values: list[Any], condition: Any) -> bool:
    if isinstance(condition, dict) and any(name.startswith("$") for name in condition):
        return all(_operator(values, name, wanted, condition) for name, wanted in condition.items())
    return _equals(values, condition)


def _operator(values: list[Any], name: str, wanted: Any, condition: Mapping[str, Any]) -> bool:
    simple = _OPERATORS.get(name)
    if simple is not None:
        return simple(values, wanted)
    if name == "$regex":
        return _regex(values, wanted, str(condition.get("$options", "")))
    if name == "$options" and "$regex" in condition:
        return True
    if name == "$not":
        return not _holds(values, wanted)
    if name == "$elemMatch":
        lists = [one for one in values if isinstance(one, list)]
        return any(isinstance(part, dict) and matches(part, wanted) for one in lists for part in one)
    raise unhandled()


def _with_elements(values: list[Any]) -> list[Any]:
    return values + [part for one in values if isinstance(one, list) for part in one]


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted)


def _equals(values: list[Any], wanted: Any) -> bool:
    if wanted is None and not values:
        return True
    return any(_same(one, wanted) for one in _with_elements(values))


def _compared(test: Callable[[Any, Any], bool]) -> Callable[[list[Any], Any], bool]:
    def compare(values: list[Any], wanted: Any) -> bool:
        return any(_comparable(one, wanted) and test(one, wanted) for one in _with_elements(values))

    return compare


def _comparable(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return isinstance(value, bool) and isinstance(wanted, bool)
    kinds: tuple[type | tuple[type, ...], ...] = ((int, float), str, datetime)
    return any(isinstance(value, kind) and isinstance(wanted, kind) for kind in kinds)


def _one_of(values: list[Any], wanted: Any) -> bool:
    if not isinstance(wanted, list):
        raise unhandled()
    return any(_equals(values, one) for one in wanted)


def _regex(values: list[Any], pattern: Any, options: str) -> bool:
    if not isinstance(pattern, str):
        return False
    try:
        compiled = re.compile(pattern, re.IGNORECASE if "i" in options else 0)
    except re.error as error:
        raise unhandled() from error
    return any(isinstance(one, str) and compiled.search(one) for one in _with_elements(values))


_OPERATORS: dict[str, Callable[[list[Any], Any], bool]] = {
    "$eq": _equals,
    "$ne": lambda values, wanted: not _equals(values, wanted),
    "$gt": _compared(lambda one, wanted: bool(one > wanted)),
    "$gte": _compared(lambda one, wanted: bool(one >= wanted)),
    "$lt": _compared(lambda one, wanted: bool(one < wanted)),
    "$lte": _compared(lambda one, wanted: bool(one <= wanted)),
    "$in": _one_of,
    "$nin": lambda values, wanted: not _one_of(values, wanted),
    "$exists": lambda values, wanted: bool(values) is bool(wanted),
    "$size": lambda values, wanted: any(isinstance(one, list) and len(one) == wanted for one in values),
    "$all": lambda values, wanted: isinstance(wanted, list) and all(_equals(values, one) for one in wanted),
}
