"""Prefect Secret blocks: credentials of the flows."""

import os
from collections.abc import Iterator, Mapping

from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from archiver.config.register_changes import Change, keep, settle
from archiver.config.sources import read_environment

REGISTRY_USER = "github-openem-username"
REGISTRY_TOKEN = "github-openem-access-token"  # noqa: S105  # the name of a block
SECRET_BLOCKS = (
    "s3-user",
    "s3-password",
    "scicat-user",
    "scicat-password",
    "ledger-url",
    "notify-urls",
    REGISTRY_USER,
    REGISTRY_TOKEN,
)
"""Blocks that flows and work pools use; each comes from the setting of its upper-case name (or its `_FILE`)."""


def find_secrets() -> dict[str, str]:
    """Secrets the environment has a value for, by block name, without surrounding white space.

    Raises:
        UnreadableSecretFileError: a `*_FILE` setting names a file that cannot be read.
    """
    found = {}
    for block in SECRET_BLOCKS:
        value = read_environment(block.upper().replace("-", "_"), os.environ)
        if value and value.strip():
            found[block] = value.strip()
    return found


def _read(client: SyncPrefectClient, name: str) -> object | None:
    try:
        document = client.read_block_document_by_name(name, Secret.get_block_type_slug())
    except ObjectNotFound:
        return None
    return document.data.get("value")


def register_secrets(client: SyncPrefectClient, secrets: Mapping[str, str], *, dry_run: bool) -> Iterator[Change]:
    """Write each secret that differs from the block on the server; blocks without a value here stay, and are told."""
    for name in SECRET_BLOCKS:
        if name not in secrets and _read(client, name) is not None:
            yield keep("secret", name)
    for name, value in secrets.items():
        existing = _read(client, name)

        def write(name: str = name, value: str = value) -> None:
            Secret(value=value).save(name, overwrite=True)

        yield settle("secret", name, exists=existing is not None, equal=existing == value, write=write, dry_run=dry_run)
