"""`archiver status`: how the service is doing, the one in the environment or the embedded one on this machine."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from archiver.cli.answers import shown
from archiver.cli.service import FOUND, AsJson, Folder, names_service, service_environment

if TYPE_CHECKING:
    from archiver.workflow.overview import Overview

_PREFECT_S = 3.0
"""How long Prefect may take to come back: whoever looks does not wait for it."""
_SHARE_S = 15.0
"""How long the share may take to say how much room it has."""


@dataclass(frozen=True)
class _Status:
    """What was seen of a service."""

    overview: "Overview"
    share_now: tuple[int, int] | None
    """Free and total bytes of the share; None where it is not mounted here."""
    concerns: tuple[str, ...]


def _free(progress: Any, address: Any) -> tuple[int, int]:
    """In a child process: a share may hang."""
    progress(0)
    free: tuple[int, int] = address.open().free_bytes()
    return free


def _ask_share(known: str | None) -> tuple[int, int] | None:
    """Room on the share, where it is mounted here.

    Raises:
        ArchiverError: it should be, and is not, or is another one, or does not answer.
    """
    from uuid import UUID

    from archiver.config.settings import LtsSettings
    from archiver.config.sources import read_environment
    from archiver.workflow.isolation import ChildProcess
    from archiver.workflow.storage.lts import ShareAddress

    if known is None or read_environment("LTS_ROOT_FOLDER", os.environ) is None:
        return None
    with ChildProcess(_SHARE_S) as child:
        return child.call(_free, None, ShareAddress(LtsSettings().lts_root_folder, UUID(known)))


def _look() -> _Status:
    from archiver.config.settings import (
        ArchivingSettings,
        BackupSettings,
        FixitySettings,
        LandingZoneSettings,
        LedgerSettings,
        LtsSettings,
        ObjectStoreSettings,
        QueueSettings,
    )
    from archiver.workflow.errors import ArchiverError
    from archiver.workflow.ledger.facts import LTS_IDENTITY
    from archiver.workflow.ledger.ledger import Ledger
    from archiver.workflow.overview import Limits, look
    from archiver.workflow.queue_control import QueueControl

    with Ledger.open(LedgerSettings()) as ledger, QueueControl.open(QueueSettings(), patience_s=_PREFECT_S) as queue:
        limits = Limits.of(
            LandingZoneSettings(),
            ObjectStoreSettings(),
            LtsSettings(),
            ArchivingSettings(),
            FixitySettings(),
            BackupSettings(),
        )
        overview = look(ledger, queue, limits)
        concerns, share_now = overview.concerns, None
        try:
            share_now = _ask_share(ledger.remembered(LTS_IDENTITY))
        except ArchiverError as error:
            concerns.append(f"Long-term storage, as it is mounted here: {error}")
    return _Status(overview, share_now, tuple(concerns))


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _record(found: _Status) -> dict[str, Any]:
    record: dict[str, Any] = _plain(asdict(found.overview))
    room = found.share_now
    record["share_now"] = None if room is None else {"free_bytes": room[0], "total_bytes": room[1]}
    return record


def _line(name: str, text: str) -> None:
    typer.echo(f"{name:<18} {text}")


def _tell(found: _Status) -> None:
    from archiver.workflow.amounts import age_text, size_text
    from archiver.workflow.overview import at_work

    view = found.overview
    usage, held, fixity = view.landing, view.archived, view.fixity
    typer.secho(
        "needs attention" if found.concerns else "all is well", fg="red" if found.concerns else "green", bold=True
    )
    for concern in found.concerns:
        typer.secho(f"  ! {concern}", fg="yellow")
    _line(
        "landing zone",
        f"{view.landing_percent} % of {size_text(view.capacity_bytes)} taken: {size_text(usage.reserved_bytes)} "
        f"reserved, {size_text(usage.landed_bytes)} there; {usage.open_uploads} uploads open, "
        f"{usage.finalized_uploads} finished",
    )
    if found.share_now is not None:
        free, total = found.share_now
        _line("long-term storage", f"{size_text(free)} of {size_text(total)} free, asked now")
    elif view.share is not None:
        measured = age_text(view.share.measured_at, view.at)
        room = (
            f"{size_text(view.share.free_bytes)} of {size_text(view.share.total_bytes)} free, of which "
            f"{size_text(view.floor_bytes)} must stay free"
        )
        _line("long-term storage", f"{room}, as a run measured it {measured} ago")
    else:
        _line("long-term storage", "not measured yet: each archive run does")
    _line(
        "archived",
        f"{held.datasets:,} data sets, {held.files:,} files, {size_text(held.payload_bytes)} in {held.datablocks:,} "
        f"datablocks; {view.copies.ready:,} copies to be downloaded, {size_text(view.copies.bytes)}",
    )
    _line(
        "fixity",
        f"{fixity.datablocks - fixity.overdue:,} of {fixity.datablocks:,} datablocks read in time; "
        f"{fixity.damaged} damaged, {fixity.on_tape} left on tape",
    )
    _line("reconciliation", f"last ran {view.reconciled}")
    if view.backup_interval is not None:
        ages = [f"{name} {age_text(made, view.at)} ago" for name, made in sorted(view.backups.items())]
        _line("backups", f"the newest: {', '.join(ages) or 'none'}")
    for job_type, states in (view.waiting or {}).items():
        waiting, begun = at_work(states)
        _line(f"{job_type} runs", f"{waiting} wait, {begun} at work")
    for pool in view.pools:
        state = "paused, " if pool.is_paused else ""
        _line("workers", f"{pool.name}: {state}{len(pool.online)} online")
    for stage in view.stages:
        if not stage.stage.is_settled:
            oldest = age_text(stage.oldest, view.at)
            _line(f"data sets {stage.stage}", f"{stage.count}, {stage.held} worked on; longest there: {oldest}")
    for record in view.unfinished:
        typer.echo(f"  {record.stage:<10} {age_text(record.updated_at, view.at):>7} ago  {shown(record.pid)}")
        if record.message:
            typer.echo(f"    {shown(record.message)}")


def status(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show how the service is doing: what is stored, what waits, what failed, and what needs attention.

    Of the service that the environment names (LEDGER_URL), from its ledger, Prefect server and, where LTS_ROOT_FOLDER
    is set, its share; else of the embedded one on this machine, with its parts.
    """
    from archiver.cli.stack import parts

    record: dict[str, Any] = {}
    is_ready = True
    if folder is not None or not names_service():
        record, is_ready = parts(folder, as_json=as_json)
    found = None
    if is_ready:
        with service_environment(folder):
            found = _look()
    if as_json:
        service = {} if found is None else {"service": _record(found), "concerns": found.concerns}
        typer.echo(json.dumps({**record, **service}))
    elif found is not None:
        _tell(found)
    if found is None or found.concerns:
        raise typer.Exit(FOUND)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    codes = (
        "Exit codes: 0 all is well, 1 it could not be looked (the ledger does not answer, say), 2 wrong use, "
        "3 something needs attention: a concern is named, or the embedded service is not ready."
    )
    app.command(epilog=codes)(status)
