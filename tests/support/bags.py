"""Bags on a share, made by the service's own parts, but without an object store, a catalogue or a ledger."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from archiver.workflow.bags import BagContents, commit_bag, index_path, prepare_bag, store_plan, take_turn
from archiver.workflow.datablocks.digests import new_digest
from archiver.workflow.datablocks.entries import Entry, EntryKind
from archiver.workflow.datablocks.index import DatablockTotals, Member, member_line, totals_line
from archiver.workflow.datablocks.plan import PlanSettings, plan_lines
from archiver.workflow.datablocks.tar import member_header, padding, trailer
from archiver.workflow.names import archive_id
from archiver.workflow.storage.lts import PosixShare, ShareAddress, initialise_share

MTIME = 1714979289
FILES: Mapping[str, bytes | None] = {"a.txt": b"alpha", "sub": None, "sub/b.bin": b"\x00\x01" * 5000, "sub/empty": b""}
"""Contents by path; None for a folder."""


def ignore(count: int, /) -> None:
    """Progress that nobody looks at."""


def new_share(root: Path) -> ShareAddress:
    """A share in a folder that is made for it."""
    root.mkdir()
    return ShareAddress(root, initialise_share(root))


def _entry(path: str, content: bytes | None) -> Entry:
    if content is None:
        return Entry(path, EntryKind.FOLDER, 0, MTIME, 0o750, "", "")
    return Entry(path, EntryKind.FILE, len(content), MTIME, 0o640, "etag", "")


def _write_datablock(share: PosixShare, pid: str, index: int, files: Mapping[str, bytes | None]) -> DatablockTotals:
    tar = bytearray()
    lines = []
    for path, content in files.items():
        entry = _entry(path, content)
        tar += member_header(entry)
        sha256 = "" if content is None else hashlib.sha256(content).hexdigest()
        lines.append(member_line(Member.of(entry, sha256, len(tar), "" if content is None else "unproven")))
        tar += content or b""
        tar += padding(entry.size)
    tar += trailer(len(tar))
    contents = [content for content in files.values() if content is not None]
    fast = new_digest("xxh3_128")
    fast.update(tar)
    totals = DatablockTotals(
        archive_id(pid, index),
        index,
        len(contents),
        len(files) - len(contents),
        sum(map(len, contents)),
        len(tar),
        hashlib.sha256(tar).hexdigest(),
        fast.hexdigest(),
        len(contents),
    )
    lines.append(totals_line(totals))
    for path, data in ((totals.archive_id, bytes(tar)), (index_path(pid, index), "".join(lines).encode())):
        with share.create(path, "test") as writer:
            writer.write(data)
            writer.commit()
    return totals


def make_bag(
    address: ShareAddress, pid: str, *datablocks: Mapping[str, bytes | None], publish: bool = True
) -> list[DatablockTotals]:
    """A bag with these datablocks (one of `FILES` without any)."""
    wanted: Sequence[Mapping[str, bytes | None]] = datablocks or (FILES,)
    share = address.open()
    plan = address.root.with_suffix(".plan")
    dealt = [(index, _entry(*item)) for index, files in enumerate(wanted) for item in files.items()]
    plan.write_text("".join(plan_lines(pid, PlanSettings(10**11, 50_000), iter(dealt))), encoding="ascii")
    take_turn(ignore, address, pid, "test", from_scratch=True)
    store_plan(ignore, address, pid, plan, "test")
    totals = [_write_datablock(share, pid, index, files) for index, files in enumerate(wanted)]
    info = (
        ("External-Identifier", pid),
        ("Bagging-Date", "2024-05-06"),
        ("Files", str(sum(each.files for each in totals))),
    )
    prepare_bag(ignore, address, BagContents(pid, tuple(totals), info, {"pid": pid}), "test")
    if publish:
        commit_bag(ignore, address, pid, "test")
    return totals


def tamper(file: Path, data: bytes, offset: int = 0) -> None:
    """Change bytes of a published file, which is read-only."""
    mode = file.stat().st_mode
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)
    file.chmod(mode)


def replace_text(file: Path, old: str, new: str) -> None:
    """Change the text of a published file, which is read-only."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    mode = file.stat().st_mode
    file.chmod(0o644)
    file.write_text(text.replace(old, new), encoding="utf-8")
    file.chmod(mode)
