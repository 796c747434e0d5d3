"""Uploads of data sets, as the ingestor in the field makes them."""

import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text

from archiver.config.settings import GIBIBYTE, UploadMode
from archiver.local.scicat.testing import run_scicat
from archiver.workflow.ledger.database import open_engine
from archiver.workflow.ledger.records import RetirementState, Stage, UploadState
from archiver.workflow.names import dataset_prefix
from support.backend_api import (
    COLLEAGUE,
    JOB_ACCOUNT,
    OPERATOR,
    Api,
    Parts,
    RunApi,
    put,
    run_api,
    scicat_config,
    send_in_parts,
    sha256_base64,
)

MIB = 1024 * 1024
ERROR = {"code", "message", "details", "timestamp", "request_id"}


def finalize_body(pid: str, *, job: bool = False, owner_group: str = "p12345") -> dict[str, object]:
    return {
        "dataset_id": pid,
        "create_archiving_job": job,
        "owner_group": owner_group,
        "owner_user": "ingestor",
        "contact_email": "ada@facility.test",
    }


@pytest.fixture
def pid(api: Api) -> str:
    return api.catalogue.new_dataset()


def test_a_whole_upload_lands_and_becomes_archivable(api: Api, pid: str) -> None:
    ingestor = api.client()
    assert ingestor.request_upload(pid).json() == {"message": f"Reserved 1 GiB of the landing zone for dataset {pid}"}
    small = b"small file"
    upload_id, (url,) = ingestor.urls(pid, "sub/a b.txt")
    assert upload_id == ""
    assert put(url, small).status_code == 200
    chunks = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"rest"]
    completed = ingestor.post("/s3/completeUpload", send_in_parts(ingestor, pid, "big.bin", chunks))
    assert completed.status_code == 201, completed.text
    assert completed.json()["key"] == dataset_prefix(pid) + "big.bin"
    assert completed.json()["location"].startswith("http")
    assert api.landed(pid) == {"sub/a b.txt": len(small), "big.bin": 10 * MIB + 4}
    head = api.store.head(api.bucket, dataset_prefix(pid) + "big.bin")
    assert head is not None
    assert head.checksum is not None
    assert head.checksum.part_sizes == (5 * MIB, 5 * MIB, 4)

    api.catalogue.set_lifecycle(pid, {"archiveStatusMessage": "filesNotYetAvailable", "archivable": False})
    finalized = ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid))
    assert finalized.status_code == 201
    assert finalized.json() == {"dataset_id": pid, "message": "Dataset upload finalized"}
    lifecycle = api.catalogue.lifecycle(pid)
    assert (lifecycle["archiveStatusMessage"], lifecycle["archivable"]) == ("datasetCreated", True)
    upload = api.ledger.find_upload(pid)
    assert upload is not None
    assert (upload.state, upload.landed_bytes) == (UploadState.FINALIZED, 10 * MIB + 4 + len(small))


def test_finalizing_makes_a_job_that_scicat_posts_back(parts: Parts) -> None:
    # SciCat answers the job's creation only after the API has answered the hook.
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        hook = f"http://127.0.0.1:{port}/archiver/api/v1/archiver/jobs"
        config = scicat_config(hook_url=hook, hook_username=JOB_ACCOUNT[0], hook_password=JOB_ACCOUNT[1])
        with run_scicat(config) as url:
            reserved.listen(128)
            with run_api(parts, listener=reserved, catalogue={"scicat_endpoint": url}) as api:
                # More at once than there are threads for finalizing.
                pids = [api.catalogue.new_dataset() for _ in range(20)]
                ingestor = api.client()

                def finalize(pid: str) -> int:
                    ingestor.request_upload(pid)
                    return ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid, job=True)).status_code

                with ThreadPoolExecutor(len(pids)) as pool:
                    assert list(pool.map(finalize, pids)) == [201] * len(pids)
                jobs = api.catalogue.jobs()
                assert sorted(job["jobParams"]["datasetList"][0]["pid"] for job in jobs) == sorted(pids)
                assert {job["ownerGroup"] for job in jobs} == {"p12345"}
                assert set(api.queue.runs) == {f"{job['id']}#1" for job in jobs}


def test_finalizing_again_is_no_error(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    assert [ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid)).status_code for _ in range(2)] == [201, 201]


