"""`archiver doctor`: is everything the service needs there, and as it must be?"""

from collections import Counter
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from archiver.cli.answers import Answer
from archiver.cli.errors import EXIT_CODES
from archiver.cli.service import FOUND, AsJson, Folder, service_environment

if TYPE_CHECKING:
    from archiver.cli.checks.findings import Finder, Finding

_MARKS = {"good": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "red"), "skipped": ("-", "bright_black")}


class GroupName(StrEnum):
    """What can be looked at."""

    SETTINGS = "settings"
    LEDGER = "ledger"
    S3 = "s3"
    SCICAT = "scicat"
    KEYCLOAK = "keycloak"
    PREFECT = "prefect"
    SHARE = "share"
    SCRATCH = "scratch"
    NOTIFY = "notify"
    BACKUP = "backup"


def _finders(*, may_write: bool) -> "dict[GroupName, Finder]":
    from archiver.cli.checks import backups, services, share, telling

    return {
        GroupName.SETTINGS: services.check_settings,
        GroupName.LEDGER: lambda: services.check_ledger(may_write=may_write),
        GroupName.S3: lambda: services.check_store(may_write=may_write),
        GroupName.SCICAT: lambda: services.check_catalogue(may_write=may_write),
        GroupName.KEYCLOAK: services.check_identity,
        GroupName.PREFECT: services.check_queue,
        GroupName.SHARE: lambda: share.check_share(may_write=may_write),
        GroupName.SCRATCH: share.check_scratch,
        GroupName.NOTIFY: telling.check_channel,
        GroupName.BACKUP: backups.check_backups,
    }


def _line(finding: "Finding") -> str:
    mark, colour = _MARKS[finding.verdict]
    return f"{typer.style(mark, fg=colour)} {finding.group:<9} {finding.name:<32} {finding.detail}"


def doctor(
    only: Annotated[
        list[GroupName] | None, typer.Option("--only", help="Look at this alone; may be given several times.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: rights on buckets, ledger, SciCat, shares stay unknown.")
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Check every dependency, credential and right, and say what to mend.

    Writes and removes a small object in each bucket and a small file on each share, and asks SciCat to delete a
    datablock that is not there. Run it where the API runs, and where flows run or the reconciliation: each looks at
    what it needs itself, with its own credentials, and says what it leaves to the other.
    """
    from archiver.cli.checks.findings import findings_of

    counts: Counter[str] = Counter()
    with service_environment(folder), Answer("findings", as_json=as_json, dry_run=dry_run) as answer:
        finders = _finders(may_write=not dry_run)
        for name in only or list(GroupName):
            for finding in findings_of(name, finders[name]):
                counts[finding.verdict] += 1
                answer.item(asdict(finding), _line(finding))
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        answer.end(told, counts=counts)
    if counts["bad"]:
        raise typer.Exit(FOUND)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"{EXIT_CODES}, 3 something is bad.")(doctor)
