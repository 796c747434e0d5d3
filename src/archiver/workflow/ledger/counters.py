"""What only ever grows: how often something happened, and how much it was."""

from typing import Final

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from archiver.workflow.ledger.tables import counters

STAGE_SECONDS: Final = "stage_seconds"
"""By stage: time from the claim, or the stage before, until it was finished."""
RETRIEVED: Final = "retrieved"
"""The stage in which a datablock is brought back."""
RETRIEVED_BYTES: Final = "retrieved_bytes"
"""By datablock."""
RETRIEVED_FILES: Final = "retrieved_files"
ERRORS: Final = "errors"
"""By code of the error that ended the work on a data set."""
STUCK_TASKS: Final = "stuck_tasks"
"""By code of the error for which a task of the reconciliation fails in each pass."""


def add_to_counter(connection: Connection, name: str, label: str, amount: float) -> None:
    """Counts one more, of this amount, with the transaction of `connection`."""
    one = insert(counters).values(name=name, label=label, count=1, total=amount)
    connection.execute(
        one.on_conflict_do_update(
            index_elements=[counters.c.name, counters.c.label],
            set_={"count": counters.c.count + 1, "total": counters.c.total + one.excluded.total},
        )
    )
