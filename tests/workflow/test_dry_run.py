"""A dry run cannot change what nobody has thought of."""

import inspect
from pathlib import Path

import pytest
from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.workflow.bags import take_turn
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.dry_run import DryCatalogue, DryChild, DryLedger, DryQueue, DryStore, unheard
from archiver.workflow.errors import PermanentError
from archiver.workflow.holdings.reading import initialise
from archiver.workflow.job_queue import JobQueue
from archiver.workflow.ledger.errors import LedgerError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.notifications import Nobody
from archiver.workflow.storage.lts import IDENTITY_FILE
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.tools import read_identity
from support.bags import new_share

_LOOKING = {
    Catalogue: {
        *("check", "close", "datablock", "datablocks", "dataset", "each_orig_file", "job", "jobs_in_state"),
        *("may_remove_datablocks", "open", "orig_files", "own_user", "user_of_token"),
    },
    JobQueue: {
        *("check", "close", "open", "run", "runs_of_job", "unfinished_dataset_runs", "unfinished_runs", "waiting"),
    },
    # A signed address changes nothing before somebody uses it.
    ObjectStore: {
        *("check", "close", "head", "list", "open", "presign_get", "presign_parts", "presign_put", "read_range_into"),
        *("read_small", "read_whole_into", "signed_put", "usage"),
    },
}


@pytest.mark.parametrize("dry", [DryCatalogue, DryQueue, DryStore])
def test_what_a_client_of_a_dry_run_takes_from_the_real_one_only_looks(dry: type[object]) -> None:
    (real,) = dry.__bases__
    methods = {name for name, _ in inspect.getmembers(real, callable) if not name.startswith("_")}

    assert methods - set(vars(dry)) == _LOOKING[real]


def test_the_ledger_of_a_dry_run_reads_and_its_database_refuses_what_would_change_it(
    ledger: Ledger, ledger_url: str
) -> None:
    ledger.beat("a service")
    with DryLedger.open(LedgerSettings(ledger_url=SecretStr(ledger_url))) as dry:
        assert dry.last_beat("a service") == ledger.last_beat("a service")
        with pytest.raises(LedgerError, match="read-only"):
            dry.touch_upload("p/a")


def test_a_share_is_only_looked_at(tmp_path: Path) -> None:
    share = new_share(tmp_path / "lts")
    (tmp_path / "new").mkdir()

    with DryChild(30) as child:
        assert child.call(read_identity, None, share.root) == share.identity
        with pytest.raises(PermanentError, match="dry run"):
            child.call(initialise, None, tmp_path / "new")
        with pytest.raises(PermanentError, match="dry run"):
            child.call(take_turn, None, share, "20.500/a", "attempt", from_scratch=True)

    assert list((tmp_path / "new").iterdir()) == []
    assert [path.name for path in share.root.iterdir()] == [IDENTITY_FILE]


def test_nobodys_channel_stays_nobodys() -> None:
    nobody = Nobody()

    assert unheard(nobody) is nobody
