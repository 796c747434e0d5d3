"""What Prometheus is told, and who may ask."""

import importlib
import json
import pkgutil
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

import archiver.workflow
from archiver.workflow.error_codes import COPIES_AWAY, KNOWN_CODES
from archiver.workflow.errors import ArchiverError
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, Stage
from support.backend_api import Api, RecordingQueue, RunApi
from support.backups import note_backup

MONITORING = Path(__file__).parents[2] / "deployment" / "monitoring"
OUTSIDE = {"X-Forwarded-For": "10.0.0.1"}


@pytest.fixture(scope="module")
def guarded_api(start_api: RunApi) -> Iterator[Api]:
    """An API with credentials for a Prometheus outside."""
    settings = {
        "metrics_bearer_token": SecretStr("a-long-token"),
        "metrics_username": SecretStr("prom"),
        "metrics_password": SecretStr("pass"),
    }
    with start_api(api=settings) as running:
        yield running


def samples(api: Api) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name of the sample and by the values of its labels, in order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(api.anonymous().get("/metrics").text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def archive(api: Api, pid: str, stage: Stage) -> str:
    """A data set of one datablock that came as far as `stage`; its archive id."""
    block = DatablockRecord(
        archive_id=f"openem-network/datasets/{pid}/data/datablocks/x_0.tar",
        pid=pid,
        index=0,
        size=1000,
        packed_size=1512,
        files=3,
        sha256="ab" * 32,
        proof="read",
        verified_at=None,
    )
    claim = api.ledger.claim_dataset(pid, "run", timedelta(minutes=1))
    api.ledger.record_stage(claim, Stage.PLANNED, files=3, payload_bytes=1500)
    api.ledger.record_datablock(claim, block)
    if stage is not Stage.PLANNED:
        api.ledger.record_stage(claim, stage)
    api.ledger.release_claim(claim)
    return block.archive_id


def test_requests_uploads_and_queues_are_counted(fresh_api: Api) -> None:
    fresh_api.client().request_upload(fresh_api.catalogue.new_dataset(), 2)
    fresh_api.anonymous().get("/nowhere")
    fresh_api.ledger.beat("reconciliation")

    found = samples(fresh_api)

    assert found["archiver_http_requests_total"]["POST", "/s3/requestDatasetUpload", "201"] == 1
    assert found["archiver_http_requests_total"]["GET", "unmatched", "404"] == 1
    assert found["archiver_landing_reserved_bytes"][()] == 3 * 1024**3
    assert found["archiver_landing_free_bytes"][()] == 90 * 10**9 - 3 * 1024**3
    assert found["archiver_landing_uploads"]["open",] == 1
    assert found["archiver_flow_runs"]["running", "archive"] == 3
    assert found["archiver_flow_runs_oldest_seconds"]["running", "archive"] > 0
    assert found["archiver_pool_workers"]["archival",] == 1
    assert 0 <= found["archiver_reconciliation_age_seconds"][()] < 60
    assert set(found["archiver_metrics_unreadable"].values()) == {0}


def test_the_archive_its_share_and_its_fixity_are_told_from_the_ledger(fresh_api: Api) -> None:
    ledger = fresh_api.ledger
    share = uuid.uuid4()
    ledger.remember(LTS_IDENTITY, str(share))
    ledger.record_share_space(share, 40, 100)
    good, bad = archive(fresh_api, "p/a", Stage.EMPTIED), archive(fresh_api, "p/b", Stage.REGISTERED)
    archive(fresh_api, "p/c", Stage.PLANNED)
    archive(fresh_api, "p/d", Stage.FAILED)
    ledger.record_fixity(bad, FixityOutcome.DAMAGED, "", "")
    claim = ledger.claim_retrieval(good, "run", timedelta(minutes=1))
    ledger.record_retrieved(claim, 1512, "ab" * 32, datetime.now(UTC) + timedelta(days=1))
    ledger.count_error("no-space")
    ledger.count_stuck_task("catalogue-refused")

    found = samples(fresh_api)

    expected = {
        "archiver_archived_datasets": 2,
        "archiver_archived_files": 6,
        "archiver_archived_bytes": 3000,
        "archiver_archive_bytes": 3024,
        "archiver_lts_total_bytes": 100,
        "archiver_lts_free_bytes": 40,
        "archiver_lts_used_bytes": 60,
        "archiver_lts_reserved_bytes": 500,
        "archiver_retrieved_bytes_total": 1512,
        "archiver_retrieved_files_total": 3,
        "archiver_retrieval_copies": 1,
        "archiver_retrieval_copies_bytes": 1512,
    }
    assert {name: found[name][()] for name in expected} == expected
    assert {name: found["archiver_datablocks"][name,] for name in ("archived", "damaged")} == {
        "archived": 2,
        "damaged": 1,
    }
    assert found["archiver_errors_total"]["no-space",] == 1
    assert found["archiver_reconciliation_stuck_total"]["catalogue-refused",] == 1
    assert found["archiver_datasets"]["failed",] == 1
    assert found["archiver_stage_seconds_count"]["planned",] == 4
    assert found["archiver_stage_seconds_count"]["retrieved",] == 1


def test_the_space_of_retrieved_copies_is_told_with_what_is_set_aside_for_those_being_made(fresh_api: Api) -> None:
    ledger = fresh_api.ledger
    made = ledger.claim_retrieval("p/a.tar", "run", timedelta(minutes=1))
    ledger.record_retrieved(made, 1500, "ab" * 32, datetime.now(UTC) + timedelta(days=1))
    ledger.release_retrieval(made)
    ledger.claim_retrieval("p/b.tar", "run", timedelta(minutes=1), reserve=700)

    found = samples(fresh_api)

    assert found["archiver_retrieval_copies_bytes"][()] == 1500
    assert found["archiver_retrieval_taken_bytes"][()] == 2200
    assert found["archiver_retrieval_capacity_bytes"][()] == fresh_api.config.store.s3_total_retrieval_space_tb * 10**12


def test_the_age_of_backups_is_told_where_the_service_makes_them(start_api: RunApi, ledger_url: str) -> None:
    with start_api(ledger={"ledger_url": SecretStr(ledger_url)}) as api:
        assert "archiver_backup_age_seconds" not in samples(api)
        note_backup(api.ledger, "prefect", timedelta(hours=2))
        found = samples(api)
    assert found["archiver_backup_interval_seconds"][()] == 24 * 3600
    assert set(found["archiver_backup_age_seconds"]) == {("prefect",)}
    assert 7200 <= found["archiver_backup_age_seconds"]["prefect",] < 7260

    elsewhere = {"postgres_backup_hours": 0}
    with start_api(ledger={"ledger_url": SecretStr(ledger_url)}, backup=elsewhere) as api:
        found = samples(api)
    assert [name for name in found if "backup" in name] == []
    assert found["archiver_metrics_unreadable"]["backups",] == 0


@pytest.mark.parametrize("name", ["alerts.yml", "grafana/archiver.json"])
def test_rules_and_dashboard_use_metrics_that_there_are(fresh_api: Api, name: str) -> None:
    ledger = fresh_api.ledger
    share = uuid.uuid4()
    ledger.remember(LTS_IDENTITY, str(share))
    ledger.record_share_space(share, 40, 100)
    ledger.record_fixity(archive(fresh_api, "p/a", Stage.EMPTIED), FixityOutcome.OK, "", "")
    ledger.beat("reconciliation")
    ledger.count_error("no-space")
    note_backup(ledger, "ledger", timedelta(hours=1))
    ledger.count_stuck_task("catalogue-refused")
    fresh_api.anonymous().get("/health/livez")

    used = set(re.findall(r"\barchiver_[a-z_]+", (MONITORING / name).read_text()))

    assert len(used) > 10
    assert used - set(samples(fresh_api)) == set()


def expressions(name: str) -> Iterator[tuple[str, str]]:
    """Each expression of the rules or of the dashboard, with the words that show labels of what it finds."""
    text = (MONITORING / name).read_text()
    if name == "alerts.yml":
        for rule in (rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]):
            yield rule["expr"], " ".join(rule["annotations"].values())
    else:
        for target in (target for panel in json.loads(text)["panels"] for target in panel["targets"]):
            yield target["expr"], target["legendFormat"]


