"""Programs that are run for their output, each with a time limit."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_QUOTED = 6000


class CommandFailedError(Exception):
    """A program ended with an error; the message quotes the end of what it said."""


def run(
    command: Sequence[str | Path],
    *,
    timeout_s: float = 120,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    given: bytes | None = None,
    with_errors: bool = False,
) -> str:
    """What a program wrote to its standard output, and after that, `with_errors`, to its standard error.

    Raises:
        CommandFailedError: it is missing, ended with another status than 0, or not in time.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=timeout_s, cwd=folder, env=environment, input=given, check=False
        )
    except FileNotFoundError as error:
        raise CommandFailedError(f"{words[0]} is missing.") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{' '.join(words)} did not end within {timeout_s:.0f} s.") from error
    if done.returncode:
        said = (done.stdout + done.stderr)[-_QUOTED:].decode("utf-8", "replace").strip()
        raise CommandFailedError(f"{' '.join(words)} ended with {done.returncode}: {said}")
    return (done.stdout + (done.stderr if with_errors else b"")).decode("utf-8", "replace")
