"""The ledger: index and schedule of the archive in PostgreSQL. The truth is on the share."""

from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import select, text

from archiver.config.settings import LedgerSettings
from archiver.workflow.ledger.database import clock, open_engine
from archiver.workflow.ledger.datasets import Datasets
from archiver.workflow.ledger.disagreements import Disagreements
from archiver.workflow.ledger.facts import Facts
from archiver.workflow.ledger.fixity import Fixity
from archiver.workflow.ledger.holds import Holds
from archiver.workflow.ledger.migration import migrate, revisions
from archiver.workflow.ledger.retirements import Retirements
from archiver.workflow.ledger.retrievals import Retrievals
from archiver.workflow.ledger.runs import Runs, Services
from archiver.workflow.ledger.sessions import Sessions
from archiver.workflow.ledger.totals import Totals
from archiver.workflow.ledger.uploads import Uploads


class Ledger(
    Sessions, Uploads, Holds, Datasets, Retirements, Retrievals, Fixity, Disagreements, Runs, Services, Facts, Totals
):
    """Everything the service remembers between runs. Synchronous, thread-safe; close it, or use it in `with`.

    Every method is one transaction, and besides what it says raises LedgerError when the database does not
    answer and LedgerNotMigratedError when its tables are missing.
    """

    @classmethod
    def open(cls, settings: LedgerSettings) -> Self:
        """The ledger at `settings.ledger_url`; connects at first use.

        Raises:
            LedgerAddressError: the URL is not one of a PostgreSQL database.
        """
        return cls(open_engine(settings.ledger_url.get_secret_value()))

    def migrate(self) -> None:
        """Brings the tables to this version's form. Safe to repeat, and when several processes do it at once.

        Raises:
            LedgerTooNewError: they have the form of a newer version.
        """
        migrate(self._engine)

    def revisions(self) -> tuple[str | None, str | None]:
        """Revision of the tables (None: there are none), and the one this version works with."""
        return revisions(self._engine)

    def now(self) -> datetime:
        """The time by the database's clock."""
        with self._transaction() as connection:
            now: datetime = connection.execute(select(clock)).scalar_one()
        return now

    def check(self) -> None:
        """Returns when the database answers."""
        with self._transaction() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
