"""The status page in Chromium: logged in to through Keycloak's page, readable on a desk and on a phone."""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, Stage
from support.backend_api import Api
from support.chromium import Browser, run_browser

TB = 10**12


@pytest.fixture(scope="module", autouse=True)
def a_service_at_work(api: Api) -> None:
    """Data sets at several stages, a landing zone and a share that fill up."""
    ledger = api.ledger
    capacity = api.config.landing.capacity_bytes
    later = ledger.now() + timedelta(days=14)
    for number, size in enumerate((22, 31, 18)):
        pid = f"20.500.11935/upload-{number}"
        ledger.reserve_upload(pid, "ana", "p1", size * TB, size * TB, capacity, later)
    share = uuid.uuid4()
    ledger.remember(LTS_IDENTITY, str(share))
    ledger.record_share_space(share, 310 * TB, 1200 * TB)
    ledger.beat("reconciliation")
    for number in range(12):
        pid = f"20.500.11935/archived-{number}"
        claim = ledger.claim_dataset(pid, "run", timedelta(minutes=1))
        ledger.record_stage(claim, Stage.PLANNED, files=4000, payload_bytes=3 * TB)
        block = DatablockRecord(
            archive_id=f"openem-network/datasets/{pid}/data/datablocks/x_0.tar",
            pid=pid,
            index=0,
            size=3 * TB,
            packed_size=3 * TB + 10**6,
            files=4000,
            sha256="ab" * 32,
            proof="read",
            verified_at=datetime.now(UTC),
        )
        ledger.record_datablock(claim, block)
        ledger.record_stage(claim, Stage.EMPTIED)
        ledger.release_claim(claim)
        if number < 9:
            ledger.record_fixity(block.archive_id, FixityOutcome.OK, "read", "")
    claim = ledger.claim_dataset("20.500.11935/7c0a7a50-9a6e-4d0f-a1a3-52d1d4c0ee01", "run", timedelta(minutes=1))
    ledger.record_stage(
        claim,
        Stage.FAILED,
        files=2400,
        payload_bytes=2 * TB,
        message="Files of the catalogue's list are not in the landing zone. Upload them and submit a new job: "
        "'grid_03/movie_0007.eer', 'grid_03/movie_0008.eer' and 4 more",
    )
    ledger.release_claim(claim)
    claim = ledger.claim_dataset("20.500.11935/0f4d9f0a-1d8e-4d63-9f5d-ef4e03c9a2aa", "run", timedelta(minutes=1))
    ledger.record_stage(claim, Stage.PLANNED, files=31000, payload_bytes=12 * TB)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with run_browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def log_in(browser: Browser, api: Api) -> None:
    """Through the login page, which opens in place of the status page."""
    browser.open(f"{api.base}/status")
    assert "Log in to facility" in browser.text()
    browser.type("input[name=username]", "olga")
    browser.type("input[name=password]", "olga-local")
    browser.click("button")
    browser.wait_for(lambda: browser.url().endswith("/status"))


def log_out(browser: Browser) -> None:
    """By the page's own button."""
    browser.click("footer button")
    browser.wait_for(lambda: "Logged out" in browser.text())


@pytest.fixture
def page(browser: Browser, api: Api) -> Iterator[Browser]:
    """The browser on the status page, logged in until the test ends."""
    log_in(browser, api)
    yield browser
    browser.open(f"{api.base}/status")
    if "Log in to facility" not in browser.text():
        log_out(browser)


def test_an_operator_logs_in_and_sees_what_needs_attention(page: Browser) -> None:
    text = page.text()

    assert "needs attention" in text
    assert "1 data set failed" in text
    assert "grid_03/movie_0007.eer" in text
    assert "79 %" in text  # of the landing zone
    assert "olga" in text


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_whatever_the_screen(
    page: Browser, width: int, height: int, scheme: str, tmp_path: Path
) -> None:
    page.resize(width, height)
    page.prefer(scheme)

    assert page.script("return document.documentElement.scrollWidth <= window.innerWidth")
    dark = page.script("return matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark is (scheme == "dark")
    ground = page.script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(22, 24, 27)" if scheme == "dark" else "rgb(251, 251, 250)")
    page.screenshot(Path(os.environ.get("ARCHIVER_SCREENSHOTS", tmp_path)) / f"status-{width}-{scheme}.png")


def test_the_page_runs_no_script_and_breaks_no_rule_of_its_own(page: Browser, api: Api) -> None:
    page.problems()  # of the pages before
    page.open(f"{api.base}/status")

    assert page.script("return document.scripts.length") == 0
    assert page.problems() == []


def test_a_data_set_links_to_scicat(page: Browser) -> None:
    link = page.script("return document.querySelector('article.failed a').href")

    assert link == "https://scicat.example/datasets/20.500.11935%2F7c0a7a50-9a6e-4d0f-a1a3-52d1d4c0ee01"


def test_after_logging_out_the_page_is_closed(page: Browser, api: Api) -> None:
    log_out(page)
    page.open(f"{api.base}/status")

    assert "Log in to facility" in page.text()
