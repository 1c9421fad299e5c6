"""Valid but for one hook that asks for an argument that there is not."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_event(event):
    raise AssertionError("an observer of a plugin that did not load was called")


@ganzoo.hookimpl
def ganzoo_losses():
    yield ganzoo.Penalty("half-registered", lambda discriminator, real, fake, labels, hyper: real.sum())


@ganzoo.hookimpl
def ganzoo_variants(registry):
    yield ganzoo.Variant("greedy", architecture="dcgan", loss="hinge")
