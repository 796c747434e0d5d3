"""Names from outside never lead outside, and two data sets never share a place."""

import posixpath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archiver.workflow.datablocks.index import DatablockTotals, totals_line
from archiver.workflow.errors import UnsafeNameError
from archiver.workflow.names import (
    MAX_NAME_BYTES,
    TAG_FOLDER,
    TEMPORARY_MARK,
    archive_id,
    bag_folder,
    check_archive_id,
    check_file_path,
    check_pid,
    datablock_name,
    dataset_prefix,
    file_path_of_key,
    parent_folders,
)
from support.strategies import file_paths, pids

ANY_TEXT = st.text(st.characters())
HOSTILE = st.text("a/.\0\ud800\\\n 1-~%2eE:", max_size=12)
INDEXES = st.integers(0, 999_999)


@pytest.mark.parametrize(
    "pid",
    ["20.500.11935/0b5c7d1e-8f5c-4f0e-9d52-3a2f8b1c9e77", "x", "x/1", "X.y_z~a:b@c+d=e(f)", "database/1", "a" * 216],
)
def test_pids_of_the_field_are_accepted(pid: str) -> None:
    assert check_pid(pid) == pid


@pytest.mark.parametrize(
    "pid",
    [
        "",
        "/",
        "/x",
        "x/",
        "x//y",
        ".",
        "..",
        "../x",
        "x/..",
        "x/../y",
        "x/.",
        ".x",
        "-x",
        "x\0",
        "x\n",
        "x y",
        "x%2F..",
        "x\\..",
        "\ud800",
        "größe",
        "data",
        "x/data",
        "x/Data/y",
        "x/datablocks",
        f"x/{TAG_FOLDER}",
        "raw_files",
        "x/raw_files/y",
        "x.tar",
        "x.TXT",
        "x/bagit.txt",
        f"x{TEMPORARY_MARK}1",
        "a" * 217,
        "a/" * 108 + "b",
    ],
)
def test_pids_that_could_lead_elsewhere_are_refused(pid: str) -> None:
    with pytest.raises(UnsafeNameError, match="cannot name a folder"):
        check_pid(pid)


@given(ANY_TEXT | HOSTILE | pids())
def test_no_accepted_pid_leaves_its_folder(pid: str) -> None:
    try:
        folder = bag_folder(pid)
    except UnsafeNameError:
        return
    assert folder == posixpath.normpath(folder)
    assert folder.startswith("openem-network/datasets/")
    assert folder.isascii()


@given(ANY_TEXT | HOSTILE | file_paths())
def test_no_accepted_path_leaves_its_folder(path: str) -> None:
    try:
        check_file_path(path)
    except UnsafeNameError:
        return
    assert posixpath.normpath(posixpath.join("/folder", path)) == "/folder/" + path
    assert "\0" not in path
    assert path.encode().decode() == path
    assert all(0 < len(segment.encode()) <= MAX_NAME_BYTES for segment in path.split("/"))


@given(file_paths())
def test_every_relative_path_is_accepted_as_it_is(path: str) -> None:
    assert check_file_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/..",
        "../a",
        "a/../../b",
        ".",
        "a/./b",
        "a//b",
        "a/",
        "a\0b",
        "\ud800",
        "a/\udfff",
        "x" * 256,
        "ü" * 128,
    ],
)
def test_paths_that_are_no_relative_paths_are_refused(path: str) -> None:
    with pytest.raises(UnsafeNameError, match="relative path"):
        check_file_path(path)


@given(pids(), file_paths())
def test_a_key_and_its_path_lead_to_each_other(pid: str, path: str) -> None:
    key = dataset_prefix(pid) + path
    assume(len(key.encode()) <= 1024)

    assert file_path_of_key(pid, key) == path


@given(pids(), ANY_TEXT | HOSTILE)
def test_a_key_outside_the_data_set_is_refused(pid: str, rest: str) -> None:
    prefix = dataset_prefix(pid)
    for key in (rest, prefix[:-1] + rest, prefix + "../" + rest, prefix + "/" + rest, "/" + prefix + "x"):
        inside = key.removeprefix(prefix)
        if inside != key and ".." not in inside and not inside.startswith("/") and "//" not in inside:
            continue
        with pytest.raises(UnsafeNameError):
            file_path_of_key(pid, key)


def test_a_key_longer_than_s3_allows_is_refused() -> None:
    prefix = dataset_prefix("x")
    path = "/".join(["s" * 200] * 5)[: 1024 - len(prefix)]

    assert file_path_of_key("x", prefix + path) == path
    with pytest.raises(UnsafeNameError, match="1024 bytes"):
        file_path_of_key("x", prefix + path + "s")


@given(pids(), pids())
def test_no_data_sets_keys_lie_in_anothers_prefix(one: str, other: str) -> None:
    assume(one != other)

    assert not dataset_prefix(one).startswith(dataset_prefix(other))


def test_a_prefix_does_not_take_in_a_longer_number() -> None:
    assert not dataset_prefix("x/12").startswith(dataset_prefix("x/1"))


@given(st.tuples(pids(), INDEXES), st.tuples(pids(), INDEXES))
def test_two_datablocks_never_share_an_archive_id(one: tuple[str, int], other: tuple[str, int]) -> None:
    assume(one != other)

    assert archive_id(*one) != archive_id(*other)


@given(pids(), pids())
def test_two_pids_never_share_a_bag(one: str, other: str) -> None:
    assume(one != other)

    assert bag_folder(one) != bag_folder(other)


def test_data_sets_whose_tars_have_one_name_keep_them_apart() -> None:
    assert datablock_name("a/b", 0) == datablock_name("a-b", 0)
    assert archive_id("a/b", 0) != archive_id("a-b", 0)


@given(pids(), INDEXES)
def test_an_archive_id_is_accepted_when_it_comes_back_from_the_catalogue(pid: str, index: int) -> None:
    assert check_archive_id(archive_id(pid, index)) == archive_id(pid, index)


def test_archive_ids_of_the_older_service_are_accepted() -> None:
    value = "openem-network/datasets/20.500.11935/0b5c/datablocks/20.500.11935-0b5c_0.tar.gz.tar"

    assert check_archive_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x.tar",
        "/openem-network/datasets/x/x.tar",
        "openem-network/datasets/../../etc/x.tar",
        "openem-network/datasets//x.tar",
        "openem-network/datasets-of-others/x.tar",
        "openem-network/datasets/x/bagit.txt",
        "openem-network/datasets/x\0.tar",
        "openem-network/datasets/\ud800.tar",
    ],
)
def test_archive_ids_that_name_no_tar_of_the_archive_are_refused(value: str) -> None:
    with pytest.raises(UnsafeNameError):
        check_archive_id(value)


def test_the_longest_pid_leaves_room_for_every_name_made_of_it() -> None:
    unfinished_index = f"{datablock_name('a' * 216, 999_999)}.jsonl{TEMPORARY_MARK}{'f' * 16}"

    assert len(unfinished_index) == MAX_NAME_BYTES
    assert len(archive_id("a" * 216, 999_999)) <= 1024
    assert totals_line(DatablockTotals(archive_id("a" * 216, 0), 0, 0, 0, 0, 0, "", "", 0))


@given(file_paths())
def test_parents_lead_down_to_the_path(path: str) -> None:
    parents = parent_folders(path)

    assert [posixpath.dirname(each) for each in [*parents, path]] == ["", *parents]


def test_the_parents_of_what_is_no_relative_path_end_too() -> None:
    assert parent_folders("/a") == [""]
    assert parent_folders("") == []
