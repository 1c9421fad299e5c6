"""Prints wherever it gets a chance to; a network small enough to train in a moment."""

import math
import os

from torch import nn

import ganzoo

print("chatty: imported")


def build(image_shape, latent, classes, *, width: int = 8):
    print("chatty: building", image_shape)
    size = math.prod(image_shape)
    generator = nn.Sequential(
        nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, size), nn.Tanh(), nn.Unflatten(1, image_shape)
    )
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))


def announce(parameters, hyper):
    print('{"kind": "outcome", "status": "crashed"}')
    os.write(1, b"chatty: written past Python\n")


def discriminator_terms(real, fake):
    print("chatty: a phase")
    return {"real": -real.mean(), "fake": fake.mean()}


@ganzoo.hookimpl
def ganzoo_architectures():
    print("chatty: asked for architectures")
    yield ganzoo.Architecture("chatty-mlp", build, latent=8, image_sizes=None)


@ganzoo.hookimpl
def ganzoo_variants():
    print("chatty: asked for variants")
    loss = ganzoo.Loss.of_logits(
        "chatty-loss",
        discriminator=discriminator_terms,
        generator=lambda fake: {"fool": -fake.mean()},
        after=announce,
    )
    yield ganzoo.Variant("chatty", architecture="chatty-mlp", loss=loss, batch_size=64)


@ganzoo.hookimpl
def ganzoo_event(event):
    print("chatty: saw", type(event).__name__)
