"""What operators do with a stack that runs."""

import pytest

from stack.operated import OperatedStack
from stack.operators_view import PrefectView

pytestmark = pytest.mark.timeout(1800)


def test_configuration_and_deployment_once_more_change_nothing(stack: OperatedStack, prefect: PrefectView) -> None:
    before = prefect.registered()
    assert all(before.values())
    for service in ("prefect-config", "prefect-flows-deployment", "minio-config", "postgres-config"):
        stack.compose("up", "--force-recreate", "--no-deps", "--exit-code-from", service, service)
    assert prefect.registered() == before
