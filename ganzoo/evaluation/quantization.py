"""Images of a generator to uint8, as if they had been saved as PNG; those that are not finite cannot be.

uint8 of NaN is 0, a black image that a score would take for one. So every image is looked at before it is quantized.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.errors import Diverged
from ganzoo.util.images import to_uint8


class Quantizer:
    """Makes images uint8 and counts those with a value that is not finite, without waiting for the device."""

    def __init__(self, whose: str) -> None:
        self.whose = whose
        self.drawn = 0
        self._broken: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """float (N, C, H, W) in [-1, 1] to uint8 (N, C, H, W)."""
        broken = len(images) - torch.isfinite(images).flatten(1).all(1).sum()
        self._broken = broken if self._broken is None else self._broken + broken
        self.drawn += len(images)
        return to_uint8(images)

    def check(self) -> None:
        """Raise `Diverged` if an image so far was not finite."""
        broken = 0 if self._broken is None else int(self._broken)
        if broken:
            raise Diverged(
                f"{broken:,} of {self.drawn:,} images of {self.whose} hold values that are not finite; lower the "
                "learning rate"
            )
