"""`archiver reconcile`: one pass of the reconciliation, now, and what it did."""

from typing import Annotated

import typer

from archiver.cli.answers import Answer
from archiver.cli.errors import CommandError

NEEDS_ATTENTION = 3
_ONLY_WATCHING_TELLS = "runs that died, and jobs of theirs: it takes watching them for a while, which the service does"


def reconcile(
    without_share: Annotated[
        bool, typer.Option("--without-share", help="Do not compare the ledger with the long-term storage share.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be done now; nothing is changed anywhere.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as one JSON document.")] = False,
) -> None:
    """Put right once what crashes, lost messages and time left behind, and say what was done.

    Safe beside the service, which does the same every minute. Only runs that died are left to it: it takes watching
    them for a while. Where ledger and share disagree nothing is changed; that is told, for somebody to look at, as is
    what no further pass can do: something is refused, say.
    """
    from archiver.config.logs import configure_logs
    from archiver.config.settings import FlowConfiguration, ReconciliationSettings
    from archiver.workflow.reconciliation import open_reconciliation

    configure_logs("WARNING" if dry_run else "INFO")  # the log would tell as done what is only looked at
    with_share = not without_share
    with open_reconciliation(
        FlowConfiguration(), ReconciliationSettings(), with_share=with_share, dry_run=dry_run
    ) as service:
        report = service.reconcile(whole_share=True)
    unknown = [_ONLY_WATCHING_TELLS] if dry_run else []
    head = {"failed": report.failed, "alarms": report.alarms, "unknown": unknown}
    with Answer("done", as_json=as_json, dry_run=dry_run, **head) as answer:
        for action in report.done:
            answer.item(action, f"would be done: {action}" if dry_run else action)
        for alarm in report.alarms:
            answer.text(f"ALARM: {alarm}")
        for failure in report.failed:
            answer.text(f"failed: {failure}")
        for part in unknown:
            answer.text(f"not known: {part}")
        done = "dry run, nothing was changed; {} would be done" if dry_run else "{} done"
        answer.end(f"{done.format(len(report.done))}, {len(report.failed)} failed, {len(report.alarms)} need attention")
    if report.failed:
        raise CommandError("Not everything could be looked after. See above; run this again when that is mended.")
    if report.alarms:
        raise typer.Exit(NEEDS_ATTENTION)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    codes = (
        "Exit codes: 0 good, 1 something failed, 2 wrong use, 3 somebody must act: ledger and share disagree (neither "
        "was changed), or something cannot be done."
    )
    app.command(epilog=codes)(reconcile)
