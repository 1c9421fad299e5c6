"""Needs a package that is not installed."""

import a_package_that_nobody_has

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("unimportable", architecture=a_package_that_nobody_has.NAME, loss="hinge")
