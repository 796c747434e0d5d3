"""What a command answers: lines for people, or one JSON document for programs, both as it comes to be known."""

import json
from types import TracebackType
from typing import Self

import typer


class Answer:
    """Answers with some fields, a list of any length (unless it has no name), and more fields.

    As JSON, `complete` in the document says whether all of it was written.
    """

    def __init__(self, list_name: str | None, *, as_json: bool, **fields: object) -> None:
        self._name = list_name
        self._as_json = as_json
        self._first = fields
        self._last: dict[str, object] = {}
        self._items = 0

    def __enter__(self) -> Self:
        if self._as_json:
            head = "".join(f"{json.dumps(name)}: {json.dumps(value)}, " for name, value in self._first.items())
            typer.echo("{" + head + (f"{json.dumps(self._name)}: [" if self._name else ""), nl=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._as_json:
            last = {**self._last, "complete": error is None}
            fields = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in last.items())
            end = "\n], " if self._items else "], "
            typer.echo(f"{end if self._name else ''}{fields}}}")

    def text(self, line: str) -> None:
        """A line for people."""
        if not self._as_json:
            typer.echo(line)

    def item(self, record: object, *lines: str) -> None:
        """An item of the list: for programs, and for people."""
        if self._as_json:
            typer.echo(f"{',' if self._items else ''}\n{json.dumps(record)}", nl=False)
        else:
            for line in lines:
                typer.echo(line)
        self._items += 1

    def end(self, line: str, **fields: object) -> None:
        """What comes after the list."""
        self._last = fields
        self.text(line)


def shown(name: str) -> str:
    """A name as people can read it on one line, quoted where it has anything odd in it."""
    return name if name.isprintable() and name == name.strip() and name else repr(name)
