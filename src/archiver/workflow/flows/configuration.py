"""Settings of a flow run: environment, then what is registered with the Prefect server, then defaults."""

from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from archiver.config.settings import FlowConfiguration
from archiver.workflow.flows.server_away import server_may_be_away

_SECRETS = ("s3_user", "s3_password", "scicat_user", "scicat_password", "ledger_url", "notify_urls")
_PAGE = 200


def flow_configuration() -> FlowConfiguration:
    """Settings of this run, with Prefect variables and secret blocks where the environment has no value.

    Raises:
        QueueError: the Prefect server does not answer, or not properly.
    """
    registered: dict[str, str] = {}
    with server_may_be_away(), get_client(sync_client=True) as client:
        registered = _variables(client)
        for name in _SECRETS:
            value = _secret(client, name.replace("_", "-"))
            if value:
                registered[name] = value
    return FlowConfiguration.load(registered)


def _variables(client: SyncPrefectClient) -> dict[str, str]:
    found = client.read_variables(limit=_PAGE)
    return {variable.name: str(variable.value) for variable in found}


def _secret(client: SyncPrefectClient, block: str) -> str | None:
    try:
        document = client.read_block_document_by_name(block, Secret.get_block_type_slug())
    except ObjectNotFound:
        return None
    value = document.data.get("value")
    return None if value is None else str(value)
