"""The status page: what it shows, and to whom."""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from archiver.backend.status.cookies import CookieJar
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.records import DatablockRecord, Stage
from support.backend_api import Api, RecordingQueue, RunApi
from support.backups import note_backup

GROUP = "archiver-operators"


def browser(api: Api) -> httpx.Client:
    """Keeps cookies and follows redirects, as a browser does."""
    return httpx.Client(follow_redirects=True, timeout=60, trust_env=False)


def log_in(client: httpx.Client, api: Api, user: str) -> httpx.Response:
    """The answer that a user of the realm ends at who asks for the status page."""
    form = client.get(f"{api.base}/status")
    assert "Log in to facility" in form.text
    asked = {name: values[0] for name, values in parse_qs(urlsplit(str(form.url)).query).items()}
    return client.post(
        str(form.url.copy_with(query=None)), data=asked | {"username": user, "password": f"{user}-local"}
    )


@pytest.fixture(scope="module")
def closed_api(start_api: RunApi) -> Iterator[Api]:
    """An API whose status page wants a login."""
    with start_api(api={"status_page_login": True}, identity={"operator_groups": (GROUP,)}) as running:
        yield running


def test_the_page_shows_how_full_the_landing_zone_is_and_what_failed(fresh_api: Api) -> None:
    ledger = fresh_api.ledger
    ledger.reserve_upload("p/a", "ana", "g", 45 * 10**9, 45 * 10**9, 90 * 10**9, ledger.now() + timedelta(days=1))
    claim = ledger.claim_dataset("p/bad", "run", timedelta(minutes=1))
    ledger.record_stage(claim, Stage.FAILED, payload_bytes=10**9, message="a <b>disk</b> is full & more")
    ledger.release_claim(claim)

    answer = httpx.get(f"{fresh_api.base}/status", timeout=60, trust_env=False)

    assert answer.status_code == httpx.codes.OK
    assert re.search(r"50 %\s*<small>of 90.0 GB taken", answer.text)
    assert "a &lt;b&gt;disk&lt;/b&gt; is full &amp; more" in answer.text
    assert "1 data set failed" in answer.text
    assert "needs attention" in answer.text


def be_well(api: Api) -> None:
    """Nothing of what the page looks at is wrong."""
    api.ledger.beat("reconciliation")
    for database in ("ledger", "prefect"):
        note_backup(api.ledger, database, timedelta(hours=24.5))


def concerns(api: Api) -> list[str]:
    """What the page says needs attention."""
    page = httpx.get(f"{api.base}/status", timeout=60, trust_env=False).text
    found = re.findall("<li>(.*?)</li>", page)
    assert ("all is well" in page) is not bool(found)
    return found


def archive_block(api: Api, verified_at: datetime) -> None:
    block = DatablockRecord("p/a/x_0.tar", "p/a", 0, 1000, 1512, 3, "ab" * 32, "read", verified_at)
    claim = api.ledger.claim_dataset("p/a", "run", timedelta(minutes=1))
    api.ledger.record_stage(claim, Stage.PLANNED, files=3, payload_bytes=1000)
    api.ledger.record_datablock(claim, block)
    api.ledger.record_stage(claim, Stage.EMPTIED)
    api.ledger.release_claim(claim)


def fill_the_bucket(api: Api) -> None:
    held = api.ledger.claim_retrieval("p/a.tar", "run", timedelta(minutes=1))
    capacity = api.config.store.retrieval_capacity_bytes
    api.ledger.record_retrieved(held, int(capacity * 0.96), "ab" * 32, api.ledger.now() + timedelta(days=1))


def measure_the_share(api: Api, free: int, planned: int = 0) -> None:
    share = uuid.uuid4()
    api.ledger.remember(LTS_IDENTITY, str(share))
    api.ledger.record_share_space(share, free, 1000)
    if planned:
        claim = api.ledger.claim_dataset("p/a", "run", timedelta(minutes=1))
        api.ledger.record_stage(claim, Stage.PLANNED, files=3, payload_bytes=planned)


def test_all_is_well_only_where_nothing_needs_attention(fresh_api: Api) -> None:
    be_well(fresh_api)
    archive_block(fresh_api, fresh_api.ledger.now())

    assert concerns(fresh_api) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda api: api.ledger.record_disagreement("p/a", "missing", "gone"), "disagree on 1 data set. "),
        (lambda api: note_backup(api.ledger, "prefect", timedelta(hours=26)), "No backup of the database prefect was"),
        (lambda api: archive_block(api, api.ledger.now() - timedelta(days=400)), "1 datablocks were not read"),
        (fill_the_bucket, "Retrieval bucket: 96 % in use"),
        (lambda api: api.ledger.count_stuck_task("catalogue-refused"), "some of its work (catalogue-refused)"),
        # Of the thousand bytes 200 must stay free.
        (lambda api: measure_the_share(api, 230), "Long-term storage: 96 % of what may be used"),
        (lambda api: measure_the_share(api, 600, planned=401), "do not fit on the long-term storage"),
    ],
)
def test_what_operators_must_act_on_is_a_concern(
    start_api: RunApi, ledger_url: str, spoil: Callable[[Api], object], words: str
) -> None:
    with start_api(ledger={"ledger_url": SecretStr(ledger_url)}, lts={"lts_free_space_percentage": 20}) as api:
        be_well(api)
        assert concerns(api) == []
        spoil(api)

        (found,) = concerns(api)
        assert words in found


def test_a_share_that_what_waits_just_fits_on_is_none(start_api: RunApi, ledger_url: str) -> None:
    with start_api(ledger={"ledger_url": SecretStr(ledger_url)}, lts={"lts_free_space_percentage": 20}) as api:
        be_well(api)
        measure_the_share(api, 600, planned=400)

        assert concerns(api) == []


