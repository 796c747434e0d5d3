"""Reading a datablock again, a stretch at a time, and recalling those that lie on tape.

Functions to be run in one and the same child process (`archiver.workflow.isolation`): what was begun stays open
there between two calls, so that a reading can be interrupted for others without beginning anew.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import structlog

from archiver.workflow.datablocks.digests import Digest, new_digest
from archiver.workflow.errors import ArchiverError, PermanentError
from archiver.workflow.holdings.reading import chunks, opened
from archiver.workflow.holdings.recalling import SMALLEST_STUB, touch
from archiver.workflow.isolation import Progress
from archiver.workflow.ledger.records import FixityOutcome
from archiver.workflow.storage.lts import LongTermStorage, ShareAddress

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FixityOrder:
    """Read a datablock and compare it with what was archived."""

    share: ShareAddress
    archive_id: str
    packed_size: int
    sha256: str
    stub_percent: float
    """A file with less than this share of its bytes at hand is a stub."""
    from_tape: bool = False
    """Read it also where it is a stub."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the reading of a datablock has come."""

    outcome: FixityOutcome | None
    """None while there is more to read."""
    detail: str = ""


@dataclass(slots=True)
class _Begun:
    """A datablock that is being read."""

    stack: ExitStack
    content: Iterator[memoryview]
    digest: Digest = field(default_factory=lambda: new_digest("sha256"))


_begun: dict[FixityOrder, _Begun] = {}
_asked_for: set[FixityOrder] = set()
"""Files whose recall a thread of this process waits for, or has waited for."""


def read_on(progress: Progress, order: FixityOrder, seconds: float) -> Reading:
    """Go on reading a datablock for about so long; its outcome once it is at its end.

    Another datablock that was begun is given up.

    Raises:
        WrongShareError: another share, or none, is mounted by now; that says nothing of the datablock.
        TransientError: the share does not answer properly.
    """
    for other in [begun for begun in _begun if begun != order]:
        _begun.pop(other).stack.close()
    try:
        reading = _read_on(progress, order, seconds)
    except FileNotFoundError:
        reading = Reading(FixityOutcome.MISSING, "it is not there")
    except PermanentError as error:
        reading = Reading(FixityOutcome.UNREADABLE, str(error))
    except ArchiverError:
        _give_up(order)
        raise
    if reading.outcome is not None:
        _give_up(order)
        if reading.outcome.is_damage:
            order.share.open()  # a share that went away meanwhile is no damage of the datablock
    return reading


def _give_up(order: FixityOrder) -> None:
    begun = _begun.pop(order, None)
    if begun is not None:
        begun.stack.close()


def _read_on(progress: Progress, order: FixityOrder, seconds: float) -> Reading:
    if order not in _begun:
        progress(0)
        share = order.share.open()
        size = share.size(order.archive_id)
        if size is None:
            raise FileNotFoundError
        if size != order.packed_size:
            return Reading(FixityOutcome.DAMAGED, f"it has {size} bytes, {order.packed_size} were archived")
        if not order.from_tape and _is_stub(share, order):
            return Reading(FixityOutcome.SKIPPED, "a stub, its content on tape")
        with ExitStack() as stack:
            reader = stack.enter_context(opened(share, order.archive_id))
            content = stack.enter_context(closing(chunks(reader)))
            _begun[order] = _Begun(stack.pop_all(), content)
    begun = _begun[order]
    until = time.monotonic() + seconds
    for data in begun.content:
        begun.digest.update(data)
        progress(len(data))
        if time.monotonic() >= until:
            return Reading(None)
    found = begun.digest.hexdigest()
    if found != order.sha256:
        return Reading(FixityOutcome.DAMAGED, f"SHA-256 is {found}, was {order.sha256}")
    return Reading(FixityOutcome.OK)


def _is_stub(share: LongTermStorage, order: FixityOrder) -> bool:
    if order.packed_size < SMALLEST_STUB:
        return False
    at_hand = share.bytes_at_hand(order.archive_id)
    return at_hand is not None and at_hand < order.packed_size * order.stub_percent / 100


def recall(progress: Progress, orders: Sequence[FixityOrder]) -> list[FixityOrder]:
    """Ask for the datablocks of a batch to come from tape, all at once; those that are at hand by now.

    To be called again until they are. Asking is reading, which waits until the file comes.
    """
    at_hand = []
    for order in orders:
        progress(0)
        share = order.share.open()
        if not _is_stub(share, order):
            at_hand.append(order)
        elif order not in _asked_for:
            _asked_for.add(order)
            threading.Thread(target=touch, args=(share, order.archive_id), name="recall", daemon=True).start()
    return at_hand
