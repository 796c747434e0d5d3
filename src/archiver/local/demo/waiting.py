"""Waiting for a job as its owner does, by asking the catalogue, with the run in Prefect to look at meanwhile."""

import time
from collections.abc import Callable

from archiver.local.demo.display import Stage
from archiver.local.demo.errors import DemoFailedError
from archiver.local.demo.runs import RunView, RunWindow
from archiver.local.ingestor.catalogue import JobView

_POLL_S = 0.5
_LOOK_S = 1.0
"""How often Prefect is looked at."""


class JobWatch:
    """Follows jobs to their end."""

    def __init__(self, window: RunWindow, ui_url: str, logs: str) -> None:
        self._window = window
        self._ui_url = ui_url
        self._logs = logs

    def wait(self, what: str, read: Callable[[], JobView | None], stage: Stage, patience_s: float) -> JobView:
        """The job that `read` gives, once it has ended well. None means that there is none yet.

        Raises:
            DemoFailedError: it ended otherwise, or not within `patience_s`; the message says why and where to look.
        """
        began = time.monotonic()
        deadline = began + patience_s
        looked = 0.0
        job: JobView | None = None
        run: RunView | None = None
        while job is None or not job.is_finished:
            if time.monotonic() > deadline:
                known = "is not there" if job is None else f"is still {job.status}: {job.message}"
                raise DemoFailedError(f"{what} {known} after {patience_s:.0f} s.{self._where(run)}")
            time.sleep(_POLL_S)
            job = read()
            if job is not None and time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                run = self._window.of_job(job.id) or run
                self._show(run, stage)
                if run is not None and run.is_at_work and not stage.note:
                    stage.note = f"run began after {looked - began:,.0f} s"
        if not job.is_successful:
            raise DemoFailedError(f"{what} ended as {job.status}: {job.message}{self._where(run)}")
        return job

    @staticmethod
    def _show(run: RunView | None, stage: Stage) -> None:
        if run is None:
            stage.describe("queued")
            return
        stage.describe(run.summary)
        if run.percent is not None:
            stage.reach(run.percent / 100)

    def _where(self, run: RunView | None) -> str:
        shown = f" Its run: {self._ui_url}/runs/flow-run/{run.id}." if run is not None else ""
        return f"{shown} Logs: {self._logs}"
