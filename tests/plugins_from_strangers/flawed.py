"""Variants with one flaw each, called after the check that finds it, beside one without; and metrics likewise."""

import math
import random

import torch
from torch import nn
from torch.nn.functional import softplus

import ganzoo
from ganzoo.losses import input_gradient, squared_norm


class Generator(nn.Module):
    """Latents to images by one hidden layer; a flaw changes one thing."""

    def __init__(self, image_shape, latent, flaw):
        super().__init__()
        self.hidden = nn.Linear(latent, 64)
        self.norm = nn.BatchNorm1d(64, track_running_stats=flaw != "batch-independence")
        self.out = nn.Linear(64, math.prod(image_shape))
        self.image_shape = image_shape
        self.shift = torch.randn(latent) if flaw == "state-dict" else 0.0
        self.bound = 3.0 if flaw == "shapes" and image_shape[1] > 8 else 1.0
        self.empty_in_eval = flaw == "shapes-in-eval-mode"
        self.keeps_beside = flaw == "state-dict-beside"
        self.detached = flaw == "updates-detached"
        self.mixed = 0.1 if flaw == "batch-independence-mixed" else 0.0
        if flaw == "same-bits":
            unseeded = torch.Generator()
            unseeded.seed()
            nn.init.normal_(self.hidden.weight, 0, 0.1, generator=unseeded)
        if flaw == "same-bits-unordered":
            for name in set("abcdefghijkl"):
                self.add_module(name, nn.Linear(1, 1))

    def _apply(self, fn, recurse=True):
        # The shift follows the network to its device, and no state dict has it.
        if isinstance(self.shift, torch.Tensor):
            self.shift = fn(self.shift)
        return super()._apply(fn, recurse)

    def get_extra_state(self):
        return {"rng": random.Random(0)} if self.keeps_beside else {"steps": 0}

    def set_extra_state(self, state):
        pass

    def forward(self, latent):
        hidden = self.norm(self.hidden(latent + self.shift)).relu()
        hidden = hidden.detach() if self.detached else hidden
        hidden = hidden + self.mixed * hidden.mean(0)
        if self.empty_in_eval and not self.training:
            hidden = hidden * float("nan")
        return self.bound * self.out(hidden).tanh().unflatten(1, self.image_shape)


class Discriminator(nn.Module):
    """A convolution and a head, and a part that no phase but a flawed one speaks of."""

    def __init__(self, image_shape, flaw):
        super().__init__()
        channels, size, _ = image_shape
        self.convolution = nn.Conv2d(channels, 16, 4, 2, 1)
        self.head = nn.Linear(16 * (size // 2) ** 2, 1)
        self.spare = nn.Linear(2, 1) if flaw == "updates" else None
        self.viewed = flaw == "memory-formats"
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)
        self.scaled = flaw == "memory-formats-scaled"

    def forward(self, images):
        hidden = nn.functional.leaky_relu(self.frozen * self.convolution(images), 0.2)
        if self.scaled and not hidden.is_contiguous():
            hidden = 2 * hidden
        return self.head(hidden.view(len(hidden), -1) if self.viewed else hidden.flatten(1)).squeeze(1)


def architecture(flaw):
    def build(image_shape, latent, classes, *, flavours={"8": 1, "12": 1}):  # noqa: B006
        if flaw == "runs":
            raise ValueError("the flux capacitor is empty")
        if flaw == "same-bits-seedless":
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return Generator(image_shape, latent, flaw), Discriminator(image_shape, flaw)
        return Generator(image_shape, latent, flaw), Discriminator(image_shape, flaw)

    def build_by_size(image_shape, latent, classes, *, flavours={8: 1, 12: 1}):  # noqa: B006
        return Generator(image_shape, latent, flaw), Discriminator(image_shape, flaw)

    chosen = build_by_size if flaw == "json-spec" else build
    channels = (1, 3) if flaw == "memory-formats-in-colour" else (1,)
    return ganzoo.Architecture(f"{flaw}-networks", chosen, latent=16, image_sizes=(8, 12), channels=channels)


def penalty(flaw):
    def function(discriminator, real, fake, labels, hyper):
        gradient = input_gradient(discriminator, real, labels)
        if flaw == "memory-formats-in-colour":
            gradient = gradient.view(len(gradient), -1)[:, :, None, None]
        value = hyper["gamma"] * squared_norm(gradient).mean()
        return value.detach() if flaw == "penalty-gradients" else value

    # A lazy one is a phase of its own; any other joins the discriminator's.
    every = 1 if flaw in ("penalty-gradients", "runs-no-home") else 4
    return ganzoo.Penalty(f"{flaw}-penalty", function, hyper={"gamma": 0.01}, every=every)


def loss(flaw):
    def discriminator_terms(generator, discriminator, batch, hyper):
        if flaw == "frozen-weights":
            with torch.no_grad():
                discriminator.frozen.mul_(0.99)
        fake = generator(batch.latent, batch.labels)
        fake_logits = discriminator(fake, batch.labels)
        terms = {
            "real": softplus(-discriminator(batch.real, batch.labels)).mean(),
            "fake": softplus(fake_logits).mean(),
        }
        if flaw == "finite-terms":
            terms["idle"] = torch.zeros((), device=fake.device).log()
        if flaw == "leaves-settings" and not torch.compiler.is_compiling():
            torch.backends.cudnn.benchmark = True
        if flaw == "no-host-sync-in-a-phase" and fake_logits.mean().item() > 1e9:
            raise ArithmeticError("far out")
        if flaw == "compiled-gradients" and torch.compiler.is_compiling():
            terms["real"] = 2 * terms["real"]
        if flaw == "captured-gradients" and batch.real.is_cuda and torch.cuda.is_current_stream_capturing():
            terms["real"] = 2 * terms["real"]
        return terms

    def generator_terms(generator, discriminator, batch, hyper):
        fooled = softplus(-discriminator(generator(batch.latent, batch.labels), batch.labels)).mean()
        if flaw == "updates-beside":
            with torch.no_grad():
                discriminator.head.bias.mul_(0.99)
        return {"fool": -fooled if flaw == "learns" else fooled}

    if flaw == "penalty-gradients":
        # In a phase of its own it would have no gradient at all, and the first step would fail.
        return ganzoo.Loss.of_logits(
            f"{flaw}-loss",
            discriminator=lambda real, fake: {"real": softplus(-real).mean(), "fake": softplus(fake).mean()},
            generator=lambda fake: {"fool": softplus(-fake).mean()},
        )
    takes_penalties = False if flaw == "runs-no-home" else None
    updates = ("generator", "discriminator.spare") if flaw == "updates" else "generator"
    return ganzoo.Loss(
        f"{flaw}-loss",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator", penalties=takes_penalties),
            ganzoo.Phase("generator", generator_terms, updates=updates),
        ),
        hyper={"margin": 1.0} if flaw == "runs-unread" else {},
    )


