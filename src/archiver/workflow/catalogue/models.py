"""What SciCat holds about data sets, their files, their datablocks and the jobs on them.

Instants are the strings SciCat uses (ISO 8601, UTC, milliseconds), sizes are bytes. The entries for files
are tuples, because there may be 400,000 of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Where a data set stands between disk and archive (SciCat's `datasetlifecycle`)."""

    archivable: bool
    retrievable: bool
    archive_status: str
    retrieve_status: str
    archive_return: Any
    """`archiveReturnMessage`: a text, an object, or None."""
    retrieve_return: Any
    """`retrieveReturnMessage`: likewise."""
    storage_location: str
    document: JsonObject = field(repr=False, compare=False)
    """All of it, as SciCat gave it."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set's catalogue record."""

    pid: str
    name: str
    owner: str
    owner_group: str
    access_groups: tuple[str, ...]
    contact_email: str
    source_folder: str
    number_of_files: int
    """SciCat's own sum; a hint only, because some of its calls compute it wrongly."""
    size: int
    """Likewise, bytes."""
    packed_size: int
    """Sum over the registered datablocks, likewise, bytes."""
    lifecycle: Lifecycle
    document: JsonObject = field(repr=False, compare=False)
    """The whole record, to be kept in the bag."""


@dataclass(frozen=True, slots=True)
class NewDataset:
    """A raw data set to be created; its files are not there yet, and it cannot be archived before they are."""

    pid: str
    name: str
    owner: str
    owner_group: str
    contact_email: str
    source_folder: str
    created_at: str
    """`creationTime`."""


class OrigFile(NamedTuple):
    """A file as the ingestor listed it. Directories and symlinks are listed too."""

    path: str
    size: int
    time: str
    perm: str
    """Go mode string, octal or decimal; empty where it was not given, as are `uid`, `gid`, `type`."""
    chk: str | None
    chk_alg: str | None
    """Algorithm of `chk`, as its origdatablock names it."""
    uid: str
    gid: str
    type: str


class DatablockFile(NamedTuple):
    """A file inside a registered datablock."""

    path: str
    size: int
    time: str
    chk: str | None = None
    uid: str | None = None
    gid: str | None = None
    perm: str | None = None


@dataclass(frozen=True, slots=True)
class Datablock:
    """A datablock as it is registered, or is to be."""

    archive_id: str
    size: int
    """Sum of its files, bytes."""
    packed_size: int
    """Length of the tar, bytes."""
    chk_alg: str | None
    """Algorithm of every file's `chk`."""
    version: str
    files: tuple[DatablockFile, ...] = field(repr=False)
    id: str = ""
    """SciCat's own id; empty before it is registered."""


class JobDataset(NamedTuple):
    """One data set of a job."""

    pid: str
    files: tuple[str, ...]
    """Paths that are asked for; empty means all."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, whichever version of the jobs API it was read from."""

    id: str
    type: str
    status: str
    datasets: tuple[JobDataset, ...]
    """Each pid once, in the job's order; empty for a job that names none."""
    owner_user: str
    owner_group: str
    contact_email: str
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """`jobParams`."""
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class CatalogueUser:
    """The user a SciCat token belongs to."""

    username: str
    groups: tuple[str, ...]
