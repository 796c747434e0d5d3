"""Bags made by archiving, read by others: by these tools from the share alone, and without any of our code."""

import json
import shlex
import subprocess
from pathlib import Path

from archiver.workflow.holdings.extraction import ExtractOrder, extract
from archiver.workflow.holdings.listing import Holdings
from archiver.workflow.holdings.verification import verify_bag
from archiver.workflow.isolation import ChildProcess
from support.facility import Facility

FILES = {"a.txt": b"alpha", "sub/b c.bin": bytes(range(256)) * 300, "sub/empty": b""}


def test_an_archived_data_set_is_listed_verified_and_extracted(
    facility: Facility, child: ChildProcess, tmp_path: Path
) -> None:
    pid = facility.ingest(FILES)
    facility.archive(pid)
    share = facility.tools.share

    (holding,) = Holdings(child, share).walk()
    verification = child.call(verify_bag, None, share, pid, members=True)
    done = child.call(extract, None, ExtractOrder(share, pid, tmp_path / "out"))

    assert (holding.pid, holding.files, holding.datablocks) == (pid, 3, 1)
    assert (verification.is_good, verification.members) == (True, 3)
    assert (done.files, done.failures) == (3, [])
    assert {path: (tmp_path / "out" / path).read_bytes() for path in FILES} == FILES


def test_a_data_set_is_checked_unpacked_and_cut_out_with_tar_and_coreutils_only(
    facility: Facility, tmp_path: Path
) -> None:
    facility = facility.with_settings(archiver_target_size_gb=0.000_01)
    pid = facility.ingest(FILES)
    assert len(facility.archive(pid).datablocks) == 3
    bag = facility.bag(pid)

    def shell(command: str) -> bytes:
        """What a shell in the bag's folder answers, with no other programs than the system's."""
        done = subprocess.run(
            ["/bin/sh", "-euc", command], cwd=bag, env={"PATH": "/usr/bin:/bin"}, check=True, capture_output=True
        )
        return done.stdout

    shell("sha256sum --check --strict --quiet manifest-sha256.txt tagmanifest-sha256.txt")
    shell(f"for tar in data/datablocks/*.tar; do tar -xf $tar -C {shlex.quote(str(tmp_path))}; done")
    assert {path: (tmp_path / path).read_bytes() for path in FILES} == FILES

    line = shell("cat archiver/*.jsonl | grep -h 'sub/b c.bin' | grep offset").decode()
    member = json.loads(line)
    (tar,) = (tar for tar in (bag / "data/datablocks").iterdir() if FILES["sub/b c.bin"] in tar.read_bytes())
    cut = f"tail -c +{member['offset'] + 1} {shlex.quote(str(tar))} | head -c {member['size']}"
    assert shell(f"{cut} | sha256sum").decode().split()[0] == member["sha256"]
