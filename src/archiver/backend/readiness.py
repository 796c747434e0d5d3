"""Whether everything the service depends on answers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from archiver.backend.context import Context
from archiver.backend.models import Unready
from archiver.workflow.errors import ArchiverError

PROBE_S = 3.0


@dataclass(frozen=True)
class _Probe:
    dependency: str
    endpoint: str
    check: Callable[[], None]


def _probes(context: Context) -> list[_Probe]:
    config = context.config
    return [
        _Probe("S3", config.store.s3_endpoint, context.store.check),
        _Probe(
            "SciCat",
            f"{config.catalogue.scicat_endpoint}{config.catalogue.scicat_api_prefix}/health",
            context.catalogue.check,
        ),
        _Probe("Keycloak", context.identity.endpoint, context.identity.check),
        _Probe("Prefect", f"{config.queue.prefect_api_url}/health", context.queue.check),
        _Probe("Ledger", "PostgreSQL at LEDGER_URL", context.ledger.check),
    ]


async def find_unready(context: Context) -> list[Unready]:
    """What does not answer within three seconds, all asked at once."""

    async def ask(probe: _Probe) -> Unready | None:
        try:
            async with asyncio.timeout(PROBE_S):
                await context.lanes.probes.run(probe.check, abandon=True)
        except TimeoutError:
            message = f"no answer within {PROBE_S:g} s"
        except ArchiverError as error:
            message = str(error)
        else:
            return None
        return Unready(dependency=probe.dependency, endpoint=probe.endpoint, message=message)

    answers = await asyncio.gather(*(ask(probe) for probe in _probes(context)))
    return [answer for answer in answers if answer is not None]
