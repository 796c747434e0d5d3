"""Paths, bodies and error shapes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
from fastapi.routing import APIRoute

from archiver.local.scicat.app import create_scicat
from archiver.local.scicat.config import ScicatConfig


def test_paths_are_matched_without_case_and_with_a_trailing_slash(alice: httpx.Client) -> None:
    assert alice.get("/api/v3/Datasets/").status_code == 200
    assert alice.get("/API/V3/auth/WhoAmI").json()["username"] == "alice"


def test_a_pid_must_be_encoded_exactly_once(
    alice: httpx.Client, new_dataset: Callable[..., str], path_of: Callable[..., str]
) -> None:
    pid = new_dataset()
    assert alice.get(path_of(pid)).json()["pid"] == pid
    unencoded = alice.get(f"/api/v3/datasets/{pid}")
    assert unencoded.status_code == 404
    assert unencoded.json()["message"] == f"Cannot GET /api/v3/datasets/{pid}"
    twice = alice.get(f"/api/v3/datasets/{quote(quote(pid, safe=''), safe='')}")
    assert twice.status_code == 404
    assert "Cannot GET" not in twice.json()["message"]


def test_a_bad_escape_in_a_path_gives_400(alice: httpx.Client) -> None:
    # httpx would mend the escape; what counts is what arrives.
    url = httpx.URL(alice.base_url, raw_path=b"/api/v3/datasets/20.500%2")
    request = alice.build_request("GET", "/")
    request.url = url
    assert alice.send(request).status_code == 400
    request.url = httpx.URL(alice.base_url, raw_path=b"/api/v3/datasets/%ff")
    assert alice.send(request).status_code == 400


def test_a_pids_case_matters(
    admin: httpx.Client, dataset_body: Callable[..., dict[str, Any]], path_of: Callable[..., str]
) -> None:
    admin.post("/api/v4/datasets", json=dataset_body(pid="Prefix/ABC"))
    assert admin.get(path_of("Prefix/ABC")).status_code == 200
    assert admin.get(path_of("prefix/abc")).status_code == 404


def test_an_unknown_path_or_method_gives_404(alice: httpx.Client) -> None:
    for method, path in (("GET", "/api/v3/userinfos"), ("PUT", "/api/v4/jobs/x"), ("GET", "/health")):
        reply = alice.request(method, path)
        assert reply.status_code == 404
        assert reply.json() == {"message": f"Cannot {method} {path}", "error": "Not Found", "statusCode": 404}


def test_a_body_over_16_mib_gives_a_bare_500_and_one_of_15_mb_passes(
    alice: httpx.Client,
    new_dataset: Callable[..., str],
    path_of: Callable[..., str],
    orig_body: Callable[..., dict[str, Any]],
) -> None:
    pid = new_dataset()
    body = orig_body(1)
    body["dataFileList"][0]["path"] = "x" * 15_000_000
    assert alice.post(path_of(pid, "origdatablocks"), json=body).status_code == 201
    body["dataFileList"][0]["path"] = "x" * (16 * 1024 * 1024)
    reply = alice.post(path_of(pid, "origdatablocks"), json=body)
    assert (reply.status_code, reply.json()) == (500, "Internal server error")


def test_unknown_fields_are_refused_with_a_list_of_messages(
    alice: httpx.Client, dataset_body: Callable[..., dict[str, Any]]
) -> None:
    reply = alice.post("/api/v4/datasets", json=dataset_body(surprise=1, size="big"))
    assert reply.status_code == 400
    assert reply.json() == {
        "message": ["property surprise should not exist", "size must be an integer number"],
        "error": "Bad Request",
        "statusCode": 400,
    }


def test_a_v3_data_set_is_refused_with_json_text_as_message(
    alice: httpx.Client, raw_body: Callable[..., dict[str, Any]]
) -> None:
    body = raw_body()
    del body["principalInvestigator"]
    reply = alice.post("/api/v3/datasets", json=body)
    assert reply.status_code == 400
    assert set(reply.json()) == {"status", "message"}
    listed = httpx.Response(200, text=reply.json()["message"]).json()
    assert [one["property"] for one in listed] == ["principalInvestigator"]
    assert set(listed[0]) == {"property", "children", "constraints"}


def test_a_wrong_file_entry_is_named_with_its_place(
    alice: httpx.Client,
    new_dataset: Callable[..., str],
    path_of: Callable[..., str],
    orig_body: Callable[..., dict[str, Any]],
) -> None:
    body = orig_body(2)
    del body["dataFileList"][1]["path"]
    body["dataFileList"][0]["owner"] = "me"
    reply = alice.post(path_of(new_dataset(), "origdatablocks"), json=body)
    assert reply.status_code == 400
    assert reply.json()["message"] == [
        "dataFileList.0.property owner should not exist",
        "dataFileList.1.path must be a string",
    ]


def test_a_bare_json_value_is_no_body(alice: httpx.Client) -> None:
    for content in (b'"text"', b"NaN", b"\xff"):
        reply = alice.post("/api/v4/datasets", content=content, headers={"content-type": "application/json"})
        assert reply.status_code == 400


def test_no_endpoint_stumbles_over_a_body_or_an_id_it_does_not_expect(
    config: ScicatConfig, sign_in: Callable[[str], httpx.Client], admin: httpx.Client
) -> None:
    app = create_scicat(config)
    app.state.catalogue.store.close()
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    bodies: tuple[Any, ...] = ({}, [], {"type": []}, {"datasetId": "x", "jobParams": {"datasetList": [5]}})
    served = [route for route in routes if route.path.startswith("/api/")]
    assert len(served) > 60
    for client in (admin, sign_in("archiver"), sign_in("")):
        for route in served:
            path = re.sub(r"\{\w+\}", "20.500%2Fx", route.path)
            for method, body in itertools.product(route.methods or (), bodies):
                reply = client.request(method, path, json=body)
                assert reply.status_code != 500, (method, path, body, reply.text)
