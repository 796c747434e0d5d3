"""The PostgreSQL part of the embedded stack: runs the server in the foreground, with its databases made.

`python -m archiver.local.database --data FOLDER --port N --addresses FILE`: FILE (mode 0600) gets the URL of each
database as JSON once all of them can be used.
"""

import argparse
import json
import logging
import signal
import sys
from pathlib import Path

from archiver.local.postgres import PostgresError, start_postgres
from archiver.local.private_files import write_private

PREFECT = "prefect"
LEDGER = "ledger"
_WATCH_S = 1.0


def read_addresses(file: Path) -> dict[str, str]:
    """URLs (`postgresql://...`) by name of database."""
    addresses: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return addresses


def main() -> int:
    """Serve until SIGTERM; the exit code is not 0 where the server ended by itself or did not start."""
    parser = argparse.ArgumentParser(prog="python -m archiver.local.database", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the server")
    parser.add_argument("--port", type=int, required=True, help="port on the loopback interface")
    parser.add_argument("--addresses", type=Path, required=True, help="file that gets the URLs")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    # Blocked at once, so that a signal in the middle of the start is not lost: it is taken below.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with start_postgres(arguments.data, arguments.port, databases=(PREFECT, LEDGER)) as server:
            addresses = {name: server.url(name) for name in (PREFECT, LEDGER)}
            write_private(arguments.addresses, json.dumps(addresses))
            while server.is_running():
                if signal.sigtimedwait(ends, _WATCH_S) is not None:
                    return 0
    except PostgresError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write("PostgreSQL ended by itself; its own log tells why.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
