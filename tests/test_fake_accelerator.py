"""What a step does on an accelerator, without one: tensors of two devices, waits of the host, launches.

`no_host_sync` looks at phases; this looks at whole steps, with batches, optimizers and moving averages.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import fake_accelerator
import pytest
from conftest import made_once
from skips import needs_accelerator

pytestmark = needs_accelerator(fake_accelerator.THERE, "nor a way to pretend one, which torch 2.14 has")

LAUNCHES = {
    "cdcgan": 866,
    "cnn-pool": 1809,
    "conv-sgd": 504,
    "dcgan": 724,
    "dcgan-dense": 1286,
    "deconv-mlp": 1481,
    "hinge": 723,
    "infogan": 1726,
    "lsgan": 746,
    "mlp": 845,
    "mlp-conv": 750,
    "r3gan": 3694,
    "sngan": 1665,
    "wgan": 1769,
    "wgan-gp": 3083,
}
"""Operators of a step and of the moving average, as torch 2.14 has them, without fused optimizers."""

SLACK = 1.03
"""Another torch may take some more."""

FLAWED = """
import torch
import ganzoo

def on_the_cpu(real, fake):
    return {"real": (real * torch.ones(len(real))).mean(), "fake": fake.mean()}

def waits(real, fake):
    return {"real": real.mean() * float(real.detach().mean() > 0), "fake": fake.mean()}

def copies(real, fake):
    return {"real": (real * torch.ones(len(real)).to(real.device)).mean(), "fake": fake.mean()}

@ganzoo.hookimpl
def ganzoo_variants():
    for function in (on_the_cpu, waits, copies):
        loss = ganzoo.Loss.of_logits(
            f"loss-{function.__name__}", discriminator=function, generator=lambda fake: {"fool": fake.mean()}
        )
        yield ganzoo.Variant(f"flawed-{function.__name__}", architecture="mlp", loss=loss)
"""


def counted(*arguments: object) -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, fake_accelerator.__file__, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def step(tmp_path_factory) -> dict[str, dict]:
    """A step of each variant of the zoo, and of three that are flawed."""

    def make(folder: Path) -> dict[str, dict]:
        (folder / "flawed.py").write_text(FLAWED)
        return counted(",".join((*LAUNCHES, "flawed-*")), 1, 8, folder / "flawed.py")

    return made_once("fake-steps", make, tmp_path_factory)


def test_every_variant_of_the_zoo_steps_on_one_device_and_waits_for_nothing(step):
    zoo = {name: facts for name, facts in step.items() if not name.startswith("flawed")}
    assert len(zoo) >= 15
    assert {name: facts["error"] for name, facts in zoo.items() if "error" in facts} == {}
    assert {name: facts["blocking"] for name, facts in zoo.items() if facts["blocking"]} == {}


def test_a_step_launches_no_more_than_it_did(step):
    assert LAUNCHES.keys() == {name for name in step if not name.startswith("flawed")}
    grown = {name: (most, step[name]["launches"]) for name, most in LAUNCHES.items()}
    assert {name: pair for name, pair in grown.items() if pair[1] > SLACK * pair[0]} == {}


def test_flaws_that_a_cpu_forgives_are_found(step):
    # The words are torch's, and differ between its versions.
    assert re.search("found (at least )?two.* devices?.*fakegpu", step["flawed-on_the_cpu"]["error"])
    assert step["flawed-waits"]["error"].startswith("DataDependentOutputException")
    assert step["flawed-copies"]["blocking"] == ["aten._to_copy.default of (8,)"]


def test_the_order_of_an_epoch_is_the_only_copy_and_nothing_waits_for_it():
    """The digits are 28 batches of 64."""
    (facts,) = counted("mlp", 40, 64).values()
    assert facts["blocking"] == []
    assert facts["copies"] == 1
