"""A program that runs use cases in processes of their own, quickly, and strikes them.

It imports the service once. For each connection to its socket it forks a watcher, which is given an `Order`, forks
the process that runs the use case (leader of a group of its own, with the children it will need for the share
waiting beside it) and tells what becomes of it, until nothing of it is alive any more.

`main` is called by whoever imported this: classes of a `__main__` module could not travel to the tests.
"""

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from archiver.config.logs import configure_logs
from archiver.config.settings import FlowConfiguration
from archiver.workflow import isolation
from archiver.workflow.archiving import Archiving, report_archiving_failure
from archiver.workflow.errors import ArchiverError
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.monitor import Monitor
from archiver.workflow.retirement import Retiring
from archiver.workflow.retrieval import Retrieval, report_retrieval_failure
from archiver.workflow.tools import Tools, open_tools
from support.faults_points import CHILD, RUN, Fault, install

RETIREMENT = ("confirm", "restore", "remove")
"""Steps by which a data set is withdrawn."""
_CHILDREN = 4
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Order:
    """One run of a use case."""

    use_case: str
    """`archive`, `retrieve`, or a step of `RETIREMENT`."""
    pid: str
    holder: str
    configuration: FlowConfiguration
    folder: Path
    """For `calls`, `log` and `outcome` of the run."""
    faults: tuple[Fault, ...] = ()
    new_children: bool = False
    """Children for the share are started as in production: slower, and without faults of their own."""


@dataclass(frozen=True)
class Outcome:
    """What a run that was not killed came to."""

    error: str
    """Class of the error it ended with; empty for none."""
    message: str
    was_archived: bool = False
    expires: str = ""


class _WaitingChild:
    """Stands for the `subprocess.Popen` of a child that was forked before there was anything to inherit."""

    def __init__(self, order: Order, number: int) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs, order, f"{CHILD} {number}")
        theirs.close()
        self._socket = ours
        self._status: int | None = None

    def begin(self, descriptors: Sequence[int]) -> None:
        socket.send_fds(self._socket, [b"."], list(descriptors))

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Unlike a `Popen`, without limit: nothing here hangs in the kernel."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


def _serve(connection: socket.socket, order: Order, name: str) -> None:
    """The life of a child: it waits until it is needed, or its parent is gone."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 2)
    if descriptors:
        install(name, order.faults, order.folder / "calls")
        isolation.main(*descriptors)
    os._exit(0)


def _use_waiting_children(order: Order) -> None:
    waiting = [_WaitingChild(order, number) for number in range(1, _CHILDREN + 1)]

    def start(_command: Sequence[str], *, pass_fds: Sequence[int], stdin: int) -> _WaitingChild:
        child = waiting.pop(0)
        child.begin(pass_fds)
        return child

    stand_in = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    setattr(isolation, "subprocess", stand_in)  # noqa: B010  # mypy knows that a module is no object of ours


def _work(order: Order) -> Outcome:
    try:
        with open_tools(order.configuration) as tools:
            return _with(tools, order)
    except ArchiverError as error:
        return Outcome(type(error).__name__, str(error))


def _retire(tools: Tools, order: Order) -> Outcome:
    """A step that was asked for, as the command does it."""
    asked = tools.ledger.retirement(order.pid)
    word = asked.word if asked else ""
    with ChildProcess(tools.lts.lts_stall_timeout_s) as child:
        timeout = timedelta(seconds=tools.settings.claim_timeout_s)
        office = Retiring(
            tools.catalogue,
            tools.ledger,
            tools.share,
            (),
            child,
            tools.storage_location,
            timedelta(),
            timeout,
            order.holder,
        )
        if order.use_case == "restore":
            done = office.restore(order.pid, dry_run=False)
        else:
            step = office.confirm if order.use_case == "confirm" else office.remove
            done = step(order.pid, word, dry_run=False)
    return Outcome("", "; ".join(done.left) if done else "nothing")


def _with(tools: Tools, order: Order) -> Outcome:
    if order.use_case in RETIREMENT:
        return _retire(tools, order)
    monitor = Monitor(order.pid)
    try:
        if order.use_case == "archive":
            archived = Archiving(tools, monitor).archive(order.pid, order.holder)
            return Outcome("", archived.message, archived.was_archived)
        retrieval = Retrieval(tools, monitor)
        retrieved = retrieval.retrieve(order.pid, order.holder)
        retrieval.downloads(retrieved)
        return Outcome("", retrieved.message)
    except ArchiverError as error:
        with suppress(ArchiverError):  # as the flow does it: told if it can be told
            if order.use_case == "archive":
                timeout = timedelta(seconds=tools.settings.claim_timeout_s)
                report_archiving_failure(tools.catalogue, tools.ledger, order.pid, error, timeout)
            else:
                report_retrieval_failure(tools.catalogue, order.pid, error)
        raise


def _run(order: Order) -> None:
    """The process that runs the use case."""
    _die_with_parent()
    os.setsid()
    log = os.open(order.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    configure_logs("DEBUG")
    if not order.new_children:
        _use_waiting_children(order)
    install(RUN, order.faults, order.folder / "calls")
    outcome = pickle.dumps(_work(order))
    unfinished = order.folder / "outcome.new"
    unfinished.write_bytes(outcome)
    unfinished.rename(order.folder / "outcome")


def _in_child(work: Any, *arguments: Any) -> int:
    """Fork a process that does `work` and ends; its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        work(*arguments)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(code)


def _watch(connection: Connection) -> None:
    """Run an order and tell: `started` (with the number of the process), `stopped`, `ended` (with its status)."""
    _die_with_parent()
    order: Order = connection.recv()
    _adopt_orphans()
    run = _in_child(_run, order)
    connection.send(("started", run))
    ended = 0
    while True:
        try:
            number, status = os.waitpid(-1, os.WUNTRACED)
        except ChildProcessError:
            break  # the run is over, and so are its children
        if os.WIFSTOPPED(status):
            if number == run:
                connection.send(("stopped", run))
        elif number == run:
            ended = os.waitstatus_to_exitcode(status)
    connection.send(("ended", ended))


def _control(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _adopt_orphans() -> None:
    """Children of a killed run become ours: so it is known when the last of them is gone."""
    _control(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with_parent() -> None:
    """Not for the children of a run: that they do not outlive it is what is tested."""
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(address: str) -> None:
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with Listener(address, "AF_UNIX", backlog=16) as listener:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection = listener.accept()
            _in_child(_watch, connection)
            connection.close()
            _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
