"""What every request works with: shared clients, opened once."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from archiver.backend.access import Access
from archiver.backend.edge.stream import BodyStreamer
from archiver.backend.edge.urls import TicketOffice
from archiver.backend.identity import IdentityProvider
from archiver.backend.lanes import Lanes
from archiver.backend.metrics import Metrics, ServiceGauges
from archiver.backend.status.login import OperatorLogin
from archiver.backend.tokens import ServiceTokens
from archiver.backend.uploads import DatasetUploads
from archiver.config.settings import ApiConfiguration
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.job_queue import JobQueue
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.queue_control import QueueControl
from archiver.workflow.storage.object_store import ObjectStore


@dataclass(frozen=True)
class Context:
    """The clients and services of one application."""

    config: ApiConfiguration
    lanes: Lanes
    metrics: Metrics
    gauges: ServiceGauges
    ledger: Ledger
    store: ObjectStore
    catalogue: Catalogue
    queue: JobQueue
    status_queue: QueueControl
    """For whoever looks on and does not wait: calls are tried once."""
    identity: IdentityProvider
    access: Access
    login: OperatorLogin
    tokens: ServiceTokens
    uploads: DatasetUploads
    office: TicketOffice
    streamer: BodyStreamer


def context_of(request: Request) -> Context:
    """The context that the application's lifespan opened."""
    context = request.app.state.context
    assert isinstance(context, Context)  # noqa: S101  # the lifespan has run
    return context


ContextDep = Annotated[Context, Depends(context_of)]
