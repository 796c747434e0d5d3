"""`make bench`: measure, show a table, and keep it with all figures as JSON."""

import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer

from archiver.local.settings import project_folder
from archiver.local.stack import running_stack
from benchmarks.api_measurements import measure_edge, measure_jobs, measure_urls
from benchmarks.datasets import DATASETS, MANY_FILES, DatasetSpec
from benchmarks.machine import circumstances
from benchmarks.measurements import measure_dataset, measure_many_files, measure_prefect
from benchmarks.report import Row, document, page
from benchmarks.several_servers import measure_several_servers
from benchmarks.sites import SERVERS, minio_version, open_site, site_of_stack
from benchmarks.yardsticks import rclone_version

SMALL = 0.02
"""Share of the full size that shows within minutes whether everything works."""


class Part(StrEnum):
    """What can be measured."""

    DATASETS = "datasets"
    """Each data set there and back, beside the yardsticks."""
    PREFECT = "prefect"
    """The share of catalogue, queue and Prefect."""
    MANY = "many"
    """400,000 files: time and memory."""
    API = "api"
    """URLs, the upload edge, and jobs."""
    SERVERS = "servers"
    """One and two Prefect servers; only when asked for, as it needs Redis."""


_PARTS: list[Part] = [part for part in Part if part is not Part.SERVERS]
_DATASETS = sorted(DATASETS)
_SERVERS = list(SERVERS)
_FOLDER = project_folder() / "build" / "bench"


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A folder of our own, removed afterwards; PostgreSQL, which is not root, must be able to pass."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(
    folder: Path,
    parts: Sequence[Part],
    servers: Sequence[str],
    specs: Sequence[DatasetSpec],
    many: DatasetSpec,
    runs: int,
) -> Iterator[list[Row]]:
    for server in servers:
        if Part.DATASETS in parts or Part.MANY in parts:
            with open_site(folder / server, server) as site:
                if Part.DATASETS in parts:
                    for spec in specs:
                        yield measure_dataset(site, spec, runs, _say)
                if Part.MANY in parts:
                    yield measure_many_files(site, many, _say)
    if Part.SERVERS in parts:
        yield measure_several_servers(folder, (1, 2), _say)
    if Part.PREFECT in parts or Part.API in parts:
        (folder / "stack").mkdir()
        with (
            running_stack(folder / "stack", restart=True) as stack,
            site_of_stack(stack, folder / "stack" / "work") as site,
        ):
            if Part.PREFECT in parts:
                for spec in specs:
                    yield measure_prefect(site, spec, runs, _say)
            if Part.API in parts:
                yield measure_urls(stack, runs, _say)
                yield measure_edge(stack, runs, _say)
                yield measure_jobs(stack, _say)


def main(
    *,
    part: Annotated[list[Part], typer.Option(help="What to measure.")] = _PARTS,
    dataset: Annotated[list[str], typer.Option(help="Data sets to measure.")] = _DATASETS,
    server: Annotated[list[str], typer.Option(help="S3 servers.")] = _SERVERS,
    factor: Annotated[float, typer.Option(min=0.0001, max=1, help="Share of the data sets' full size.")] = 1,
    small: Annotated[bool, typer.Option("--small", help=f"The same as --factor {SMALL} --runs 1.")] = False,
    runs: Annotated[int, typer.Option(min=1, help="How often; medians are shown.")] = 3,
    folder: Annotated[Path, typer.Option(help="On the disk to measure.")] = _FOLDER,
) -> None:
    """Measure the archive beside what else could be done with the same bytes on this machine."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    # Whoever ends it early must not leave servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended early."))
    if small:
        factor, runs = SMALL, 1
    specs = [DATASETS[name].scaled(factor) for name in dataset]
    versions = {"rclone": rclone_version()} | ({"MinIO": minio_version()} if "minio" in server else {})
    where = circumstances(factor, runs, versions)
    rows: list[Row] = []
    results = folder / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    with _folder(folder) as work:
        for found in _measured(work, part, server, specs, MANY_FILES.scaled(factor), runs):
            rows += found
            # After each: what was measured so far is not lost with what fails later.
            results.with_suffix(".json").write_text(document(where, rows), encoding="utf-8")
            results.with_suffix(".md").write_text(page(where, rows), encoding="utf-8")
    print(page(where, rows))
    print(f"{results}.json and .md")


if __name__ == "__main__":
    typer.run(main)
