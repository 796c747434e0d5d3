"""The files that make a bag: read back by ourselves, by `sha256sum` and by a validator of the Library of Congress."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import bagit  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.workflow.datablocks.bag import (
    BAG_INFO,
    BAGIT,
    BAGIT_TEXT,
    MANIFEST,
    TAG_MANIFEST,
    PayloadFile,
    bag_info,
    manifest,
    read_bag_info,
    read_manifest,
    tag_manifest,
)
from archiver.workflow.names import archive_id, bag_folder
from support.strategies import ODD_PATHS, file_paths

PIDS = ("20.500.11935/0b5c", "a~b:c@d+e=(f)/g", "x")
INFO = (("External-Identifier", "x"), ("External-Description", "line\nbreak: and   colon ✓ \u2028 end"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_bag(bag: Path, payload: Mapping[str, bytes]) -> None:
    tags = {
        MANIFEST: manifest((_sha256(content), path) for path, content in payload.items()).encode(),
        BAG_INFO: bag_info(
            INFO, [PayloadFile(path, len(content), _sha256(content)) for path, content in payload.items()]
        ).encode(),
        "archiver/plan.jsonl": b"{}\n",
    }
    listed = tag_manifest({path: _sha256(content) for path, content in tags.items()})
    files = {**payload, **tags, TAG_MANIFEST: listed.encode(), BAGIT: BAGIT_TEXT.encode()}
    for path, content in files.items():
        file = bag / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _payload(pid: str) -> dict[str, bytes]:
    folder = bag_folder(pid) + "/"
    return {archive_id(pid, index).removeprefix(folder): b"tar %d" % index for index in range(12)}


@pytest.mark.parametrize("pid", PIDS)
def test_a_bag_is_valid_for_another_implementation(pid: str, tmp_path: Path) -> None:
    _write_bag(tmp_path, _payload(pid))

    bag = bagit.Bag(str(tmp_path))
    bag.validate()
    assert bag.info["Payload-Oxum"] == f"{sum(map(len, _payload(pid).values()))}.12"
    assert bag.info["External-Description"] == "line break: and colon ✓ end"


@pytest.mark.parametrize("damaged", [next(iter(_payload("x"))), BAG_INFO, MANIFEST, "archiver/plan.jsonl"])
def test_damage_anywhere_is_found_by_another_implementation(damaged: str, tmp_path: Path) -> None:
    _write_bag(tmp_path, _payload("x"))
    content = bytearray((tmp_path / damaged).read_bytes())
    content[0] ^= 1
    (tmp_path / damaged).write_bytes(content)

    with pytest.raises(bagit.BagError):
        bagit.Bag(str(tmp_path)).validate()


@pytest.mark.parametrize("pid", PIDS)
def test_checksum_tools_can_check_a_bag(pid: str, tmp_path: Path) -> None:
    _write_bag(tmp_path, _payload(pid))

    for listing in (MANIFEST, TAG_MANIFEST):
        done = subprocess.run(["sha256sum", "--strict", "-c", listing], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


@given(st.dictionaries(file_paths() | st.text("%0aAdD\r\n25", min_size=1), st.text("0123456789abcdef", min_size=64)))
def test_a_manifest_comes_back_as_it_was_written(checksums: dict[str, str]) -> None:
    checksums |= dict.fromkeys(ODD_PATHS, "f" * 64)

    assert read_manifest(manifest((sha256, path) for path, sha256 in checksums.items())) == checksums


def test_a_manifest_is_sorted_and_takes_one_line_for_each_file() -> None:
    text = manifest(("0" * 64, path) for path in ODD_PATHS)

    assert text.count("\n") == len(ODD_PATHS)
    assert list(read_manifest(text)) == sorted(ODD_PATHS)


@given(st.text(st.characters()))
def test_any_value_fits_on_one_line_of_the_bags_description(value: str) -> None:
    text = bag_info([("Label", value), ("Next", "one")], [PayloadFile("a", 3, ""), PayloadFile("b", 4, "")])

    assert text.encode()
    assert len(text.splitlines()) == 3
    expected = " ".join(value.split()).encode("utf-8", "replace").decode()
    assert read_bag_info(text) == {"Label": expected, "Next": "one", "Payload-Oxum": "7.2"}


def test_the_tag_manifest_names_the_tag_files_and_the_one_that_publishes() -> None:
    listed = read_manifest(tag_manifest({"manifest-sha256.txt": _sha256(b"x")}))

    assert listed == {"manifest-sha256.txt": _sha256(b"x"), "bagit.txt": _sha256(BAGIT_TEXT.encode())}
