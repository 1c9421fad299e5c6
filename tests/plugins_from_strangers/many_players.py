"""Small players of every kind: pairs, packs, labels, heads, stages; and losses, penalties and augmentations on them."""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, relu, softplus

import ganzoo
from ganzoo.losses import gradient, squared_norm

SEEN = []
"""What the functions that note something have seen, in order."""


# --- networks ---------------------------------------------------------------------------------------------------------


class Maker(nn.Module):
    """Latents, and labels where there are classes, to images, with BatchNorm."""

    def __init__(self, image_shape, latent, classes=0):
        super().__init__()
        self.first = nn.Linear(latent, 16)
        self.by_label = nn.Embedding(classes, 16) if classes else None
        self.body = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, math.prod(image_shape)), nn.Tanh())
        self.image_shape = image_shape

    def forward(self, latent, labels=None):
        hidden = self.first(latent)
        if self.by_label is not None:
            hidden = hidden + self.by_label(labels)
        return self.body(hidden).unflatten(1, self.image_shape)


class Coder(nn.Module):
    """Images to latents."""

    def __init__(self, image_shape, latent):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 16), nn.ReLU(), nn.Linear(16, latent))

    def forward(self, images):
        return self.body(images)


class Judge(nn.Module):
    """Images, with what else lies beside them, to logits, with BatchNorm."""

    def __init__(self, image_shape, more=0):
        super().__init__()
        width = math.prod(image_shape) + more
        self.body = nn.Sequential(nn.Linear(width, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def forward(self, images, *more):
        return self.body(torch.cat([images.flatten(1), *more], 1)).squeeze(1)


class OfImages(Judge):
    """Takes images and nothing else."""

    def forward(self, images):
        return super().forward(images)


class OfPairs(Judge):
    """Takes an image and a code."""

    def forward(self, images, code):
        return super().forward(images, code)


class WithOptionalLabels(Judge):
    """Could take labels, and is to be given none."""

    def forward(self, images, labels=None):
        assert labels is None
        return super().forward(images)


class ByLabel(Judge):
    """The logit depends on the label (projection, Miyato & Koyama 2018)."""

    def __init__(self, image_shape, classes):
        super().__init__(image_shape)
        self.by_label = nn.Embedding(classes, 1)

    def forward(self, images, labels):
        return super().forward(images) + self.by_label(labels).squeeze(1)


class WithHeads(nn.Module):
    """Logits and a guess of how an image is turned, from one trunk."""

    def __init__(self, image_shape):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 16), nn.LeakyReLU(0.2))
        self.logit, self.rotation = nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, images):
        hidden = self.trunk(images)
        return {"logits": self.logit(hidden).squeeze(1), "rotation": self.rotation(hidden)}


