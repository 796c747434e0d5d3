"""The reference of the `archiver` command, from the command itself."""

from collections.abc import Iterator
from typing import Any

import typer

from archiver.cli.main import app
from tools.docs.markdown import generated, table

_INTRODUCTION = """\
`archiver --help`, and `--help` after each command, say the same. Settings are read from the
environment ([settings](settings.md)). Answers go to standard output, all else to standard error.

Exit codes: 0 good, 1 an error that is said in one message, 2 wrong use; what 3 means, if anything, stands below each
command."""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name; groups are walked through."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from commands(child, f"{path} {name}")


def _usage(path: str, command: Any, context: typer.Context) -> str:
    return f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```"


def _words(parameter: Any, context: typer.Context) -> tuple[str, str]:
    names, meaning = parameter.get_help_record(context)
    return f"`{names}`", meaning


def app_command() -> Any:
    """The command as click knows it."""
    return typer.main.get_command(app)


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for path, command in commands(app_command(), "archiver"):
        context = typer.Context(command, info_name=path)
        parts += [f"## {path}", _usage(path, command, context), (command.help or "").replace("\f", "").strip()]
        rows = [_words(each, context) for each in command.params if each.get_help_record(context)]
        if rows:
            parts.append(table(("", ""), rows))
        parts.append(command.epilog or "")
    return generated("Commands", *parts)
