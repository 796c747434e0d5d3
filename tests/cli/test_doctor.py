"""What `archiver doctor` sees of shares, SciCat's rights, the operators' channel and backups."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archiver.cli.main import app
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, stack_config
from archiver.local.scicat.testing import run_scicat
from archiver.local.seaweedfs import SeaweedFs
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from support.backups import note_backup
from support.bags import new_share
from support.facility import s3_with_buckets

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


# ---------------------------------------------------------------------------------------------- where it is run

_API_ALONE = ("jwcrypto", "keycloak", "jinja2", "prometheus_client")
_FLOWS_ALONE = ("prefect", "apprise", "docker")


def doctor_without(
    packages: tuple[str, ...], environment: dict[str, str], *only: str, first: str = ""
) -> tuple[int, dict[tuple[str, str], Any]]:
    """The doctor of an image in which these packages are not installed."""
    program = (
        f"import sys\nsys.modules.update(dict.fromkeys({packages!r}))\n"
        "from archiver.cli.main import app\napp(['doctor', '--json', *sys.argv[1:]])"
    )
    options = [option for group in only for option in ("--only", group)]
    command = shlex.join([sys.executable, "-c", program, *options])
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{first} exec {command}"]
        if first
        else ["sh", "-c", command],
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode in (0, 3), done.stderr
    found = json.loads(done.stdout)
    assert found["complete"]
    return done.returncode, {(each["group"], each["name"]): each for each in found["findings"]}


def test_where_the_api_is_not_installed_the_doctor_looks_at_all_else_and_says_where_to_ask(
    environment: dict[str, str],
) -> None:
    _, found = doctor_without(_API_ALONE, environment)

    assert {group for group, _ in found} >= {"settings", "ledger", "s3", "scicat", "keycloak", "prefect", "share"}
    for left in (("settings", "API"), ("keycloak", "keys")):
        assert found[left]["verdict"] == "skipped"
        assert "exec archiver-service-api archiver doctor" in found[left]["detail"]
    assert found["share", "identity"]["verdict"] == "good"
    assert found["settings", "flows"]["verdict"] == "bad"
    assert "S3_PASSWORD" in found["settings", "flows"]["detail"]


def test_where_no_flow_runs_the_doctor_leaves_the_share_to_where_one_does(ledger_url: str) -> None:
    _, found = doctor_without(_FLOWS_ALONE, {"LEDGER_URL": ledger_url, "ENVIRONMENT": "development"})

    assert found["settings", "API"]["verdict"] == "good"
    for left in (("settings", "flows"), ("share", "mount")):
        assert found[left]["verdict"] == "skipped"
        assert "exec reconciliation archiver doctor" in found[left]["detail"]


@pytest.mark.skipif(
    subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="this machine lets nobody mount a file system of his own",
)
def test_the_working_folder_is_not_looked_at_in_a_container_that_has_none(
    environment: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    container = environment | {"ARCHIVER_SCRATCH_FOLDER": str(root / "storage")}
    read_only = f"mount -t tmpfs none {root} && mkdir {root}/storage && mount -o remount,ro {root} &&"

    code, found = doctor_without((), container, "scratch", first=read_only)

    assert found["scratch", "folder"]["verdict"] == "skipped"
    assert code == 0
    # Mounted, and mounted wrong.
    code, found = doctor_without((), container | {"ARCHIVER_SCRATCH_FOLDER": str(root)}, "scratch", first=read_only)
    assert code == 3


@pytest.fixture(scope="module")
def key_of_the_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """How to reach an S3 server with a key that has rights on the landing zone alone, as the API's."""
    prepare = SeaweedFs.prepare

    def prepare_another(server: SeaweedFs) -> None:
        prepare(server)
        file = server.folder / "identities.json"
        known = json.loads(file.read_text())
        rights = [f"{right}:landingzone" for right in ("Read", "Write", "List", "Tagging")]
        key = {"accessKey": "api", "secretKey": "secret of the api"}
        known["identities"].append({"name": "api", "credentials": [key], "actions": rights})
        file.write_text(json.dumps(known))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeaweedFs, "prepare", prepare_another)
        with s3_with_buckets(tmp_path_factory.mktemp("seaweedfs")) as settings:
            yield {
                "S3_ENDPOINT": settings.s3_endpoint,
                "S3_USER": "api",
                "S3_PASSWORD": "secret of the api",
                "S3_REGION": settings.s3_region,
            }


def test_the_key_of_the_api_needs_no_right_on_retrieved_copies_and_that_of_flows_does(
    environment: dict[str, str], key_of_the_api: dict[str, str]
) -> None:
    rights = ("s3", "rights on landingzone"), ("s3", "rights on retrieval")
    api = {"LEDGER_URL": environment["LEDGER_URL"]} | key_of_the_api

    code, found = doctor(api, "s3")
    assert [found[each]["verdict"] for each in rights] == ["good", "skipped"]
    assert code == 0

    code, found = doctor(environment | key_of_the_api, "s3")
    assert [found[each]["verdict"] for each in rights] == ["good", "bad"]
    assert code == 3


# ---------------------------------------------------------------------------------------------- settings

_OF_GROUP = {
    "LEDGER_URL": {"ledger", "backup"},
    "S3_PASSWORD": {"s3"},
    "SCICAT_PASSWORD": {"scicat"},
    "IDP_PASSWORD": {"keycloak"},
    "PREFECT_API_AUTH_STRING": {"prefect"},
    "LTS_COPIES": {"share"},
    "ARCHIVER_SCRATCH_FOLDER": {"scratch"},
    "NOTIFY_URLS": {"notify"},
}


@pytest.mark.parametrize("setting", _OF_GROUP)
def test_a_file_that_cannot_be_read_is_told_and_the_rest_is_still_looked_at(
    environment: dict[str, str], ledger_url: str, setting: str, tmp_path: Path
) -> None:
    absent = tmp_path / "no-such-file"
    given = environment | {"POSTGRES_BACKUP_HOURS": "24", setting: "", f"{setting}_FILE": str(absent)}

    code, found = doctor(given)

    assert code == 3
    assert {
        group for (group, _), each in found.items() if str(absent) in each["detail"] and each["verdict"] == "bad"
    } >= (_OF_GROUP[setting])
    assert {group for group, _ in found} >= set().union(*_OF_GROUP.values())


def test_a_value_that_is_not_as_it_must_be_is_told_by_its_name(environment: dict[str, str]) -> None:
    code, found = doctor(
        environment | {"LTS_FREE_SPACE_PERCENTAGE": "much", "SCICAT_TIMEOUT_S": "90"}, "share", "scicat"
    )

    assert code == 3
    assert "LTS_FREE_SPACE_PERCENTAGE" in found["share", "settings"]["detail"]
    assert "SCICAT_TIMEOUT_S" in found["scicat", "settings"]["detail"]
