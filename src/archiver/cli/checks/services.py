"""Checks of everything the service reaches over the network. Where it may, a check does what the service does."""

import base64
import hashlib
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from archiver.cli.checks.findings import Finding, Group, Verdict
from archiver.cli.checks.place import ASK_API, ASK_FLOWS, has_api, has_flows
from archiver.config.settings import (
    CLOCK_LEEWAY_S,
    ApiConfiguration,
    CatalogueSettings,
    FlowConfiguration,
    IdentitySettings,
    LedgerSettings,
    ObjectStoreSettings,
    QueueSettings,
    ReconciliationSettings,
)
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.errors import ArchiverError, PermanentError
from archiver.workflow.jobs import UNFINISHED_STATUSES, JobType
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.queue_control import PoolState, QueueControl
from archiver.workflow.reconciliation import SERVICE as RECONCILIATION
from archiver.workflow.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from archiver.backend.identity import IdentityProvider

DOCTOR = "doctor"
"""Name of the doctor's sign of life in the ledger, and of the prefix of its objects in the buckets."""
_SOON_S = 2.0
"""How long a call is tried again: a doctor tells what is, and does not wait for better days."""
_DELETING = "delete datablocks"
_PASSES = 10
"""Reconciliation may be late by so many intervals."""


def check_settings() -> Iterator[Finding]:
    """The settings as a whole, as the API and as flows and reconciliation read them when they start."""
    group = Group("settings")
    if has_api():
        yield group.check("API", _of_api)
    else:
        yield group.skipped("API", ASK_API)
    if has_flows():
        yield group.check("flows", _of_flows)
    else:
        yield group.skipped("flows", ASK_FLOWS)


def _of_api() -> str:
    return f"complete, for ENVIRONMENT={ApiConfiguration().service.environment}"


def _of_flows() -> str:
    config = FlowConfiguration()
    config.refuse_to_be_open()
    return f"complete, for ENVIRONMENT={config.service.environment}"


def check_ledger(*, may_write: bool) -> Iterator[Finding]:
    """The ledger's database: reachable, of this version, writable, its clock ours."""
    group = Group("ledger")
    try:
        ledger = Ledger.open(LedgerSettings())
    except ArchiverError as error:
        yield group.bad("address", str(error))
        return
    with ledger:
        try:
            current, wanted = ledger.revisions()
        except ArchiverError as error:
            yield group.bad("database", str(error))
            return
        if current != wanted:
            told = f"The tables have revision {current}, this version works with {wanted}. "
            yield group.bad("tables", told + "Start the API of this version, which migrates them.")
            return
        yield group.good("tables", f"revision {current}")
        if may_write:
            yield group.check("rights", lambda: _write(ledger))
        yield _clock(group, ledger)
        yield _reconciliation(group, ledger)


def _write(ledger: Ledger) -> str:
    ledger.beat(DOCTOR)
    return "may be written to"


def _clock(group: Group, ledger: Ledger) -> Finding:
    before = datetime.now(UTC)
    theirs = ledger.now()
    after = datetime.now(UTC)
    off = max(before - theirs, theirs - after, timedelta()).total_seconds()
    if off <= 1:
        return group.good("clock", "agrees with that of this machine")
    told = f"The database's clock and this machine's differ by {off:.1f} s"
    if off <= CLOCK_LEEWAY_S:
        return group.warning("clock", f"{told}. Let both follow a time server (NTP).")
    return group.bad("clock", f"{told}; tokens and signatures will be refused. Let both follow a time server (NTP).")


def _reconciliation(group: Group, ledger: Ledger) -> Finding:
    beat = ledger.last_beat(RECONCILIATION)
    mend = "Start it, or look at its log: it says what stops it."
    if beat is None:
        return group.bad("reconciliation", f"The reconciliation service has never made a whole pass. {mend}")
    age = (datetime.now(UTC) - beat).total_seconds()
    late = max(300.0, _PASSES * ReconciliationSettings().reconciliation_interval_s)
    if age > late:
        return group.bad("reconciliation", f"Its last whole pass ended {age:,.0f} s ago. {mend}")
    return group.good("reconciliation", f"last whole pass {age:,.0f} s ago")


def check_store(*, may_write: bool) -> Iterator[Finding]:
    """S3: reachable, credentials good, and the rights that whoever runs here needs.

    That of the API has none on retrieved copies, on purpose: it hands uploads out, and whoever gets hold of it shall
    not read data sets of others.
    """
    group = Group("s3")
    settings = ObjectStoreSettings()
    try:
        store = ObjectStore.open(settings)
    except ArchiverError as error:
        yield group.bad("settings", str(error))
        return
    with store:
        reached = group.check("landing bucket", lambda: _reach(store, settings))
        yield reached
        if reached.verdict is not Verdict.GOOD:
            return
        if not may_write:
            yield group.skipped("rights", "not tried, because nothing shall be written")
            return
        landing, retrieval = settings.s3_landingzone_bucket, settings.s3_retrieval_bucket
        yield group.check(f"rights on {landing}", partial(_use, store, landing))
        if has_flows():
            yield group.check(f"rights on {retrieval}", partial(_use, store, retrieval))
        else:
            yield group.skipped(f"rights on {retrieval}", f"The API's key needs none. {ASK_FLOWS}")


def _reach(store: ObjectStore, settings: ObjectStoreSettings) -> str:
    store.check()
    return f"{settings.s3_landingzone_bucket} answers at {settings.s3_endpoint}"


