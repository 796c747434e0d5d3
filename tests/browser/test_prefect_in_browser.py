"""Prefect's pages in Chromium, of runs that took place: an operator finds what is done, how far, and what to do.

With ARCHIVER_SCREENSHOTS naming a folder the pictures of docs/how-to/watch-runs.md are put there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from archiver.local.stack import Stack
from support.chromium import Browser, run_browser
from support.instrument import Instrument, eventually
from support.stacks import whole_stack

pytestmark = pytest.mark.timeout(900)
FRONTEND = "https://scicat.example"


@dataclass
class Prefect:
    """Its API, to learn where to look."""

    stack: Stack

    def ask(self, path: str, body: object) -> Any:
        user, _, password = self.stack.credentials.prefect_auth.partition(":")
        answer = httpx.post(
            f"{self.stack.urls.prefect_api}/{path}", json=body, auth=(user, password), timeout=60, trust_env=False
        )
        return answer.raise_for_status().json()

    def run(self, name: str) -> Any:
        """The newest run whose name begins so, or None."""
        found = self.ask(
            "flow_runs/filter",
            {"flow_runs": {"name": {"like_": name}}, "sort": "START_TIME_DESC", "limit": 1},
        )
        return found[0] if found else None

    def artifacts(self, run: Any) -> dict[str, Any]:
        """Of a run, by the first word of their keys."""
        found = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
        found = [each for each in found if each["key"]]  # a result is one, too
        return {each["key"].partition("-")[0]: each for each in found}


@dataclass(frozen=True)
class Seen:
    """What took place before anybody looks."""

    prefect: Prefect
    archived: Any
    """Run of a job that archived."""
    dataset: Any
    """Run of its data set."""
    retrieved: Any
    failed: Any
    """Run of a job whose data set lacks a file."""
    failed_job: str


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack whose runs link to SciCat's pages."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SCICAT_FRONTEND_URL", FRONTEND)
        with whole_stack() as running:
            yield running


@pytest.fixture(scope="module")
def browser(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """On the pages of Prefect, logged in."""
    with run_browser(tmp_path_factory.mktemp("chromium")) as running:
        running.resize(1280, 900)
        running.open(stack.urls.prefect_ui)
        running.script(f"localStorage.setItem('prefect-password', btoa('{stack.credentials.prefect_auth}'))")
        yield running


def picture(browser: Browser, name: str) -> None:
    """Keep one for the documentation, where that is wanted."""
    if folder := os.environ.get("ARCHIVER_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"prefect-{name}.png", whole=False)


@pytest.fixture(scope="module")
def seen(stack: Stack, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A data set archived and retrieved, and a job that failed."""
    data = tmp_path_factory.mktemp("measurement")
    size = int(os.environ.get("ARCHIVER_SCREENSHOT_MB", "1")) * 10**6
    for number in range(4):
        (data / f"movie_{number:04}.tiff").write_bytes(os.urandom(size))
    environment = {**os.environ, "ARCHIVER_LOCAL_FOLDER": str(stack.folder)}
    prefect = Prefect(stack)
    with subprocess.Popen(
        [sys.executable, "-m", "archiver.cli", "demo", str(data)], env=environment, stdout=subprocess.DEVNULL
    ) as demo:
        if size > 10**8:
            look_while_it_runs(browser, prefect, stack)
        assert demo.wait(600) == 0
    instrument = Instrument(stack)
    job = instrument.submit_without_files()
    assert eventually(lambda: instrument.status(job) == "finishedWithDatasetErrors")
    failed = prefect.run(f"archive-{job}")
    pid = instrument.pid_of(job)
    return Seen(
        prefect,
        archived=next(each for each in runs_of(prefect, "archive-") if each["id"] != failed["id"]),
        dataset=next(each for each in runs_of(prefect, "archive ") if pid not in each["name"]),
        retrieved=prefect.run("retrieve "),
        failed=failed,
        failed_job=job,
    )


