"""GitHub's workflows, as far as they can be known without GitHub: what starts them, and that they only call make."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.status.checks import CHECKS

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
NAMES = ("ci", "docker", "release", "security")


def _read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8"))
    found["on"] = found.pop(True, None) or found.get("on")  # YAML 1.1 reads `on` as a truth value
    return found


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _steps(name: str) -> list[dict[str, Any]]:
    return [step for job in _read(name)["jobs"].values() for step in job.get("steps", ())]


def test_there_are_the_workflows_that_are_described() -> None:
    assert sorted(file.stem for file in WORKFLOWS.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_only_calls_make_targets(name: str) -> None:
    commands = [step["run"] for step in _steps(name) if "run" in step]

    assert commands
    for command in commands:
        if command == 'cat STATUS.md >> "$GITHUB_STEP_SUMMARY"':
            continue
        called = re.fullmatch(r"make ([a-z-]+)( [A-Z]+=\S+)*", command.strip())
        assert called, command
        assert called[1] in _targets()


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_only_read_unless_a_job_says_why_and_ends_by_itself(name: str) -> None:
    workflow = _read(name)

    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 120 for job in workflow["jobs"].values() if "steps" in job)
    assert {job["uses"] for job in workflow["jobs"].values() if "steps" not in job} <= {"./.github/workflows/ci.yml"}


def test_checks_run_on_pushes_and_pull_requests_but_not_for_the_status_they_wrote() -> None:
    workflow = _read("ci")

    assert set(workflow["on"]) == {"push", "pull_request", "workflow_call"}
    assert workflow["on"]["push"] == {"branches": ["**"], "paths-ignore": ["STATUS.md"]}
    (commit,) = [step for step in _steps("ci") if step.get("run") == "make status-commit"]
    assert commit["if"] == "always() && github.event_name == 'push' && github.ref == 'refs/heads/main'"


def test_the_stack_is_brought_up_once_and_the_page_is_shown_and_committed_when_time_is_up() -> None:
    jobs = _read("ci")["jobs"]
    (checks,) = [step for step in jobs["check"]["steps"] if step.get("run", "").startswith("make status ")]
    (elsewhere,) = [word.partition("=")[2] for word in checks["run"].split() if word.startswith("ELSEWHERE=")]

    assert len([each for each in CHECKS if elsewhere in each.title]) == 1
    assert "make stack-test" in [step.get("run") for step in jobs["stack"]["steps"]]
    assert jobs["stack"]["steps"][0]["with"] == {"fetch-depth": 0}  # an upgrade is tried from an older commit
    assert checks["timeout-minutes"] <= jobs["check"]["timeout-minutes"] - 10
    assert all(step["if"].startswith("always()") for step in jobs["check"]["steps"][-2:])


def test_images_called_latest_are_built_when_sources_change_on_main() -> None:
    started = _read("docker")["on"]

    assert set(started) == {"push"}
    assert started["push"]["branches"] == ["main"]
    assert {"src/**", "requirements.lock", "runtime.Dockerfile"} <= set(started["push"]["paths"])
    assert "make images-push TAGS=latest" in [step.get("run") for step in _steps("docker")]


def test_a_version_tag_starts_a_release_that_goes_through_all_checks_first_and_is_published_last() -> None:
    workflow, commands = _read("release"), [step["run"] for step in _steps("release") if "run" in step]

    assert workflow["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    assert commands == ["make release-check", "make release-images", "make release-publish"]
    jobs = workflow["jobs"]
    (checks,) = [name for name, job in jobs.items() if job.get("uses") == "./.github/workflows/ci.yml"]
    (version,) = [name for name, job in jobs.items() if _last_step(job).get("run") == "make release-check"]
    (publishing,) = [name for name, job in jobs.items() if _last_step(job).get("run") == "make release-publish"]
    assert jobs[checks]["needs"] == version
    assert jobs[publishing]["needs"] == checks


def test_what_a_workflow_may_that_is_called_its_caller_grants() -> None:
    asked = [job.get("permissions", {}) for job in _read("ci")["jobs"].values()]
    (caller,) = [job for job in _read("release")["jobs"].values() if "uses" in job]

    assert {item for permissions in asked for item in permissions.items()} <= set(caller["permissions"].items())


def _last_step(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {} if "uses" in job else job["steps"][-1]
    return found


def test_security_is_looked_at_on_every_push_and_on_mondays() -> None:
    workflow = _read("security")

    assert set(workflow["on"]) == {"push", "schedule"}
    assert workflow["on"]["schedule"] == [{"cron": "0 8 * * 1"}]
    assert {"make bandit", "make audit"} <= {step.get("run") for step in _steps("security")}


def test_updates_come_weekly_and_are_never_a_major_version() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))["updates"]

    assert [each["package-ecosystem"] for each in updates] == ["pip", "github-actions", "docker"]
    for each in updates:
        assert each["schedule"]["interval"] == "weekly"
        assert each["ignore"] == [{"dependency-name": "*", "update-types": ["version-update:semver-major"]}]
        (group,) = each["groups"].values()
        assert group["update-types"] == ["minor", "patch"]


def test_dependabot_sees_every_image_that_is_pinned_and_what_it_raised_is_used() -> None:
    seen = re.findall(
        r"^FROM (\S+)$", (ROOT / ".github/base-images/Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    pinned = dict(re.findall(r"^([A-Z]+_IMAGE)=(\S+)$", (ROOT / ".env").read_text(encoding="utf-8"), re.MULTILINE))
    built_here = pinned.pop("MINIO_IMAGE")

    assert built_here.startswith("scopemarchiver-")
    assert sorted(seen) == sorted(pinned.values()), "bring into .env what Dependabot raised in .github/base-images"
    python = f"ARG BASE_IMAGE={pinned['PYTHON_IMAGE']}\n"
    assert python in (ROOT / "runtime.Dockerfile").read_text(encoding="utf-8")


def test_hooks_before_a_commit_only_call_make_targets() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]

    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["entry"].removeprefix("make ") in _targets()
        assert hook["language"] == "system"


def test_the_lock_file_has_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    locked = dict(
        re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    )

    for requirement in map(Requirement, asked):
        name = canonicalize_name(requirement.name)
        if name == "archiver":
            continue
        assert name in locked, f"{name} is missing in requirements.lock: make lock"
        assert requirement.specifier.contains(locked[name]), f"{requirement}, but locked is {locked[name]}: make lock"
