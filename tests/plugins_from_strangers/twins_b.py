"""The other of two plugins that offer the same names."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("twin", architecture="dcgan", loss="twin-loss", batch_size=32, summary="the second twin")
    yield ganzoo.Variant("only-b", architecture="dcgan", loss="non-saturating")


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Loss.of_logits(
        "twin-loss",
        discriminator=lambda real, fake: {"gap": fake.mean() - real.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
    )
