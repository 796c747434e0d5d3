"""`archiver lts` as operators and their scripts use it: in a process of its own, with nothing but a share."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from archiver.workflow.errors import PermanentError
from archiver.workflow.holdings.reading import identity_so_far
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.names import DATASETS_FOLDER, bag_folder
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from support.bags import FILES, ignore, make_bag, new_share, tamper

_NOBODY = 65534


@pytest.fixture
def share(tmp_path: Path) -> ShareAddress:
    return new_share(tmp_path / "lts")


def _run(share: ShareAddress, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command with no other setting than where the share is."""
    return subprocess.run(
        [sys.executable, "-m", "archiver.cli", "lts", *arguments],
        env={"PATH": os.environ["PATH"], "LTS_ROOT_FOLDER": str(share.root), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _json(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """All of stdout, which must be one document."""
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_share_is_initialised_once(tmp_path: Path) -> None:
    share = ShareAddress(tmp_path / "new", uuid.uuid4())
    share.root.mkdir()

    first = _run(share, "init", "--json")
    again = _run(share, "init")

    assert (first.returncode, again.returncode) == (0, 0)
    assert _json(first)["created"] is True
    assert uuid.UUID(_json(first)["share"]) == uuid.UUID(again.stdout.strip())
    assert "no mount point" in first.stderr
    assert again.stderr == ""


def test_a_dry_init_tells_what_would_be_given_and_gives_nothing(tmp_path: Path) -> None:
    share = ShareAddress(tmp_path / "new", uuid.uuid4())
    nowhere = _run(share, "init", "--dry-run")
    share.root.mkdir()

    before, people = _run(share, "init", "--dry-run", "--json"), _run(share, "init", "--dry-run")

    assert (nowhere.returncode, before.returncode, people.returncode) == (1, 0, 0)
    assert "does not exist" in nowhere.stderr
    assert (_json(before)["dry_run"], _json(before)["created"], _json(before)["share"]) == (True, True, None)
    assert people.stdout == f"dry run, nothing was changed; {share.root} would get an identity\n"
    assert "no mount point" in people.stderr
    assert list(share.root.iterdir()) == []

    given = _json(_run(share, "init", "--json"))["share"]
    after = _json(_run(share, "init", "--dry-run", "--json"))
    assert (after["created"], after["share"]) == (False, given)


def test_a_dry_init_says_where_it_could_not_write() -> None:
    user = os.getuid()
    if user == 0:
        os.setresuid(_NOBODY, -1, -1)  # who is asked about; what it may do otherwise stays
    try:
        with pytest.raises(PermanentError, match="/usr cannot be written to by user"):
            identity_so_far(ignore, Path("/usr"))
    finally:
        os.setresuid(user, -1, -1)


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["verify", "--all"], ["extract", "x", "--to", "out"]])
def test_an_empty_mount_point_is_an_error_and_never_an_empty_archive(share: ShareAddress, command: list[str]) -> None:
    (share.root / IDENTITY_FILE).unlink()

    done = _run(share, *command, "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert "not mounted" in done.stderr


def test_the_root_can_be_given_by_option_and_by_its_older_name(share: ShareAddress, tmp_path: Path) -> None:
    make_bag(share, "20.500/a")

    by_option = _run(share, "list", "--json", "--root", str(share.root), LTS_ROOT_FOLDER=str(tmp_path))
    by_older_name = _run(share, "list", "--json", LTS_ROOT_FOLDER="", LTS_STORAGE_ROOT=str(share.root))

    assert _json(by_option) == _json(by_older_name)
    assert "older_setting_name" in by_older_name.stderr


def test_data_sets_are_listed_for_people_and_for_programs(share: ShareAddress) -> None:
    (totals,) = make_bag(share, "20.500/a")
    make_bag(share, "20.500/b", publish=False)

    people, programs = _run(share, "list"), _run(share, "list", "--json")

    assert (people.returncode, programs.returncode) == (0, 0)
    heading, first, second, summary = people.stdout.splitlines()
    assert heading.split() == ["state", "date", "files", "datablocks", "bytes", "pid"]
    assert first.split() == ["published", "2024-05-06", "3", "1", f"{totals.packed_size:,}", "20.500/a"]
    assert second.split()[0] == "unfinished"
    assert summary == "2 data sets: 1 published, 1 unfinished"
    document = _json(programs)
    assert document["complete"] is True
    assert document["share"] == str(share.identity)
    assert [(each["pid"], each["state"], each["size"]) for each in document["datasets"]] == [
        ("20.500/a", "published", totals.packed_size),
        ("20.500/b", "unfinished", totals.packed_size),
    ]


def test_a_list_that_lacks_something_is_an_error(share: ShareAddress) -> None:
    make_bag(share, "20.500/a")
    (share.root / DATASETS_FOLDER / "b\udcff").mkdir()

    done = _run(share, "list", "--json")

    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert {each["state"] for each in _json(done)["datasets"]} == {"published", "unreadable"}


def test_a_data_set_is_shown_with_its_files(share: ShareAddress) -> None:
    (totals,) = make_bag(share, "20.500/a", {**FILES, "odd\nname": b""})

    people, programs = _run(share, "show", "20.500/a", "--files"), _run(share, "show", "20.500/a", "--files", "--json")

    assert totals.sha256 in people.stdout
    assert people.stdout.splitlines()[-1].endswith(r"'odd\nname'")
    document = _json(programs)
    assert document["info"]["External-Identifier"] == "20.500/a"
    assert document["datablocks"][0]["sha256"] == totals.sha256
    assert [each["path"] for each in document["files"]] == [*FILES, "odd\nname"]
    assert {"size", "mtime", "mode", "sha256", "archive_id", "offset"} <= document["files"][0].keys()
    assert "files" not in _json(_run(share, "show", "20.500/a", "--json"))


def test_a_data_set_that_is_not_there_is_an_error(share: ShareAddress) -> None:
    for command in (["show", "x"], ["verify", "x"], ["extract", "x", "--to", str(share.root.parent / "out")]):
        done = _run(share, *command)
        assert done.returncode == 1
        assert "not on the share" in done.stdout + done.stderr


def test_good_bags_are_verified_with_exit_code_0_and_damage_with_3(share: ShareAddress) -> None:
    make_bag(share, "20.500/a")
    (totals,) = make_bag(share, "20.500/b")
    make_bag(share, "20.500/c", publish=False)

    good = _run(share, "verify", "--all", "--members", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert _json(good)["counts"] == {"good": 2, "unfinished": 1}

    tar = share.root / totals.archive_id
    tamper(tar, b"A", tar.read_bytes().index(b"alpha"))
    bad = _run(share, "verify", "--all", "--members", "--json")
    assert bad.returncode == 3
    assert [each["result"] for each in _json(bad)["datasets"]] == ["good", "damaged", "unfinished"]
    (member, whole) = _json(bad)["datasets"][1]["damages"]
    assert (member["kind"], member["member"], whole["member"]) == ("altered", "a.txt", None)

    people = _run(share, "verify", "20.500/b", "--members")
    assert people.returncode == 3
    assert "member 'a.txt' is altered" in people.stdout
    assert _run(share, "verify", "20.500/a").returncode == 0
    assert _run(share, "verify", "20.500/c").returncode == 1


@pytest.mark.parametrize("arguments", [["verify"], ["verify", "x", "--all"], ["extract", "x"], ["show"], ["weed"]])
def test_wrong_use_is_exit_code_2(share: ShareAddress, arguments: list[str]) -> None:
    assert _run(share, *arguments).returncode == 2


def test_files_are_extracted_and_what_could_not_be_is_said_with_exit_code_3(
    share: ShareAddress, tmp_path: Path
) -> None:
    make_bag(share, "20.500/a")
    out = tmp_path / "out"

    dry = _run(share, "extract", "20.500/a", "--to", str(out), "--files", "a.txt", "--dry-run", "--json")
    assert (dry.returncode, _json(dry)["files"], _json(dry)["dry_run"], out.exists()) == (0, 1, True, False)

    some = _run(share, "extract", "20.500/a", "--to", str(out), "--files", "a.txt", "--files", "*.bin", "--json")
    assert (some.returncode, some.stderr) == (0, "")
    assert (_json(some)["files"], _json(some)["failures"]) == (2, [])
    assert (out / "a.txt").read_bytes() == b"alpha"

    would = _run(share, "extract", "20.500/a", "--to", str(out), "--dry-run")
    assert would.returncode == 3
    assert "not extracted: a.txt: it exists already" in would.stdout
    assert f"would be extracted to {out}" in would.stdout
    assert not (out / "sub" / "empty").exists()

    rest = _run(share, "extract", "20.500/a", "--to", str(out))
    assert rest.returncode == 3
    assert "not extracted: a.txt: it exists already" in rest.stdout
    assert (out / "sub" / "empty").exists()

    assert _run(share, "extract", "20.500/a", "--to", str(out), "--overwrite").returncode == 0
    nothing = _run(share, "extract", "20.500/a", "--to", str(out), "--files", "other", "--json")
    assert (nothing.returncode, _json(nothing)["unmatched"]) == (3, ["other"])


def test_the_ledger_is_rebuilt(share: ShareAddress, ledger: Ledger, ledger_url: str) -> None:
    (totals,) = make_bag(share, "20.500/a")

    dry = _run(share, "rebuild-ledger", "--dry-run", LEDGER_URL=ledger_url)
    assert (dry.returncode, ledger.datasets()) == (0, [])
    assert dry.stdout.splitlines()[-1].startswith("dry run, nothing was changed; 1 adopted")

    done = _run(share, "rebuild-ledger", "--json", LEDGER_URL=ledger_url)
    assert done.returncode == 0
    assert _json(done)["counts"] == {"adopted": 1}
    (datablock,) = ledger.datablocks("20.500/a")
    assert (datablock.sha256, datablock.verified_at) == (totals.sha256, None)

    (share.root / bag_folder("20.500/a") / "bagit.txt").unlink()
    missing = _run(share, "rebuild-ledger", "--verify", "--json", LEDGER_URL=ledger_url)
    assert missing.returncode == 3
    assert _json(missing)["counts"] == {"not published": 1, "missing": 1}


def test_rebuilding_without_a_ledger_says_what_to_set(share: ShareAddress) -> None:
    done = _run(share, "rebuild-ledger")

    assert done.returncode == 1
    assert "LEDGER_URL" in done.stderr


@pytest.mark.parametrize("command", ["init", "list", "show", "verify", "extract", "rebuild-ledger", "forget-copy"])
def test_every_command_tells_its_exit_codes(share: ShareAddress, command: str) -> None:
    done = _run(share, command, "--help")

    assert done.returncode == 0
    assert "Exit codes: 0 good, 1 error, 2 wrong use" in done.stdout
