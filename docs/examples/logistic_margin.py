"""A loss: the logistic loss with a margin, on DCGAN.   ganzoo bench --models margin-dcgan --plugin logistic_margin.py"""

import ganzoo
from torch.nn.functional import softplus


def discriminator_terms(generator, discriminator, batch, *, margin):
    fake = generator(batch.latent, batch.labels)
    real_logits = discriminator(batch.real, batch.labels)
    fake_logits = discriminator(fake, batch.labels)
    return {
        "real": softplus(margin - real_logits).mean(),
        "fake": softplus(margin + fake_logits).mean(),
    }


def generator_terms(generator, discriminator, batch):
    fake = generator(batch.latent, batch.labels)
    return {"fool": softplus(-discriminator(fake, batch.labels)).mean()}


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss(
        "logistic-margin",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
        ),
        hyper={"margin": 1.0},
        summary="the non-saturating loss, where real and fake are to be told apart by a margin",
    )


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant(
        "margin-dcgan", architecture="dcgan", loss="logistic-margin", summary="DCGAN with the logistic margin loss"
    )
