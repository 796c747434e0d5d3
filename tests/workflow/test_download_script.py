"""The download script: harmless whatever the names are, and each data set ends in a folder of its own."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.workflow.download_script import Download, download_script, folder_of
from archiver.workflow.names import check_pid, datablock_name
from support.strategies import pids

EXPIRES = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
NOBODY = 65534
BASH = shutil.which("bash") or "/bin/bash"
ODD = "x'; touch hacked; \"$(touch hacked)` touch hacked`\n touch hacked #\\"


def _tar(files: Mapping[str, bytes], folders: Mapping[str, int] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, mode in (folders or {}).items():
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o444
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


class Retrieved:
    """Tars that can be fetched, and a folder to fetch them into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "target"
        self.target.mkdir()
        self._served = 0

    def download(self, pid: str, name: str, content: bytes, sha256: str = "") -> Download:
        self._served += 1
        served = self.folder / f"served-{self._served}"
        served.write_bytes(content)
        served.chmod(0o644)
        return Download(pid, name, len(content), sha256 or hashlib.sha256(content).hexdigest(), served.as_uri())

    def run(self, *downloads: Download) -> subprocess.CompletedProcess[str]:
        """Run the script as a user who is not root."""
        user = None
        if os.geteuid() == 0:
            user = NOBODY
            for each in (self.target, *self.target.rglob("*")):
                os.chown(each, NOBODY, NOBODY)
        return subprocess.run(
            ["bash", "-s", "--", str(self.target)],
            input=download_script(downloads, EXPIRES),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            user=user,
        )

    def files(self) -> dict[str, bytes]:
        return {
            str(each.relative_to(self.target)): each.read_bytes() for each in self.target.rglob("*") if each.is_file()
        }


@pytest.fixture
def retrieved() -> Iterator[Retrieved]:
    folder = Path(tempfile.mkdtemp(prefix="download-script-"))
    folder.chmod(0o755)
    yield Retrieved(folder)
    shutil.rmtree(folder)


def _parses(script: str) -> bool:
    return subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0


def _commands(script: str) -> list[list[str]]:
    """The words of each command after the functions, as bash itself splits them."""
    body = script[script.index("# The links work") :]
    traced = (
        'fetch() { printf "%s\\0" fetch "$@" END; }; rm() { printf "%s\\0" rm "$@" END; }; printf() '
        '{ [ "$1" = "%s\\0" ] && builtin printf "$@"; return 0; }; '
        'command_not_found_handle() { builtin printf "%s\\0" "$@" END; }; PATH=/nothing; '
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([BASH, "-c", f"{traced}\n{body}"], capture_output=True, check=True, cwd=folder)
        assert list(Path(folder).iterdir()) == []
    words = done.stdout.decode().split("\0")[:-1]
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "END":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands[:-1]


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1) | st.just(ODD)


@given(VALUES, VALUES, VALUES)
@settings(max_examples=30)
def test_no_name_or_link_becomes_a_command(pid: str, name: str, url: str) -> None:
    script = download_script([Download(pid, name, 7, "0" * 64, url)], EXPIRES)

    assert _parses(script)
    folder = folder_of(pid)
    assert _commands(script) == [
        ["fetch", folder, name, "7", "0" * 64, url],
        ["rm", "-rf", "--", f"{folder}.download"],
    ]


@given(st.lists(pids(), max_size=6))
@settings(max_examples=30)
def test_no_data_set_gets_a_folder_another_one_uses(given_pids: list[str]) -> None:
    downloads = [Download(pid, datablock_name(pid, 0), 1, "0" * 64, pid) for pid in given_pids]

    commands = _commands(download_script(downloads, EXPIRES)) if downloads else []

    folders = {words[5]: words[1] for words in commands if words[0] == "fetch"}
    assert folders.keys() == set(given_pids)
    used = [name for folder in folders.values() for name in (folder, f"{folder}.download")]
    assert len(set(used)) == 2 * len(folders)
    assert not any("/" in name for name in used)


def test_a_folder_is_named_like_its_data_set() -> None:
    assert folder_of("20.500.11935/0b5c") == "20.500.11935-0b5c"


def test_the_time_the_links_end_is_told_in_utc() -> None:
    elsewhere = EXPIRES.astimezone(timezone(timedelta(hours=5)))

    assert "until 2030-01-02 03:04 UTC" in download_script([], elsewhere)


