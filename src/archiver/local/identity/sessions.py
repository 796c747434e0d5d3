"""The sessions of the realm: one per password grant, kept in SQLite so that a restart keeps them."""

import sqlite3
import threading
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from archiver.local.identity.files import private_file

_TABLE = """
CREATE TABLE IF NOT EXISTS sessions (
    sid TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    client_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    offline INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
)
"""


@dataclass(frozen=True)
class Session:
    """A user logged in at a client. Times are Unix seconds; `offline` sessions outlive the browser's."""

    sid: str
    username: str
    client_id: str
    scope: str
    offline: bool
    started_at: int
    expires_at: int


class SessionStore:
    """Opens, prolongs, finds and ends sessions. Safe to be used from several threads."""

    def __init__(self, file: Path | None = None) -> None:
        target = ":memory:" if file is None else str(private_file(file))
        self._lock = threading.Lock()
        self._database = sqlite3.connect(target, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(_TABLE)

    @classmethod
    def in_folder(cls, folder: Path | None) -> Self:
        """Open (or make) the sessions kept in a folder; None keeps them in memory."""
        return cls(None if folder is None else folder / "sessions.sqlite")

    def open(self, *, username: str, client_id: str, scope: str, offline: bool, now: int, expires_at: int) -> Session:
        """Start a session with a `sid` of its own, and forget those that have run out."""
        session = Session(str(uuid.uuid4()), username, client_id, scope, offline, now, expires_at)
        with self._lock:
            self._database.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,))
            self._database.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session.sid, username, client_id, scope, offline, now, expires_at),
            )
        return session

    def find(self, sid: str, now: int) -> Session | None:
        """Give the session if it is there and has not run out."""
        with self._lock, closing(self._database.cursor()) as cursor:
            cursor.execute(
                "SELECT sid, username, client_id, scope, offline, started_at, expires_at FROM sessions"
                " WHERE sid = ? AND expires_at > ?",
                (sid, now),
            )
            row = cursor.fetchone()
        if row is None:
            return None
        return Session(row[0], row[1], row[2], row[3], bool(row[4]), row[5], row[6])

    def prolong(self, sid: str, expires_at: int) -> None:
        """Let the session run until `expires_at`."""
        with self._lock:
            self._database.execute("UPDATE sessions SET expires_at = ? WHERE sid = ?", (expires_at, sid))

    def end(self, sid: str) -> None:
        """End the session; one that is already gone stays gone."""
        with self._lock:
            self._database.execute("DELETE FROM sessions WHERE sid = ?", (sid,))

    def end_all(self, username: str | None = None) -> int:
        """End every session, or those of one user; give how many there were."""
        with self._lock:
            if username is None:
                return self._database.execute("DELETE FROM sessions").rowcount
            return self._database.execute("DELETE FROM sessions WHERE username = ?", (username,)).rowcount

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        with self._lock:
            self._database.close()
