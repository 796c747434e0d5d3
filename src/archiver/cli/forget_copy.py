"""`archiver lts forget-copy`: a further share that is gone for good, and that the ledger is no longer to wait for."""

from contextlib import ExitStack
from typing import Annotated

import typer

from archiver.cli.answers import Answer
from archiver.cli.errors import EXIT_CODES
from archiver.cli.lts import AsJson, open_child
from archiver.cli.service import StayDry, refuse_both


def forget_copy(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Place in LTS_COPIES that it had, from 1.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only told.")] = False,
    dry_run: StayDry = False,
    as_json: AsJson = False,
) -> None:
    """Make the ledger forget a share of copies (LTS_COPIES) that is gone for good; those after it move up.

    Take it out of LTS_COPIES first: a share that is still named there is not forgotten. Without --yes nothing is
    changed. What lies on the share stays there, that of withdrawn data sets, too: nothing removes it any more.
    """
    from archiver.config.settings import LedgerSettings, LtsSettings
    from archiver.workflow.ledger.ledger import Ledger
    from archiver.workflow.second_copies import find_gone_copy
    from archiver.workflow.second_copies import forget_copy as forget

    refuse_both(dry_run=dry_run, is_told=yes, option="--yes")
    lts = LtsSettings.load()
    with ExitStack() as stack:
        child, _ = stack.enter_context(open_child(None))
        ledger = stack.enter_context(Ledger.open(LedgerSettings.load()))
        gone = find_gone_copy(ledger, child, lts.lts_copies, number)
        if yes:
            forget(ledger, gone)
    record = {"number": gone.number, "share": str(gone.identity), "datablocks": gone.datablocks, "dry_run": not yes}
    with Answer(None, as_json=as_json, **record) as answer:
        answer.text(f"share of copies {gone.number}: {gone.identity}")
        answer.text(f"  {gone.datablocks:,} datablocks had a copy there when it was read last")
        for place, identity in enumerate(gone.remaining, start=1):
            answer.text(f"  {'now' if yes else 'then'} share {place} of LTS_COPIES: {identity}")
        again = f"Nothing was changed. To forget it: archiver lts forget-copy {gone.number} --yes"
        answer.end(
            "Forgotten. Should it be found, keep it from being read by mistake." if yes else again,
            remaining=[str(each) for each in gone.remaining],
        )


def add_to(lts: typer.Typer) -> None:
    """Add the command to those of the long-term storage."""
    lts.command("forget-copy", epilog=f"{EXIT_CODES}.")(forget_copy)
