"""The landing zone is never promised twice: many clients at once, a real API process and a real PostgreSQL."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from archiver.config.settings import GIBIBYTE, TERABYTE
from archiver.workflow.ledger.records import UploadState
from archiver.workflow.names import dataset_prefix
from support.backend_api import Api, Client, Parts, run_api_process

CLIENTS = 200
CAPACITY = 100 * GIBIBYTE
CONTRACT = {"code", "message", "details", "timestamp", "request_id", "dataset_id", "requested_size_gib"}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def api(parts: Parts, ledger_url: str, tmp_path: Path) -> Iterator[Api]:
    """An API process with an empty ledger of the test's own, for a landing zone of 100 GiB."""
    landing = {"s3_total_landing_space_tb": CAPACITY / TERABYTE, "free_space_factor": 1.0}
    ledger = {"ledger_url": SecretStr(ledger_url)}
    with run_api_process(parts, tmp_path / "api.log", ledger=ledger, landing=landing) as running:
        assert running.config.landing.capacity_bytes == CAPACITY
        yield running


@pytest.fixture
def pids(api: Api) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: api.catalogue.new_dataset(), range(CLIENTS)))


def _size_gib(number: int) -> int:
    """What a client announces: it rounds down, and one GiB more is reserved."""
    return number % 4


def _request_all(client: Client, pids: Sequence[str]) -> list[httpx.Response]:
    """A request for each data set, all at the same moment."""
    start = threading.Barrier(len(pids))

    def request(number: int) -> httpx.Response:
        start.wait(60)
        return client.request_upload(pids[number], _size_gib(number))

    with ThreadPoolExecutor(len(pids)) as pool:
        return list(pool.map(request, range(len(pids))))


@contextmanager
def _watched(api: Api) -> Iterator[list[int]]:
    """What is promised of the landing zone, looked at again and again meanwhile."""
    seen: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.append(api.ledger.landing_usage().committed_bytes)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_many_requests_at_once_never_get_more_than_there_is(api: Api, pids: list[str]) -> None:
    ingestor = api.client()
    with _watched(api) as seen:
        answers = _request_all(ingestor, pids)

    reserved = [(_size_gib(number) + 1) * GIBIBYTE for number in range(CLIENTS)]
    granted = sum(size for size, answer in zip(reserved, answers, strict=True) if answer.status_code == 201)
    refused = [number for number, answer in enumerate(answers) if answer.status_code != 201]
    assert {answers[number].status_code for number in refused} == {507}
    assert max(seen) <= CAPACITY
    assert granted == api.ledger.landing_usage().committed_bytes <= CAPACITY
    assert all(granted + reserved[number] > CAPACITY for number in refused), "there was room for it"
    for number in refused:
        body = answers[number].json()
        assert set(body) >= CONTRACT
        assert body["code"] == "no-landing-space"
        assert body["message"] == f"Not enough free space for dataset {pids[number]}"
        assert (body["dataset_id"], body["requested_size_gib"]) == (pids[number], _size_gib(number) + 1)


def test_many_who_give_up_and_ask_again_never_hold_more_than_there_is(api: Api, pids: list[str]) -> None:
    ingestor = api.client()
    start = threading.Barrier(CLIENTS)

    def come_and_go(number: int) -> list[int]:
        start.wait(60)
        request = ingestor.request_upload(pids[number], _size_gib(number)).status_code
        abort = ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pids[number]}).status_code
        return [request, abort]

    with _watched(api) as seen, ThreadPoolExecutor(CLIENTS) as pool:
        statuses = list(pool.map(come_and_go, range(CLIENTS)))

    assert {request for request, _ in statuses} <= {201, 507}
    assert {abort for _, abort in statuses} == {201}
    assert 0 < max(seen) <= CAPACITY
    assert api.ledger.landing_usage().committed_bytes == 0


def test_space_comes_free_by_finalizing_by_aborting_and_by_expiry(api: Api) -> None:
    ingestor = api.client()
    first, second, third, fourth = (api.catalogue.new_dataset() for _ in range(4))
    whole = CAPACITY // GIBIBYTE

    # All of it is promised; what was not used comes free when the upload is finished.
    assert ingestor.request_upload(first, whole - 1).status_code == 201
    api.store.put(api.bucket, dataset_prefix(first) + "a", b"used")
    assert ingestor.request_upload(second, whole - 2).status_code == 507
    body = {"dataset_id": first, "create_archiving_job": False, "owner_group": "p12345", "owner_user": "ingestor"}
    finalized = ingestor.post("/s3/finalizeDatasetUpload", body | {"contact_email": "ada@facility.test"})
    assert finalized.status_code == 201, finalized.text
    assert api.ledger.landing_usage().committed_bytes == 4
    assert ingestor.request_upload(second, whole - 2).status_code == 201

    # Those four bytes are in the way of a whole GiB more, until that upload is given up.
    assert ingestor.request_upload(third, 0).status_code == 507
    assert ingestor.post("/s3/abortDatasetUpload", {"dataset_id": second}).status_code == 201
    assert ingestor.request_upload(third, whole - 2).status_code == 201

    # Nobody goes on with it: as reconciliation does when its time is over.
    assert ingestor.request_upload(fourth, 0).status_code == 507
    expired = api.ledger.expire_uploads(datetime.now(UTC) + timedelta(days=15))
    assert [(each.pid, each.state) for each in expired] == [(third, UploadState.EXPIRED)]
    assert ingestor.request_upload(fourth, whole - 2).status_code == 201


def test_what_lies_there_beyond_its_reservation_counts_for_everybody(api: Api) -> None:
    ingestor = api.client()
    greedy, other = api.catalogue.new_dataset(), api.catalogue.new_dataset()
    whole = CAPACITY // GIBIBYTE
    in_a_while = datetime.now(UTC) + timedelta(days=1)
    api.ledger.reserve_upload(greedy, "somebody", "p12345", 0, 10, CAPACITY, in_a_while)
    api.store.put(api.bucket, dataset_prefix(greedy) + "a", bytes(1000))

    # As reconciliation measures it, and reports it: tests/workflow/usecases/test_reconciliation.py.
    api.ledger.record_landed(greedy, api.store.usage(api.bucket, dataset_prefix(greedy)).bytes)

    assert api.ledger.landing_usage().committed_bytes == 1000
    refused = ingestor.request_upload(other, whole - 1)
    assert (refused.status_code, refused.json()["code"]) == (507, "no-landing-space")
    assert ingestor.request_upload(other, whole - 2).status_code == 201
