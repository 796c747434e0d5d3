"""`python -m tools.docs`: writes the pages that come from the code."""

import sys

from tools.docs.pages import PAGES
from tools.docs.source import ROOT


def main() -> None:
    """Write those that differ, and say which."""
    for name, make in PAGES.items():
        page, text = ROOT / "docs" / name, make()
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            sys.stdout.write(f"written: docs/{name}\n")


if __name__ == "__main__":
    main()
