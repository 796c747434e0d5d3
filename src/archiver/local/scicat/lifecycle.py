"""A data set's lifecycle: v3 merges one level deep, v4 merges deeply and resets with null."""

from __future__ import annotations

from archiver.local.scicat.blocks import dataset_or_404
from archiver.local.scicat.context import BOTH, V3, V4, Call, Reply, Route
from archiver.local.scicat.dataset_model import LIFECYCLE, lifecycle_defaults, tidy_lifecycle
from archiver.local.scicat.datasets import readable_dataset
from archiver.local.scicat.dto import check
from archiver.local.scicat.errors import refused
from archiver.local.scicat.merging import merge
from archiver.local.scicat.values import Document, iso, now


def read(call: Call) -> Reply:
    """The lifecycle; 403 and 404 like the data set."""
    if call.version == 4:
        call.signed_in()
    return Reply.of(readable_dataset(call, call.params["pid"])["datasetlifecycle"])


def patch_v3(call: Call) -> Reply:
    """Overwrite the given fields: null is stored as null, an object replaces the stored one."""
    given = _given(call)
    dataset = _changeable(call)
    return _save(call, dataset, {**dataset["datasetlifecycle"], **given})


def patch_v4(call: Call) -> Reply:
    """Merge deeply, whatever the content type says: null resets to the default, objects merge key by key."""
    given = _given(call)
    dataset = _changeable(call)
    defaults = lifecycle_defaults(call.catalogue.config, call.catalogue.started)
    merged = merge(dataset["datasetlifecycle"], given)
    reset = {name: defaults[name] for name, value in given.items() if value is None and name in defaults}
    return _save(call, dataset, {**merged, **reset})


def _given(call: Call) -> Document:
    call.allow(call.rights.creates or call.rights.lifecycle)
    if not call.body:
        raise refused(400, "There is nothing to change")
    return check(call.body, LIFECYCLE)


def _changeable(call: Call) -> Document:
    dataset = dataset_or_404(call, call.params["pid"])
    if not call.rights.updates_lifecycle(dataset):
        raise refused(403, "You may not change this data set's lifecycle")
    return dataset


def _save(call: Call, dataset: Document, lifecycle: Document) -> Reply:
    tidy = tidy_lifecycle(lifecycle)
    changed = {**dataset, "datasetlifecycle": tidy, "updatedAt": iso(now()), "updatedBy": call.username}
    call.store.replace("datasets", dataset["pid"], changed)
    return Reply.of(tidy)


ROUTES = [
    Route(BOTH, "GET", "/datasets/{pid}/datasetlifecycle", read),
    Route(V3, "PATCH", "/datasets/{pid}/datasetlifecycle", patch_v3),
    Route(V4, "PATCH", "/datasets/{pid}/datasetlifecycle", patch_v4),
]
