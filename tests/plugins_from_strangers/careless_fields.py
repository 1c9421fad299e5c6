"""A variant whose batch size was read from a text file."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("careless", architecture="dcgan", loss="hinge", batch_size="64")
