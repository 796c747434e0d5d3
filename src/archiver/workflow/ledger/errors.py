"""What the ledger refuses, and what can fail in reaching it."""

from datetime import datetime

from archiver.workflow.errors import NoSpaceError, PermanentError, TransientError, UserError


class LedgerError(TransientError):
    """The ledger's database did not answer as it should."""

    code = "ledger"


class LedgerAddressError(PermanentError):
    """LEDGER_URL is not the address of a PostgreSQL database."""

    code = "ledger-address"


class LedgerNotMigratedError(PermanentError):
    """The ledger's database lacks tables or columns that this version works with."""

    code = "ledger-not-migrated"


class LedgerTooNewError(PermanentError):
    """The ledger's database was made by a newer version of the service."""

    code = "ledger-too-new"


class NoLandingSpaceError(TransientError):
    """The landing zone has no room at the moment; room may come free."""

    code = "no-landing-space"

    def __init__(self, free_bytes: int, requested_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.requested_bytes = requested_bytes
        super().__init__(
            f"The landing zone has {free_bytes} bytes free and {requested_bytes} were requested. "
            "Try again when other uploads have been archived."
        )


class LargerThanLandingZoneError(UserError):
    """The data set is larger than the whole landing zone; waiting does not help."""

    code = "larger-than-landing-zone"

    def __init__(self, capacity_bytes: int, requested_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.requested_bytes = requested_bytes
        super().__init__(
            f"{requested_bytes} bytes were requested and the whole landing zone holds {capacity_bytes}. "
            "Split the data set, or ask the operators for a larger landing zone."
        )


class NoRetrievalSpaceError(NoSpaceError):
    """The retrieval bucket has no room at the moment; room comes free as copies expire."""

    code = "no-retrieval-space"

    def __init__(
        self, capacity_bytes: int, free_bytes: int, requested_bytes: int, next_free: datetime | None = None
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.free_bytes = free_bytes
        self.requested_bytes = requested_bytes
        self.next_free = next_free
        until = f" The next copy expires at {next_free:%Y-%m-%d %H:%M} UTC." if next_free else ""
        super().__init__(
            f"The retrieval bucket has {free_bytes} of {capacity_bytes} bytes free (S3_TOTAL_RETRIEVAL_SPACE_TB), and "
            f"{requested_bytes} are needed.{until}"
        )


class UploadOpenError(UserError):
    """Somebody else is uploading the data set."""

    code = "upload-open"


class UploadFinalizedError(UserError):
    """The data set's upload is finished and waits to be archived."""

    code = "upload-finalized"


class NoOpenUploadError(UserError):
    """Nobody has requested an upload of the data set, or it was finished, aborted or has expired."""

    code = "no-open-upload"


class OverReservationError(UserError):
    """An object would make the upload larger than what was reserved for it."""

    code = "over-reservation"
