"""The parts of the benchmark; each gives rows of the report."""

import shutil
import time
from collections.abc import Callable, Sequence

from archiver.workflow.names import bag_folder
from benchmarks.datasets import DatasetSpec
from benchmarks.landing import land
from benchmarks.measured_runs import MeasuredRun, run_use_case
from benchmarks.report import Aim, Row
from benchmarks.sites import Site
from benchmarks.statistics import growth
from benchmarks.yardsticks import Yardstick, empty, measure, measure_retrieval, settle

Say = Callable[[str], None]

ARCHIVE_AIMS = {"A": 1.6, "B": 0.75, "C": 1.7}
"""Times Y."""
RETRIEVE_AIMS = {"A": 1.5}
"""Times rclone."""
MOST_WRITTEN = 1.01
"""Times the tar."""
MOST_MEMORY_MB = 400.0
MOST_GROWTH = 300.0
"""Bytes a file."""
MANY_FILES_WITHIN_S = 20 * 60.0
PREFECT_SHARE_S = 10.0
_MEGABYTE = 1000**2
_JOB_WITHIN_S = 1800.0
_POLL_S = 0.1


def forget(site: Site, pid: str) -> None:
    """Remove what a measured data set left: its bag and its retrieved copies."""
    shutil.rmtree(site.share / bag_folder(pid))
    empty(site, site.store_settings.s3_retrieval_bucket, bag_folder(pid) + "/")


def _retrieved(site: Site, pid: str) -> MeasuredRun:
    settle(site.folder)
    return run_use_case(site, "retrieve", pid)


def measure_dataset(site: Site, spec: DatasetSpec, runs: int, say: Say) -> list[Row]:
    """One data set there and back, beside the yardsticks, all with the same objects in each run."""
    yardsticks: list[Yardstick] = []
    archived: list[MeasuredRun] = []
    retrieved: list[MeasuredRun] = []
    copies: list[float] = []
    for number in range(1, runs + 1):
        pid = land(site, spec)
        yardsticks.append(measure(site, pid))
        settle(site.folder)
        archived.append(run_use_case(site, "archive", pid))
        copies.append(measure_retrieval(site, archived[-1].tars))
        retrieved.append(_retrieved(site, pid))
        forget(site, pid)
        say(
            f"{site.server} {spec.name} run {number}: Y {yardsticks[-1].y:.1f} s (copy {yardsticks[-1].copy:.1f}), "
            f"by hand {yardsticks[-1].by_hand:.1f} s, archive {archived[-1].seconds:.1f} s (processors "
            f"{' + '.join(map(str, archived[-1].cpu))}), rclone to the bucket {copies[-1]:.1f} s, retrieve "
            f"{retrieved[-1].seconds:.1f} s (processors {' + '.join(map(str, retrieved[-1].cpu))}); "
            f"{archived[-1].notes}"
        )
    return _rows_of_dataset(site.server, spec, yardsticks, archived, retrieved, copies)


def _rows_of_dataset(
    server: str,
    spec: DatasetSpec,
    yardsticks: Sequence[Yardstick],
    archived: Sequence[MeasuredRun],
    retrieved: Sequence[MeasuredRun],
    copies: Sequence[float],
) -> list[Row]:
    y = tuple(each.y for each in yardsticks)
    tars = tuple(float(sum(run.tars.values())) for run in archived)
    archive_aim = Aim(ARCHIVE_AIMS[spec.name], "Y") if spec.name in ARCHIVE_AIMS else None
    retrieve_aim = Aim(RETRIEVE_AIMS[spec.name], "rclone") if spec.name in RETRIEVE_AIMS else None

    def row(
        figure: str, unit: str, values: Sequence[float], aim: Aim | None = None, against: Sequence[float] = ()
    ) -> Row:
        return Row(server, spec.name, figure, unit, tuple(values), aim, tuple(against))

    return [
        row("Y: rclone copy, sync, one uncached read", "s", y),
        row("by hand: rclone copy, tar, sha256sum, cmp", "s", [each.by_hand for each in yardsticks], against=y),
        row("archive", "s", [run.seconds for run in archived], archive_aim, y),
        row("Y, processor time without the S3 server's", "s", [each.cpu for each in yardsticks]),
        row("by hand, processor time without the S3 server's", "s", [each.cpu_by_hand for each in yardsticks]),
        row("archive, processor time without the S3 server's", "s", [sum(run.cpu) for run in archived]),
        row(
            "archive, bytes written to disk",
            "B",
            [run.written_bytes for run in archived],
            Aim(MOST_WRITTEN, "tar"),
            tars,
        ),
        row(
            "archive, peak memory of run and child",
            "MB",
            [run.peak_bytes / _MEGABYTE for run in archived],
            Aim(MOST_MEMORY_MB),
        ),
        row("rclone copy of the tars to the bucket", "s", copies),
        row("retrieve", "s", [run.seconds for run in retrieved], retrieve_aim, copies),
        row(
            "retrieve, peak memory of run and child",
            "MB",
            [run.peak_bytes / _MEGABYTE for run in retrieved],
            Aim(MOST_MEMORY_MB),
        ),
    ]


