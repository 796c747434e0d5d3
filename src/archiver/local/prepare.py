"""Makes what the service expects to find: its buckets, its share, and the ledger's tables. Safe to repeat."""

import sys

from archiver.config.settings import LedgerSettings, LtsSettings, ObjectStoreSettings
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import initialise_share
from archiver.workflow.storage.object_store import ObjectStore


def main() -> int:
    """Prepare everything that the settings name."""
    store = ObjectStoreSettings()
    with ObjectStore.open(store) as objects:
        objects.ensure_bucket(store.s3_landingzone_bucket)
        objects.ensure_bucket(store.s3_retrieval_bucket)
    with Ledger.open(LedgerSettings()) as ledger:
        ledger.migrate()
    share = LtsSettings().lts_root_folder
    share.mkdir(parents=True, exist_ok=True)
    initialise_share(share)
    return 0


if __name__ == "__main__":
    sys.exit(main())
