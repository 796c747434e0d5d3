"""What the API counts, and what it reads from ledger and queue when it is asked."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archiver.backend.lanes import Lane
from archiver.backend.scopes import route_template
from archiver.workflow.errors import ArchiverError
from archiver.workflow.job_queue import JobQueue
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.names import SMOKE_PREFIX
from archiver.workflow.reconciliation import SERVICE as RECONCILIATION

log = structlog.get_logger(__name__)

READ_S = 3.0


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
    """Landing zone, queues, reconciliation and the archive's health, read when Prometheus asks.

    What cannot be read in time is left out, and `archiver_metrics_unreadable` says so.
    """

    def __init__(self, ledger: Ledger, queue: JobQueue, capacity_bytes: int, fixity_period: timedelta) -> None:
        self._ledger = ledger
        self._queue = queue
        self._capacity_bytes = capacity_bytes
        self._fixity_period = fixity_period

    async def read(self, lane: Lane) -> Snapshot:
        """The gauges as they are now, within three seconds."""
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

        found = await asyncio.gather(
            ask("landing", self._landing),
            ask("queue", self._queues),
            ask("reconciliation", self._reconciliation),
            ask("fixity", self._fixity),
        )
        return Snapshot([family for families in found for family in families] + [unreadable])

    def _landing(self) -> list[Metric]:
        usage = self._ledger.landing_usage()
        uploads = GaugeMetricFamily("archiver_landing_uploads", "Uploads in the landing zone", labels=["state"])
        uploads.add_metric(["open"], usage.open_uploads)
        uploads.add_metric(["finalized"], usage.finalized_uploads)
        return [
            GaugeMetricFamily("archiver_landing_capacity_bytes", "May be reserved in all", self._capacity_bytes),
            GaugeMetricFamily("archiver_landing_reserved_bytes", "Reserved for uploads", usage.reserved_bytes),
            GaugeMetricFamily("archiver_landing_landed_bytes", "Lies in the landing zone", usage.landed_bytes),
            GaugeMetricFamily("archiver_landing_committed_bytes", "Counts against capacity", usage.committed_bytes),
            uploads,
        ]

    def _queues(self) -> list[Metric]:
        runs = GaugeMetricFamily("archiver_flow_runs", "Unfinished flow runs", labels=["type", "state"])
        for job_type, states in self._queue.queue_lengths().items():
            for state, count in states.items():
                runs.add_metric([job_type, state], count)
        return [runs]

    def _reconciliation(self) -> list[Metric]:
        beat = self._ledger.last_beat(RECONCILIATION)
        if beat is None:
            return []
        age = (datetime.now(UTC) - beat).total_seconds()
        disagreeing = len(self._ledger.disagreements())
        return [
            GaugeMetricFamily("archiver_reconciliation_age_seconds", "Since reconciliation last ran", age),
            GaugeMetricFamily("archiver_disagreements", "Data sets on which ledger and share disagree", disagreeing),
        ]

    def _fixity(self) -> list[Metric]:
        found = self._ledger.fixity_summary(self._fixity_period, not_below=SMOKE_PREFIX)
        datablocks = GaugeMetricFamily("archiver_datablocks", "Datablocks of the archive", labels=["is"])
        datablocks.add_metric(["archived"], found.datablocks)
        datablocks.add_metric(["damaged"], found.damaged)
        datablocks.add_metric(["overdue"], found.overdue)
        datablocks.add_metric(["on tape"], found.on_tape)
        return [datablocks, GaugeMetricFamily("archiver_archive_bytes", "Length of all datablocks", found.packed_bytes)]
