import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.local.postgres import start_postgres
from archiver.workflow.errors import PermanentError, TransientError
from archiver.workflow.ledger.errors import LedgerAddressError, LedgerError
from archiver.workflow.ledger.ledger import Ledger


def opened(url: str) -> Ledger:
    return Ledger.open(LedgerSettings(ledger_url=SecretStr(url)))


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite:///s3cret.db", "mysql://u:s3cret@h/d"])
def test_an_address_that_is_not_postgresql_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(LedgerAddressError) as refused:
        opened(url)
    assert "s3cret" not in str(refused.value)
    assert isinstance(refused.value, PermanentError)


def test_a_plain_postgresql_address_will_do(ledger_url: str) -> None:
    with opened(ledger_url.replace("postgresql+psycopg", "postgresql")) as ledger:
        ledger.check()


def test_a_database_that_is_not_there_is_a_passing_error_without_the_password() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with opened(f"postgresql://u:s3cret@127.0.0.1:{port}/d") as ledger, pytest.raises(LedgerError) as failed:
            ledger.check()
    assert isinstance(failed.value, TransientError)
    assert "s3cret" not in str(failed.value)


def test_a_wrong_password_is_told(ledger_url: str) -> None:
    user, rest = ledger_url.rsplit("@", 1)
    with opened(f"{user}x@{rest}") as ledger, pytest.raises(LedgerError, match="password"):
        ledger.check()


def test_the_ledger_goes_on_after_its_server_was_restarted(postgres_folder: Path) -> None:
    with start_postgres(postgres_folder, databases=("ledger",), durable=False) as server:
        port = server.port
        ledger = opened(server.url("ledger"))
        ledger.migrate()
        ledger.beat("test")
    with pytest.raises(LedgerError):
        ledger.check()
    with start_postgres(postgres_folder, port, durable=False), ledger:
        assert ledger.last_beat("test") is not None
