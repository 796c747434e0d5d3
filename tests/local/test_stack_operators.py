"""The commands of operators, on the whole service of this machine."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from archiver.cli.main import app
from archiver.config.settings import LedgerSettings
from archiver.local.stack import Stack
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import IDENTITY_FILE, initialise_share
from support.instrument import Instrument, eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

_GROUPS = {"settings", "ledger", "s3", "scicat", "keycloak", "prefect", "share", "scratch", "notify", "backup"}
_NOT_THERE = {("notify", "addresses"), ("backup", "age")}
"""What the embedded service has not, so that there is nothing to look at."""


def archiver(stack: Stack, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--folder", str(stack.folder)])


def answer(done: Result) -> dict[str, Any]:
    """What a command answered as JSON."""
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["complete"]
    return found


@pytest.fixture
def instrument(stack: Stack) -> Instrument:
    return Instrument(stack)


@pytest.fixture
def paused(stack: Stack) -> Iterator[None]:
    """A service whose runs wait."""
    try:
        assert archiver(stack, "pause").exit_code == 0
        yield
    finally:
        assert archiver(stack, "resume").exit_code == 0


def runs(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer(archiver(stack, "jobs", job_id, "--json"))["runs"]
    return found


def test_the_doctor_finds_nothing_wrong_with_a_service_that_is_well(stack: Stack) -> None:
    done = archiver(stack, "doctor", "--json")

    found = answer(done)["findings"]
    others = [each for each in found if each["verdict"] != "good"]
    assert {(each["group"], each["name"]) for each in others if each["verdict"] == "skipped"} == _NOT_THERE
    assert len(others) == len(_NOT_THERE)
    assert {each["group"] for each in found} == _GROUPS
    assert done.exit_code == 0


def test_the_doctor_leaves_nothing_behind(stack: Stack) -> None:
    archiver(stack, "doctor", "--only", "share", "--only", "s3")

    left = [path for path in (stack.folder / "lts").rglob("*") if "doctor" in path.name]
    assert left == []


def test_a_dry_doctor_does_not_try_what_it_would_have_to_write(stack: Stack) -> None:
    done = archiver(stack, "doctor", "--json", "--dry-run", "--only", "share", "--only", "s3", "--only", "scicat")

    assert {each["name"] for each in answer(done)["findings"] if each["verdict"] == "skipped"} == {
        "rights",
        "write, fsync, rename, read back",
        "delete datablocks",
    }


@pytest.mark.parametrize(
    ("setting", "value", "group", "hint"),
    [
        ("S3_PASSWORD", "wrong", "s3", "S3_PASSWORD"),
        ("SCICAT_PASSWORD", "wrong", "scicat", "SCICAT_PASSWORD"),
        ("IDP_PASSWORD", "wrong", "keycloak", "IDP_PASSWORD"),
        ("IDP_URL", "http://127.0.0.1:9", "keycloak", "IDP_URL"),
        ("PREFECT_API_AUTH_STRING", "wrong:wrong", "prefect", "PREFECT_API_AUTH_STRING"),
        ("LEDGER_URL", "postgresql+psycopg://nobody:wrong@127.0.0.1:9/ledger", "ledger", "LEDGER_URL"),
        ("LTS_ROOT_FOLDER", "/nowhere", "share", "not mounted"),
        ("ARCHIVER_SCRATCH_FOLDER", "/nowhere", "scratch", "/nowhere"),
    ],
)
def test_the_doctor_says_what_to_mend(stack: Stack, setting: str, value: str, group: str, hint: str) -> None:
    environment = stack.environment | {setting: value}
    done = CliRunner().invoke(app, ["doctor", "--json", "--only", group], env=environment)

    bad = [each["detail"] for each in answer(done)["findings"] if each["verdict"] == "bad"]
    assert any(hint in detail for detail in bad), bad
    assert done.exit_code == 3


def test_the_doctor_finds_another_share_than_the_archives_own(stack: Stack, tmp_path: Path) -> None:
    # The first run makes the share the archive's; here it need not have been yet.
    with _ledger(stack) as ledger:
        ledger.remember("lts_identity", (stack.folder / "lts" / IDENTITY_FILE).read_text().strip())
    other = initialise_share(tmp_path)
    environment = stack.environment | {"LTS_ROOT_FOLDER": str(tmp_path)}
    done = CliRunner().invoke(app, ["doctor", "--only", "share"], env=environment)

    assert done.exit_code == 3
    assert f"{other} is mounted" in done.stdout


def _ledger(stack: Stack) -> Ledger:
    return Ledger.open(stack.settings(LedgerSettings))


def outside(stack: Stack, **changes: str) -> Result:
    """`archiver status` as it is given beside a service in containers: by its environment alone."""
    return CliRunner().invoke(app, ["status", "--json"], env=stack.environment | changes)


def test_the_status_of_a_service_is_told_from_its_ledger_its_queue_and_its_share(stack: Stack) -> None:
    with _ledger(stack) as ledger:
        ledger.remember("lts_identity", (stack.folder / "lts" / IDENTITY_FILE).read_text().strip())
    assert eventually(lambda: json.loads(outside(stack).stdout)["service"]["reconciled_at"] is not None)

    found = json.loads(outside(stack).stdout)

    assert "parts" not in found
    assert found["service"]["share_now"]["free_bytes"] > 0
    assert {len(pool["online"]) for pool in found["service"]["pools"]} == {1}
    assert not [each for each in found["concerns"] if "failed" not in each]
    embedded = json.loads(archiver(stack, "status", "--json").stdout)
    assert embedded["phase"] == "ready"
    assert embedded["service"]["archived"] == found["service"]["archived"]


@pytest.mark.parametrize(
    ("setting", "value", "concern"),
    [
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", "Prefect"),
        ("LTS_ROOT_FOLDER", "/nowhere", "Long-term storage"),
    ],
)
def test_the_status_names_what_is_away_and_still_shows_the_rest(
    stack: Stack, setting: str, value: str, concern: str
) -> None:
    with _ledger(stack) as ledger:
        ledger.remember("lts_identity", (stack.folder / "lts" / IDENTITY_FILE).read_text().strip())

    done = outside(stack, **{setting: value})

    found = json.loads(done.stdout)
    assert done.exit_code == 3
    assert [each for each in found["concerns"] if concern in each]
    assert found["service"]["capacity_bytes"] > 0


def test_without_its_ledger_nothing_is_known_of_a_service(stack: Stack) -> None:
    done = outside(stack, LEDGER_URL="postgresql+psycopg://nobody:wrong@127.0.0.1:9/ledger")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "ledger" in done.stderr


def test_a_pause_is_a_concern_of_the_status(stack: Stack, paused: None) -> None:
    done = archiver(stack, "status")

    assert done.exit_code == 3
    assert "is paused: its runs wait" in done.stdout


def test_a_failed_job_is_listed_shown_and_tried_again(stack: Stack, instrument: Instrument) -> None:
    job = instrument.submit_without_files()
    assert eventually(lambda: instrument.status(job) == "finishedWithDatasetErrors")

    listed = {each["job"]: each for each in answer(archiver(stack, "jobs", "--failed", "--json"))["jobs"]}
    assert [run["state"] for run in listed[job]["runs"]] == ["Failed"]
    assert "missing.mrc" in archiver(stack, "jobs", job).stdout

    planned = answer(archiver(stack, "retry", job, "--dry-run", "--json"))
    assert (planned["attempt"], planned["run"]) == (2, None)
    assert len(runs(stack, job)) == 1

    assert archiver(stack, "retry", job).exit_code == 0
    assert eventually(lambda: [run["state"] for run in runs(stack, job)] == ["Failed", "Failed"])
    assert eventually(lambda: instrument.status(job) == "finishedWithDatasetErrors")


def test_a_job_that_waits_is_cancelled_and_the_catalogue_is_told(
    stack: Stack, instrument: Instrument, paused: None
) -> None:
    job = instrument.submit_without_files()
    assert eventually(lambda: len(runs(stack, job)) == 1)

    refused = archiver(stack, "retry", job)
    assert refused.exit_code == 1
    assert "is at work" in refused.stderr
    assert archiver(stack, "cancel", job, "--dry-run").exit_code == 0
    assert [run["state"] for run in runs(stack, job)] != ["Cancelled"]
    assert archiver(stack, "cancel", job).exit_code == 0

    assert eventually(lambda: [run["state"] for run in runs(stack, job)] == ["Cancelled"])
    assert eventually(lambda: instrument.status(job) == "finishedUnsuccessful")
    again = archiver(stack, "cancel", job)
    assert again.exit_code == 1
    assert "nothing to cancel" in again.stderr


def test_runs_wait_while_the_service_is_paused_and_start_when_it_goes_on(stack: Stack, instrument: Instrument) -> None:
    assert archiver(stack, "pause", "--dry-run").exit_code == 0
    assert {each["changed"] for each in answer(archiver(stack, "pause", "--json"))["pools"]} == {True}
    try:
        assert {each["changed"] for each in answer(archiver(stack, "pause", "--json"))["pools"]} == {False}
        job = instrument.submit_without_files()
        assert eventually(lambda: len(runs(stack, job)) == 1)
        doctor = answer(archiver(stack, "doctor", "--only", "prefect", "--json"))
        assert [each["verdict"] for each in doctor["findings"] if each["name"].startswith("pool")] == ["warning"] * 2
        # A worker asks every second; a run it could have would be gone from here by now.
        threading.Event().wait(4)
        assert runs(stack, job)[0]["state"] in ("Scheduled", "Late")
        assert job in archiver(stack, "jobs").stdout
    finally:
        assert archiver(stack, "resume").exit_code == 0
    assert eventually(lambda: instrument.status(job) == "finishedWithDatasetErrors")


def test_an_unknown_job_is_named(stack: Stack) -> None:
    done = archiver(stack, "jobs", "00000000-0000-0000-0000-000000000000")

    assert done.exit_code == 1
    assert "00000000-0000-0000-0000-000000000000" in done.stderr