def test_a_job_cannot_be_made_for_another_group(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    answer = ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid, job=True, owner_group="p54321"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_finalizing_what_was_never_requested_is_409(api: Api, pid: str) -> None:
    answer = api.client().post("/s3/finalizeDatasetUpload", finalize_body(pid))
    assert (answer.status_code, answer.json()["code"]) == (409, "no-open-upload")
    assert answer.json()["details"]


def test_finalizing_while_scicat_fails_is_json_with_details(start_api: RunApi) -> None:
    with run_scicat(scicat_config()) as url, start_api(catalogue={"scicat_endpoint": url}) as api:
        pid = api.catalogue.new_dataset()
        ingestor = api.client()
        ingestor.request_upload(pid)
        httpx.post(
            f"{url}/_sim/faults", json={"path_regex": "datasetlifecycle", "status": 500, "times": 1000}
        ).raise_for_status()
        answer = ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid))
        assert answer.status_code == 503
        assert set(answer.json()) >= ERROR
        assert answer.json()["message"] == "Failed to finalize dataset"
        assert answer.json()["details"]
        # What the client does then.
        assert ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid}).status_code == 201


def test_the_reservation_makes_up_for_the_clients_rounding(api: Api, pid: str) -> None:
    api.client().request_upload(pid, 50)
    upload = api.ledger.find_upload(pid)
    assert upload is not None
    assert (upload.announced_bytes, upload.reserved_bytes) == (50 * GIBIBYTE, 51 * GIBIBYTE)
    assert upload.expires_at > datetime.now(UTC) + timedelta(days=13)


def test_a_full_landing_zone_answers_507_and_deletes_nothing(fresh_api: Api) -> None:
    ingestor = fresh_api.client()
    first, second = fresh_api.catalogue.new_dataset(), fresh_api.catalogue.new_dataset()
    assert ingestor.request_upload(first, 50).status_code == 201
    _, (url,) = ingestor.urls(first, "a")
    put(url, b"kept")
    refused = ingestor.request_upload(second, 50)
    assert refused.status_code == 507
    body = refused.json()
    assert body["message"] == f"Not enough free space for dataset {second}"
    assert (body["dataset_id"], body["requested_size_gib"]) == (second, 51)
    assert body["code"] == "no-landing-space"
    assert set(body) >= ERROR
    # A request that no longer fits leaves the upload that is there as it is.
    assert ingestor.request_upload(first, 70).status_code == 201
    assert ingestor.request_upload(second, 20).status_code == 507
    assert fresh_api.landed(first) == {"a": 4}
    ingestor.post("/s3/abortDatasetUpload", {"dataset_id": first})
    assert ingestor.request_upload(second, 50).status_code == 201


def test_what_never_fits_is_not_507(api: Api, pid: str) -> None:
    for gib in (90_000, 10**30):
        answer = api.client().request_upload(pid, gib)
        assert (answer.status_code, answer.json()["code"]) == (413, "larger-than-landing-zone")


@pytest.mark.parametrize("size", [-1, 1.5, "1", None, True])
def test_sizes_that_are_none_are_422(api: Api, pid: str, size: object) -> None:
    answer = api.client().post("/s3/requestDatasetUpload", {"dataset_id": pid, "dataset_size_gib": size})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "dataset_size_gib"]


def test_unknown_and_unsafe_data_sets_are_refused(api: Api) -> None:
    ingestor = api.client()
    unknown = ingestor.request_upload(f"20.500.11935/{uuid.uuid4()}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-dataset")
    for unsafe in ("../etc", "", "/abs", "a/../b", "x" * 300, "nul\0"):
        answer = ingestor.request_upload(unsafe)
        assert (answer.status_code, answer.json()["code"]) == (422, "unsafe-name")


def test_data_sets_with_similar_names_do_not_meet(api: Api) -> None:
    ingestor = api.client()
    one, other = api.catalogue.new_dataset(), api.catalogue.new_dataset()
    for pid in (one, other):
        ingestor.request_upload(pid)
        _, (url,) = ingestor.urls(pid, "a")
        put(url, b"data")
    assert ingestor.post("/s3/abortDatasetUpload", {"dataset_id": one}).status_code == 201
    assert (api.landed(one), api.landed(other)) == ({}, {"a": 4})


