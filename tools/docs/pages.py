"""All that in docs/ comes from the code."""

import json
from collections.abc import Callable, Mapping

from archiver.backend.openapi import document
from tools.docs import api, architecture, cli, metrics, settings

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/openapi.json": document,
    "reference/api.md": lambda: api.page(json.loads(document())),
    "reference/settings.md": settings.page,
    "reference/commands.md": cli.page,
    "reference/metrics.md": metrics.page,
    "explanation/architecture.svg": lambda: architecture.draw(architecture.package_parts()),
}
"""Makers of files, by their path in docs/."""
