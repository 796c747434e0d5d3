"""Tokens, retries, lost connections and refusals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from archiver.config.settings import CatalogueSettings
from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.defaults import ARCHIVER, INGESTOR, OWNER_GROUP, stack_config
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import CatalogueUser
from archiver.workflow.catalogue.responses import read_error
from archiver.workflow.catalogue.session import Session, Token
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError

if TYPE_CHECKING:
    from workflow.catalogue.conftest import Exchange, Facility, Reply

PID = "20.500.12345/connection"
READ = "^/api/v3/datasets/20.500.12345%2Fconnection$"
LOGIN = "/auth/login$"


def passing(_: Exchange, forward: Callable[[], Reply]) -> Reply:
    """A proxy that only watches."""
    return forward()


def test_one_login_serves_all_calls_of_all_threads(facility: Facility) -> None:
    facility.ingest(PID)
    with facility.behind(passing) as (catalogue, proxy), ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: catalogue.dataset(PID).pid, range(32)))

    assert found == [PID] * 32
    assert len(proxy.paths("POST")) == 1


def test_a_token_that_scicat_no_longer_takes_is_replaced_once(facility: Facility) -> None:
    facility.ingest(PID)
    logins: list[str] = []

    def forget_the_first_login(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.path.endswith("/login"):
            logins.append(exchange.path)
        elif len(logins) == 1:
            exchange.headers["authorization"] = "Bearer no.longer.valid"
        return forward()

    with facility.behind(forget_the_first_login) as (catalogue, _):
        assert catalogue.dataset(PID).pid == PID
        assert catalogue.orig_files(PID) == []

    assert len(logins) == 2


def test_a_short_token_is_renewed_before_it_ends(
    facility_with: Callable[[ScicatConfig], AbstractContextManager[Facility]],
) -> None:
    config = stack_config().model_copy(update={"jwt_lifetime_seconds": 3})
    deadline = time.monotonic() + 60
    pause = threading.Event()
    with facility_with(config) as facility:
        facility.ingest(PID)
        with facility.behind(passing) as (catalogue, proxy):
            while len(proxy.paths("POST")) < 2 and time.monotonic() < deadline:
                assert catalogue.dataset(PID).pid == PID
                pause.wait(0.2)

    assert len(proxy.paths("POST")) == 2


def test_the_session_renews_at_four_fifths_of_a_tokens_life() -> None:
    now = [100.0]
    logins = iter(range(1, 10))
    session = Session(lambda: Token(f"token-{next(logins)}", 10.0), clock=lambda: now[0])

    assert session.token() == "token-1"
    now[0] = 107.9
    assert session.token() == "token-1"
    now[0] = 108.0
    assert session.token() == "token-2"
    assert session.renew("token-1") == "token-2"
    assert session.renew("token-2") == "token-3"


def test_a_wrong_password_is_refused_without_more_tries(facility: Facility) -> None:
    with (
        facility.behind(passing, scicat_password=SecretStr("wrong")) as (catalogue, proxy),
        pytest.raises(CatalogueRefusedError, match="SCICAT_USER and SCICAT_PASSWORD"),
    ):
        catalogue.dataset(PID)

    assert len(proxy.seen) == 1


def test_missing_rights_are_refused_after_one_new_login(facility: Facility) -> None:
    facility.ingest(PID)
    with (
        facility.behind(passing, scicat_user=SecretStr("otheruser"), scicat_password=SecretStr("otheruser")) as (
            catalogue,
            proxy,
        ),
        pytest.raises(CatalogueRefusedError, match="rights of SCICAT_USER"),
    ):
        catalogue.dataset(PID)

    assert [exchange.method for exchange in proxy.seen] == ["POST", "GET", "POST", "GET"]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 502, "body": "<html>Bad Gateway</html>"},
        {"status": 429},
        {"drop_connection": True},
        {"drop_connection": True, "after_effect": True},
        {"delay_seconds": 2},
    ],
)
@pytest.mark.parametrize("path", [LOGIN, READ])
def test_what_passes_is_tried_again(facility: Facility, fault: dict[str, Any], path: str) -> None:
    facility.ingest(PID)
    with facility.open(scicat_timeout_s=1) as catalogue:
        armed = facility.fault(path_regex=path, **fault)
        assert catalogue.dataset(PID).pid == PID
        assert facility.fired(armed) == 1


def test_several_failures_in_a_row_are_borne(facility: Facility) -> None:
    facility.ingest(PID)
    armed = facility.fault(path_regex=READ, status=500, times=3)
    with facility.open() as catalogue:
        assert catalogue.dataset(PID).pid == PID
    assert facility.fired(armed) == 3


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop_connection": True}])
def test_what_does_not_pass_is_an_error_that_can(facility: Facility, fault: dict[str, Any]) -> None:
    facility.ingest(PID)
    facility.fault(path_regex=READ, times=None, **fault)
    with (
        facility.open(scicat_retry_s=0.5) as catalogue,
        pytest.raises(CatalogueError, match="show the data set"),
    ):
        catalogue.dataset(PID)


def test_without_patience_there_is_one_try(facility: Facility) -> None:
    facility.ingest(PID)
    armed = facility.fault(path_regex=READ, times=None, status=503)
    with facility.open(scicat_retry_s=0) as catalogue, pytest.raises(CatalogueError):
        catalogue.dataset(PID)
    assert facility.fired(armed) == 1


def test_a_scicat_that_is_down_is_an_error_that_can_pass() -> None:
    settings = CatalogueSettings(scicat_endpoint="http://127.0.0.1:9", scicat_retry_s=0.3)
    with Catalogue.open(settings) as catalogue:
        with pytest.raises(CatalogueError, match="did not answer"):
            catalogue.dataset(PID)
        with pytest.raises(CatalogueError, match="did not answer"):
            catalogue.check()


def test_a_web_page_in_the_apis_place_is_refused(facility: Facility) -> None:
    def page(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        return (200, b"<!doctype html>") if exchange.method == "GET" else forward()

    with (
        facility.behind(page) as (catalogue, _),
        pytest.raises(CatalogueRefusedError, match="not JSON"),
    ):
        catalogue.dataset(PID)


def test_settings_that_cannot_work_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogueRefusedError, match="SCICAT_ENDPOINT is not set"):
        Catalogue.open(CatalogueSettings())
    bundle = tmp_path / "ca.pem"
    settings = CatalogueSettings(scicat_endpoint="https://scicat.test", scicat_ca_file=bundle)
    with pytest.raises(CatalogueRefusedError, match="SCICAT_CA_FILE"):
        Catalogue.open(settings)
    bundle.write_text("no certificate")
    with pytest.raises(CatalogueRefusedError, match="SCICAT_CA_FILE"):
        Catalogue.open(settings)


def test_a_healthy_scicat_passes_the_check_without_a_login(facility: Facility) -> None:
    with facility.behind(passing) as (catalogue, proxy):
        catalogue.check()
    assert [exchange.path for exchange in proxy.seen] == ["/api/v3/health"]


@pytest.mark.parametrize("fault", [{"status": 503}, {"drop_connection": True}])
def test_a_scicat_that_is_not_well_fails_the_check(
    facility: Facility, catalogue: Catalogue, fault: dict[str, Any]
) -> None:
    facility.fault(path_regex="/health$", **fault)
    with pytest.raises(CatalogueError):
        catalogue.check()
    catalogue.check()


def test_the_user_of_a_token_is_named_with_the_groups(facility: Facility, catalogue: Catalogue) -> None:
    assert catalogue.user_of_token(facility.token(INGESTOR)) == CatalogueUser(INGESTOR, ("ingestor", OWNER_GROUP))
    assert catalogue.own_user() == CatalogueUser(ARCHIVER, ("archivemanager",))


@pytest.mark.parametrize("token", ["", "not-a-token", "a.b.c", "two words", "line\nbreak", "ä"])
def test_a_token_that_is_nobodys_gives_no_user(catalogue: Catalogue, token: str) -> None:
    assert catalogue.user_of_token(token) is None


def test_an_expired_token_gives_no_user(
    facility_with: Callable[[ScicatConfig], AbstractContextManager[Facility]],
) -> None:
    config = stack_config().model_copy(update={"jwt_lifetime_seconds": 1})
    with facility_with(config) as facility, facility.open() as catalogue:
        token = facility.token()
        pause = threading.Event()
        for _ in range(100):
            if catalogue.user_of_token(token) is None:
                break
            pause.wait(0.1)
        assert catalogue.user_of_token(token) is None


def test_somebody_elses_token_is_never_replaced_by_our_own(facility: Facility) -> None:
    with facility.behind(passing) as (catalogue, proxy):
        assert catalogue.user_of_token("somebody.elses.token") is None
        assert catalogue.user_of_token(facility.token("otheruser")) == CatalogueUser("otheruser", ("p54321",))
    assert proxy.paths("POST") == []


def test_a_scicat_without_whoami_still_tells_the_user(facility: Facility) -> None:
    def before_whoami(exchange: Exchange, forward: Callable[[], Reply]) -> Reply:
        if exchange.path.endswith("/whoami"):
            return 404, b'{"message":"Cannot GET","error":"Not Found","statusCode":404}'
        return forward()

    with facility.behind(before_whoami) as (catalogue, _):
        user = catalogue.user_of_token(facility.token(INGESTOR))
    assert user == CatalogueUser(INGESTOR, ("ingestor", OWNER_GROUP))


@pytest.mark.parametrize(
    ("status", "body", "meant", "reason"),
    [
        (400, {"message": "No", "error": "Bad Request", "statusCode": 400}, 400, "No"),
        (401, {"message": "Unauthorized", "statusCode": 401}, 401, "Unauthorized"),
        (400, {"message": ["a is bad", "b too"], "statusCode": 400}, 400, "a is bad; b too"),
        (400, {"status": 400, "message": "Wrong", "error": '[{"pid":"x"}]'}, 400, 'Wrong; [{"pid":"x"}]'),
        (
            400,
            {
                "status": 400,
                "message": json.dumps(
                    [
                        {
                            "property": "a",
                            "constraints": {"isString": "a must be a string"},
                            "children": [{"constraints": {"x": "a.b is bad"}}],
                        }
                    ]
                ),
            },
            400,
            "a must be a string; a.b is bad",
        ),
        (500, "Internal server error", 500, "Internal server error"),
        (
            500,
            {
                "response": {"message": "Forbidden resource", "error": "Forbidden", "statusCode": 403},
                "status": 403,
                "name": "ForbiddenException",
            },
            403,
            "Forbidden resource",
        ),
        (404, {"message": None, "statusCode": 404}, 404, ""),
    ],
)
def test_every_shape_of_an_error_is_read(status: int, body: Any, meant: int, reason: str) -> None:
    assert read_error(httpx.Response(status, json=body)) == (meant, reason)


def test_an_error_page_of_a_proxy_is_read_as_text() -> None:
    assert read_error(httpx.Response(502, text="<h1>Bad Gateway</h1>")) == (502, "<h1>Bad Gateway</h1>")
    assert read_error(httpx.Response(504)) == (504, "")
