"""`archiver lts`: the long-term storage looked at, checked and read without any other part of the service."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archiver.cli.answers import Answer, shown
from archiver.cli.errors import EXIT_CODES, CommandError

if TYPE_CHECKING:
    from archiver.workflow.holdings.listing import Holding
    from archiver.workflow.isolation import ChildProcess, Progress
    from archiver.workflow.storage.lts import ShareAddress

DAMAGE_FOUND = 3

Root = Annotated[
    Path | None, typer.Option("--root", "-r", help="Where the share is mounted [LTS_ROOT_FOLDER].", metavar="FOLDER")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON document.")]
Pid = Annotated[str, typer.Argument(metavar="PID", help="The data set, as the catalogue names it.")]


def _log_to_stderr(progress: "Progress") -> None:
    """In the child process: stdout belongs to the answer."""
    from archiver.config.logs import configure_logs

    configure_logs()
    progress(0)


@contextmanager
def open_child(root: Path | None) -> "Iterator[tuple[ChildProcess, Path]]":
    """A child process in which the share is touched, and where the share is mounted."""
    from archiver.config.logs import configure_logs
    from archiver.config.settings import LtsSettings
    from archiver.workflow.isolation import ChildProcess

    configure_logs()
    settings = LtsSettings.model_validate({} if root is None else {"lts_root_folder": root})
    with ChildProcess(settings.lts_stall_timeout_s) as child:
        child.call(_log_to_stderr, None)
        yield child, settings.lts_root_folder


@contextmanager
def open_share(root: Path | None) -> "Iterator[tuple[ChildProcess, ShareAddress]]":
    """A child process in which the share is touched, and the share that is mounted."""
    from archiver.workflow.holdings.reading import connect

    with open_child(root) as (child, folder):
        yield child, child.call(connect, None, folder)


@contextmanager
def progress_bar(what: str, total: int | None) -> "Iterator[Progress]":
    """A bar on stderr that is gone afterwards; nothing where stderr is no terminal. Counts bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(shown(what).replace("[", r"\["), total=total or None)

        def advance(count: int, /) -> None:
            bar.advance(task, count)

        yield advance


def _head(address: "ShareAddress") -> dict[str, object]:
    return {"root": str(address.root), "share": str(address.identity)}


def _amount(number: int | None, what: str) -> str:
    return f"? {what}" if number is None else f"{number:,} {what}"


# ---------------------------------------------------------------------------------------------- init


def _note_no_mount(folder: Path) -> None:
    if not folder.is_mount():
        typer.echo(f"Note: {folder} is no mount point. If a share belongs there, mount it and try again.", err=True)


