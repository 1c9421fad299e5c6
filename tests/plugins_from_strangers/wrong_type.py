"""Yields a dict where a record is wanted."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("right-type", architecture="dcgan", loss="hinge")
    yield {"name": "wrong-type", "architecture": "dcgan", "loss": "hinge"}
