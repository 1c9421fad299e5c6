"""What the benchmarks share: the registry, and runs assembled on the embedded dataset."""

from __future__ import annotations

import statistics
from collections.abc import Callable

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
    terminalreporter.write_sep("=", "ratios, the median of pairs timed in turn")
    for row in rows:
        pairs = " ".join(f"{ratio:.2f}" for ratio in row["ratios"])
        terminalreporter.write_line(f"{row['title']}: {statistics.median(row['ratios']):.2f} (goal {row['goal']})")
        terminalreporter.write_line(f"    pairs: {pairs}")
