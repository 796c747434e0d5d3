"""The S3 storage refuses, resets, cuts off, is slow or hangs while a data set is archived or retrieved."""

import re
from collections.abc import Callable
from itertools import product
from urllib.parse import parse_qsl, urlsplit

import pytest

from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_behind import s3_behind_proxy
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_trials import (
    Archived,
    archive_after_the_crash,
    ingest,
    retrieve_after_the_crash,
    some,
    try_all,
)
from support.faulty_proxy import Trouble

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)

PASSING = [Trouble.REFUSED, Trouble.RESET, Trouble.REPLY_LOST, Trouble.TRUNCATED, Trouble.SLOW]
LASTING = [Trouble.REFUSED, Trouble.RESET, Trouble.TRUNCATED]


def _kind(call: str) -> str:
    """What a call asks for, without naming the object: `GET object`, `POST bucket delete`."""
    method, _, target = call.partition(" ")
    parts = urlsplit(target)
    of_object = re.fullmatch("/[^/]+/.+", parts.path) is not None
    words = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    known = sorted({"list-type", "delete", "uploads", "uploadId", "partNumber"} & set(words))
    return " ".join([method, "object" if of_object else "bucket", *known])


def _is(kind: str) -> Callable[[str], bool]:
    return lambda call: _kind(call) == kind


def _kinds(facility: Facility, runner: Runner, use_case: str, pid: str) -> list[str]:
    """What a run without trouble asks of S3."""
    with s3_behind_proxy(facility) as behind:
        assert runner.run(behind.facility, use_case, pid).error == ""
        return sorted({_kind(call) for call in behind.proxy.calls()})


def test_trouble_that_passes_while_archiving_is_overcome(facility: Facility, runner: Runner, matrix: Matrix) -> None:
    def trial(case: tuple[str, Trouble]) -> None:
        kind, trouble = case
        witness = ingest(facility)
        with s3_behind_proxy(facility) as behind:
            behind.proxy.spoil(trouble, _is(kind), times=1)
            outcome = runner.run(behind.facility, "archive", witness.pid)
            assert behind.proxy.spoiled() == 1
        assert outcome.error == "", outcome.message
        witness.check_archived_once()
        matrix.add(f"S3: {trouble}, once", f"archiving, at {kind}", "", "asked again; archived once")

    kinds = _kinds(facility, runner, "archive", ingest(facility).pid)
    assert try_all(some(list(product(kinds, PASSING)), 3), trial) > 0


def test_trouble_that_passes_while_retrieving_is_overcome(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(case: tuple[str, Trouble], witness: Witness) -> None:
        kind, trouble = case
        with s3_behind_proxy(facility) as behind:
            behind.proxy.spoil(trouble, _is(kind), times=1)
            outcome = runner.run(behind.facility, "retrieve", witness.pid)
            assert behind.proxy.spoiled() == 1
        assert outcome.error == "", outcome.message
        witness.check_retrieved()
        matrix.add(f"S3: {trouble}, once", f"retrieving, at {kind}", "", "asked again; retrieved")

    kinds: list[str] = []
    archived.for_each(lambda _, witness: kinds.extend(_kinds(facility, runner, "retrieve", witness.pid)))("")
    assert try_all(some(list(product(kinds, PASSING)), 4), archived.for_each(trial)) > 0


def test_trouble_that_outlasts_a_run_that_archives_costs_nothing(
    facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(case: tuple[str, Trouble]) -> None:
        kind, trouble = case
        witness = ingest(facility)
        with s3_behind_proxy(facility) as behind:
            behind.proxy.spoil(trouble, _is(kind))
            outcome = runner.run(behind.facility, "archive", witness.pid)
            assert behind.proxy.spoiled() > 1
        assert outcome.error == "ObjectStoreError", outcome.message
        copies = archive_after_the_crash(facility, runner, witness)
        went = f"{outcome.error}; next run: archived once"
        matrix.add(f"S3: {trouble}, for longer than the run", f"archiving, at {kind}", copies, went)

    kinds = _kinds(facility, runner, "archive", ingest(facility).pid)
    assert try_all(some(list(product(kinds, LASTING)), 5), trial) > 0


def test_trouble_that_outlasts_a_run_that_retrieves_shows_nothing_wrong(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(case: tuple[str, Trouble], witness: Witness) -> None:
        kind, trouble = case
        with s3_behind_proxy(facility) as behind:
            behind.proxy.spoil(trouble, _is(kind))
            outcome = runner.run(behind.facility, "retrieve", witness.pid)
            assert behind.proxy.spoiled() > 1
        assert outcome.error == "ObjectStoreError", outcome.message
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"{outcome.error}; next run: retrieved"
        matrix.add(f"S3: {trouble}, for longer than the run", f"retrieving, at {kind}", seen, went)

    kinds: list[str] = []
    archived.for_each(lambda _, witness: kinds.extend(_kinds(facility, runner, "retrieve", witness.pid)))("")
    assert try_all(some(list(product(kinds, LASTING)), 7), archived.for_each(trial)) > 0


def test_files_that_never_come_end_the_run_and_cost_nothing(facility: Facility, runner: Runner, matrix: Matrix) -> None:
    witness = ingest(facility)
    with s3_behind_proxy(facility, lts_stall_timeout_s=1.0) as behind:
        behind.proxy.spoil(Trouble.HANGS, _is("GET object"))
        outcome = runner.run(behind.facility, "archive", witness.pid)
    assert outcome.error == "StalledError", outcome.message
    copies = archive_after_the_crash(facility, runner, witness)
    matrix.add("S3: hangs", "archiving, at GET object", copies, f"{outcome.error}; next run: archived once")


def test_parts_that_are_never_taken_end_a_retrieval_and_show_nothing_wrong(
    archived: Archived, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(kind: str, witness: Witness) -> None:
        with s3_behind_proxy(facility, lts_stall_timeout_s=1.0) as behind:
            behind.proxy.spoil(Trouble.HANGS, _is(kind))
            outcome = runner.run(behind.facility, "retrieve", witness.pid)
        assert outcome.error == "StalledError", outcome.message
        seen = retrieve_after_the_crash(facility, runner, witness)
        matrix.add("S3: hangs", f"retrieving, at {kind}", seen, f"{outcome.error}; next run: retrieved")

    archived.for_each(trial)("PUT object partNumber uploadId")
