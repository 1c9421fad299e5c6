"""Tries to edit what every other plugin offers."""

import ganzoo


@ganzoo.hookimpl(wrapper=True)
def ganzoo_variants():
    others = yield
    return [] if others else others
