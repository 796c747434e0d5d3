"""A facility with real parts: an S3 server, a catalogue, a ledger and a share, and data sets to archive."""

import hashlib
import io
import tarfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from archiver.config.settings import (
    ArchivingSettings,
    CatalogueSettings,
    LedgerSettings,
    LtsSettings,
    ObjectStoreSettings,
)
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, OWNER_GROUP
from archiver.local.seaweedfs import run_seaweedfs
from archiver.workflow.archiving import ArchiveOutcome, Archiving
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import bag_folder, dataset_prefix
from archiver.workflow.retrieval import Retrieval, RetrievalOutcome
from archiver.workflow.storage.lts import ShareAddress, initialise_share
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.tools import Tools

TIME = "2024-05-06T07:08:09.000Z"
"""Modification time of files that a test does not care about."""


@dataclass
class Facility:
    """Everything around one archive, and the ingestor's side of it."""

    tools: Tools
    scicat_url: str
    ledger_settings: LedgerSettings
    catalogue_settings: CatalogueSettings
    lts_root: Path
    passwords: Mapping[str, str] = field(default_factory=dict)
    """Of the catalogue's users; their names where they are not here."""
    _tokens: dict[str, str] = field(default_factory=dict)

    # ---------------------------------------------------------------------------------- the catalogue's side

    def call(self, method: str, path: str, body: object = None, user: str = INGESTOR) -> Any:
        """A call to the catalogue as `user`; its JSON."""
        if user not in self._tokens:
            credentials = {"username": user, "password": self.passwords.get(user, user)}
            login = httpx.post(f"{self.scicat_url}/api/v3/auth/login", json=credentials, timeout=20)
            self._tokens[user] = login.json()["access_token"]
        answer = httpx.request(
            method,
            f"{self.scicat_url}/api/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._tokens[user]}"},
            timeout=20,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def new_dataset(self, pid: str | None = None) -> str:
        """A data set without files in the catalogue; its pid."""
        body = {
            "type": "raw",
            "pid": pid or f"20.500.11935/{uuid.uuid4()}",
            "owner": "Ada",
            "ownerGroup": OWNER_GROUP,
            "contactEmail": "ada@facility.test",
            "sourceFolder": "/data/run1",
            "creationTime": TIME,
            "creationLocation": "microscope 1",
            "principalInvestigator": "Ada",
            "datasetName": "run 1",
        }
        return str(self.call("POST", "v3/datasets", body)["pid"])

    def list_files(self, pid: str, entries: list[dict[str, Any]], chk_alg: str | None = None) -> None:
        """Register files as the facility's tools do."""
        body: dict[str, Any] = {"size": sum(entry["size"] for entry in entries), "dataFileList": entries}
        if chk_alg:
            body["chkAlg"] = chk_alg
        self.call("POST", f"v3/datasets/{quote(pid, safe='')}/origdatablocks", body)

    def submit(self, job_type: str, *pids: str, files: Sequence[str] = ()) -> str:
        """A job as SciCat's users submit it, for all files or for those of each data set; its id."""
        body = {
            "type": job_type,
            "ownerGroup": OWNER_GROUP,
            "jobParams": {"datasetList": [{"pid": pid, "files": list(files)} for pid in pids]},
        }
        return str(self.call("POST", "v4/jobs", body)["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"v4/jobs/{job_id}", user=ARCHIVER)
        return found

    def lifecycle(self, pid: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"v3/datasets/{quote(pid, safe='')}/datasetlifecycle", user=ARCHIVER)
        return found

    def registered(self, pid: str) -> list[dict[str, Any]]:
        """Datablocks the catalogue knows."""
        found: list[dict[str, Any]] = self.call("GET", f"v3/datasets/{quote(pid, safe='')}/datablocks", user=ARCHIVER)
        return found

    # ---------------------------------------------------------------------------------- the landing zone's side

    @property
    def bucket(self) -> str:
        return self.tools.store_settings.s3_landingzone_bucket

    def upload(self, pid: str, files: Mapping[str, bytes]) -> None:
        """Put files into the landing zone, with their checksums stored."""
        for path, content in files.items():
            self.tools.store.put(self.bucket, dataset_prefix(pid) + path, content)

    def landed(self, pid: str) -> set[str]:
        """Paths that lie in the landing zone."""
        prefix = dataset_prefix(pid)
        return {each.key.removeprefix(prefix) for each in self.tools.store.list(self.bucket, prefix)}

    def ingest(self, files: Mapping[str, bytes], pid: str | None = None) -> str:
        """A data set whose files are listed and uploaded; its pid."""
        pid = self.new_dataset(pid)
        self.list_files(pid, [file_entry(path, len(content)) for path, content in files.items()])
        self.upload(pid, files)
        return pid

    # ---------------------------------------------------------------------------------- the archive's side

    def with_settings(self, **changes: Any) -> "Facility":
        """The same facility with other archiving settings."""
        settings = self.tools.settings.model_copy(update=changes)
        return replace(self, tools=replace(self.tools, settings=settings))

    def archive(self, pid: str, holder: str = "test") -> ArchiveOutcome:
        return Archiving(self.tools, Monitor(pid)).archive(pid, holder)

    def retrieve(self, pid: str, holder: str = "test", files: Sequence[str] = ()) -> RetrievalOutcome:
        return Retrieval(self.tools, Monitor(pid)).retrieve(pid, holder, files)

    def retrieved(self, outcome: RetrievalOutcome) -> dict[str, bytes]:
        """Content of every file in the tars that were retrieved, by path; folders end in a slash."""
        found = {}
        for download in Retrieval(self.tools, Monitor(outcome.pid)).downloads(outcome):
            content = httpx.get(download.url).content
            assert hashlib.sha256(content).hexdigest() == download.sha256
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    extracted = tar.extractfile(member)
                    found[member.name + "/" * member.isdir()] = extracted.read() if extracted else b""
        return found

    def bag(self, pid: str) -> Path:
        return self.lts_root / bag_folder(pid)

    def is_published(self, pid: str) -> bool:
        return (self.bag(pid) / "bagit.txt").exists()

    def share_contents(self) -> dict[str, str]:
        """SHA-256 of every file on the share."""
        return {
            str(file.relative_to(self.lts_root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(self.lts_root.rglob("*"))
            if file.is_file()
        }


def file_entry(path: str, size: int, perm: str = "-rw-r--r--", time: str = TIME, **more: Any) -> dict[str, Any]:
    """A file as scicat-cli lists it."""
    return {"path": path, "size": size, "time": time, "perm": perm, "uid": "ada", "gid": "users", **more}


@contextmanager
def s3_with_buckets(folder: Path) -> Iterator[ObjectStoreSettings]:
    """An S3 server with the buckets; data sets of different tests have different pids."""
    with run_seaweedfs(folder, volume_mib=64) as settings:
        with ObjectStore.open(settings) as store:
            store.ensure_bucket(settings.s3_landingzone_bucket)
            store.ensure_bucket(settings.s3_retrieval_bucket)
        yield settings


@contextmanager
def open_facility(
    s3_server: ObjectStoreSettings, scicat_url: str, ledger_url: str, folder: Path, **archiving: Any
) -> Iterator[Facility]:
    """A facility with a new share in `folder`, and `archiving` settings; buckets and catalogue may be shared."""
    root = folder / "lts"
    root.mkdir()
    catalogue_settings = CatalogueSettings(
        scicat_endpoint=scicat_url,
        scicat_user=SecretStr(ARCHIVER),
        scicat_password=SecretStr(ARCHIVER),
        scicat_retry_s=5,
    )
    ledger_settings = LedgerSettings(ledger_url=SecretStr(ledger_url))
    with (
        ObjectStore.open(s3_server) as store,
        Catalogue.open(catalogue_settings) as catalogue,
        Ledger.open(ledger_settings) as ledger,
    ):
        tools = Tools(
            store=store,
            catalogue=catalogue,
            ledger=ledger,
            share=ShareAddress(root, initialise_share(root)),
            store_settings=s3_server,
            lts=LtsSettings(
                lts_root_folder=root,
                lts_stall_timeout_s=60,
                archiver_lts_file_timeout_s=2,
                lts_free_space_timeout_s=0,  # those who test the waiting set it
            ),
            settings=ArchivingSettings(archiver_scratch_folder=folder / "scratch", claim_wait_s=0.5, **archiving),
            storage_location="ETHZ",
        )
        yield Facility(tools, scicat_url, ledger_settings, catalogue_settings, root)


class SpaceNotes(Monitor):
    """Keeps what is told to people, and tells when it is about space."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.told: list[str] = []
        self.waits = threading.Event()

    def note(self, message: str) -> None:
        self.told.append(message)
        if "waiting for space" in message:
            self.waits.set()
