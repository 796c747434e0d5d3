"""`archiver retire`: a data set withdrawn from the archive, restored, and after its time removed."""

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from archiver.cli.answers import Answer, shown
from archiver.cli.errors import EXIT_CODES, CommandError
from archiver.cli.service import FOUND, AsJson, DryRun, Folder, service_environment

if TYPE_CHECKING:
    from archiver.workflow.retirement import Outcome, Preview, Retiring

Pid = Annotated[str, typer.Argument(metavar="DATASET", help="The data set, as the catalogue names it.")]
_ASK = "ask"


class _AskByDefault(TyperGroup):
    """`archiver retire DATASET` asks; what is named like a command is that command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command that asks before arguments that name none."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [_ASK, *args]
        return super().parse_args(ctx, args)


def who(by: str | None, *, must_be_said: bool) -> str:
    """Who is at work, for the record: as `by` says, else the login; that alone where it `must_be_said`.

    Raises:
        CommandError: nobody could tell from the record.
    """
    if by and by.strip():
        return by.strip()
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as a container's user may be
        name = ""
    if must_be_said or not name:
        raise CommandError(
            "The record is to tell who does this, and the login here does not. Give your name: --by NAME. Nothing was "
            "changed."
        )
    return f"{name}@{socket.gethostname()}"


@contextmanager
def _retiring(folder: Folder, by: str | None) -> "Iterator[Retiring]":
    """The use case, on the share of the service that the command is about."""
    from datetime import timedelta
    from uuid import UUID

    from archiver.cli.lts import open_share
    from archiver.config.settings import (
        ArchivingSettings,
        CatalogueSettings,
        LedgerSettings,
        LtsSettings,
        RetirementSettings,
    )
    from archiver.workflow.catalogue.client import Catalogue
    from archiver.workflow.ledger.facts import LTS_IDENTITY
    from archiver.workflow.ledger.ledger import Ledger
    from archiver.workflow.retirement import Retiring
    from archiver.workflow.second_copies import address_of_copy, unnamed_copies
    from archiver.workflow.storage.lts import ShareAddress

    with service_environment(folder), ExitStack() as stack:
        settings = RetirementSettings()
        operator = who(by, must_be_said=settings.retire_by_required)
        catalogue_settings, lts = CatalogueSettings(), LtsSettings()
        ledger = stack.enter_context(Ledger.open(LedgerSettings()))
        child, mounted = stack.enter_context(open_share(None))
        # Whatever is mounted: only the archive's own share is accepted by those who open it.
        # And nothing is made the archive's here, that being for the first run that writes to it: this may be a dry run.
        first = ShareAddress(mounted.root, UUID(ledger.remembered(LTS_IDENTITY) or str(mounted.identity)))
        if more := unnamed_copies(ledger, lts.lts_copies):
            raise CommandError(
                f"The ledger knows of {more} more shares with copies than LTS_COPIES names ({len(lts.lts_copies)}). "
                "Run this where all of them are mounted, and name them: a copy must not be left behind. One that is "
                "gone for good is forgotten first: archiver lts forget-copy NUMBER"
            )
        yield Retiring(
            catalogue=stack.enter_context(Catalogue.open(catalogue_settings)),
            ledger=ledger,
            share=first,
            copies=[
                address_of_copy(ledger, child, first, number, root)
                for number, root in enumerate(lts.lts_copies, start=1)
            ],
            child=child,
            storage_location=catalogue_settings.storage_location,
            restorable_for=settings.restorable_for,
            claim_timeout=timedelta(seconds=ArchivingSettings().claim_timeout_s),
            by=operator,
        )


By = Annotated[
    str | None,
    typer.Option("--by", help="Who does it, for the record; your login otherwise, where that names one person alone."),
]


def _shown_preview(answer: Answer, found: "Preview", what: str) -> None:
    answer.text(f"{what} {shown(found.pid)}")
    answer.text(f"  catalogue    {shown(found.name) if found.name else 'does not have it'}, group {found.owner_group}")
    answer.text(f"  bag          {found.files:,} files, {found.payload_bytes:,} bytes in {found.datablocks} datablocks")
    for root in found.shares:
        answer.text(f"  on           {root}")
    answer.text(f"  reason       {shown(found.reason) if found.reason else '-'}")
    if found.damage:
        answer.text(f"  NOTE         the bag is not whole: {found.damage}")
    if found.is_public:
        answer.text("  NOTE         the catalogue shows it to everybody; others may have cited it")


def _preview_record(found: "Preview") -> dict[str, object]:
    return {**asdict(found), "restorable_until": found.restorable_until.isoformat()}


def ask(
    dataset: Pid,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record; users read it in the catalogue.")],
    dry_run: DryRun = False,
    by: By = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be withdrawn, and give the word that withdraws it. Nothing happens to the data set yet."""
    with _retiring(folder, by) as office:
        found, word = office.request(dataset, reason, dry_run=dry_run)
    with Answer(None, as_json=as_json, dry_run=dry_run, **_preview_record(found)) as answer:
        _shown_preview(answer, found, "To be withdrawn:")
        answer.text(f"  restorable   until {found.restorable_until:%Y-%m-%d} at least, if it is withdrawn now")
        answer.end(
            f"Nothing was changed yet. To withdraw it, within a day: archiver retire confirm {dataset} {word}"
            if word
            else "Dry run: nothing was asked for.",
            word=word or None,
        )