def test_a_pool_whose_runs_wait_is_a_concern(fresh_api: Api, queue: RecordingQueue) -> None:
    be_well(fresh_api)
    queue.paused = True
    assert concerns(fresh_api) == ["archival is paused: its runs wait. Go on with: archiver resume"]

    queue.paused, queue.worker = False, "OFFLINE"
    assert "archival has no worker online" in concerns(fresh_api)[0]


def test_a_backup_that_was_never_made_is_a_concern(fresh_api: Api) -> None:
    fresh_api.ledger.beat("reconciliation")

    assert len(concerns(fresh_api)) == 2


def test_a_task_that_was_stuck_and_is_not_any_more_is_no_concern(fresh_api: Api) -> None:
    be_well(fresh_api)
    fresh_api.ledger.count_stuck_task("catalogue-refused")
    with fresh_api.ledger._engine.begin() as connection:
        earlier = "UPDATE services SET beat_at = beat_at - interval '20 minutes' WHERE service LIKE 'stuck on %'"
        connection.execute(text(earlier))

    assert concerns(fresh_api) == []


def test_the_page_fetches_nothing_and_may_not(fresh_api: Api) -> None:
    answer = httpx.get(f"{fresh_api.base}/status", timeout=60, trust_env=False)

    assert not re.search(r'(?:src|@import|url\()\s*=?\s*["\']?https?:', answer.text)
    assert "<script" not in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_page_says_so_when_prefect_is_away(fresh_api: Api, queue: RecordingQueue, start_api: RunApi) -> None:
    with start_api(queue={"prefect_api_url": "http://127.0.0.1:9/api"}) as api:
        answer = httpx.get(f"{api.base}/status", timeout=60, trust_env=False)

    assert answer.status_code == httpx.codes.OK
    assert "Prefect does not answer" in answer.text
    assert "PREFECT_API_URL" in answer.text


def test_an_operator_logs_in_sees_the_page_and_logs_out(closed_api: Api) -> None:
    with browser(closed_api) as client:
        page = log_in(client, closed_api, "olga")
        assert page.status_code == httpx.codes.OK, page.text
        assert "olga" in page.text
        assert client.get(f"{closed_api.base}/status").url.path.endswith("/status")

        client.post(f"{closed_api.base}/logout")
        assert "Log in to facility" in client.get(f"{closed_api.base}/status").text


def test_a_user_who_is_no_operator_is_refused_and_gets_no_session(closed_api: Api) -> None:
    with browser(closed_api) as client:
        answer = log_in(client, closed_api, "alice")

        assert answer.status_code == httpx.codes.FORBIDDEN
        assert "OPERATOR_GROUPS" in answer.json()["details"]
        assert "archiver_session" not in client.cookies


def test_the_session_cookie_is_for_this_site_and_no_script(closed_api: Api) -> None:
    with browser(closed_api) as client:
        page = log_in(client, closed_api, "olga")
        (cookie,) = [
            value
            for answer in page.history
            for value in answer.headers.get_list("set-cookie")
            if value.startswith("archiver_session=")
        ]

    assert {"HttpOnly", "SameSite=lax", "Path=/archiver/api/v1/"} <= set(cookie.split("; "))


def test_the_cookie_goes_over_tls_alone_where_the_service_is_reached_by_it(start_api: RunApi) -> None:
    landing = {"upload_edge_url": "https://archive.example/archiver/api/v1"}
    with start_api(api={"status_page_login": True}, landing=landing) as api:
        answer = httpx.get(f"{api.base}/login", timeout=60, trust_env=False)

    assert "Secure" in answer.headers["Set-Cookie"].split("; ")
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["redirect_uri"] == ["https://archive.example/archiver/api/v1/login/callback"]
    assert query["code_challenge_method"] == ["S256"]


@pytest.mark.parametrize("cookie", ["made-up", "e30.x", "", "é", "a.b.c"])
def test_a_cookie_of_ones_own_making_opens_nothing(closed_api: Api, cookie: str) -> None:
    answer = httpx.get(
        f"{closed_api.base}/status",
        headers={b"Cookie": f"archiver_session={cookie}".encode()},
        timeout=60,
        trust_env=False,
    )

    assert answer.status_code == httpx.codes.SEE_OTHER


def test_a_login_that_another_browser_began_is_refused(closed_api: Api) -> None:
    with browser(closed_api) as victim, browser(closed_api) as other:
        form = other.get(f"{closed_api.base}/status")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(str(form.url)).query).items()}
        back = other.post(
            str(form.url.copy_with(query=None)),
            data=asked | {"username": "olga", "password": "olga-local"},
            follow_redirects=False,
        ).headers["Location"]
        answer = victim.get(back)

    assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert "was not begun here" in answer.json()["details"]


def test_a_login_that_keycloak_refuses_says_why(closed_api: Api) -> None:
    answer = httpx.get(
        f"{closed_api.base}/login/callback?error=access_denied&error_description=Not+today", timeout=60, trust_env=False
    )

    assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert "Not today" in answer.json()["details"]


def test_a_cookie_is_good_for_its_time_and_its_purpose() -> None:
    now = [1000.0]
    jar = CookieJar(b"key", "session", 60, lambda: now[0])
    value = jar.seal({"user": "olga"})

    assert jar.open(value) == {"user": "olga"}
    assert CookieJar(b"key", "login", 60, lambda: now[0]).open(value) is None
    assert CookieJar(b"other", "session", 60, lambda: now[0]).open(value) is None
    now[0] += 60
    assert jar.open(value) is None
