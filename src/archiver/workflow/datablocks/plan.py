"""Which entry goes into which datablock, decided before the first byte moves. Pure and deterministic."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from archiver.workflow.datablocks.entries import Entry, EntryKind

PLAN_FORMAT = 1
CATALOGUE_REQUEST_BYTES = 14 * 1000**2
"""A request over 16 MB is refused by SciCat; stay clear of it."""
_CATALOGUE_BYTES_PER_FILE = 240
"""JSON of one file in a datablock, without its path."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What a plan was made with; stored beside it."""

    target_bytes: int
    """Payload a datablock should hold at most; a larger file gets a datablock of its own."""
    most_files: int
    """Entries a datablock may hold at most; more only where folders without files of their own are more."""
    format: int = PLAN_FORMAT


@dataclass(slots=True)
class _Filling:
    """The datablock being filled."""

    index: int = -1
    payload: int = 0
    entries: int = 0
    request_bytes: int = 0

    def takes(self, entries: int, size: int, request_bytes: int, settings: PlanSettings) -> bool:
        return (
            self.index >= 0
            and self.payload + size <= settings.target_bytes
            and self.entries + entries <= settings.most_files
            and self.request_bytes + request_bytes <= CATALOGUE_REQUEST_BYTES
        )


def deal_out(entries: Iterable[Entry], settings: PlanSettings) -> Iterator[tuple[int, Entry]]:
    """Each entry with the index of its datablock, in the given order (callers sort by path).

    Indexes count from 0 without gaps, and every datablock holds at least one file. Folders go with the next
    file; those after the last file go with the last datablock. Where there are only folders, nothing is dealt.
    Memory does not grow with the number of files.
    """
    filling = _Filling()
    folders: list[Entry] = []
    for entry in entries:
        if entry.is_folder:
            folders.append(entry)
            continue
        group = [*folders, entry]
        folders.clear()
        request = _CATALOGUE_BYTES_PER_FILE + len(json.dumps(entry.path))
        if not filling.takes(len(group), entry.size, request, settings):
            filling = _Filling(index=filling.index + 1)
        filling.payload += entry.size
        filling.entries += len(group)
        filling.request_bytes += request
        for each in group:
            yield filling.index, each
    if filling.index >= 0:
        for folder in folders:
            yield filling.index, folder


def plan_lines(pid: str, settings: PlanSettings, dealt: Iterable[tuple[int, Entry]]) -> Iterator[str]:
    """The plan as JSON lines: a header, then one array a member; each ends in a newline."""
    yield json.dumps({"pid": pid, **asdict(settings)}) + "\n"
    for index, entry in dealt:
        yield json.dumps([index, *entry], ensure_ascii=True) + "\n"


def read_plan(lines: Iterable[str]) -> tuple[str, PlanSettings, Iterator[tuple[int, Entry]]]:
    """Pid, settings and members of a stored plan; members are read as they are asked for.

    Raises:
        ValueError: it is no plan, or one of a format this version does not know.
    """
    stream = iter(lines)
    header = json.loads(next(stream, "{}"))
    if not isinstance(header, dict) or header.get("format") != PLAN_FORMAT:
        raise ValueError(f"Not a plan of format {PLAN_FORMAT}: {header!r}")
    try:
        pid, settings = header["pid"], PlanSettings(header["target_bytes"], header["most_files"], header["format"])
    except KeyError as error:
        raise ValueError(f"The plan's header lacks {error}.") from error

    def members() -> Iterator[tuple[int, Entry]]:
        for line in stream:
            try:
                index, path, kind, *rest = json.loads(line)
                entry = Entry(path, EntryKind(kind), *rest)
            except TypeError as error:
                raise ValueError(f"Not an entry of a plan: {line!r}") from error
            yield index, entry

    return pid, settings, members()