@pytest.mark.parametrize("name", ["alerts.yml", "grafana/archiver.json"])
def test_rules_and_dashboard_use_labels_that_there_are(fresh_api: Api, name: str) -> None:
    share = uuid.uuid4()
    fresh_api.ledger.remember(LTS_IDENTITY, str(share))
    fresh_api.ledger.record_share_space(share, 40, 100)
    note_backup(fresh_api.ledger, "ledger", timedelta(hours=1))
    archive(fresh_api, "p/a", Stage.EMPTIED)
    fresh_api.anonymous().get("/health/livez")
    labels: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(fresh_api.anonymous().get("/metrics").text):
        for sample in family.samples:
            there = labels.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                there.setdefault(label, set()).add(value)
    used = 0

    for expression, words in expressions(name):
        metrics = set(re.findall(r"archiver_[a-z_]+", expression))
        for metric, selectors in re.findall(r"(archiver_[a-z_]+)\{([^}]*)\}", expression):
            for label, how, value in re.findall(r'([a-z_]+)(=~|!=|=)"([^"]*)"', selectors):
                used += 1
                values = labels[metric].get(label, set())
                assert values, f"{metric} has no label {label}"
                # A status of HTTP is there when it was answered; of the others all values are there from the beginning.
                if label != "status":
                    assert set(value.split("|") if how == "=~" else [value]) <= values, (
                        f"{metric}, {label} {how} {value}"
                    )
        shown = re.findall(r"\{\{ ?\$?(?:labels\.)?([a-z]+) ?\}\}", words)
        grouped = [each for by in re.findall(r"\bby \(([^)]*)\)", expression) for each in re.split(r", *", by)]
        for label in set(shown + grouped) - {"value", "job", "instance"}:
            used += 1
            assert any(label in labels[metric] for metric in metrics), f"{label}: {expression}"
    assert used > 8


