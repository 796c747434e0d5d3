"""The demo itself: there and back, stage by stage."""

import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from archiver.config.settings import CatalogueSettings, IdentitySettings, LtsSettings, QueueSettings
from archiver.local.demo.bag import check_bag
from archiver.local.demo.comparison import Difference, compare
from archiver.local.demo.display import MEGABYTE, Display
from archiver.local.demo.downloads import download_by_links, download_by_script, links_of, script_of
from archiver.local.demo.errors import TooLittleSpaceError
from archiver.local.demo.runs import RunWindow
from archiver.local.demo.selection import Selection
from archiver.local.demo.waiting import JobWatch
from archiver.local.ingestor.catalogue import JobView, NewDataset, UserCatalogue
from archiver.local.ingestor.ingestor import Ingestor, IngestorSettings
from archiver.local.scicat.defaults import INGESTOR, OWNER_GROUP
from archiver.local.stack import Stack
from archiver.workflow.errors import NAMES_SHOWN
from archiver.workflow.names import bag_folder

_COPIES = 6
"""Landing zone, share, retrieval bucket, a tar in download, and two folders it is unpacked to."""
_PATIENCE_S = 900.0
_SLOWEST = 2 * MEGABYTE
"""Bytes a second; slower than that is taken for stuck."""
_SPACE_PATIENCE_S = 600.0
_SPACE_PAUSE_S = 10.0


class Tour:
    """Takes one selection through a stack. Each tour makes a new data set."""

    def __init__(self, stack: Stack, selection: Selection, display: Display, chunk_bytes: int) -> None:
        self._stack = stack
        self._selection = selection
        self._listing = selection.listing
        self._display = display
        self._chunk_bytes = chunk_bytes
        self._files = len(self._listing.uploads)
        self._bytes = self._listing.upload_bytes
        self._patience_s = _PATIENCE_S + self._bytes / _SLOWEST
        self.pid = ""
        """Of the data set, once it has one."""

    @property
    def bag(self) -> Path:
        """Where the data set lies on the share."""
        return self._stack.settings(LtsSettings).lts_root_folder / bag_folder(self.pid)

    def take(self, *, keep_downloads: bool) -> list[Difference]:
        """There and back; how what came back differs from what was given.

        Raises:
            ArchiverError: a stage failed; the message says why and where to look.
        """
        self._check_space()
        urls = self._stack.urls
        with ExitStack() as opened:
            password = self._stack.credentials.ingestor_password
            catalogue = opened.enter_context(UserCatalogue.login(urls.scicat, INGESTOR, password))
            window = opened.enter_context(RunWindow(self._stack.settings(QueueSettings)))
            watch = JobWatch(window, urls.prefect_ui, str(self._stack.folder / "logs"))
            self._upload(catalogue)
            self._archive(catalogue, watch)
            job = self._retrieve(catalogue, watch)
            with self._downloads(keep=keep_downloads) as folder:
                return self._bring_back(job, folder)

    def _check_space(self) -> None:
        needed, free = _COPIES * self._bytes, shutil.disk_usage(self._stack.folder).free
        if needed > free:
            raise TooLittleSpaceError(
                f"A demo with {self._bytes / MEGABYTE:,.0f} MB needs {needed / MEGABYTE:,.0f} MB for its copies, but "
                f"{self._stack.folder} has {free / MEGABYTE:,.0f} MB free. Choose a smaller folder, or set "
                "ARCHIVER_LOCAL_FOLDER to a larger disk."
            )

    def _upload(self, catalogue: UserCatalogue) -> None:
        identity = self._stack.settings(IdentitySettings)
        dataset = NewDataset(
            name=f"demo: {self._selection.name}",
            source_folder=str(self._selection.folder),
            owner=INGESTOR,
            owner_group=OWNER_GROUP,
            contact_email=f"{INGESTOR}@facility.test",
            storage_location=self._stack.settings(CatalogueSettings).storage_location,
            metadata={"purpose": "demo"},
        )
        settings = IngestorSettings(
            api_url=self._stack.urls.api,
            token_url=f"{identity.issuer}/protocol/openid-connect/token",
            client_id=identity.idp_client_id,
            chunk_bytes=self._chunk_bytes,
            space_patience_s=_SPACE_PATIENCE_S,
            space_pause_s=_SPACE_PAUSE_S,
        )
        ingestor = Ingestor(settings, catalogue, INGESTOR)
        with self._display.stage("list") as stage:
            self.pid = ingestor.create(dataset, self._listing)
            stage.advance(0, len(self._listing.entries))
        self._display.say(f"  data set {self.pid}")
        with self._display.stage("upload", self._bytes) as stage:
            ingestor.upload(
                self.pid, dataset, self._listing, stage.advance, lambda reason: stage.describe(f"waiting: {reason}")
            )

    def _archive(self, catalogue: UserCatalogue, watch: JobWatch) -> None:
        def newest() -> JobView | None:
            return next(iter(catalogue.jobs_of(self.pid, "archive")), None)

        with self._display.stage("archive", self._bytes) as stage:
            watch.wait("The archive job", newest, stage, self._patience_s)
        self._display.correct("archive", files=self._files, size=self._bytes)
        with self._display.stage("check the bag") as stage:
            check_bag(self.bag, stage.advance)

    def _retrieve(self, catalogue: UserCatalogue, watch: JobWatch) -> JobView:
        with self._display.stage("retrieve", self._bytes) as stage:
            job_id = catalogue.create_retrieve_job(self.pid, OWNER_GROUP)
            job = watch.wait("The retrieve job", lambda: catalogue.job(job_id), stage, self._patience_s)
        downloads = links_of(job.result, self.pid)
        size = sum(download.packed_size for download in downloads)
        self._display.correct("retrieve", files=len(downloads), size=size)
        return job

    def _bring_back(self, job: JobView, folder: Path) -> list[Difference]:
        downloads = links_of(job.result, self.pid)
        size = sum(download.packed_size for download in downloads)
        with self._display.stage("download, links", size) as stage:
            by_links = download_by_links(downloads, folder / "links", stage.advance)
        with self._display.stage("download, script", size) as stage:
            by_script = download_by_script(script_of(job.result), self.pid, folder / "script", stage.advance)
        self._display.correct("download, script", files=len(downloads), size=size)
        found = []
        with self._display.stage("compare", 2 * self._bytes) as stage:
            for name, returned in (("links", by_links), ("script", by_script)):
                differences = compare(self._listing, returned, stage.advance)
                found += [Difference(path, f"{what} (download by {name})") for path, what in differences]
        return found

    @contextmanager
    def _downloads(self, *, keep: bool) -> Iterator[Path]:
        """A folder for downloads, removed after the block or named to the user."""
        name = f"{self.pid.replace('/', '-')}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        folder = self._stack.folder / "demo" / name
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            if keep:
                self._display.say(f"Downloads were kept: {folder}")
            else:
                remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it, also what came back read-only."""
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]:
        inner.chmod(inner.stat().st_mode | stat.S_IRWXU)
    shutil.rmtree(folder)


def first_names(differences: list[Difference]) -> Iterator[str]:
    """A line for each of the first differences, and how many more there are."""
    for path, what in differences[:NAMES_SHOWN]:
        yield f"  {path!r} {what}"
    if len(differences) > NAMES_SHOWN:
        yield f"  … and {len(differences) - NAMES_SHOWN:,} more"
