"""The data sets on a share are found by its folders alone."""

from pathlib import Path

import pytest

from archiver.workflow.errors import DamagedError, WrongShareError
from archiver.workflow.holdings.description import NotOnShareError, describe, members_of
from archiver.workflow.holdings.listing import Holding, Holdings, HoldingState
from archiver.workflow.holdings.reading import connect, initialise
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.names import DATASETS_FOLDER, bag_folder
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from support.bags import FILES, MTIME, ignore, make_bag, replace_text


def _older(share: ShareAddress, pid: str, *tars: bytes) -> Path:
    folder = share.root / DATASETS_FOLDER / pid / "datablocks"
    folder.mkdir(parents=True)
    for number, content in enumerate(tars):
        (folder / f"{number}.tar").write_bytes(content)
    return folder


def _walked(child: ChildProcess, share: ShareAddress) -> list[Holding]:
    return list(Holdings(child, share).walk())


def test_published_unfinished_and_older_data_sets_are_told_apart(child: ChildProcess, share: ShareAddress) -> None:
    (totals,) = make_bag(share, "20.500/a")
    make_bag(share, "20.500/b", publish=False)
    _older(share, "20.500/old/one", b"12345", b"678")

    assert _walked(child, share) == [
        Holding("20.500/a", HoldingState.PUBLISHED, 3, totals.packed_size, 1, "2024-05-06"),
        Holding("20.500/b", HoldingState.UNFINISHED, None, totals.packed_size, 1),
        Holding("20.500/old/one", HoldingState.OLDER, None, 8, 2),
    ]


def test_an_empty_share_holds_nothing(child: ChildProcess, share: ShareAddress) -> None:
    assert _walked(child, share) == []


def test_more_data_sets_than_fit_a_batch_come_once_each_and_sorted(child: ChildProcess, share: ShareAddress) -> None:
    pids = sorted(f"20.500/{number}" for number in range(450))
    for pid in pids:
        _older(share, pid)

    assert [holding.pid for holding in _walked(child, share)] == pids


def test_data_sets_inside_the_folder_of_another_are_found_too(child: ChildProcess, share: ShareAddress) -> None:
    make_bag(share, "x/1")
    _older(share, "x/1/2", b"1")

    assert [(holding.pid, holding.state) for holding in _walked(child, share)] == [
        ("x/1", HoldingState.PUBLISHED),
        ("x/1/2", HoldingState.OLDER),
    ]


def test_links_and_unfinished_files_are_not_followed_or_counted(child: ChildProcess, share: ShareAddress) -> None:
    folder = _older(share, "x/1", b"1")
    (folder / "2.tar.part-0123").write_bytes(b"unfinished")
    (share.root / DATASETS_FOLDER / "link").symlink_to(share.root / DATASETS_FOLDER / "x")

    assert _walked(child, share) == [Holding("x/1", HoldingState.OLDER, None, 1, 1)]


def test_a_name_that_is_no_unicode_does_not_hide_the_others(child: ChildProcess, share: ShareAddress) -> None:
    make_bag(share, "20.500/a")
    (share.root / DATASETS_FOLDER / "20.500" / "b\udcff").mkdir()

    first, second = _walked(child, share)

    assert first.state is HoldingState.PUBLISHED
    assert (second.pid, second.state) == (r"20.500/b\udcff", HoldingState.UNREADABLE)
    assert "valid Unicode" in second.note or "relative path" in second.note


def test_a_bag_without_its_description_is_listed_with_a_note(child: ChildProcess, share: ShareAddress) -> None:
    make_bag(share, "x")
    (share.root / bag_folder("x") / "bag-info.txt").unlink()

    (found,) = _walked(child, share)

    assert found.state is HoldingState.PUBLISHED
    assert "bag-info.txt is missing" in found.note


