"""Hinge loss on DCGAN.   ganzoo bench --models hinge-dcgan --plugin hinge.py"""
import ganzoo
from torch.nn.functional import relu

HINGE = ganzoo.Loss.of_logits(
    "my-hinge",
    discriminator=lambda real, fake: {"real": relu(1 - real).mean(), "fake": relu(1 + fake).mean()},
    generator=lambda fake: {"fool": -fake.mean()},
)

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("hinge-dcgan", architecture="dcgan", loss=HINGE)
