"""What `archiver doctor` sees of shares, SciCat's rights, the operators' channel and backups."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archiver.cli.main import app
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, stack_config
from archiver.local.scicat.testing import run_scicat
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from support.backups import note_backup
from support.bags import new_share

# A plugin of apprise imports it where it still exists.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

_CHECKED = ["identity", "free space", "write, fsync, rename, read back"]


def doctor(environment: dict[str, str], *only: str, dry_run: bool = False) -> tuple[int, dict[tuple[str, str], Any]]:
    """The exit code, and each finding by its group and name."""
    options = [option for group in only for option in ("--only", group)] + ["--dry-run"] * dry_run
    done = CliRunner().invoke(app, ["doctor", "--json", *options], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found = json.loads(done.stdout)
    assert found["complete"]
    return done.exit_code, {(each["group"], each["name"]): each for each in found["findings"]}


@pytest.fixture
def shares(tmp_path: Path) -> list[ShareAddress]:
    """The first share, and two for copies."""
    return [new_share(tmp_path / name) for name in ("lts", "copy 1", "copy 2")]


@pytest.fixture
def environment(shares: list[ShareAddress], ledger_url: str) -> dict[str, str]:
    first, *copies = shares
    return {
        "LEDGER_URL": ledger_url,
        "LTS_ROOT_FOLDER": str(first.root),
        "LTS_COPIES": ";".join(str(copy.root) for copy in copies),
    }


def test_a_share_of_copies_is_looked_at_like_the_first_one_and_nothing_is_left_there(
    environment: dict[str, str], shares: list[ShareAddress]
) -> None:
    code, found = doctor(environment, "share")

    assert code == 0
    assert list(found) == [(group, name) for group in ("share", "copy 1", "copy 2") for name in _CHECKED]
    assert {each["verdict"] for each in found.values()} == {"good"}
    assert [[path.name for path in share.root.iterdir()] for share in shares] == [[IDENTITY_FILE]] * 3


def test_a_dry_doctor_writes_to_no_share(environment: dict[str, str]) -> None:
    _, found = doctor(environment, "share", dry_run=True)

    assert {group for (group, name), each in found.items() if each["verdict"] == "skipped" and name == _CHECKED[2]} == {
        "share",
        "copy 1",
        "copy 2",
    }


def test_a_share_of_copies_that_is_away_is_named_and_the_others_are_still_looked_at(
    environment: dict[str, str], shares: list[ShareAddress]
) -> None:
    (shares[1].root / IDENTITY_FILE).unlink()

    code, found = doctor(environment, "share")

    assert code == 3
    assert {key for key, each in found.items() if each["verdict"] == "bad"} == {("copy 1", "identity")}
    assert str(shares[1].root) in found["copy 1", "identity"]["detail"]
    assert found["copy 2", _CHECKED[2]]["verdict"] == "good"


def test_shares_of_copies_in_another_order_or_mounted_twice_are_found(
    environment: dict[str, str], shares: list[ShareAddress], ledger: Ledger
) -> None:
    first, one, two = shares
    ledger.remember(LTS_IDENTITY, str(first.identity))
    ledger.remember("lts_copy_1_identity", str(one.identity))
    swapped = environment | {"LTS_COPIES": f"{two.root};{one.root}"}

    code, found = doctor(swapped, "share")

    assert code == 3
    assert f"belongs {one.identity}" in found["copy 1", "identity"]["detail"]
    assert "in use as the first share or for another copy" in found["copy 2", "identity"]["detail"]
    assert found["share", "identity"]["verdict"] == "good"
    again = environment | {"LTS_COPIES": f"{one.root};{first.root}"}
    assert "in use" in doctor(again, "share")[1]["copy 2", "identity"]["detail"]


def test_a_share_of_copies_without_room_is_bad(environment: dict[str, str]) -> None:
    code, found = doctor(environment | {"LTS_FREE_SPACE_PERCENTAGE": "99.9999"}, "share")

    assert code == 3
    assert "Make room" in found["copy 1", "free space"]["detail"]


# ---------------------------------------------------------------------------------------------- SciCat


@pytest.fixture(scope="module")
def scicat_url() -> Iterator[str]:
    with run_scicat(stack_config()) as url:
        yield url


def as_account(environment: dict[str, str], scicat_url: str, account: str) -> dict[str, str]:
    return environment | {"SCICAT_ENDPOINT": scicat_url, "SCICAT_USER": account, "SCICAT_PASSWORD": account}


def test_the_right_to_delete_datablocks_is_seen(environment: dict[str, str], scicat_url: str) -> None:
    code, found = doctor(as_account(environment, scicat_url, ARCHIVER), "scicat")

    assert code == 0
    assert found["scicat", "delete datablocks"]["verdict"] == "good"


def test_the_lack_of_the_right_to_delete_says_where_it_is_given(environment: dict[str, str], scicat_url: str) -> None:
    _, found = doctor(as_account(environment, scicat_url, INGESTOR), "scicat")

    assert found["scicat", "delete datablocks"]["verdict"] == "warning"
    assert "DELETE_GROUPS" in found["scicat", "delete datablocks"]["detail"]


# ---------------------------------------------------------------------------------------------- notifications


@pytest.mark.parametrize(
    ("urls", "verdict", "words"),
    [
        ("json://user:hidden@127.0.0.1:9/hook mailto://a:hidden@example.org", "good", "2, each one that apprise knows"),
        ("json://127.0.0.1:9/hook nonsense://hidden", "bad", "Address 2 of NOTIFY_URLS"),
        ("", "skipped", "not set here"),
    ],
)
def test_the_addresses_of_the_operators_channel_are_looked_at_and_not_shown(
    environment: dict[str, str], urls: str, verdict: str, words: str
) -> None:
    code, found = doctor(environment | {"NOTIFY_URLS": urls}, "notify")

    assert found["notify", "addresses"]["verdict"] == verdict
    assert words in found["notify", "addresses"]["detail"]
    assert "hidden" not in str(found)
    assert code == (3 if verdict == "bad" else 0)


# ---------------------------------------------------------------------------------------------- backups


def test_the_age_of_each_backup_is_judged(environment: dict[str, str], ledger: Ledger) -> None:
    stack = environment | {"POSTGRES_BACKUP_HOURS": "24"}

    code, found = doctor(stack, "backup")
    assert code == 3
    assert {each["verdict"] for each in found.values()} == {"bad"}
    assert "No backup was ever noted" in found["backup", "of ledger"]["detail"]

    note_backup(ledger, "ledger", timedelta(hours=24.5))
    note_backup(ledger, "prefect", timedelta(hours=26))
    code, found = doctor(stack, "backup")
    assert code == 3
    assert found["backup", "of ledger"]["verdict"] == "good"
    assert "made 24.5 h ago, one is due every 24 h" in found["backup", "of ledger"]["detail"]
    assert found["backup", "of prefect"]["verdict"] == "bad"


def test_nothing_is_said_of_backups_that_are_not_made_here(environment: dict[str, str]) -> None:
    code, found = doctor(environment, "backup")

    assert code == 0
    assert [each["verdict"] for each in found.values()] == ["skipped"]