class GrowingMaker(nn.Module):
    """Latents to images of the stage's size; the larger ones fade in."""

    def __init__(self, image_shape, latent):
        super().__init__()
        self.body = nn.Linear(latent, 16)
        self.images = nn.ModuleDict({str(size): nn.Linear(16, image_shape[0] * size**2) for size in (4, 8)})

    def forward(self, latent, *, progress, image_size):
        hidden = relu(self.body(latent))
        images = self.images[str(image_size)](hidden).view(len(latent), -1, image_size, image_size)
        if image_size == 8:
            small = self.images["4"](hidden).view(len(latent), -1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
            images = small + (4 * (progress - 0.5)).clamp(0, 1) * (images - small)
        return images.tanh()


class Growing(nn.Module):
    """Images of the stage's size to `width` numbers, or to logits."""

    def __init__(self, image_shape, width=0):
        super().__init__()
        self.first = nn.ModuleDict({str(size): nn.Linear(image_shape[0] * size**2, 16) for size in (4, 8)})
        self.last = nn.Linear(16, width or 1)
        self.squeezed = not width

    def forward(self, images):
        out = self.last(relu(self.first[str(images.shape[2])](images.flatten(1))))
        return out.squeeze(1) if self.squeezed else out


# --- architectures ----------------------------------------------------------------------------------------------------


def pairs(image_shape, latent, classes):
    return {
        "generator": Maker(image_shape, latent),
        "encoder": Coder(image_shape, latent),
        "discriminator": OfPairs(image_shape, latent),
    }


def plain(image_shape, latent, classes, *, discriminator_shape=None):
    return Maker(image_shape, latent), OfImages(discriminator_shape or image_shape)


def labelled(image_shape, latent, classes):
    return Maker(image_shape, latent, classes), ByLabel(image_shape, classes)


def half_labelled(image_shape, latent, classes):
    return Maker(image_shape, latent, classes), OfImages(image_shape)


def optional(image_shape, latent, classes):
    return Maker(image_shape, latent), WithOptionalLabels(image_shape)


def heads(image_shape, latent, classes):
    return Maker(image_shape, latent), WithHeads(image_shape)


def growing(image_shape, latent, classes):
    return GrowingMaker(image_shape, latent), Growing(image_shape), Growing(image_shape, latent)


def architecture(name, build, **options):
    return ganzoo.Architecture(name, build, latent=4, image_sizes=(8,), channels=(1,), **options)


THREE = ("generator", "discriminator", "encoder")


@ganzoo.hookimpl
def ganzoo_architectures():
    yield architecture(
        "pairs",
        pairs,
        players=THREE,
        present=lambda generator, encoder, real, latent: ((real, encoder(real)), (generator(latent), latent)),
    )
    yield architecture("plain", plain)
    yield architecture("labelled", labelled, conditional=True)
    yield architecture("half-labelled", half_labelled, conditional=True)
    yield architecture("optional", optional)
    yield architecture("heads", heads)
    yield architecture("growing", growing, players=THREE, stages=lambda image_shape: ((0.5, 4), (1.0, 8)))
    yield architecture(
        "drawn", plain, sample=lambda generator, latent, labels, *, truncation=0.5: generator(truncation * latent)
    )


# --- losses -----------------------------------------------------------------------------------------------------------


def judge_pairs(generator, discriminator, encoder, batch):
    real = discriminator(batch.real, encoder(batch.real))
    fake = discriminator(generator(batch.latent), batch.latent)
    return {"real": softplus(-real).mean(), "fake": softplus(fake).mean()}


def fool_pairs(generator, discriminator, encoder, batch):
    code = encoder(batch.real)
    fake = discriminator(generator(batch.latent), batch.latent)
    return {"fool": softplus(-fake).mean(), "real_fool": softplus(discriminator(batch.real, code)).mean()}


def judge(generator, discriminator, batch):
    real, fake = discriminator(batch.real, batch.labels), discriminator(generator(batch.latent, batch.labels), None)
    return {"real": relu(1 - real).mean(), "fake": relu(1 + fake).mean()}


def fool(generator, discriminator, batch):
    return {"fool": -discriminator(generator(batch.latent, batch.labels), batch.labels).mean()}


def code(generator, encoder, batch):
    return {"code": (encoder(generator(batch.latent)) - batch.latent).square().mean()}


def of_phases(name, first, second, *more, updates="generator", **options):
    phases = (ganzoo.Phase("discriminator", first, "discriminator"), ganzoo.Phase("generator", second, updates), *more)
    return ganzoo.Loss(name, phases=phases, **options)


def least_squares(name, **options):
    return ganzoo.Loss.of_logits(
        name,
        discriminator=lambda real, fake: {"real": (real - 1).square().mean(), "fake": fake.square().mean()},
        generator=lambda fake: {"fool": (fake - 1).square().mean()},
        **options,
    )


def noted(**what):
    SEEN.append(what)


def of_generator(generator, fake, fake_logits):
    noted(player="generator", fake=fake.requires_grad, logits=fake_logits.requires_grad)
    return fake.square().mean()


def of_judge(discriminator, fake, fake_logits):
    noted(player="discriminator", fake=fake.requires_grad, logits=fake_logits.requires_grad)
    return 0.1 * fake_logits.square().mean()


def of_inputs(discriminator, real, fake, real_logits):
    noted(real=tuple(real.shape), fake=tuple(fake.shape), logits=tuple(real_logits.shape), images=real.detach())
    return 0.0 * real_logits.mean()


def path(generator, latent, weight):
    """The generator's slope by its latents, as in path length regularization."""
    slope = gradient(lambda z: generator(z) * torch.randn((), device=z.device), latent)
    return weight * squared_norm(slope).mean()


def turned(discriminator, real):
    """Rotations that the judge is to tell (SSGAN)."""
    images = torch.cat([real.rot90(turns, (2, 3)) for turns in range(4)])
    turns = torch.arange(4, device=real.device).repeat_interleave(len(real))
    return cross_entropy(discriminator.heads(images)["rotation"], turns)


def shade(images, strength):
    return images + strength * (torch.rand(len(images), 1, 1, 1, device=images.device) - 0.5)


def adapt(real_logits, images_seen, strength):
    return {"strength": (strength + 0.02 * (0.5 + real_logits.sign().mean())).clamp(0, 1)}


@ganzoo.hookimpl
def ganzoo_losses():
    both = ("generator", "encoder")
    yield of_phases("pairs-phases", judge_pairs, fool_pairs, updates=both, share_fakes=True)
    yield of_phases("hinge-phases", judge, fool, share_fakes=True)
    yield of_phases("hinge-apart", judge, fool)
    yield of_phases("three", judge, fool, ganzoo.Phase("encoder", code, "encoder"))
    yield ganzoo.Loss.of_logits(
        "rotations",
        discriminator=lambda real, fake, real_heads: {
            "pair": (fake - real).mean(),
            "heads": real_heads["rotation"].square().mean(),
        },
        generator=lambda fake, fake_heads: {"fool": -fake.mean() + fake_heads["rotation"].square().mean()},
    )
    yield least_squares("squares")
    yield least_squares("squares-declared", real_side=lambda real: {"fool": real.square().mean()})
    yield ganzoo.Loss.of_logits(
        "relative",
        discriminator=lambda real, fake: {"pair": softplus(fake - real).mean()},
        generator=lambda real, fake: {"pair": softplus(real - fake).mean()},
    )
    yield ganzoo.Penalty("of-generator", of_generator, player="generator")
    yield ganzoo.Penalty("of-judge", of_judge)
    yield ganzoo.Penalty("of-inputs", of_inputs)
    yield ganzoo.Penalty("path", path, hyper={"weight": 0.1}, player="generator")
    yield ganzoo.Penalty("turned", turned)
    for every in (4, 16):
        yield ganzoo.Penalty(f"steep-{every}", lambda real_logits: real_logits.square().mean(), every=every)
    yield ganzoo.Augmentation("ones", lambda images: images * 0 + torch.arange(1.0, len(images) + 1).view(-1, 1, 1, 1))
    yield ganzoo.Augmentation("doubled", lambda images: 2 * images)
    yield ganzoo.Augmentation("shade", shade, state={"strength": 0.1}, adapt=adapt)
