"""The automation that ends runs whose process is gone.

A container that dies after its worker did leaves its run Running for good, with its slot in the pool. Running
flows send a heartbeat; one that stays silent is marked Crashed, and reconciliation takes it from there.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from archiver.config.register_changes import Change, settle
from archiver.config.register_pools import HEARTBEAT_S

AUTOMATION = "archiver: end runs without a sign of life"
SILENCE = timedelta(seconds=4 * HEARTBEAT_S)
"""Three heartbeats may be lost or late."""

_SIGNS_OF_A_PROCESS = {"prefect.flow-run.Running", "prefect.flow-run.heartbeat"}
_ANY_SIGN = {"prefect.flow-run.*"}
"""Also those of a run that waits (for its next try, for a cancellation): it has no process that could send more."""


def dead_run_automation(pools: Sequence[str]) -> AutomationCore:
    """The automation, for runs of `pools` only: others on the server may send heartbeats less often."""
    return AutomationCore(
        name=AUTOMATION,
        description=f"Marks a running run Crashed that was silent for {int(SILENCE.total_seconds())} s.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "work-pool", "prefect.resource.name": sorted(pools)}
            ),
            after=_SIGNS_OF_A_PROCESS,
            expect=_ANY_SIGN,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message="The run showed no sign of life: its process, container or machine is gone.",
            )
        ],
    )


def _comparable(automation: AutomationCore) -> dict[str, object]:
    trigger = automation.trigger.model_dump(mode="json")
    for unordered in ("after", "expect", "for_each"):
        trigger[unordered] = sorted(trigger[unordered])
    actions = [action.model_dump(mode="json") for action in automation.actions]
    return {"description": automation.description, "trigger": trigger, "actions": actions}


def register_dead_run_automation(client: SyncPrefectClient, pools: Sequence[str], *, dry_run: bool) -> Iterator[Change]:
    """Register the automation. One that an operator has switched off stays off."""
    wanted = dead_run_automation(pools)
    existing = next(iter(client.read_automations_by_name(AUTOMATION)), None)

    def write() -> None:
        if existing is None:
            client.create_automation(wanted)
        else:
            client.update_automation(existing.id, wanted.model_copy(update={"enabled": existing.enabled}))

    yield settle(
        "automation",
        AUTOMATION,
        exists=existing is not None,
        equal=existing is not None and _comparable(existing) == _comparable(wanted),
        write=write,
        dry_run=dry_run,
        detail=f"silence of {int(SILENCE.total_seconds())} s",
    )