def test_what_was_retrieved_is_unpacked_and_nothing_else_is_left(retrieved: Retrieved) -> None:
    one = retrieved.download("x/1", "x-1_0.tar", _tar({"a": b"1", "sub/b c": b"2"}))
    two = retrieved.download("x/1", "x-1_1.tar", _tar({"sub/d": b"3"}))

    done = retrieved.run(one, two)

    assert (done.returncode, done.stderr) == (0, "")
    assert retrieved.files() == {"x-1/a": b"1", "x-1/sub/b c": b"2", "x-1/sub/d": b"3"}
    assert [each.name for each in retrieved.target.iterdir()] == ["x-1"]


def test_two_data_sets_whose_tars_have_one_name_do_not_collide(retrieved: Retrieved) -> None:
    one = retrieved.download("a/b", datablock_name("a/b", 0), _tar({"file": b"of a/b"}))
    other = retrieved.download("a-b", datablock_name("a-b", 0), _tar({"file": b"of a-b"}))
    assert one.name == other.name

    done = retrieved.run(one, other)

    assert (done.returncode, done.stderr) == (0, "")
    assert retrieved.files() == {"a-b/file": b"of a/b", "a-b_2/file": b"of a-b"}


def test_a_data_set_named_like_the_downloads_of_another_keeps_its_files(retrieved: Retrieved) -> None:
    one = retrieved.download("a", "a_0.tar", _tar({"file": b"of a"}))
    other = retrieved.download("a.download", "a.download_0.tar", _tar({"file": b"of the other"}))

    done = retrieved.run(one, other)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(retrieved.files().values()) == [b"of a", b"of the other"]


def test_a_pid_with_a_colon_is_not_taken_for_another_computer(retrieved: Retrieved) -> None:
    pid = check_pid("doi:10.1@x/1")

    done = retrieved.run(retrieved.download(pid, datablock_name(pid, 0), _tar({"file": b"1"})))

    assert (done.returncode, done.stderr) == (0, "")
    assert retrieved.files() == {"doi:10.1@x-1/file": b"1"}


def test_a_folder_that_was_read_only_takes_the_files_of_the_next_tar(retrieved: Retrieved) -> None:
    one = retrieved.download("x", "x_0.tar", _tar({"run/a": b"1"}, {"run": 0o555}))
    two = retrieved.download("x", "x_1.tar", _tar({"run/b": b"2"}))

    done = retrieved.run(one, two)

    assert (done.returncode, done.stderr) == (0, "")
    assert retrieved.files() == {"x/run/a": b"1", "x/run/b": b"2"}


def test_bytes_with_another_checksum_are_removed_and_not_unpacked(retrieved: Retrieved) -> None:
    done = retrieved.run(retrieved.download("x", "x_0.tar", _tar({"a": b"1"}), sha256="0" * 64))

    assert done.returncode == 1
    assert "x_0.tar is not what was archived (its SHA-256 differs)" in done.stderr
    assert retrieved.files() == {}


def test_a_script_run_again_goes_on_where_it_stopped(retrieved: Retrieved) -> None:
    good = retrieved.download("x", "x_0.tar", _tar({"a": b"1"}))
    gone = retrieved.download("x", "x_1.tar", _tar({"b": b"2"}))
    served = Path(gone.url.removeprefix("file://"))
    content = served.read_bytes()
    served.unlink()
    assert retrieved.run(good, gone).returncode == 1
    served.write_bytes(content)
    served.chmod(0o644)

    done = retrieved.run(good, gone)

    assert done.returncode == 0
    assert "x_0.tar: done before" in done.stdout
    assert retrieved.files() == {"x/a": b"1", "x/b": b"2"}


def test_no_pid_leads_out_of_the_target() -> None:
    assert "/" not in folder_of("../../x")


def test_a_checker_of_shell_scripts_has_nothing_to_say() -> None:
    """Where it is installed; elsewhere bash alone judges."""
    script = download_script([Download("x/1", "x-1_0.tar", 1, "0" * 64, "http://s3.test/x?a=b&c=d")], EXPIRES)
    checker = shutil.which("shellcheck")
    command = [checker, "--shell=bash", "-"] if checker else ["bash", "-n"]

    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
