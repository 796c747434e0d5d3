"""Data sets in the landing zone, made as the facility's program makes them: listed, checksums stored by S3."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from archiver.local.ingestor.chunks import DEFAULT_CHUNK_BYTES, is_sent_in_parts, parts_of
from archiver.local.scicat.defaults import OWNER_GROUP
from archiver.workflow.catalogue.models import NewDataset, OrigFile
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.object_store import ObjectStore
from benchmarks.datasets import DatasetSpec
from benchmarks.sites import Site

_AT_ONCE = 8


def land(site: Site, spec: DatasetSpec) -> str:
    """A data set of these files, of new random bytes, ready to be archived; its pid."""
    pid = f"20.500.12345/{uuid.uuid4()}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    site.catalogue.create_dataset(
        NewDataset(
            pid=pid,
            name=f"benchmark {spec.name}: {spec.description}",
            owner="benchmark",
            owner_group=OWNER_GROUP,
            contact_email="benchmark@archiver.invalid",
            source_folder=f"/benchmark/{spec.name}",
            created_at=now,
        )
    )
    listed = [OrigFile(path, size, now, "-rw-r--r--", None, None, "", "", "") for path, size in spec.paths()]
    site.catalogue.add_orig_files(pid, listed)
    prefix, bucket = dataset_prefix(pid), site.store_settings.s3_landingzone_bucket
    paths = list(spec.paths())
    with ThreadPoolExecutor(_AT_ONCE) as pool:

        def work(first: int) -> None:
            for path, size in paths[first::_AT_ONCE]:
                _put(site.store, bucket, prefix + path, size)

        for done in [pool.submit(work, first) for first in range(_AT_ONCE)]:
            done.result()
    # As the API does when an upload is finalized: SciCat takes archive jobs for no other data set.
    site.catalogue.update_lifecycle(pid, {"archiveStatusMessage": "datasetCreated", "archivable": True})
    return pid


def _put(store: ObjectStore, bucket: str, key: str, size: int) -> None:
    if not is_sent_in_parts(size, DEFAULT_CHUNK_BYTES):
        store.put(bucket, key, os.urandom(size))
        return
    with store.multipart_writer(bucket, key) as writer:
        for part in parts_of(size, DEFAULT_CHUNK_BYTES):
            writer.write_part(part.number, os.urandom(part.size))
        writer.complete()
