"""The hinge loss on DCGAN's networks (Lim & Ye 2017, arXiv:1705.02894)."""

from __future__ import annotations

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    """DCGAN under the margin of 1, with Adam as hinge GANs use it (no first moment)."""
    yield ganzoo.Variant(
        "hinge",
        architecture="dcgan",
        loss="hinge",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.9)),
        summary="DCGAN with the hinge loss",
        reference="Lim & Ye 2017, arXiv:1705.02894",
    )
