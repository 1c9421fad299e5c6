"""Networks as people write them, each with one thing that most do not have: `unusual-THING` by the hinge loss."""

import math

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

import ganzoo


class Generator(nn.Module):
    """Latents to images by one hidden layer."""

    def __init__(self, image_shape, latent, thing):
        super().__init__()
        self.thing, self.image_shape = thing, image_shape
        self.hidden, self.out = nn.Linear(latent, 32), nn.Linear(32, math.prod(image_shape))
        if thing == "frozen":
            self.hidden.requires_grad_(False)
        if thing == "weight-norm":
            nn.utils.weight_norm(self.hidden)
        if thing == "spectral-norm":
            spectral_norm(self.hidden)
        if thing == "fourier":
            self.register_buffer("frequencies", 3 * torch.randn(latent, latent), persistent=False)
        if thing == "plain-tensor":
            self.frequencies = 3 * torch.randn(latent, latent)
        if thing == "complex":
            self.phases = nn.Parameter(torch.randn(32, dtype=torch.complex64))
        self.calls = {"trained": 0}

    def get_extra_state(self):
        return (object() if self.thing == "secret" else self.calls) if self.thing in ("beside", "secret") else None

    def set_extra_state(self, state):
        self.calls = state

    def forward(self, latent):
        if self.training:
            self.calls["trained"] += 1
        if self.thing in ("fourier", "plain-tensor"):
            latent = (latent @ self.frequencies).sin()
        hidden = self.hidden(latent)
        if self.thing == "noise":
            hidden = hidden + torch.randn_like(hidden)
        if self.thing == "complex":
            hidden = (hidden * self.phases).real
        if self.thing == "empty-now-and-then":
            # Two images of three are as they should be.
            holes = torch.arange(len(latent), device=latent.device)[:, None] % 3 == 0
            hidden = hidden.masked_fill(holes & (not self.training), math.nan)
        return self.out(hidden.relu()).tanh().unflatten(1, self.image_shape)


class Doubled(torch.autograd.Function):
    """An `autograd.Function` as they were written before torch.func."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Discriminator(nn.Module):
    """One hidden layer that may be convolutional."""

    def __init__(self, image_shape, thing):
        super().__init__()
        self.thing = thing
        pixels = math.prod(image_shape)
        self.first = nn.Conv2d(image_shape[0], 8, 3, padding=1)
        self.trunk = nn.Sequential(nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(pixels // image_shape[0] * 8, 32))
        self.norm = nn.BatchNorm1d(32) if thing == "backward-hook" else nn.Identity()
        self.head = nn.LazyLinear(1) if thing == "lazy" else nn.Linear(32, 1)
        if thing == "frozen":
            self.first.requires_grad_(False)
            self.table = nn.Parameter(torch.arange(4), requires_grad=False)
        if thing == "backward-hook":
            self.trunk.register_full_backward_hook(lambda *arguments: None)

    def forward(self, images):
        hidden = self.first(images)
        if self.thing == "classic-function":
            hidden = Doubled.apply(hidden)
        hidden = (
            checkpoint(self.trunk, hidden, use_reentrant=False) if self.thing == "checkpoint" else self.trunk(hidden)
        )
        logits = self.head(self.norm(hidden)).squeeze(1)
        return [logits] if self.thing == "list" else logits


def architecture(thing):
    def build(image_shape, latent, classes):
        generator, discriminator = Generator(image_shape, latent, thing), Discriminator(image_shape, thing)
        if thing == "shared":
            # An embedding of what an image is made of, which both read.
            discriminator.trunk.append(nn.Linear(32, 32))
            generator.hidden = nn.Sequential(generator.hidden, discriminator.trunk[-1])
        if thing == "without-weights":
            generator.requires_grad_(False)
        return generator, discriminator

    return ganzoo.Architecture(f"unusual-{thing}", build, latent=16, image_sizes=(8,), channels=(1, 3))


@ganzoo.hookimpl
def ganzoo_variants():
    for thing in (
        *("plain", "frozen", "shared", "spectral-norm", "weight-norm", "complex", "fourier", "plain-tensor", "noise"),
        *("beside", "secret", "lazy", "classic-function", "backward-hook", "checkpoint", "list", "without-weights"),
        "empty-now-and-then",
    ):
        yield ganzoo.Variant(f"unusual-{thing}", architecture(thing), "hinge", batch_size=16)
