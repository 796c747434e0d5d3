"""Pages that come from the code: that they say what the code says now, and how they are made."""

import ast
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from archiver.config.sources import EnvironmentSettings
from tools.docs import api, architecture, cli, settings
from tools.docs.markdown import table
from tools.docs.metrics import MadeMetric, made_metrics
from tools.docs.pages import PAGES
from tools.docs.source import attribute_docstrings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), f"docs/{name} is old: make reference"


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(("a", "b"), [("x|y", "one\ntwo")]).splitlines()[2] == r"| x\|y | one two |"


class Example(EnvironmentSettings):
    """Only for this test."""

    plain: str = ""
    told: int = 3
    """What it is for,
    in bytes."""
    other: str = ""


def test_what_stands_below_a_setting_is_its_meaning() -> None:
    assert attribute_docstrings(Example) == {"told": "What it is for, in bytes."}


def test_every_setting_of_the_service_is_described() -> None:
    page = settings.page()

    for name in ("LTS_ROOT_FOLDER", "SCICAT_INGESTOR_GROUPS", "PREFECT_VARS_FILE", "ARCHIVER_LOCAL_PORTS"):
        assert f"| `{name}` |" in page
    assert "| `S3_PASSWORD` | secret | none |" in page
    assert "| `S3_URL_EXPIRATION_DAYS` | whole number ≥ 1, ≤ 7 | `7` |" in page


def test_every_command_is_described() -> None:
    page = cli.page()

    for path, command in cli.commands(cli.app_command(), "archiver"):
        assert f"## {path}\n" in page
        assert command.help, f"{path} says nothing of itself"
        assert command.epilog in page
    assert "`-r, --root FOLDER`" in page


def test_metrics_are_found_where_they_are_made() -> None:
    module = ast.parse(
        """
labels = ("method", "status")
requests = Counter("archiver_requests_total", "Answered", labels, registry=registry)
def read():
    return [GaugeMetricFamily("archiver_bytes", "Held", 3), GaugeMetricFamily("archiver_runs", "Run", labels=["type"])]
other = Counter(words)
"""
    )

    assert set(made_metrics(module)) == {
        MadeMetric("archiver_requests_total", "counter", "Answered", ("method", "status")),
        MadeMetric("archiver_bytes", "gauge", "Held", ()),
        MadeMetric("archiver_runs", "gauge", "Run", ("type",)),
    }


def test_an_operation_is_shown_with_credentials_answers_and_bodies() -> None:
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}
    document: dict[str, Any] = {
        "paths": {
            "/x": {
                "post": {
                    "description": "Do it.",
                    "security": [{"A": []}, {"B": []}],
                    "requestBody": body,
                    "responses": {"422": {"description": "Wrong"}, "201": {"description": "Done", **body}},
                }
            }
        },
        "components": {"schemas": {"Body": {"properties": {"id": {"type": "string"}}, "required": ["id"]}}},
    }

    page = api.page(document)

    assert "## POST /x\n\nDo it.\n\nCredentials: A or B." in page
    assert page.index("| 201 | [Body](#body) | Done |") < page.index("| 422 | nothing | Wrong |")
    assert "### Body" in page
    assert "| `id` | string | yes |  |" in page


# ---------------------------------------------------------------------------------------------- architecture

IMPORTS = {
    "archiver": [],
    "archiver.cli": [],
    "archiver.cli.main": ["archiver.workflow.archiving", "archiver.workflow.errors"],
    "archiver.workflow": [],
    "archiver.workflow.archiving": ["archiver.workflow.storage.s3", "archiver.workflow.errors"],
    "archiver.workflow.storage": [],
    "archiver.workflow.storage.s3": ["archiver.workflow.errors"],
    "archiver.workflow.storage.parts.deep": [],
    "archiver.workflow.errors": ["archiver.config.settings"],
    "archiver.config": [],
    "archiver.config.settings": [],
}


def test_the_picture_has_a_box_for_each_part_and_arrows_only_where_they_say_something_new() -> None:
    found = architecture.parts(IMPORTS)

    assert [part.name.removeprefix("archiver.") for part in found] == [
        "cli",
        "config",
        "workflow.storage",
        "workflow: basics",
        "workflow: use cases",
    ]
    assert architecture.direct(found) == [
        ("archiver.cli", "archiver.workflow: use cases"),
        ("archiver.workflow.storage", "archiver.workflow: basics"),
        ("archiver.workflow: basics", "archiver.config"),
        ("archiver.workflow: use cases", "archiver.workflow.storage"),
    ]
    assert architecture.levels(found)["archiver.cli"] == 4


def test_parts_that_import_each_other_are_drawn_with_both_arrows() -> None:
    found = architecture.parts({"archiver.a.x": ["archiver.b.y"], "archiver.b.y": ["archiver.a.x"]})

    assert architecture.direct(found) == [("archiver.a", "archiver.b"), ("archiver.b", "archiver.a")]
    assert set(architecture.levels(found).values()) == {0}


def test_the_picture_is_drawn() -> None:
    picture = ElementTree.fromstring(architecture.draw(architecture.parts(IMPORTS)))
    named = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]

    assert "workflow: use cases" in named
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) == 5
    assert len([path for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("class") == "arrow"]) == 4


def test_the_openapi_document_is_one_of_the_pages() -> None:
    assert json.loads(PAGES["reference/openapi.json"]())["openapi"].startswith("3.")