def init(
    root: Root = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell whether the share would get one; `created` says so.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a share its identity, and show it. Safe to repeat: a share keeps the identity it has."""
    from archiver.workflow.holdings.reading import identity_so_far, initialise

    with open_child(root) as (child, folder):
        if dry_run:
            identity = child.call(identity_so_far, None, folder)
            is_new = identity is None
        else:
            address, is_new = child.call(initialise, None, folder)
            identity = address.identity
    if is_new:
        _note_no_mount(folder)
    share = None if identity is None else str(identity)
    with Answer(None, as_json=as_json, root=str(folder), share=share, dry_run=dry_run) as answer:
        dry = "dry run, nothing was changed; " if dry_run else ""
        answer.end(f"{dry}{share or f'{folder} would get an identity'}", created=is_new)


# ---------------------------------------------------------------------------------------------- list


def _row(holding: "Holding") -> str:
    numbers = ["-" if number is None else f"{number:,}" for number in (holding.files, holding.datablocks, holding.size)]
    note = f"  ({holding.note})" if holding.note else ""
    return (
        f"{holding.state:<10} {holding.date or '-':<10} {numbers[0]:>9} {numbers[1]:>10} {numbers[2]:>20}  "
        f"{shown(holding.pid)}{note}"
    )


def list_(root: Root = None, as_json: AsJson = False) -> None:
    """List the data sets on the share, by walking its folders."""
    from archiver.workflow.holdings.listing import Holdings, HoldingState

    counts: Counter[str] = Counter()
    with open_share(root) as (child, address), Answer("datasets", as_json=as_json, **_head(address)) as answer:
        answer.text(f"{'state':<10} {'date':<10} {'files':>9} {'datablocks':>10} {'bytes':>20}  pid")
        for holding in Holdings(child, address).walk():
            counts[holding.state] += 1
            answer.item(asdict(holding), _row(holding))
        said = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
        answer.end(f"{counts.total():,} data sets{': ' if said else ''}{said}", counts=counts)
    if counts[HoldingState.UNREADABLE]:
        raise CommandError(f"{counts[HoldingState.UNREADABLE]} folders cannot be read; the list may lack data sets.")


# ---------------------------------------------------------------------------------------------- show


def show(
    pid: Pid,
    files: Annotated[bool, typer.Option("--files", help="List the files in the datablocks, too.")] = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Show what the share says of a data set: its bag, its datablocks and, with --files, its files."""
    from archiver.workflow.holdings.description import describe, members_of

    with open_share(root) as (child, address):
        found = child.call(describe, None, address, pid)
        head: dict[str, Any] = {
            **_head(address),
            "dataset": asdict(found.holding),
            "info": found.info,
            "datablocks": [asdict(each) for each in found.datablocks],
        }
        with Answer("files" if files else None, as_json=as_json, **head) as answer:
            answer.text(f"{shown(found.holding.pid)}  {found.holding.state}  {found.holding.note}".rstrip())
            for label, value in found.info.items():
                answer.text(f"  {label}: {shown(value)}")
            for each in found.datablocks:
                size = "missing" if each.packed_size is None else f"{each.packed_size:,} bytes"
                answer.text(f"{each.archive_id}  {size}  {_amount(each.files, 'files')}  {each.note}".rstrip())
                answer.text(f"  sha256 {each.sha256 or 'not recorded on the share'}")
            for each in found.datablocks if files else ():
                if each.index is None:
                    continue
                for member in child.call(members_of, None, address, each.index):
                    time = datetime.fromtimestamp(member.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                    answer.item(
                        {**asdict(member), "archive_id": each.archive_id},
                        f"{'d' if member.is_folder else '-'}{member.mode:04o} {time} {member.size:>15,} "
                        f"{member.sha256 or '-':<64} {each.archive_id.rpartition('/')[2]}@{member.offset} "
                        f"{shown(member.path)}",
                    )


# ---------------------------------------------------------------------------------------------- verify


def verify(
    pids: Annotated[list[str] | None, typer.Argument(metavar="PID", help="Data sets to verify.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Verify every published bag on the share.")] = False,
    members: Annotated[
        bool, typer.Option("--members", help="Check the SHA-256 of each file in the tars, too; in the same pass.")
    ] = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Read bags whole and compare them with their manifests; nothing is ever altered."""
    from archiver.workflow.holdings.listing import Holdings, HoldingState
    from archiver.workflow.holdings.reading import PROOF_READ
    from archiver.workflow.holdings.verification import verify_bag

    if everything == bool(pids):
        raise typer.BadParameter("Name data sets, or give --all.")
    counts: Counter[str] = Counter()
    with (
        open_share(root) as (child, address),
        Answer("datasets", as_json=as_json, **_head(address), proof=PROOF_READ) as answer,
    ):
        holdings = Holdings(child, address)
        chosen = holdings.walk() if everything else ((pid, holdings.find(pid)) for pid in pids or ())
        for each in chosen:
            pid, holding = each if isinstance(each, tuple) else (each.pid, each)
            if holding is None or not holding.state.has_bag:
                state = "not on the share" if holding is None else str(holding.state)
                counts[state] += 1
                answer.item({"pid": pid, "result": state, "damages": []}, f"{state:<10} {shown(pid)}: not verified")
                continue
            with progress_bar(pid, holding.size) as progress:
                done = child.call(verify_bag, progress, address, pid, members=members)
            result = "good" if done.is_good else "damaged"
            counts[result] += 1
            inside = "" if done.members is None else f", {done.members:,} files in tars"
            answer.item(
                {**asdict(done), "result": result},
                f"{result:<10} {shown(pid)}: {done.files:,} files, {done.size:,} bytes read{inside}",
                *(f"  {damage}" for damage in done.damages),
            )
        said = ", ".join(f"{count:,} {result}" for result, count in sorted(counts.items()))
        answer.end(f"{said or 'no data sets'}; {PROOF_READ}", counts=counts)
    if counts["damaged"]:
        raise typer.Exit(DAMAGE_FOUND)
    unverified = counts.total() - counts["good"]
    if unverified and (not everything or counts[HoldingState.UNREADABLE]):
        raise CommandError(f"{unverified} data sets could not be verified: only published bags can.")


# ---------------------------------------------------------------------------------------------- extract


def extract(
    pid: Pid,
    to: Annotated[Path, typer.Option("--to", "-t", metavar="FOLDER", help="Where the files go; made if missing.")],
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--files",
            "-f",
            metavar="PATTERN",
            help="Only these: a path, a folder, or a pattern with * and ? (which match / too). Can be given again.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be extracted; the files are not read either.")
    ] = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Extract files of a data set, each checked while it is written; with times and modes."""
    from archiver.workflow.holdings.extraction import ExtractOrder
    from archiver.workflow.holdings.extraction import extract as extract_files
    from archiver.workflow.holdings.listing import Holdings

    with open_share(root) as (child, address):
        holding = None if files else Holdings(child, address).find(pid)
        order = ExtractOrder(address, pid, to.absolute(), tuple(files or ()), overwrite, dry_run)
        with progress_bar(pid, None if holding is None else holding.size) as progress:
            done = child.call(extract_files, progress, order)
        head = {**_head(address), "pid": pid, "to": str(order.target), "dry_run": dry_run}
        told, proof = ("would be extracted", "not read") if dry_run else ("extracted", "SHA-256 checked")
        with Answer("failures", as_json=as_json, **head) as answer:
            for failure in done.failures:
                answer.item(asdict(failure), f"not extracted: {shown(failure.path)}: {failure.reason}")
            for pattern in done.unmatched:
                answer.text(f"nothing matches {pattern!r}")
            answer.end(
                f"{told} to {order.target}: {done.files:,} files, {done.size:,} bytes, {proof}; "
                f"{len(done.failures):,} failures",
                files=done.files,
                folders=done.folders,
                bytes=done.size,
                unmatched=done.unmatched,
            )
    if done.failures or done.unmatched:
        raise typer.Exit(DAMAGE_FOUND)


# ---------------------------------------------------------------------------------------------- rebuild-ledger


def rebuild_ledger(
    verify_first: Annotated[
        bool, typer.Option("--verify", help="Read every bag whole first; else the datablocks are noted as unproven.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be noted.")] = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Make the ledger at LEDGER_URL know every published bag. The share is only read; safe to repeat."""
    from datetime import timedelta

    from archiver.config.settings import ArchivingSettings, LedgerSettings
    from archiver.workflow.holdings.rebuilding import AdoptionOutcome, LedgerRebuilding
    from archiver.workflow.ledger.ledger import Ledger

    outcomes: Counter[str] = Counter()
    timeout = timedelta(seconds=ArchivingSettings.load().claim_timeout_s)
    with open_share(root) as (child, address), Ledger.open(LedgerSettings.load()) as ledger:
        work = LedgerRebuilding(ledger, child, address, timeout, verify=verify_first, dry_run=dry_run)
        work.prepare()
        with (
            Answer("datasets", as_json=as_json, **_head(address), dry_run=dry_run, verified=verify_first) as answer,
            progress_bar("reading the bags", None) as progress,
        ):
            for each in work.rebuild(progress):
                outcomes[each.outcome] += 1
                detail = f": {each.detail}" if each.detail else ""
                answer.item(asdict(each), f"{each.outcome:<13} {shown(each.pid)}{detail}")
            said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
            proof = "every bag was read" if verify_first else "no tar was read: what is new is noted as unproven"
            dry = "dry run, nothing was changed; " if dry_run else ""
            answer.end(f"{dry}{said or 'no data sets'}; {proof}", counts=outcomes)
    if any(outcomes[outcome] for outcome in AdoptionOutcome if outcome.needs_attention):
        raise typer.Exit(DAMAGE_FOUND)
    if outcomes[AdoptionOutcome.BUSY]:
        raise CommandError("Some data sets are being worked on and were left alone. Run this again afterwards.")


_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "init": (init, f"{EXIT_CODES}."),
    "list": (list_, f"{EXIT_CODES}."),
    "show": (show, f"{EXIT_CODES}."),
    "verify": (verify, f"{EXIT_CODES}, 3 damage found."),
    "extract": (extract, f"{EXIT_CODES}, 3 not all that was asked for could be extracted."),
    "rebuild-ledger": (
        rebuild_ledger,
        f"{EXIT_CODES}, 3 a bag is damaged or missing, or the ledger records another one; neither was changed.",
    ),
}


def add_to(app: typer.Typer) -> typer.Typer:
    """Add the commands; the group they are in."""
    lts = typer.Typer(name="lts", no_args_is_help=True, help="Look at, check and read the long-term storage share.")
    for name, (command, codes) in _COMMANDS.items():
        lts.command(name, epilog=codes)(command)
    app.add_typer(lts)
    return lts
