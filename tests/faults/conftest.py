"""A facility for runs that are struck."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archiver.config.settings import ObjectStoreSettings
from archiver.local.scicat.defaults import stack_config
from archiver.local.scicat.testing import run_scicat
from archiver.workflow.names import DATASETS_FOLDER

pytest.register_assert_rewrite("support.faults_checks", "support.faults_trials")

from support.facility import Facility, open_facility, s3_with_buckets  # noqa: E402
from support.faults import EVERY_POINT, Runner, run_runner  # noqa: E402
from support.faults_matrix import Matrix  # noqa: E402
from support.faults_trials import Archived  # noqa: E402

MATRIX = pytest.StashKey[Matrix]()
_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with run_runner(tmp_path_factory.mktemp("runs")) as program:
        yield program


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreSettings]:
    with s3_with_buckets(tmp_path_factory.mktemp("seaweedfs")) as settings:
        yield settings


@pytest.fixture(scope="session")
def scicat_url() -> Iterator[str]:
    with run_scicat(stack_config()) as url:
        yield url


@pytest.fixture
def facility(s3_server: ObjectStoreSettings, scicat_url: str, ledger_url: str, tmp_path: Path) -> Iterator[Facility]:
    """A facility with a ledger and a share of the test's own, where datablocks are small."""
    small = {"archiver_target_size_gb": 0.000_015, "archiver_num_workers": 2}
    with open_facility(s3_server, scicat_url, ledger_url, tmp_path, **small) as opened:
        (opened.lts_root / DATASETS_FOLDER).mkdir(parents=True)  # as on a share that is in use
        yield opened


@pytest.fixture
def archived(facility: Facility, runner: Runner) -> Archived:
    """Data sets to be retrieved."""
    return Archived(facility, runner)


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config) -> Matrix:
    """Where tests tell what they tried; written to the file that ARCHIVER_FAULT_MATRIX names."""
    return pytestconfig.stash[MATRIX]


@pytest.hookimpl(tryfirst=True)  # before the groups of other tests are made, and before xdist reads them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In several processes (`pytest -n 2`): what needs the stack in one of them, all else as one is free."""
    for item in items:
        if item.path.is_relative_to(_HERE) and not _needs_stack(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid))


def _needs_stack(item: pytest.Item) -> bool:
    return "stack" in getattr(item, "fixturenames", ())


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MATRIX] = Matrix()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of several processes (`pytest -n 2`) tried."""
    node.config.stash[MATRIX].extend(getattr(node, "workeroutput", {}).get("fault matrix", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    found = session.config.stash[MATRIX]
    handed_on: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if handed_on is not None:
        handed_on["fault matrix"] = found.rows()
    elif page := os.environ.get("ARCHIVER_FAULT_MATRIX"):
        add = os.environ.get("ARCHIVER_FAULT_MATRIX_ADD") == "1"
        chosen = session.config.option.keyword
        ran = [*session.config.args, *(["-k", f"'{chosen}'"] if chosen else [])]
        found.write(Path(page), ran, EVERY_POINT, add=add)
