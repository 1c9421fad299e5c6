"""A name that would clear the terminal."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("\x1b[2Jcleared", architecture="dcgan", loss="hinge")
