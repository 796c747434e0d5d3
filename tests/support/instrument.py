"""Somebody who submits jobs to the SciCat of a whole stack."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from archiver.local.scicat.defaults import INGESTOR, OWNER_GROUP
from archiver.local.stack import Stack


def eventually(condition: Callable[[], bool], within_s: float = 120) -> bool:
    """Whether `condition` comes true in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.3)
    return True


@dataclass
class Instrument:
    """Somebody with data sets, as SciCat sees them."""

    stack: Stack
    _token: str = field(default="")

    def call(self, method: str, path: str, body: object = None) -> Any:
        if not self._token:
            login = {"username": INGESTOR, "password": self.stack.credentials.ingestor_password}
            reply = httpx.post(f"{self.stack.urls.scicat}/api/v3/auth/login", json=login, timeout=30, trust_env=False)
            self._token = reply.raise_for_status().json()["access_token"]
        reply = httpx.request(
            method,
            f"{self.stack.urls.scicat}/api/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=30,
            trust_env=False,
        )
        return reply.raise_for_status().json()

    def submit_without_files(self) -> str:
        """An archive job for a data set whose only file was never uploaded; its id."""
        record = {
            "type": "raw",
            "owner": "Ada",
            "ownerGroup": OWNER_GROUP,
            "contactEmail": "ada@facility.test",
            "sourceFolder": "/data/run1",
            "creationTime": "2026-03-01T12:00:00.000Z",
            "creationLocation": "microscope 1",
            "principalInvestigator": "Ada",
            "datasetName": "run 1",
        }
        pid = self.call("POST", "v3/datasets", record)["pid"]
        entry = {"path": "missing.mrc", "size": 1, "time": record["creationTime"], "perm": "-rw-r--r--"}
        blocks = f"v3/datasets/{pid.replace('/', '%2F')}/origdatablocks"
        self.call("POST", blocks, {"size": 1, "dataFileList": [entry | {"uid": "ada", "gid": "users"}]})
        job = {
            "type": "archive",
            "ownerGroup": OWNER_GROUP,
            "jobParams": {"datasetList": [{"pid": pid, "files": []}]},
        }
        return str(self.call("POST", "v4/jobs", job)["id"])

    def status(self, job_id: str) -> str:
        return str(self.call("GET", f"v4/jobs/{job_id}")["statusCode"])

    def pid_of(self, job_id: str) -> str:
        """The data set of a job that has one."""
        (dataset,) = self.call("GET", f"v4/jobs/{job_id}")["jobParams"]["datasetList"]
        return str(dataset["pid"])
