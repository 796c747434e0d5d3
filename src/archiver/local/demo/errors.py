"""What ends a demo."""

from archiver.workflow.errors import PermanentError, UserError


class DemoFailedError(PermanentError):
    """A part of the service did not do what it promises; the message says which and where its log is."""

    code = "demo-failed"


class BadFolderError(UserError):
    """The folder given cannot be archived."""

    code = "bad-folder"


class TooLittleSpaceError(PermanentError):
    """The disk has no room for all the copies a demo makes."""

    code = "too-little-space"
