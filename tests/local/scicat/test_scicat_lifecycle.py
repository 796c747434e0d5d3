"""The lifecycle endpoints: shallow merge in v3, deep merge in v4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest


@pytest.fixture
def lifecycle(new_dataset: Callable[..., str], path_of: Callable[..., str]) -> Callable[[int], str]:
    """Makes the path of one data set's lifecycle in a version of the API."""
    pid = new_dataset()
    return lambda version: path_of(pid, "datasetlifecycle", version=version)


def test_a_v3_patch_overwrites_the_given_fields_and_shows_all(
    archiver: httpx.Client, lifecycle: Callable[[int], str]
) -> None:
    before = archiver.get(lifecycle(3)).json()
    reply = archiver.patch(lifecycle(3), json={"archivable": False, "archiveStatusMessage": "started"})
    assert reply.status_code == 200
    assert reply.json() == {**before, "archivable": False, "archiveStatusMessage": "started"}
    assert archiver.get(lifecycle(4)).json() == reply.json()


def test_objects_replace_in_v3_and_merge_in_v4(archiver: httpx.Client, lifecycle: Callable[[int], str]) -> None:
    archiver.patch(lifecycle(4), json={"archiveReturnMessage": {"a": 1}})
    merged = archiver.patch(lifecycle(4), json={"archiveReturnMessage": {"b": 2}})
    assert merged.json()["archiveReturnMessage"] == {"a": 1, "b": 2}
    less = archiver.patch(lifecycle(4), json={"archiveReturnMessage": {"a": None}})
    assert less.json()["archiveReturnMessage"] == {"b": 2}
    replaced = archiver.patch(lifecycle(3), json={"archiveReturnMessage": {"c": 3}})
    assert replaced.json()["archiveReturnMessage"] == {"c": 3}
    text = archiver.patch(lifecycle(4), json={"archiveReturnMessage": "plain"})
    assert text.json()["archiveReturnMessage"] == "plain"


def test_a_null_is_stored_in_v3_and_resets_in_v4(archiver: httpx.Client, lifecycle: Callable[[int], str]) -> None:
    archiver.patch(lifecycle(3), json={"archivable": False, "storageLocation": "here"})
    reset = archiver.patch(lifecycle(4), json={"archivable": None, "storageLocation": None}).json()
    assert reset["archivable"] is True
    assert "storageLocation" not in reset
    stored = archiver.patch(lifecycle(3), json={"archivable": None}).json()
    assert stored["archivable"] is None


def test_an_empty_object_is_not_stored(archiver: httpx.Client, lifecycle: Callable[[int], str]) -> None:
    assert "archiveReturnMessage" not in archiver.get(lifecycle(3)).json()
    for version in (3, 4):
        reply = archiver.patch(lifecycle(version), json={"archiveReturnMessage": {}, "retrievable": True})
        assert "archiveReturnMessage" not in reply.json()


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"archivable": "no"}, ["archivable must be a boolean value"]),
        ({"surprise": 1}, ["property surprise should not exist"]),
        ({"archiveStatusMessage": 5}, ["archiveStatusMessage must be a string"]),
    ],
)
def test_wrong_fields_are_named(
    archiver: httpx.Client,
    lifecycle: Callable[[int], str],
    version: int,
    body: dict[str, Any],
    message: list[str],
) -> None:
    reply = archiver.patch(lifecycle(version), json=body)
    assert (reply.status_code, reply.json()["message"]) == (400, message)


@pytest.mark.parametrize("version", [3, 4])
def test_owner_lifecycle_group_and_admin_may_and_others_may_not(
    alice: httpx.Client,
    bob: httpx.Client,
    admin: httpx.Client,
    archiver: httpx.Client,
    anonymous: httpx.Client,
    path_of: Callable[..., str],
    lifecycle: Callable[[int], str],
    version: int,
) -> None:
    change = {"archivable": False}
    for client, status in ((alice, 200), (admin, 200), (archiver, 200), (bob, 403), (anonymous, 403)):
        assert client.patch(lifecycle(version), json=change).status_code == status
    assert archiver.patch(lifecycle(version), json={}).status_code == 400
    unknown = path_of("no/ne", "datasetlifecycle", version=version)
    assert archiver.patch(unknown, json=change).status_code == 404
    assert archiver.get(unknown).status_code == 404
    assert bob.get(lifecycle(version)).status_code == 403


def test_part_of_a_lifecycle_groups_name_is_enough(
    sign_in: Callable[[str], httpx.Client], lifecycle: Callable[[int], str]
) -> None:
    # The group "archive" is part of "archivemanager"; the backend never splits that list.
    assert sign_in("substring").patch(lifecycle(4), json={"archivable": False}).status_code == 200


def test_v4_merges_whatever_the_content_type(archiver: httpx.Client, lifecycle: Callable[[int], str]) -> None:
    for kind in ("application/json", "application/merge-patch+json"):
        archiver.patch(lifecycle(4), json={"retrieveReturnMessage": {kind: 1}}, headers={"content-type": kind})
    assert set(archiver.get(lifecycle(4)).json()["retrieveReturnMessage"]) == {
        "application/json",
        "application/merge-patch+json",
    }


def test_any_value_and_transition_is_accepted(archiver: httpx.Client, lifecycle: Callable[[int], str]) -> None:
    for message in ("datasetOnArchiveDisk", "datasetCreated", "anything at all"):
        reply = archiver.patch(lifecycle(4), json={"archiveStatusMessage": message})
        assert reply.json()["archiveStatusMessage"] == message