def test_a_folder_that_is_no_share_is_refused(child: ChildProcess, share: ShareAddress, tmp_path: Path) -> None:
    (share.root / IDENTITY_FILE).unlink()

    with pytest.raises(WrongShareError, match="lts init"):
        _walked(child, share)
    with pytest.raises(WrongShareError, match="not mounted"):
        connect(ignore, tmp_path)


def test_a_share_keeps_the_identity_it_was_given(tmp_path: Path) -> None:
    first, was_new = initialise(ignore, tmp_path)
    again, was_new_again = initialise(ignore, tmp_path)

    assert (first.identity, was_new, was_new_again) == (again.identity, True, False)
    assert connect(ignore, tmp_path) == first


def test_a_bag_is_described_with_its_datablocks_and_their_files(share: ShareAddress) -> None:
    first, second = make_bag(share, "20.500/a", FILES, {"z": b"last"})

    found = describe(ignore, share, "20.500/a")

    assert found.info["External-Identifier"] == "20.500/a"
    assert [(each.archive_id, each.packed_size, each.sha256, each.note) for each in found.datablocks] == [
        (first.archive_id, first.packed_size, first.sha256, ""),
        (second.archive_id, second.packed_size, second.sha256, ""),
    ]
    assert found.datablocks[0].index is not None
    members = members_of(ignore, share, found.datablocks[0].index)
    assert [(member.path, member.size, member.mtime, member.mode) for member in members] == [
        (path, len(content or b""), MTIME, 0o750 if content is None else 0o640) for path, content in FILES.items()
    ]
    tar = (share.root / first.archive_id).read_bytes()
    for member in members:
        assert tar[member.offset : member.offset + member.size] == (FILES[member.path] or b"")


def test_a_tar_that_is_missing_or_cut_off_is_noted(share: ShareAddress) -> None:
    first, second = make_bag(share, "x", FILES, {"z": b"last"})
    (share.root / first.archive_id).unlink()
    (share.root / second.archive_id).chmod(0o644)
    (share.root / second.archive_id).write_bytes(b"short")

    missing, cut = describe(ignore, share, "x").datablocks

    assert (missing.packed_size, missing.note) == (None, "missing")
    assert (cut.packed_size, cut.note) == (5, f"{second.packed_size} bytes were written")


def test_an_older_data_set_is_described_by_its_tars(share: ShareAddress) -> None:
    _older(share, "x/1", b"123")

    (tar,) = describe(ignore, share, "x/1").datablocks

    assert (tar.archive_id, tar.packed_size, tar.sha256) == (f"{DATASETS_FOLDER}/x/1/datablocks/0.tar", 3, None)


def test_a_data_set_that_is_not_there_is_said_to_be_so(share: ShareAddress) -> None:
    with pytest.raises(NotOnShareError, match=r"x/2 is not on the share"):
        describe(ignore, share, "x/2")


@pytest.mark.parametrize("pid", ["../../..", "/etc", "a/../b"])
def test_a_pid_that_leads_elsewhere_is_not_followed(share: ShareAddress, pid: str) -> None:
    with pytest.raises(Exception, match="relative path"):
        describe(ignore, share, pid)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"size": 5', '"size": -5'),
        ('"kind": "file"', '"kind": ["file"]'),
        (f'"mtime": {MTIME}', '"mtime": 17e300'),
        (f'"mtime": {MTIME}', '"mtime": 253402300800'),
        ('"offset": 512', '"offset": "512"'),
        ('"path": "a.txt"', '"path": 3'),
        ('"index": 0', '"index": null'),
    ],
)
def test_an_index_with_values_that_cannot_be_is_refused(share: ShareAddress, old: str, new: str) -> None:
    (totals,) = make_bag(share, "x")
    index = f"{bag_folder('x')}/archiver/{Path(totals.archive_id).name}.jsonl"
    replace_text(share.root / index, old, new)

    with pytest.raises(DamagedError, match="cannot be read"):
        members_of(ignore, share, index)
