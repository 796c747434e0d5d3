"""The contract of long-term storage, against every implementation; then what a mounted file system can do wrong."""

import errno
import os
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archiver.workflow.errors import (
    ArchiverError,
    NoSpaceError,
    PermanentError,
    TransientError,
    UnsafeNameError,
    WrongShareError,
)
from archiver.workflow.storage.lts import (
    IDENTITY_FILE,
    TEMPORARY_MARK,
    LongTermStorage,
    PosixShare,
    initialise_share,
)

MAKERS: dict[str, Callable[[Path], LongTermStorage]] = {"posix": PosixShare}
"""Every implementation of the protocol, made on an empty folder."""
PATH = "datasets/x/data/x_0.tar"
FOLDER = "datasets/x/data"


@pytest.fixture(params=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> LongTermStorage:
    root = tmp_path / "share"
    root.mkdir()
    return MAKERS[request.param](root)


class _FailedHalfwayError(Exception):
    pass


def _write(storage: LongTermStorage, content: bytes, path: str = PATH, attempt: str = "1") -> None:
    with storage.create(path, attempt) as writer:
        writer.write(content)
        writer.commit()


def _fail_halfway(
    storage: LongTermStorage, content: bytes, attempt: str = "1", then: Callable[[], object] = list
) -> None:
    """Begin to write, do something else, and fail."""
    with storage.create(PATH, attempt) as writer:
        writer.write(content)
        then()
        raise _FailedHalfwayError


def _read(storage: LongTermStorage, path: str = PATH) -> bytes:
    with storage.open(path) as reader:
        buffer = bytearray(reader.size)
        assert reader.readinto(memoryview(buffer), 0) == len(buffer)
    return bytes(buffer)


# ------------------------------------------------------------------------------------------------ the contract


def test_a_sealed_file_is_set_aside_whole_and_another_takes_its_place(storage: LongTermStorage) -> None:
    _write(storage, b"damaged")
    storage.seal(PATH)

    aside = storage.set_aside(PATH, "heal")

    assert storage.size(PATH) is None
    assert _read(storage, aside) == b"damaged"
    _write(storage, b"good")
    assert _read(storage) == b"good"


def test_a_sealed_file_of_a_withdrawn_data_set_can_be_removed_for_good(storage: LongTermStorage) -> None:
    _write(storage, b"withdrawn")
    storage.seal(PATH)

    storage.remove_withdrawn(PATH)
    storage.remove_withdrawn(PATH)

    assert storage.size(PATH) is None
    assert storage.names(FOLDER) == []


def test_only_a_folder_in_which_nothing_is_left_is_removed(storage: LongTermStorage) -> None:
    _write(storage, b"there")

    storage.remove_empty_folder(FOLDER)
    assert storage.size(PATH) == 5

    storage.remove_withdrawn(PATH)
    storage.remove_empty_folder(FOLDER)
    storage.remove_empty_folder(FOLDER)
    assert (FOLDER.rpartition("/")[2], True) not in storage.names(FOLDER.rpartition("/")[0])


def test_the_names_of_a_folder_and_of_all_above_it_are_kept_also_where_some_are_missing(
    storage: LongTermStorage,
) -> None:
    _write(storage, b"there")

    storage.keep_names(FOLDER)
    storage.keep_names(f"{FOLDER}/not/there")

    assert storage.names(FOLDER) == [("x_0.tar", False)]
    assert storage.names(f"{FOLDER}/not") == []


def test_how_much_of_a_file_is_at_hand_is_told(storage: LongTermStorage) -> None:
    _write(storage, bytes(range(256)) * 5000)

    at_hand = storage.bytes_at_hand(PATH)

    assert at_hand is not None
    assert at_hand >= 1_280_000
    assert storage.bytes_at_hand("other") is None


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 5000])
def test_a_committed_file_is_read_back_as_it_was_written(storage: LongTermStorage, content: bytes) -> None:
    _write(storage, content)

    assert storage.size(PATH) == len(content)
    assert _read(storage) == storage.read_small(PATH) == content
    assert storage.names(FOLDER) == [("x_0.tar", False)]


