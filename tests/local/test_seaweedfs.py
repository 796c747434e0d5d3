"""The embedded S3 server."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from archiver.local.ports import choose_free
from archiver.local.seaweedfs import PORT_NAMES, SeaweedFs, SeaweedFsError, run_seaweedfs
from archiver.workflow.storage.object_store import ObjectStore, StoredObject


def server_in(folder: Path, user: str = "user", password: str = "password") -> SeaweedFs:
    return SeaweedFs(folder, choose_free(PORT_NAMES, {}), user, SecretStr(password))


def test_data_outlives_a_restart_on_other_ports(tmp_path: Path) -> None:
    written: list[StoredObject] = []
    for _ in range(2):
        with (
            run_seaweedfs(tmp_path, user="user", password="password") as settings,
            ObjectStore.open(settings) as store,
        ):
            store.ensure_bucket("landingzone")
            assert sorted(store.list("landingzone", "")) == written
            for entry in written:
                assert store.read_small("landingzone", entry.key, entry.etag)[0] == bytes(entry.size)
            written = [store.put("landingzone", f"x/{size}", bytes(size)) for size in (0, 10, 9 * 1024**2)]
            with store.multipart_writer("landingzone", "y/parts") as writer:
                writer.write_part(1, bytes(5 * 1024**2))
                writer.write_part(2, bytes(5))
                head = writer.complete()
            written = sorted([*written, StoredObject(head.key, head.size, head.etag)])


def test_every_port_is_on_the_loopback_interface_only(tmp_path: Path) -> None:
    with run_seaweedfs(tmp_path):
        (process,) = [entry for entry in Path("/proc").glob("[0-9]*") if _is_server(entry, tmp_path)]
        sockets = {str(link.readlink()) for link in (process / "fd").iterdir() if link.is_symlink()}
        listening = [
            fields[1]
            for table in ("tcp", "tcp6")
            for fields in map(str.split, (process / "net" / table).read_text().splitlines()[1:])
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
        ]
    assert len(listening) == len(PORT_NAMES)
    assert {address.partition(":")[0] for address in listening} == {"0100007F"}


def _is_server(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder and b"weed" in (process / "cmdline").read_bytes()
    except OSError:  # gone, or somebody else's
        return False


def test_a_killed_server_leaves_no_sockets(tmp_path: Path) -> None:
    with run_seaweedfs(tmp_path) as settings:
        pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(settings.s3_endpoint, trust_env=False)
    ports = set(re.findall(r"/tmp/seaweedfs-\w+-grpc-(\d+)\.sock", (tmp_path / "server.log").read_text()))
    assert len(ports) == 4
    assert not [found for port in ports for found in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock")]


def test_nothing_is_open_without_credentials(tmp_path: Path) -> None:
    with run_seaweedfs(tmp_path) as settings:
        for method, path in (("GET", "/"), ("PUT", "/new-bucket"), ("POST", "/?Action=ListUsers&Version=2010-05-08")):
            answer = httpx.request(method, settings.s3_endpoint + path, trust_env=False)
            assert answer.status_code in (400, 403, 405), (method, path)
        with ObjectStore.open(settings) as store:
            store.ensure_bucket("landingzone")
            store.put("landingzone", "secret", b"data")
        assert httpx.get(f"{settings.s3_endpoint}/landingzone/secret", trust_env=False).status_code == 403


def test_credentials_are_for_the_owner_only(tmp_path: Path) -> None:
    server = server_in(tmp_path, password="a-password")
    server.prepare()
    file = tmp_path / "identities.json"
    assert "a-password" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any("a-password" in argument for argument in server.command())


def test_it_is_not_ready_before_it_runs(tmp_path: Path) -> None:
    assert not server_in(tmp_path).is_ready()


def test_volumes_are_sized_for_the_free_space(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    (size,) = [re.findall(r"volumeSizeLimitMB=(\d+)", part)[0] for part in server.command() if "SizeLimit" in part]
    assert 1024 <= int(size) <= 30_000
    chosen = SeaweedFs(tmp_path, server.ports, "user", SecretStr("password"), volume_mib=64)
    assert "-master.volumeSizeLimitMB=64" in chosen.command()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises((SeaweedFsError, OSError), match="data"), run_seaweedfs(tmp_path):
        raise AssertionError("never reached")


def test_the_program_is_looked_for_beside_the_interpreter(tmp_path: Path) -> None:
    weed = Path(server_in(tmp_path).command()[0])
    assert weed.parent.samefile(Path(sys.executable).parent)
    subprocess.run([weed, "version"], check=True, capture_output=True, timeout=30)