FLAWS = (
    *(
        "runs",
        "runs-unread",
        "runs-no-home",
        "leaves-settings",
        "shapes",
        "shapes-in-eval-mode",
        "finite-terms",
    ),
    *("updates", "updates-beside", "updates-detached", "frozen-weights", "penalty-gradients"),
    *("captured-gradients", "compiled-gradients", "same-bits", "same-bits-seedless", "same-bits-unordered"),
    *("no-host-sync-in-a-phase", "batch-independence", "batch-independence-mixed", "state-dict"),
    *(
        "state-dict-beside",
        "json-spec",
        "memory-formats",
        "memory-formats-scaled",
        "memory-formats-in-colour",
        "learns",
    ),
)


@ganzoo.hookimpl
def ganzoo_variants():
    for flaw in ("sound", *FLAWS):
        yield ganzoo.Variant(
            flaw if flaw == "sound" else f"flawed-{flaw}",
            architecture(flaw),
            loss(flaw),
            penalties=(penalty(flaw),),
            optimizer=ganzoo.Optimizer("adam", 1e-3),
        )


def distance(real, fake, settings):
    return {"gap": float((real.features.mean(0) - fake.features.mean(0)).norm())}


def misnamed(real, fake, settings):
    return {"gulf": distance(real, fake, settings)["gap"]}


def drifting(real, fake, settings):
    return {"gap": distance(real, fake, settings)["gap"] + torch.rand((), generator=UNSEEDED).item()}


def by_rank(real, fake, settings):
    """The distance within the classes, where a label is taken for the number of a logit."""
    predicted = fake.logits.argmax(1)
    gaps = [
        (real.features[real.labels == label].mean(0) - fake.features[predicted == label].mean(0)).norm()
        for label in predicted.unique()
    ]
    return {"gap": float(torch.stack(gaps).mean())}


def with_neighbours(real, fake, settings):
    """Needs four real images, whatever there are."""
    third = torch.cdist(real.features, real.features).kthvalue(4).values.mean()
    return {"gap": distance(real, fake, settings)["gap"] / third.item()}


UNSEEDED = torch.Generator().manual_seed(0)


@ganzoo.hookimpl
def ganzoo_metrics():
    lower, higher = {"gap": "lower"}, {"gap": "higher"}
    yield ganzoo.Metric("sound-gap", distance, better=lower)
    yield ganzoo.Metric("flawed-scores", misnamed, better=lower)
    yield ganzoo.Metric("flawed-same-scores", drifting, better=lower)
    yield ganzoo.Metric("flawed-json-settings", distance, lower, settings=lambda n_real, n_fake: {"sizes": {1: n_fake}})
    yield ganzoo.Metric("flawed-direction", distance, better=higher)
    yield ganzoo.Metric("flawed-within-bounds", distance, better=lower, bounds={"gap": (0, 1e-6)})
    yield ganzoo.Metric("flawed-few-images", with_neighbours, better=lower)
    yield ganzoo.Metric("flawed-class-names", by_rank, better=lower, labelled=True)
