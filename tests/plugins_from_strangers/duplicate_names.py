"""A loop that forgot to change the name."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    for batch_size in (64, 128):
        yield ganzoo.Variant("sweep", architecture="dcgan", loss="hinge", batch_size=batch_size)
