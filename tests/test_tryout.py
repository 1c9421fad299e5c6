"""Every phase is tried at planning as it will run: a loss that fits no architecture is refused, formats fall back."""

from __future__ import annotations

import json

import pytest

PLUGIN = """
import ganzoo
import torch
from torch import nn
from torch.nn.functional import relu
from ganzoo.losses import input_gradient


def critic(generator, discriminator, batch, hyper):
    fake = generator(batch.latent, batch.labels)
    real_logits, fake_logits = discriminator(batch.real, batch.labels), discriminator(fake, batch.labels)
    return {"real": relu(1 - real_logits).mean(), "fake": relu(1 + fake_logits).mean()}


def of_phases(name, fool):
    both = ganzoo.Phase("discriminator", critic, "discriminator"), ganzoo.Phase("generator", fool, "generator")
    return ganzoo.Loss(name, phases=both)


def absent(generator, discriminator, batch, hyper):
    return {"fool": discriminator.embedding(generator(batch.latent, batch.labels)).mean()}


def arity(generator, discriminator, batch, hyper):
    return {"fool": -discriminator(generator(batch.latent, batch.labels), batch.labels, batch.real).mean()}


def value(generator, discriminator, batch, hyper):
    fooled = -discriminator(generator(batch.latent, batch.labels), batch.labels).mean()
    return {"fool": fooled * (2 if fooled.item() > 1e9 else 1)}


def viewing(discriminator, real, fake, labels, hyper):
    gradient = input_gradient(discriminator, real, labels)
    return gradient.view(len(gradient), -1).square().sum(1).mean()


def later(parameters, hyper):
    parameters[0].weights.clamp_(-1, 1)


@ganzoo.hookimpl
def ganzoo_losses():
    yield of_phases("absent", absent)
    yield of_phases("arity", arity)
    yield of_phases("value", value)
    yield ganzoo.Penalty("viewing", viewing)
    yield ganzoo.Loss.of_logits(
        "later",
        discriminator=lambda real, fake: {"real": -real.mean(), "fake": fake.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
        after=later,
    )


def load(request):
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ganzoo.LabelledImages(images)


@ganzoo.hookimpl
def ganzoo_datasets():
    yield ganzoo.Dataset("colours", load, lambda request: "1", image_size=16)
"""


@pytest.fixture
def planned(invoke, tmp_path):
    """`planned(models, …)`: what a dry run says of them."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    plan = ("bench", "--device", "cpu", "--throughput-only", "--dry-run", "--plugin", "mine.py", "--batch-size", "8")
    return lambda models, *arguments: invoke(*plan, "--models", models, *arguments)


@pytest.mark.parametrize("architecture", ["mlp", "dcgan"])
@pytest.mark.parametrize(
    ("loss", "error"),
    [
        ("absent", "AttributeError: 'Discriminator' object has no attribute 'embedding'"),
        ("later", "AttributeError: 'Parameter' object has no attribute 'weights'"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_at_planning(architecture, loss, error, planned):
    outcome = planned(f"{architecture}+{loss}")
    assert outcome.code == 2
    assert outcome.error == (
        f"ganzoo: {architecture}+{loss}: with architecture '{architecture}', loss '{loss}' raised {error}"
    )


@pytest.mark.parametrize("architecture", ["mlp", "dcgan"])
def test_more_inputs_than_a_player_takes_are_refused_at_planning(architecture, planned):
    outcome = planned(f"{architecture}+arity")
    assert outcome.code == 2
    assert outcome.error == (
        f"ganzoo: {architecture}+arity: the discriminator is given 3 inputs, and its forward takes 1; only labels are "
        "left out where a network has no room for them"
    )


def test_an_unknown_estimate_has_its_reason_beside_it(planned):
    outcome = planned("mlp+value,mlp", "--json")
    assert outcome.code == 0
    unknown, known = json.loads(outcome.out)
    assert (unknown["flops_per_image"], known["unknown_because"]) == (None, None)
    assert unknown["unknown_because"].startswith("RuntimeError: Tensor.item() cannot be called on meta tensors")
    told = " ".join(planned("mlp+value").out.split())
    assert "? for mlp+value: its FLOPs cannot be counted without memory, RuntimeError: Tensor.item()" in told


@pytest.mark.parametrize(("dataset", "layout"), [("digits", "channels_last"), ("colours", "contiguous")])
def test_a_view_in_a_penalty_runs_in_the_format_in_which_it_works(dataset, layout, planned):
    """In one channel both formats are the same."""
    outcome = planned("dcgan+hinge+viewing", "--dataset", dataset, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    (entry,) = json.loads(outcome.out)
    assert entry["spec"]["memory_format"] == layout
