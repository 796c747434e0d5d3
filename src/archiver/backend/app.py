"""The application: routers, error answers, and the clients that all requests share."""

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import timedelta
from typing import Final

import stamina
import structlog
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from archiver.backend.access import Access
from archiver.backend.context import Context
from archiver.backend.edge.stream import BodyStreamer
from archiver.backend.errors import answer_errors
from archiver.backend.identity import IdentityProvider
from archiver.backend.lanes import Lanes
from archiver.backend.links import choose_links, open_office
from archiver.backend.metrics import Metrics, MetricsMiddleware, ServiceGauges
from archiver.backend.request_ids import HEADER, RequestIdMiddleware
from archiver.backend.root_path import RootPathMiddleware
from archiver.backend.routes import edge, health, jobs, metrics, status, tokens, uploads
from archiver.backend.status.login import OperatorLogin
from archiver.backend.tokens import ServiceTokens
from archiver.backend.uploads import DatasetUploads
from archiver.config.settings import ApiConfiguration, Environment
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.job_queue import JobQueue
from archiver.workflow.ledger.errors import LedgerError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.queue_control import QueueControl
from archiver.workflow.storage.object_store import ObjectStore

log = structlog.get_logger(__name__)

TITLE: Final = "ETHZ Archiver Service"
API_VERSION: Final = "0.1.0"
SCICAT_PATIENCE_S = 10.0
"""A caller is waiting: what the workflow tries for minutes is given up sooner here."""
LOOK_ON_S = 2.5
"""Status page and metrics do not wait longer for Prefect."""
MIGRATION_PATIENCE_S = 60.0
_LOCAL_ORIGINS = r"http://(127\.0\.0\.1|localhost)(:\d+)?"


def create_app(config: ApiConfiguration) -> FastAPI:
    """The API. Clients are opened when it starts and closed when it ends."""
    counted = Metrics()
    app = FastAPI(
        title=TITLE,
        version=API_VERSION,
        lifespan=_lifespan(config, counted),
        redirect_slashes=False,
    )
    answer_errors(app)
    for part in (jobs, uploads, edge, tokens, health, metrics, status):
        app.include_router(part.router)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(config.api.cors_origins),
        allow_origin_regex=_LOCAL_ORIGINS if config.service.environment is Environment.DEVELOPMENT else None,
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[HEADER, "ETag"],
    )
    app.add_middleware(MetricsMiddleware, metrics=counted)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(RootPathMiddleware, root_path=config.api.api_root_path)
    return app


def _lifespan(config: ApiConfiguration, counted: Metrics) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.context = await _open(config, counted, stack)
            log.info("api_started", environment=config.service.environment)
            yield
        log.info("api_stopped")

    return lifespan


async def _open(config: ApiConfiguration, counted: Metrics, stack: AsyncExitStack) -> Context:
    ledger = stack.enter_context(Ledger.open(config.ledger))
    store = stack.enter_context(ObjectStore.open(config.store, max_connections=64))
    patience = min(config.catalogue.scicat_retry_s, SCICAT_PATIENCE_S)
    catalogue = stack.enter_context(Catalogue.open(config.catalogue.model_copy(update={"scicat_retry_s": patience})))
    queue = stack.enter_context(closing(JobQueue.open(config.queue)))
    look_on = config.queue.model_copy(update={"prefect_timeout_s": min(config.queue.prefect_timeout_s, LOOK_ON_S)})
    status_queue = stack.enter_context(closing(QueueControl.open(look_on, patience_s=0.1)))
    streamer = await stack.enter_async_context(BodyStreamer(config.store.s3_endpoint, tls=_tls(config)))
    await run_sync(lambda: _migrate(ledger))
    office = open_office(config)
    links = await run_sync(lambda: choose_links(config, store, office))
    identity = IdentityProvider(config.identity)
    key = config.landing.upload_edge_key.get_secret_value().encode() or secrets.token_bytes(32)
    access = Access(ledger, catalogue, config.identity)
    return Context(
        config=config,
        lanes=Lanes(),
        metrics=counted,
        gauges=ServiceGauges(ledger, status_queue, config),
        ledger=ledger,
        store=store,
        catalogue=catalogue,
        queue=queue,
        status_queue=status_queue,
        identity=identity,
        access=access,
        login=OperatorLogin(identity, access, config.identity, key, f"{config.public_url}/login/callback"),
        tokens=ServiceTokens(identity, catalogue, ledger, access, config.identity),
        uploads=DatasetUploads(
            ledger,
            store,
            catalogue,
            access,
            links,
            config.landing,
            config.store,
            timedelta(seconds=config.archiving.claim_timeout_s),
        ),
        office=office,
        streamer=streamer,
    )


def _tls(config: ApiConfiguration) -> ssl.SSLContext | None:
    ca_file = config.store.s3_ca_file
    return ssl.create_default_context(cafile=str(ca_file)) if ca_file else None


@stamina.retry(on=LedgerError, timeout=MIGRATION_PATIENCE_S, attempts=None)
def _migrate(ledger: Ledger) -> None:
    """A database that is still starting is waited for; one of a newer version stops us here."""
    ledger.migrate()
