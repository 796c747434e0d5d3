import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from archiver.local.postgres import PostgresError, PostgresServer, start_postgres


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, connect_timeout=10) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def put_a_note(server: PostgresServer) -> None:
    with psycopg.connect(server.url("ledger"), connect_timeout=10) as connection:
        connection.execute("CREATE TABLE note AS SELECT 42 AS answer")


def test_each_role_has_its_own_database_and_needs_its_own_password(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, databases=("prefect", "ledger"), durable=False) as server:
        assert ask(server.url("ledger"), "SELECT current_user || '@' || current_database()") == "ledger@ledger"
        assert ask(server.url("prefect"), "SELECT current_user") == "prefect"
        password = server.url("prefect").split(":")[2].split("@")[0]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url("ledger"), password=password)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url("ledger"), password="")


def test_the_url_is_written_as_the_client_wants_it(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, durable=False) as server:
        url = server.url("prefect", scheme="postgresql+asyncpg")
    assert url.startswith("postgresql+asyncpg://prefect:")
    assert url.endswith(f"@127.0.0.1:{server.port}/prefect")


def test_it_listens_on_loopback_only_and_keeps_its_secret_to_its_owner(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, durable=False) as server:
        assert ask(server.url("postgres"), "SHOW listen_addresses") == "127.0.0.1"
        assert ask(server.url("postgres"), "SHOW unix_socket_directories") == ""
    assert stat.S_IMODE((postgres_folder / "secret").stat().st_mode) == 0o600
    assert not (postgres_folder / "password.new").exists()


def test_databases_and_passwords_stay_when_it_is_started_again(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, databases=("ledger",)) as server:
        put_a_note(server)
        port, url = server.port, server.url("ledger")
    assert not server.is_running()
    server.stop()
    with start_postgres(postgres_folder, port, databases=("ledger", "prefect")) as again:
        assert again.url("ledger") == url
        assert ask(url, "SELECT answer FROM note") == 42


def test_it_starts_again_after_it_was_killed(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, databases=("ledger",)) as server:
        put_a_note(server)
        with psycopg.connect(server.url("ledger"), connect_timeout=10) as open_connection:
            os.kill(server.pid, signal.SIGKILL)
            with start_postgres(postgres_folder, server.port, databases=("ledger",)) as again:
                assert again.pid != server.pid
                assert ask(again.url("ledger"), "SELECT answer FROM note") == 42
            open_connection.close()


def test_a_server_left_behind_by_a_killed_parent_is_taken_over(postgres_folder: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from archiver.local.postgres import start_postgres\n"
        "server = start_postgres(pathlib.Path(sys.argv[1]), databases=('ledger',), durable=False)\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(postgres_folder)], stdout=subprocess.PIPE, timeout=60, check=False
    )
    left_behind = int(done.stdout.splitlines()[-1])
    with start_postgres(postgres_folder, durable=False) as server:
        assert server.pid == left_behind
        assert ask(server.url("ledger"), "SELECT 1") == 1
    assert not server.is_running()
    assert not (postgres_folder / "cluster/postmaster.pid").exists()


def test_a_running_server_moves_to_another_port_when_asked(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, durable=False) as server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            other = probe.getsockname()[1]
        with start_postgres(postgres_folder, other, durable=False) as moved:
            assert moved.port == other
            assert ask(moved.url("postgres"), "SELECT 1") == 1
        assert not server.is_running()


def test_a_stale_lock_whose_number_another_process_has_is_cleared(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, durable=False) as server:
        lock = postgres_folder / "cluster/postmaster.pid"
        lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with start_postgres(postgres_folder, server.port, durable=False) as again:
        assert again.pid != os.getpid()


def test_an_unfinished_first_start_is_begun_anew(postgres_folder: Path) -> None:
    leftover = postgres_folder / "cluster.new"
    leftover.mkdir()
    (leftover / "PG_VERSION").write_text("18\n")
    with start_postgres(postgres_folder, durable=False) as server:
        assert ask(server.url("postgres"), "SELECT 1") == 1
    assert not leftover.exists()


def test_a_port_that_is_taken_is_told(postgres_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PostgresError, match="Address already in use"):
            start_postgres(postgres_folder, taken.getsockname()[1], durable=False)


def test_a_database_is_copied_for_its_templates_owner_and_dropped(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, databases=("ledger",), durable=False) as server:
        put_a_note(server)
        copy = server.copy_database("ledger", "ledger_1")
        assert ask(copy, "SELECT answer FROM note") == 42
        with psycopg.connect(copy, connect_timeout=10):
            server.drop_database("ledger_1")
        server.drop_database("ledger_1")
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(copy)