def test_an_open_upload_is_its_holders(api: Api, pid: str) -> None:
    api.client().request_upload(pid)
    colleague = api.client(COLLEAGUE)
    answer = colleague.request_upload(pid)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-open")
    assert colleague.post("/s3/abortDatasetUpload", {"dataset_id": pid}).status_code == 409
    assert colleague.post("/s3/finalizeDatasetUpload", finalize_body(pid)).status_code == 409
    # The same user with a new session, as after a restart of the client.
    assert api.client().request_upload(pid, 3).status_code == 201


def test_a_finished_upload_takes_no_more_and_can_be_taken_back(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    _, (url,) = ingestor.urls(pid, "a")
    put(url, b"data")
    ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid))
    answer = ingestor.request_upload(pid)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-finalized")
    assert put(url, b"late").status_code == 409
    assert ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid}).status_code == 201
    assert api.landed(pid) == {}
    assert ingestor.request_upload(pid).status_code == 201


def test_an_upload_that_is_being_archived_is_left_alone(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    _, (url,) = ingestor.urls(pid, "a")
    put(url, b"data")
    ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid))
    claim = api.ledger.claim_dataset(pid, "flow run", timedelta(minutes=2))
    busy = ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid})
    assert (busy.status_code, busy.json()["code"]) == (409, "dataset-busy")
    assert ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid, job=True)).status_code == 409
    assert api.landed(pid) == {"a": 4}
    api.ledger.record_stage(claim, Stage.FAILED, message="missing files")
    api.ledger.release_claim(claim)
    assert ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid}).status_code == 201


def test_an_archived_data_set_is_neither_uploaded_nor_aborted(api: Api) -> None:
    ingestor = api.client()
    in_ledger, in_scicat = api.catalogue.new_dataset(), api.catalogue.new_dataset()
    claim = api.ledger.claim_dataset(in_ledger, "flow run", timedelta(minutes=2))
    api.ledger.record_stage(claim, Stage.PUBLISHED)
    api.catalogue.set_lifecycle(in_scicat, {"archiveStatusMessage": "datasetOnArchiveDisk", "retrievable": True})
    for pid in (in_ledger, in_scicat):
        api.store.put(api.bucket, dataset_prefix(pid) + "a", b"still there")
        for answer in (
            ingestor.request_upload(pid),
            ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid}),
            api.client(OPERATOR).post("/s3/abortDatasetUpload", {"dataset_id": pid}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "already-archived")
        assert api.landed(pid) == {"a": 11}


def test_a_withdrawn_data_set_is_not_uploaded_again_and_its_owner_learns_why(api: Api) -> None:
    pid = api.catalogue.new_dataset()
    claim = api.ledger.claim_dataset(pid, "retire", timedelta(minutes=2))
    now = api.ledger.now()
    api.ledger.note_retirement(
        claim,
        RetirementState.REMOVED,
        at=now,
        by="ada",
        reason="wrong sample",
        restorable_until=now,
        message=f"{pid} was withdrawn from the archive (wrong sample)",
        files=1,
        payload_bytes=1,
    )

    answer = api.client().request_upload(pid)

    assert (answer.status_code, answer.json()["code"]) == (409, "already-archived")
    assert "withdrawn from the archive (wrong sample)" in answer.json()["details"]


def test_aborting_empties_the_data_set_and_can_be_repeated(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    _, (url,) = ingestor.urls(pid, "a")
    put(url, b"data")
    upload_id, _ = ingestor.urls(pid, "b", 3)
    for _ in range(2):
        answer = ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid})
        assert (answer.status_code, answer.json()) == (201, {"dataset_id": pid, "message": f"Upload {pid} aborted."})
    assert api.landed(pid) == {}
    assert upload_id not in {open_one.upload_id for open_one in api.store.list_multiparts(api.bucket, "")}
    assert put(url, b"late").status_code == 409


