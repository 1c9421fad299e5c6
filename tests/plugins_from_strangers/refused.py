"""What version 2 of the language refuses before anything is trained, each under the name of what is wrong with it."""

import math

import torch
from torch import nn
from torch.nn.functional import softplus

import ganzoo


def generator(image_shape, latent):
    return nn.Sequential(nn.Linear(latent, math.prod(image_shape)), nn.Tanh(), nn.Unflatten(1, image_shape))


def discriminator(image_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 1), nn.Flatten(0))


def plain(image_shape, latent, classes, *, discriminator_shape=None):
    return generator(image_shape, latent), discriminator(discriminator_shape or image_shape)


def with_encoder(image_shape, latent, classes):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), latent))
    return {
        "generator": generator(image_shape, latent),
        "discriminator": discriminator(image_shape),
        "encoder": encoder,
    }


class ByLabel(nn.Module):
    """A network whose output depends on labels."""

    def __init__(self, network, classes, width):
        super().__init__()
        self.network, self.shift = network, nn.Embedding(classes, width)

    def forward(self, x, labels):
        return self.network(x) + self.shift(labels).mean(1).view(-1, *[1] * (self.network(x).dim() - 1)).tanh() * 0


def conditional(image_shape, latent, classes, *, discriminator_shape=None):
    return ByLabel(generator(image_shape, latent), classes, 4), ByLabel(discriminator(image_shape), classes, 4)


WEIGHTS = ganzoo.Weights("of-refused.pt", sha256="0" * 64, package="no-such-package")


def with_weights(image_shape, latent, classes, *, width: int = 1):
    networks = plain(image_shape, latent, classes)
    networks[1][1].load_state_dict(torch.load(ganzoo.weights_file(WEIGHTS), weights_only=True))
    return networks


def architecture(name, build=plain, **options):
    return ganzoo.Architecture(name, build, latent=8, image_sizes=None, **options)


@ganzoo.hookimpl
def ganzoo_architectures():
    yield architecture("plain")
    yield architecture("encoder", with_encoder, players=("generator", "discriminator", "encoder"))
    yield architecture("conditional", conditional, conditional=True)
    yield architecture("late-stage", stages=lambda image_shape: ((0.5, 16), (1.0, 48)))
    yield architecture("odd-stage", stages=lambda image_shape: ((0.5, 5), (1.0, image_shape[1])))
    yield architecture("elsewhere", with_weights)


def terms(real, fake):
    return {"real": softplus(-real).mean(), "fake": softplus(fake).mean()}


def judge(generator, discriminator, batch):
    return terms(discriminator(batch.real), discriminator(generator(batch.latent)))


def judge_again(generator, discriminator, batch):
    more = discriminator(generator(torch.randn_like(batch.latent)))
    return terms(discriminator(batch.real), torch.cat([discriminator(generator(batch.latent)), more]))


def judge_with_codes(generator, discriminator, batch):
    return terms(discriminator(batch.real, batch.latent), discriminator(generator(batch.latent)))


def fool(generator, discriminator, batch):
    return {"fool": softplus(-discriminator(generator(batch.latent))).mean()}


def fool_and_code(generator, discriminator, critic, batch):
    return fool(generator, discriminator, batch)


def phases(name, first=judge, second=fool):
    updates = ganzoo.Phase("discriminator", first, "discriminator"), ganzoo.Phase("generator", second, "generator")
    return ganzoo.Loss(name, phases=updates)


def adapting(name):
    return ganzoo.Augmentation(
        name,
        lambda images, p: images + p,
        state={"p": 0.0},
        adapt=lambda real_logits, images_seen, p: {"p": p + real_logits.mean() * 0},
    )


@ganzoo.hookimpl
def ganzoo_losses():
    yield phases("phases")
    yield phases("judged-twice", judge_again)
    yield phases("surplus", judge_with_codes)
    yield phases("unknown-player", second=fool_and_code)
    yield ganzoo.Loss.of_logits("of-logits", discriminator=terms, generator=lambda fake: {"fool": -fake.mean()})
    yield ganzoo.Loss.of_logits(
        "by-labels",
        discriminator=lambda real, fake, labels: {"pair": ((fake - real) * (1 + labels)).mean()},
        generator=lambda fake: {"fool": -fake.mean()},
    )
    yield ganzoo.Penalty("of-fakes", lambda discriminator, fake: discriminator(fake).square().mean())
    yield ganzoo.Penalty("of-labels", lambda real_logits, labels: (real_logits * labels).mean())
    yield ganzoo.Penalty("of-nobody", lambda real_logits: real_logits.mean(), player="critic")
    yield ganzoo.Augmentation("halving", lambda images: images[:, :, ::2, ::2])
    yield adapting("first")
    yield adapting("second")