def test_all_kinds_of_buffers_are_appended_in_order(storage: LongTermStorage) -> None:
    with storage.create(PATH, "1") as writer:
        writer.write(b"one ")
        writer.write(bytearray(b"two "))
        writer.flush_to_medium()
        writer.write(memoryview(b"---three---")[3:-3])
        writer.write(b"")
        writer.commit()

    assert storage.read_small(PATH) == b"one two three"


def test_a_file_is_invisible_until_it_is_committed(storage: LongTermStorage) -> None:
    with storage.create(PATH, "1") as writer:
        writer.write(b"half")
        writer.flush_to_medium()
        assert storage.size(PATH) is None
        assert storage.read_small(PATH) is None
        with pytest.raises(FileNotFoundError):
            _read(storage)
        assert all(TEMPORARY_MARK in name for name, _ in storage.names(FOLDER))
        writer.commit()

    assert storage.read_small(PATH) == b"half"


def test_nothing_is_left_after_an_exception(storage: LongTermStorage) -> None:
    with pytest.raises(_FailedHalfwayError):
        _fail_halfway(storage, b"half")

    assert storage.size(PATH) is None
    assert storage.names(FOLDER) == []


def test_nothing_is_left_where_nobody_committed(storage: LongTermStorage) -> None:
    with storage.create(PATH, "1") as writer:
        writer.write(b"half")

    assert storage.names(FOLDER) == []


def test_a_committed_file_survives_an_exception_after_it(storage: LongTermStorage) -> None:
    def commit_and_fail() -> None:
        with storage.create(PATH, "1") as writer:
            writer.write(b"whole")
            writer.commit()
            raise _FailedHalfwayError

    with pytest.raises(_FailedHalfwayError):
        commit_and_fail()

    assert storage.read_small(PATH) == b"whole"


def test_an_unsealed_file_is_replaced_at_once(storage: LongTermStorage) -> None:
    _write(storage, b"old")
    with storage.open(PATH) as reader_of_old, storage.create(PATH, "2") as writer:
        writer.write(b"newer")
        assert storage.read_small(PATH) == b"old"
        writer.commit()
        assert storage.read_small(PATH) == b"newer"
        buffer = bytearray(10)
        assert reader_of_old.readinto(memoryview(buffer), 0) == 3
        assert buffer[:3] == b"old"

    assert storage.names(FOLDER) == [("x_0.tar", False)]


def test_a_sealed_file_is_never_overwritten(storage: LongTermStorage) -> None:
    _write(storage, b"for good")
    storage.seal(PATH)

    with pytest.raises(PermanentError, match=r"x_0\.tar is published already and will not be overwritten"):
        _write(storage, b"other")

    assert storage.read_small(PATH) == b"for good"
    assert storage.names(FOLDER) == [("x_0.tar", False)]


def test_a_file_sealed_while_another_is_written_is_not_overwritten(storage: LongTermStorage) -> None:
    _write(storage, b"for good")

    with storage.create(PATH, "2") as writer:
        writer.write(b"other")
        storage.seal(PATH)
        with pytest.raises(PermanentError, match="will not be overwritten"):
            writer.commit()

    assert storage.read_small(PATH) == b"for good"


def test_a_sealed_file_is_never_removed(storage: LongTermStorage) -> None:
    _write(storage, b"for good")
    storage.seal(PATH)
    storage.seal(PATH)  # again is fine

    assert storage.remove_unsealed(PATH) is False
    assert storage.read_small(PATH) == b"for good"


def test_an_unsealed_file_is_removed(storage: LongTermStorage) -> None:
    _write(storage, b"x")

    assert storage.remove_unsealed(PATH) is True
    assert storage.size(PATH) is None


