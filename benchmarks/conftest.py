"""What the benchmarks share: the registry, and runs assembled on the embedded dataset."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from math import comb

import pytest

from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import Registry
from ganzoo.training.assembly import Assembly, assemble


@pytest.fixture(scope="session")
def registry() -> Registry:
    """All installed plugins."""
    return discover()


@pytest.fixture(scope="session")
def make_run(registry: Registry) -> Callable[..., Assembly]:
    """`make_run(models, **options)`: one assembled run, ready for its first step."""

    def make(models: str, **options: object) -> Assembly:
        plan = BenchPlan(models=(models,), throughput_only=True, **options)
        resolved = resolve(plan, registry)
        return assemble(resolved.runs[0].spec, registry, resolved.dataset)

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print every pair of measured times and its ratio."""
    session = getattr(config, "_benchmarksession", None)
    rows = [bench.extra_info for bench in (session.benchmarks if session else ()) if "ratios" in bench.extra_info]
    if not rows:
        return
    terminalreporter.write_sep("=", "ratios, the median of pairs timed in turn, and its 95 % interval")
    for row in rows:
        pairs = " ".join(f"{ratio:.2f}" for ratio in row["ratios"])
        low, high = interval(row["ratios"])
        terminalreporter.write_line(
            f"{row['title']}: {statistics.median(row['ratios']):.3f}, {low:.3f} to {high:.3f} (goal: {row['goal']})"
        )
        terminalreporter.write_line(f"    pairs: {pairs}")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Two of the values that hold the median between them with a probability of at least 95 %, by ranks.

    Fewer than six values have no such interval: the range of all is given.
    """
    ordered, rank = sorted(values), 0
    while 2 * sum(comb(len(ordered), below) for below in range(rank + 2)) / 2 ** len(ordered) <= 0.05:
        rank += 1
    return ordered[rank], ordered[-1 - rank]
