"""Ends the program in the middle of a hook."""

import sys

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("half-way", architecture="dcgan", loss="hinge")
    sys.exit(0)
