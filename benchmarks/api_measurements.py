"""How quickly the API answers: URLs for an object of 10,000 parts, uploads through its edge, and jobs."""

import base64
import contextlib
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import httpx

from archiver.config.settings import GIBIBYTE, MEBIBYTE, IdentitySettings, ObjectStoreSettings
from archiver.local.blueprint import ARCHIVAL_POOL
from archiver.local.ingestor.archiver_client import ArchiverClient
from archiver.local.ingestor.catalogue import NewDataset, UserCatalogue
from archiver.local.ingestor.service_token import ServiceToken
from archiver.local.scicat.defaults import INGESTOR, OWNER_GROUP
from archiver.local.stack import Stack
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.object_store import ObjectStore
from benchmarks.measurements import Say
from benchmarks.processes import timed
from benchmarks.report import Aim, Row
from benchmarks.statistics import percentile

PARTS = 10_000
URLS_WITHIN_S = 3.0
LIVEZ_WITHIN_MS = 50.0
JOBS_P95_MS = 150.0
JOBS_IN_TURN = 60
JOBS_AT_ONCE = 50
UPLOADS_AT_ONCE = 8
UPLOAD_BYTES = 64 * MEBIBYTE
EDGE_TIMES_DIRECT = 1 / 0.6
_LIVEZ_EVERY_S = 0.01
_SERVER = "seaweedfs"
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


def _client(base_url: str) -> httpx.Client:
    limits = httpx.Limits(max_connections=JOBS_AT_ONCE, max_keepalive_connections=JOBS_AT_ONCE)
    return httpx.Client(base_url=base_url, timeout=_TIMEOUT, limits=limits, trust_env=False)


@contextmanager
def _watched_livez(stack: Stack) -> Iterator[list[float]]:
    """Milliseconds that /health/livez took, again and again, while the block runs."""
    stop, taken = threading.Event(), list[float]()

    def watch() -> None:
        with _client(stack.urls.api) as http:
            while not stop.wait(_LIVEZ_EVERY_S):
                began = time.monotonic()
                http.get("/health/livez").raise_for_status()
                taken.append(1000 * (time.monotonic() - began))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield taken
        finally:
            stop.set()
            watching.result()


@contextmanager
def _open_upload(stack: Stack, name: str, size: int) -> Iterator[tuple[ArchiverClient, str]]:
    """A client with an upload of a new data set; given up afterwards, with all that was sent."""
    identity = stack.settings(IdentitySettings)
    token_url = f"{identity.issuer}/protocol/openid-connect/token"
    with contextlib.ExitStack() as opened:
        catalogue = opened.enter_context(
            UserCatalogue.login(stack.urls.scicat, INGESTOR, stack.credentials.ingestor_password)
        )
        token = ServiceToken(stack.urls.api, token_url, identity.idp_client_id, catalogue.token)
        opened.enter_context(contextlib.closing(token))
        client = opened.enter_context(contextlib.closing(ArchiverClient(stack.urls.api, token)))
        mail = f"{INGESTOR}@facility.test"
        new = NewDataset(f"benchmark: {name}", f"/benchmark/{name}", INGESTOR, OWNER_GROUP, mail, "")
        pid = catalogue.create_dataset(new)
        client.request_upload(pid, size, 60, 1)
        yield client, pid
        client.abort(pid)


def measure_urls(stack: Stack, runs: int, say: Say) -> list[Row]:
    """URLs for all parts of one object, with the API's health asked for meanwhile; and that health without it."""
    urls: list[float] = []
    worst: list[float] = []
    with _open_upload(stack, "urls", GIBIBYTE) as (client, pid):
        with _watched_livez(stack) as idle:
            time.sleep(1)
        for number in range(runs):
            key = f"{dataset_prefix(pid)}large-{number}.bin"
            with _watched_livez(stack) as asked, timed() as taken:
                found = client.upload_urls(pid, key, PARTS)
            if len(found.urls) != PARTS:
                raise ValueError(f"{len(found.urls)} URLs came instead of {PARTS}.")
            urls.append(taken[0])
            worst.append(max(asked))
            client.abort_multipart(key, found.upload_id)
    say(f"URLs {urls} s, livez {worst} ms, idle p95 {percentile(idle, 0.95):.1f} ms, max {max(idle):.1f} ms")
    subject = f"{PARTS:,} part URLs"
    return [
        Row(_SERVER, subject, "one request for all", "s", tuple(urls), Aim(URLS_WITHIN_S)),
        Row(_SERVER, subject, "slowest livez meanwhile", "ms", tuple(worst), Aim(LIVEZ_WITHIN_MS)),
        Row(_SERVER, "API at rest", "slowest livez of a second", "ms", (max(idle),)),
    ]


