"""One of two plugins that offer the same names."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("twin", architecture="dcgan", loss="twin-loss", batch_size=16, summary="the first twin")
    yield ganzoo.Variant("only-a", architecture="dcgan", loss="non-saturating")


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss.of_logits(
        "twin-loss",
        discriminator=lambda real, fake: {"gap": fake.mean() - real.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
    )
