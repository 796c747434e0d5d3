"""Both ways of downloading check what they get, and give it back with its modes."""

import base64
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI, Response

from archiver.local.demo.downloads import download_by_links, download_by_script, links_of, script_of
from archiver.local.demo.errors import DemoFailedError
from archiver.local.demo.tour import remove_tree
from archiver.workflow.download_script import Download, download_script
from support.backend_api import serve

PID = "20.500.12345/some-pid"
EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)


def _tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, mode, content in (
            ("folder", 0o550, None),
            ("folder/ünï\nfile", 0o666, b"x" * 1000),
            ("-dash", 0o777, b"y"),
        ):
            member = tarfile.TarInfo(name)
            member.mode, member.mtime, member.uid = mode, 1_600_000_000, 12345
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.size = len(content or b"")
            tar.addfile(member, io.BytesIO(content or b""))
    return packed.getvalue()


@pytest.fixture(scope="module")
def link() -> Iterator[Download]:
    """A link that works, to a datablock with files of unusual modes."""
    content = _tar()
    app = FastAPI()

    @app.get("/block_0.tar")
    def block() -> Response:
        return Response(content)

    with serve(app) as url:
        digest = hashlib.sha256(content).hexdigest()
        yield Download(PID, "block_0.tar", len(content), digest, f"{url}/block_0.tar")


def _check(folder: Path) -> None:
    assert (folder / "folder" / "ünï\nfile").read_bytes() == b"x" * 1000
    assert (folder / "-dash").read_bytes() == b"y"
    modes = {path: (folder / path).stat().st_mode & 0o777 for path in ("folder", "folder/ünï\nfile", "-dash")}
    assert modes == {"folder": 0o550, "folder/ünï\nfile": 0o666, "-dash": 0o777}
    assert (folder / "-dash").stat().st_mtime == 1_600_000_000
    assert (folder / "-dash").stat().st_uid == os.getuid()


def test_links_bring_files_with_their_modes_whatever_the_umask(link: Download, tmp_path: Path) -> None:
    seen: list[int] = []
    before = os.umask(0o077)
    try:
        _check(download_by_links([link], tmp_path / "links", lambda count, files: seen.append(count)))
    finally:
        os.umask(before)
    assert sum(seen) == link.packed_size


def test_the_script_brings_the_same(link: Download, tmp_path: Path) -> None:
    script = download_script([link], EXPIRES)
    before = os.umask(0o077)
    try:
        _check(download_by_script(script, PID, tmp_path / "script", lambda count, files: None))
    finally:
        os.umask(before)


def test_a_datablock_that_is_not_what_was_archived_is_refused(link: Download, tmp_path: Path) -> None:
    wrong = replace(link, sha256="0" * 64)
    with pytest.raises(DemoFailedError, match="SHA-256 differs"):
        download_by_links([wrong], tmp_path / "links", lambda count, files: None)
    with pytest.raises(DemoFailedError, match="SHA-256 differs"):
        download_by_script(download_script([wrong], EXPIRES), PID, tmp_path / "script", lambda count, files: None)


def test_a_link_that_does_not_work_is_named(link: Download, tmp_path: Path) -> None:
    broken = replace(link, url=link.url + "x")
    with pytest.raises(DemoFailedError, match=r"block_0\.tar was answered with 404"):
        download_by_links([broken], tmp_path / "links", lambda count, files: None)


def test_links_and_script_come_from_the_result_of_the_job() -> None:
    entry = {"datasetId": PID, "name": "n", "packedSize": 5, "sha256": "ab", "url": "u"}
    result = {"result": [entry, {**entry, "datasetId": "other"}], "downloadScript": base64.b64encode(b"ls").decode()}
    assert links_of(result, PID) == [Download(PID, "n", 5, "ab", "u")]
    assert script_of(result) == "ls"


def test_a_result_without_links_or_script_is_said() -> None:
    with pytest.raises(DemoFailedError, match="no links"):
        links_of({"result": []}, PID)
    with pytest.raises(DemoFailedError, match="no download script"):
        script_of({})


def test_what_came_back_read_only_can_be_removed(tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    (folder / "read-only").mkdir(parents=True)
    (folder / "read-only" / "file").touch(0o400)
    (folder / "link").symlink_to("read-only")
    (folder / "read-only").chmod(0o500)
    remove_tree(folder)
    assert not folder.exists()
