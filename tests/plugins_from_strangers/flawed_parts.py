"""Variants of more parts with one flaw each, called after the check that finds it, beside one without.

Three players, one of them with a frozen part, state, an augmentation that adapts, a lazy penalty with corrected Adam,
averages of two players, and a way of drawing.
"""

import math

import torch
from torch import nn
from torch.nn.functional import leaky_relu, softplus

import ganzoo
from ganzoo.losses import r1


class Shared(nn.Linear):
    """A layer that copies of its network share."""

    def __deepcopy__(self, memo):
        return self


class Generator(nn.Module):
    """Latents to images by one hidden layer, with noise in eval mode too."""

    def __init__(self, image_shape, latent, flaw):
        super().__init__()
        self.hidden = (Shared if flaw == "averages" else nn.Linear)(latent, 64)
        self.out = nn.Linear(64, math.prod(image_shape))
        self.image_shape = image_shape
        self.own_noise = flaw == "seeded-drawing"
        self.numbers = None
        # What warms up with each call in training is kept where no checkpoint finds it.
        self.warmth = torch.zeros(()) if flaw == "resumes" else None

    def _apply(self, fn, recurse=True):
        if self.warmth is not None:
            self.warmth = fn(self.warmth)
        return super()._apply(fn, recurse)

    def noise(self, like):
        if not self.own_noise or self.training:
            return torch.randn_like(like)
        if self.numbers is None:
            self.numbers = torch.Generator().manual_seed(0)
        return torch.randn(like.shape, generator=self.numbers).to(like.device)

    def forward(self, latent):
        images = self.out(leaky_relu(self.hidden(latent), 0.2))
        if self.warmth is not None and self.training:
            images = images * (0.5 + self.warmth.clone())
            self.warmth.add_(1 / 64)
        return (images + 0.01 * self.noise(images)).tanh().unflatten(1, self.image_shape)


class Frozen(nn.Module):
    """A convolution and BatchNorm as they were made, in eval mode unless flawed."""

    def __init__(self, channels, flaw):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.requires_grad_(False)
        self.wakes = flaw == "frozen-weights-statistics"

    def train(self, mode=True):
        return super().train(mode and self.wakes)

    def forward(self, images):
        return self.layers(images)


class Discriminator(nn.Module):
    """A frozen part, a convolution on it, and a head."""

    def __init__(self, image_shape, flaw):
        super().__init__()
        channels, size, _ = image_shape
        self.frozen = Frozen(channels, flaw)
        self.convolution = nn.Conv2d(8 + channels, 16, 4, 2, 1)
        self.head = nn.Linear(16 * (size // 2) ** 2, 1)

    def forward(self, images):
        hidden = self.convolution(torch.cat([self.frozen(images), images], 1))
        return self.head(leaky_relu(hidden, 0.2).flatten(1)).squeeze(1)


class Encoder(nn.Module):
    """Images to latents."""

    def __init__(self, image_shape, latent):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 32), nn.LeakyReLU(0.2))
        self.head = nn.Linear(32, latent)

    def forward(self, images):
        return self.head(self.body(images))


def architecture(flaw):
    def build(image_shape, latent, classes):
        return {
            "generator": Generator(image_shape, latent, flaw),
            "discriminator": Discriminator(image_shape, flaw),
            "encoder": Encoder(image_shape, latent),
        }

    def sample(generator, latent, labels, *, truncation=0.9):
        images = generator(truncation * latent)
        return 2 * images if flaw == "seeded-drawing-sample" else images

    return ganzoo.Architecture(
        f"{flaw}-players",
        build,
        latent=16,
        image_sizes=(8,),
        channels=(1, 3),
        players=("generator", "discriminator", "encoder"),
        sample=sample,
    )


def loss(flaw):
    def judge(generator, discriminator, batch):
        real, fake = discriminator(batch.real), discriminator(generator(batch.latent))
        terms = {"real": softplus(-real).mean(), "fake": softplus(fake).mean()}
        if flaw == "three-channels":
            terms["idle"] = torch.full((), 3.0 - batch.real.shape[1], device=real.device).log()
        return terms

    def fool(generator, discriminator, batch):
        return {"fool": softplus(-discriminator(generator(batch.latent))).mean()}

    def encode(generator, encoder, batch):
        return {"latent": (encoder(generator(batch.latent)) - batch.latent).square().mean()}

    encoded = "encoder.head" if flaw == "updated-or-frozen" else "encoder"
    return ganzoo.Loss(
        f"{flaw}-phases",
        phases=(
            ganzoo.Phase("discriminator", judge, "discriminator"),
            ganzoo.Phase("generator", fool, "generator"),
            ganzoo.Phase("encoder", encode, encoded),
        ),
    )


def anchored(flaw):
    """A penalty that keeps the real logits near their average so far."""

    def function(real_logits, level):
        following = 0.9 * level + 0.1 * real_logits.mean()
        if flaw == "state-moves":
            following = level.clone()
        if flaw == "state-moves-to-infinity":
            following = (level.abs() + 1e30).square()
        distance = 0.01 * (real_logits.mean() - level.clamp(-9, 9)).square()
        return ganzoo.Terms({"distance": distance}, monitors={"level": level.clamp(-9, 9)}, state={"level": following})

    return ganzoo.Penalty(f"{flaw}-anchor", function, state={"level": 0.0})


def steepness(flaw):
    every = 1 if flaw == "lazy-correction" else 4
    return ganzoo.Penalty(f"{flaw}-steepness", r1, hyper={"gamma": 0.01}, every=every)


class Bent(torch.autograd.Function):
    """x - x²/2, with a derivative that does not depend on x any more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x - x * x / 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.detach())


def shade(flaw):
    """Brightness, by a strength that follows how sure the judge is of real images."""

    def function(images, strength):
        if flaw == "augmentation-sides" and images.requires_grad:
            return images
        shades = strength * (torch.rand(len(images), 1, 1, 1, device=images.device) - 0.5)
        images = images + shades
        if flaw == "augmentation":
            images = (images + images.detach()) / 2
        if flaw == "augmentation-range":
            images = 8 * images
        return Bent.apply(images) if flaw == "augmentation-once" else images

    def adapt(real_logits, images_seen, strength):
        return {"strength": (strength + 1e-3 * real_logits.sign().mean()).clamp(0, 1)}

    return ganzoo.Augmentation(f"{flaw}-shade", function, state={"strength": 0.0}, adapt=adapt)


FLAWS = (
    *("updated-or-frozen", "frozen-weights-statistics", "averages", "lazy-correction"),
    *("augmentation", "augmentation-once", "augmentation-sides", "augmentation-range"),
    *("state-moves", "state-moves-to-infinity", "resumes", "seeded-drawing", "seeded-drawing-sample"),
    "three-channels",
)


@ganzoo.hookimpl
def ganzoo_variants():
    adam = ganzoo.Optimizer("adam", 1e-3)
    for flaw in ("sound-parts", *FLAWS):
        yield ganzoo.Variant(
            flaw if flaw == "sound-parts" else f"flawed-{flaw}",
            architecture(flaw),
            loss(flaw),
            penalties=(anchored(flaw), steepness(flaw)),
            augment=(shade(flaw),),
            optimizer=adam,
            optimizers={"discriminator": ganzoo.Optimizer("adam", 1e-3, lazy_correction=True)},
            averaged=("generator", "encoder"),
        )
