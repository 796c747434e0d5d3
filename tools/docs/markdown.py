"""Pieces of Markdown."""

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """A text that can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cell(each) for each in row)} |" for row in rows]
    return "\n".join(lines)


def generated(title: str, *parts: str) -> str:
    """A page that says that it was written by a tool."""
    note = "*Written by `make reference` from the code; a test compares.*"
    return "\n\n".join([f"# {title}", note, *(part.strip("\n") for part in parts)]) + "\n"
