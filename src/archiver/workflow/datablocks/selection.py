"""Which files of a data set are asked for. Pure."""

import hashlib
from collections.abc import Iterable

from archiver.workflow.names import parent_folders


def canonical(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, sorted, a folder without the slash it may end in."""
    return tuple(sorted({name.rstrip("/") or name for name in names}))


def selection_digest(names: Iterable[str]) -> str:
    """The same for the same files asked for, in whatever order: 16 hexadecimal digits."""
    text = "\0".join(canonical(names))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Selection:
    """Files by their paths in the data set; the name of a folder stands for all that lies in it."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(canonical(names))
        self._found: set[str] = set()

    def takes(self, path: str) -> bool:
        """Whether this file or folder is asked for."""
        named = [name for name in (path, *parent_folders(path)) if name in self._names]
        self._found.update(named)
        return bool(named)

    def not_found(self) -> tuple[str, ...]:
        """Names of which nothing was taken so far."""
        return tuple(sorted(self._names - self._found))