def test_removing_what_is_not_there_has_nothing_to_do(storage: LongTermStorage) -> None:
    assert storage.remove_unsealed(PATH) is True
    assert storage.remove_unsealed("datasets/y/none") is True


def test_what_is_not_there_is_told_as_such(storage: LongTermStorage) -> None:
    assert storage.size(PATH) is None
    assert storage.read_small(PATH) is None
    assert storage.names(FOLDER) == []
    with pytest.raises(FileNotFoundError):
        _read(storage)


def test_sealing_what_is_not_there_is_an_error_that_says_so(storage: LongTermStorage) -> None:
    with pytest.raises(PermanentError, match="Sealing datasets/x/none failed: No such file"):
        storage.seal("datasets/x/none")


def test_names_are_sorted_and_folders_told_from_files(storage: LongTermStorage) -> None:
    for path in ("d/b", "d/a", "d/c/file", "d/B"):
        _write(storage, b"", path)

    assert storage.names("d") == [("B", False), ("a", False), ("b", False), ("c", True)]


def test_two_attempts_at_one_file_do_not_disturb_one_another(storage: LongTermStorage) -> None:
    with storage.create(PATH, "one") as one, storage.create(PATH, "other") as other:
        one.write(b"1" * 100)
        other.write(b"2" * 50)
        one.write(b"1" * 100)
        one.commit()
        assert storage.read_small(PATH) == b"1" * 200
        other.commit()

    assert storage.read_small(PATH) == b"2" * 50
    assert storage.names(FOLDER) == [("x_0.tar", False)]


def test_a_failed_attempt_leaves_the_file_of_another_alone(storage: LongTermStorage) -> None:
    with pytest.raises(_FailedHalfwayError):
        _fail_halfway(storage, b"1", attempt="one", then=lambda: _write(storage, b"2", attempt="other"))

    assert storage.read_small(PATH) == b"2"


def test_an_attempt_made_again_begins_anew(storage: LongTermStorage) -> None:
    with storage.create(PATH, "1") as dead:
        dead.write(b"longer than what follows")
        _write(storage, b"new", attempt="1")

    assert storage.read_small(PATH) == b"new"


def test_reading_past_the_end_gives_what_there_is(storage: LongTermStorage) -> None:
    _write(storage, b"0123456789")

    with storage.open(PATH) as reader:
        buffer = bytearray(b"-" * 8)
        assert reader.size == 10
        assert reader.readinto(memoryview(buffer), 2) == 8
        assert buffer == b"23456789"
        assert reader.readinto(memoryview(buffer), 7) == 3
        assert buffer == b"789" + b"56789"
        assert reader.readinto(memoryview(buffer), 10) == 0
        assert reader.readinto(memoryview(buffer), 10**6) == 0
        assert reader.readinto(memoryview(b"").cast("B"), 0) == 0


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\0b", "."])
def test_no_path_leads_out_of_the_storage(storage: LongTermStorage, path: str) -> None:
    calls: list[Callable[[str], object]] = [
        storage.size,
        storage.names,
        storage.read_small,
        storage.open,
        storage.remove_unsealed,
        storage.seal,
        lambda each: storage.create(each, "1"),
    ]
    for call in calls:
        with pytest.raises(UnsafeNameError):
            call(path)


def test_free_and_total_bytes_make_sense(storage: LongTermStorage) -> None:
    free, total = storage.free_bytes()

    assert 0 <= free <= total
    assert total > 0


def test_a_storage_that_was_never_initialised_has_no_identity(storage: LongTermStorage) -> None:
    with pytest.raises(WrongShareError, match="archiver lts init"):
        storage.identity()


# ------------------------------------------------------------------------------------------------ the identity


def test_an_initialised_share_keeps_its_identity(tmp_path: Path) -> None:
    first = initialise_share(tmp_path)

    assert initialise_share(tmp_path) == first == PosixShare(tmp_path).identity()
    assert not (tmp_path / IDENTITY_FILE).stat().st_mode & 0o222
    assert [each.name for each in tmp_path.iterdir()] == [IDENTITY_FILE]


