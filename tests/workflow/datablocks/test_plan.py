"""The plan: every entry in exactly one datablock, and the same one whenever it is asked again."""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.workflow.archiving import catalogue_datablock
from archiver.workflow.catalogue.documents import write_datablock
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.datablocks.index import DatablockTotals, Member
from archiver.workflow.datablocks.plan import CATALOGUE_REQUEST_BYTES, PlanSettings, deal_out, plan_lines, read_plan
from support.strategies import ODD_PATHS, entries, file_paths

PLANS = st.builds(PlanSettings, st.integers(1, 2 * 10**6), st.integers(1, 12))


def _file(path: str, size: int = 1) -> Entry:
    return Entry(path, EntryKind.FILE, size, 0, 0o644, "etag", "")


def _folder(path: str) -> Entry:
    return Entry(path, EntryKind.FOLDER, 0, 0, 0o755, "", "")


def _datablocks(dealt: Sequence[tuple[int, Entry]]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for index, entry in dealt:
        found[index].append(entry)
    return found


@given(entries(), PLANS)
def test_every_entry_is_dealt_exactly_once_and_in_order(given_entries: list[Entry], settings: PlanSettings) -> None:
    dealt = list(deal_out(given_entries, settings))

    has_file = any(not entry.is_folder for entry in given_entries)
    assert [entry for _, entry in dealt] == (given_entries if has_file else [])


@given(entries(), PLANS)
def test_the_plan_is_the_same_whenever_it_is_made(given_entries: list[Entry], settings: PlanSettings) -> None:
    assert list(deal_out(given_entries, settings)) == list(deal_out(iter(given_entries), settings))


@given(entries(), PLANS)
def test_indexes_count_from_zero_without_gaps(given_entries: list[Entry], settings: PlanSettings) -> None:
    indexes = [index for index, _ in deal_out(given_entries, settings)]

    assert indexes[:1] in ([], [0])
    assert all(after - before in (0, 1) for before, after in pairwise(indexes))


@given(entries(), PLANS)
def test_every_datablock_holds_a_file(given_entries: list[Entry], settings: PlanSettings) -> None:
    for members in _datablocks(list(deal_out(given_entries, settings))).values():
        assert any(not entry.is_folder for entry in members)


@given(entries(), PLANS)
def test_the_target_is_exceeded_only_by_a_file_that_is_larger_itself(
    given_entries: list[Entry], settings: PlanSettings
) -> None:
    for members in _datablocks(list(deal_out(given_entries, settings))).values():
        files = [entry for entry in members if not entry.is_folder]
        assert sum(entry.size for entry in files) <= settings.target_bytes or len(files) == 1


@given(entries(), PLANS)
def test_a_datablock_holds_more_entries_than_allowed_only_by_folders_that_no_other_could_take(
    given_entries: list[Entry], settings: PlanSettings
) -> None:
    datablocks = _datablocks(list(deal_out(given_entries, settings)))
    for index, members in datablocks.items():
        first_file = next(number for number, entry in enumerate(members) if not entry.is_folder)
        allowed = max(settings.most_files, first_file + 1)
        if index == max(datablocks):
            while members[-1].is_folder:
                members.pop()
        assert len(members) <= allowed


def test_a_datablock_is_filled_up_to_the_target_exactly() -> None:
    dealt = deal_out([_file("a", 60), _file("b", 40), _file("c", 1), _file("d", 100)], PlanSettings(100, 1000))

    assert [index for index, _ in dealt] == [0, 0, 1, 2]


def test_a_file_larger_than_the_target_gets_a_datablock_of_its_own() -> None:
    dealt = deal_out([_file("a", 1), _file("b", 101), _file("c", 1)], PlanSettings(100, 1000))

    assert [index for index, _ in dealt] == [0, 1, 2]


def test_folders_go_with_the_next_file_and_the_last_ones_with_the_last_datablock() -> None:
    given_entries = [_folder("a"), _file("a/1"), _folder("b"), _file("b/1"), _folder("c"), _folder("d")]

    dealt = deal_out(given_entries, PlanSettings(1, 10))

    assert [index for index, _ in dealt] == [0, 0, 1, 1, 1, 1]


def test_folders_count_as_entries_too() -> None:
    given_entries = [_file("a"), _folder("b"), _file("b/1"), _file("c")]

    assert [index for index, _ in deal_out(given_entries, PlanSettings(100, 2))] == [0, 1, 1, 2]


def test_only_folders_make_no_datablock() -> None:
    assert list(deal_out([_folder("a"), _folder("b")], PlanSettings(1, 10))) == []


@pytest.mark.parametrize("name", ["x" * 250, "数" * 80, "\x01" * 80, "🧪" * 60])
def test_the_catalogue_is_never_sent_more_than_it_takes(name: str) -> None:
    given_entries = [_file(f"{name}/{name}/{number}", 10**12) for number in range(25_000)]
    datablocks = _datablocks(list(deal_out(given_entries, PlanSettings(10**18, 10**6))))

    assert len(datablocks) > 1
    for index, members in datablocks.items():
        totals = DatablockTotals("a" * 600, index, len(members), 0, 10**18, 10**18, "f" * 64, "f" * 32, 0)
        block = catalogue_datablock(totals, [Member.of(entry, "f" * 64, 10**15, "unproven") for entry in members])
        sent = json.dumps(write_datablock("20.500.11935/x", block))
        assert len(sent) <= CATALOGUE_REQUEST_BYTES + 2000


@given(entries(), PLANS)
def test_a_plan_comes_back_from_its_lines_as_it_was(given_entries: list[Entry], settings: PlanSettings) -> None:
    dealt = list(deal_out(given_entries, settings))
    stored = "".join(plan_lines("20.500.11935/x", settings, dealt))

    assert stored.isascii()
    pid, read_settings, members = read_plan(stored.splitlines(keepends=True))
    assert (pid, read_settings, list(members)) == ("20.500.11935/x", settings, dealt)


@given(st.lists(file_paths(), min_size=1))
def test_each_member_takes_exactly_one_line(paths: list[str]) -> None:
    dealt = [(0, _file(path)) for path in (*paths, *ODD_PATHS)]

    lines = list(plan_lines("x", PlanSettings(1, 1), dealt))

    assert [line.count("\n") for line in lines] == [1] * (len(dealt) + 1)
    assert len("".join(lines).splitlines()) == len(lines)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "3", "not json", '{"format": 2, "pid": "x", "target_bytes": 1, "most_files": 1}', '{"format": 1}'],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_plan([text])


@pytest.mark.parametrize("line", ["", "[0]", "3", "{}", '[0, "a", "socket", 1, 2, 3, "", ""]', '[0, "a", "file", 1]'])
def test_a_line_that_is_no_entry_is_refused(line: str) -> None:
    header = next(plan_lines("x", PlanSettings(1, 1), []))
    _, _, members = read_plan([header, line])

    with pytest.raises(ValueError, match=r"."):
        next(members)