def _tell(outcome: "Outcome", told: str, *, dry_run: bool, as_json: bool) -> None:
    record = {"dataset": outcome.pid, "dry_run": dry_run, "state": outcome.kind, "at": outcome.at.isoformat()}
    record |= {"restorable_until": outcome.restorable_until.isoformat(), "was_done": outcome.was_done}
    with Answer("left", as_json=as_json, **record) as answer:
        answer.text(f"{shown(outcome.pid)}: {'would be ' if dry_run else ''}{told}")
        for each in outcome.left:
            answer.item(each, f"  NOT DONE: {each}")
        answer.end("Give the same command again when that is mended." if outcome.left else "")
    if outcome.left:
        raise typer.Exit(FOUND)


def confirm(
    dataset: Pid,
    word: Annotated[
        str,
        typer.Argument(metavar="[WORD]", help="As `archiver retire DATASET` gave it; not to finish what was begun."),
    ] = "",
    dry_run: DryRun = False,
    by: By = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw a data set: a tombstone is put on the share, and nothing of it is given out any more.

    Its bag stays whole, is still audited, and can be restored. Links to copies stop working within minutes.
    """
    with _retiring(folder, by) as office:
        outcome = office.confirm(dataset, word, dry_run=dry_run)
    until = f"{outcome.restorable_until:%Y-%m-%d}"
    _tell(outcome, f"withdrawn; can be restored until {until} at least", dry_run=dry_run, as_json=as_json)


def restore(
    dataset: Pid, dry_run: DryRun = False, by: By = None, folder: Folder = None, as_json: AsJson = False
) -> None:
    """Take a withdrawal back, or the request for one. Possible until the removal has begun."""
    with _retiring(folder, by) as office:
        outcome = office.restore(dataset, dry_run=dry_run)
    if outcome is None:
        with Answer(None, as_json=as_json, dataset=dataset, dry_run=dry_run, state=None) as answer:
            told = "would be" if dry_run else "is"
            answer.end(f"{shown(dataset)}: it was only asked for; the request {told} forgotten")
        return
    _tell(outcome, "restored; users can retrieve it again", dry_run=dry_run, as_json=as_json)


def remove(
    dataset: Pid,
    word: Annotated[str, typer.Argument(metavar="[WORD]", help="As this command gives it when called without.")] = "",
    dry_run: DryRun = False,
    by: By = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Remove the bag of a withdrawn data set whose time is over, from every share, for good.

    Without the word it says what would be removed and gives the word. The tombstone stays. Nothing else ever
    removes a bag: no schedule, and no other command.
    """
    with _retiring(folder, by) as office:
        if not word and not office.has_begun_removal(dataset):
            found, given = office.request_removal(dataset, dry_run=dry_run)
            with Answer(None, as_json=as_json, dry_run=dry_run, **_preview_record(found)) as answer:
                _shown_preview(answer, found, "To be removed for good:")
                answer.end(
                    f"Nothing was removed. To remove it, within a day: archiver retire remove {dataset} {given}"
                    if given
                    else "Dry run: nothing was asked for.",
                    word=given or None,
                )
            return
        outcome = office.remove(dataset, word, dry_run=dry_run)
    _tell(outcome, "removed for good; its tombstone stays on the share", dry_run=dry_run, as_json=as_json)


def list_(folder: Folder = None, as_json: AsJson = False) -> None:
    """List what is asked for, withdrawn, being removed or removed, as the ledger knows it."""
    from archiver.config.settings import LedgerSettings
    from archiver.workflow.ledger.ledger import Ledger
    from archiver.workflow.ledger.records import RetirementState

    with service_environment(folder), Ledger.open(LedgerSettings()) as ledger:
        now, found = ledger.now(), ledger.retirements()
    with Answer("datasets", as_json=as_json) as answer:
        answer.text(f"{'state':<10} {'since':<16}  {'kept until':<16}  {'by':<24} data set")
        for each in found:
            kept = each.restorable_until if each.state is RetirementState.RETIRED else None
            due = kept is not None and kept <= now
            until = f"{kept:%Y-%m-%d %H:%M}" if kept is not None else "-"
            record = {
                "pid": each.pid,
                "state": each.state,
                "at": each.at.isoformat(),
                "by": each.by,
                "reason": each.reason,
                "restorable_until": each.restorable_until.isoformat() if each.restorable_until else None,
                "may_be_removed": due,
                "catalogue_told": each.told,
            }
            notes = ("; may be removed" * due) + ("; the catalogue is still to be told" * (not each.told))
            answer.item(
                record,
                f"{each.state:<10} {each.at:%Y-%m-%d %H:%M}  {until:<16}  {each.by:<24} {shown(each.pid)}{notes}",
            )
        answer.end(f"{len(found)} data sets")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    retire = typer.Typer(
        name="retire",
        cls=_AskByDefault,
        no_args_is_help=True,
        help="Withdraw a data set from the archive (archiver retire DATASET), restore it, or remove it after its time.",
    )
    left = f"{EXIT_CODES}, 3 done where it counts, and something is left: give the command again."
    retire.command(_ASK, epilog=f"{EXIT_CODES}.")(ask)
    for command in (confirm, restore, remove):
        retire.command(epilog=left)(command)
    retire.command("list", epilog=f"{EXIT_CODES}.")(list_)
    app.add_typer(retire)
