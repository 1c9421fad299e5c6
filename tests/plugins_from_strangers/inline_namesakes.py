"""Two losses that differ, both written in place of a name and both called the same."""

import ganzoo


def loss(weight):
    return ganzoo.Loss.of_logits(
        "weighted",
        discriminator=lambda real, fake: {"gap": weight * (fake.mean() - real.mean())},
        generator=lambda fake: {"fool": -weight * fake.mean()},
    )


@ganzoo.hookimpl
def ganzoo_variants():
    for weight in (1, 2):
        yield ganzoo.Variant(f"weighted-{weight}", architecture="dcgan", loss=loss(weight))
