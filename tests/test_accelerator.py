"""Tests that need an accelerator: a bench runs on it and starts from the same weights as on the CPU."""

from __future__ import annotations

import json

import pytest
import torch
from skips import needs_accelerator
from test_training import assembled

from ganzoo.training.loop import train

pytestmark = needs_accelerator(torch.accelerator.is_available(), "none that torch knows")


def device() -> str:
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    return f"{accelerator.type}:0"


def test_bench_runs_on_the_accelerator(run_cli):
    done = run_cli("bench", "--models", "dcgan,mlp", "--kimg", "2", "--throughput-seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    for record in json.loads(done.stdout):
        assert record["spec"]["device"] == device()
        assert record["hardware"]["accelerator"]
        assert record["throughput"]["peak_memory_bytes"] is None or record["throughput"]["peak_memory_bytes"] > 0
        assert record["throughput"]["mfu"] > 0
        assert record["dataset"]["resident"]


@pytest.mark.parametrize("models", ["mlp", "dcgan", "wgan-gp", "sngan", "r3gan", "infogan", "cdcgan"])
def test_training_on_the_accelerator_is_finite_and_starts_from_the_cpu_weights(models):
    there, here = assembled(models, device=device()), assembled(models)
    for ours, theirs in zip(there.players.generator.parameters(), here.players.generator.parameters(), strict=True):
        assert torch.equal(ours.cpu(), theirs)
    result = train(there, 0.05)
    assert all(torch.isfinite(torch.tensor(curve)).all() for curve in result.curves.values())


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_is_asked_for_and_recorded_or_refused(run_cli, precision):
    done = run_cli("bench", "--models", "dcgan", "--throughput-only", "--precision", precision, "--json")
    if done.returncode == 2:
        assert f"--precision {precision}" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["spec"]["precision"] == precision
