"""The configuration for the embedded stack: three accounts, three types of jobs, one hook."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from archiver.local.scicat.config import (
    Account,
    Action,
    GroupLists,
    JobRule,
    JobType,
    ScicatConfig,
    UrlAction,
    ValidateAction,
)

INGESTOR = "ingestor"
ARCHIVER = "archiveManager"
OTHER_USER = "otheruser"
OWNER_GROUP = "p12345"
OTHER_GROUP = "p54321"
_ARCHIVER_GROUP = "archivemanager"

_GROUPS = {
    INGESTOR: ("ingestor", OWNER_GROUP),
    ARCHIVER: (_ARCHIVER_GROUP,),
    OTHER_USER: (OTHER_GROUP,),
}
_HOOK_BODY = '{"id": "{{{ job.id }}}", "type": "{{{ job.type }}}"}'
_TRUE: dict[str, object] = {"const": True}


def stack_config(
    *,
    hook_url: str | None = None,
    hook_username: str = "",
    hook_password: str = "",
    passwords: Mapping[str, str] | None = None,
    data_folder: Path | None = None,
) -> ScicatConfig:
    """Accounts, rights and job types as the archive service wants them from a SciCat.

    Every new job is posted to ``hook_url`` as ``{"id", "type"}`` with HTTP Basic credentials (None: nobody is
    called). An account's password is the one in ``passwords``, or its user name.
    """
    given = passwords or {}
    hook = () if hook_url is None else (_hook(hook_url, hook_username, hook_password),)
    return ScicatConfig(
        accounts=tuple(
            Account(
                username=username,
                password=given.get(username, username),
                email=f"{username.lower()}@facility.test",
                groups=groups,
            )
            for username, groups in _GROUPS.items()
        ),
        groups=GroupLists(
            admin=(_ARCHIVER_GROUP,),
            delete=(_ARCHIVER_GROUP,),
            create_dataset_with_pid=("ingestor",),
            update_dataset_lifecycle=(_ARCHIVER_GROUP,),
            update_job_privileged=(_ARCHIVER_GROUP,),
            delete_job=(_ARCHIVER_GROUP,),
        ),
        jobs=(
            _job_type("archive", "#datasetOwner", {"datasetlifecycle.archivable": _TRUE}, hook),
            _job_type("retrieve", "#datasetAccess", {"datasetlifecycle.retrievable": _TRUE}, hook),
            _job_type("public", "#datasetPublic", {"isPublished": _TRUE}, hook),
        ),
        config_version="archiver-local-1",
        data_folder=data_folder,
    )


def _job_type(name: str, auth: str, needed: dict[str, dict[str, object]], hook: tuple[Action, ...]) -> JobType:
    return JobType(
        job_type=name,
        create=JobRule(auth=auth, actions=(ValidateAction(datasets=needed), *hook)),
        update=JobRule(auth=f"@{_ARCHIVER_GROUP}"),
    )


def _hook(url: str, username: str, password: str) -> UrlAction:
    credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
    return UrlAction(
        url=url,
        method="POST",
        headers={"content-type": "application/json", "authorization": f"Basic {credentials}"},
        body=_HOOK_BODY,
    )
