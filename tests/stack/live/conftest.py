"""One stack for all tests here, brought up as an operator brings it up."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.engine import Engine, running_engine
from stack.figures import Note, figures
from stack.folders import cache_folder
from stack.operated import PROJECT, OperatedStack, copy_of_project
from stack.operators_view import PrefectView
from stack.payload import LARGE_FILE_BYTES, LARGE_FILES, write_noise
from stack.standins import choose_images, read_values
from stack.visitor import Visitor

PROJECT_FOLDER = Path(__file__).parents[3]
VOLUMES = ("lts-mock-volume", "archiver-scratch", "archiver-ca")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if figures:
        terminalreporter.section("figures of the stack")
        for name, value in figures:
            terminalreporter.line(f"{name:48} {value}")


@pytest.fixture(scope="session")
def note() -> Note:
    return lambda name, value: figures.append((name, value))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if os.geteuid() != 0:  # files of secrets could not be given to the service, which would refuse them after minutes
        pytest.exit("This needs root, as an operator has it: make stack-test", 2)
    with running_engine(cache_folder()) as engine:
        if not engine.is_ours:
            _refuse_to_touch_another_stack(engine)
        yield engine


def _refuse_to_touch_another_stack(engine: Engine) -> None:
    for container in engine.docker(
        "ps", "--all", "--format", '{{.Label "com.docker.compose.project"}} {{.Mounts}}'
    ).splitlines():
        project, _, mounts = container.partition(" ")
        if project and project != PROJECT and any(volume in mounts for volume in VOLUMES):
            pytest.exit(
                f"The stack {project} runs here and shares volumes with the one that is tested: end it first.", 2
            )


@pytest.fixture(scope="session")
def images(engine: Engine, note: Note) -> dict[str, str]:
    began = time.monotonic()
    made = choose_images(engine, read_values(PROJECT_FOLDER / ".env"), cache_folder())
    note("images of upstream, or made here", f"{time.monotonic() - began:.0f} s")
    return made


def _write_own_configuration(folder: Path) -> None:
    """Values of this operator: small datablocks, two runs at a time."""
    own = folder / "own"
    own.mkdir()
    given = folder / "src/archiver/config"
    limits = (given / "concurrency-limits.toml").read_text()
    assert limits.count("limit = 4") == 2
    (own / "concurrency-limits.toml").write_text(limits.replace("limit = 4", "limit = 2"))
    variables = (given / "vars_dev.toml").read_text()
    assert "archiver_target_size_gb = 20" in variables
    small = variables.replace("archiver_target_size_gb = 20", "archiver_target_size_gb = 0.05")
    (own / "vars_dev.toml").write_text(small)


@pytest.fixture(scope="session")
def stack(
    engine: Engine, images: dict[str, str], note: Note, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatedStack]:
    kept = os.environ.get("ARCHIVER_STACK_FOLDER")
    """While tests are written: a folder whose stack is used if it runs, and left running."""
    folder = Path(kept) if kept else tmp_path_factory.mktemp("operator")
    stack = OperatedStack(folder, engine, {**images, "PREFECT_WORKER_LIMIT": "2", "CONFIGURATION_FOLDER": "./own"})
    try:
        if not (folder / "own").is_dir():
            _bring_up(stack, note)
        yield stack
        for service, used in stack.memory():
            note(f"memory of {service}", used)
    finally:
        if (folder / ".env").is_file():
            stack.keep_logs(cache_folder() / "logs")
        if not kept:
            stack.down(with_data=True)


def _bring_up(stack: OperatedStack, note: Note) -> None:
    copy_of_project(PROJECT_FOLDER, stack.folder)
    _write_own_configuration(stack.folder)
    stack.make("STACK=docker", "secrets", "certs")
    if stack.overrides.get("PYTHON_IMAGE"):
        stack.build_on_network_of_host()
    # What a test that was broken off has left would take its share of the machine.
    stack.down(with_data=True)
    began = time.monotonic()
    stack.build()
    built = time.monotonic()
    note("images of the service, built", f"{built - began:.0f} s")
    stack.up()
    note("first start, until all is healthy", f"{time.monotonic() - built:.0f} s")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose archiving takes long enough to meddle with it."""
    return write_noise(tmp_path_factory.mktemp("payload") / "large", LARGE_FILES, LARGE_FILE_BYTES, 3)


@pytest.fixture(autouse=True)
def _trust_the_proxy(stack: OperatedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(stack.certificate))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(stack.certificate))


@pytest.fixture
def visitor(stack: OperatedStack, _trust_the_proxy: None) -> Iterator[Visitor]:
    with Visitor(stack.addresses, stack.secret("scicatingestorpass")) as visitor:
        yield visitor


@pytest.fixture
def prefect(stack: OperatedStack, _trust_the_proxy: None) -> Iterator[PrefectView]:
    with PrefectView(stack.addresses, stack.secret("dashboarduser"), stack.secret("dashboardpass")) as view:
        yield view