def test_two_shares_have_two_identities(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()

    assert initialise_share(tmp_path / "one") != initialise_share(tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"not a uuid", b"\xff\xfe", b"0" * 31])
def test_an_identity_nobody_can_read_is_a_wrong_share(tmp_path: Path, content: bytes) -> None:
    (tmp_path / IDENTITY_FILE).write_bytes(content)

    with pytest.raises(WrongShareError, match="no readable identity"):
        PosixShare(tmp_path).identity()
    with pytest.raises(WrongShareError):
        initialise_share(tmp_path)
    assert (tmp_path / IDENTITY_FILE).read_bytes() == content


def test_an_identity_may_be_written_by_hand(tmp_path: Path) -> None:
    identity = uuid.uuid4()
    (tmp_path / IDENTITY_FILE).write_text(f"  {identity}\r\n")

    assert PosixShare(tmp_path).identity() == identity


def test_a_share_that_is_not_mounted_is_not_initialised(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"does not exist\. Mount the share"):
        initialise_share(tmp_path / "nothing")
    with pytest.raises(WrongShareError):
        PosixShare(tmp_path / "nothing").identity()


def test_a_mount_point_that_went_away_is_an_error_that_says_so(tmp_path: Path) -> None:
    share = PosixShare(tmp_path / "gone")

    with pytest.raises(PermanentError, match="free space failed: No such file"):
        share.free_bytes()
    with pytest.raises(PermanentError, match=r"Creating x_0\.tar.*failed: No such file"):
        _write(share, b"x")


# ------------------------------------------------------------------------------------------------ what goes wrong


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _may_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


FILE_SYSTEMS = ["mounted"] if _may_mount() else ["made up"]
"""Real file systems where this process may mount one; else the nearest thing any user has."""


@pytest.fixture(params=FILE_SYSTEMS)
def full_share(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PosixShare]:
    """A share that has no room for a megabyte."""
    if request.param == "mounted":
        with _mounted(tmp_path / "full") as root:
            yield PosixShare(root)
        return
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / f"x_0.tar{TEMPORARY_MARK}1").symlink_to("/dev/full")
    yield PosixShare(tmp_path)


