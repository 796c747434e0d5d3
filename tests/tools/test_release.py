"""Releases: version, changelog, tags and text, and how docker and gh are called."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from support.compose_program import compose_program
from tools.errors import ToolError
from tools.release import changelog
from tools.release.archive import make_archive
from tools.release.images import IMAGES, release_tags
from tools.release.version import Version, check_tag, project_version

ROOT = Path(__file__).parents[2]
CHANGES = """# Changelog

## [Unreleased]

### Added

- The third.

## [1.1.0] - 2026-02-01

### Fixed

- The second, with a [link](https://example.org).

## [1.0.0] - 2026-01-01

### Added

- The first.
"""
_OTHER_FILES = (
    "LICENSE",
    "Makefile",
    "deployment/start.sh",
    "docker-compose.scaled.yml",
    "docker-compose.yml",
    "prefect.yaml",
    "src/archiver/config/job-template.json",
    "src/archiver/config/vars.toml",
)
Release = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("text", ["1.2", "1.2.3.4", "01.2.3", "1.2.3rc1", "v1.2.3", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match="no version"):
        Version.parse(text)


def test_a_tag_must_be_the_version_of_the_project() -> None:
    check_tag("v1.2.3", Version(1, 2, 3))
    with pytest.raises(ToolError, match=r"v1\.2\.4.*1\.2\.3"):
        check_tag("v1.2.4", Version(1, 2, 3))
    with pytest.raises(ToolError, match="no tag"):
        check_tag("1.2.3", Version(1, 2, 3))


def test_the_version_is_said_once_and_can_be_released() -> None:
    assert project_version(ROOT / "pyproject.toml") >= Version(0, 1, 0)


def test_a_section_ends_where_the_next_begins() -> None:
    found = changelog.section(CHANGES, Version(1, 1, 0))

    assert found == "### Fixed\n\n- The second, with a [link](https://example.org)."
    assert changelog.section(CHANGES, Version(1, 0, 0)).endswith("- The first.")


def test_a_version_without_a_section_cannot_be_released() -> None:
    with pytest.raises(ToolError, match=r"nothing of 1\.2\.0"):
        changelog.section(CHANGES, Version(1, 2, 0))


def test_what_was_unreleased_is_released() -> None:
    done = changelog.release(CHANGES, Version(1, 2, 0), date(2026, 3, 1))

    changelog.check(done)
    assert changelog.section(done, Version(1, 2, 0)) == "### Added\n\n- The third."
    assert changelog.section(done, Version(1, 1, 0)) == changelog.section(CHANGES, Version(1, 1, 0))
    with pytest.raises(ToolError, match="nothing below"):
        changelog.release(done, Version(1, 3, 0), date(2026, 3, 1))
    with pytest.raises(ToolError, match="already"):
        changelog.release(CHANGES, Version(1, 1, 0), date(2026, 3, 1))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("## [Unreleased]\n", "", "must begin with"),
        ("## [1.1.0] - 2026-02-01", "## [1.1.0]", "must date"),
        ("## [1.1.0] - 2026-02-01", "## [1.1.0] - soon", "must date"),
        ("## [1.0.0]", "## [1.5.0]", "newest first"),
        ("### Fixed", "### Repaired", "Repaired"),
    ],
)
def test_a_changelog_that_does_not_keep_to_the_form_is_refused(old: str, new: str, what: str) -> None:
    changelog.check(CHANGES)
    with pytest.raises(ToolError, match=what):
        changelog.check(CHANGES.replace(old, new))


def test_the_changelog_of_the_project_keeps_to_the_form() -> None:
    changelog.check((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("released", "tags"),
    [
        ([], ("1.2.3", "1.2", "latest")),
        (["1.2.2", "1.1.9", "1.2.3"], ("1.2.3", "1.2", "latest")),
        (["1.3.0"], ("1.2.3", "1.2")),
        (["1.2.4", "2.0.0"], ("1.2.3",)),
        (["1.2.10"], ("1.2.3",)),
    ],
)
def test_a_release_takes_no_tag_from_a_newer_one(released: list[str], tags: tuple[str, ...]) -> None:
    assert release_tags(Version(1, 2, 3), map(Version.parse, released)) == tags


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """`python -m tools.release` in a repository of its own, where docker and gh only note how they were called."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tools", project / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "CHANGELOG.md").write_text(CHANGES, encoding="utf-8")
    (project / "pyproject.toml").write_text('[project]\nname = "archiver"\nversion = "1.1.0"\n', encoding="utf-8")
    (project / ".env").write_text("# Images\nOPENEM_IMAGE_TAG=latest\nHOST=example.org\n", encoding="utf-8")
    for name in _OTHER_FILES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name, encoding="utf-8")
    (project / "deployment" / "start.sh").chmod(0o755)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("docker", "gh"):
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n'
            f'[ {name} = gh ] && cat > {tmp_path}/notes\n[ "$*" != "$FAIL" ]\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "--all"], [*who, "commit", "-q", "-m", "All of it"]):
        subprocess.run(["git", *command], cwd=project, env=environment, check=True, capture_output=True)
    (project / "deployment" / "own.pem").write_text("of whoever makes the release", encoding="utf-8")

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tools.release", *arguments],
            cwd=project,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def _calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def test_a_tag_that_does_not_fit_stops_the_release_before_anything_is_built(release: Release, tmp_path: Path) -> None:
    assert release("check", "v1.1.0").returncode == 0

    wrong = release("check", "v1.2.0")

    assert wrong.returncode == 1
    assert "pyproject.toml says 1.1.0" in wrong.stderr
    assert _calls(tmp_path) == []


