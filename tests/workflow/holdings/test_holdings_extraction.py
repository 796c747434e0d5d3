"""Files come out of a bag as they went in, or not at all, and nowhere else than they should."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from archiver.workflow.holdings.description import NotOnShareError
from archiver.workflow.holdings.extraction import Extraction, ExtractOrder, extract
from archiver.workflow.holdings.target_folder import CannotExtractError, TargetFolder, TargetUnusableError
from archiver.workflow.names import DATASETS_FOLDER, bag_folder
from archiver.workflow.storage.lts import ShareAddress
from support.bags import FILES, MTIME, ignore, make_bag, replace_text, tamper
from support.strategies import ODD_PATHS

TAR = "data/datablocks/x_0.tar"
INDEX = "archiver/x_0.tar.jsonl"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "files"


@pytest.fixture
def extract_x(share: ShareAddress, target: Path) -> Callable[..., Extraction]:
    """Extracts from the bag `x`: patterns, and whether to overwrite."""

    def run(*patterns: str, overwrite: bool = False) -> Extraction:
        return extract(ignore, ExtractOrder(share, "x", target, patterns, overwrite))

    return run


def _contents(folder: Path) -> Mapping[str, bytes | None]:
    return {
        str(each.relative_to(folder)): each.read_bytes() if each.is_file() else None
        for each in sorted(folder.rglob("*"))
    }


def _reasons(done: Extraction) -> dict[str, str]:
    return {failure.path: failure.reason for failure in done.failures}


def test_all_files_come_out_with_times_and_modes(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x", FILES, {"z": b"last"})

    done = extract_x()

    assert done == Extraction(files=4, folders=1, size=10009)
    assert _contents(target) == {**FILES, "z": b"last"}
    for each in target.rglob("*"):
        assert int(each.stat().st_mtime) == MTIME
        assert each.stat().st_mode & 0o7777 == (0o640 if each.is_file() else 0o750)


def test_names_of_all_kinds_come_out_as_tar_has_them(
    share: ShareAddress, target: Path, tmp_path: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x", {path: path.encode() for path in ODD_PATHS})

    assert extract_x().failures == []

    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", share.root / bag_folder("x") / TAR, "-C", unpacked], check=True)
    assert _contents(target) == _contents(unpacked)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a.txt"], {"a.txt"}),
        (["sub"], {"sub", "sub/b.bin", "sub/empty"}),
        (["sub/"], {"sub", "sub/b.bin", "sub/empty"}),
        (["*.bin", "a*"], {"a.txt", "sub", "sub/b.bin"}),
        (["[z]"], {"z"}),
        (["*/empt?"], {"sub", "sub/empty"}),
    ],
)
def test_patterns_choose_files(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction], patterns: list[str], expected: set[str]
) -> None:
    make_bag(share, "x", FILES, {"z": b"last"})

    done = extract_x(*patterns)

    assert _contents(target).keys() == expected
    assert (done.failures, done.unmatched) == ([], [])


def test_a_name_that_looks_like_a_pattern_is_found_as_it_is(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x", {"run[1].txt": b"1", "run1.txt": b"2"})

    extract_x("run[1].txt")

    assert _contents(target) == {"run1.txt": b"2", "run[1].txt": b"1"}


def test_a_pattern_that_nothing_matches_is_named(share: ShareAddress, extract_x: Callable[..., Extraction]) -> None:
    make_bag(share, "x")

    assert extract_x("a.txt", "b.txt").unmatched == ["b.txt"]


def test_one_file_out_of_a_large_tar_reads_only_its_bytes(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    large = os.urandom(40 * 1024 * 1024)
    make_bag(share, "x", {"a": large, "b": b"wanted", "c": large})

    def read_so_far() -> int:
        """Bytes this process has read, by the kernel's count."""
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read_so_far()
    done = extract_x("b")

    assert read_so_far() - before < 256 * 1024
    assert (done.files, _contents(target)) == (1, {"b": b"wanted"})


