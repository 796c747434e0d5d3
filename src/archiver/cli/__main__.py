"""`python -m archiver.cli`: the `archiver` command."""

from archiver.cli.main import app

app()