@pytest.fixture(params=FILE_SYSTEMS)
def read_only_root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody can create anything."""
    if request.param == "mounted":
        with _mounted(tmp_path / "read-only") as root:
            subprocess.run(["mount", "-o", "remount,ro", root], check=True)
            yield root
        return
    yield Path("/sys/kernel")


def test_a_full_share_is_told_and_nothing_is_left(full_share: PosixShare) -> None:
    with pytest.raises(NoSpaceError, match=r"Writing x_0\.tar failed: No space left.*goes on by itself"):
        _write(full_share, bytes(2 * 1024**2))

    assert full_share.names(FOLDER) == []
    full_share.remove_unsealed(PATH)
    _write(full_share, bytes(1000), attempt="2")
    assert full_share.size(PATH) == 1000


def test_a_read_only_share_is_an_error_for_an_operator(read_only_root: Path) -> None:
    share = PosixShare(read_only_root)

    with pytest.raises(PermanentError, match=r"Creating x_0\.tar on the long-term storage failed"):
        _write(share, b"x")
    with pytest.raises(PermanentError):
        initialise_share(read_only_root)


def _failing(monkeypatch: pytest.MonkeyPatch, name: str, code: int, when: Callable[..., bool]) -> None:
    """Make `os.<name>` fail with `code` for the calls that `when` picks."""
    original = getattr(os, name)

    def fail(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            if name == "close":
                original(*arguments)  # the descriptor is gone even when close reports an error
            raise OSError(code, os.strerror(code))
        return original(*arguments, **named)

    monkeypatch.setattr(f"archiver.workflow.storage.lts.os.{name}", fail)


def _is_unfinished(descriptor: int, *_: object) -> bool:
    return TEMPORARY_MARK in Path(f"/proc/self/fd/{descriptor}").readlink().name


CODES = [
    (errno.ENOSPC, NoSpaceError),
    (errno.EDQUOT, NoSpaceError),
    (errno.ESTALE, TransientError),
    (errno.EAGAIN, TransientError),
    (errno.ETIMEDOUT, TransientError),
    (errno.EHOSTDOWN, TransientError),
    (errno.EIO, PermanentError),
    (errno.EROFS, PermanentError),
    (errno.EFBIG, PermanentError),
    (errno.EACCES, PermanentError),
]


@pytest.mark.parametrize("call", ["write", "fsync", "close"])
@pytest.mark.parametrize(("code", "kind"), CODES)
def test_an_error_of_any_stage_of_writing_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[ArchiverError]
) -> None:
    share = PosixShare(tmp_path)
    with monkeypatch.context() as patched:
        _failing(patched, call, code, _is_unfinished)
        with pytest.raises(kind) as caught:
            _write(share, b"x")

    assert type(caught.value) is kind
    assert os.strerror(code) in str(caught.value)
    assert share.names(FOLDER) == []


def test_a_close_that_fails_too_does_not_hide_the_first_error_nor_keep_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = PosixShare(tmp_path)
    with monkeypatch.context() as patched:
        _failing(patched, "write", errno.ENOSPC, _is_unfinished)
        _failing(patched, "close", errno.EIO, _is_unfinished)
        with pytest.raises(NoSpaceError):
            _write(share, b"x")

    assert share.names(FOLDER) == []


def test_an_unfinished_file_that_cannot_be_removed_does_not_hide_the_first_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = PosixShare(tmp_path)
    with monkeypatch.context() as patched:
        _failing(patched, "write", errno.ENOSPC, _is_unfinished)
        _failing(patched, "unlink", errno.ESTALE, lambda path: TEMPORARY_MARK in str(path))
        with pytest.raises(NoSpaceError):
            _write(share, b"x")

    assert share.size(PATH) is None
    assert [name for name, _ in share.names(FOLDER)] == [f"x_0.tar{TEMPORARY_MARK}1"]


@pytest.mark.parametrize(("code", "kind"), CODES)
def test_an_error_while_reading_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[ArchiverError]
) -> None:
    share = PosixShare(tmp_path)
    _write(share, b"x")
    _failing(monkeypatch, "preadv", code, lambda *_: True)

    with pytest.raises(kind, match=r"Reading x_0\.tar failed"):
        _read(share)


def test_a_file_that_cannot_be_looked_at_after_opening_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = PosixShare(tmp_path)
    _write(share, b"x")
    opened: list[int] = []

    def is_ours(descriptor: int) -> bool:
        ours = Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path / PATH
        if ours:
            opened.append(descriptor)
        return ours

    _failing(monkeypatch, "fstat", errno.ESTALE, is_ours)

    with pytest.raises(TransientError):
        _read(share)
    (descriptor,) = opened
    link = Path(f"/proc/self/fd/{descriptor}")
    assert not link.is_symlink() or link.readlink() != tmp_path / PATH


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    share = PosixShare(tmp_path)
    original, content = os.write, bytes(range(256)) * 20
    monkeypatch.setattr(
        "archiver.workflow.storage.lts.os.write", lambda descriptor, data: original(descriptor, data[:most])
    )

    _write(share, content)

    assert share.read_small(PATH) == content


def test_short_reads_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share = PosixShare(tmp_path)
    content = bytes(range(256))
    _write(share, content)
    original = os.preadv
    monkeypatch.setattr(
        "archiver.workflow.storage.lts.os.preadv",
        lambda descriptor, buffers, offset: original(descriptor, [buffers[0][:10]], offset),
    )

    assert _read(share) == content


def test_a_rename_whose_reply_was_lost_is_settled_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, original = PosixShare(tmp_path), Path.replace

    def replace(self: Path, target: Path) -> None:
        original(self, target)
        raise FileNotFoundError(errno.ENOENT, "the server had done it when it was asked again")

    monkeypatch.setattr(Path, "replace", replace)

    _write(share, b"content")

    assert share.read_small(PATH) == b"content"
    assert share.names(FOLDER) == [("x_0.tar", False)]


@pytest.mark.parametrize("before", [None, b"of another attempt"])
def test_a_rename_that_did_not_happen_is_not_taken_for_one_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    share = PosixShare(tmp_path)
    if before is not None:
        _write(share, before)

    def replace(self: Path, target: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(Path, "replace", replace)

    with pytest.raises(PermanentError, match=r"Putting x_0\.tar in place failed"):
        _write(share, b"content", attempt="2")
    assert share.read_small(PATH) == before


def test_a_file_and_its_folders_are_durable_when_commit_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every new folder's parent, the file before its rename and its folder after."""
    synced: list[str] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)))
        original(descriptor)

    monkeypatch.setattr("archiver.workflow.storage.lts.os.fsync", fsync)

    _write(PosixShare(tmp_path), b"x", "a/b/file")

    assert synced == [".", "a", f"a/b/file{TEMPORARY_MARK}1", "a/b"]


