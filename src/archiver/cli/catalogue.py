"""`archiver catalogue`: SciCat compared with the bags on the share, and told again what it lacks."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from archiver.cli.answers import Answer, shown
from archiver.cli.errors import EXIT_CODES, CommandError
from archiver.cli.lts import AsJson, Root, open_share
from archiver.cli.service import StayDry, refuse_both

if TYPE_CHECKING:
    from archiver.workflow.catalogue_repair import CatalogueRepair, CatalogueState
    from archiver.workflow.isolation import ChildProcess
    from archiver.workflow.storage.lts import ShareAddress

DIFFERENCES_FOUND = 3

Pids = Annotated[list[str] | None, typer.Argument(metavar="PID", help="Data sets to look at.")]
Everything = Annotated[bool, typer.Option("--all", help="All published bags and tombstones on the share.")]


@contextmanager
def _open(root: Root, everything: bool, pids: Pids) -> "Iterator[tuple[CatalogueRepair, Iterator[str], ShareAddress]]":
    """The use case, the data sets that were asked for, and the share."""
    from archiver.config.settings import CatalogueSettings
    from archiver.workflow.catalogue.client import Catalogue
    from archiver.workflow.catalogue_repair import CatalogueRepair

    if everything == bool(pids):
        raise typer.BadParameter("Name data sets, or give --all.")
    settings = CatalogueSettings.load()
    with open_share(root) as (child, address), Catalogue.open(settings) as catalogue:
        chosen = _published(child, address) if everything else iter(pids or ())
        yield CatalogueRepair(catalogue, child, address, settings.storage_location), chosen, address


def _published(child: "ChildProcess", address: "ShareAddress") -> Iterator[str]:
    from archiver.workflow.holdings.listing import Holdings, HoldingState

    for holding in Holdings(child, address).walk():
        if holding.state is HoldingState.PUBLISHED or holding.state.is_withdrawn:
            yield holding.pid


def _report(
    chosen: Iterator[str], work: "Callable[[str], CatalogueState]", answer: Answer, conclusion: str
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for pid in chosen:
        state = work(pid)
        counts[state.outcome] += 1
        answer.item(
            asdict(state), f"{state.outcome:<10} {shown(state.pid)}", *(f"  {shown(line)}" for line in state.lines)
        )
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    answer.end(f"{said or 'no data sets'}{conclusion}", counts=counts)
    return counts


def check(
    pids: Pids = None,
    everything: Everything = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Compare the catalogue's datablocks and lifecycle with the bags. Nothing is changed."""
    with _open(root, everything, pids) as (repairing, chosen, address):
        head = {"root": str(address.root), "share": str(address.identity)}
        with Answer("datasets", as_json=as_json, **head) as answer:
            counts = _report(chosen, repairing.check, answer, "")
    if counts.total() > counts["good"]:
        raise typer.Exit(DIFFERENCES_FOUND)


def repair(
    pids: Pids = None,
    everything: Everything = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without this it is only told.")] = False,
    dry_run: StayDry = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Register again from the bags what the catalogue lacks or has otherwise. Without --apply it is only told.

    The share is only read. Datablocks that the catalogue has and the bag has not are reported and left.
    """
    import os
    import socket
    from datetime import timedelta

    from archiver.config.settings import ArchivingSettings, LedgerSettings
    from archiver.workflow.ledger.ledger import Ledger

    refuse_both(dry_run=dry_run, is_told=apply, option="--apply")
    with ExitStack() as stack:
        repairing, chosen, address = stack.enter_context(_open(root, everything, pids))
        work = repairing.check
        if apply:
            ledger = stack.enter_context(Ledger.open(LedgerSettings.load()))
            timeout = timedelta(seconds=ArchivingSettings.load().claim_timeout_s)
            holder = f"catalogue repair {socket.gethostname()} {os.getpid()}"

            def work(pid: str) -> "CatalogueState":
                return repairing.repair(pid, ledger, holder, timeout)

        head = {"root": str(address.root), "share": str(address.identity), "dry_run": not apply}
        with Answer("datasets", as_json=as_json, **head) as answer:
            dry = "" if apply else "; nothing was changed: give --apply to do it"
            counts = _report(chosen, work, answer, dry)
    if counts["busy"]:
        raise CommandError("Some data sets are being worked on and were left alone. Run this again afterwards.")
    if counts.total() > counts["good"] + counts["repaired"]:
        raise typer.Exit(DIFFERENCES_FOUND)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    catalogue = typer.Typer(
        name="catalogue", no_args_is_help=True, help="Compare SciCat with the bags on the share, and tell it again."
    )
    catalogue.command("check", epilog=f"{EXIT_CODES}, 3 catalogue and bags differ.")(check)
    catalogue.command("repair", epilog=f"{EXIT_CODES}, 3 something is left that differs.")(repair)
    app.add_typer(catalogue)
