"""Variants, architectures, losses and penalties with names that put the grammars of the command line to the test."""

from torch import nn

import ganzoo
from ganzoo.losses import input_gradient


def build(image_shape, latent, classes, *, width: int = 16, widths=(8, 16), slope: float = 0.2, wide: bool = False):
    size = image_shape[0] * image_shape[1] * image_shape[2]
    generator = nn.Sequential(nn.Linear(latent, size), nn.Unflatten(1, image_shape), nn.Tanh())
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(size, 1), nn.Flatten(0))


def of_logits(name, **options):
    return ganzoo.Loss.of_logits(
        name,
        discriminator=lambda real, fake: {"real": -real.mean(), "fake": fake.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
        **options,
    )


def soften(parameters, hyper):
    for parameter in parameters:
        parameter.clamp_(-hyper["volume"], hyper["volume"])


def penalize(discriminator, real, fake, labels, hyper):
    return hyper["gamma"] * input_gradient(discriminator, real, labels).square().mean()


INLINE = ganzoo.Architecture("hidden-den", build, image_sizes=None)


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("den", build, image_sizes=None)
    yield ganzoo.Architecture("cave", build, image_sizes=None, latent=32)


@ganzoo.hookimpl
def ganzoo_losses():
    yield of_logits("roar", hyper={"volume": 11.0}, after=soften)
    yield of_logits("purr", repeats=3)
    yield ganzoo.Penalty("claw", penalize, hyper={"gamma": 10.0}, summary="as sharp as R1")
    yield ganzoo.Penalty("fang", penalize, hyper={"gamma": 1.0}, every=16)


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("lion", architecture="den", loss="roar")
    yield ganzoo.Variant("lion-cub", architecture="den", loss="purr", batch_size=16)
    yield ganzoo.Variant(
        "tiger",
        architecture="cave",
        loss="roar",
        penalties=("claw", "fang"),
        optimizers={"discriminator": ganzoo.Optimizer("sgd", 1e-3, momentum=0.5)},
        hyper={"volume": 5},
    )
    yield ganzoo.Variant("wolf.v2", architecture="den", loss="roar", optimizer=ganzoo.Optimizer("adam", 1, (0, 0.9)))
    yield ganzoo.Variant("wolf", architecture="den", loss="roar")
    yield ganzoo.Variant("hermit", architecture=INLINE, loss=of_logits("hidden-roar"))
