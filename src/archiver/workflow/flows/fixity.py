"""Flow `fixity_audit`: the archive read again, a part of it every day."""

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from archiver.config.logs import configure_logs
from archiver.workflow.errors import ArchiverError
from archiver.workflow.fixity import AuditOutcome, FixityAudit
from archiver.workflow.flows.configuration import flow_configuration
from archiver.workflow.flows.monitor import PrefectMonitor
from archiver.workflow.flows.server_away import only_shown
from archiver.workflow.notifications import Weight, open_channel
from archiver.workflow.tools import open_tools

Stubs = Annotated[int, Field(ge=0, description="Most datablocks to recall from tape and read; 0 skips and counts them")]
Hours = Annotated[float, Field(gt=0, description="Time of this audit, hours; as FIXITY_HOURS where it is not given")]
Terabytes = Annotated[float, Field(gt=0, description="TB of 10^12 bytes to read; as FIXITY_TERABYTES where not given")]


@flow(name="fixity_audit")
def fixity_audit(recall: Stubs = 0, hours: Hours | None = None, terabytes: Terabytes | None = None) -> State[None]:
    """Read the datablocks that were checked the longest ago again, and report what is damaged. Alters nothing."""
    configure_logs()
    configuration = flow_configuration()
    given = {"fixity_hours": hours, "fixity_terabytes": terabytes}
    budget = configuration.fixity.model_copy(update={name: value for name, value in given.items() if value is not None})
    try:
        with open_tools(configuration) as tools:
            outcome = FixityAudit(tools, budget, PrefectMonitor("fixity audit", "auditing"), recall=recall).run()
    except ArchiverError as error:
        return Failed(message=str(error))
    with only_shown("outcome"):
        _show(outcome)
    if outcome.findings:
        title = f"Archiver: damage found at {len(outcome.findings)} datablocks"
        open_channel(configuration.notifications).send(title, outcome.message, Weight.FAILURE)
    return Failed(message=outcome.message) if outcome.findings else Completed(message=outcome.message)


def _show(outcome: AuditOutcome) -> None:
    if outcome.findings:
        create_table_artifact(
            [
                {
                    "data set": finding.pid,
                    "datablock": finding.archive_id,
                    "copy at": finding.place,
                    "is": str(finding.outcome),
                    "detail": finding.detail,
                }
                for finding in outcome.findings
            ],
            "fixity-damage",
            "Datablocks that are not as they were archived; nothing was changed",
        )
    lines = [
        f"- read: {outcome.checked:,} datablocks, {outcome.read_bytes:,} bytes; {outcome.ended_by}",
        f"- damaged: {len(outcome.findings):,}; good again: {len(outcome.mended):,}",
        *(f"- the copies at {place} were NOT read: {reason}" for place, reason in outcome.away.items()),
        f"- on tape, skipped: {outcome.on_tape:,} datablocks, {outcome.on_tape_bytes:,} bytes",
        f"- coverage: {outcome.coverage.message}",
    ]
    if outcome.summary is not None:
        oldest = outcome.summary.oldest_read
        lines.append(
            f"- the archive: {outcome.summary.datablocks:,} datablocks, {outcome.summary.damaged:,} known to be "
            f"damaged, {outcome.summary.overdue:,} overdue; read the longest ago: "
            f"{'none was ever read' if oldest is None else f'{oldest:%Y-%m-%d}'}"
        )
    create_markdown_artifact("\n".join(lines), "fixity-audit", "What the audit read and found")