def test_a_release_is_prepared_in_both_files(release: Release, tmp_path: Path) -> None:
    done = release("prepare", "1.2.0")

    assert done.returncode == 0, done.stderr
    assert project_version(tmp_path / "project" / "pyproject.toml") == Version(1, 2, 0)
    assert release("check", "v1.2.0").returncode == 0
    assert release("prepare", "1.1.5").returncode == 1


def test_every_image_is_built_before_the_first_is_pushed(release: Release, tmp_path: Path) -> None:
    done = release("images", PREFECT_CONFIG_IMAGE_NAME="registry.example/config")

    assert done.returncode == 0, done.stderr
    calls = _calls(tmp_path)
    assert [call.split()[1] for call in calls] == ["build"] * len(IMAGES) + ["push"] * 3 * len(IMAGES)
    assert "--target api" in calls[0]
    assert calls[-3:] == [f"docker push registry.example/config:{tag}" for tag in ("1.1.0", "1.1", "latest")]
    assert all("runtime.Dockerfile" in call for call in calls[: len(IMAGES)])


def test_an_image_that_cannot_be_pushed_fails_the_release(release: Release, tmp_path: Path) -> None:
    done = release("images", "latest", FAIL=f"push {IMAGES[0].default}:latest")

    assert done.returncode == 1
    assert "docker push failed" in done.stderr
    assert len(_calls(tmp_path)) == len(IMAGES) + 1


def test_the_release_has_its_changes_how_to_get_it_and_what_a_deployment_is_made_from(
    release: Release, tmp_path: Path
) -> None:
    done = release("publish", "v1.1.0")

    assert done.returncode == 0, done.stderr
    (call,) = _calls(tmp_path)
    assets = "docker-compose.yml build/release/archiver-1.1.0.tar.gz"
    assert call == f"gh release create v1.1.0 --verify-tag --title v1.1.0 --notes-file - {assets}"
    assert (tmp_path / "project" / "build" / "release" / "archiver-1.1.0.tar.gz").is_file()
    notes = (tmp_path / "notes").read_text(encoding="utf-8")
    assert notes == release("notes", "v1.1.0").stdout
    assert notes.startswith("### Fixed\n\n- The second")
    assert "The first" not in notes
    for image in IMAGES:
        assert f"docker pull {image.default}:1.1.0" in notes
    assert "OPENEM_IMAGE_TAG=1.1.0" in notes
    assert "`docker-compose.yml` alone does not suffice: it goes with `deployment/` and the `.env` of this tag" in notes
    assert "`archiver-1.1.0.tar.gz` below" in notes
    pages = re.findall(r"https://github.com/SwissOpenEM/ScopeMArchiver/blob/v1.1.0/(docs/[\w/.-]+)", notes)
    assert pages
    assert [page for page in pages if not (ROOT / page).is_file()] == []


def test_the_archive_has_what_is_committed_of_a_deployment_with_the_images_pinned_and_nothing_of_who_makes_it(
    release: Release, tmp_path: Path
) -> None:
    environment_file = tmp_path / "project" / ".env"
    environment_file.write_text(f"{environment_file.read_text(encoding='utf-8')}S3_USER=own\n", encoding="utf-8")
    (tmp_path / "project" / "docker-compose.yml").unlink()

    done = release("archive", "v1.1.0")

    assert done.returncode == 0, done.stderr
    written = tmp_path / "project" / done.stdout.strip()
    first = written.read_bytes()
    with tarfile.open(written) as tar:
        files = {member.name.removeprefix("archiver-1.1.0/"): member for member in tar}
        environment = tar.extractfile(files[".env"])
        assert environment is not None
        assert environment.read().decode() == "# Images\nOPENEM_IMAGE_TAG=1.1.0\nHOST=example.org\n"
    assert set(files) == {".env", "CHANGELOG.md", *_OTHER_FILES}
    assert files["deployment/start.sh"].mode == 0o755
    assert release("archive", "v1.1.0").returncode == 0
    assert written.read_bytes() == first


def test_an_archive_that_would_lack_something_is_not_made(release: Release, tmp_path: Path) -> None:
    def commit(*change: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (change, (*who, "commit", "-q", "-m", "Change")):
            subprocess.run(["git", *command], cwd=tmp_path / "project", check=True)

    (tmp_path / "project" / ".env").write_text("HOST=example.org\n", encoding="utf-8")
    commit("add", ".env")
    assert "OPENEM_IMAGE_TAG" in release("publish", "v1.1.0").stderr

    commit("checkout", "-q", "HEAD~", "--", ".env")
    commit("rm", "-q", "prefect.yaml")
    assert "prefect.yaml belongs into the archive" in release("publish", "v1.1.0").stderr
    assert _calls(tmp_path) == []


def test_the_stack_can_be_made_from_the_archive_alone(tmp_path: Path) -> None:
    with tarfile.open(make_archive(ROOT, Version(1, 2, 3), tmp_path)) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "archiver-1.2.3"

    def run(*command: str) -> str:
        environment = {"PATH": "/usr/bin:/bin"}
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    profiles = [option for name in ("authentik", "minio", "monitoring", "tools") for option in ("--profile", name)]
    read = run(str(compose_program()), "--env-file", ".env", *profiles, "config", "--format", "json")
    services = json.loads(read)["services"].values()
    mounts = {volume["source"] for service in services for volume in service.get("volumes", ())}
    inside = {Path(source) for source in mounts if source.startswith(str(folder))}
    tags = {service["image"].rpartition(":")[2] for service in services if "swissopenem" in service["image"]}
    assert {folder / "deployment" / "traefik", folder / "src" / "archiver" / "config"} <= inside
    assert [source for source in inside if not source.exists()] == []
    assert tags == {"1.2.3"}
    assert "made     .secrets/postgrespass.txt" in run("make", "secrets", "STACK=production")
