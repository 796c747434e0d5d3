"""`archiver jobs`, `retry`, `cancel`, `pause`, `resume`: the queue looked at and steered."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from archiver.cli.answers import Answer, shown
from archiver.cli.errors import EXIT_CODES
from archiver.cli.service import AsJson, DryRun, Folder, operations
from archiver.workflow.amounts import age_text

if TYPE_CHECKING:
    from archiver.workflow.job_queue import RunState
    from archiver.workflow.operations import JobView

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job in SciCat.")]


def _run(run: "RunState") -> dict[str, Any]:
    return {
        "id": str(run.id),
        "name": run.name,
        "state": run.state_name,
        "created_at": run.created_at.isoformat(),
        "last_sign": run.last_sign.isoformat(),
        "message": run.message,
    }


def _record(view: "JobView") -> dict[str, Any]:
    job = view.job
    return {
        "job": job.id,
        "type": job.type,
        "status": job.status,
        "created_at": job.created_at,
        "owner_group": job.owner_group,
        "datasets": [dataset.pid for dataset in job.datasets],
        "runs": [_run(run) for run in view.runs],
    }


def _line(view: "JobView") -> str:
    last = view.runs[-1] if view.runs else None
    pids = [shown(dataset.pid) for dataset in view.job.datasets]
    named = ", ".join(pids[:1]) + (f" and {len(pids) - 1} more" if len(pids) > 1 else "")
    state = f"{last.state_name} {age_text(last.last_sign)} ago" if last else "no run"
    return f"{view.job.id:<36}  {view.job.type:<8} {view.job.status:<25} {len(view.runs):>4}  {state:<26} {named}"


def jobs(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="Id of one job, to be shown with all its runs.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Those that failed, not those that are unfinished.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 50,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs that wait or are worked on, newest first; or show one job."""
    with operations(folder) as office:
        if job is not None:
            _show(office.job(job), as_json=as_json)
            return
        views, total = office.jobs(failed=failed, limit=limit)
        with Answer("jobs", as_json=as_json) as answer:
            answer.text(f"{'job':<36}  {'type':<8} {'status':<25} runs  {'last run':<26} data sets")
            for view in views:
                answer.item(_record(view), _line(view))
            kind = "failed" if failed else "unfinished"
            answer.end(f"{len(views)} of {total} {kind} jobs", total=total)


def _show(view: "JobView", *, as_json: bool) -> None:
    record = _record(view)
    runs = record.pop("runs")
    with Answer("runs", as_json=as_json, **record) as answer:
        answer.text(f"{view.job.type} {view.job.id}: {view.job.status}, created {view.job.created_at}")
        for dataset in view.job.datasets:
            answer.text(f"  data set {shown(dataset.pid)}")
        for run, found in zip(view.runs, runs, strict=True):
            answer.item(
                found,
                f"  run {run.name} ({run.id}): {run.state_name}, created {age_text(run.created_at)} ago, "
                f"last sign of life {age_text(run.last_sign)} ago",
                *(f"    {line}" for line in run.message.splitlines()),
            )
        answer.end(f"{len(view.runs)} runs")


def retry(job: JobId, dry_run: DryRun = False, folder: Folder = None, as_json: AsJson = False) -> None:
    """Make another run for a job that failed. What earlier runs finished is not done again."""
    with operations(folder) as office:
        attempt, run = office.retry(job, dry_run=dry_run)
        with Answer(None, as_json=as_json, job=job, dry_run=dry_run) as answer:
            told = "would be queued" if run is None else f"queued: {run.name}, {run.id}"
            answer.end(f"{job}: run {attempt} {told}", attempt=attempt, run=None if run is None else str(run.id))


def cancel(job: JobId, dry_run: DryRun = False, folder: Folder = None, as_json: AsJson = False) -> None:
    """End the runs of a job. What is archived stays so, and the landing zone keeps what is not."""
    with operations(folder) as office:
        runs = office.cancel(job, dry_run=dry_run)
        with Answer("runs", as_json=as_json, job=job, dry_run=dry_run) as answer:
            for run in runs:
                answer.item(_run(run), f"{run.name} ({run.id}): {'would be' if dry_run else 'is being'} cancelled")
            answer.end("" if dry_run else "Within minutes the catalogue is told. To run it after all: archiver retry")


def _set_paused(is_paused: bool, dry_run: bool, folder: Folder, as_json: bool) -> None:
    word = "paused" if is_paused else "resumed"
    with operations(folder) as office:
        changes = office.set_paused(is_paused, dry_run=dry_run)
        with Answer("pools", as_json=as_json, dry_run=dry_run) as answer:
            for pool, is_change in changes:
                told = f"{'would be ' if dry_run else ''}{word}" if is_change else f"is {word} already"
                answer.item({"pool": pool.name, "changed": is_change and not dry_run}, f"{pool.name}: {told}")
            answer.end(
                "Runs at work go on; uploads go on; new runs wait. Go on with: archiver resume"
                if is_paused
                else "Runs start again."
            )


def pause(dry_run: DryRun = False, folder: Folder = None, as_json: AsJson = False) -> None:
    """Start no more runs, for maintenance of workers or share. Uploads go on, jobs queue up."""
    _set_paused(True, dry_run, folder, as_json)


def resume(dry_run: DryRun = False, folder: Folder = None, as_json: AsJson = False) -> None:
    """Start runs again after `pause`."""
    _set_paused(False, dry_run, folder, as_json)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (jobs, retry, cancel, pause, resume):
        app.command(epilog=f"{EXIT_CODES}.")(command)
