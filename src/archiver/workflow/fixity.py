"""Audit the archive: read the datablocks that were checked the longest ago again, and report what is damaged.

Nothing is ever altered on the share. Each outcome stands in the ledger at once, so that an audit that ends anywhere
has done what it did, and the next one goes on with what is due then.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import stamina
import structlog

from archiver.config.settings import TERABYTE, FixitySettings
from archiver.workflow.errors import (
    NAMES_SHOWN,
    ArchiverError,
    StalledError,
    TransientError,
    WrongShareError,
    name_some,
)
from archiver.workflow.fixity_coverage import Coverage
from archiver.workflow.holdings.fixity_reading import FixityOrder, read_on
from archiver.workflow.holdings.fixity_reading import recall as ask_for_recall
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.datasets import GONE
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, FixitySummary
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.names import SMOKE_PREFIX
from archiver.workflow.second_copies import known_copies
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tools import Tools

log = structlog.get_logger(__name__)

STRETCH_S = 60.0
"""So long the audit reads before it gives its place back and asks again whether a retrieval waits."""
_BATCH = 200
_TRIES = 3
"""Of reading a datablock, where the share answers improperly."""
_STALLS = 3
"""When so many datablocks hang, one after the other, it is the share that hangs."""
_DAMAGED = "Damaged on the long-term storage"
"""Begins what the catalogue is told."""


class _NotYetError(Exception):
    """What is waited for has not come."""


def _insist(condition: Callable[[], bool]) -> None:
    if not condition():
        raise _NotYetError


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it came true in that time; looked at more and more seldom."""
    try:
        for attempt in stamina.retry_context(
            on=_NotYetError, attempts=None, timeout=timeout_s, wait_initial=1, wait_max=30
        ):
            with attempt:
                _insist(condition)
    except _NotYetError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Held:
    """A datablock on one of the shares that hold it."""

    datablock: DatablockRecord
    share: ShareAddress
    is_copy: bool
    """On a share of LTS_COPIES, not on the first one."""

    @property
    def archive_id(self) -> str:
        return self.datablock.archive_id

    @property
    def copy(self) -> str:
        """As the ledger names the share: empty for the first one."""
        return str(self.share.identity) if self.is_copy else ""

    @property
    def place(self) -> str:
        """Where a copy lies; empty for the first share."""
        return str(self.share.root) if self.is_copy else ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A datablock that somebody must look at."""

    pid: str
    archive_id: str
    outcome: FixityOutcome
    detail: str
    place: str = ""
    """Mount point of the share, where it is that of a copy."""

    def __str__(self) -> str:
        return f"{_named(self.archive_id, self.place)} is {self.outcome}: {self.detail}"


def _named(archive_id: str, place: str) -> str:
    return f"{archive_id} (copy at {place})" if place else archive_id


@dataclass(slots=True)
class AuditOutcome:
    """What an audit came to."""

    coverage: Coverage
    checked: int = 0
    """Datablocks that were read to their end."""
    read_bytes: int = 0
    on_tape: int = 0
    """Stubs that were skipped."""
    on_tape_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    """Datablocks that an earlier check had found damaged, and that are good."""
    without_copy: dict[str, int] = field(default_factory=dict)
    """Datablocks of which a share of LTS_COPIES never had a copy, by its mount point."""
    away: dict[str, str] = field(default_factory=dict)
    """Shares of copies that could not be read, by their mount points, and why."""
    untold: list[str] = field(default_factory=list)
    """What the catalogue could not be told, and why."""
    ended_by: str = "all datablocks were checked"
    summary: FixitySummary | None = None
    """The whole archive, after the audit."""

    @property
    def message(self) -> str:
        """The outcome in words."""
        parts = [f"{self.checked} datablocks read, {self.read_bytes} bytes; {self.ended_by}"]
        if self.findings:
            parts.append("DAMAGE FOUND, nothing was changed: " + "; ".join(map(str, self.findings[:NAMES_SHOWN])))
            if len(self.findings) > NAMES_SHOWN:
                parts.append(f"and {len(self.findings) - NAMES_SHOWN} more")
            parts.append("see 'when the only copy is damaged' in the documentation")
        if self.mended:
            parts.append(f"good again: {name_some(self.mended)}")
        if self.on_tape:
            parts.append(f"{self.on_tape} datablocks of {self.on_tape_bytes} bytes lie on tape and were skipped")
        if self.summary is not None:
            if self.summary.damaged > len(self.findings):
                parts.append(f"{self.summary.damaged} datablocks are known to be damaged in all")
            if self.summary.overdue:
                parts.append(f"{self.summary.overdue} of {self.summary.datablocks} datablocks are overdue")
        parts += [
            f"{count} datablocks have no copy at {place}; 'archiver lts heal --all --apply' makes them"
            for place, count in self.without_copy.items()
        ]
        parts += [f"WARNING: the copies at {place} were not read: {reason}" for place, reason in self.away.items()]
        if not self.coverage.suffices:
            parts.append(f"WARNING: {self.coverage.message}")
        parts += [f"the catalogue was not told of {each}" for each in self.untold]
        return "; ".join(parts)


class FixityAudit:
    """The use case; one audit."""

    def __init__(
        self,
        tools: Tools,
        settings: FixitySettings,
        monitor: Monitor,
        *,
        recall: int = 0,
        stretch_s: float = STRETCH_S,
    ) -> None:
        """At most `recall` stubs are brought back from tape and read; without it all of them are skipped."""
        self._tools = tools
        self._settings = settings
        self._monitor = monitor
        self._to_recall = recall
        self._stretch_s = stretch_s
        self._ends_at = 0.0
        self._reading_s = 0.0
        self._ended = False
        self._seen: set[str] = set()
        self._copies: list[ShareAddress] = []
        self._due: deque[_Held] = deque()
        self._stubs: list[_Held] = []
        """To be recalled together."""
        self._from_tape: set[_Held] = set()
        self._hung: list[tuple[_Held, StalledError]] = []
        """Datablocks whose reading hung since another one could be read from the same share."""
        self._readable: set[ShareAddress] = set()
        """Shares from which anything could be read."""
        self._current: _Held | None = None
        self._allowed = ""
        """The datablock that the budget had room for."""
        self._tries = 0
        self._suspicion = ""
        """What a first reading of the current one found, which a second one must confirm."""
        self._mended_pids: set[str] = set()
        self._outcome = AuditOutcome(Coverage(0, None, settings))

    def run(self) -> AuditOutcome:
        """Read what is due, within the budget.

        Raises:
            WrongShareError: another first share is mounted, or none.
            StalledError: the first share hangs.
            ArchiverError: of the ledger. What was checked so far is recorded.
        """
        outcome = self._outcome
        self._ends_at = time.monotonic() + 3600 * self._settings.fixity_hours
        self._copies = known_copies(self._tools.ledger, self._tools.lts.lts_copies)
        known = [str(share.identity) for share in self._copies]
        self._mended_pids |= self._tools.ledger.forget_damage_of_copies(except_on=known)
        total = self._summary().packed_bytes * (1 + len(self._copies))
        self._monitor.expect(int(min(total, self._settings.fixity_terabytes * TERABYTE)), "read again")
        with ChildProcess(self._tools.lts.lts_stall_timeout_s) as child:
            while not self._ended:
                has_more = self._has_more()
                if self._stubs and (not has_more or len(self._stubs) >= self._settings.fixity_recall_batch):
                    self._recall(child)
                elif not has_more:
                    self._ended = True
                elif self._retrievals_have_ended():
                    self._monitor.step("read datablocks again", lambda: self._read(child), Limit.READ_LTS)
        self._end_hung()
        outcome.coverage = Coverage(total, self._rate, self._settings, 1 + len(self._copies))
        self._tell_catalogue()
        outcome.summary = self._summary()
        log.info("fixity_audited", message=outcome.message)
        return outcome

    def _summary(self) -> FixitySummary:
        return self._tools.ledger.fixity_summary(self._settings.period, not_below=SMOKE_PREFIX)

    @property
    def _rate(self) -> float | None:
        return self._outcome.read_bytes / self._reading_s if self._outcome.read_bytes else None

    # ------------------------------------------------------------------------------------------ what is next

    def _has_more(self) -> bool:
        if self._current is None and not self._due:
            found = self._tools.ledger.oldest_checked(_BATCH, not_below=SMOKE_PREFIX)
            # What was checked in this audit comes last; what hung, or waits for its recall, still comes first.
            for each in found:
                if each.archive_id not in self._seen:
                    # The copies first: with the first share a datablock counts as checked.
                    self._due.extend(_Held(each, share, is_copy=True) for share in self._copies)
                    self._due.append(_Held(each, self._tools.share, is_copy=False))
            self._seen.update(each.archive_id for each in found)
        return self._current is not None or bool(self._due)

    def _retrievals_have_ended(self) -> bool:
        """Wait while retrievals run, within the time of the audit; whether they have ended."""
        alive = timedelta(seconds=self._tools.settings.claim_timeout_s)
        at_work = self._tools.ledger.retrievals_at_work(alive)
        if not at_work:
            return True
        self._monitor.note(f"waiting for {at_work} retrievals that run")
        if _wait_for(lambda: not self._tools.ledger.retrievals_at_work(alive), self._time_left):
            return True
        self._end("its time was over while retrievals ran")
        return False

    @property
    def _time_left(self) -> float:
        return max(0.001, self._ends_at - time.monotonic())

    def _end(self, reason: str) -> None:
        self._ended = True
        self._outcome.ended_by = reason

    def _take_next(self) -> bool:
        """Make the datablock that is due the current one; False where the budget does not allow it."""
        if not self._due:
            return False
        # Once for a datablock: when it is begun on one share, it is read on the others, too.
        if self._due[0].archive_id != self._allowed and not self._budget_allows(self._due[0].datablock.packed_size):
            return False
        self._allowed = self._due[0].archive_id
        self._current, self._tries, self._suspicion = self._due.popleft(), 0, ""
        return True

    def _budget_allows(self, packed_size: int) -> bool:
        size, done = packed_size * (1 + len(self._copies)), self._outcome.read_bytes
        if done and done + size > self._settings.fixity_terabytes * TERABYTE:
            self._end("the budget of bytes leaves no room for the next one")
            return False
        if done and size / (self._rate or 1) > self._time_left:
            self._end("there is no time left for the next one")
            return False
        return True

    # ------------------------------------------------------------------------------------------ reading

    def _read(self, child: ChildProcess) -> None:
        """Read for a stretch of time, holding a place among those who read the share."""
        ends_at = time.monotonic() + self._stretch_s
        while len(self._stubs) < self._settings.fixity_recall_batch:
            if self._current is None and not self._take_next():
                return
            if self._current is not None:
                self._go_on(child, self._current, ends_at - time.monotonic())
            if time.monotonic() >= ends_at:
                return

    def _go_on(self, child: ChildProcess, held: _Held, seconds: float) -> None:
        if held.place in self._outcome.away:
            self._current = None
            return
        began = time.monotonic()
        try:
            reading = child.call(read_on, self._advance, self._order(held), seconds)
        except WrongShareError as error:
            if not held.is_copy:
                raise
            self._give_up_share(held, error)
            return
        except StalledError as error:
            self._current = None
            self._hung.append((held, error))
            if sum(hung.share == held.share for hung, _ in self._hung) >= _STALLS:
                if not held.is_copy:
                    raise
                self._give_up_share(held, error)
            return
        except TransientError as error:
            self._tries += 1
            log.warning("datablock_not_read", archive_id=held.archive_id, error=str(error), tries=self._tries)
            if self._tries >= _TRIES:
                self._settle(held, FixityOutcome.UNREADABLE, str(error))
            return
        finally:
            self._reading_s += time.monotonic() - began
        if reading.outcome is None:
            return
        if reading.outcome is FixityOutcome.MISSING and self._never_had(held):
            self._current = None
            without = self._outcome.without_copy
            without[held.place] = without.get(held.place, 0) + 1
            return
        if reading.outcome.is_damage and not self._suspicion:
            self._suspicion = reading.detail
            log.warning("datablock_suspected", archive_id=held.archive_id, place=held.place, detail=reading.detail)
            return
        detail = reading.detail
        if self._suspicion and not reading.outcome.is_damage:
            detail = f"good when it was read a second time; the first time: {self._suspicion}"
        self._settle(held, reading.outcome, detail)
        self._settle_hung(held.share)

    def _never_had(self, held: _Held) -> bool:
        """Whether a share of copies lacks what it never had: the data set was archived before there were copies."""
        return held.is_copy and self._tools.ledger.last_fixity(held.archive_id, held.copy) is None

    def _give_up_share(self, held: _Held, reason: ArchiverError) -> None:
        """The share of a copy is not there: nothing is known of what it holds, and the others are read on."""
        self._current = None
        self._hung = [(hung, error) for hung, error in self._hung if hung.share != held.share]
        self._outcome.away[held.place] = str(reason)
        log.error("copies_not_read", place=held.place, reason=str(reason))
        self._monitor.note(f"the copies at {held.place} are not read: {reason}")

    def _order(self, held: _Held) -> FixityOrder:
        return FixityOrder(
            share=held.share,
            archive_id=held.archive_id,
            packed_size=held.datablock.packed_size,
            sha256=held.datablock.sha256,
            stub_percent=self._settings.fixity_stub_percent,
            from_tape=held in self._from_tape,
        )

    def _advance(self, count: int) -> None:
        self._outcome.read_bytes += count
        self._monitor.advance(count)

    # ------------------------------------------------------------------------------------------ what was found

    def _settle(self, held: _Held, outcome: FixityOutcome, detail: str) -> None:
        """Note what a datablock is; a stub may be brought back from tape first."""
        self._current = None
        if outcome.is_damage and self._is_gone(held.datablock.pid):
            return  # withdrawn for good since this audit chose it
        if outcome is FixityOutcome.SKIPPED and self._to_recall > 0:
            self._to_recall -= 1
            self._stubs.append(held)
            return
        ledger, result, pid = self._tools.ledger, self._outcome, held.datablock.pid
        before = ledger.last_fixity(held.archive_id, held.copy)
        proof = ""
        if outcome in (FixityOutcome.OK, FixityOutcome.DAMAGED):
            self._readable.add(held.share)
            result.checked += 1
            proof = f"recalled from tape; {PROOF_READ}" if held in self._from_tape else PROOF_READ
        ledger.record_fixity(held.archive_id, outcome, proof, detail, held.copy)
        if outcome.is_damage:
            finding = Finding(pid, held.archive_id, outcome, detail, held.place)
            result.findings.append(finding)
            log.error("damage_found", pid=pid, archive_id=held.archive_id, place=held.place, detail=detail)
            self._monitor.note(f"DAMAGE: {finding}")
        elif outcome is FixityOutcome.SKIPPED:
            result.on_tape += 1
            result.on_tape_bytes += held.datablock.packed_size
        elif before is not None and before.outcome.is_damage:
            result.mended.append(_named(held.archive_id, held.place))
            self._mended_pids.add(pid)

    def _is_gone(self, pid: str) -> bool:
        record = self._tools.ledger.dataset(pid)
        return record is None or record.stage in GONE

    def _settle_hung(self, share: ShareAddress) -> None:
        """Others can be read from there: what hung is to blame itself."""
        settled = [(hung, error) for hung, error in self._hung if hung.share == share]
        self._hung = [(hung, error) for hung, error in self._hung if hung.share != share]
        for hung, error in settled:
            self._settle(hung, FixityOutcome.UNREADABLE, str(error))

    def _end_hung(self) -> None:
        """What hung last, with nothing read after it.

        Raises:
            StalledError: it is the first share that hangs.
        """
        for held, error in list(self._hung):
            if held.share in self._readable:
                self._settle_hung(held.share)
            elif held.is_copy:
                self._give_up_share(held, error)
            else:
                raise error

    # ------------------------------------------------------------------------------------------ tape

    def _recall(self, child: ChildProcess) -> None:
        """Bring a batch of stubs back from tape, to be read next; those that do not come are skipped."""
        batch, self._stubs = self._stubs, []
        orders = [self._order(each) for each in batch]
        self._monitor.note(f"recalling {len(batch)} datablocks from tape")
        patience = min(3600 * self._settings.fixity_recall_hours, self._time_left)
        at_hand: set[FixityOrder] = set()

        def all_at_hand() -> bool:
            at_hand.update(child.call(ask_for_recall, None, orders))
            return len(at_hand) == len(orders)

        if not _wait_for(all_at_hand, patience):
            log.warning("recall_incomplete", asked_for=len(orders), at_hand=len(at_hand))
        for each, order in zip(reversed(batch), reversed(orders), strict=True):
            if order in at_hand:
                self._from_tape.add(each)
                self._due.appendleft(each)
            else:
                self._to_recall = 0  # what does not come now would not come a second time either
                self._settle(each, FixityOutcome.SKIPPED, f"asked for, and did not come from tape in {patience:.0f} s")

    # ------------------------------------------------------------------------------------------ telling

    def _tell_catalogue(self) -> None:
        """Tell of all damage that is known, and of what is good again; not a second time."""
        damaged: dict[str, list[str]] = {}
        for pid, record in self._tools.ledger.damaged_datablocks():
            which = f"{record.outcome}, a copy" if record.copy else str(record.outcome)
            damaged.setdefault(pid, []).append(f"{record.archive_id} ({which})")
        messages: dict[str, str | None] = dict.fromkeys(sorted(self._mended_pids))
        messages |= {
            pid: f"{_DAMAGED}: {', '.join(names)}. Nothing was changed; the operators of the archive must look at it."
            for pid, names in damaged.items()
        }
        for pid, message in messages.items():
            try:
                self._tell(pid, message)
            except ArchiverError as error:
                log.warning("damage_not_told", pid=pid, error=str(error))
                self._outcome.untold.append(f"{pid}: {error}")
                if isinstance(error, TransientError):
                    return  # the others would wait as long; the next audit tells them all

    def _tell(self, pid: str, message: str | None) -> None:
        retirement = self._tools.ledger.retirement(pid)
        if retirement is not None and retirement.state.stage is not None:
            return  # what the catalogue says of its withdrawal is not to be overwritten
        before = self._tools.catalogue.dataset(pid).lifecycle.archive_return
        is_ours = isinstance(before, str) and before.startswith(_DAMAGED)
        if before != message and (message is not None or is_ours):
            self._tools.catalogue.update_lifecycle(pid, {"archiveReturnMessage": message})