def measure_prefect(site: Site, spec: DatasetSpec, runs: int, say: Say) -> list[Row]:
    """The same data set archived by the use case alone and by a job through Prefect, on one stack."""
    alone: list[float] = []
    shares: list[float] = []
    queued: list[float] = []
    for number in range(1, runs + 1):
        pid = land(site, spec)
        settle(site.folder)
        alone.append(run_use_case(site, "archive", pid).seconds)
        forget(site, pid)
        pid = land(site, spec)
        settle(site.folder)
        queued.append(_archive_by_job(site, pid))
        forget(site, pid)
        shares.append(queued[-1] - alone[-1])
        say(f"{site.server} {spec.name} run {number}: alone {alone[-1]:.1f} s, by a job {queued[-1]:.1f} s")
    subject = f"{spec.name}, whole service"
    return [
        Row(site.server, subject, "archive, use case alone", "s", tuple(alone)),
        Row(site.server, subject, "archive, from the job's creation to its end", "s", tuple(queued)),
        Row(site.server, subject, "share of catalogue, queue and Prefect", "s", tuple(shares), Aim(PREFECT_SHARE_S)),
    ]


def _archive_by_job(site: Site, pid: str) -> float:
    dataset = site.catalogue.dataset(pid)
    began = time.monotonic()
    job_id = site.catalogue.create_job("archive", pid, "", dataset.owner_group, "", "benchmark")
    while not (job := site.catalogue.job(job_id)).status.startswith("finished"):
        if time.monotonic() - began > _JOB_WITHIN_S:
            raise TimeoutError(f"The job {job_id} is {job.status} after {_JOB_WITHIN_S:.0f} s.")
        time.sleep(_POLL_S)
    if job.status != "finishedSuccessful":
        raise RuntimeError(f"The job {job_id} ended as {job.status}. Look at its run in Prefect.")
    return time.monotonic() - began


def measure_many_files(site: Site, spec: DatasetSpec, say: Say) -> list[Row]:
    """A data set of very many small files, and one of a tenth of them: time, and how memory grows."""
    found: list[tuple[int, MeasuredRun]] = []
    for part in (spec.scaled(0.1), spec):
        began = time.monotonic()
        pid = land(site, part)
        say(f"{site.server}: {part.description} landed in {time.monotonic() - began:.0f} s")
        settle(site.folder)
        run = run_use_case(site, "archive", pid)
        found.append((part.files, run))
        say(
            f"{site.server} {part.description}: archive {run.seconds:.1f} s (processors {run.cpu}), peak "
            f"{run.peak_bytes / _MEGABYTE:.0f} MB; {run.notes}"
        )
        forget(site, pid)
    (few, small), (many, large) = found
    grown = growth((few, small.peak_bytes), (many, large.peak_bytes))
    subject = spec.description
    return [
        Row(site.server, subject, "archive", "s", (large.seconds,), Aim(MANY_FILES_WITHIN_S)),
        Row(
            site.server,
            subject,
            "archive, peak memory of run and child",
            "MB",
            (large.peak_bytes / _MEGABYTE,),
            Aim(MOST_MEMORY_MB),
        ),
        Row(site.server, subject, "memory that each further file adds", "B", (grown,), Aim(MOST_GROWTH)),
    ]
