"""Does everything right, without torch: the neighbour that the broken ones must not take down."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("healthy", architecture="dcgan", loss="non-saturating", summary="fine")
