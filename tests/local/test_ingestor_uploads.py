"""The ingestor against the real API, catalogue, identity provider and S3 server."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from archiver.config.settings import ObjectStoreSettings
from archiver.local.identity.testing import run_identity
from archiver.local.ingestor.catalogue import NewDataset, UserCatalogue
from archiver.local.ingestor.chunks import SMALLEST_CHUNK_BYTES as CHUNK
from archiver.local.ingestor.errors import (
    FileChangedError,
    NothingToUploadError,
    ServerRefusedError,
)
from archiver.local.ingestor.ingestor import Ingestor, IngestorSettings
from archiver.local.ingestor.listing import list_folder
from archiver.local.scicat.defaults import INGESTOR, OTHER_USER, OWNER_GROUP
from archiver.local.scicat.testing import run_scicat
from archiver.local.seaweedfs import run_seaweedfs
from archiver.workflow.ledger.records import UploadState
from archiver.workflow.names import dataset_prefix
from support.backend_api import Api, Parts, RecordingQueue, run_api, scicat_config

DATASET = NewDataset(
    name="run 1",
    source_folder="/data/run1",
    owner=INGESTOR,
    owner_group=OWNER_GROUP,
    contact_email="ada@facility.test",
    storage_location="ETHZ",
    metadata={"voltage": {"value": 300, "unit": "kV"}},
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreSettings]:
    with run_seaweedfs(tmp_path_factory.mktemp("seaweedfs"), volume_mib=64) as settings:
        yield settings


@pytest.fixture(scope="module")
def servers(s3: ObjectStoreSettings) -> Iterator[Parts]:
    with run_scicat(scicat_config()) as scicat_url, run_identity() as identity_url:
        yield Parts(s3, scicat_url, identity_url, RecordingQueue(url="http://127.0.0.1:9"), "")


@pytest.fixture
def api(servers: Parts, ledger_url: str) -> Iterator[Api]:
    ledger = {"ledger_url": SecretStr(ledger_url)}
    with run_api(servers, ledger=ledger, landing={"s3_total_landing_space_tb": 0.1}) as running:
        yield running


@pytest.fixture
def catalogue(api: Api) -> Iterator[UserCatalogue]:
    with UserCatalogue.login(api.catalogue.url, INGESTOR, INGESTOR) as session:
        yield session


def _settings(api: Api) -> IngestorSettings:
    identity = api.config.identity
    return IngestorSettings(
        api_url=api.base,
        token_url=f"{identity.issuer}/protocol/openid-connect/token",
        client_id=identity.idp_client_id,
        chunk_bytes=CHUNK,
        space_patience_s=30,
        space_pause_s=0.05,
    )


@pytest.fixture
def ingestor(api: Api, catalogue: UserCatalogue) -> Ingestor:
    return Ingestor(_settings(api), catalogue, INGESTOR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub" / "empty folder").mkdir(parents=True)
    for name, size in {
        **{"empty": 0, "small": 10, "sub/ünï codé": 100, "new\nline": 3, "-dash": 4, "Case": 1, "case": 2},
        **{"below": CHUNK - 1, "exact": CHUNK, "above": CHUNK + 1, "sub/large": 3 * CHUNK + 5},
    }.items():
        (folder / name).write_bytes(os.urandom(size))
    (folder / "link").symlink_to("sub/large")
    return folder


def test_a_folder_lands_as_it_is(api: Api, ingestor: Ingestor, folder: Path) -> None:
    listing = list_folder(folder)
    pid = ingestor.create(DATASET, listing)
    ingestor.upload(pid, DATASET, listing)

    assert api.landed(pid) == {entry.path: entry.upload_bytes for entry in listing.uploads}
    for path in api.landed(pid):
        content = (folder / path).read_bytes()
        url = api.store.presign_get(api.bucket, dataset_prefix(pid) + path, api.config.store.retrieval_lifetime, "f")
        assert hashlib.sha256(httpx.get(url).content).digest() == hashlib.sha256(content).digest()


def test_every_object_has_the_checksum_that_was_sent(api: Api, ingestor: Ingestor, folder: Path) -> None:
    listing = list_folder(folder)
    pid = ingestor.create(DATASET, listing)
    ingestor.upload(pid, DATASET, listing)

    parts = {}
    for path in api.landed(pid):
        head = api.store.head(api.bucket, dataset_prefix(pid) + path)
        assert head is not None
        assert head.checksum is not None
        parts[path] = len(head.checksum.part_sizes)
    assert (parts["above"], parts["sub/large"]) == (2, 4)
    assert {parts[path] for path in ("empty", "small", "below", "exact")} == {0}


def test_the_catalogue_lists_folders_links_and_files(api: Api, ingestor: Ingestor, folder: Path) -> None:
    pid = ingestor.create(DATASET, list_folder(folder))

    blocks = api.catalogue.call(INGESTOR, "GET", f"v3/datasets/{pid.replace('/', '%2F')}/origdatablocks")
    files = {file["path"]: file for block in blocks for file in block["dataFileList"]}

    assert files["sub"]["perm"].startswith("d")
    assert files["sub/empty folder"]["perm"].startswith("d")
    assert (files["link"]["perm"], files["link"]["size"]) == ("Lrwxrwxrwx", len("sub/large"))
    assert files["exact"]["size"] == CHUNK
    assert files["new\nline"]["uid"]
    assert "chk" not in files["exact"]
    assert len(files) == len(list_folder(folder).entries)


def test_a_data_set_can_be_archived_only_once_its_files_are_there(
    api: Api, ingestor: Ingestor, folder: Path, catalogue: UserCatalogue
) -> None:
    listing = list_folder(folder)
    pid = ingestor.create(DATASET, listing)
    before = catalogue.lifecycle(pid)
    ingestor.upload(pid, DATASET, listing)
    after = catalogue.lifecycle(pid)

    assert (before["archiveStatusMessage"], before["archivable"]) == ("filesNotYetAvailable", False)
    assert (before["isOnCentralDisk"], before["storageLocation"]) == (False, "ETHZ")
    assert (after["archiveStatusMessage"], after["archivable"]) == ("datasetCreated", True)


def test_the_archive_job_is_found_by_its_owner(ingestor: Ingestor, folder: Path, catalogue: UserCatalogue) -> None:
    listing = list_folder(folder)
    pid = ingestor.create(DATASET, listing)
    assert catalogue.jobs_of(pid, "archive") == []
    ingestor.upload(pid, DATASET, listing)

    jobs = catalogue.jobs_of(pid, "archive")

    assert [job.type for job in jobs] == ["archive"]
    assert catalogue.job(jobs[0].id) == jobs[0]
    assert not jobs[0].is_finished


def test_progress_adds_up_to_what_was_sent(ingestor: Ingestor, folder: Path) -> None:
    listing = list_folder(folder)
    seen: list[tuple[int, int]] = []
    pid = ingestor.create(DATASET, listing)
    ingestor.upload(pid, DATASET, listing, lambda count, files: seen.append((count, files)))

    assert sum(count for count, _ in seen) == listing.upload_bytes
    assert sum(files for _, files in seen) == len(listing.uploads)


def test_an_upload_waits_for_space_that_others_hold(api: Api, ingestor: Ingestor, folder: Path) -> None:
    other = api.catalogue.new_dataset()
    holder = api.client()
    assert holder.request_upload(other, 82).status_code == 201
    listing = list_folder(folder)
    waited: list[str] = []

    def free_it(reason: str) -> None:
        waited.append(reason)
        holder.post("/s3/abortDatasetUpload", {"dataset_id": other})

    pid = ingestor.create(DATASET, listing)
    ingestor.upload(pid, DATASET, listing, waiting=free_it)

    assert len(waited) == 1
    assert len(api.landed(pid)) == len(listing.uploads)


def test_a_file_that_became_shorter_gives_the_upload_up(api: Api, ingestor: Ingestor, folder: Path) -> None:
    listing = list_folder(folder)
    pid = ingestor.create(DATASET, listing)
    os.truncate(folder / "above", CHUNK)

    with pytest.raises(FileChangedError, match="above"):
        ingestor.upload(pid, DATASET, listing)

    assert api.landed(pid) == {}
    upload = api.ledger.find_upload(pid)
    assert upload is not None
    assert upload.state is UploadState.ABORTED


def test_an_upload_given_up_can_be_begun_again(api: Api, ingestor: Ingestor, folder: Path) -> None:
    listing = list_folder(folder)
    pid = ingestor.create(DATASET, listing)
    content = (folder / "small").read_bytes()
    (folder / "small").unlink()
    with pytest.raises(FileChangedError):
        ingestor.upload(pid, DATASET, listing)
    (folder / "small").write_bytes(content)

    ingestor.upload(pid, DATASET, listing)

    assert len(api.landed(pid)) == len(listing.uploads)


def test_a_folder_without_files_is_refused(ingestor: Ingestor, tmp_path: Path) -> None:
    (tmp_path / "only a folder").mkdir()
    with pytest.raises(NothingToUploadError, match="/data/run1"):
        ingestor.create(DATASET, list_folder(tmp_path))


def test_a_wrong_password_is_refused_in_words(api: Api) -> None:
    with pytest.raises(ServerRefusedError, match="login of ingestor to SciCat"):
        UserCatalogue.login(api.catalogue.url, INGESTOR, "wrong")


def test_a_user_who_is_no_ingestor_gets_no_token(api: Api, folder: Path) -> None:
    with closing(UserCatalogue.login(api.catalogue.url, OTHER_USER, OTHER_USER)) as other:
        ingestor = Ingestor(_settings(api), other, OTHER_USER)
        with pytest.raises(ServerRefusedError, match="asking for a token"):
            ingestor.upload("20.500.12345/any", DATASET, list_folder(folder))
