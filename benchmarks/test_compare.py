"""Read and compare ten thousand records; the goal is 5 s on two cores."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import orjson
import pytest

from ganzoo.comparing.comparison import compare
from ganzoo.comparing.table import comparison_table
from ganzoo.records.store import find_records

GOAL_SECONDS = 5.0

VARIANTS, DATASETS, RATES, MACHINES, SEEDS = 20, 10, 5, 2, 5
"""Ten thousand runs: so many rows of five seeds, a hundred in each race."""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Ten thousand records, copied from a real one."""
    folder = tmp_path_factory.mktemp("ten-thousand")
    committed = Path(__file__).parent.parent / "results"
    base = orjson.loads(next(committed.glob("*/dcgan-digits-*/record.json")).read_bytes())
    rng = random.Random(0)
    counts = map(range, (VARIANTS, DATASETS, RATES, MACHINES, SEEDS))
    for index, (variant, dataset, rate, machine, seed) in enumerate(itertools.product(*counts)):
        names = {"variant": f"v{variant}", "dataset": f"d{dataset}", "hardware": f"h{machine}", "seed": seed}
        base["spec"] |= names
        base["spec"]["optimizer"] = base["spec"]["optimizer"] | {"learning_rate": 1e-4 * (1 + rate)}
        base["run_id"] = f"{index:064x}"
        for score in base["scores"]:
            score["value"] = 20.0 + variant + rng.random()
        place = folder / f"h{machine}" / f"{index}"
        place.mkdir(parents=True)
        (place / "record.json").write_bytes(orjson.dumps(base, option=orjson.OPT_INDENT_2))
    return folder


@pytest.mark.benchmark(group="10 000 records")
def test_load_and_compare(benchmark, results):
    def load_and_compare():
        records, complaints = find_records([results])
        assert (len(records), complaints) == (VARIANTS * DATASETS * RATES * MACHINES * SEEDS, [])
        return comparison_table(compare(records))

    table = benchmark.pedantic(load_and_compare, rounds=3, warmup_rounds=1)
    assert len(table) == VARIANTS * DATASETS * RATES * MACHINES
    benchmark.extra_info["goal_seconds"] = GOAL_SECONDS
