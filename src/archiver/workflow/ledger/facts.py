"""What holds for the whole archive, once and for all."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.database import Database
from archiver.workflow.ledger.tables import facts

LTS_IDENTITY: Final = "lts_identity"
"""Identity of the share that the archive lives on."""


class Facts(Database):
    """Values that are set once and then compared with, until they are forgotten on an operator's command."""

    def remember(self, name: str, value: str) -> str:
        """The value first remembered under `name`: this one, unless there was one before."""
        with self._transaction() as connection:
            connection.execute(insert(facts).values(name=name, value=value).on_conflict_do_nothing())
            return str(connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one())

    def remembered(self, name: str) -> str | None:
        """The value remembered under `name`; None where there is none."""
        with self._transaction() as connection:
            return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()

    def forget(self, name: str, value: str, *, moving_up: Sequence[str] = ()) -> bool:
        """Forgets `value` under `name`; each value under the names `moving_up` then takes the place before its own.

        False where another value is remembered, or none: nothing was changed.
        """
        gone = delete(facts).where(facts.c.name == name, facts.c.value == value)
        with self._transaction() as connection:
            if connection.execute(gone).rowcount == 0:
                return False
            for before, after in pairwise([name, *moving_up]):
                connection.execute(update(facts).where(facts.c.name == after).values(name=before))
        return True
