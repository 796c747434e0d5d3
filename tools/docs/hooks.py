"""What mkdocs does for this project while it builds: orders the kinds of pages, and lists the pages of each kind."""

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

_KINDS: Final = ("Tutorials", "How to", "Reference", "Explanation", "Decisions")
_DECISIONS_PAGE: Final = "decisions/index.md"
_DECISIONS_MARK: Final = "<!-- decisions -->"
_PAGES_MARK: Final = "<!-- pages -->"
_DECISION: Final = re.compile(r"# (?P<date>\d{4}-\d{2}-\d{2}) (?P<title>.+)")


class UndatedDecisionError(Exception):
    """A page of decisions does not begin with its date and title."""


def _place(item: Any) -> int:
    if isinstance(item, Section):
        return _KINDS.index(item.title) + 1 if item.title in _KINDS else len(_KINDS) + 1
    return 0


def on_nav(nav: Navigation, **_: Any) -> Navigation:
    """Put the kinds of pages into the order in which they are read."""
    nav.items.sort(key=_place)
    return nav


def decisions(folder: Path) -> str:
    """A table of the decisions in `folder`, newest first, in Markdown.

    Raises:
        UndatedDecisionError: a page's first line is not `# <date> <title>`.
    """
    rows = []
    for page in sorted(folder.glob("[0-9]*.md"), reverse=True):
        heading = _DECISION.fullmatch(page.read_text(encoding="utf-8").partition("\n")[0])
        if heading is None:
            raise UndatedDecisionError(f"{page} must begin with '# <date> <title>'.")
        rows.append(f"| {heading['date']} | [{heading['title']}]({page.name}) |")
    return "\n".join(["| date | decision |", "|---|---|", *rows])


def pages(folder: Path) -> str:
    """A list of the other pages in `folder` by their titles, in Markdown."""
    titles = {
        page.name: page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for page in folder.glob("*.md")
        if page.name != "index.md"
    }
    return "\n".join(f"* [{title}]({name})" for name, title in sorted(titles.items(), key=lambda item: item[1]))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Fill in the lists of decisions and of pages."""
    folder = (Path(config.docs_dir) / page.file.src_uri).parent
    if page.file.src_uri == _DECISIONS_PAGE:
        markdown = markdown.replace(_DECISIONS_MARK, decisions(folder))
    return markdown.replace(_PAGES_MARK, pages(folder)) if _PAGES_MARK in markdown else markdown
