"""Commands in the documentation: that they exist, and, where nothing but this machine is needed, that they work."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import dropwhile
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
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"^ {4,}(\S.*)$", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SHELL = ("", "sh", "bash", "console")
"""Languages of blocks that hold commands; those without one, too."""
_PROGRAMS = ("archiver", "docker", "make", "prefect")
_BEFORE = re.compile(r"sudo|\$|[A-Z_]+=.*")
"""What may stand before a program."""


def blocks(page: Path, kind: str) -> list[str]:
    """Blocks of a page that are of this language."""
    return [found["text"] for found in _BLOCK.finditer(page.read_text(encoding="utf-8")) if found["kind"] == kind]


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line: what stands between `&&`, `|` and the like, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set("();<>|&"):
            if words:
                yield words
            words = []
        else:
            words.append(word)


def _shown_in(text: str) -> Iterator[tuple[list[str], bool]]:
    """Commands of ours in a page, and whether they stand within a sentence, where arguments may be left out."""
    shell = [found["text"] for found in _BLOCK.finditer(text) if found["kind"] in _SHELL]
    rest = _BLOCK.sub("", text)
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *_INDENTED.findall(rest)]:
        if any(f"{program} " in line for program in _PROGRAMS):
            yield from ((words, False) for words in _commands_of(line))
    for line in _INLINE.findall(rest):
        if line.startswith(tuple(f"{program} " for program in _PROGRAMS)) and "…" not in line:
            yield from ((words, True) for words in _commands_of(line))


def _commands_of(line: str) -> Iterator[list[str]]:
    try:
        found = list(_simple_commands(line))
    except ValueError:  # a sentence with an apostrophe, or a drawing
        return
    for each in found:
        words = list(dropwhile(_BEFORE.fullmatch, each))
        if words and words[0].removeprefix(".venv/bin/") in _PROGRAMS:
            yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def _shown(program: str) -> list[tuple[str, str, bool]]:
    """Each command of this program on any page: the page, the words with blanks between, whether in a sentence."""
    pages = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
    return sorted(
        {
            (str(page.relative_to(ROOT)), shlex.join(words), in_sentence)
            for page in pages
            for words, in_sentence in _shown_in(page.read_text(encoding="utf-8"))
            if words[0] == program
        }
    )


def _parse(command: Any, words: list[str]) -> None:
    """Read the words as the command would, without doing anything.

    Raises:
        Exception: click's, for a command or option that does not exist, or an argument that is missing.
    """
    context = command.make_context("archiver", list(words))
    while hasattr(context.command, "commands"):
        name, child, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = child.make_context(name, list(rest), parent=context)


def _parse_archiver(words: list[str]) -> None:
    _parse(app_command(), words)


def _check_mention(words: list[str]) -> None:
    """Judge a command that a sentence speaks of: its names and options, not whether it is complete."""
    command: Any = app_command()
    for word in words:
        children = getattr(command, "commands", None)
        if word.startswith("-"):
            known = {name for parameter in command.params for name in parameter.opts}
            assert word in known | {"--help"}, f"no such option: {word}"
        elif children is not None and not word.isupper():  # a word in capitals stands for an argument
            assert word in children, f"no such command: {word}"
            command = children[word]


_PLACES = {
    "archiver-service-api": {"status", "jobs", "retry", "cancel", "pause", "resume", "doctor"},
    "reconciliation": {"lts", "catalogue", "retire", "reconcile", "doctor"},
    "prefect-config": {"configure"},
}
"""Which service has what a command needs: its credentials, the share."""
_WITH_VALUE = {
    *("--entrypoint", "--env-file", "--file", "--profile", "--scale", "--tail", "--timeout", "--user", "--volume"),
    *("--wait-timeout", "-v"),
}
_VERBS_OF_SERVICES = {"build", "logs", "ps", "pull", "restart", "stop", "up", "down"}


def _services() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in ("docker-compose.yml", "docker-compose.scaled.yml"):
        text = (ROOT / file).read_text(encoding="utf-8").replace("!override ", "")
        for name, service in yaml.safe_load(text)["services"].items():
            found[name] = {**found.get(name, {}), **service}
    return found


def _after_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options at the beginning, and what comes after them."""
    options: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name = rest.pop(0)
        options[name] = rest.pop(0) if name in _WITH_VALUE else ""
    return options, rest


