"""`archiver lts heal`: copies of bags read whole, and made good again from one that is."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from typing import Annotated

import typer

from archiver.cli.answers import Answer, shown
from archiver.cli.errors import EXIT_CODES, CommandError
from archiver.cli.lts import DAMAGE_FOUND, AsJson, Root, open_share, progress_bar
from archiver.cli.service import StayDry, refuse_both


def heal(
    pids: Annotated[list[str] | None, typer.Argument(metavar="PID", help="Data sets to look at.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All published bags on the first share.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without this it is only told.")] = False,
    dry_run: StayDry = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Read all copies of bags (LTS_COPIES) whole, and make bad or missing ones from a good one.

    Without --apply nothing is changed. Files that are replaced are set aside on their share, not deleted.
    """
    import os
    import socket
    from datetime import timedelta

    from archiver.config.settings import ArchivingSettings, LedgerSettings, LtsSettings
    from archiver.workflow.healing import Healing, HealOutcome
    from archiver.workflow.holdings.listing import Holdings, HoldingState
    from archiver.workflow.ledger.ledger import Ledger
    from archiver.workflow.second_copies import copy_address

    refuse_both(dry_run=dry_run, is_told=apply, option="--apply")
    if everything == bool(pids):
        raise typer.BadParameter("Name data sets, or give --all.")
    lts = LtsSettings.load()
    if not lts.lts_copies:
        raise CommandError("LTS_COPIES is not set: there are no copies to heal, or to heal from.")
    timeout = timedelta(seconds=ArchivingSettings.load().claim_timeout_s)
    holder = f"heal {socket.gethostname()} {os.getpid()}"
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        child, first = stack.enter_context(open_share(root))
        ledger = stack.enter_context(Ledger.open(LedgerSettings.load()))
        copies = [
            copy_address(ledger, child, first, number, folder) for number, folder in enumerate(lts.lts_copies, start=1)
        ]
        healing = Healing([first, *copies], lts.lts_stall_timeout_s, lts.lts_free_space_percentage)
        chosen = (
            (each.pid for each in Holdings(child, first).walk() if each.state is HoldingState.PUBLISHED)
            if everything
            else iter(pids or ())
        )
        roots = [str(address.root) for address in (first, *copies)]
        with Answer("datasets", as_json=as_json, roots=roots, dry_run=not apply) as answer:
            for pid in chosen:
                with progress_bar(pid, None) as progress:
                    found = (
                        healing.heal(pid, ledger, holder, timeout, progress)
                        if apply
                        else healing.examine(pid, progress)
                    )
                counts[found.outcome] += 1
                lines = [f"  {each.root}: {each.state} {' '.join(each.details)}".rstrip() for each in found.copies]
                lines += [f"  set aside: {each.root}/{path}" for each in found.copies for path in each.set_aside]
                answer.item(asdict(found), f"{found.outcome:<12} {shown(pid)} {found.detail}".rstrip(), *lines)
            said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
            dry = "" if apply else "; nothing was changed: give --apply to heal"
            answer.end(f"{said or 'no data sets'}{dry}", counts=counts)
    if counts.total() > counts[HealOutcome.GOOD] + counts[HealOutcome.HEALED]:
        raise typer.Exit(DAMAGE_FOUND)


def add_to(lts: typer.Typer) -> None:
    """Add the command to those of the long-term storage."""
    codes = f"{EXIT_CODES}, 3 something is left that is not good on every share."
    lts.command("heal", epilog=codes)(heal)
