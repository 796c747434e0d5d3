"""The index of a datablock comes back as it was written, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.workflow.datablocks.entries import Entry
from archiver.workflow.datablocks.index import DatablockTotals, Member, member_line, read_index, totals_line
from support.strategies import ODD_PATHS, entries

TOTALS = DatablockTotals("openem-network/datasets/x/data/datablocks/x_0.tar", 0, 2, 1, 10, 10240, "a", "b", 1)


def _members(given_entries: list[Entry]) -> list[Member]:
    return [Member.of(entry, "0" * 64, number * 512, "unproven") for number, entry in enumerate(given_entries)]


def _index(members: list[Member]) -> str:
    return "".join(member_line(member) for member in members) + totals_line(TOTALS)


@given(entries())
def test_an_index_comes_back_as_it_was_written(given_entries: list[Entry]) -> None:
    members = _members(given_entries)

    assert list(read_index(_index(members).splitlines())) == [*members, TOTALS]


def test_odd_names_take_one_line_of_ascii_each() -> None:
    member = _members([])
    for path in ODD_PATHS:
        member = [Member(path, "file", 1, 2, 3, "4", 5, "unproven", "6")]
        text = _index(member)
        assert text.isascii()
        assert len(text.splitlines()) == 2
        assert list(read_index(text.splitlines())) == [*member, TOTALS]


@given(entries(), st.integers(1))
def test_an_index_that_is_cut_off_is_refused(given_entries: list[Entry], cut: int) -> None:
    text = _index(_members(given_entries))
    text = text[: -(1 + cut % (len(text) - 1)) - 1]

    with pytest.raises(ValueError, match=r"."):
        list(read_index(text.splitlines()))


@pytest.mark.parametrize("more", [totals_line(TOTALS), member_line(Member("a", "file", 1, 2, 3, "4", 5, "", ""))])
def test_an_index_that_goes_on_after_its_totals_is_refused(more: str) -> None:
    with pytest.raises(ValueError, match="goes on"):
        list(read_index((_index([]) + more).splitlines()))


@pytest.mark.parametrize(
    "line",
    ['{"totals": {"format": 2}}', '{"totals": {"format": 1}}', '{"totals": 3}', '{"path": "a"}', "3", "null", "[]", ""],
)
def test_a_line_that_is_none_of_an_index_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(read_index([line]))


def test_folders_are_known_as_such() -> None:
    assert Member("a", "folder", 0, 0, 0, "", 0, "", "").is_folder
    assert not Member("a", "link", 0, 0, 0, "", 0, "", "").is_folder
