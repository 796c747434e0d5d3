"""Which SciCat user stands behind a Keycloak session."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database, clock
from archiver.workflow.ledger.records import SessionRecord
from archiver.workflow.ledger.tables import sessions


class Sessions(Database):
    """Sessions given out at `/token`."""

    def record_session(self, sid: str, user: str, groups: Sequence[str]) -> None:
        """Remembers that session `sid` belongs to `user`; the last call for a `sid` counts."""
        facts = {"user_name": user, "groups": list(groups), "recorded_at": clock}
        with self._transaction() as connection:
            connection.execute(
                insert(sessions)
                .values(sid=sid, **facts)
                .on_conflict_do_update(index_elements=[sessions.c.sid], set_=facts)
            )

    def find_session(self, sid: str) -> SessionRecord | None:
        """The session, or None when it was never recorded."""
        with self._transaction() as connection:
            row = connection.execute(select(sessions).where(sessions.c.sid == sid)).one_or_none()
        return None if row is None else SessionRecord(row.sid, row.user_name, tuple(row.groups))

    def forget_sessions(self, recorded_before: datetime) -> int:
        """Removes the sessions last recorded before that time; how many."""
        with self._transaction() as connection:
            return connection.execute(delete(sessions).where(sessions.c.recorded_at < recorded_before)).rowcount
