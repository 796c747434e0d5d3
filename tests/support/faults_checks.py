"""What must hold of a data set, whatever happened to the runs that archive and retrieve it."""

import hashlib
import stat
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bagit  # type: ignore[import-untyped]
import httpx

from archiver.workflow.ledger.records import RetrievalState, Stage
from archiver.workflow.names import TEMPORARY_MARK, bag_folder, dataset_prefix
from archiver.workflow.storage.object_store import ObjectChangedError
from support.facility import Facility

LANDING_ZONE = "landing zone complete"
BAG = "bag published"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Witness:
    """Knows what was uploaded as one data set, and looks where it is."""

    facility: Facility
    pid: str
    files: Mapping[str, bytes]

    # ------------------------------------------------------------------------------ at any moment

    def copies(self) -> list[str]:
        """Where a complete copy lies, each byte of it checked."""
        found = [LANDING_ZONE] if self._landed_is_complete() else []
        if self.facility.is_published(self.pid) and self.bag_faults() == []:
            found.append(BAG)
        return found

    def check_nothing_lost(self) -> list[str]:
        """There is a complete copy at this moment, and whatever is published is right; where the copies lie."""
        copies = self.copies()
        assert copies, "no complete copy is left"
        if self.facility.is_published(self.pid):
            assert BAG in copies, f"a bag is published that is not right: {self.bag_faults()}"
        return copies

    def _landed_is_complete(self) -> bool:
        store, bucket, prefix = self.facility.tools.store, self.facility.bucket, dataset_prefix(self.pid)
        landed = {each.key.removeprefix(prefix): each for each in store.list(bucket, prefix)}
        if not landed.keys() >= self.files.keys():
            return False
        try:
            return all(
                store.read_small(bucket, landed[path].key, landed[path].etag)[0] == content
                for path, content in self.files.items()
            )
        except ObjectChangedError:
            return False

    def bag_faults(self) -> list[str]:
        """What is wrong with the bag, judged with other people's programs; empty for a good one."""
        bag = self.facility.bag(self.pid)
        faults = []
        for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
            done = subprocess.run(
                ["sha256sum", "--check", "--strict", "--quiet", manifest],
                cwd=bag,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                faults.append(f"{manifest}: {done.stdout} {done.stderr}")
        try:
            bagit.Bag(str(bag)).validate()
        except bagit.BagError as error:
            faults.append(f"bagit: {error}")
        found = [item for tar in self.tars() for item in _members(tar)]
        if len(found) != len(self.files) or dict(found) != dict(self.files):
            faults.append(f"the tars hold {sorted(path for path, _ in found)}")
        return faults

    def tars(self) -> list[Path]:
        return sorted((self.facility.bag(self.pid) / "data/datablocks").glob("*.tar"))

    def published(self) -> dict[str, str]:
        """SHA-256 of each file of the bag, by path, unfinished ones aside; empty while it is not published."""
        if not self.facility.is_published(self.pid):
            return {}
        return {path: sha256 for path, sha256 in self.bag_contents().items() if TEMPORARY_MARK not in path}

    def bag_contents(self) -> dict[str, str]:
        """SHA-256 of each file in the bag's folder, by path."""
        bag = self.facility.bag(self.pid)
        return {
            str(file.relative_to(bag)): _sha256(file.read_bytes()) for file in sorted(bag.rglob("*")) if file.is_file()
        }

    def state(self) -> dict[str, object]:
        """Everything anybody can see of the data set."""
        tools = self.facility.tools
        record = tools.ledger.dataset(self.pid)
        return {
            "bag": self.bag_contents(),
            "lifecycle": self.facility.lifecycle(self.pid),
            "datablocks": self.facility.registered(self.pid),
            "stage": record and (record.stage, record.holder, record.fence, record.archived_at, record.message),
            "ledger": tools.ledger.datablocks(self.pid),
            "landing zone": self.facility.landed(self.pid),
        }

    # ------------------------------------------------------------------------------ when it is archived

    def check_archived_once(self) -> None:
        """One valid bag, read-only; catalogue and ledger say the same; nothing lies anywhere else."""
        assert self.bag_faults() == []
        tars = self.tars()
        own = {f"data/datablocks/{tar.name}" for tar in tars} | {f"archiver/{tar.name}.jsonl" for tar in tars}
        tags = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"}
        assert self.bag_contents().keys() == own | tags | {"archiver/plan.jsonl", "archiver/catalogue.json"}
        bag = self.facility.bag(self.pid)
        modes = {stat.S_IMODE((bag / path).stat().st_mode) for path in self.bag_contents()}
        assert modes == {0o444}
        self._check_catalogue(tars)
        self._check_ledger(tars)
        assert self.facility.landed(self.pid) == set()
        tools = self.facility.tools
        assert not list(tools.store.list(tools.store_settings.s3_retrieval_bucket, bag_folder(self.pid)))

    def _archive_id(self, tar: Path) -> str:
        return str(tar.relative_to(self.facility.lts_root))

    def _check_catalogue(self, tars: list[Path]) -> None:
        blocks = {block["archiveId"]: block for block in self.facility.registered(self.pid)}
        assert len(self.facility.registered(self.pid)) == len(tars)
        for tar in tars:
            block = blocks[self._archive_id(tar)]
            members = dict(_members(tar))
            assert block["packedSize"] == tar.stat().st_size
            assert block["size"] == sum(map(len, members.values()))
            listed = {file["path"]: (file["size"], file["chk"]) for file in block["dataFileList"]}
            assert listed == {path: (len(content), _sha256(content)) for path, content in members.items()}
        lifecycle = self.facility.lifecycle(self.pid)
        assert (lifecycle["archivable"], lifecycle["retrievable"]) == (False, True)
        assert lifecycle["archiveStatusMessage"] == "datasetOnArchiveDisk"
        assert not lifecycle.get("archiveReturnMessage")

    def _check_ledger(self, tars: list[Path]) -> None:
        ledger = self.facility.tools.ledger
        record = ledger.dataset(self.pid)
        assert record is not None
        assert (record.stage, record.holder, record.files) == (Stage.EMPTIED, None, len(self.files))
        noted = {each.archive_id: (each.packed_size, each.sha256) for each in ledger.datablocks(self.pid)}
        assert noted == {self._archive_id(tar): (tar.stat().st_size, _sha256(tar.read_bytes())) for tar in tars}
        assert all(each.verified_at for each in ledger.datablocks(self.pid))

    # ------------------------------------------------------------------------------ when it is retrieved

    def check_no_wrong_copy(self) -> int:
        """What can be seen in the retrieval bucket is right; how many datablocks."""
        store, bucket = self.facility.tools.store, self.facility.tools.store_settings.s3_retrieval_bucket
        seen = list(store.list(bucket, bag_folder(self.pid)))
        for stored in seen:
            content = store.read_small(bucket, stored.key, stored.etag)[0]
            assert content == (self.facility.lts_root / stored.key).read_bytes()
        return len(seen)

    def check_retrieved(self) -> None:
        """Every datablock is in the bucket, its link gives the archived bytes, the ledger and the catalogue agree."""
        tools, bucket = self.facility.tools, self.facility.tools.store_settings.s3_retrieval_bucket
        assert self.check_no_wrong_copy() == len(self.tars())
        assert list(tools.store.list_multiparts(bucket, bag_folder(self.pid))) == []
        for tar in self.tars():
            link = tools.store.presign_get(bucket, self._archive_id(tar), timedelta(minutes=5), tar.name)
            assert httpx.get(link, timeout=20).content == tar.read_bytes()
            record = tools.ledger.retrieval(self._archive_id(tar))
            assert record is not None
            assert record.state is RetrievalState.READY
            silent_since = record.heartbeat_at or datetime.min.replace(tzinfo=UTC)
            assert record.holder is None or silent_since < datetime.now(UTC) - timedelta(hours=1)
            assert record.sha256 == _sha256(tar.read_bytes())
        assert self.facility.lifecycle(self.pid)["retrieveStatusMessage"] == "datasetRetrieved"


def _members(tar: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(tar) as opened:
        found = []
        for member in opened:
            if member.isfile():
                content = opened.extractfile(member)
                assert content is not None
                found.append((member.name, content.read()))
        return found
