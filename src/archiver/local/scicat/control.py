"""The simulator's own endpoints under ``/_sim``: faults, state, reset.

No SciCat has them. They ask for no token: whoever reaches the simulator may steer it, which is why it is meant
for the loopback interface and for networks of tests, never for data anybody needs.

- ``POST /_sim/faults`` arms a fault (see ``faults.Fault``), ``GET`` lists them with how often they fired,
  ``DELETE`` removes all, ``DELETE /_sim/faults/{id}`` one;
- ``GET /_sim/state`` counts documents;
- ``POST /_sim/reset`` removes every document and fault; accounts and tokens stay.
"""

from __future__ import annotations

from fastapi import APIRouter

from archiver.local.scicat.context import Catalogue
from archiver.local.scicat.faults import ArmedFault, Fault, Faults


def control_routes(catalogue: Catalogue, faults: Faults) -> APIRouter:
    """The endpoints for this catalogue."""
    router = APIRouter(prefix="/_sim")

    @router.post("/faults", status_code=201)
    async def arm(fault: Fault) -> ArmedFault:
        return faults.arm(fault)

    @router.get("/faults")
    async def armed() -> list[ArmedFault]:
        return faults.all()

    @router.delete("/faults")
    async def disarm_all() -> dict[str, int]:
        return {"count": faults.remove()}

    @router.delete("/faults/{fault_id}")
    async def disarm(fault_id: int) -> dict[str, int]:
        return {"count": faults.remove(fault_id)}

    @router.get("/state")
    async def state() -> dict[str, int]:
        return await catalogue.transact(catalogue.store.counts)

    @router.post("/reset")
    async def reset() -> dict[str, int]:
        faults.remove()
        await catalogue.transact(catalogue.store.clear)
        return await catalogue.transact(catalogue.store.counts)

    return router
