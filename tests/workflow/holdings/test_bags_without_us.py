"""In thirty years nothing of this service may be left: a bag is read with tar and coreutils only."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from archiver.workflow.names import bag_folder
from support.bags import FILES, MTIME, make_bag, new_share, tamper

TOOLS = ("sha256sum", "tar", "cat", "dd", "stat")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with nothing but coreutils and tar, to be the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def run(tools: Path, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    # Nothing of the environment: neither our package nor any library path.
    environment = {"PATH": str(tools), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    program = str(tools / command[0])
    return subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_bag_is_checked_and_unpacked_with_tar_and_coreutils_only(tmp_path: Path, tools: Path) -> None:
    share = new_share(tmp_path / "lts")
    odd = {"name with 'quotes' and ümlaut": b"odd", "x" * 120 + "/deep": b"a path longer than a plain tar header"}
    (first, second) = make_bag(share, "20.500/a", FILES, odd)
    bag, out = share.root / bag_folder("20.500/a"), tmp_path / "out"
    out.mkdir()

    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        checked = run(tools, bag, "sha256sum", "-c", "--strict", manifest)
        assert checked.returncode == 0, checked.stderr
        assert all(line.endswith(": OK") for line in checked.stdout.splitlines())
    assert run(tools, bag, "cat", "bagit.txt").stdout.startswith("BagIt-Version: ")
    for totals in (first, second):
        unpacked = run(tools, out, "tar", "-xpf", str(share.root / totals.archive_id))
        assert unpacked.returncode == 0, unpacked.stderr

    for path, content in {**FILES, **odd}.items():
        if content is None:
            assert (out / path).is_dir()
            continue
        assert (out / path).read_bytes() == content
        told = run(tools, out, "stat", "-c", "%Y %a", path).stdout.split()
        assert told == [str(MTIME), "640"]


def test_a_single_file_is_cut_out_by_its_offset_in_the_index(tmp_path: Path, tools: Path) -> None:
    share = new_share(tmp_path / "lts")
    (totals,) = make_bag(share, "20.500/a")
    tar = share.root / totals.archive_id
    index = run(tools, share.root / bag_folder("20.500/a"), "cat", f"archiver/{tar.name}.jsonl").stdout
    (member,) = (json.loads(line) for line in index.splitlines() if '"a.txt"' in line)

    where = (f"skip={member['offset']}", f"count={member['size']}")
    cut = run(tools, tmp_path, "dd", f"if={tar}", "iflag=skip_bytes,count_bytes", *where, "status=none")

    assert cut.stdout == "alpha"
    assert all(path in run(tools, tmp_path, "tar", "-tf", str(tar)).stdout for path in FILES)


def test_sha256sum_finds_a_bit_that_flipped(tmp_path: Path, tools: Path) -> None:
    share = new_share(tmp_path / "lts")
    (totals,) = make_bag(share, "20.500/a")
    tamper(share.root / totals.archive_id, b"\xff", 700)

    checked = run(tools, share.root / bag_folder("20.500/a"), "sha256sum", "-c", "manifest-sha256.txt")

    assert checked.returncode == 1
    assert checked.stdout.splitlines()[-1].endswith(": FAILED")