def measure_edge(stack: Stack, runs: int, say: Say) -> list[Row]:
    """Some uploads at once, through the API's edge with checksums, and straight to S3 by URLs without them, in turn."""
    body = os.urandom(UPLOAD_BYTES)
    checksum = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
    store_settings = stack.settings(ObjectStoreSettings)
    through: list[float] = []
    straight: list[float] = []
    with (
        _open_upload(stack, "edge", 2 * UPLOADS_AT_ONCE * UPLOAD_BYTES) as (client, pid),
        ObjectStore.open(store_settings) as store,
        _client("") as http,
        ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool,
    ):

        def put(url: str, headers: dict[str, str]) -> None:
            http.put(url, content=body, headers=headers).raise_for_status()

        def seconds(urls: list[str], headers: dict[str, str]) -> float:
            with timed() as taken:
                for done in [pool.submit(put, url, headers) for url in urls]:
                    done.result()
            return taken[0]

        keys = [f"{dataset_prefix(pid)}{number}.bin" for number in range(UPLOADS_AT_ONCE)]
        bucket, hour = store_settings.s3_landingzone_bucket, timedelta(hours=1)
        for _ in range(runs):
            straight.append(seconds([store.presign_put(bucket, key, hour) for key in keys], {}))
            through.append(seconds([client.upload_urls(pid, key, 1).urls[0] for key in keys], checksum))
    say(f"{UPLOADS_AT_ONCE} uploads at once: through the edge {through} s, straight to S3 {straight} s")
    subject = f"{UPLOADS_AT_ONCE} uploads of {UPLOAD_BYTES // MEBIBYTE} MiB at once"
    aim = Aim(EDGE_TIMES_DIRECT, "straight to S3")
    return [
        Row(_SERVER, subject, "straight to S3", "s", tuple(straight)),
        Row(_SERVER, subject, "through the upload edge", "s", tuple(through), aim, tuple(straight)),
    ]


@contextmanager
def _paused_worker(stack: Stack) -> Iterator[None]:
    """Runs stay in the queue while the block runs, and are gone afterwards: it is the queueing that is measured."""
    user, _, password = stack.credentials.prefect_auth.partition(":")
    with httpx.Client(
        base_url=f"{stack.urls.prefect_api}/", auth=(user, password), timeout=_TIMEOUT, trust_env=False
    ) as prefect:
        pool = f"work_pools/{ARCHIVAL_POOL}"
        prefect.patch(pool, json={"is_paused": True}).raise_for_status()
        try:
            yield
        finally:
            waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            while runs := prefect.post("flow_runs/filter", json=waiting).raise_for_status().json():
                for run in runs:
                    prefect.delete(f"flow_runs/{run['id']}").raise_for_status()
            prefect.patch(pool, json={"is_paused": False}).raise_for_status()


def measure_jobs(stack: Stack, say: Say) -> list[Row]:
    """POST /archiver/jobs as the catalogue sends it: one after another, then many at once."""
    own = stack.credentials
    auth = (own.job_endpoint_username, own.job_endpoint_password)
    with _client(stack.urls.api) as http, _paused_worker(stack):

        def post() -> tuple[int, float]:
            began = time.monotonic()
            answer = http.post("/archiver/jobs", json={"id": str(uuid.uuid4()), "type": "archive"}, auth=auth)
            return answer.status_code, 1000 * (time.monotonic() - began)

        post()
        in_turn = [post() for _ in range(JOBS_IN_TURN)]
        with ThreadPoolExecutor(JOBS_AT_ONCE) as pool:
            at_once = [future.result() for future in [pool.submit(post) for _ in range(JOBS_AT_ONCE)]]
    failed = [status for status, _ in [*in_turn, *at_once] if status != httpx.codes.CREATED]
    p95 = percentile([taken for _, taken in in_turn], 0.95)
    say(
        f"jobs: p95 {p95:.0f} ms; {JOBS_AT_ONCE} at once: slowest {max(taken for _, taken in at_once):.0f} ms; {failed}"
    )
    return [
        Row(_SERVER, "POST /archiver/jobs", f"p95 of {JOBS_IN_TURN} one after another", "ms", (p95,), Aim(JOBS_P95_MS)),
        Row(
            _SERVER,
            "POST /archiver/jobs",
            f"slowest of {JOBS_AT_ONCE} at once",
            "ms",
            (max(taken for _, taken in at_once),),
        ),
        Row(_SERVER, "POST /archiver/jobs", "requests that failed", "", (float(len(failed)),), Aim(0)),
    ]
