"""A name that would leave the results folder."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("../../escape", architecture="dcgan", loss="hinge")
