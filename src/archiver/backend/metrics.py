"""What the API counts, and what it reads from ledger and queue when it is asked."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archiver.backend.lanes import Lane
from archiver.backend.scopes import route_template
from archiver.config.settings import ApiConfiguration
from archiver.workflow.error_codes import KNOWN_CODES
from archiver.workflow.errors import ArchiverError
from archiver.workflow.ledger.counters import ERRORS, RETRIEVED_BYTES, RETRIEVED_FILES, STAGE_SECONDS, STUCK_TASKS
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import Stage
from archiver.workflow.names import SMOKE_PREFIX
from archiver.workflow.queue_control import QueueControl
from archiver.workflow.reconciliation import SERVICE as RECONCILIATION

log = structlog.get_logger(__name__)

READ_S = 8.0
"""Prometheus itself waits for ten seconds."""


class Metrics:
    """The registry of one application, and what is counted as it happens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("archiver_http_requests_total", "Requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "archiver_http_request_seconds",
            "Time to answer",
            ("method", "route"),
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300),
            registry=self.registry,
        )
        self.edge_bytes = Counter(
            "archiver_edge_bytes_total", "Bytes the upload edge streamed to S3", registry=self.registry
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class MetricsMiddleware:
    """Counts requests by route template, never by path: paths are endless and may hold signatures."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.monotonic()

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            self._metrics.count_request(scope["method"], route_template(scope), status, time.monotonic() - began)


class Snapshot(Collector):
    """Gauges that were read before."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Those gauges."""
        return iter(self._families)


class ServiceGauges:
    """What ledger and queue know of the service, read when Prometheus asks. The share is never touched.

    What cannot be read in time is left out, and `archiver_metrics_unreadable` says so.
    """

    def __init__(self, ledger: Ledger, queue: QueueControl, config: ApiConfiguration) -> None:
        self._ledger = ledger
        self._queue = queue
        self._capacity_bytes = config.landing.capacity_bytes
        self._retrieval_bytes = config.store.retrieval_capacity_bytes
        self._claim_timeout = timedelta(seconds=config.archiving.claim_timeout_s)
        self._fixity_period = config.fixity.period
        self._backup_interval = config.backup.interval
        self._lts_floor_percent = config.lts.lts_free_space_percentage

    async def read(self, lane: Lane) -> Snapshot:
        """The gauges as they are now, within eight seconds."""
        unreadable = GaugeMetricFamily(
            "archiver_metrics_unreadable", "1 where this source could not be read", labels=["source"]
        )

        async def ask(name: str, source: Callable[[], list[Metric]]) -> list[Metric]:
            try:
                async with asyncio.timeout(READ_S):
                    families = await lane.run(source, abandon=True)
            except (ArchiverError, TimeoutError) as error:
                log.warning("metrics_unreadable", source=name, error=str(error) or "no answer in time")
                unreadable.add_metric([name], 1)
                return []
            unreadable.add_metric([name], 0)
            return families

        sources = {
            "landing": self._landing,
            "archive": self._archive,
            "retrieval": self._retrieval,
            "share": self._share,
            "fixity": self._fixity,
            "counters": self._counters,
            "reconciliation": self._reconciliation,
            "queue": self._queues,
            "pools": self._pools,
            "backups": self._backups,
        }
        found = await asyncio.gather(*(ask(name, source) for name, source in sources.items()))
        return Snapshot([family for families in found for family in families] + [unreadable])

    def _landing(self) -> list[Metric]:
        usage = self._ledger.landing_usage()
        uploads = GaugeMetricFamily("archiver_landing_uploads", "Uploads in the landing zone", labels=["state"])
        uploads.add_metric(["open"], usage.open_uploads)
        uploads.add_metric(["finalized"], usage.finalized_uploads)
        free = max(0, self._capacity_bytes - usage.committed_bytes)
        return [
            GaugeMetricFamily("archiver_landing_capacity_bytes", "May be reserved in all", self._capacity_bytes),
            GaugeMetricFamily("archiver_landing_reserved_bytes", "Reserved for uploads", usage.reserved_bytes),
            GaugeMetricFamily("archiver_landing_landed_bytes", "Lies in the landing zone", usage.landed_bytes),
            GaugeMetricFamily("archiver_landing_committed_bytes", "Counts against capacity", usage.committed_bytes),
            GaugeMetricFamily("archiver_landing_free_bytes", "Can still be reserved", free),
            uploads,
        ]

    def _archive(self) -> list[Metric]:
        now = self._ledger.now()
        held = self._ledger.archive_totals()
        datasets = GaugeMetricFamily("archiver_datasets", "Data sets by their last stage", labels=["stage"])
        oldest = GaugeMetricFamily(
            "archiver_datasets_oldest_seconds", "Time at this stage of the one longest there", labels=["stage"]
        )
        counts = {each.stage: each for each in self._ledger.stage_counts()}
        for stage in Stage:
            found = counts.get(stage)
            datasets.add_metric([stage], found.count if found else 0)
            if not stage.is_settled:
                oldest.add_metric([stage], (now - found.oldest).total_seconds() if found else 0)
        return [
            GaugeMetricFamily("archiver_archived_datasets", "Data sets in the archive", held.datasets),
            GaugeMetricFamily("archiver_archived_files", "Files in the archive", held.files),
            GaugeMetricFamily("archiver_archived_bytes", "Payload in the archive", held.payload_bytes),
            datasets,
            oldest,
        ]

    def _retrieval(self) -> list[Metric]:
        copies = self._ledger.copy_totals()
        taken = self._ledger.retrieval_bytes(self._claim_timeout)
        return [
            GaugeMetricFamily("archiver_retrieval_copies", "Copies to be downloaded", copies.ready),
            GaugeMetricFamily("archiver_retrieval_copies_bytes", "Their size", copies.bytes),
            GaugeMetricFamily("archiver_retrieval_taken_bytes", "Counts against their capacity", taken),
            GaugeMetricFamily("archiver_retrieval_capacity_bytes", "Copies may take in all", self._retrieval_bytes),
        ]

    def _share(self) -> list[Metric]:
        planned = self._ledger.planned_bytes()
        families: list[Metric] = [
            GaugeMetricFamily("archiver_lts_reserved_bytes", "Payload planned and not written yet", planned)
        ]
        space = self._ledger.share_space()
        if space is None:
            return families
        age = (self._ledger.now() - space.measured_at).total_seconds()
        return [
            *families,
            GaugeMetricFamily("archiver_lts_total_bytes", "Size of the share", space.total_bytes),
            GaugeMetricFamily("archiver_lts_free_bytes", "Free on the share", space.free_bytes),
            GaugeMetricFamily("archiver_lts_used_bytes", "Used", space.total_bytes - space.free_bytes),
            GaugeMetricFamily(
                "archiver_lts_floor_bytes", "Must stay free on the share", space.floor_bytes(self._lts_floor_percent)
            ),
            GaugeMetricFamily("archiver_lts_measured_age_seconds", "Since a run measured the share", age),
        ]

    def _fixity(self) -> list[Metric]:
        found = self._ledger.fixity_summary(self._fixity_period, not_below=SMOKE_PREFIX)
        datablocks = GaugeMetricFamily("archiver_datablocks", "Datablocks of the archive", labels=["is"])
        datablocks.add_metric(["archived"], found.datablocks)
        datablocks.add_metric(["damaged"], found.damaged)
        datablocks.add_metric(["overdue"], found.overdue)
        datablocks.add_metric(["on tape"], found.on_tape)
        families: list[Metric] = [
            datablocks,
            GaugeMetricFamily("archiver_archive_bytes", "Length of all datablocks", found.packed_bytes),
        ]
        if found.oldest_read is not None:
            age = (self._ledger.now() - found.oldest_read).total_seconds()
            oldest = GaugeMetricFamily("archiver_fixity_oldest_read_age_seconds", "Since the oldest reading", age)
            families.append(oldest)
        return families

    def _counters(self) -> list[Metric]:
        stages = SummaryMetricFamily("archiver_stage_seconds", "Time each stage took", labels=["stage"])
        errors = CounterMetricFamily("archiver_errors", "Errors that ended a data set's work", labels=["kind"])
        stuck = CounterMetricFamily(
            "archiver_reconciliation_stuck", "Tasks that fail until somebody acts, once a pass", labels=["kind"]
        )
        retrieved = {
            RETRIEVED_BYTES: CounterMetricFamily("archiver_retrieved_bytes", "Copied back from the share", value=0),
            RETRIEVED_FILES: CounterMetricFamily("archiver_retrieved_files", "Files in what was copied back", value=0),
        }
        failures = {ERRORS: dict.fromkeys(KNOWN_CODES, 0), STUCK_TASKS: dict.fromkeys(KNOWN_CODES, 0)}
        for counter in self._ledger.counters():
            if counter.name == STAGE_SECONDS:
                stages.add_metric([counter.label], counter.count, counter.total)
            elif counter.name in failures:
                failures[counter.name][counter.label] = counter.count
            elif counter.name in retrieved:
                documented = retrieved[counter.name]
                retrieved[counter.name] = CounterMetricFamily(
                    documented.name, documented.documentation, value=counter.total
                )
        for family, name in ((errors, ERRORS), (stuck, STUCK_TASKS)):
            for kind, count in failures[name].items():
                family.add_metric([kind], count)
        return [stages, errors, stuck, *retrieved.values()]

    def _queues(self) -> list[Metric]:
        now = datetime.now(UTC)
        runs = GaugeMetricFamily("archiver_flow_runs", "Unfinished flow runs", labels=["type", "state"])
        oldest = GaugeMetricFamily(
            "archiver_flow_runs_oldest_seconds", "Age of the oldest of them", labels=["type", "state"]
        )
        for job_type, states in self._queue.waiting().items():
            for state, waiting in states.items():
                runs.add_metric([job_type, state], waiting.count)
                age = (now - waiting.oldest).total_seconds() if waiting.oldest else 0
                oldest.add_metric([job_type, state], max(0, age))
        return [runs, oldest]

    def _pools(self) -> list[Metric]:
        paused = GaugeMetricFamily("archiver_pool_paused", "1 while no run starts in the pool", labels=["pool"])
        online = GaugeMetricFamily("archiver_pool_workers", "Workers of the pool that are online", labels=["pool"])
        for pool in self._queue.pools():
            paused.add_metric([pool.name], pool.is_paused)
            online.add_metric([pool.name], len(pool.online))
        return [paused, online]

    def _backups(self) -> list[Metric]:
        if self._backup_interval is None:
            return []
        seconds = self._backup_interval.total_seconds()
        age = GaugeMetricFamily(
            "archiver_backup_age_seconds", "Since the newest backup of the database was made", labels=["database"]
        )
        now = self._ledger.now()
        for database, made_at in self._ledger.backups().items():
            age.add_metric([database], (now - made_at).total_seconds())
        return [GaugeMetricFamily("archiver_backup_interval_seconds", "Between two backups of it", seconds), age]

    def _reconciliation(self) -> list[Metric]:
        disagreeing = len(self._ledger.disagreements())
        families: list[Metric] = [
            GaugeMetricFamily("archiver_disagreements", "Data sets on which ledger and share disagree", disagreeing)
        ]
        beat = self._ledger.last_beat(RECONCILIATION)
        if beat is not None:
            age = (self._ledger.now() - beat).total_seconds()
            families.append(
                GaugeMetricFamily("archiver_reconciliation_age_seconds", "Since reconciliation last ran", age)
            )
        return families
