"""The flows of operators on a Prefect server."""

from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State

from archiver.workflow.flows.smoke import create_dataset, end_to_end_test
from archiver.workflow.smoke_share import SMOKE_FOLDER
from support.facility import Facility
from support.operators_channel import run_receiver

# A plugin of apprise imports it where it still exists.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def test_the_end_to_end_test_passes_and_tells_sizes_and_rates(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_receiver() as receiver:
        monkeypatch.setenv("NOTIFY_URLS", receiver.url)
        state: State[Any] = end_to_end_test(file_size_MB=1, num_files=3, return_state=True)

    assert receiver.titles == []
    assert state.is_completed(), state.message
    assert state.message is not None
    assert "3 files, 3.0 MB in 1 datablocks came back" in state.message
    assert "MB/s" in state.message
    assert list((registered.lts_root / SMOKE_FOLDER).iterdir()) == []
    assert registered.tools.ledger.datasets() == []


def test_an_end_to_end_test_that_fails_says_at_which_stage_and_tells_operators(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    (registered.lts_root / ".archiver-share-identity").rename(registered.lts_root.parent / "identity")

    with run_receiver() as receiver:
        monkeypatch.setenv("NOTIFY_URLS", receiver.url)
        state: State[Any] = end_to_end_test(file_size_MB=0, num_files=1, return_state=True)

    assert state.is_failed()
    assert "not mounted" in (state.message or "")
    (told,) = receiver.got
    assert (told["title"], told["type"]) == ("Archiver: end_to_end_test failed", "failure")
    assert told["message"] == state.message


def test_a_created_data_set_can_be_archived(registered: Facility) -> None:
    pid = f"20.500.11935/{uuid4()}"

    state: State[Any] = create_dataset(dataset_id=pid, file_size_MB=1, num_files=2, return_state=True)

    assert state.is_completed(), state.message
    assert f"{pid}: created, 2 files" in (state.message or "")
    assert registered.archive(pid).payload_bytes == 2_000_000


def test_a_created_data_set_gets_a_pid_that_the_message_tells(registered: Facility) -> None:
    state: State[Any] = create_dataset(file_size_MB=0, num_files=1, return_state=True)

    assert state.is_completed(), state.message
    pid = (state.message or "").partition(": ")[0]
    assert registered.archive(pid).files == 1


def test_a_data_set_that_is_there_already_is_refused(registered: Facility) -> None:
    pid = registered.new_dataset()

    state: State[Any] = create_dataset(dataset_id=pid, return_state=True)

    assert state.is_failed()
    assert f"{pid}: SciCat has a data set {pid} already" in (state.message or "")
