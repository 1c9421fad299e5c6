"""Yields a loss from one hook; the other yields a variant and then raises."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss.of_logits(
        "orphan-loss",
        discriminator=lambda real, fake: {"gap": fake.mean() - real.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
    )


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("yielded-before-it-raised", architecture="dcgan", loss="orphan-loss")
    raise KeyError("data/config.yaml")
