"""Controls of the simulator under /_sim: what an administrator, or bad luck, would do to a real one."""

from fastapi import APIRouter

from archiver.local.identity.faults import CONTROL_PREFIX, Fault, FaultPlan
from archiver.local.identity.keys import KeyRing
from archiver.local.identity.sessions import SessionStore


def control_routes(keys: KeyRing, sessions: SessionStore, faults: FaultPlan) -> APIRouter:
    """Give the routes that rotate keys, revoke sessions and plan faults."""
    router = APIRouter(prefix=CONTROL_PREFIX.rstrip("/"), tags=["simulator"])

    @router.post("/rotate-keys")
    def rotate_keys(drop_old: bool = False) -> dict[str, str]:
        """Sign with a new key; with `drop_old` tokens of the earlier keys verify no more."""
        return {"kid": keys.rotate(drop_old=drop_old)}

    @router.post("/revoke-sessions")
    def revoke_sessions(username: str | None = None) -> dict[str, int]:
        """End every session, or those of one user."""
        return {"revoked": sessions.end_all(username)}

    @router.post("/faults", status_code=201)
    def plan_fault(fault: Fault) -> Fault:
        """Plan a fault behind those already planned."""
        faults.add(fault)
        return fault

    @router.get("/faults")
    def planned_faults() -> list[Fault]:
        """Show the faults still to come."""
        return faults.pending()

    @router.delete("/faults", status_code=204)
    def clear_faults() -> None:
        """Plan no fault any more."""
        faults.clear()

    return router