def _check_compose(words: list[str]) -> None:
    """Judge the words after `docker compose`.

    Raises:
        AssertionError: it would not do what it is shown for.
        Exception: click's, for what is wrong with the archiver's own command.
    """
    before, rest = _after_options(words)
    assert before.get("--env-file", "").startswith(".env"), (
        "without --env-file .env the values are not read for certain"
    )
    verb, *rest = rest
    options, rest = _after_options(rest)
    services = _services()
    if verb in _VERBS_OF_SERVICES:
        unknown = {word for word in rest if not word.startswith("-") and not word.isupper()} - set(services)
        assert not unknown, f"no such service: {unknown}"
        return
    assert verb in ("exec", "run"), f"docker compose {verb} is not known to this test"
    service, *command = rest
    assert service in services, f"no such service: {service}"
    if verb == "exec":
        runs = services[service].get("restart", "unless-stopped") == "unless-stopped"
        assert runs, f"{service} does its work and ends: run, not exec"
    entrypoint = services[service].get("entrypoint", [])
    if "--entrypoint" not in options and entrypoint[:1] == ["archiver"]:
        _parse_archiver([*entrypoint[1:], *command])
    elif not entrypoint and command[:1] == ["archiver"]:
        assert command[1] in _PLACES.get(service, ()), f"{service} has not what archiver {command[1]} needs"
        _parse_archiver(command[1:])
    elif not entrypoint and command[:1] == ["prefect"]:
        assert (verb, service) == ("run", "prefect-flows-deployment"), "only the entry point gives it the credential"


@pytest.mark.parametrize(("page", "line", "in_sentence"), _shown("archiver"))
def test_a_command_that_is_shown_exists_with_its_options(page: str, line: str, in_sentence: bool) -> None:
    words = shlex.split(line)[1:]
    if in_sentence:
        _check_mention(words)
    else:
        _parse_archiver(words)


@pytest.mark.parametrize(
    ("page", "line"), sorted({(page, line) for page, line, _ in _shown("docker") if line.startswith("docker compose ")})
)
def test_a_service_that_is_spoken_to_is_there_and_can_do_what_it_is_told(page: str, line: str) -> None:
    words = shlex.split(line)[2:]
    if "..." not in words:
        _check_compose(words)


def test_prefect_is_called_in_a_container_only_since_no_host_has_it() -> None:
    assert [each for each in _shown("prefect") if each[0].startswith("docs/how-to/")] == []


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for wrong in (["lts", "mend"], ["lts", "list", "--fast"], ["lts", "show"]):
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            _parse(app_command(), wrong)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("docker compose up -d", "without --env-file"),
        ("docker compose --env-file .env up -d archiver-api", "no such service"),
        ("docker compose --env-file .env exec reconciliation archiver lts mend", "No such command"),
        ("docker compose --env-file .env exec archiver-service-api archiver lts list", "has not what"),
        ("docker compose --env-file .env exec prefect-config archiver configure", "run, not exec"),
        ("docker compose --env-file .env exec reconciliation prefect work-pool ls", "only the entry point"),
        ("docker compose --env-file .env run --rm lts rebuild", "No such command"),
    ],
)
def test_a_command_for_a_container_that_cannot_do_it_would_be_found(wrong: str, why: str) -> None:
    with pytest.raises(Exception, match=why):
        _check_compose(shlex.split(wrong)[2:])


@pytest.mark.parametrize("wrong", [["lts", "mend"], ["lts", "list", "--fast"], ["mend", "PID"]])
def test_a_sentence_that_speaks_of_no_command_would_be_found(wrong: list[str]) -> None:
    with pytest.raises(AssertionError, match="no such"):
        _check_mention(wrong)


def test_commands_are_found_wherever_a_page_shows_them() -> None:
    page = """
```
archiver one              # a fence without a language
```

    archiver two > file

* an item
    ```sh
    sudo A=b archiver three && cd / && archiver four | \\
      archiver five
    ```

```text
archiver says something
```

As `archiver six` does, and `archiver …` does not.
"""
    found = [(" ".join(words), in_sentence) for words, in_sentence in _shown_in(page)]

    assert found == [
        ("archiver one", False),
        ("archiver three", False),
        ("archiver four", False),
        ("archiver five", False),
        ("archiver two", False),
        ("archiver six", True),
    ]


def test_a_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {(page, line.split()[1]) for page, line, _ in _shown("make")}

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
    _container, verify, extract, compare, copy, replace, prove = blocks(
        DOCS / "how-to" / "when-the-only-copy-is-damaged.md", "sh"
    )
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