@pytest.mark.parametrize(
    "name",
    [
        "elsewhere/a",
        "openem-network/datasets/other/raw_files/a",
        "{prefix}../../x",
        "{prefix}",
        "{prefix}a//b",
        "{prefix}./a",
        "{prefix}nul\0",
        "{prefix}" + "x" * 1100,
        "",
    ],
)
def test_object_names_outside_the_data_set_are_422(api: Api, pid: str, name: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    name = name.replace("{prefix}", dataset_prefix(pid))
    bodies: dict[str, dict[str, object]] = {
        "/s3/presignedUrls": {"parts": 1},
        "/s3/completeUpload": {"upload_id": "x", "parts": [], "checksum_sha256": ""},
        "/s3/abortMultipartUpload": {"upload_id": "x"},
    }
    for path, more in bodies.items():
        answer = ingestor.post(path, {"dataset_id": pid, "object_name": name, **more})
        assert (answer.status_code, answer.json()["code"]) == (422, "unsafe-name"), path
        assert answer.json()["detail"][0]["msg"] == answer.json()["details"]


def test_urls_need_an_open_upload_and_refuse_in_words_the_client_knows(api: Api, pid: str) -> None:
    body = {"dataset_id": pid, "object_name": dataset_prefix(pid) + "a", "parts": 1}
    answer = api.client().post("/s3/presignedUrls", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "no-open-upload")
    assert answer.json()["detail"][0]["msg"]
    api.client(COLLEAGUE).request_upload(pid)
    answer = api.client().post("/s3/presignedUrls", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "upload-open")


@pytest.mark.parametrize("count", [0, -1, 10_001, "2", 1.0])
def test_numbers_of_parts_that_are_none_are_422(api: Api, pid: str, count: object) -> None:
    body = {"dataset_id": pid, "object_name": dataset_prefix(pid) + "a", "parts": count}
    answer = api.client().post("/s3/presignedUrls", body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "parts"]


def test_ten_thousand_urls_come_in_one_answer(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid, 60)
    upload_id, urls = ingestor.urls(pid, "huge.bin", 10_000)
    assert upload_id
    assert len(set(urls)) == 10_000


def test_an_object_of_exactly_one_chunk_is_completed_without_upload_id(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    data = b"exactly one chunk"
    _, (url,) = ingestor.urls(pid, "chunk.bin")
    etag = put(url, data).headers["ETag"].strip('"')
    part = {"part_number": 1, "etag": etag, "checksum_sha256": sha256_base64(data)}
    body = {
        "dataset_id": pid,
        "object_name": dataset_prefix(pid) + "chunk.bin",
        "upload_id": "",
        "parts": [part],
        "checksum_sha256": "ignored",
    }
    assert ingestor.post("/s3/completeUpload", body).status_code == 201
    other = {**body, "parts": [{**part, "checksum_sha256": sha256_base64(b"other")}]}
    refused = ingestor.post("/s3/completeUpload", other)
    assert (refused.status_code, refused.json()["code"]) == (422, "upload-refused")
    missing = ingestor.post("/s3/completeUpload", {**body, "object_name": dataset_prefix(pid) + "missing"})
    assert (missing.status_code, missing.json()["code"]) == (422, "upload-refused")


def test_completing_again_is_no_error_and_wrong_checksums_are_422(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    body = send_in_parts(ingestor, pid, "a.bin", [os.urandom(5 * MIB), b"end"])
    wrong = ingestor.post("/s3/completeUpload", {**body, "checksum_sha256": sha256_base64(b"wrong")})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "upload-refused")
    assert wrong.json()["detail"][0]["msg"]
    with_count = {**body, "checksum_sha256": f"{body['checksum_sha256']}-2"}
    assert ingestor.post("/s3/completeUpload", body).status_code == 201
    assert ingestor.post("/s3/completeUpload", body).status_code == 201
    assert ingestor.post("/s3/completeUpload", with_count).status_code == 201
    assert api.landed(pid) == {"a.bin": 5 * MIB + 3}


def test_a_multipart_upload_is_aborted_without_naming_the_data_set(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    upload_id, urls = ingestor.urls(pid, "a.bin", 2)
    put(urls[0], b"part")
    held = api.ledger.find_upload(pid)
    assert held is not None
    assert held.held_bytes == 4
    body = {"dataset_id": "", "object_name": dataset_prefix(pid) + "a.bin", "upload_id": upload_id}
    for _ in range(2):
        answer = ingestor.post("/s3/abortMultipartUpload", body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["upload_id"] == upload_id
    released = api.ledger.find_upload(pid)
    assert released is not None
    assert released.held_bytes == 0
    assert api.ledger.multiparts(pid) == []


def test_finishing_drops_the_parts_that_were_never_completed(api: Api, pid: str) -> None:
    ingestor = api.client()
    ingestor.request_upload(pid)
    upload_id, _ = ingestor.urls(pid, "a.bin", 2)
    ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid))
    assert upload_id not in {open_one.upload_id for open_one in api.store.list_multiparts(api.bucket, "")}


def test_a_storage_that_is_away_is_500_where_the_client_knows_nothing_else(start_api: RunApi) -> None:
    with start_api(store={"s3_endpoint": "http://127.0.0.1:9"}, landing={"upload_mode": UploadMode.EDGE}) as api:
        pid = api.catalogue.new_dataset()
        ingestor = api.client()
        ingestor.request_upload(pid)
        body = {"dataset_id": pid, "object_name": dataset_prefix(pid) + "a", "parts": 2}
        answer = ingestor.post("/s3/presignedUrls", body)
        assert (answer.status_code, answer.json()["code"]) == (500, "object-store")
        assert answer.json()["message"] == "Failed to get presigned urls"
        assert answer.json()["details"]
        _, (url,) = ingestor.urls(pid, "a")
        assert put(url, b"data").status_code == 503


def test_the_space_of_an_abort_that_was_broken_off_still_counts(start_api: RunApi) -> None:
    with start_api(store={"s3_endpoint": "http://127.0.0.1:9"}, landing={"upload_mode": UploadMode.EDGE}) as api:
        pid = api.catalogue.new_dataset()
        ingestor = api.client()
        before = api.ledger.landing_usage().committed_bytes
        ingestor.request_upload(pid)
        reserved = api.ledger.landing_usage().committed_bytes - before
        assert reserved > 0

        assert ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid}).status_code == 503

        upload = api.ledger.find_upload(pid)
        assert upload is not None
        assert (upload.state, upload.landed_bytes) == (UploadState.ABORTED, reserved)
        assert api.ledger.landing_usage().committed_bytes - before == reserved
        api.ledger.record_left_behind(pid, 0)


