"""`python -m tools.status`: runs every check and writes STATUS.md, also when one fails."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from tools.errors import ToolError
from tools.release.version import project_version
from tools.status import figures
from tools.status.checks import CHECKS, FOLDER, ROOT, Check, look
from tools.status.report import Circumstances, report
from tools.status.results import Outcome, Result

PAGE = ROOT / "STATUS.md"
MEASURED = ROOT / "build" / "bench"
KEPT = ROOT / "docs" / "explanation" / "numbers.json"
_TAIL = 40

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"git {arguments[0]} failed: {error}") from error
    return done.stdout.strip()


def _circumstances() -> Circumstances:
    changes = [line for line in _git("status", "--porcelain").splitlines() if not line.endswith(" STATUS.md")]
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return Circumstances(
        _git("rev-parse", "HEAD"),
        bool(changes),
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        system,
        str(project_version(ROOT / "pyproject.toml")),
    )


def _say(results: Sequence[Result]) -> None:
    for result in results:
        typer.echo(f"{result.outcome:<8} {result.title}: {result.seen}")
        for detail in result.details:
            typer.echo(f"         {detail}")


def _is_named(check: Check, words: Sequence[str]) -> bool:
    return any(word.lower() in check.title.lower() for word in words)


def _write_page(text: str) -> None:
    """All of it or nothing: whoever ends this early leaves the page as it was after the last check."""
    written = PAGE.with_suffix(".md.new")
    written.write_text(text, encoding="utf-8")
    written.replace(PAGE)


@app.command()
def write(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Words in titles of checks; others are not run.")
    ] = None,
    elsewhere: Annotated[
        list[str] | None, typer.Option("--elsewhere", help="Words in titles of checks that another job of CI runs.")
    ] = None,
) -> None:
    """Run every check, and write STATUS.md after each of them. Exit code 1 when one failed."""
    where, measured = _circumstances(), figures.read(MEASURED, KEPT)
    results: list[Result] = []
    for place, check in enumerate(CHECKS):
        ahead = [Result(each.title, Outcome.NOT_RUN, "the run was ended before it") for each in CHECKS[place:]]
        _write_page(report(where, [*results, *ahead], measured))
        if only and not _is_named(check, only):
            found = [Result(check.title, Outcome.NOT_RUN, "it was not asked for")]
        elif _is_named(check, elsewhere or ()):
            found = [Result(check.title, Outcome.NOT_RUN, "not by this job: it has one of its own in CI")]
        else:
            found = look(check)
        _say(found)
        results += found
    _write_page(report(where, results, measured))
    typer.echo(f"STATUS.md is written; what the tools said: {FOLDER.relative_to(ROOT)}")
    if any(result.outcome is Outcome.FAILED for result in results):
        raise typer.Exit(1)


@app.command()
def numbers() -> None:
    """Keep the newest figures at full size of build/bench in git, for the STATUS.md of main."""
    measured = figures.read(MEASURED, KEPT)
    if measured.unread:
        raise ToolError(f"Not read: {'; '.join(measured.unread)}. Remove it, and measure again.")
    KEPT.write_text(figures.kept_text(measured.runs), encoding="utf-8")
    typer.echo(f"{KEPT.name} is written. Look at the difference, and commit it.")


@app.command()
def commit() -> None:
    """Commit STATUS.md alone and push it to main, where it differs; for CI."""
    if not _git("status", "--porcelain", "--", PAGE.name):
        typer.echo("STATUS.md is as it was.")
        return
    measured = _git("rev-parse", "HEAD")
    _git("fetch", "origin", "main")
    if _git("rev-parse", "FETCH_HEAD") != measured:
        typer.echo("main has moved on; the run of the newer commit writes STATUS.md.")
        return
    author = ["-c", "user.name=github-actions[bot]", "-c", "user.email=github-actions[bot]@users.noreply.github.com"]
    _git("add", "--", PAGE.name)  # git commits no path it does not know: the first page is one
    _git(*author, "commit", "--message", "STATUS.md says what CI saw\n\n[skip ci]", "--", PAGE.name)
    _git("push", "origin", "HEAD:main")
    typer.echo("STATUS.md is committed.")


if __name__ == "__main__":
    try:
        app()
    except ToolError as error:
        sys.exit(str(error))
