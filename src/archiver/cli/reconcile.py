"""`archiver reconcile`: one pass of the reconciliation, now, and what it did."""

from typing import Annotated

import typer

from archiver.cli.answers import Answer
from archiver.cli.errors import CommandError

NEEDS_ATTENTION = 3


def reconcile(
    without_share: Annotated[
        bool, typer.Option("--without-share", help="Do not compare the ledger with the long-term storage share.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as one JSON document.")] = False,
) -> None:
    """Put right once what crashes, lost messages and time left behind, and say what was done.

    Safe beside the service, which does the same every minute. Only runs that died are left to it: it takes watching
    them for a while. Where ledger and share disagree nothing is changed; that is told, for somebody to look at.
    """
    from archiver.config.logs import configure_logs
    from archiver.config.settings import FlowConfiguration, ReconciliationSettings
    from archiver.workflow.reconciliation import open_reconciliation

    configure_logs()
    with open_reconciliation(FlowConfiguration(), ReconciliationSettings(), with_share=not without_share) as service:
        report = service.reconcile(whole_share=True)
    with Answer("done", as_json=as_json, failed=report.failed, alarms=report.alarms) as answer:
        for action in report.done:
            answer.item(action, action)
        for alarm in report.alarms:
            answer.text(f"ALARM: {alarm}")
        for failure in report.failed:
            answer.text(f"failed: {failure}")
        answer.end(f"{len(report.done)} done, {len(report.failed)} failed, {len(report.alarms)} need attention")
    if report.failed:
        raise CommandError("Not everything could be looked after. See above; run this again when that is mended.")
    if report.alarms:
        raise typer.Exit(NEEDS_ATTENTION)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    codes = "Exit codes: 0 good, 1 something failed, 2 wrong use, 3 ledger and share disagree; neither was changed."
    app.command(epilog=codes)(reconcile)
