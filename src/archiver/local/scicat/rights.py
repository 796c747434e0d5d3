"""What an account may do, derived from its groups; with the holes of the real backend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from archiver.local.scicat.config import GroupLists
from archiver.local.scicat.values import Document


@dataclass(frozen=True)
class Caller:
    """The account behind a request."""

    id: str
    username: str
    email: str
    groups: tuple[str, ...]


class Rights:
    """What ``caller`` (None: anonymous) may do under these group lists."""

    def __init__(self, caller: Caller | None, lists: GroupLists) -> None:
        groups = () if caller is None else caller.groups
        self.caller = caller
        self.groups = frozenset(groups)
        self.admin = _member(groups, lists.admin)
        self.deletes = _member(groups, lists.delete)
        self.privileged = self.admin or _member(groups, lists.create_dataset_privileged)
        self.chooses_pid = self.privileged or _member(groups, lists.create_dataset_with_pid)
        self.named_creator = self.chooses_pid or _member(groups, lists.create_dataset)
        self.creates = self.named_creator or (caller is not None and "#all" in lists.create_dataset)
        self.lifecycle = self.admin or _substring(groups, lists.update_dataset_lifecycle)
        self.deletes_jobs = _substring(groups, lists.delete_job)
        self.job_role = self._job_role(groups, lists)

    def _job_role(
        self, groups: Iterable[str], lists: GroupLists
    ) -> Literal["admin", "create", "update", "user", "anonymous"]:
        # One role only: an account in both privileged lists gets the right to create and nothing more.
        if self.admin:
            return "admin"
        if _substring(groups, lists.create_job_privileged):
            return "create"
        if _substring(groups, lists.update_job_privileged):
            return "update"
        return "anonymous" if self.caller is None else "user"

    def owns(self, document: Document) -> bool:
        """Whether the document's ownerGroup is one of the caller's groups."""
        return document.get("ownerGroup") in self.groups

    def shares(self, document: Document) -> bool:
        """Whether the document is the caller's, shared with the caller, or published."""
        if document.get("isPublished") is True or self.owns(document):
            return True
        if self.groups.intersection(document.get("accessGroups") or ()):
            return True
        return self.caller is not None and self.caller.email in (document.get("sharedWith") or ())

    def reads_dataset(self, dataset: Document) -> bool:
        """Whether the caller may read this data set; the lifecycle groups read any."""
        return self.lifecycle or self.shares(dataset)

    def reads_blocks(self, document: Document) -> bool:
        """Whether the caller may read blocks of this data set (or this block)."""
        return self.admin or self.shares(document)

    def reads_datablock(self, block: Document) -> bool:
        """Whether a list of datablocks shows this one: the delete groups see all."""
        return self.deletes or self.reads_blocks(block)

    def updates_dataset(self, dataset: Document) -> bool:
        """Whether the caller may change this data set."""
        return self.admin or (self.creates and self.owns(dataset))

    def updates_lifecycle(self, dataset: Document) -> bool:
        """Whether the caller may change this data set's lifecycle; its owner may, too."""
        return self.lifecycle or self.updates_dataset(dataset)

    def reads_job(self, job: Document) -> bool:
        """Whether the caller may read this job."""
        if self.job_role in {"admin", "update"}:
            return True
        if self.caller is None:
            return False
        return job.get("ownerUser") == self.caller.username or self.owns(job)


def _member(groups: Iterable[str], listed: Iterable[str]) -> bool:
    return not set(groups).isdisjoint(listed)


def _substring(groups: Iterable[str], listed: Iterable[str]) -> bool:
    # The backend never splits these lists, so part of a listed name is enough.
    joined = ",".join(listed)
    return any(group in joined for group in groups)
