"""The reference of metrics, from the places in the code that make them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tools.docs.markdown import generated, table
from tools.docs.source import modules

_KINDS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
    "SummaryMetricFamily": "summary",
}
_PREFIX = "archiver_"
_INTRODUCTION = """\
`/metrics` of the API answers in the text format of Prometheus, to callers inside; to others only with the credential
that `METRICS_BEARER_TOKEN`, or `METRICS_USERNAME` and `METRICS_PASSWORD`, set. What cannot be read in time is left out,
and `archiver_metrics_unreadable` says so; nothing touches the share while Prometheus waits."""


@dataclass(frozen=True, slots=True)
class MadeMetric:
    """A metric as the code makes it."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]


def _texts(node: ast.expr | None, named: dict[str, ast.expr]) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        node = named.get(node.id)
    if not isinstance(node, (ast.Tuple, ast.List)):
        return ()
    return tuple(each.value for each in node.elts if isinstance(each, ast.Constant) and isinstance(each.value, str))


def made_metrics(tree: ast.Module) -> Iterator[MadeMetric]:
    """The metrics that a module makes."""
    named = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _KINDS:
            continue
        texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if len(texts) < 2 or not texts[0].startswith(_PREFIX):
            continue
        third = next((each for each in node.args[2:3] if not isinstance(each, ast.Constant)), None)
        given = next((keyword.value for keyword in node.keywords if keyword.arg in ("labels", "labelnames")), third)
        # The library adds it to the samples of a family that lacks it.
        total = "_total" if node.func.id == "CounterMetricFamily" and not texts[0].endswith("_total") else ""
        yield MadeMetric(texts[0] + total, _KINDS[node.func.id], texts[1], _texts(given, named))


def page() -> str:
    """The page."""
    found = sorted(
        {each.name: each for _, tree in modules() for each in made_metrics(tree)}.values(), key=lambda m: m.name
    )
    rows = [
        (f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.meaning) for each in found
    ]
    return generated("Metrics", _INTRODUCTION, table(("metric", "kind", "labels", "meaning"), rows))
