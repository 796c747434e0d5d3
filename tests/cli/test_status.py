"""What `archiver status` says of a service that only its environment names."""

import json
from datetime import timedelta

from typer.testing import CliRunner

from archiver.cli.main import app
from archiver.workflow.ledger.ledger import Ledger
from support.backups import note_backup


def test_the_status_names_what_operators_must_act_on(ledger: Ledger, ledger_url: str) -> None:
    ledger.beat("reconciliation")
    ledger.record_disagreement("p/a", "missing", "gone")
    note_backup(ledger, "ledger", timedelta(hours=1))
    note_backup(ledger, "prefect", timedelta(hours=30))
    stack = {"LEDGER_URL": ledger_url, "POSTGRES_BACKUP_HOURS": "24", "PREFECT_API_URL": "http://127.0.0.1:9/api"}

    done = CliRunner().invoke(app, ["status", "--json"], env=stack)

    assert done.exit_code == 3
    found = json.loads(done.stdout)
    for words in ("disagree on 1 data set.", "No backup of the database prefect", "PREFECT_API_URL"):
        assert [each for each in found["concerns"] if words in each]
    assert len(found["concerns"]) == 3
    told = CliRunner().invoke(app, ["status"], env=stack).stdout
    assert told.startswith("needs attention")
    assert "the newest: ledger" in told
