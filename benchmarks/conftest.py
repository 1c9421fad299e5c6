"""What the benchmarks share: the registry, and runs assembled on the embedded dataset."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ganzoo.assemble import Assembly, assemble
from ganzoo.plan import BenchPlan, resolve
from ganzoo.plugins import Registry, discover


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Every plugin that is installed."""
    return discover()


@pytest.fixture(scope="session")
def make_run(registry: Registry) -> Callable[..., Assembly]:
    """`make_run(models, **options)`: one run, ready to be stepped."""

    def make(models: str, **options: object) -> Assembly:
        plan = BenchPlan(models=(models,), throughput_only=True, **options)
        resolved = resolve(plan, registry)
        return assemble(resolved.runs[0].spec, registry, resolved.dataset)

    return make
