"""`archiver up`, `down`, `demo`: the embedded stack on this machine; and its parts, for `archiver status`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archiver.cli.errors import EXIT_CODES, CommandError

if TYPE_CHECKING:
    from archiver.local.settings import LocalSettings
    from archiver.local.state import StackState

Folder = Annotated[
    Path | None, typer.Option("--folder", "-f", help="Data folder of the stack [ARCHIVER_LOCAL_FOLDER].")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]

_PIPED_WIDTH = 160
_COLOURS = {
    "ready": "green",
    "done": "green",
    "dead": "red",
    "failed": "red",
    "degraded": "red",
    "killed": "red",
    "starting": "yellow",
}


def _settings(folder: Path | None, **more: object) -> "LocalSettings":
    from archiver.local.settings import LocalSettings

    given: dict[str, object] = {} if folder is None else {"archiver_local_folder": folder}
    return LocalSettings.model_validate(given | more)


class _Progress:
    """A line for each part that became ready or died."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._shown: dict[str, tuple[str, int | None]] = {}

    def __call__(self, state: "StackState") -> None:
        from archiver.local.state import PartState

        for part in state.parts:
            seen = (part.state, part.pid)
            if self._shown.get(part.name) == seen:
                continue
            self._shown[part.name] = seen
            if part.state in (PartState.READY, PartState.DONE):
                self._console.print(f"[green]✓[/] {part.name:<26} {part.ready_after_s or 0:5.1f} s  [dim]{part.url}[/]")
            elif part.state is PartState.DEAD:
                self._console.print(f"[red]✗[/] {part.name:<26} [dim]{part.log}[/]")


def _public(state: "StackState") -> dict[str, Any]:
    """The state without secrets."""
    shown: dict[str, Any] = state.model_dump(mode="json", exclude={"credentials", "environment"})
    return shown | {"state_file": str(state.folder / "stack.json")}


def _print_table(state: "StackState") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("part", "pid", "state", "url", "log"):
        table.add_column(heading, overflow="fold")
    for part in state.parts:
        colour = _COLOURS.get(part.state, "dim")
        again = f" (started again {part.restarts}×)" if part.restarts else ""
        table.add_row(
            part.name,
            "" if part.pid is None else str(part.pid),
            f"[{colour}]{part.state}[/]{again}",
            part.url,
            str(part.log.relative_to(state.folder)),
        )
    # Piped into something, a table is as wide as it needs to be.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    console.print(f"[{_COLOURS.get(state.phase, 'default')}]{state.phase}[/]  {state.folder}")
    console.print(table)
    if state.message:
        console.print(state.message, markup=False)


def up(
    folder: Folder = None,
    ports: Annotated[
        str | None, typer.Option(help="'fixed' or 'free' [ARCHIVER_LOCAL_PORTS].", metavar="CHOICE")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay with the stack; Ctrl-C ends it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the whole service on this machine, and come back when it is ready."""
    settings = _settings(folder, **({} if ports is None else {"archiver_local_ports": ports}))
    progress = _Progress()
    if foreground:
        _stay(settings, progress, as_json=as_json)
        return
    from archiver.local.stack import start_stack

    stack, started = start_stack(settings, progress)
    state = stack.state()
    if as_json:
        typer.echo(json.dumps(_public(state) | {"started": started}))
        return
    how = f"ready after {state.ready_after_s} s" if started else "running already"
    typer.echo(
        f"The archiver is {how}.\n"
        f"  API       {state.urls.api}\n"
        f"  Prefect   {state.urls.prefect_ui}\n"
        f"  SciCat    {state.urls.scicat}\n"
        f"Credentials: {state.folder / 'stack.json'}. End it with: archiver down"
    )


def _stay(settings: "LocalSettings", progress: _Progress, *, as_json: bool) -> None:
    import logging

    import structlog

    from archiver.local.launcher import launch
    from archiver.local.state import Phase

    # The lines of the launcher itself would come between those of the progress.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    phases: list[Phase] = []
    messages: list[str] = []

    def follow(state: "StackState") -> None:
        progress(state)
        if phases[-1:] != [state.phase]:
            phases.append(state.phase)
            if as_json:
                typer.echo(json.dumps(_public(state)))
            elif state.phase is Phase.READY:
                typer.echo(f"The archiver is ready after {state.ready_after_s} s. Ctrl-C ends it.")
            messages.append(state.message)

    if launch(settings, follow):
        raise CommandError(messages[-1])


def down(folder: Folder = None, as_json: AsJson = False) -> None:
    """End the service on this machine. Its data stays."""
    from archiver.local.stack import stop_stack

    where = _settings(folder).folder
    ended = stop_stack(where)
    if as_json:
        typer.echo(json.dumps({"folder": str(where), "ended": ended}))
    else:
        typer.echo(f"The archiver in {where} has ended." if ended else f"No archiver runs in {where}.")


def parts(folder: Path | None, *, as_json: bool) -> tuple[dict[str, Any], bool]:
    """The parts of the embedded service for programs, or shown; and whether all of them are there."""
    from archiver.local.stack import stack_state
    from archiver.local.state import Phase

    where = _settings(folder).folder
    state = stack_state(where)
    record = {"folder": str(where), "phase": None} if state is None else _public(state)
    if not as_json and state is None:
        typer.echo(f"There is no archiver in {where}. Start one: archiver up")
    elif not as_json and state is not None:
        _print_table(state)
    return record, state is not None and state.phase is Phase.READY


def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of your own to be archived; one is made up without it.")
    ] = None,
) -> None:
    """Archive a data set and bring it back, on this machine, in front of your eyes."""
    from archiver.local.demo import run

    raise typer.Exit(run(folder))


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down):
        app.command(epilog=f"{EXIT_CODES}.")(command)
    codes = (
        "Exit codes: 0 everything came back the same, 1 it did not or an error came before, 2 wrong use, "
        "130 interrupted by Ctrl-C."
    )
    app.command(epilog=codes)(demo)
