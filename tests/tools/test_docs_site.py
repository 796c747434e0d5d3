"""The documentation as it is built: strict, and without anything from other hosts."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tools.docs.hooks import UndatedDecisionError, decisions

ROOT = Path(__file__).parents[2]
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src"}


class _Fetches(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        if value := given.get(FETCHED.get(tag, "")):
            self.found.append(value)


def _build(config: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(site)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = _build(ROOT / "mkdocs.yml", target)
    assert done.returncode == 0, done.stderr
    return target


def test_a_page_fetches_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        fetches = _Fetches()
        fetches.feed(page.read_text(encoding="utf-8"))
        assert fetches.found, page
        assert [each for each in fetches.found if re.match(r"(https?:)?//", each)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet
    assert len(pages) > 5


def test_no_page_has_a_diagram_that_the_theme_would_fetch_a_script_for(site: Path) -> None:
    assert [page for page in site.rglob("*.html") if 'class="mermaid"' in page.read_text(encoding="utf-8")] == []


def test_the_kinds_of_pages_come_in_the_order_they_are_read_in(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    tabs = re.findall(r'class="md-tabs__link">\s*(.*?)\s*</a>', page, re.DOTALL)

    assert tabs == ["Archiver", "Tutorials", "How to", "Reference", "Explanation", "Decisions"]


def test_every_decision_is_listed(site: Path) -> None:
    listed = (site / "decisions" / "index.html").read_text(encoding="utf-8")

    for page in (ROOT / "docs" / "decisions").glob("[0-9]*.md"):
        assert f'href="{page.stem}.html"' in listed


@pytest.mark.parametrize("link", ["missing.md", "index.md#missing", "/index.md"])
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, link: str) -> None:
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n[link]({link})\n")
    own = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("tools/docs", str(ROOT / "tools" / "docs"))
    (tmp_path / "mkdocs.yml").write_text(own)

    done = _build(tmp_path / "mkdocs.yml", tmp_path / "site")

    assert done.returncode != 0
    assert link.removeprefix("/") in done.stderr


@pytest.mark.parametrize("kind", ["how-to", "explanation"])
def test_every_page_of_a_kind_is_listed(site: Path, kind: str) -> None:
    listed = (site / kind / "index.html").read_text(encoding="utf-8").partition("<article")[2]

    for page in (ROOT / "docs" / kind).glob("*.md"):
        assert page.stem == "index" or f'href="{page.stem}.html"' in listed


def test_decisions_are_listed_newest_first(tmp_path: Path) -> None:
    (tmp_path / "2026-01-02-a.md").write_text("# 2026-01-02 Older\n\nText.\n")
    (tmp_path / "2026-03-04-b.md").write_text("# 2026-03-04 Newer\n")
    (tmp_path / "index.md").write_text("# Decisions\n")

    assert decisions(tmp_path).splitlines()[2:] == [
        "| 2026-03-04 | [Newer](2026-03-04-b.md) |",
        "| 2026-01-02 | [Older](2026-01-02-a.md) |",
    ]


def test_a_decision_without_a_date_is_refused(tmp_path: Path) -> None:
    (tmp_path / "2026-01-02-a.md").write_text("# Undated\n")

    with pytest.raises(UndatedDecisionError, match="2026-01-02-a"):
        decisions(tmp_path)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_documentation_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tests_that_are_said_to_hold_a_promise_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "promises.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))

    assert len(named) > 10
    assert {name for name in named if not (ROOT / name).is_file()} == set()
