"""Forgot the decorator."""

import ganzoo


def ganzoo_variants():
    yield ganzoo.Variant("undecorated", architecture="dcgan", loss="hinge")
