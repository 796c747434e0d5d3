"""Codes of all errors that can end the work on a data set, or keep the reconciliation from a part of its own.

Counters show each of them from the beginning, with 0: Prometheus sees that something was counted only where a series
was there before, so that of a series that is born with its first error nobody would be told.
"""

from typing import Final

from archiver.workflow import copies, errors, job_queue, notifications, operations, retirement, second_copies
from archiver.workflow.holdings import description, target_folder
from archiver.workflow.ledger import errors as ledger_errors
from archiver.workflow.storage import s3_errors

_DEFINED_IN = (
    *(copies, description, errors, job_queue, ledger_errors, notifications, operations, retirement, s3_errors),
    *(second_copies, target_folder),
)

COPIES_AWAY: Final = "copies-away"
"""As what it is counted that a share of copies could not be compared."""
KNOWN_CODES: Final = tuple(
    sorted(
        {
            each.code
            for module in _DEFINED_IN
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, errors.ArchiverError)
        }
        | {COPIES_AWAY}
    )
)
"""In alphabetical order."""
