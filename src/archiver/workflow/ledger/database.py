"""The connection to the ledger's database, and the edge where its errors become the service's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.errors import UndefinedColumn, UndefinedTable
from sqlalchemy import Connection, Engine, Row, create_engine, func, literal, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from archiver.workflow.ledger.errors import LedgerAddressError, LedgerError, LedgerNotMigratedError

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_MS = 60_000
POOL_TIMEOUT_S = 30

clock = func.clock_timestamp()
"""The database's clock at the moment of evaluation: all processes share it, and waiting for a lock counts."""


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine for `url`; connects only when used. Thread-safe. With `read_only` the database refuses every change.

    Raises:
        LedgerAddressError: `url` is not the address of a PostgreSQL database.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        address = None
    if address is None or address.get_backend_name() not in ("postgresql", "postgres"):
        # The value is not shown: it holds a password.
        raise LedgerAddressError(
            "LEDGER_URL must be postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE. Set it, or LEDGER_URL_FILE."
        )
    return create_engine(
        address.set(drivername="postgresql+psycopg"),
        pool_size=8,
        max_overflow=24,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "archiver",
            "options": f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            + (" -c default_transaction_read_only=on" if read_only else ""),
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "keepalives_idle": 30,
        },
    )


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Turns what the driver raises about the database itself into the ledger's errors.

    Raises:
        LedgerError: the database cannot be reached, broke the connection off or took too long.
        LedgerNotMigratedError: a table or column is not there.
    """
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        cause = error.orig if isinstance(error, (OperationalError, InterfaceError, InternalError)) else error
        raise LedgerError(
            f"The ledger's database did not answer: {str(cause).strip()}. "
            "Check that PostgreSQL runs and that LEDGER_URL names it."
        ) from error
    except ProgrammingError as error:
        if isinstance(error.orig, (UndefinedTable, UndefinedColumn)):
            raise LedgerNotMigratedError(
                f"The ledger's database is not migrated: {error.orig.diag.message_primary}. Migrate it."
            ) from error
        raise


class Database:
    """Base of the ledger's parts: transactions on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back by any exception."""
        with ledger_errors(), self._engine.begin() as connection:
            yield connection


def lock_until_commit(connection: Connection, key: int) -> None:
    """Waits until no other transaction holds the advisory lock `key`, and holds it until this one ends."""
    connection.execute(select(func.pg_advisory_xact_lock(literal(key))))


def fields(row: Row[Any]) -> dict[str, Any]:
    """Columns of `row` by name."""
    return dict(row._mapping)
