"""The demo: a folder goes into the archive and comes back, through every part of the service, and is compared."""

from archiver.local.demo.command import run

__all__ = ["run"]