def test_a_run_is_at_work_for_as_long_as_claims_are_kept(start_api: RunApi) -> None:
    with start_api(archiving={"claim_timeout_s": 600}) as api:
        pid = api.catalogue.new_dataset()
        ingestor = api.client()
        ingestor.request_upload(pid)
        ingestor.post("/s3/finalizeDatasetUpload", finalize_body(pid))
        api.ledger.claim_dataset(pid, "flow run", timedelta(minutes=10))
        engine = open_engine(api.config.ledger.ledger_url.get_secret_value())
        with engine.begin() as connection:
            silent = "UPDATE datasets SET heartbeat_at = now() - interval '5 minutes' WHERE pid = :pid"
            connection.execute(text(silent), {"pid": pid})
        engine.dispose()

        busy = ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid})

        assert (busy.status_code, busy.json()["code"]) == (409, "dataset-busy")


def test_direct_urls_go_to_the_public_address_of_the_landing_storage(start_api: RunApi) -> None:
    with start_api(
        landing={"upload_mode": UploadMode.DIRECT}, store={"s3_external_endpoint": "https://s3.facility.example"}
    ) as api:
        pid = api.catalogue.new_dataset()
        ingestor = api.client()
        ingestor.request_upload(pid)
        upload_id, urls = ingestor.urls(pid, "a", 2)
        assert all(url.startswith(f"https://s3.facility.example/{api.bucket}/openem-network/") for url in urls)
        assert all(f"uploadId={upload_id}" in url for url in urls)


def test_asking_for_urls_keeps_an_upload_alive(fresh_api: Api) -> None:
    """Where files go straight to the storage, nothing else shows that it goes on."""
    pid = fresh_api.catalogue.new_dataset()
    client = fresh_api.client()
    assert client.request_upload(pid).status_code == 201
    engine = open_engine(fresh_api.config.ledger.ledger_url.get_secret_value())
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE uploads SET touched_at = now() - interval '2 hours', expires_at = now() + interval '1 hour', "
                "idle_time = interval '14 days'"
            )
        )
    engine.dispose()

    client.urls(pid, "f")

    upload = fresh_api.ledger.find_upload(pid)
    assert upload is not None
    assert upload.expires_at - upload.touched_at >= timedelta(days=13)
    before = upload.touched_at
    client.urls(pid, "g")
    upload = fresh_api.ledger.find_upload(pid)
    assert upload is not None
    assert upload.touched_at == before
