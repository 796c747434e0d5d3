"""What can go wrong, in the two distinctions that decide everything.

    ArchiverError
    ├── UserError             the data or the request is wrong: job `finishedWithDatasetErrors`
    └── ServiceError          the service or something it needs is wrong: job `finishedUnsuccessful`
        ├── TransientError   can pass: tried again with back-off
        └── PermanentError   will not pass by itself: never tried again

Each message says what to do next. `names` are the files (or other things) it is about.
"""

from collections.abc import Sequence

NAMES_SHOWN = 20


def name_some(names: Sequence[str]) -> str:
    """The first twenty names, quoted so that odd characters show, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


class ArchiverError(Exception):
    """Anything this service raises on purpose."""

    code = "archiver-error"

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        super().__init__(f"{message} {name_some(names)}" if names else message)


class UserError(ArchiverError):
    """The data set or the request is not as it must be; its owner can mend it."""

    code = "user-error"


class MissingFilesError(UserError):
    """Files of the catalogue's list are not in the landing zone."""

    code = "missing-files"


class WrongSizeError(UserError):
    """Files in the landing zone are not as long as the catalogue says."""

    code = "wrong-size"


class WrongChecksumError(UserError):
    """Bytes read are not the bytes that were uploaded or that the catalogue knows."""

    code = "wrong-checksum"


class UnsafeNameError(UserError):
    """A pid or a file name that must not become a path."""

    code = "unsafe-name"


class EmptyDatasetError(UserError):
    """A data set without files."""

    code = "empty-dataset"


class UnknownDatasetError(UserError):
    """The catalogue does not know the data set."""

    code = "unknown-dataset"


class OtherContentError(UserError):
    """The data set is archived, and what lies in the landing zone is something else."""

    code = "other-content"


class ChangedDuringArchivingError(UserError):
    """An object was replaced while it was being archived."""

    code = "changed-during-archiving"


class NotRetrievableError(UserError):
    """The data set has nothing registered that could be retrieved."""

    code = "not-retrievable"


class RetiredError(UserError):
    """The data set was withdrawn from the archive."""

    code = "retired"


class UnknownFilesError(UserError):
    """Files were asked for that the archived data set does not have."""

    code = "unknown-files"


class BadJobError(UserError):
    """A job that cannot be worked on: unknown, of another type, without data sets."""

    code = "bad-job"


class ServiceError(ArchiverError):
    """The service, or something it depends on, failed."""

    code = "system-error"


class TransientError(ServiceError):
    """May pass: worth another try."""

    code = "transient"


class PermanentError(ServiceError):
    """Will not pass without an operator."""

    code = "permanent"


class StoppedError(PermanentError):
    """The run was told to end; nothing is wrong with the data set."""

    code = "stopped"


class ClaimLostError(PermanentError):
    """Another run holds the data set now; this one must touch nothing more."""

    code = "claim-lost"


class DatasetBusyError(TransientError):
    """Another run is working on the data set."""

    code = "dataset-busy"


class WrongShareError(PermanentError):
    """What is mounted as long-term storage is not the share this archive was made on."""

    code = "wrong-share"


class NoSpaceError(TransientError):
    """Not enough space on the long-term storage or in a bucket."""

    code = "no-space"


class StalledError(TransientError):
    """A call to the share showed no progress for too long and was given up."""

    code = "stalled"


class VerificationError(PermanentError):
    """What was read back is not what was written."""

    code = "verification-failed"


class DamagedError(PermanentError):
    """A published file is missing or altered. Nothing is changed by itself."""

    code = "damaged"


class LedgerDisagreesError(PermanentError):
    """The ledger says archived and the bag is not on the share."""

    code = "ledger-disagrees"


class CatalogueError(TransientError):
    """SciCat did not answer as it should within the time for retries."""

    code = "catalogue"


class CatalogueRefusedError(PermanentError):
    """SciCat refused a request (rights or validation)."""

    code = "catalogue-refused"


class ObjectStoreError(TransientError):
    """S3 did not answer as it should after retries."""

    code = "object-store"


class QueueError(TransientError):
    """The Prefect server did not take or answer a request."""

    code = "queue"