def _in_a_circle(share: Path) -> None:
    (share / "datasets").mkdir()
    (share / "datasets/x").symlink_to("x")


def _in_a_file(share: Path) -> None:
    (share / "datasets").write_bytes(b"")


CALLS: list[Callable[[PosixShare], object]] = [
    lambda share: share.remove_unsealed(PATH),
    lambda share: share.remove_withdrawn(PATH),
    lambda share: share.remove_empty_folder(FOLDER),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("lead", [_in_a_circle, _in_a_file])
def test_a_path_at_which_nobody_can_look_is_not_taken_for_one_where_nothing_is(
    tmp_path: Path, lead: Callable[[Path], None], call: Callable[[PosixShare], object]
) -> None:
    lead(tmp_path)

    with pytest.raises(PermanentError, match="Removing"):
        call(PosixShare(tmp_path))


def _make_stale(monkeypatch: pytest.MonkeyPatch, stale: Path) -> None:
    """The handle of this file or folder; what only says yes or no says no then, as from Python 3.14 on."""
    look = os.stat

    def fail(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if str(path) == str(stale):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return look(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", fail)
    monkeypatch.setattr(os, "lstat", fail)
    monkeypatch.setattr(Path, "exists", os.path.exists)
    monkeypatch.setattr(Path, "is_dir", os.path.isdir)


@pytest.mark.parametrize(
    ("call", "stale"),
    [
        *zip(CALLS, (PATH, PATH, FOLDER), strict=True),
        (lambda share: _write(share, b"y", attempt="2"), PATH),
        (lambda share: _write(share, b"y", f"{FOLDER}/new/file"), f"{FOLDER}/new"),
    ],
)
def test_a_stale_file_handle_is_not_taken_for_a_file_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[PosixShare], object], stale: str
) -> None:
    share = PosixShare(tmp_path)
    _write(share, b"x")
    share.seal(PATH)
    with monkeypatch.context() as patched:
        _make_stale(patched, tmp_path / stale)
        with pytest.raises(TransientError, match="Stale file handle"):
            call(share)

    assert share.read_small(PATH) == b"x"


def test_a_stale_share_is_not_given_another_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = initialise_share(tmp_path)
    with monkeypatch.context() as patched:
        _make_stale(patched, tmp_path / IDENTITY_FILE)
        with pytest.raises(TransientError, match="Looking at"):
            initialise_share(tmp_path)

    assert initialise_share(tmp_path) == before


def test_root_too_is_held_to_the_seal(tmp_path: Path) -> None:
    """A read-only mode does not stop root; the share itself must."""
    share = PosixShare(tmp_path)
    _write(share, b"x")
    share.seal(PATH)

    assert stat.S_IMODE((tmp_path / PATH).stat().st_mode) == 0o444
    assert share.remove_unsealed(PATH) is False
