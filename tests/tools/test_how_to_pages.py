"""Commands in the documentation: that they exist, and, where nothing but this machine is needed, that they work."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from archiver.config.register_landing import api_rights, flows_rights
from archiver.local.scicat.config import JobType, ScicatConfig
from archiver.workflow.names import bag_folder
from support.bags import FILES, make_bag, new_share, tamper
from tools.docs.cli import app_command

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PID = "20.500.12345/a"
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, kind: str) -> list[str]:
    """Blocks of a page that are of this language."""
    return [found["text"] for found in _BLOCK.finditer(page.read_text(encoding="utf-8")) if found["kind"] == kind]


def _lines(start: str) -> Iterator[tuple[str, str]]:
    pages = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in pages:
        for block in [*blocks(page, "sh"), *blocks(page, "bash"), *blocks(page, "console")]:
            for line in block.replace("\\\n", " ").splitlines():
                command = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if command.startswith(start):
                    yield str(page.relative_to(ROOT)), command


def _parse(command: Any, words: list[str]) -> None:
    """Read the words as the command would, without doing anything.

    Raises:
        Exception: click's, for a command or option that does not exist, or an argument that is missing.
    """
    context = command.make_context("archiver", list(words))
    while hasattr(context.command, "commands"):
        name, child, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = child.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize(("page", "line"), sorted(set(_lines("archiver "))))
def test_a_command_that_is_shown_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(re.split(r"\s[>|]", line)[0])[1:]

    _parse(app_command(), words)


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for wrong in (["lts", "mend"], ["lts", "list", "--fast"], ["lts", "show"]):
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            _parse(app_command(), wrong)


def test_a_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {(page, line.split()[1]) for page, line in _lines("make ")}

    assert shown
    assert {(page, target) for page, target in shown if target not in targets} == set()


# ---------------------------------------------------------------------------------------------- run


def _run(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_a_bag_is_checked_and_restored_with_tar_and_coreutils_alone(tmp_path: Path) -> None:
    share = new_share(tmp_path / "lts")
    make_bag(share, PID, FILES, {"b.txt": b"second"})
    bag, out = share.root / bag_folder(PID), tmp_path / "out"
    check, everything, find, by_name, by_offset = blocks(DOCS / "how-to" / "restore-without-the-service.md", "sh")

    def run(script: str) -> "subprocess.CompletedProcess[str]":
        # Nothing of the service, nor of this environment, is in reach. `head` ends before `tail`, which is no failure.
        return subprocess.run(
            ["bash", "-eu", "-c", script],
            env={"PATH": "/usr/bin:/bin", "BAG": str(bag), "OUT": str(out)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    out.mkdir()
    done = run(check)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr

    assert run(everything).returncode == 0
    for path, content in {**FILES, "b.txt": b"second"}.items():
        assert (out / path).is_dir() if content is None else (out / path).read_bytes() == content

    assert '"offset": 512' in run(find).stdout
    for script in (by_name, by_offset):
        (out / "a.txt").unlink()
        assert run(script).returncode == 0
        assert (out / "a.txt").read_bytes() == b"alpha"

    tamper(next(bag.glob("data/datablocks/*_0.tar")), b"A", 512)
    assert run(check).returncode != 0


def test_a_share_is_added_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "lts").mkdir()
    (tmp_path / "nowhere").mkdir()
    scripts = [
        block
        for block in blocks(DOCS / "how-to" / "add-an-lts-share.md", "sh")
        if block.startswith("archiver lts") and "rebuild" not in block
    ]
    init, listing, verify = scripts

    made = _run(init, LTS_ROOT_FOLDER=str(tmp_path / "lts"))
    assert made.returncode == 0, made.stderr
    assert "0 data sets" in _run(listing, LTS_ROOT_FOLDER=str(tmp_path / "lts")).stdout
    assert _run(verify, LTS_ROOT_FOLDER=str(tmp_path / "lts")).returncode == 0
    assert "not mounted" in _run(listing, LTS_ROOT_FOLDER=str(tmp_path / "nowhere")).stderr


def test_damage_is_found_and_what_is_good_is_saved_as_the_page_says(tmp_path: Path) -> None:
    share = new_share(tmp_path / "lts")
    (totals,) = make_bag(share, PID)
    tar = share.root / totals.archive_id
    good = tar.read_bytes()
    tamper(tar, b"A", good.index(b"alpha"))
    (tmp_path / "candidate.tar").write_bytes(good)
    (tmp_path / "damaged").mkdir()
    verify, extract, compare, copy, replace, prove = blocks(DOCS / "how-to" / "when-the-only-copy-is-damaged.md", "sh")
    environment = {
        "LTS_ROOT_FOLDER": str(share.root),
        "PID": PID,
        "BAG": str(share.root / bag_folder(PID)),
        "OUT": str(tmp_path / "out"),
        "TAR": tar.name,
    }

    def run(script: str) -> "subprocess.CompletedProcess[str]":
        return _run(f"cd {tmp_path}\n" + script.replace("/data/damaged", str(tmp_path / "damaged")), **environment)

    assert run(verify).returncode == 3
    assert '"member": "a.txt"' in (tmp_path / "damage.json").read_text(encoding="utf-8")
    saved = run(extract)
    assert saved.returncode == 3
    assert "not extracted: a.txt" in saved.stdout
    assert (tmp_path / "out" / "sub" / "b.bin").read_bytes() == FILES["sub/b.bin"]
    assert totals.sha256 in run(compare).stdout
    for script in (copy, replace, prove):
        done = run(script)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "damaged" / tar.name).exists()
    assert not tar.stat().st_mode & 0o222


# ---------------------------------------------------------------------------------------------- configuration


def test_the_job_types_for_scicat_are_ones_that_it_would_read() -> None:
    (text,) = blocks(DOCS / "how-to" / "connect-scicat.md", "yaml")
    document = yaml.safe_load(text)

    config = ScicatConfig(
        config_version=document["configVersion"], jobs=tuple(JobType.model_validate(each) for each in document["jobs"])
    )

    for name, auth in (("archive", "#datasetOwner"), ("retrieve", "#datasetAccess")):
        job_type = config.job_type(name)
        assert job_type is not None
        assert job_type.create.auth == auth
        assert [action.action_type for action in job_type.create.actions] == ["validate", "url"]
        assert job_type.update.auth == "@archivemanager"


def test_the_rights_on_an_outside_landing_storage_are_those_that_an_own_one_is_given() -> None:
    api, flows = map(json.loads, blocks(DOCS / "how-to" / "connect-landing-storage.md", "json"))

    assert api == api_rights("landingzone")
    assert flows == flows_rights("landingzone", "retrieval")
