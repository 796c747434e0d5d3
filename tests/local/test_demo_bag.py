"""The demo believes a bag only when its manifests are right."""

import hashlib
from pathlib import Path

import pytest

from archiver.local.demo.bag import check_bag
from archiver.local.demo.errors import DemoFailedError


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.tar").write_bytes(b"payload")
    (tmp_path / "bagit.txt").write_text("BagIt-Version: 1.0\n")
    for manifest, path in (("manifest-sha256.txt", "data/one.tar"), ("tagmanifest-sha256.txt", "manifest-sha256.txt")):
        digest = hashlib.sha256((tmp_path / path).read_bytes()).hexdigest()
        (tmp_path / manifest).write_text(f"{digest}  {path}\n")
    return tmp_path


def test_a_bag_that_is_right_is_counted(bag: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert check_bag(bag, lambda count, files: seen.append((count, files))) == 2
    assert sum(files for _, files in seen) == 2


def test_an_altered_file_is_named(bag: Path) -> None:
    (bag / "data" / "one.tar").write_bytes(b"Payload")
    with pytest.raises(DemoFailedError, match=r"one\.tar is not what"):
        check_bag(bag)


def test_a_missing_file_is_named(bag: Path) -> None:
    (bag / "data" / "one.tar").unlink()
    with pytest.raises(DemoFailedError, match=r"one\.tar"):
        check_bag(bag)


def test_a_bag_that_is_not_published_is_none(bag: Path) -> None:
    (bag / "bagit.txt").unlink()
    with pytest.raises(DemoFailedError, match="no bag"):
        check_bag(bag)
