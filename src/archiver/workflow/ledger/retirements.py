"""Data sets that are withdrawn from the archive: as the share says, and who asked for what."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Row, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.datasets import ARCHIVED, claim_lost, held_by
from archiver.workflow.ledger.records import Claim, RetirementRecord, RetirementState, Stage
from archiver.workflow.ledger.tables import UtcDateTime, datablocks, datasets, retirements, retrievals


def _record(row: Row[Any]) -> RetirementRecord:
    found = fields(row)
    del found["stage_before"]
    return RetirementRecord(**{**found, "state": RetirementState(found["state"])})


class Retirements(Database):
    """Requests, which are here alone; and what was done, which follows what is on the share."""

    def retirement(self, pid: str) -> RetirementRecord | None:
        """How far the data set is withdrawn; None where nobody asked for it, or it was restored and that told."""
        with self._transaction() as connection:
            row = connection.execute(select(retirements).where(retirements.c.pid == pid)).one_or_none()
        return None if row is None else _record(row)

    def retirements(self) -> list[RetirementRecord]:
        """All of them, by pid."""
        with self._transaction() as connection:
            return [_record(row) for row in connection.execute(select(retirements).order_by(retirements.c.pid))]

    def request_retirement(self, pid: str, by: str, reason: str, word: str, valid: timedelta) -> bool:
        """Notes who wants to withdraw a data set, and the word that confirms it.

        A request takes the place of an earlier one, and of nothing else: False where the data set is withdrawn, or
        restored and the catalogue is still to be told.
        """
        asked = insert(retirements).values(
            pid=pid,
            state=RetirementState.REQUESTED,
            at=clock,
            by=by,
            reason=reason,
            word=word,
            word_until=clock + literal(valid),
            told=True,
        )
        changes = {name: asked.excluded[name] for name in ("state", "at", "by", "reason", "word", "word_until", "told")}
        statement = asked.on_conflict_do_update(
            index_elements=[retirements.c.pid], set_=changes, where=retirements.c.state == RetirementState.REQUESTED
        ).returning(retirements.c.pid)
        with self._transaction() as connection:
            return connection.execute(statement).one_or_none() is not None

    def request_removal(self, pid: str, word: str, valid: timedelta) -> bool:
        """Notes the word that confirms the removal of a data set; False where it is not retired."""
        asked = (
            update(retirements)
            .where(retirements.c.pid == pid, retirements.c.state == RetirementState.RETIRED)
            .values(word=word, word_until=clock + literal(valid))
        )
        with self._transaction() as connection:
            return connection.execute(asked).rowcount == 1

    def drop_retirement_request(self, pid: str) -> bool:
        """Forgets a request that was not confirmed; False where there was none."""
        gone = delete(retirements).where(retirements.c.pid == pid, retirements.c.state == RetirementState.REQUESTED)
        with self._transaction() as connection:
            return connection.execute(gone).rowcount == 1

    def note_retirement(
        self,
        claim: Claim,
        state: RetirementState,
        *,
        at: datetime,
        by: str,
        reason: str,
        restorable_until: datetime,
        message: str,
        files: int,
        payload_bytes: int,
    ) -> None:
        """Notes what the share says of a withdrawn or restored data set. The catalogue is still to be told.

        A data set that is restored comes back to the stage it had; the datablocks of one that is removed go.

        Raises:
            ClaimLostError: nothing was noted.
        """
        with self._transaction() as connection:
            row = connection.execute(select(datasets.c.stage).where(held_by(claim)).with_for_update()).one_or_none()
            if row is None:
                raise claim_lost(claim)
            noted = insert(retirements).values(
                pid=claim.pid,
                state=state,
                at=literal(at, UtcDateTime),
                by=by,
                reason=reason,
                restorable_until=literal(restorable_until, UtcDateTime),
                message=message,
                stage_before=row.stage if row.stage in ARCHIVED else None,
            )
            changes: dict[str, Any] = {
                name: noted.excluded[name] for name in ("state", "at", "by", "reason", "restorable_until", "message")
            }
            before = func.coalesce(noted.excluded.stage_before, retirements.c.stage_before)
            statement = noted.on_conflict_do_update(
                index_elements=[retirements.c.pid],
                set_={**changes, "stage_before": before, "word": "", "word_until": None, "told": False},
            ).returning(retirements.c.stage_before)
            earlier = connection.execute(statement).scalar_one()
            connection.execute(
                update(datasets)
                .where(held_by(claim))
                .values(
                    stage=state.stage or earlier or Stage.PUBLISHED,
                    files=func.coalesce(datasets.c.files, literal(files, BigInteger)),
                    payload_bytes=func.coalesce(datasets.c.payload_bytes, literal(payload_bytes, BigInteger)),
                    message="",
                    archived_at=func.coalesce(datasets.c.archived_at, literal(at, UtcDateTime)),
                    heartbeat_at=clock,
                    updated_at=clock,
                )
            )
            if state is RetirementState.REMOVED:
                connection.execute(delete(datablocks).where(datablocks.c.pid == claim.pid))

    def mark_retirement_told(self, record: RetirementRecord) -> None:
        """Notes that the catalogue shows what is in `record`, unless more has happened since.

        Of a data set that was restored nothing is left to be known here.
        """
        this = (retirements.c.pid == record.pid) & (retirements.c.state == record.state)
        with self._transaction() as connection:
            if record.state is RetirementState.RESTORED:
                connection.execute(delete(retirements).where(this))
            else:
                connection.execute(update(retirements).where(this).values(told=True))

    def expire_copies(self, folder: str) -> int:
        """Lets the copies below `folder` in the retrieval bucket expire now; how many. Reconciliation removes them.

        Those that are being made, too: their runs may die when the object is there and before that is noted.
        """
        still_kept = retrievals.c.archive_id.startswith(f"{folder}/", autoescape=True) & or_(
            retrievals.c.expires_at > clock, retrievals.c.expires_at.is_(None)
        )
        expired = update(retrievals).where(still_kept).values(expires_at=clock, updated_at=clock)
        with self._transaction() as connection:
            return connection.execute(expired).rowcount
