"""A run that holds a place under a limit, and writes down when and where."""

import json
import time
from pathlib import Path

from prefect import flow
from prefect.concurrency.sync import concurrency


@flow
def hold_a_place(limit: str, name: str, seconds: float, record: str) -> None:
    """Hold one under `limit` for so long; a line in the file `record` says from when to when, and in which network."""
    with concurrency(limit, occupy=1, strict=True, lease_duration=60):
        began = time.time()
        time.sleep(seconds)
        said = {"name": name, "from": began, "to": time.time(), "network": str(Path("/proc/self/ns/net").readlink())}
        with Path(record).open("a", encoding="ascii") as lines:
            lines.write(json.dumps(said) + "\n")
