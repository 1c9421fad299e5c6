"""One hook is right, the name of the other lacks an s."""

import ganzoo


@ganzoo.hookimpl
def ganzoo_variant():
    yield ganzoo.Variant("misspelt", architecture="dcgan", loss="hinge")


@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric("misspelt-metric", lambda real, fake, settings: {"zero": 0.0}, better={"zero": "lower"})
