"""The demo as a command: on the stack that runs, or on one that is started for it."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
from rich.console import Console

from archiver.local.credentials import FILE as CREDENTIALS
from archiver.local.demo.comparison import Difference
from archiver.local.demo.display import MEGABYTE, Display
from archiver.local.demo.selection import Selection, own_folder, standard_library
from archiver.local.demo.tour import Tour, first_names
from archiver.local.ingestor.chunks import DEFAULT_CHUNK_BYTES
from archiver.local.ports import HOST
from archiver.local.settings import LocalSettings, PortChoice
from archiver.local.stack import Stack, current_stack, running_stack, start_stack
from archiver.local.state import PartState, StackState, launcher_pid
from archiver.workflow.errors import ArchiverError

_INTERRUPTED = 130
_PROXY_EXCEPTIONS = ("NO_PROXY", "no_proxy")


def run(
    folder: Path | None = None,
    *,
    stack_folder: Path | None = None,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    keep_downloads: bool = False,
    console: Console | None = None,
) -> int:
    """Archive a folder, bring it back and compare; the exit code: 0 when every byte, time and mode is the same.

    Uses the stack that runs in its data folder; where none does, one is started and ended again. The input is only
    read. Every run makes a new data set, which stays in the archive.

    Args:
        folder: what to archive; Python's standard library and a file of more than 100 MB without it.
        stack_folder: data folder of the stack (default: ARCHIVER_LOCAL_FOLDER).
        chunk_bytes: files of this size and larger are uploaded in parts of it.
        keep_downloads: leave what came back where it was compared.
        console: where to show it all (default: standard output).
    """
    display = Display(console or Console(highlight=False))
    given = {} if stack_folder is None else {"archiver_local_folder": stack_folder}
    settings = LocalSettings.model_validate(given)
    try:
        with _local_calls_without_proxy(), _warnings_only():
            selection = standard_library() if folder is None else own_folder(folder)
            _say_what(display, selection)
            with _stack(settings, display) as (stack, is_ours):
                _say_where_to_look(display, stack)
                tour = Tour(stack, selection, display, chunk_bytes)
                differences = tour.take(keep_downloads=keep_downloads)
                display.table()
                _say_where(display, stack, tour, is_ours=is_ours)
    except KeyboardInterrupt:
        display.say("Interrupted. An unfinished upload and all downloads were removed.", "yellow")
        return _INTERRUPTED
    except (ArchiverError, OSError) as error:
        display.say(str(error), "red")
        return 1
    return _verdict(display, selection, differences)


def _say_what(display: Display, selection: Selection) -> None:
    listing = selection.listing
    display.say(
        f"{selection.name} ({selection.folder}): {len(listing.uploads):,} files, "
        f"{len(listing.entries) - len(listing.uploads):,} folders, {listing.upload_bytes / MEGABYTE:,.1f} MB"
    )
    if listing.left_out:
        display.say(f"Left out, for it cannot be archived: {len(listing.left_out):,}", "yellow")
        for line in first_names([Difference(path, reason) for path, reason in listing.left_out]):
            display.say(line)


def _say_where_to_look(display: Display, stack: Stack) -> None:
    display.say(f"Runs can be seen in Prefect: {stack.urls.prefect_ui}")
    if stack.credentials.prefect_auth:
        display.say(f"  user and password: prefect_auth in {stack.folder / CREDENTIALS}")


def _say_where(display: Display, stack: Stack, tour: Tour, *, is_ours: bool) -> None:
    display.say(f"Data set   {tour.pid}")
    display.say(f"Bag        {tour.bag}   (check it yourself: sha256sum -c manifest-sha256.txt)")
    if is_ours:
        display.say("Prefect    ends with this demo. To keep the service and look around: make up")
    else:
        display.say(f"Prefect    {stack.urls.prefect_ui}")


def _verdict(display: Display, selection: Selection, differences: list[Difference]) -> int:
    if differences:
        display.say(f"{len(differences):,} differences between what was given and what came back:", "bold red")
        for line in first_names(differences):
            display.say(line)
        return 1
    display.say(
        f"All {len(selection.listing.uploads):,} files came back twice, the same in every byte, time and mode.",
        "bold green",
    )
    return 0


@contextmanager
def _stack(settings: LocalSettings, display: Display) -> Iterator[tuple[Stack, bool]]:
    """The stack that runs, else one for the time of the block; and whether it is such a one."""
    stack = current_stack(settings.folder)
    if stack is None and launcher_pid(settings.folder) is not None:
        display.say(f"A stack is starting in {settings.folder}; waiting for it.")
        stack, _ = start_stack(settings)
    if stack is not None:
        display.say(f"Using the stack in {stack.folder}")
        yield stack, False
        return
    settings.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        with display.stage("start the stack") as stage:

            def follow(state: StackState) -> None:
                ready = sum(part.state in (PartState.READY, PartState.DONE) for part in state.parts)
                stage.describe(f"{ready} of {len(state.parts)} parts are ready")

            stack = opened.enter_context(
                running_stack(settings.folder, ports=PortChoice.FREE, restart=True, report=follow)
            )
        yield stack, True


@contextmanager
def _local_calls_without_proxy() -> Iterator[None]:
    """A proxy of the user's environment is no way to this machine itself, neither for us nor for curl."""
    before = {name: os.environ.get(name) for name in _PROXY_EXCEPTIONS}
    for name, value in before.items():
        os.environ[name] = ",".join(part for part in (value, HOST, "localhost") if part)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Lines of the log would come between those of the demo."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)
