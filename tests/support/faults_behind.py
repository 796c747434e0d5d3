"""A facility whose service reaches a server through a proxy that spoils calls; the tests' own look does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from support.facility import Facility
from support.faulty_proxy import FaultyProxy, faulty_proxy


@dataclass(frozen=True)
class Behind:
    """What runs are given, and what spoils their calls."""

    facility: Facility
    proxy: FaultyProxy


@contextmanager
def s3_behind_proxy(facility: Facility, **lts: float) -> Iterator[Behind]:
    """A proxy before S3, and other settings of the long-term storage."""
    with faulty_proxy(facility.tools.store_settings.s3_endpoint) as proxy:
        store = facility.tools.store_settings.model_copy(update={"s3_endpoint": proxy.url})
        tools = replace(facility.tools, store_settings=store, lts=facility.tools.lts.model_copy(update=lts))
        yield Behind(replace(facility, tools=tools), proxy)


@contextmanager
def scicat_behind_proxy(facility: Facility, **catalogue: float) -> Iterator[Behind]:
    """A proxy before SciCat, and other settings of the catalogue."""
    with faulty_proxy(facility.scicat_url) as proxy:
        changes = {"scicat_endpoint": proxy.url, **catalogue}
        settings = facility.catalogue_settings.model_copy(update=changes)
        yield Behind(replace(facility, catalogue_settings=settings), proxy)
