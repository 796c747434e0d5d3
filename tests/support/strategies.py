"""What Hypothesis makes up: names of files and data sets as users could invent them, and entries of a plan."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.names import MAX_NAME_BYTES

# How fast an example is depends on what else the machine does.
settings.register_profile("archiver", deadline=None)
settings.load_profile("archiver")

ODD_PATHS = (
    "a b/ leading and trailing ",
    "-rf",
    "--checkpoint-action=exec=sh",
    "line\nbreak\r\n/tab\there",
    "unicode/Größe-€-数据-🧪",
    "decomposed/é-é",
    "quote'\"/`$(x)",
    "vertical\x0bform\x0cfile\x1cnext\x85line\u2028paragraph\u2029",
    "percent%0Aencoded%25",
    "*[glob]?",
    "colon:at@host",
    "/".join(["long-segment-" + "x" * 87] * 3),
    "s" * MAX_NAME_BYTES,
    "ü" * (MAX_NAME_BYTES // 2) + "/" + "数" * (MAX_NAME_BYTES // 3),
    "...",
    ".hidden/..two",
)
"""Names that have broken archives before."""


def _is_segment(text: str) -> bool:
    return text not in {"", ".", ".."} and len(text.encode()) <= MAX_NAME_BYTES


def file_paths() -> st.SearchStrategy[str]:
    """Any relative path that a file may have."""
    character = st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0")
    segments = st.text(character, min_size=1, max_size=40).filter(_is_segment)
    return st.one_of(st.lists(segments, min_size=1, max_size=4).map("/".join), st.sampled_from(ODD_PATHS))


def without_clashes(paths: Sequence[str]) -> list[str]:
    """Those of `paths` that can all be files side by side, sorted: none lies below another."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(each + "/") for each in kept):
            kept.append(path)
    return kept


@st.composite
def pids(draw: st.DrawFn) -> str:
    """A pid that the archive accepts; often close to others in spelling."""
    first = st.sampled_from("ab1")
    rest = st.text("ab1-_.", max_size=3)
    segments = draw(st.lists(st.tuples(first, rest).map("".join), min_size=1, max_size=4))
    return "/".join(segments)


@st.composite
def entries(draw: st.DrawFn, max_size: int = 30) -> list[Entry]:
    """Entries of one data set, sorted by path, with folders among them."""
    paths = without_clashes(draw(st.lists(file_paths(), max_size=max_size)))
    found = []
    for path in paths:
        kind = draw(st.sampled_from([EntryKind.FILE, EntryKind.FILE, EntryKind.LINK, EntryKind.FOLDER]))
        folder = kind is EntryKind.FOLDER
        found.append(
            Entry(
                path,
                kind,
                0 if folder else draw(st.integers(0, 10**6)),
                draw(st.integers(-(2**31), 2**33)),
                draw(st.integers(0, 0o777)),
                "" if folder else draw(st.text("0123456789abcdef-", max_size=34)),
                "" if folder else draw(st.sampled_from(["", "md5:0cc175b9c0f1b6a831c399e269772661"])),
            )
        )
    return found
