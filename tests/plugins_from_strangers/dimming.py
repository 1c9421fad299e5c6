"""Generators whose images grow darker by the same amount in each step, until they are black: their score improves so
long, and no longer. For the data set and the extractor of laboratory.py.
"""

import torch
from torch import nn

import ganzoo


class Level(nn.Module):
    """Images of one grey level, which is the only weight. From nearly white to black, -1; there its gradient is 0."""

    def __init__(self, image_shape):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.99))
        self.image_shape = image_shape

    def forward(self, latent):
        return self.level.clamp(-1, 1) + 0 * latent[:, :1, None, None].expand(-1, *self.image_shape)


def build(image_shape, latent, classes):
    size = image_shape[0] * image_shape[1] * image_shape[2]
    return Level(image_shape), nn.Sequential(nn.Flatten(), nn.Linear(size, 1), nn.Flatten(0))


def judge(generator, discriminator, batch):
    return {"real": discriminator(batch.real).sigmoid().mean()}


def darken(generator, discriminator, batch):
    return {"level": generator(batch.latent).mean()}


LOSS = ganzoo.Loss(
    "darken",
    phases=(
        ganzoo.Phase("discriminator", judge, updates="discriminator"),
        ganzoo.Phase("generator", darken, updates="generator"),
    ),
)


def brightness(real, fake, settings):
    """From 0 to 1, and as exact as a byte."""
    value = fake.features.mean().item()
    return {"brightness": ganzoo.Estimate(value, value - 0.002, value + 0.002)}


@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric("brightness", brightness, better={"brightness": "lower"})


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("level", build)


@ganzoo.hookimpl
def ganzoo_variants():
    """After how many steps they are black: 143, 20, and 143 by a rate that follows the budget."""
    recipe = {"architecture": "level", "loss": LOSS, "batch_size": 16, "ema_half_life_kimg": 0}
    yield ganzoo.Variant("dimming", **recipe, optimizer=ganzoo.Optimizer("sgd", 0.014))
    yield ganzoo.Variant("soon-black", **recipe, optimizer=ganzoo.Optimizer("sgd", 0.1))
    yield ganzoo.Variant(
        "dimming-by-schedule",
        **recipe,
        optimizer=ganzoo.Optimizer("sgd", 0.014),
        rate_decay=ganzoo.Schedule("linear", to=0.99),
    )
