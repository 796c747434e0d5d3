"""Where ledger and share disagree, for somebody to look at. Nothing is repaired by itself."""

from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock, fields
from archiver.workflow.ledger.records import DisagreementRecord
from archiver.workflow.ledger.tables import disagreements


class Disagreements(Database):
    """What the comparison of ledger and share found."""

    def record_disagreement(self, pid: str, kind: str, detail: str) -> bool:
        """Notes one, in place of what was noted of the data set before; whether it is new."""
        noted = insert(disagreements).values(pid=pid, kind=kind, detail=detail)
        with self._transaction() as connection:
            known = connection.execute(select(disagreements.c.kind).where(disagreements.c.pid == pid)).scalar()
            connection.execute(
                noted.on_conflict_do_update(
                    index_elements=[disagreements.c.pid], set_={"kind": kind, "detail": detail, "seen_at": clock}
                )
            )
        return known != kind

    def disagreements(self) -> list[DisagreementRecord]:
        """All that were seen by the last comparison, by pid."""
        with self._transaction() as connection:
            rows = connection.execute(select(disagreements).order_by(disagreements.c.pid)).all()
        return [DisagreementRecord(**fields(row)) for row in rows]

    def settle_disagreements(self, still_there: Collection[str]) -> list[str]:
        """Forgets all but those of the data sets `still_there`; the pids of the others."""
        with self._transaction() as connection:
            settled = [
                pid
                for pid in connection.execute(select(disagreements.c.pid).order_by(disagreements.c.pid)).scalars()
                if pid not in still_there
            ]
            connection.execute(delete(disagreements).where(disagreements.c.pid.in_(settled)))
        return settled
