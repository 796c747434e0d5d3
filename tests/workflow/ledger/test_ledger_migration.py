import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Engine, text

from archiver.config.settings import LedgerSettings
from archiver.local.postgres import PostgresServer
from archiver.workflow.ledger.database import open_engine
from archiver.workflow.ledger.errors import LedgerNotMigratedError, LedgerTooNewError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.migration import migration_config
from archiver.workflow.ledger.tables import metadata

_numbers = count(1)

CATALOGUE = {
    "columns": """SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default,
        is_identity FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2""",
    "constraints": """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
        ORDER BY 1, 2""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "sequences": "SELECT sequencename, data_type::text FROM pg_sequences ORDER BY 1",
}


def described(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    with engine.connect() as connection:
        return {what: [tuple(row) for row in connection.execute(text(query))] for what, query in CATALOGUE.items()}


@pytest.fixture
def new_url(postgres: PostgresServer) -> Iterator[str]:
    """Address of an empty database."""
    name = f"new_{next(_numbers)}"
    yield postgres.ensure_database(name).replace("postgresql://", "postgresql+psycopg://", 1)
    postgres.drop_database(name)


@pytest.fixture
def new_engine(new_url: str) -> Iterator[Engine]:
    engine = open_engine(new_url)
    yield engine
    engine.dispose()


@pytest.fixture
def new_ledger(new_url: str) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(ledger_url=SecretStr(new_url))) as ledger:
        yield ledger


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    """Of a migrated database."""
    engine = open_engine(ledger_url)
    yield engine
    engine.dispose()


def test_alembic_finds_nothing_left_to_migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_migrations_make_the_very_tables_of_the_code(engine: Engine, new_engine: Engine) -> None:
    with new_engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(
            text(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
    migrated, declared = described(engine), described(new_engine)
    assert migrated == declared
    assert all(migrated.values())


def test_migrating_twice_keeps_what_is_there(new_ledger: Ledger) -> None:
    new_ledger.migrate()
    new_ledger.record_session("s", "ana", ["p1"])
    new_ledger.migrate()
    assert new_ledger.find_session("s") is not None


def test_several_processes_migrate_at_once(new_ledger: Ledger, new_url: str) -> None:
    code = (
        "from archiver.config.settings import LedgerSettings\n"
        "from archiver.workflow.ledger.ledger import Ledger\n"
        "with Ledger.open(LedgerSettings()) as ledger: ledger.migrate()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "LEDGER_URL": new_url}) for _ in range(3)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    new_ledger.beat("test")
    assert new_ledger.last_beat("test") is not None


def test_a_newer_database_is_refused_and_left_as_it_is(new_ledger: Ledger, new_engine: Engine) -> None:
    new_ledger.migrate()
    with new_engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = described(new_engine)
    with pytest.raises(LedgerTooNewError, match="9999"):
        new_ledger.migrate()
    assert described(new_engine) == before


def test_a_database_that_is_not_migrated_says_so(new_ledger: Ledger) -> None:
    new_ledger.check()
    with pytest.raises(LedgerNotMigratedError, match="services"):
        new_ledger.beat("test")


def test_the_migrations_can_be_taken_back(new_ledger: Ledger, new_engine: Engine) -> None:
    new_ledger.migrate()
    config = migration_config()
    with new_engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert described(new_engine)["columns"] == []
    assert described(new_engine)["sequences"] == []
    new_ledger.migrate()
    new_ledger.beat("test")


def test_a_failing_migration_leaves_nothing_behind(new_ledger: Ledger, new_engine: Engine) -> None:
    with new_engine.begin() as connection:
        connection.execute(text("CREATE TABLE upload_objects (in_the_way integer)"))
    with pytest.raises(Exception, match="already exists"):
        new_ledger.migrate()
    with new_engine.begin() as connection:
        connection.execute(text("DROP TABLE upload_objects"))
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
        assert tables.scalar_one() == 0
    new_ledger.migrate()
