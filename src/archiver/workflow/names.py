"""Where things lie: keys, folders and identifiers that follow from a data set's pid. Pure."""

import re
from itertools import accumulate

from archiver.workflow.errors import UnsafeNameError

DATASETS_FOLDER = "openem-network/datasets"
PAYLOAD_FOLDER = "data/datablocks"
RAW_FILES = "raw_files"
MAX_KEY_BYTES = 1024
"""S3's limit for a key."""
MAX_NAME_BYTES = 255
"""Limit of file systems for one path segment."""

TAG_FOLDER = "archiver"
"""Folder of a bag that holds our own tag files."""
RETIREMENT_FOLDER = "archiver-retirement"
"""Folder beside the bag's own that tells that a data set was withdrawn; it stays when the bag is removed."""
TEMPORARY_MARK = ".part-"
"""In the name of a file on the share that is not finished."""

SMOKE_PREFIX = "archiver-smoke-test"
"""First segment of the pids of smoke tests, whose bags lie in a share of their own; no other pid begins with it."""

_RESERVED_SEGMENTS = {"data", "datablocks", TAG_FOLDER, RETIREMENT_FOLDER, RAW_FILES}
_LONGEST_PID = MAX_NAME_BYTES - len(f"_000000.tar.jsonl{TEMPORARY_MARK}0123456789abcdef")
"""What is left for the pid in the longest name that is made of it: the unfinished index of a datablock."""
_PID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:@+=()-]*(/[A-Za-z0-9][A-Za-z0-9._~:@+=()-]*)*")


def check_pid(pid: str) -> str:
    """`pid` itself, when it can safely name a folder and a key.

    Letters, digits and `._~:@+=()-`, segments parted by `/`, each beginning with a letter or digit (so
    neither `..` nor an absolute path), none named like a folder of a bag or like an unfinished file.

    Raises:
        UnsafeNameError: it cannot.
    """
    segments = pid.split("/")
    if (
        not _PID.fullmatch(pid)
        or len(pid) > _LONGEST_PID
        or TEMPORARY_MARK in pid
        or any(segment.lower() in _RESERVED_SEGMENTS for segment in segments)
        or any(segment.lower().endswith((".tar", ".txt")) for segment in segments)
    ):
        raise UnsafeNameError(
            f"The pid {pid!r} cannot name a folder of the archive: use letters, digits and ._~:@+=()- "
            f"in segments parted by '/', at most {_LONGEST_PID} characters."
        )
    return pid


def _encodable(text: str) -> bool:
    """Lone surrogates can come through JSON, but never through S3 or to another system."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_file_path(path: str) -> str:
    """`path` itself, when it is a relative path that stays inside the data set.

    Raises:
        UnsafeNameError: it is absolute, has an empty, `.` or `..` segment, a NUL, a backslash (some S3 servers
            and clients take it for a slash), a segment too long for a file system, or is no valid Unicode.
    """
    segments = path.split("/")
    if (
        not path
        or "\0" in path
        or "\\" in path
        or not _encodable(path)
        or any(segment in ("", ".", "..") for segment in segments)
        or any(len(segment.encode()) > MAX_NAME_BYTES for segment in segments)
    ):
        raise UnsafeNameError(
            "A file name must be a relative path without empty, '.' or '..' segments and backslashes, "
            f"each segment at most {MAX_NAME_BYTES} bytes: {path!r}."
        )
    return path


def dataset_prefix(pid: str) -> str:
    """Key prefix of a data set in the landing zone; ends in a slash, so that `x/1` never matches `x/12`."""
    return f"{DATASETS_FOLDER}/{check_pid(pid)}/{RAW_FILES}/"


def file_path_of_key(pid: str, key: str) -> str:
    """Path of a file inside its data set, from its key in the landing zone.

    Raises:
        UnsafeNameError: the key lies outside the data set's prefix or is no safe path.
    """
    prefix = dataset_prefix(pid)
    if not key.startswith(prefix) or not _encodable(key) or len(key.encode()) > MAX_KEY_BYTES:
        raise UnsafeNameError(
            f"The object name must begin with {prefix!r}, and be at most {MAX_KEY_BYTES} bytes: {key!r}."
        )
    return check_file_path(key.removeprefix(prefix))


def bag_folder(pid: str) -> str:
    """Folder of a data set's bag, relative to the root of the share."""
    return f"{DATASETS_FOLDER}/{check_pid(pid)}"


def datablock_name(pid: str, index: int) -> str:
    """File name of a datablock."""
    return f"{check_pid(pid).replace('/', '-')}_{index}.tar"


def archive_id(pid: str, index: int) -> str:
    """`archiveId` of a datablock: its path relative to the share's root, and its key when retrieved."""
    return f"{bag_folder(pid)}/{PAYLOAD_FOLDER}/{datablock_name(pid, index)}"


def selection_key(pid: str, digest: str) -> str:
    """Key of a tar of single files in the retrieval bucket; `digest` tells what was asked for."""
    return f"{bag_folder(pid)}/selections/{check_pid(pid).replace('/', '-')}_files-{digest}.tar"


def check_archive_id(value: str) -> str:
    """An `archiveId` read from the catalogue, when it may be used as a path on the share.

    Opaque otherwise: both today's layout and the older service's are accepted.

    Raises:
        UnsafeNameError: it leaves the folder of data sets or names no tar.
    """
    check_file_path(value)
    if not value.startswith(DATASETS_FOLDER + "/") or not value.endswith(".tar"):
        raise UnsafeNameError(f"The archiveId {value!r} does not name a datablock of this archive.")
    return value


def is_older_layout(pid: str, value: str) -> bool:
    """Whether an `archiveId` names a tar of the older service, which kept no bag: `<pid>/datablocks/<name>.tar`."""
    return value.startswith(f"{bag_folder(pid)}/datablocks/") and value.count("/") == bag_folder(pid).count("/") + 2


def parent_folders(path: str) -> list[str]:
    """All folders above `path`, outermost first."""
    return list(accumulate(path.split("/")[:-1], "{}/{}".format))
