"""`python -m tools.release`: the steps of a release, each a make target."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tools.errors import ToolError
from tools.release import changelog, images
from tools.release.archive import make_archive
from tools.release.notes import release_notes
from tools.release.version import Version, check_tag, project_version

ROOT = Path(__file__).parents[2]
ARCHIVES = ROOT / "build" / "release"
COMPOSE_FILE = "docker-compose.yml"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Tag = Annotated[str, typer.Argument(metavar="TAG", help="Tag of the release: v1.2.3.")]


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@app.command()
def prepare(version: Annotated[str, typer.Argument(help="The coming version: 1.2.3.")]) -> None:
    """Write VERSION into pyproject.toml, and what is unreleased below it into CHANGELOG.md."""
    coming, present = Version.parse(version), project_version(ROOT / "pyproject.toml")
    moved_on = changelog.release(_changelog(), coming, datetime.now(UTC).date())
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if coming < present:
        raise ToolError(f"pyproject.toml says {present}, which is newer than {coming}.")
    renamed = pyproject.replace(f'\nversion = "{present}"\n', f'\nversion = "{coming}"\n', 1)
    (ROOT / "pyproject.toml").write_text(renamed, encoding="utf-8")
    (ROOT / "CHANGELOG.md").write_text(moved_on, encoding="utf-8")
    typer.echo(f"Look at the difference, commit it, then: git tag v{coming} && git push origin main v{coming}")


@app.command()
def check(tag: Tag) -> None:
    """Make sure that TAG, pyproject.toml and CHANGELOG.md speak of the same version."""
    version = project_version(ROOT / "pyproject.toml")
    check_tag(tag, version)
    changelog.check(_changelog())
    changelog.section(_changelog(), version)
    typer.echo(f"{tag}: pyproject.toml and CHANGELOG.md agree.")


@app.command()
def notes(tag: Tag) -> None:
    """Print the text of the GitHub Release."""
    version = Version.of_tag(tag)
    typer.echo(release_notes(version, changelog.section(_changelog(), version), os.environ), nl=False)


@app.command("images")
def images_(
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG", help="Tags; none: those of a release.")] = None,
) -> None:
    """Build all images and push them."""
    version = project_version(ROOT / "pyproject.toml")
    chosen = tuple(tags or ()) or images.release_tags(version, images.released_versions(ROOT))
    for name in images.build_and_push(ROOT, chosen, version):
        typer.echo(name)


@app.command()
def archive(tag: Tag) -> None:
    """Write the archive that a deployment of TAG is made from; its path."""
    typer.echo(make_archive(ROOT, Version.of_tag(tag), ARCHIVES).relative_to(ROOT))


@app.command()
def publish(tag: Tag) -> None:
    """Make the GitHub Release, with compose file and archive as assets (needs `gh` and its token)."""
    version = Version.of_tag(tag)
    text = release_notes(version, changelog.section(_changelog(), version), os.environ)
    # --verify-tag: gh would otherwise make a tag that is not there, of whatever main is.
    assets = [COMPOSE_FILE, str(make_archive(ROOT, version, ARCHIVES).relative_to(ROOT))]
    command = ["gh", "release", "create", tag, "--verify-tag", "--title", tag, "--notes-file", "-", *assets]
    try:
        subprocess.run(command, cwd=ROOT, input=text, text=True, check=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"The release was not made: {error}") from error


if __name__ == "__main__":
    try:
        app()
    except ToolError as error:
        sys.exit(str(error))
