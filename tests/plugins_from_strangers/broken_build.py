"""Architectures that fail when they are built or asked for latents, and one that reads the values of tensors."""

import torch
from torch import nn

import ganzoo


def small(image_shape, latent, width):
    size = image_shape[0] * image_shape[1] * image_shape[2]
    generator = nn.Sequential(nn.Linear(latent, width), nn.Linear(width, size), nn.Unflatten(1, image_shape), nn.Tanh())
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(size, 1), nn.Flatten(0))


def build_with_a_typo(image_shape, latent, classes):
    return small(image_shape, latent, {"width": 8}["widht"])


def build_reading_values(image_shape, latent, classes):
    rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
    widths = torch.arange(1, 4).numpy()
    return small(image_shape, latent, 8 * len(rates) + int(widths[0]))


def build_plainly(image_shape, latent, classes):
    return small(image_shape, latent, 8)


def draw_latent(n, latent, rng, **options):
    raise LookupError("no codebook")


@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("typo", build_with_a_typo)
    yield ganzoo.Architecture("reads-values", build_reading_values)
    yield ganzoo.Architecture("no-codes", build_plainly, draw_latent=draw_latent)


@ganzoo.hookimpl
def ganzoo_variants():
    for name in ("typo", "reads-values", "no-codes"):
        yield ganzoo.Variant(name, architecture=name, loss="hinge", batch_size=16)


def load(request):
    return {"images": None}["imagse"]


@ganzoo.hookimpl
def ganzoo_datasets():
    yield ganzoo.Dataset("typo-data", load, lambda request: "1", features="digits-cnn")
    yield ganzoo.Dataset("no-fingerprint", load, lambda request: request.missing, features="digits-cnn")


@ganzoo.hookimpl
def ganzoo_reporters():
    yield ganzoo.Reporter("typo-report", lambda table: table["no such column"])