def runs_of(prefect: Prefect, name: str) -> list[Any]:
    found: list[Any] = prefect.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": name}}})
    return found


def look_while_it_runs(browser: Browser, prefect: Prefect, stack: Stack) -> None:
    """For the picture of a run at work, which a small data set would not give time for."""
    assert eventually(lambda: prefect.run("archive ") is not None, within_s=300)
    run = prefect.run("archive ")

    def tells_when_it_ends() -> bool:
        progress = prefect.artifacts(run).get("archiving")
        return progress is not None and "to go" in progress["description"]

    assert eventually(tells_when_it_ends, within_s=300)
    show(browser, stack, f"artifacts/artifact/{prefect.artifacts(run)['archiving']['id']}", "to go")
    picture(browser, "progress")


def show(browser: Browser, stack: Stack, path: str, until: str, tab: str = "") -> str:
    """Open a page of Prefect's, wait until it shows this (below that tab), and read it."""
    browser.open(f"{stack.urls.prefect_ui}/{path}")
    if tab:
        tabs = f"[...document.querySelectorAll('.p-tab')].filter(each => each.innerText.trim() === '{tab}')"
        browser.wait_for(lambda: browser.script(f"return {tabs}.length") == 1)
        browser.script(f"{tabs}[0].click()")
    browser.wait_for(lambda: until in browser.text())
    return browser.text()


def test_runs_are_found_by_job_and_data_set(seen: Seen, browser: Browser, stack: Stack) -> None:
    text = show(browser, stack, "runs", seen.failed["name"])

    assert seen.archived["name"] in text
    assert seen.failed_job in text
    picture(browser, "runs")


def test_a_run_says_in_one_line_what_it_came_to(seen: Seen, browser: Browser, stack: Stack) -> None:
    text = show(browser, stack, f"runs/flow-run/{seen.dataset['id']}", "read back and proven", "Details")

    assert "4 files" in text
    picture(browser, "archived")


def test_a_data_set_shows_its_datablocks_with_sizes_and_checksums(seen: Seen, browser: Browser, stack: Stack) -> None:
    artifacts = seen.prefect.artifacts(seen.dataset)
    text = show(browser, stack, f"artifacts/artifact/{artifacts['datablocks']['id']}", "SHA-256")

    (row,) = json.loads(artifacts["datablocks"]["data"])
    assert row["SHA-256"] in text
    assert str(row["tar bytes"]) in text
    picture(browser, "datablocks")
    done = show(browser, stack, f"artifacts/artifact/{artifacts['archiving']['id']}", "%")
    assert "100" in done


def test_a_data_set_links_to_scicat(seen: Seen, browser: Browser, stack: Stack) -> None:
    artifacts = seen.prefect.artifacts(seen.dataset)
    show(browser, stack, f"runs/flow-run/{seen.dataset['id']}", "The data set in SciCat", "Artifacts")
    picture(browser, "dataset")

    assert set(artifacts) >= {"archiving", "datablocks", "scicat"}
    show(browser, stack, f"artifacts/artifact/{artifacts['scicat']['id']}", "in SciCat")
    links = browser.script("return [...document.querySelectorAll('a')].map(each => each.href)")
    assert any(link.startswith(f"{FRONTEND}/datasets/") for link in links)


def test_a_run_that_failed_says_why_and_what_to_do(seen: Seen, browser: Browser, stack: Stack) -> None:
    text = show(browser, stack, f"runs/flow-run/{seen.failed['id']}", "missing.mrc", "Logs")
    assert "not in the landing zone" in text
    show(browser, stack, f"runs/flow-run/{seen.failed['id']}", "What to do about", "Artifacts")
    picture(browser, "failed")

    advice = seen.prefect.artifacts(seen.failed)["what"]
    text = show(browser, stack, f"artifacts/artifact/{advice['id']}", "was not finished")
    assert f"archiver retry {seen.failed_job}" in text
    picture(browser, "what-to-do")