def test_a_file_larger_than_any_buffer_comes_out_whole(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    large = os.urandom(20 * 1024 * 1024 + 7)
    make_bag(share, "x", {"a": b"small", "b": large, "c": b"end"})

    extract_x()

    assert _contents(target) == {"a": b"small", "b": large, "c": b"end"}


# ---------------------------------------------------------------------------------------------- damage


def test_a_damaged_file_is_left_out_and_the_others_come(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    tar = share.root / bag_folder("x") / TAR
    tamper(tar, b"A", tar.read_bytes().index(b"alpha"))

    done = extract_x()

    assert "its SHA-256 is" in _reasons(done)["a.txt"]
    assert _contents(target).keys() == {"sub", "sub/b.bin", "sub/empty"}


def test_files_beyond_the_end_of_a_cut_tar_are_named(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    tar = share.root / bag_folder("x") / TAR
    tar.chmod(0o644)
    os.truncate(tar, tar.read_bytes().index(FILES["sub/b.bin"] or b"") + 10)

    assert _reasons(extract_x()) == {"sub/b.bin": "the tar ends before it does"}
    assert _contents(target).keys() == {"a.txt", "sub", "sub/empty"}


def test_a_missing_tar_costs_only_its_own_files(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x", FILES, {"z": b"last"})
    (share.root / bag_folder("x") / TAR).unlink()

    done = extract_x()

    assert _reasons(done).keys() == {"a.txt", "sub/b.bin", "sub/empty"}
    assert all("x_0.tar is missing" in reason for reason in _reasons(done).values())
    assert _contents(target) == {"sub": None, "z": b"last"}


def test_a_missing_or_broken_index_is_named_and_the_other_datablocks_come(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x", FILES, {"y": b"second"}, {"z": b"last"})
    bag = share.root / bag_folder("x")
    (bag / INDEX).unlink()
    replace_text(bag / "archiver/x_1.tar.jsonl", '"path"', '"path')

    done = extract_x()

    assert _reasons(done).keys() == {INDEX, "archiver/x_1.tar.jsonl"}
    assert all("tar -xf" in reason for reason in _reasons(done).values())
    assert _contents(target) == {"z": b"last"}


def test_an_index_that_is_not_the_recorded_one_is_reported(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    replace_text(share.root / bag_folder("x") / INDEX, '"mode": 416', '"mode": 420')

    done = extract_x("a.txt")

    assert "not what tagmanifest-sha256.txt records" in _reasons(done)[INDEX]
    assert _contents(target) == {"a.txt": b"alpha"}


# ---------------------------------------------------------------------------------------------- hostile names


@pytest.mark.parametrize("path", ["../outside", "/tmp/outside", "sub/../../outside", "..", ".", "sub/..", "", "a\0b"])
def test_a_hostile_path_in_the_index_leads_nowhere(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction], path: str
) -> None:
    make_bag(share, "x")
    escaped = path.replace("\0", "\\u0000")
    replace_text(share.root / bag_folder("x") / INDEX, '"path": "a.txt"', f'"path": "{escaped}"')
    before = _contents(target.parent.parent)

    done = extract_x()

    assert "relative path" in _reasons(done)[path]
    assert _contents(target).keys() == {"sub", "sub/b.bin", "sub/empty"}
    after = _contents(target.parent.parent)
    assert {name for name in after.keys() - before.keys() if not name.startswith("out")} == set()


def test_a_link_that_lies_in_the_folder_is_not_followed(
    share: ShareAddress, target: Path, tmp_path: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x", {"a.txt": b"alpha", "out/b": b"beta"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target.mkdir(parents=True)
    (target / "out").symlink_to(elsewhere)
    (target / "a.txt").symlink_to(elsewhere / "a.txt")

    assert _reasons(extract_x()).keys() == {"a.txt", "out/b"}
    assert _reasons(extract_x(overwrite=True)).keys() == {"out/b"}

    assert _contents(elsewhere) == {}
    assert (target / "a.txt").read_bytes() == b"alpha"
    assert not (target / "a.txt").is_symlink()


def test_a_file_never_becomes_set_id_by_being_extracted(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    replace_text(share.root / bag_folder("x") / INDEX, f'"mode": {0o640}', f'"mode": {0o6755}')

    extract_x("a.txt")

    assert (target / "a.txt").stat().st_mode & 0o7777 == 0o755


# ---------------------------------------------------------------------------------------------- what is there


def test_what_exists_is_not_overwritten(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    (target / "sub").mkdir(parents=True, mode=0o700)
    (target / "a.txt").write_bytes(b"mine")

    done = extract_x("a.txt", "sub/empty", "sub")

    assert _reasons(done) == {"a.txt": "it exists already, and was not overwritten"}
    assert (target / "a.txt").read_bytes() == b"mine"
    assert (target / "sub").stat().st_mode & 0o777 == 0o700


def test_what_exists_is_replaced_where_that_is_asked_for(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    (target / "sub").mkdir(parents=True, mode=0o700)
    (target / "a.txt").write_bytes(b"mine")

    assert extract_x(overwrite=True).failures == []

    assert _contents(target) == FILES
    assert (target / "sub").stat().st_mode & 0o777 == 0o750
    assert int((target / "sub").stat().st_mtime) == MTIME


def test_a_damaged_file_does_not_replace_a_good_one(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    tar = share.root / bag_folder("x") / TAR
    extract_x()
    tamper(tar, b"A", tar.read_bytes().index(b"alpha"))

    assert _reasons(extract_x(overwrite=True)).keys() == {"a.txt"}
    assert _contents(target) == FILES


def test_a_file_where_a_folder_must_be_is_kept(
    share: ShareAddress, target: Path, extract_x: Callable[..., Extraction]
) -> None:
    make_bag(share, "x")
    target.mkdir(parents=True)
    (target / "sub").write_bytes(b"mine")

    done = extract_x()

    assert _reasons(done).keys() == {"sub", "sub/b.bin", "sub/empty"}
    assert _contents(target) == {"a.txt": b"alpha", "sub": b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", ["", "a.txt", "sub", "a.txt/inner"])
def test_a_dry_run_writes_nothing_and_foresees_what_is_extracted(
    share: ShareAddress, target: Path, there: str, overwrite: bool
) -> None:
    make_bag(share, "x", FILES, {"../out": b"unsafe"})
    if there:
        (target / there).parent.mkdir(parents=True)
        (target / there).write_bytes(b"mine")
    before = _contents(target.parent.parent)

    dry = extract(ignore, ExtractOrder(share, "x", target, (), overwrite, dry_run=True))

    assert _contents(target.parent.parent) == before
    done = extract(ignore, ExtractOrder(share, "x", target, (), overwrite))
    assert (dry.files, dry.size, dry.folders) == (done.files, done.size, done.folders)
    assert _reasons(dry).keys() == _reasons(done).keys()


def test_a_dry_run_says_where_it_could_not_write(share: ShareAddress, tmp_path: Path) -> None:
    make_bag(share, "x")
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(TargetUnusableError, match="cannot be used as a folder"):
        extract(ignore, ExtractOrder(share, "x", tmp_path / "file" / "inner", dry_run=True))


def test_nothing_is_extracted_into_the_share(share: ShareAddress) -> None:
    make_bag(share, "x")

    with pytest.raises(TargetUnusableError, match="lies on the share"):
        extract(ignore, ExtractOrder(share, "x", share.root / "openem-network" / ".." / "out"))

    assert not (share.root / "out").exists()


def test_a_file_of_the_folders_name_is_not_used(share: ShareAddress, tmp_path: Path) -> None:
    make_bag(share, "x")
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(TargetUnusableError, match="cannot be used as a folder"):
        extract(ignore, ExtractOrder(share, "x", tmp_path / "file"))


def test_only_published_bags_are_extracted_from(share: ShareAddress, extract_x: Callable[..., Extraction]) -> None:
    with pytest.raises(NotOnShareError, match="not on the share"):
        extract_x()
    make_bag(share, "x", publish=False)
    with pytest.raises(NotOnShareError, match="as unfinished only"):
        extract_x()


def test_a_data_set_of_the_older_service_is_left_to_tar(
    share: ShareAddress, extract_x: Callable[..., Extraction]
) -> None:
    (share.root / DATASETS_FOLDER / "x" / "datablocks").mkdir(parents=True)

    with pytest.raises(NotOnShareError, match="tar -xf"):
        extract_x()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    def extract_while_another_does() -> None:
        with TargetFolder(tmp_path / "to", overwrite=False) as folder, folder.new_file("a", 0o644, 0):
            (tmp_path / "to" / "a").write_bytes(b"theirs")

    with pytest.raises(CannotExtractError, match="exists"):
        extract_while_another_does()

    assert _contents(tmp_path / "to") == {"a": b"theirs"}
