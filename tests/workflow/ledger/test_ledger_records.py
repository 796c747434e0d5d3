from datetime import UTC, datetime, timedelta
from uuid import uuid4

from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, SessionRecord, Stage

TIMEOUT = timedelta(minutes=5)


def archive(ledger: Ledger, pid: str, names: str, stage: Stage = Stage.PUBLISHED) -> None:
    claim = ledger.claim_dataset(pid, "run", TIMEOUT)
    blocks = [DatablockRecord(name, pid, index, 1, 2, 1, "ab", "server", None) for index, name in enumerate(names)]
    ledger.adopt_dataset(claim, stage, blocks, 1, 1)


def test_a_session_is_the_user_recorded_last(ledger: Ledger) -> None:
    assert ledger.find_session("s1") is None
    ledger.record_session("s1", "ana", ["p1", "p2"])
    ledger.record_session("s2", "ben", [])
    ledger.record_session("s1", "ana", ["p3"])
    assert ledger.find_session("s1") == SessionRecord("s1", "ana", ("p3",))
    assert ledger.find_session("s2") == SessionRecord("s2", "ben", ())


def test_old_sessions_are_forgotten(ledger: Ledger) -> None:
    ledger.record_session("s1", "ana", ["p1"])
    assert ledger.forget_sessions(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert ledger.forget_sessions(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert ledger.find_session("s1") is None


def test_the_last_fixity_check_counts(ledger: Ledger) -> None:
    assert ledger.last_fixity("a") is None
    ledger.record_fixity("a", FixityOutcome.OK, "client cache bypassed", "")
    damaged = ledger.record_fixity("a", FixityOutcome.DAMAGED, "server", "sha256 differs")
    ledger.record_fixity("b", FixityOutcome.OK, "server", "")
    assert ledger.last_fixity("a") == damaged
    assert (damaged.outcome, damaged.detail) == (FixityOutcome.DAMAGED, "sha256 differs")


def test_the_audit_takes_first_what_was_never_checked_and_then_the_longest_ago(ledger: Ledger) -> None:
    archive(ledger, "p/1", "abc")
    archive(ledger, "p/2", "d", Stage.WRITTEN)
    for name in "bca":
        assert [block.archive_id for block in ledger.oldest_checked(1)] != [name] or name == "a"
        ledger.record_fixity(name, FixityOutcome.SKIPPED, "", "")
    assert [block.archive_id for block in ledger.oldest_checked(2)] == ["b", "c"]
    archive(ledger, "p/3", "e")
    assert [block.archive_id for block in ledger.oldest_checked(9)] == ["e", "b", "c", "a"]


def test_damage_is_known_until_a_later_check_finds_none(ledger: Ledger) -> None:
    archive(ledger, "p/1", "ab")
    archive(ledger, "p/2", "c")
    ledger.record_fixity("a", FixityOutcome.OK, "server", "")
    ledger.record_fixity("a", FixityOutcome.MISSING, "", "it is not there")
    ledger.record_fixity("c", FixityOutcome.DAMAGED, "server", "sha256 differs")
    ledger.record_fixity("c", FixityOutcome.OK, "server", "")
    ledger.record_fixity("gone", FixityOutcome.DAMAGED, "server", "of a data set that was forgotten")

    assert [(pid, found.archive_id, found.detail) for pid, found in ledger.damaged_datablocks()] == [
        ("p/1", "a", "it is not there")
    ]
    summary = ledger.fixity_summary(timedelta(days=1), not_below="p")
    assert (summary.datablocks, summary.packed_bytes, summary.oldest_read) == (0, 0, None)
    summary = ledger.fixity_summary(timedelta(days=1))
    assert (summary.datablocks, summary.packed_bytes, summary.damaged, summary.overdue) == (3, 6, 1, 1)


def test_a_check_of_a_copy_says_nothing_of_the_first_share(ledger: Ledger) -> None:
    archive(ledger, "p/1", "ab")
    first = ledger.record_fixity("a", FixityOutcome.OK, "server", "")
    copy = ledger.record_fixity("a", FixityOutcome.DAMAGED, "server", "sha256 differs", "copy")
    ledger.record_fixity("b", FixityOutcome.SKIPPED, "", "", "copy")

    assert (ledger.last_fixity("a"), ledger.last_fixity("a", "copy")) == (first, copy)
    assert [block.archive_id for block in ledger.oldest_checked(1)] == ["b"], "a copy's check moves nothing on"
    assert [(pid, found.copy) for pid, found in ledger.damaged_datablocks()] == [("p/1", "copy")]
    summary = ledger.fixity_summary(timedelta(days=1))
    assert (summary.datablocks, summary.damaged, summary.on_tape) == (2, 1, 0)

    assert ledger.forget_damage_of_copies(except_on=["copy"]) == set()
    assert ledger.forget_damage_of_copies(except_on=[]) == {"p/1"}
    assert ledger.damaged_datablocks() == []
    assert [block.archive_id for block in ledger.oldest_checked(1)] == ["a"], "due at once, should that share come back"


def test_recording_a_datablock_again_keeps_when_it_was_checked(ledger: Ledger) -> None:
    archive(ledger, "p/1", "ab")
    ledger.record_fixity("a", FixityOutcome.OK, "server", "")
    archive(ledger, "p/1", "ab")
    assert [block.archive_id for block in ledger.oldest_checked(9)] == ["b", "a"]


def test_a_run_recorded_twice_is_one_run(ledger: Ledger) -> None:
    job, first, second = str(uuid4()), uuid4(), uuid4()
    ledger.record_run(job, "archive", 2, second)
    ledger.record_run(job, "archive", 1, first)
    ledger.record_run(job, "archive", 1, first)
    ledger.record_run("other", "retrieve", 1, uuid4())
    found = [(run.job_type, run.attempt, run.run_id) for run in ledger.runs(job)]
    assert found == [("archive", 1, first), ("archive", 2, second)]


def test_a_fact_remembered_first_stays(ledger: Ledger) -> None:
    assert ledger.remember("share", "one") == "one"
    assert ledger.remember("share", "two") == "one"
    assert ledger.remember("other", "two") == "two"


def test_a_fact_that_is_forgotten_gives_its_place_to_those_that_move_up(ledger: Ledger) -> None:
    for name in ("a", "b", "c", "d"):
        ledger.remember(name, name.upper())

    assert not ledger.forget("b", "another", moving_up=["c"])
    assert not ledger.forget("x", "X", moving_up=["c"])
    assert ledger.remembered("c") == "C"
    assert ledger.forget("b", "B", moving_up=["c", "d"])

    assert [ledger.remembered(name) for name in ("a", "b", "c", "d")] == ["A", "C", "D", None]
    assert ledger.forget("c", "D")
    assert ledger.remembered("c") is None


def test_the_last_sign_of_life_of_a_service_is_known(ledger: Ledger) -> None:
    assert ledger.last_beat("reconciliation") is None
    ledger.beat("reconciliation")
    first = ledger.last_beat("reconciliation")
    ledger.beat("reconciliation")
    second = ledger.last_beat("reconciliation")
    assert first is not None
    assert second is not None
    assert first < second
    assert ledger.last_beat("other") is None
