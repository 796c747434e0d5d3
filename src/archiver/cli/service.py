"""Which service a command is about: the one in the environment, else the embedded one on this machine."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archiver.cli.errors import CommandError

if TYPE_CHECKING:
    from archiver.workflow.operations import Operations

FOUND = 3
"""Exit code of a command that answered, and whose answer is bad news."""

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        "-f",
        help="Data folder of an embedded stack to ask [ARCHIVER_LOCAL_FOLDER, where LEDGER_URL is not set].",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be changed.")]
StayDry = Annotated[
    bool, typer.Option("--dry-run", help="Only tell what would be changed, as without it: for scripts that say so.")
]
"""Of a command that changes nothing unless it is told to."""


def refuse_both(*, dry_run: bool, is_told: bool, option: str) -> None:
    """Make sure that a command is not told to do it and not to do it.

    Raises:
        typer.BadParameter: it is.
    """
    if dry_run and is_told:
        raise typer.BadParameter(f"Give {option} or --dry-run, not both.")


_ANY_OF = ("LEDGER_URL", "LEDGER_URL_FILE")


def names_service() -> bool:
    """Whether the environment names a service."""
    return any(os.environ.get(name) for name in _ANY_OF)


def _stack_environment(folder: Path | None) -> dict[str, str]:
    from archiver.local.settings import LocalSettings
    from archiver.local.stack import stack_state
    from archiver.local.state import Phase

    given = {} if folder is None else {"archiver_local_folder": folder}
    where = LocalSettings.model_validate(given).folder
    state = stack_state(where)
    if state is None or state.phase not in (Phase.READY, Phase.DEGRADED):
        raise CommandError(
            f"Which service? LEDGER_URL is not set, and no embedded stack runs in {where}. "
            "Run this where the service runs, with its environment, or start a stack: archiver up"
        )
    return state.environment


@contextmanager
def service_environment(folder: Path | None) -> Iterator[None]:
    """Settings are those of the service the command is about, while the block runs.

    A service that the environment names is never mixed with an embedded one.

    Raises:
        CommandError: there is neither.
    """
    from archiver.config.logs import configure_logs

    configure_logs("WARNING")
    before = dict(os.environ)
    if folder is not None or not names_service():
        os.environ.update(_stack_environment(folder))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def operations(folder: Path | None) -> "Iterator[Operations]":
    """The use cases of operators, on the service the command is about."""
    from archiver.config.settings import CatalogueSettings, LedgerSettings, QueueSettings
    from archiver.workflow.catalogue.client import Catalogue
    from archiver.workflow.ledger.ledger import Ledger
    from archiver.workflow.operations import Operations
    from archiver.workflow.queue_control import QueueControl

    with service_environment(folder), ExitStack() as stack:
        yield Operations(
            stack.enter_context(Catalogue.open(CatalogueSettings())),
            stack.enter_context(QueueControl.open(QueueSettings())),
            stack.enter_context(Ledger.open(LedgerSettings())),
        )
