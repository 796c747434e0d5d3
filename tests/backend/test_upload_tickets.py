"""The signatures of the upload edge's URLs, and who gets which URLs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from archiver.backend.edge.urls import BadTicketError, ExpiredTicketError, Ticket, TicketOffice
from archiver.backend.links import DirectLinks, EdgeLinks, choose_links, open_office
from archiver.backend.uploads import url_lifetime
from archiver.config.settings import UploadMode
from archiver.workflow.ledger.records import UploadRecord, UploadState
from support.backend_api import Api, Parts

HOUR = timedelta(hours=1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def ticket_of(url: str) -> str:
    return url.rpartition("/")[2]


@given(pid=NAMES, key=NAMES, upload_id=NAMES, part=st.integers(0, 10_000))
def test_a_ticket_is_read_as_it_was_written(pid: str, key: str, upload_id: str, part: int) -> None:
    office = TicketOffice(b"key", "https://host/api/")
    ticket = Ticket(pid, key, upload_id, part)
    url = office.url(ticket, HOUR)
    assert url.startswith("https://host/api/s3/edge/")
    assert office.read(ticket_of(url)) == ticket


@given(position=st.integers(0, 10_000), character=st.sampled_from("Aa0-_.~/é"))
def test_a_ticket_that_was_altered_is_refused(position: int, character: str) -> None:
    office = TicketOffice(b"key", "https://host")
    text = ticket_of(office.url(Ticket("p/x", "key", "id", 3), HOUR))
    position %= len(text)
    altered = text[:position] + character + text[position + 1 :]
    if altered != text:
        with pytest.raises(BadTicketError):
            office.read(altered)


def test_a_ticket_of_another_key_is_refused() -> None:
    text = ticket_of(TicketOffice(b"one", "https://host").url(Ticket("p", "k"), HOUR))
    with pytest.raises(BadTicketError):
        TicketOffice(b"two", "https://host").read(text)


def test_a_ticket_is_good_until_its_time_is_over() -> None:
    now = 1_000_000.0
    office = TicketOffice(b"key", "https://host", clock=lambda: now)
    text = ticket_of(office.url(Ticket("p", "k"), HOUR))
    now += 3600
    assert office.read(text) == Ticket("p", "k")
    now += 1
    with pytest.raises(ExpiredTicketError):
        office.read(text)


def test_a_service_without_a_key_makes_one_for_its_lifetime(parts: Parts) -> None:
    config = parts.config(landing={"upload_edge_key": SecretStr("")})
    one, other = open_office(config), open_office(config)
    text = ticket_of(one.url(Ticket("p", "k"), HOUR))
    assert one.read(text) == Ticket("p", "k")
    with pytest.raises(BadTicketError):
        other.read(text)


def test_urls_lead_to_the_public_address(parts: Parts) -> None:
    config = parts.config(landing={"upload_edge_url": ""}, service={"host": "archive.facility.example"})
    url = open_office(config).url(Ticket("p", "k"), HOUR)
    assert url.startswith("https://archive.facility.example/archiver/api/v1/s3/edge/")


def test_a_storage_that_refuses_the_clients_headers_gets_the_edge(api: Api) -> None:
    for mode, kind in ((UploadMode.AUTO, EdgeLinks), (UploadMode.EDGE, EdgeLinks), (UploadMode.DIRECT, DirectLinks)):
        landing = api.config.landing.model_copy(update={"upload_mode": mode})
        config = api.config.model_copy(update={"landing": landing})
        assert isinstance(choose_links(config, api.store, open_office(config)), kind)


@pytest.mark.parametrize(
    ("reserved", "count", "hours"),
    [
        (1 << 30, 1, 1),
        (50 << 40, 1, 1),
        (1 << 40, 10_000, (1 << 40) / (10 << 20) / 3600),
        (50 << 40, 10_000, 7 * 24),
    ],
)
def test_urls_live_as_long_as_a_slow_upload_takes(api: Api, reserved: int, count: int, hours: float) -> None:
    now = datetime.now(UTC)
    upload = UploadRecord("p", UploadState.OPEN, "h", "g", reserved, reserved, 0, now, now, now)
    assert url_lifetime(upload, count, api.config.landing) == timedelta(hours=hours)
