"""The catalogue's list against the landing zone, compared with the plainest comparison one could write."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from archiver.workflow.catalogue.models import OrigFile
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.errors import (
    ArchiverError,
    EmptyDatasetError,
    MissingFilesError,
    UnsafeNameError,
    WrongSizeError,
)
from archiver.workflow.inventory import Comparison, Inventory
from archiver.workflow.names import dataset_prefix
from archiver.workflow.storage.s3_records import StoredObject
from support.strategies import ODD_PATHS

PID = "20.500.11935/x"
TIME, SECONDS = "2024-05-06T07:08:09.000Z", 1714979289
NOW = 1_800_000_000
PERMS = {EntryKind.FILE: "-rw-r-----", EntryKind.FOLDER: "drwxr-x---", EntryKind.LINK: "Lrwxrwxrwx"}

# Few names, so that they meet; with characters that sort on both sides of the slash.
PATHS = st.lists(st.sampled_from(["a", "b", "a0", "a-"]), min_size=1, max_size=3).map("/".join)
LISTED = st.lists(
    st.tuples(PATHS, st.sampled_from([EntryKind.FILE] * 3 + [EntryKind.FOLDER, EntryKind.LINK]), st.integers(0, 2)),
    max_size=6,
)
LANDED = st.dictionaries(PATHS, st.integers(0, 2), max_size=6)
Listed = Sequence[tuple[str, EntryKind, int]]


def _listed(path: str, kind: EntryKind = EntryKind.FILE, size: int = 1) -> OrigFile:
    return OrigFile(path, size, TIME, PERMS[kind], None, None, "ada", "users", "")


def _landed(path: str, size: int = 1, etag: str = "e") -> StoredObject:
    return StoredObject(dataset_prefix(PID) + path, size, etag)


def _fill(inventory: Inventory, listed: Listed, landed: Mapping[str, int]) -> None:
    inventory.add_listed(_listed(*each) for each in listed)
    inventory.add_landed(PID, [_landed(path, size) for path, size in landed.items()])


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    with Inventory(tmp_path / "inventory.sqlite") as opened:
        yield opened


def _lies_below(path: str, others: Sequence[str]) -> bool:
    return any(other.startswith(path + "/") for other in others)


def _plainly(listed: Listed, landed: Mapping[str, int]) -> Comparison | tuple[type[ArchiverError], list[str]]:
    """What `compare` must come to: an error and the files it names, or the comparison."""
    kinds: dict[str, EntryKind] = {}
    sizes: dict[str, int] = {}
    twice = set()
    for path, kind, listed_size in listed:
        size = 0 if kind is EntryKind.FOLDER else listed_size
        if path in kinds and (kinds[path], sizes[path]) != (kind, size):
            twice.add(path)
        kinds.setdefault(path, kind)
        sizes.setdefault(path, size)
    files = sorted(path for path, kind in kinds.items() if kind is not EntryKind.FOLDER)
    if not files:
        return EmptyDatasetError, []
    missing = [path for path in files if path not in landed]
    wrong = [path for path in files if kinds[path] is EntryKind.FILE and landed.get(path) != sizes[path]]
    everything = [*kinds, *landed]
    clashing = sorted(path for path in landed if kinds.get(path) is EntryKind.FOLDER or _lies_below(path, everything))
    for error, names in (
        (MissingFilesError, missing),
        (WrongSizeError, sorted(twice)),
        (WrongSizeError, wrong),
        (UnsafeNameError, clashing),
    ):
        if names:
            return error, names
    return Comparison(len(landed), sum(landed.values()), tuple(sorted(landed.keys() - kinds.keys())))


@st.composite
def both_lists(draw: st.DrawFn) -> tuple[Listed, Mapping[str, int]]:
    """Lists that have little to do with one another, or nearly agree."""
    listed, landed = draw(LISTED), draw(LANDED)
    if draw(st.booleans()):
        landed |= {path: size for path, kind, size in listed if kind is not EntryKind.FOLDER}
    return listed, landed


@given(both_lists())
@settings(max_examples=400)
def test_the_comparison_is_the_plain_one(lists: tuple[Listed, Mapping[str, int]]) -> None:
    expected = _plainly(*lists)
    with tempfile.TemporaryDirectory() as folder, Inventory(Path(folder) / "inventory") as inventory:
        _fill(inventory, *lists)
        if isinstance(expected, Comparison):
            event("agree")
            assert inventory.compare() == expected
        else:
            event(expected[0].__name__)
            with pytest.raises(expected[0]) as caught:
                inventory.compare()
            assert caught.value.names == tuple(expected[1])


@given(both_lists())
def test_everything_that_landed_and_every_folder_is_an_entry_once(lists: tuple[Listed, Mapping[str, int]]) -> None:
    listed, landed = lists
    if not isinstance(_plainly(listed, landed), Comparison):
        return
    with tempfile.TemporaryDirectory() as folder, Inventory(Path(folder) / "inventory") as inventory:
        _fill(inventory, listed, landed)
        found = list(inventory.entries(NOW))

    kinds = {path: kind for path, kind, _ in reversed(listed)}
    expected = [
        (path, kinds.get(path, EntryKind.FILE), landed.get(path, 0), SECONDS if path in kinds else NOW)
        for path in sorted(
            {*landed, *(path for path, kind in kinds.items() if kind is EntryKind.FOLDER)}, key=str.encode
        )
    ]
    assert [(entry.path, entry.kind, entry.size, entry.mtime) for entry in found] == expected


def test_missing_files_are_named(inventory: Inventory) -> None:
    _fill(inventory, [(f"f{number:02}", EntryKind.FILE, 1) for number in range(25)], {"f00": 1})

    with pytest.raises(MissingFilesError, match=r"upload them, then archive again\. Missing: 'f01', .* and 4 more"):
        inventory.compare()


def test_files_of_another_size_are_named(inventory: Inventory) -> None:
    _fill(inventory, [("a", EntryKind.FILE, 1), ("b", EntryKind.FILE, 2)], {"a": 1, "b": 3})

    with pytest.raises(WrongSizeError, match=r"another size than the catalogue lists.*Files: 'b'$"):
        inventory.compare()


def test_files_listed_twice_differently_are_named(inventory: Inventory) -> None:
    _fill(inventory, [("a", EntryKind.FILE, 1), ("a", EntryKind.FILE, 2)], {"a": 1})

    with pytest.raises(WrongSizeError, match=r"lists these files twice.*Files: 'a'$"):
        inventory.compare()


def test_files_listed_twice_alike_are_one_file(inventory: Inventory) -> None:
    _fill(inventory, [("a", EntryKind.FILE, 1), ("a", EntryKind.FILE, 1)], {"a": 1})

    assert inventory.compare() == Comparison(1, 1, ())


def test_a_link_is_compared_by_existence_and_archived_with_its_targets_size(inventory: Inventory) -> None:
    _fill(inventory, [("link", EntryKind.LINK, 11)], {"link": 5000})

    assert inventory.compare() == Comparison(1, 5000, ())
    assert list(inventory.entries(NOW)) == [Entry("link", EntryKind.LINK, 5000, SECONDS, 0o644, "e", "")]


def test_a_missing_link_is_missing(inventory: Inventory) -> None:
    _fill(inventory, [("link", EntryKind.LINK, 11)], {})

    with pytest.raises(MissingFilesError, match="'link'"):
        inventory.compare()


def test_folders_are_not_looked_for_and_become_entries_with_their_modes(inventory: Inventory) -> None:
    _fill(inventory, [("a", EntryKind.FOLDER, 4096), ("a/f", EntryKind.FILE, 1)], {"a/f": 1})

    assert inventory.compare() == Comparison(1, 1, ())
    assert list(inventory.entries(NOW)) == [
        Entry("a", EntryKind.FOLDER, 0, SECONDS, 0o750, "", ""),
        Entry("a/f", EntryKind.FILE, 1, SECONDS, 0o640, "e", ""),
    ]


def test_extra_files_are_archived_and_reported(inventory: Inventory) -> None:
    _fill(inventory, [("a", EntryKind.FILE, 1)], {"a": 1, "extra": 7})

    assert inventory.compare() == Comparison(2, 8, ("extra",))
    assert list(inventory.entries(NOW))[1] == Entry("extra", EntryKind.FILE, 7, NOW, 0o644, "e", "")


@pytest.mark.parametrize(
    ("listed", "landed"),
    [
        ([("a", EntryKind.FILE, 1)], {"a": 1, "a/b": 1}),
        ([("a", EntryKind.FOLDER, 1), ("f", EntryKind.FILE, 1)], {"a": 1, "f": 1}),
        ([("a", EntryKind.FILE, 1), ("a/b", EntryKind.FOLDER, 1)], {"a": 1}),
        (
            [("a", EntryKind.FILE, 1), ("a-", EntryKind.FILE, 1), ("a/b/c", EntryKind.FILE, 1)],
            {"a": 1, "a-": 1, "a/b/c": 1},
        ),
    ],
)
def test_a_file_that_is_a_folder_at_once_is_named(
    inventory: Inventory, listed: Listed, landed: Mapping[str, int]
) -> None:
    _fill(inventory, listed, landed)

    with pytest.raises(UnsafeNameError, match=r"a file and a folder at once.*Names: 'a'$"):
        inventory.compare()


def test_a_data_set_without_listed_files_is_refused(inventory: Inventory) -> None:
    _fill(inventory, [("a", EntryKind.FOLDER, 1)], {"f": 1})

    with pytest.raises(EmptyDatasetError, match="Register its files"):
        inventory.compare()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a\0b", "\ud800", "x" * 300])
def test_a_listed_name_that_must_not_become_a_path_is_refused(inventory: Inventory, path: str) -> None:
    with pytest.raises(UnsafeNameError, match="relative path"):
        inventory.add_listed([_listed("good"), _listed(path)])


def test_a_landed_key_outside_the_data_set_is_refused(inventory: Inventory) -> None:
    with pytest.raises(UnsafeNameError, match="must begin with"):
        inventory.add_landed(PID, [StoredObject("openem-network/datasets/20.500.11935/xy/raw_files/a", 1, "e")])


@pytest.mark.parametrize(
    ("path", "kind", "kept"),
    [
        ("./a", EntryKind.FILE, ["a"]),
        ("./a/", EntryKind.FOLDER, ["a"]),
        ("a/b/", EntryKind.FOLDER, ["a/b"]),
        (".", EntryKind.FOLDER, []),
        ("./", EntryKind.FOLDER, []),
        ("", EntryKind.FOLDER, []),
    ],
)
def test_paths_are_kept_without_what_says_nothing(
    inventory: Inventory, path: str, kind: EntryKind, kept: list[str]
) -> None:
    inventory.add_listed([_listed(path, kind)])
    inventory.add_landed(PID, [_landed("a")] if kind is EntryKind.FILE else [])

    assert [entry.path for entry in inventory.entries(NOW)] == kept


@pytest.mark.parametrize("type_", ["directory", "Folder", "dir"])
def test_a_folder_may_be_told_by_its_type(inventory: Inventory, type_: str) -> None:
    inventory.add_listed([_listed("a")._replace(perm="", type=type_)])

    assert list(inventory.entries(NOW)) == [Entry("a", EntryKind.FOLDER, 0, SECONDS, 0o755, "", "")]


@pytest.mark.parametrize(
    ("chk", "chk_alg", "checksum"),
    [
        ("AB12", "md5", "md5:ab12"),
        (" ab12\n", "SHA-256", "sha256:ab12"),
        ("ab12", "sha_256", "sha256:ab12"),
        ("ab12", "SHA3-256", "sha3_256:ab12"),
        ("ab12", "blake2b", "blake2b:ab12"),
        ("ab12", "shake_128", ""),
        ("ab12", "crc32", ""),
        ("ab12", None, ""),
        ("ab12", "", ""),
        ("", "md5", ""),
        (None, "md5", ""),
    ],
)
def test_the_catalogues_checksum_is_kept_where_it_can_be_checked(
    inventory: Inventory, chk: str | None, chk_alg: str | None, checksum: str
) -> None:
    inventory.add_listed([_listed("a")._replace(chk=chk, chk_alg=chk_alg)])
    inventory.add_landed(PID, [_landed("a")])

    assert [entry.checksum for entry in inventory.entries(NOW)] == [checksum]


def test_a_checksum_is_not_lost_when_the_file_was_listed_without_it_before(inventory: Inventory) -> None:
    inventory.add_listed([_listed("a"), _listed("a")._replace(chk="ab12", chk_alg="md5")])
    inventory.add_landed(PID, [_landed("a")])

    assert [entry.checksum for entry in inventory.entries(NOW)] == ["md5:ab12"]


def test_times_and_modes_that_say_nothing_get_defaults(inventory: Inventory) -> None:
    inventory.add_listed(
        [
            _listed("a")._replace(time="?", perm="?"),
            _listed("d", EntryKind.FOLDER)._replace(time="0001-01-01T00:00:00Z"),
        ]
    )
    inventory.add_landed(PID, [_landed("a")])

    assert [(entry.path, entry.mtime, entry.mode) for entry in inventory.entries(NOW)] == [
        ("a", NOW, 0o644),
        ("d", NOW, 0o750),
    ]


def test_odd_names_come_back_as_they_were_sorted_by_their_bytes(inventory: Inventory) -> None:
    paths = [*ODD_PATHS, "\uffff", "\U0001f600"]  # these two sort otherwise in UTF-16
    inventory.add_listed(_listed(path) for path in paths)
    inventory.add_landed(PID, [_landed(path) for path in reversed(paths)])

    assert inventory.compare().files == len(paths)
    assert [entry.path for entry in inventory.entries(NOW)] == sorted(paths, key=str.encode)


PLANNED = [
    Entry("a", EntryKind.FILE, 1, SECONDS, 0o640, "e1", "md5:00"),
    Entry("d", EntryKind.FOLDER, 0, SECONDS, 0o750, "", ""),
    Entry("d/b", EntryKind.LINK, 2, SECONDS, 0o644, "e2", ""),
]


def _listed_as_planned(**changes: object) -> list[OrigFile]:
    """What the catalogue lists where `PLANNED` is true, with other words on the file `a`."""
    file = _listed("a")._replace(**{"chk": "00", "chk_alg": "md5"} | changes)  # type: ignore[arg-type]
    return [file, _listed("d", EntryKind.FOLDER), _listed("d/b", EntryKind.LINK, 2)]


@pytest.mark.parametrize(
    ("landed", "matches"),
    [
        ([("a", 1, "e1"), ("d/b", 2, "e2")], True),
        ([("a", 1, "e1"), ("d/b", 2, "other")], False),
        ([("a", 1, "e1"), ("d/b", 3, "e2")], False),
        ([("a", 1, "e1")], False),
        ([("a", 1, "e1"), ("d/b", 2, "e2"), ("more", 1, "e3")], False),
        ([], False),
    ],
)
def test_a_stored_plan_matches_only_the_very_same_objects(
    inventory: Inventory, landed: list[tuple[str, int, str]], matches: bool
) -> None:
    inventory.add_listed(_listed_as_planned())
    inventory.add_landed(PID, [_landed(*each) for each in landed])

    assert inventory.matches(iter(PLANNED)) is matches


@pytest.mark.parametrize(
    ("changes", "matches"),
    [
        ({"chk": "01"}, False),
        ({"chk_alg": "sha1"}, False),
        ({"perm": "-rw-------"}, False),
        ({"time": "2024-05-06T07:08:10.000Z"}, False),
        ({"time": ""}, True),  # planned with the time of the plan's making, which is as good as any other
        ({"uid": "eve"}, True),
    ],
)
def test_a_stored_plan_matches_only_what_the_catalogue_lists_now(
    inventory: Inventory, changes: dict[str, object], matches: bool
) -> None:
    inventory.add_listed(_listed_as_planned(**changes))
    inventory.add_landed(PID, [_landed("a", 1, "e1"), _landed("d/b", 2, "e2")])

    assert inventory.matches(iter(PLANNED)) is matches


def test_a_stored_plan_does_not_match_where_a_folder_was_listed_since(inventory: Inventory) -> None:
    inventory.add_listed([*_listed_as_planned(), _listed("e", EntryKind.FOLDER)])
    inventory.add_landed(PID, [_landed("a", 1, "e1"), _landed("d/b", 2, "e2")])

    assert not inventory.matches(iter(PLANNED))


@pytest.mark.parametrize(
    ("second", "is_refused"),
    [(("01", "md5"), True), (("00", "md5"), False), (("", ""), False), (("ff", "sha1"), False)],
)
def test_a_file_that_is_listed_with_two_checksums_of_one_kind_is_refused(
    inventory: Inventory, second: tuple[str, str], is_refused: bool
) -> None:
    chk, algorithm = second
    inventory.add_listed(
        _listed("a")._replace(chk=one, chk_alg=kind) for one, kind in (("00", "md5"), (chk, algorithm))
    )
    inventory.add_landed(PID, [_landed("a")])

    if is_refused:
        with pytest.raises(WrongSizeError, match="twice, with different sizes, types or checksums"):
            inventory.compare()
    else:
        inventory.compare()


def test_what_was_taken_is_struck_off_the_list(inventory: Inventory) -> None:
    assert inventory.is_empty()
    inventory.add_landed(PID, [_landed("a", 1, "e1"), _landed("b", 2, "e2")])

    assert inventory.take("a") == (1, "e1")
    assert inventory.take("a") is None
    assert (inventory.paths(), inventory.is_empty()) == (["b"], False)
    assert inventory.take("b") == (2, "e2")
    assert inventory.is_empty()


def test_a_file_left_by_a_dead_run_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "inventory.sqlite"
    file.write_bytes(b"half a database")

    with Inventory(file) as inventory:
        assert inventory.is_empty()
