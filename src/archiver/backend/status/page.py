"""What the status page shows, and the page as HTML: rendered here, nothing fetched from anywhere."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from archiver.config.settings import ApiConfiguration
from archiver.workflow.amounts import age_text, size_text
from archiver.workflow.job_queue import Waiting
from archiver.workflow.ledger.records import DatasetRecord, FixitySummary, Stage, StageCount
from archiver.workflow.overview import FULL, NEARLY_FULL, Overview, at_work

_STAGE_ORDER = {stage: number for number, stage in enumerate(Stage)}
_STAGE_NAMES = {
    Stage.EMPTIED: "archived",
    Stage.PUBLISHED: "archived, being registered",
    Stage.RETIRED: "withdrawn",
    Stage.REMOVING: "being removed",
}

_files = resources.files(__package__)
_CSS = (_files / "status.css").read_text(encoding="utf-8")
_TEMPLATE = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
    (_files / "status.html").read_text(encoding="utf-8")
)
_CSS_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_CSS_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Store:
    """How full something is. `percent` is None where that is not known."""

    name: str
    percent: int | None
    headline: str
    note: str

    @property
    def level(self) -> str:
        """Class of the bar."""
        if self.percent is None or self.percent < NEARLY_FULL:
            return ""
        return "full" if self.percent >= FULL else "warn"


@dataclass(frozen=True, slots=True)
class FixityView:
    """Share of the datablocks that were read as often as they must be, percent; None where there are none."""

    percent: int | None
    note: str


@dataclass(frozen=True, slots=True)
class QueueRow:
    """Runs of one type of job."""

    type: str
    waiting: int
    working: int
    oldest: str


@dataclass(frozen=True, slots=True)
class StageRow:
    """Data sets at one stage."""

    stage: str
    count: int
    held: int
    oldest: str


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A data set that is not done."""

    pid: str
    link: str
    stage: str
    age: str
    failed: bool
    held: bool
    size: str
    message: str


@dataclass(frozen=True, slots=True)
class Link:
    """A way to somewhere else."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Page:
    """The page, in words."""

    at: str
    user: str
    logout: str
    concerns: Sequence[str]
    stores: Sequence[Store]
    fixity: FixityView
    queue: Sequence[QueueRow] | None
    reconciled: str
    stages: Sequence[StageRow]
    archived: str
    unfinished: Sequence[DatasetRow]
    links: Sequence[Link]

    @property
    def verdict(self) -> str:
        """All of it in three words."""
        return "needs attention" if self.concerns else "all is well"


def _landing(overview: Overview) -> Store:
    usage = overview.landing
    return Store(
        "Landing zone",
        overview.landing_percent,
        f"of {size_text(overview.capacity_bytes)} taken",
        f"{size_text(usage.reserved_bytes)} reserved, {size_text(usage.landed_bytes)} there; "
        f"{usage.open_uploads} uploads open, {usage.finalized_uploads} finished and not yet archived",
    )


def _share(overview: Overview) -> Store:
    space = overview.share
    if space is None:
        return Store("Long-term storage", None, "", "Not measured yet: each archive run does.")
    return Store(
        "Long-term storage",
        overview.share_percent,
        f"of {size_text(overview.share_usable_bytes)} in use",
        f"{size_text(space.free_bytes)} free, of which {size_text(overview.floor_bytes)} must stay free; measured "
        f"{age_text(space.measured_at, overview.at)} ago",
    )


def _fixity(found: FixitySummary, overview: Overview) -> FixityView:
    if not found.datablocks:
        return FixityView(None, "")
    oldest = (
        f"the oldest reading is {age_text(found.oldest_read, overview.at)} old" if found.oldest_read else "none read"
    )
    return FixityView(
        int(100 * (found.datablocks - found.overdue) / found.datablocks),  # never rounded up: 100 means all
        f"{found.overdue:,} of {found.datablocks:,} overdue, {oldest}; {found.damaged} damaged, "
        f"{found.on_tape} left on tape",
    )


def _queue_row(job_type: str, states: dict[str, Waiting], overview: Overview) -> QueueRow:
    waiting, working = at_work(states)
    oldest = [found.oldest for found in states.values() if found.oldest is not None]
    return QueueRow(
        job_type,
        waiting,
        working,
        age_text(min(oldest), overview.at) if oldest else "-",
    )


def _stage_row(found: StageCount, overview: Overview) -> StageRow:
    done = found.stage.is_settled
    oldest = "" if done else age_text(found.oldest, overview.at)
    return StageRow(_STAGE_NAMES.get(found.stage, found.stage), found.count, found.held, oldest)


def _dataset_row(record: DatasetRecord, overview: Overview, frontend: str) -> DatasetRow:
    return DatasetRow(
        pid=record.pid,
        link=f"{frontend}/datasets/{quote(record.pid, safe='')}" if frontend else "",
        stage=_STAGE_NAMES.get(record.stage, record.stage),
        age=age_text(record.updated_at, overview.at),
        failed=record.stage is Stage.FAILED,
        held=record.holder is not None,
        size="" if record.payload_bytes is None else size_text(record.payload_bytes),
        message=record.message,
    )


def describe(overview: Overview, config: ApiConfiguration, user: str) -> Page:
    """The page for `user` (empty where nobody had to log in)."""
    frontend = config.catalogue.scicat_frontend_url
    archived = overview.archived
    links = [
        ("Prefect", config.queue.prefect_ui_url),
        ("SciCat", frontend),
        ("API", f"{config.public_url}/docs"),
    ]
    return Page(
        at=f"{overview.at:%Y-%m-%d %H:%M:%S}",
        user=user,
        logout=f"{config.api.api_root_path.rstrip('/')}/logout",
        concerns=overview.concerns,
        stores=(_landing(overview), _share(overview)),
        fixity=_fixity(overview.fixity, overview),
        queue=None
        if overview.waiting is None
        else [_queue_row(job_type, states, overview) for job_type, states in overview.waiting.items()],
        reconciled=overview.reconciled,
        stages=[
            _stage_row(each, overview) for each in sorted(overview.stages, key=lambda each: _STAGE_ORDER[each.stage])
        ],
        archived=(
            f"{archived.datasets:,} data sets archived: {archived.files:,} files, {size_text(archived.payload_bytes)}, "
            f"in {archived.datablocks:,} datablocks. {overview.copies.ready:,} copies to be downloaded, "
            f"{size_text(overview.copies.bytes)}."
        ),
        unfinished=[
            _dataset_row(each, overview, frontend)
            for each in sorted(overview.unfinished, key=lambda each: each.stage is not Stage.FAILED)
        ],
        links=[Link(name, url) for name, url in links if url],
    )


def render(page: Page) -> str:
    """The page as HTML."""
    return _TEMPLATE.render(page=page, css=_CSS)
