"""What is wrong with a bag is said exactly, and nothing is altered."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import bagit  # type: ignore[import-untyped]
import pytest

from archiver.workflow.datablocks.bag import TAG_MANIFEST
from archiver.workflow.errors import WrongShareError
from archiver.workflow.holdings.damage import DamageKind
from archiver.workflow.holdings.verification import Verification, verify_bag
from archiver.workflow.names import bag_folder
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from support.bags import FILES, ignore, make_bag, replace_text, tamper

TAR = "data/datablocks/x_0.tar"
INDEX = "archiver/x_0.tar.jsonl"


@pytest.fixture
def bag(share: ShareAddress) -> Path:
    make_bag(share, "x", FILES, {"z": b"last"})
    return share.root / bag_folder("x")


def _verify(share: ShareAddress, *, members: bool = False) -> Verification:
    return verify_bag(ignore, share, "x", members=members)


def _found(verification: Verification) -> list[tuple[str, DamageKind, str | None]]:
    return [(damage.path, damage.kind, damage.member) for damage in verification.damages]


def _offset_of(share: ShareAddress, content: bytes) -> int:
    return (share.root / bag_folder("x") / TAR).read_bytes().index(content)


def _record_anew(bag: Path, path: str) -> None:
    """As whoever alters a tag file together with its checksum would."""
    manifest = bag / TAG_MANIFEST
    (old,) = (line for line in manifest.read_text().splitlines() if line.endswith(f"  {path}"))
    replace_text(manifest, old, f"{hashlib.sha256((bag / path).read_bytes()).hexdigest()}  {path}")


def test_a_bag_as_it_was_published_is_good_and_every_byte_was_read(share: ShareAddress, bag: Path) -> None:
    assert bagit.Bag(str(bag)).is_valid()
    files = [file for file in bag.rglob("*") if file.is_file() and file.name != TAG_MANIFEST]
    counted: list[int] = []

    found = verify_bag(counted.append, share, "x", members=True)

    assert found == Verification("x", len(files), sum(file.stat().st_size for file in files), 4, ())
    assert sum(counted) == found.size


def test_a_flipped_bit_in_a_tar_is_found_and_with_members_the_file_it_hits(share: ShareAddress, bag: Path) -> None:
    tamper(bag / TAR, b"A", _offset_of(share, b"alpha"))

    assert _found(_verify(share)) == [(TAR, DamageKind.ALTERED, None)]
    assert _found(_verify(share, members=True)) == [
        (TAR, DamageKind.ALTERED, "a.txt"),
        (TAR, DamageKind.ALTERED, None),
    ]


def test_damage_between_the_members_hits_none_of_them(share: ShareAddress, bag: Path) -> None:
    tamper(bag / TAR, b"\1", _offset_of(share, b"alpha") + len(b"alpha") + 3)

    assert _found(_verify(share, members=True)) == [(TAR, DamageKind.ALTERED, None)]


def test_a_missing_tar_is_found(share: ShareAddress, bag: Path) -> None:
    (bag / TAR).unlink()

    found = _verify(share, members=True)

    assert (TAR, DamageKind.MISSING, None) in _found(found)
    assert found.members == 1


def test_a_tar_that_is_cut_off_lacks_the_files_at_its_end(share: ShareAddress, bag: Path) -> None:
    (bag / TAR).chmod(0o644)
    os.truncate(bag / TAR, _offset_of(share, FILES["sub/b.bin"] or b"") + 100)

    assert [found for found in _found(_verify(share, members=True)) if found[2]] == [
        (TAR, DamageKind.MISSING, "sub/b.bin"),
        (TAR, DamageKind.MISSING, "sub/empty"),
    ]


@pytest.mark.parametrize("name", ["bag-info.txt", "archiver/catalogue.json", "archiver/plan.jsonl", INDEX])
def test_a_changed_tag_file_is_found(share: ShareAddress, bag: Path, name: str) -> None:
    file = bag / name
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"\n")

    assert _found(_verify(share)) == [(name, DamageKind.ALTERED, None)]


def _add_payload(bag: Path) -> str:
    (bag / "data/more").mkdir()
    (bag / "data/more/file").write_bytes(b"more")
    return "data/more/file"


def _add_leftover(bag: Path) -> str:
    (bag / f"{TAR}.part-0123").write_bytes(b"left")
    return f"{TAR}.part-0123"


def _add_tag_file(bag: Path) -> str:
    (bag / "note.txt").write_bytes(b"by hand")
    return "note.txt"


@pytest.mark.parametrize("add", [_add_payload, _add_leftover, _add_tag_file])
def test_a_file_no_manifest_lists_is_found(share: ShareAddress, bag: Path, add: Callable[[Path], str]) -> None:
    path = add(bag)

    assert (path, DamageKind.UNLISTED, None) in _found(_verify(share))


@pytest.mark.parametrize("name", ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", TAG_MANIFEST, INDEX])
def test_a_missing_tag_file_is_found(share: ShareAddress, bag: Path, name: str) -> None:
    (bag / name).unlink()

    assert (name, DamageKind.MISSING, None) in _found(_verify(share))


def test_a_manifest_that_leads_out_of_the_bag_is_not_followed(share: ShareAddress, bag: Path) -> None:
    manifest = bag / "manifest-sha256.txt"
    manifest.chmod(0o644)
    with manifest.open("a") as lines:
        lines.write(f"{'0' * 64}  data/../../../../etc/passwd\n{'0' * 64}  /etc/passwd\n")
    _record_anew(bag, "manifest-sha256.txt")

    assert _found(_verify(share)) == [
        ("data/../../../../etc/passwd", DamageKind.UNSAFE, None),
        ("/etc/passwd", DamageKind.UNSAFE, None),
    ]


def test_an_index_altered_together_with_its_checksum_is_found_by_its_members(share: ShareAddress, bag: Path) -> None:
    replace_text(bag / INDEX, hashlib.sha256(b"alpha").hexdigest(), "0" * 64)
    _record_anew(bag, INDEX)

    assert _found(_verify(share)) == []
    assert _found(_verify(share, members=True)) == [(TAR, DamageKind.ALTERED, "a.txt")]


def test_an_index_that_cannot_be_read_ends_only_the_check_of_its_own_members(share: ShareAddress, bag: Path) -> None:
    replace_text(bag / INDEX, '{"path": "sub"', '{"path: "sub"')

    found = _verify(share, members=True)

    assert set(_found(found)) == {(INDEX, DamageKind.ALTERED, None)}
    assert found.members == 2


def test_an_index_in_another_order_than_the_tar_is_found(share: ShareAddress, bag: Path) -> None:
    first, *others = (bag / INDEX).read_text().splitlines(keepends=True)
    (bag / INDEX).chmod(0o644)
    (bag / INDEX).write_text("".join([*others[:-1], first, others[-1]]))

    assert "order of the tar" in " ".join(map(str, _verify(share, members=True).damages))


def test_members_are_checked_across_the_pieces_a_large_tar_is_read_in(share: ShareAddress) -> None:
    large = os.urandom(20 * 1024 * 1024 + 7)
    make_bag(share, "x", {"a": b"small", "b": large, "c": b"", "d": b"end"})
    assert _verify(share, members=True).members == 4
    tamper(share.root / bag_folder("x") / TAR, b"\0\1\2\3", _offset_of(share, large[-100:]))

    assert (TAR, DamageKind.ALTERED, "b") in _found(_verify(share, members=True))


def test_verifying_alters_nothing(share: ShareAddress, bag: Path) -> None:
    tamper(bag / TAR, b"A", 600)
    (bag / INDEX).unlink()

    def state() -> dict[str, tuple[int, int, bytes]]:
        found = sorted(file for file in share.root.rglob("*") if file.is_file())
        return {str(file): (file.stat().st_mode, file.stat().st_mtime_ns, file.read_bytes()) for file in found}

    before = state()
    _verify(share, members=True)

    assert state() == before


def test_a_share_that_goes_away_meanwhile_is_no_damage(share: ShareAddress, bag: Path) -> None:
    def unmount(_: int, /) -> None:
        for file in (share.root / IDENTITY_FILE, bag / TAR):
            file.unlink(missing_ok=True)

    with pytest.raises(WrongShareError):
        verify_bag(unmount, share, "x", members=False)
