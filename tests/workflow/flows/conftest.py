"""A Prefect server for the flows, and settings that reach them through it and through the environment."""

from collections.abc import Iterator

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness
from prefect.variables import Variable

from archiver.workflow.monitor import Limit
from support.facility import Facility


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect's own harness, with the limits of production."""
    with prefect_test_harness(server_startup_timeout=240):
        with get_client(sync_client=True) as client:
            for limit in Limit:
                client.upsert_global_concurrency_limit_by_name(str(limit), 2)
        yield


@pytest.fixture
def registered(prefect_server: None, facility: Facility, monkeypatch: pytest.MonkeyPatch) -> Facility:
    """The facility, as flows find it: variables and secret blocks on the server, places in the environment."""
    tools = facility.tools
    store = tools.store_settings
    Secret(value=store.s3_user.get_secret_value()).save("s3-user", overwrite=True)
    Secret(value=store.s3_password.get_secret_value()).save("s3-password", overwrite=True)
    Secret(value=facility.ledger_settings.ledger_url.get_secret_value()).save("ledger-url", overwrite=True)
    Secret(value=facility.catalogue_settings.scicat_user.get_secret_value()).save("scicat-user", overwrite=True)
    Secret(value=facility.catalogue_settings.scicat_password.get_secret_value()).save("scicat-password", overwrite=True)
    Variable.set("s3_endpoint", store.s3_endpoint, overwrite=True)
    Variable.set("scicat_endpoint", facility.scicat_url, overwrite=True)
    monkeypatch.setenv("LTS_ROOT_FOLDER", str(facility.lts_root))
    monkeypatch.setenv("ARCHIVER_SCRATCH_FOLDER", str(tools.settings.archiver_scratch_folder))
    monkeypatch.setenv("SCICAT_RETRY_S", "5")
    return facility
