"""The templates of a ``url`` action.

A small part of Handlebars: ``{{{ … }}}`` puts a value in as it is, ``{{ … }}`` with HTML escapes. Inside stands

- a path into the context: ``job.id``, ``job.jobParams.x``, ``env.HOOK_TOKEN``; nothing is put in if it is missing;
- ``jsonify PATH``: the value there as indented JSON;
- ``jsonify (job_v3 job)``: the job in the form of API v3.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from archiver.local.scicat.job_views import hook_view_v3

_HOLE = re.compile(r"\{\{\{\s*(?P<raw>.+?)\s*\}\}\}|\{\{\s*(?P<escaped>.+?)\s*\}\}", re.DOTALL)
_PATH = re.compile(r"(job|request|env)(\.\w+)*")
_JSONIFY = re.compile(r"jsonify\s+(?P<path>(?:job|request)(?:\.\w+)*)")
_JSONIFY_V3 = re.compile(r"jsonify\s+\(\s*job_v3\s+job\s*\)")


class Template:
    """A text with holes; raises ValueError when a hole holds something that is not simulated."""

    def __init__(self, text: str) -> None:
        self._text = text
        for hole in _HOLE.finditer(text):
            expression = hole["raw"] or hole["escaped"]
            if not any(form.fullmatch(expression) for form in (_PATH, _JSONIFY, _JSONIFY_V3)):
                raise ValueError(f"template expression {expression!r} is not one the simulator knows")

    def render(self, context: Mapping[str, Any]) -> str:
        """The text with every hole filled from ``context`` (keys ``job``, ``request``, ``env``)."""

        def fill(hole: re.Match[str]) -> str:
            if hole["raw"] is not None:
                return _value(hole["raw"], context)
            return html.escape(_value(hole["escaped"], context))

        return _HOLE.sub(fill, self._text)


def _value(expression: str, context: Mapping[str, Any]) -> str:
    if _JSONIFY_V3.fullmatch(expression):
        return json.dumps(hook_view_v3(context["job"]), indent=2)
    asked = _JSONIFY.fullmatch(expression)
    if asked is not None:
        return json.dumps(_look_up(asked["path"], context), indent=2)
    value = _look_up(expression, context)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _look_up(path: str, context: Mapping[str, Any]) -> Any:
    value: Any = context
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
