"""What a registration tells about each thing it looked at, and its error."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class ConfigurationError(Exception):
    """Something that shall be registered is wrong, or the server does not take it. The message says what to do."""


class Action(StrEnum):
    """What was done with a thing (or, in a dry run, would be)."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """On the server, and given by nothing here: made by hand, or no longer wanted. Whoever registers may know."""


@dataclass(frozen=True)
class Change:
    """One thing on the server. `detail` never holds a secret."""

    kind: str
    name: str
    action: Action
    detail: str = ""


def keep(kind: str, name: str, value: str = "") -> Change:
    """Tell that a thing is on the server though nothing here gives it. It is left as it is."""
    was = f"{value}; " if value else ""
    return Change(kind, name, Action.KEPT, f"{was}set by nothing here: remove it in Prefect where it is not wanted")


def settle(
    kind: str,
    name: str,
    *,
    exists: bool,
    equal: bool,
    write: Callable[[], object],
    dry_run: bool,
    detail: str = "",
) -> Change:
    """Call `write` where the thing is missing or differs (not in a dry run), and tell which."""
    action = Action.UNCHANGED if exists and equal else Action.UPDATED if exists else Action.CREATED
    if action is not Action.UNCHANGED and not dry_run:
        write()
    return Change(kind, name, action, detail)
