"""State and monitors: LeCam's averages, a balance like BEGAN's, and everything that can be wrong with them."""

import torch
from torch.nn.functional import relu, softplus

import ganzoo


def averages(real_logits, fake_logits, *, weight, decay, real_mean, fake_mean):
    """Regularizes towards the averages of the other side (Tseng et al. 2021, arXiv:2104.03310)."""
    distance = (real_logits - fake_mean).square().mean() + (fake_logits - real_mean).square().mean()
    after = {
        "real_mean": decay * real_mean + (1 - decay) * real_logits.mean(),
        "fake_mean": decay * fake_mean + (1 - decay) * fake_logits.mean(),
    }
    return ganzoo.Terms({"distance": weight * distance}, monitors={"gap": real_mean - fake_mean}, state=after)


def balanced(real, fake, *, k, rate):
    """The discriminator sees fakes the more, the better it does on real images; k is kept in [0, 1]."""
    on_real, on_fake = softplus(-real).mean(), softplus(fake).mean()
    return ganzoo.Terms(
        {"real": on_real, "fake": k * on_fake},
        monitors={"measure": on_real + (on_real - on_fake).abs()},
        state={"k": (k + rate * (on_fake - on_real)).clamp(0, 1)},
    )


def loss(name, discriminator, generator=lambda fake: {"fool": softplus(-fake).mean()}, **options):
    return ganzoo.Loss.of_logits(name, discriminator=discriminator, generator=generator, **options)


def hinge(real, fake, **more):
    return {"real": relu(1 - real).mean(), "fake": relu(1 + fake).mean()}


@ganzoo.hookimpl
def ganzoo_losses():
    start = {"real_mean": 0.0, "fake_mean": 0.0}
    yield ganzoo.Penalty("averages", averages, hyper={"weight": 0.3, "decay": 0.9}, state=start)
    yield loss("balanced", balanced, hyper={"rate": 0.1}, state={"k": 0.5})
    yield loss("undeclared", lambda real, fake: ganzoo.Terms({"pair": (fake - real).mean()}, state={"k": fake.mean()}))
    yield loss(
        "misshapen",
        lambda real, fake, k: ganzoo.Terms({"pair": (fake - k * real).mean()}, state={"k": torch.stack([k, k])}),
        state={"k": 0.0},
    )
    yield loss("unwritten", lambda real, fake, k: {"pair": (fake - k * real).mean()}, state={"k": 0.0})
    yield loss(
        "unread",
        lambda real, fake: ganzoo.Terms({"pair": (fake - real).mean()}, state={"k": fake.mean()}),
        state={"k": 0.0},
    )
    yield loss(
        "twice-written",
        lambda real, fake, k: ganzoo.Terms({"pair": (fake - k * real).mean()}, state={"k": k + 1}),
        lambda fake, k: ganzoo.Terms({"fool": -(k * fake).mean()}, state={"k": k + 1}),
        state={"k": 0.0},
    )
    yield loss(
        "named-twice", lambda real, fake: ganzoo.Terms({"pair": (fake - real).mean()}, monitors={"pair": real.mean()})
    )
    yield loss("vector", lambda real, fake: ganzoo.Terms({"pair": (fake - real).mean()}, monitors={"real": real}))
    yield loss("no-terms", lambda real, fake: (fake - real).mean())
    yield loss(
        "exploding",
        lambda real, fake, k: ganzoo.Terms({"pair": (fake - real + k).mean()}, state={"k": (k + 1e30) ** 2}),
        state={"k": 1.0},
    )
