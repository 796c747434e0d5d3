"""The data sets that are measured."""

import pytest

from benchmarks.datasets import DATASETS, MANY_FILES

MIB = 1024**2


@pytest.mark.parametrize(
    ("name", "files", "payload"),
    [("A", 8, 4096 * MIB), ("B", 20_000, 20_000 * 50 * 1024), ("C", 1_709, (400 + 400 + 200) * MIB + 1_500 * 16_384)],
)
def test_a_data_set_has_the_files_it_is_named_for(name: str, files: int, payload: int) -> None:
    spec = DATASETS[name]

    assert (spec.files, spec.payload) == (files, payload)
    assert sum(size for _, size in spec.paths()) == payload
    assert len({path for path, _ in spec.paths()}) == files


def test_a_data_set_says_what_it_is_made_of() -> None:
    assert DATASETS["C"].description == "1 × 400 MiB + 8 × 50 MiB + 200 × 1 MiB + 1,500 × 16 KiB"
    assert MANY_FILES.description == "400,000 × 1 KiB"


def test_a_smaller_one_has_that_share_of_the_bytes_and_no_empty_group() -> None:
    for spec in (*DATASETS.values(), MANY_FILES):
        small = spec.scaled(0.02)

        assert small.payload == pytest.approx(0.02 * spec.payload, rel=0.01)
        assert all(group.count >= 1 and group.size >= 1 for group in small.groups)


def test_the_full_size_is_the_data_set_itself() -> None:
    assert DATASETS["B"].scaled(1) == DATASETS["B"]
