"""A folder that files of an archive are put into: nothing outside of it is touched, nothing in it overwritten.

Every part of a path is opened relative to the folder above it and never through a link, so that neither a name
from a damaged index nor a link that lies there already leads anywhere else.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from archiver.workflow.errors import PermanentError, UnsafeNameError
from archiver.workflow.names import TEMPORARY_MARK, check_file_path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
"""No file becomes set-id by being extracted."""
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}
_NOTHING_WILL_DO = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class CannotExtractError(Exception):
    """This file or folder cannot be put into the folder; the message says why. Others can."""


class TargetUnusableError(PermanentError):
    """Nothing can be written to the folder, or nothing more."""

    code = "target-unusable"


_EXISTS = "it exists already, and was not overwritten"


class ForeseenFolder:
    """The folder as it would be used; nothing in it is touched, and it need not exist.

    Raises:
        TargetUnusableError: it could not be used.
    """

    def __init__(self, root: Path, *, overwrite: bool) -> None:
        self._root = root
        self._overwrite = overwrite
        above = next(each for each in (root, *root.parents) if os.path.lexists(each))
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise TargetUnusableError(
                f"{root} cannot be used as a folder: {above} is no folder that can be written to."
            )

    def check_folder(self, path: str) -> None:
        """Make sure that a folder could be made.

        Raises:
            CannotExtractError: it could not, or the path is unsafe.
        """
        self._check_folders(self._segments(path))

    def check_file(self, path: str) -> None:
        """Make sure that a file could be made.

        Raises:
            CannotExtractError: it could not, it exists already and may not be overwritten, or the path is unsafe.
        """
        *above, name = self._segments(path)
        self._check_folders(above)
        file = self._root.joinpath(*above, name)
        if os.path.lexists(file) and (not self._overwrite or _is_folder(file)):
            raise CannotExtractError(_EXISTS)

    @staticmethod
    def _segments(path: str) -> list[str]:
        try:
            return check_file_path(path).split("/")
        except UnsafeNameError as error:
            raise CannotExtractError(str(error)) from error

    def _check_folders(self, segments: Sequence[str]) -> None:
        inner = self._root
        for segment in segments:
            inner /= segment
            if os.path.lexists(inner) and not _is_folder(inner):
                raise CannotExtractError(f"{inner} is there, and is no folder")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


class TargetFolder:
    """The folder, for the time of a `with` block."""

    def __init__(self, root: Path, *, overwrite: bool) -> None:
        self._root = root
        self._overwrite = overwrite
        self._descriptor = -1
        self._parent: tuple[str, int] | None = None
        """The folder used last, kept open: members come sorted by path."""
        self._created: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetUnusableError(f"{self._root} cannot be used as a folder: {error.strerror}.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_parent()
        os.close(self._descriptor)

    def make_folder(self, path: str) -> None:
        """Make a folder, and those above it, where they do not exist.

        Raises:
            CannotExtractError: it cannot be made, or the path is unsafe.
        """
        with self._explained():
            self._open_folder(path)

    def was_made(self, path: str) -> bool:
        """Whether the folder did not exist before."""
        return path in self._created

    def restore_folder(self, path: str, mode: int, mtime: int) -> None:
        """Give a folder its mode and time.

        To be called after the last file is in it, the innermost first.

        Raises:
            CannotExtractError: they cannot be set.
        """
        with self._explained():
            self._restore(self._open_folder(path), mode, mtime)
        self._close_parent()

    @contextmanager
    def new_file(self, path: str, mode: int, mtime: int) -> Iterator[int]:
        """A descriptor to write a file's content to; the file appears, complete, when the block ends well.

        Raises:
            CannotExtractError: it exists already and may not be overwritten, or cannot be made.
            TargetUnusableError: the file system is full, or read-only.
        """
        above, _, name = path.rpartition("/")
        with self._explained():
            check_file_path(path)
            parent = self._open_folder(above)
            self._refuse_existing(name, parent)
            temporary = f"{TEMPORARY_MARK}{secrets.token_hex(8)}"
            descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=parent)
            try:
                try:
                    yield descriptor
                    self._restore(descriptor, mode, mtime)
                finally:
                    os.close(descriptor)
                self._put_in_place(temporary, name, parent)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)

    def _refuse_existing(self, name: str, parent: int) -> None:
        if self._overwrite:
            return
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=parent, follow_symlinks=False)
            raise CannotExtractError(_EXISTS)

    def _put_in_place(self, temporary: str, name: str, parent: int) -> None:
        if not self._overwrite:
            try:
                # Unlike a rename, a link never replaces what another process put there meanwhile.
                os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                raise CannotExtractError(_EXISTS) from None
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                self._refuse_existing(name, parent)
            else:
                return
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)

    @staticmethod
    def _restore(descriptor: int, mode: int, mtime: int) -> None:
        os.fchmod(descriptor, mode & _PERMISSIONS)
        os.utime(descriptor, (mtime, mtime))

    def _open_folder(self, path: str) -> int:
        """Descriptor of a folder inside, made where it does not exist; stays open until another is asked for."""
        if not path:
            return self._descriptor
        if self._parent is not None and self._parent[0] == path:
            return self._parent[1]
        self._close_parent()
        descriptor = os.dup(self._descriptor)
        done = ""
        for segment in check_file_path(path).split("/"):
            done = f"{done}/{segment}" if done else segment
            try:
                inner = self._open_or_make(segment, descriptor, done)
            finally:
                os.close(descriptor)
            descriptor = inner
        self._parent = (path, descriptor)
        return descriptor

    def _open_or_make(self, segment: str, parent: int, path: str) -> int:
        try:
            os.mkdir(segment, dir_fd=parent)
        except FileExistsError:
            pass
        else:
            self._created.add(path)
        return os.open(segment, _FOLDER, dir_fd=parent)

    def _close_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UnsafeNameError as error:
            raise CannotExtractError(str(error)) from error
        except OSError as error:
            if error.errno in _NOTHING_WILL_DO:
                raise TargetUnusableError(
                    f"Nothing more can be written to {self._root}: {error.strerror}. What was extracted is complete; "
                    "make space, then extract the rest."
                ) from error
            raise CannotExtractError(f"{error.strerror} ({errno.errorcode.get(error.errno or 0, '?')})") from error
