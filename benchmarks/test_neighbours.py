"""Precision and recall by blocks against torch-fidelity's, on the same features in the same process: time and memory.

`GANZOO_BENCH_IMAGES` and `GANZOO_BENCH_FEATURES` set the size: 50000 and 2048 are those of a CIFAR-10 evaluation.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import pytest
import torch

IMAGES = int(os.environ.get("GANZOO_BENCH_IMAGES", "4000"))
FEATURES = int(os.environ.get("GANZOO_BENCH_FEATURES", "256"))


def features(images: int, width: int) -> list[torch.Tensor]:
    """Real and fake features, float32 (N, D)."""
    rng = torch.Generator().manual_seed(0)
    return [torch.relu(torch.randn(images, width, generator=rng) + shift) for shift in (0.0, 0.02)]


def ours(real: torch.Tensor, fake: torch.Tensor) -> tuple[float, float]:
    """By `--metrics prc`, intervals included."""
    from ganzoo.evaluation.features import FeatureSample
    from ganzoo_plugins.metrics import precision_recall

    sides = (FeatureSample(side, side[:, :1]) for side in (real, fake))
    given = precision_recall.score(*sides, precision_recall.settings(len(real), len(fake)))
    return given["precision"].value, given["recall"].value


def torch_fidelitys(real: torch.Tensor, fake: torch.Tensor) -> tuple[float, float]:
    """By torch-fidelity, in double precision, a thousand rows at a time."""
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    found = prc_features_to_metric(
        fake.double(), real.double(), prc_neighborhood=3, prc_batch_size=1000, save_cpu_ram=True, verbose=False
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


CONTESTANTS = {"ganzoo": ours, "torch-fidelity": torch_fidelitys}


def measured(who: str, images: int, width: int) -> tuple[float, float, float, float]:
    """Seconds, MiB above what the features take, precision, recall; in a process apart, for the peak is a process's."""
    done = subprocess.run(
        [sys.executable, __file__, who, str(images), str(width)], capture_output=True, text=True, check=True
    )
    seconds, mebibytes, precision, recall = map(float, done.stdout.split()[-4:])
    return seconds, mebibytes, precision, recall


@pytest.mark.slow
def test_neighbours_take_no_more_time_and_memory_than_torch_fidelitys():
    found = {who: measured(who, IMAGES, FEATURES) for who in CONTESTANTS}
    for who, (seconds, mebibytes, precision, recall) in found.items():
        print(f"{who}: {seconds:.1f} s, {mebibytes:.0f} MiB, precision {precision:.4f}, recall {recall:.4f}")
    assert found["ganzoo"][2:] == pytest.approx(found["torch-fidelity"][2:], abs=2 / IMAGES)


def main() -> None:
    """Measure one contestant: `python test_neighbours.py WHO IMAGES FEATURES`."""
    who, images, width = sys.argv[1], *map(int, sys.argv[2:])
    sides = features(images, width)
    CONTESTANTS[who](*(side[:200] for side in sides))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    precision, recall = CONTESTANTS[who](*sides)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, (peak - before) / 1024, precision, recall)


if __name__ == "__main__":
    main()
