"""What a request asks a list for: which documents, which fields, which relations, in which order, how many."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from archiver.local.scicat.errors import ApiError, invalid, refused
from archiver.local.scicat.matching import from_loopback, matches, values_at
from archiver.local.scicat.values import Document

RELATIONS = frozenset({"instruments", "proposals", "origdatablocks", "datablocks", "attachments", "samples", "all"})
V3_LIMIT = 100
V4_LIMIT = 10

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Query:
    """One list request. ``order`` holds (dotted path, descending) pairs; ``limit`` None means all."""

    where: Mapping[str, Any]
    fields: tuple[str, ...] | None = None
    include: tuple[tuple[str, Query], ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    skip: int = 0


EVERYTHING = Query(where={})


def v3_query(parameter: str | None, header: str | None, *, limit: int | None = V3_LIMIT) -> Query:
    """Read a v3 filter from the ``filter`` parameter or header; raises the 400s."""
    if parameter is not None and header is not None:
        raise refused(400, "Give the filter as a parameter or as a header, not both")
    text = parameter if parameter is not None else header
    return v3_filter({} if not text else json_object(text, "filter"), limit=limit)


def v3_filter(asked: Mapping[str, Any], *, limit: int | None = V3_LIMIT) -> Query:
    """A v3 filter that is parsed already; ``limit`` holds where the filter names none."""
    limits = _object(asked.get("limits"), "limits")
    return Query(
        where=from_loopback(_object(asked.get("where"), "where")),
        fields=_fields(asked.get("fields")),
        include=_include(asked.get("include")),
        order=_v3_order(limits.get("order")),
        limit=whole_number(limits.get("limit"), "limit") or limit,
        skip=whole_number(limits.get("skip"), "skip") or 0,
    )


def v4_query(parameter: str | None, *, default_order: str | None = "createdAt") -> Query:
    """Read a v4 filter; 10 documents, newest first, where it names nothing else. Raises the 400s."""
    asked = json_object(parameter, "filter") if parameter else {}
    unknown = sorted(set(asked) - {"where", "fields", "include", "limits"})
    if unknown:
        raise invalid([f"property {name} should not exist" for name in unknown])
    limits = _object(asked.get("limits"), "limits")
    order = tuple(
        (path, str(way).lower() in {"desc", "descending", "-1"})
        for path, way in _object(limits.get("sort"), "sort").items()
    )
    if not order and default_order is not None:
        order = ((default_order, True),)
    return Query(
        where=_object(asked.get("where"), "where"),
        fields=_fields(asked.get("fields")),
        include=_include(asked.get("include")),
        order=order,
        limit=whole_number(limits.get("limit"), "limit") or V4_LIMIT,
        skip=whole_number(limits.get("skip"), "skip") or 0,
    )


def job_query(parameter: str | None) -> Query:
    """Read the filter of v4's job list: no default limit, ``limits.sort`` without effect. Raises the 400s."""
    asked = json_object(parameter, "filter") if parameter else {}
    unknown = sorted(set(asked) - {"where", "fields", "include", "limits", "sort"})
    if unknown:
        raise invalid([f"property {name} should not exist" for name in unknown])
    sort = _object(asked.get("sort"), "sort")
    if any(way not in (1, -1) for way in sort.values()):
        raise refused(400, "sort takes 1 and -1 only")
    limits = _object(asked.get("limits"), "limits")
    include = asked.get("include") or []
    return Query(
        where=_object(asked.get("where"), "where"),
        fields=_fields(asked.get("fields")),
        include=(("datasets", EVERYTHING),) if "datasets" in include else (),
        order=tuple((path, way == -1) for path, way in sort.items()),
        limit=whole_number(limits.get("limit"), "limit"),
        skip=whole_number(limits.get("skip"), "skip") or 0,
    )


def json_object(text: str, name: str) -> dict[str, Any]:
    """The JSON object in a query parameter; raises the 400."""
    try:
        return _object(json.loads(text), name)
    except json.JSONDecodeError as error:
        raise refused(400, f"The {name} is not JSON") from error


def relations(names: Iterable[Any]) -> tuple[str, ...]:
    """The names of relations to include, ``all`` spelt out; raises the 400 for an unknown one."""
    asked = list(names)
    for name in asked:
        if not isinstance(name, str) or name not in RELATIONS:
            raise refused(400, f"There is no relation {name}")
    return tuple(sorted(RELATIONS - {"all"})) if "all" in asked else tuple(asked)


def select(
    items: Iterable[_Item], query: Query, view: Callable[[_Item], Document], *, limit_first: bool = False
) -> list[_Item]:
    """The items whose ``view`` fulfils the query, ordered and cut.

    ``limit_first`` cuts to the limit before skipping, as the job list does.
    """
    kept = [item for item in items if not query.where or matches(view(item), query.where)]
    for path, descending in reversed(query.order):
        kept.sort(key=lambda item, path=path: _rank(values_at(view(item), path)), reverse=descending)  # type: ignore[misc]
    end = None if query.limit is None else query.limit + (0 if limit_first else query.skip)
    return kept[:end][query.skip :]


def project(document: Document, fields: tuple[str, ...] | None) -> Document:
    """``document`` with only these dotted fields (and ``_id``), or all of it for None."""
    if fields is None:
        return document
    result: Document = {"_id": document["_id"]} if "_id" in document else {}
    for path in fields:
        _copy(document, result, path.split("."))
    return result


def _copy(source: Any, target: Document, steps: list[str]) -> None:
    step, *rest = steps
    if not isinstance(source, dict) or step not in source:
        return
    value = source[step]
    if not rest:
        target[step] = value
    elif isinstance(value, list):
        parts = [part if isinstance(part, dict) else {} for part in target.setdefault(step, [{} for _ in value])]
        target[step] = parts
        for one, part in zip(value, parts, strict=True):
            _copy(one, part, rest)
    elif isinstance(value, dict):
        _copy(value, target.setdefault(step, {}), rest)


def _rank(values: list[Any]) -> tuple[int, Any]:
    value = values[0] if values else None
    if isinstance(value, bool):
        return (3, value)
    if isinstance(value, int | float):
        return (1, value)
    return (2, value) if isinstance(value, str) else (0, 0)


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name)
    return value


def whole_number(value: Any, name: str) -> int | None:
    """A limit or skip as it was given; raises the 400 for anything but a number from 0 on."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name)
    return value


def _fields(value: Any) -> tuple[str, ...] | None:
    if not value:
        return None
    if isinstance(value, dict):
        return tuple(name for name, wanted in value.items() if wanted)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise _wrong("fields")


def _include(value: Any) -> tuple[tuple[str, Query], ...]:
    if not value:
        return ()
    result: list[tuple[str, Query]] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            scope = v3_filter(_object(one.get("scope"), "scope"), limit=None)
            result += [(name, scope) for name in relations([one.get("relation")])]
        else:
            result += [(name, EVERYTHING) for name in relations([one])]
    return tuple(result)


def _v3_order(value: Any) -> tuple[tuple[str, bool], ...]:
    if not value:
        return ()
    if not isinstance(value, str):
        raise _wrong("order")
    parts = (part.strip().partition(":") for part in value.split(","))
    return tuple((path, way.lower() == "desc") for path, _, way in parts)


def _wrong(name: str) -> ApiError:
    return refused(400, f"The filter's {name} has the wrong form")
