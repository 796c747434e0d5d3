"""What can be wrong with a bag. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class DamageKind(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    ALTERED = "altered"
    UNREADABLE = "unreadable"
    UNLISTED = "unlisted"
    """No manifest knows it, or not the one that must."""
    UNSAFE = "unsafe"
    """A name that leads out of the bag."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a bag that is not as it was published."""

    path: str
    """Of the file in the bag."""
    kind: DamageKind
    detail: str
    member: str | None = None
    """Path of the file in the tar, where it is about one."""

    def __str__(self) -> str:
        where = repr(self.path) if self.member is None else f"{self.path!r}, member {self.member!r}"
        return f"{where} is {self.kind}: {self.detail}"