def _use(store: ObjectStore, bucket: str) -> str:
    prefix = f"archiver-{DOCTOR}/"
    stored = store.put(bucket, f"{prefix}{uuid.uuid4()}", DOCTOR.encode())
    try:
        content, checksum = store.read_small(bucket, stored.key, stored.etag)
        if content != DOCTOR.encode():
            raise PermanentError(f"{bucket} gave back something else than was put there. Look at the S3 server's log.")
        listed = stored.key in {each.key for each in store.list(bucket, prefix)}
    finally:
        left = store.delete(bucket, [stored])
    if left or not listed:
        raise PermanentError(f"Objects of {bucket} cannot be listed or deleted. Give the account S3_USER these rights.")
    proven = checksum is not None and checksum.sha256_base64 == _sha256_base64(content)
    return "put, read, list, delete" + ("; keeps SHA-256" if proven else "; keeps no SHA-256")


def _sha256_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def check_catalogue(*, may_write: bool) -> Iterator[Finding]:
    """SciCat: well, our account good, and allowed to see everybody's jobs and to delete datablocks."""
    group = Group("scicat")
    settings = CatalogueSettings().model_copy(update={"scicat_retry_s": _SOON_S})
    try:
        catalogue = Catalogue.open(settings)
    except ArchiverError as error:
        yield group.bad("settings", str(error))
        return
    with catalogue:
        reached = group.check("health", lambda: _well(catalogue, settings))
        yield reached
        if reached.verdict is not Verdict.GOOD:
            return
        account = group.check("account", lambda: _account(catalogue))
        yield account
        if account.verdict is not Verdict.GOOD:
            return
        yield group.check("jobs", lambda: _jobs(catalogue))
        if may_write:
            yield _deleting(group, catalogue)
        else:
            yield group.skipped(
                _DELETING, "not tried, because it is asked for by a request to delete what is not there"
            )


def _deleting(group: Group, catalogue: Catalogue) -> Finding:
    try:
        may = catalogue.may_remove_datablocks()
    except ArchiverError as error:
        return group.bad(_DELETING, str(error))
    if may:
        return group.good(_DELETING, "SciCat would delete them; it was asked for one that is not there")
    return group.warning(
        _DELETING,
        "SciCat does not let the account delete datablocks: wrong ones are not replaced, those of removed data sets "
        "stay, and so do the data sets of smoke tests. Put the account's group into DELETE_GROUPS of SciCat's backend.",
    )


def _well(catalogue: Catalogue, settings: CatalogueSettings) -> str:
    catalogue.check()
    return f"answers at {settings.scicat_endpoint}"


def _account(catalogue: Catalogue) -> str:
    user = catalogue.own_user()
    return f"{user.username}, in the groups {', '.join(user.groups) or 'none'}"


def _jobs(catalogue: Catalogue) -> str:
    found = catalogue.jobs_in_state([str(each) for each in JobType], sorted(UNFINISHED_STATUSES))
    return f"{len(found)} unfinished jobs to be seen"


def check_identity() -> Iterator[Finding]:
    """Keycloak: its keys, and a token for the service account that we ourselves would take."""
    group = Group("keycloak")
    if not has_api():
        yield group.skipped("keys", ASK_API)
        return
    from archiver.backend.identity import IdentityProvider  # what it needs is installed with the API alone

    provider = IdentityProvider(IdentitySettings())
    reached = group.check("keys", lambda: _keys(provider))
    yield reached
    if reached.verdict is Verdict.GOOD:
        yield group.check("service account", lambda: _token(provider))


def _keys(provider: "IdentityProvider") -> str:
    provider.check()
    return f"fetched from {provider.endpoint}"


def _token(provider: "IdentityProvider") -> str:
    _, claims = provider.service_token()
    if claims.sid is None:
        raise PermanentError(
            "Its token carries no session (claim `sid`), so that users cannot be told apart. "
            "Add the client scope `basic` to the client that IDP_CLIENT_ID names."
        )
    return f"gets a token as {claims.username}"


def check_queue() -> Iterator[Finding]:
    """Prefect: well, credential good, flows deployed, limits there, workers at work."""
    group = Group("prefect")
    settings = QueueSettings()
    with closing(QueueControl.open(settings, patience_s=_SOON_S)) as queue:
        reached = group.check("health", lambda: _healthy(queue, settings))
        yield reached
        if reached.verdict is not Verdict.GOOD:
            return
        try:
            lacking = queue.missing_deployments()
            unlimited = queue.missing_limits()
            pools = queue.pools()
        except ArchiverError as error:
            yield group.bad("credential", str(error))
            return
    if lacking:
        yield group.bad("deployments", f"{', '.join(lacking)} missing. Deploy the flows: prefect deploy --all")
    else:
        yield group.good("deployments", "archive and retrieve jobs have their flows")
    if unlimited:
        yield group.bad(
            "limits", f"{', '.join(unlimited)} missing, without which no flow runs. Run: archiver configure"
        )
    else:
        yield group.good("limits", "on reads and writes of the share")
    for pool in pools:
        yield _pool(group, pool)


def _healthy(queue: QueueControl, settings: QueueSettings) -> str:
    queue.check()
    return f"answers at {settings.prefect_api_url}"


def _pool(group: Group, pool: PoolState) -> Finding:
    name = f"pool {pool.name}"
    if not pool.online:
        seen = f", the last one seen at {pool.last_seen:%Y-%m-%d %H:%M} UTC" if pool.last_seen else ""
        return group.bad(name, f"No worker is online{seen}; its jobs wait. Start a worker, or look at its log.")
    if pool.is_paused:
        return group.warning(name, "Paused: no run starts. To go on: archiver resume")
    return group.good(name, f"worker {', '.join(pool.online)}")
