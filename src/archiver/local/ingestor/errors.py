"""What can go wrong while a folder is being ingested."""

from archiver.workflow.errors import PermanentError, TransientError, UserError


class NothingToUploadError(UserError):
    """The folder holds no file that could be uploaded."""

    code = "nothing-to-upload"


class TooManyFilesError(UserError):
    """The folder holds more entries than a data set may have."""

    code = "too-many-files"


class FileChangedError(UserError):
    """A file changed, or vanished, while it was being sent."""

    code = "file-changed"


class NoSpaceInTimeError(TransientError):
    """The landing zone had no space for the data set within the time allowed."""

    code = "no-space-in-time"


class ServerUnreachableError(TransientError):
    """A server did not answer, or could not do what it was asked for at the moment."""

    code = "server-unreachable"


class ServerRefusedError(PermanentError):
    """A server refused what it was asked for; the message quotes it."""

    code = "server-refused"


class UploadStoppedError(PermanentError):
    """The upload was ended because another file of it failed, or because the user wished so."""

    code = "upload-stopped"
