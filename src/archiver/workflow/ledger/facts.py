"""What holds for the whole archive, once and for all."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database
from archiver.workflow.ledger.tables import facts

LTS_IDENTITY: Final = "lts_identity"
"""Identity of the share that the archive lives on."""


class Facts(Database):
    """Values that are set once and then compared with."""

    def remember(self, name: str, value: str) -> str:
        """The value first remembered under `name`: this one, unless there was one before."""
        with self._transaction() as connection:
            connection.execute(insert(facts).values(name=name, value=value).on_conflict_do_nothing())
            return str(connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one())

    def remembered(self, name: str) -> str | None:
        """The value remembered under `name`; None where there is none."""
        with self._transaction() as connection:
            return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()
