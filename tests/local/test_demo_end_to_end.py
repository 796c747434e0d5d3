"""The demo on the whole stack: what is odd about names, sizes and modes goes into the archive and comes back."""

import io
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import bagit  # type: ignore[import-untyped]
import pytest
from rich.console import Console

from archiver.config.settings import IdentitySettings, LtsSettings, ObjectStoreSettings, QueueSettings
from archiver.local.demo import run
from archiver.local.demo.display import Display
from archiver.local.demo.errors import DemoFailedError
from archiver.local.demo.runs import RunWindow
from archiver.local.demo.waiting import JobWatch
from archiver.local.ingestor.archiver_client import ArchiverClient
from archiver.local.ingestor.catalogue import NewDataset, UserCatalogue
from archiver.local.ingestor.chunks import SMALLEST_CHUNK_BYTES as CHUNK
from archiver.local.ingestor.listing import list_folder
from archiver.local.ingestor.service_token import ServiceToken
from archiver.local.scicat.defaults import INGESTOR, OWNER_GROUP
from archiver.local.stack import Stack
from archiver.workflow.names import bag_folder, dataset_prefix
from archiver.workflow.storage.object_store import ObjectStore

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


class Transcript(io.StringIO):
    """What a demo prints; `at` is called as soon as a text appears, before the demo goes on."""

    def __init__(self, text: str = "", at: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._text, self._at = text, at

    def write(self, text: str) -> int:
        if self._text and self._text in text:
            self._text = ""
            self._at()
        return super().write(text)

    @property
    def pid(self) -> str:
        found = re.search(r"data set (\S+)", self.getvalue())
        assert found, self.getvalue()
        return found[1]


def _demo(stack: Stack, folder: Path, transcript: Transcript) -> int:
    console = Console(file=transcript, highlight=False)
    return run(folder, stack_folder=stack.folder, chunk_bytes=CHUNK, console=console)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "odd data"
    (folder / "sub folder" / "deeper").mkdir(parents=True)
    (folder / "empty folder").mkdir()
    contents = {
        **{"ünïcodé-日本": 100, "two  words": 1, "new\nline": 2, "-rf": 3, "empty": 0, "Case": 4, "case": 5},
        **{"sub folder/deeper/.hidden": 6, "'quotes\" $(x)": 7, "100%25": 8, "a+b&c": 9},
        **{"below": CHUNK - 1, "exact": CHUNK, "large": 2 * CHUNK + 11},
    }
    for name, size in contents.items():
        (folder / name).write_bytes(os.urandom(size))
    (folder / "link").symlink_to("sub folder/deeper/.hidden")
    (folder / "link to large").symlink_to(folder / "large")
    for number, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, ns=(0, (1_500_000_000 + number) * 10**9 + 999_999_999), follow_symlinks=False)
    (folder / "Case").chmod(0o640)
    (folder / "case").chmod(0o777)
    (folder / "below").chmod(0o444)
    (folder / "empty folder").chmod(0o700)
    (folder / "sub folder").chmod(0o775)
    return folder


def test_a_folder_of_odd_files_comes_back_the_same(stack: Stack, folder: Path) -> None:
    transcript = Transcript()

    assert _demo(stack, folder, transcript) == 0, transcript.getvalue()

    assert "All 16 files came back twice" in transcript.getvalue()
    bag = stack.settings(LtsSettings).lts_root_folder / bag_folder(transcript.pid)
    assert str(bag) in transcript.getvalue()
    assert bagit.Bag(str(bag)).is_valid()
    store = stack.settings(ObjectStoreSettings)
    with ObjectStore.open(store) as objects:
        assert list(objects.list(store.s3_landingzone_bucket, dataset_prefix(transcript.pid))) == []
    assert list((stack.folder / "demo").iterdir()) == []


def test_a_file_that_is_not_as_it_was_is_named_and_fails_the_demo(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "changed meanwhile").write_bytes(b"before")
    (folder / "kept").write_bytes(b"kept")

    def change() -> None:
        (folder / "changed meanwhile").write_bytes(b"after.")

    transcript = Transcript("check the bag", change)
    assert _demo(stack, folder, transcript) == 1

    said = transcript.getvalue()
    assert "'changed meanwhile' differs from byte 0 on (download by links)" in said
    assert "'changed meanwhile' differs from byte 0 on (download by script)" in said
    assert "'kept'" not in said


def test_a_job_that_fails_ends_with_its_message_and_where_to_look(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "never sent").write_bytes(b"x")
    identity = stack.settings(IdentitySettings)
    dataset = NewDataset("incomplete", "/data", INGESTOR, OWNER_GROUP, "a@b.ch", "ETHZ")
    display = Display(Console(file=io.StringIO()))
    with (
        UserCatalogue.login(stack.urls.scicat, INGESTOR, stack.credentials.ingestor_password) as catalogue,
        RunWindow(stack.settings(QueueSettings)) as window,
        display.stage("archive") as stage,
    ):
        pid = catalogue.create_dataset(dataset)
        catalogue.register_files(pid, list_folder(tmp_path).entries)
        token_url = f"{identity.issuer}/protocol/openid-connect/token"
        token = ServiceToken(stack.urls.api, token_url, identity.idp_client_id, catalogue.token)
        client = ArchiverClient(stack.urls.api, token)
        with closing(token), closing(client):
            client.request_upload(pid, 1, 60, 1)
            client.finalize(pid, owner_group=OWNER_GROUP, owner_user=INGESTOR, contact_email="a@b.ch", archive=True)
        watch = JobWatch(window, stack.urls.prefect_ui, str(stack.folder / "logs"))

        with pytest.raises(DemoFailedError) as caught:
            watch.wait("The archive job", lambda: catalogue.jobs_of(pid, "archive")[0], stage, 300)

    said = str(caught.value)
    assert "finishedWithDatasetErrors" in said
    assert "'never sent'" in said
    assert f"{stack.urls.prefect_ui}/runs/flow-run/" in said
    assert str(stack.folder / "logs") in said


def test_a_folder_that_is_none_is_said_before_anything_begins(stack: Stack, tmp_path: Path) -> None:
    transcript = Transcript()
    assert _demo(stack, tmp_path / "missing", transcript) == 1
    assert "cannot be read" in transcript.getvalue()
    assert "upload" not in transcript.getvalue()
