"""The data sets that are measured: names and sizes of files, of random bytes. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

KIBIBYTE = 1024
MEBIBYTE = 1024**2


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one size."""

    count: int
    size: int
    """Bytes of each."""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A data set to be made."""

    name: str
    groups: tuple[Group, ...]

    @property
    def files(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def payload(self) -> int:
        """Bytes of all files."""
        return sum(group.count * group.size for group in self.groups)

    @property
    def description(self) -> str:
        """As `8 × 512 MiB`."""
        return " + ".join(f"{group.count:,} × {in_words(group.size)}" for group in self.groups)

    def paths(self) -> Iterator[tuple[str, int]]:
        """Path and size in bytes of each file; a thousand to a folder."""
        for place, group in enumerate(self.groups):
            for number in range(group.count):
                yield f"group{place}/{number // 1000:03}/{number:06}.bin", group.size

    def scaled(self, factor: float) -> "DatasetSpec":
        """The same with `factor` times the bytes: fewer files, and smaller ones where there is one of a kind."""
        return DatasetSpec(self.name, tuple(_scaled(group, factor) for group in self.groups))


def _scaled(group: Group, factor: float) -> Group:
    count = max(1, round(group.count * factor))
    return Group(count, max(1, round(group.size * min(1.0, group.count * factor / count))))


def in_words(size: int) -> str:
    """Bytes in the largest unit that gives a whole number."""
    for unit, name in ((MEBIBYTE, "MiB"), (KIBIBYTE, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec("A", (Group(8, 512 * MEBIBYTE),)),
        DatasetSpec("B", (Group(20_000, 50 * KIBIBYTE),)),
        DatasetSpec(
            "C",
            (
                Group(1, 400 * MEBIBYTE),
                Group(8, 50 * MEBIBYTE),
                Group(200, MEBIBYTE),
                Group(1_500, 16 * KIBIBYTE),
            ),
        ),
    )
}

MANY_FILES = DatasetSpec("many files", (Group(400_000, KIBIBYTE),))
