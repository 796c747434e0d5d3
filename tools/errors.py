"""What a tool says when it cannot do its work."""


class ToolError(Exception):
    """A tool cannot do what it was asked for; the message says what to do."""