def test_every_kind_of_failure_is_told_from_the_beginning_so_that_the_first_one_is_seen(fresh_api: Api) -> None:
    found = samples(fresh_api)

    for name in ("archiver_errors_total", "archiver_reconciliation_stuck_total"):
        assert {kind for (kind,) in found[name]} == set(KNOWN_CODES)
        assert set(found[name].values()) == {0}


def test_no_error_of_the_work_on_data_sets_is_left_out_of_the_known_ones() -> None:
    # What no run and no reconciliation meets: engine of containers at the worker, smoke tests.
    elsewhere = {
        "archiver.workflow.container_sweep",
        "archiver.workflow.smoke_comparison",
        "archiver.workflow.smoke_test",
    }
    for module in pkgutil.walk_packages(archiver.workflow.__path__, "archiver.workflow."):
        if ".migrations." not in module.name:
            importlib.import_module(module.name)

    def codes(error: type[ArchiverError]) -> set[str]:
        below = {code for each in error.__subclasses__() for code in codes(each)}
        ours = error.__module__.startswith("archiver.workflow.") and error.__module__ not in elsewhere
        return below | ({error.code} if ours else set())

    assert codes(ArchiverError) | {COPIES_AWAY} == set(KNOWN_CODES)


def test_what_must_stay_free_on_the_share_is_told(start_api: RunApi, ledger_url: str) -> None:
    with start_api(ledger={"ledger_url": SecretStr(ledger_url)}, lts={"lts_free_space_percentage": 20}) as api:
        share = uuid.uuid4()
        api.ledger.remember(LTS_IDENTITY, str(share))
        api.ledger.record_share_space(share, 400, 1000)

        assert samples(api)["archiver_lts_floor_bytes"][()] == 200


def test_disagreements_are_told_before_the_reconciliation_ever_made_a_whole_pass(fresh_api: Api) -> None:
    assert samples(fresh_api)["archiver_disagreements"][()] == 0


def test_the_dashboard_can_be_imported_as_it_is() -> None:
    dashboard = json.loads((MONITORING / "grafana" / "archiver.json").read_text())

    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in panels for target in panel["targets"])


def test_a_paused_pool_is_told(fresh_api: Api, queue: RecordingQueue) -> None:
    queue.paused = True

    assert samples(fresh_api)["archiver_pool_paused"]["archival",] == 1


def test_metrics_do_not_exist_for_callers_behind_the_proxy(api: Api) -> None:
    answer = api.anonymous().get("/metrics", headers=OUTSIDE)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer a-long-token"}, 200),
        ({"Authorization": "Basic cHJvbTpwYXNz"}, 200),  # prom:pass
        ({"Authorization": "Bearer another"}, 404),
        ({"Authorization": "Basic cHJvbTp3cm9uZw=="}, 404),
        ({"Authorization": "Bearer"}, 404),
        ({"Authorization": ""}, 404),
        ({}, 404),
    ],
)
def test_a_prometheus_outside_needs_a_credential(guarded_api: Api, headers: dict[str, str], status: int) -> None:
    assert guarded_api.anonymous().get("/metrics", headers=OUTSIDE | headers).status_code == status


@pytest.mark.parametrize("given", ["Bearer", "Basic Og==", "Basic cHJvbTo="])
def test_what_is_not_set_lets_nobody_in(api: Api, given: str) -> None:
    assert api.anonymous().get("/metrics", headers=OUTSIDE | {"Authorization": given}).status_code == 404


def test_metrics_go_on_while_prefect_is_away(start_api: RunApi) -> None:
    with start_api(queue={"prefect_api_url": "http://127.0.0.1:9/api"}) as api:
        found = samples(api)
    assert found["archiver_metrics_unreadable"]["queue",] == 1
    assert found["archiver_metrics_unreadable"]["landing",] == 0
    assert "archiver_landing_capacity_bytes" in found
