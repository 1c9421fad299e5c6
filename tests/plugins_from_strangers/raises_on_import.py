"""Fails while it is imported, with a message of several lines and colours."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("never-seen", architecture="dcgan", loss="hinge")


raise RuntimeError("\x1b[31mno licence found\x1b[0m\nsee line two\r\nand three")
