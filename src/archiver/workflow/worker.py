"""`python -m archiver.workflow.worker --pool NAME`: a Prefect worker for Docker, and what it needs beside it.

Only workers hold the engine's socket. So what else has to be done with it, and on every host that has a worker, is
done here: containers of runs that are over are swept, and the credential of the Prefect server is laid where runs
find it as a file, not in the environment of their containers.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import structlog
from pydantic import Field

from archiver.config.logs import configure_logs
from archiver.config.settings import QueueSettings
from archiver.config.sources import EnvironmentSettings, UnreadableSecretFileError
from archiver.workflow.container_sweep import DockerEngine, sweep
from archiver.workflow.errors import ArchiverError
from archiver.workflow.job_queue import JobQueue

log = structlog.get_logger("archiver.workflow.worker")  # by name: run with -m, it is `__main__`

CREDENTIAL = "prefect_api_auth_string"


class WorkerSettings(EnvironmentSettings):
    """A worker and its host."""

    worker_credential_folder: Path | None = None
    """Where the credential is laid for runs: a volume that they see too. Nowhere where it is empty."""
    worker_sweep_interval_s: float = Field(60, gt=0)
    lts_user_id: int = 123
    lts_group_id: int = 123


def lay_credential(credential: str, folder: Path, owner: int, group: int) -> Path:
    """Put the credential where only the user of the runs can read it; a run that reads it meanwhile sees the old one.

    Raises:
        OSError: it cannot be written there.
    """
    file, draft = folder / CREDENTIAL, folder / f".{CREDENTIAL}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as text:
        text.write(credential)
    os.chown(draft, owner, group)
    draft.replace(file)
    return file


def worker_command(pool: str, limit: int | None) -> list[str]:
    """Prefect's worker. The pool must be there: one that it made itself would have another template."""
    return [
        *(sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "docker"),
        *("--install-policy", "never", "--no-create-pool-if-not-found", "--with-healthcheck"),
        *(("--limit", str(limit)) if limit is not None else ()),
    ]


def _sweep_for_ever(pool: str, interval_s: float, ended: threading.Event) -> None:
    with JobQueue.open(QueueSettings()) as queue:
        while not ended.wait(interval_s):
            try:
                sweep(DockerEngine(), queue, pool)
            except ArchiverError as error:
                log.warning("sweep_failed", pool=pool, error=str(error))


def supervise(command: Sequence[str], pool: str, interval_s: float) -> int:
    """Run the worker until it ends, sweeping meanwhile; its exit status.

    A signal to end is passed on: the worker takes no new runs and ends after those it has.
    """
    worker = subprocess.Popen(command)

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        log.info("worker_told_to_end", pool=pool)
        worker.send_signal(signal.SIGTERM)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, pass_on)
    ended = threading.Event()
    sweeper = threading.Thread(target=_sweep_for_ever, args=(pool, interval_s, ended), name="sweep", daemon=True)
    sweeper.start()
    try:
        return worker.wait()
    finally:
        ended.set()


def main() -> int:
    """Be a worker until a signal; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m archiver.workflow.worker", description=__doc__)
    parser.add_argument("--pool", required=True, help="work pool to take runs from")
    parser.add_argument("--limit", type=int, help="containers at once at most")
    arguments = parser.parse_args()
    configure_logs()
    settings = WorkerSettings()
    try:
        credential = QueueSettings().prefect_api_auth_string.get_secret_value()
        if settings.worker_credential_folder is not None:
            lay_credential(credential, settings.worker_credential_folder, settings.lts_user_id, settings.lts_group_id)
    except (OSError, UnreadableSecretFileError) as error:
        log.error("credential_not_laid", error=str(error))  # noqa: TRY400 - the text says it all
        return 1
    return supervise(worker_command(arguments.pool, arguments.limit), arguments.pool, settings.worker_sweep_interval_s)


if __name__ == "__main__":
    sys.exit(main())
