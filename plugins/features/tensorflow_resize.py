"""The pixels that torch-fidelity gives its networks: TensorFlow 1's bilinear resize, then mean and deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's colours in [0, 1], as torchvision's networks expect them."""

IN_WORDS = "grey repeated to RGB, TensorFlow 1's bilinear resize to {} px (no antialias), {} mean and deviation"


class TensorFlowResize(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to float32 (N, 3, size, size): resized, less the mean, over the deviation.

    `colours` are mean and standard deviation in [0, 1]. torch-fidelity resizes so before every network; others resize
    otherwise, and their numbers do not compare.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, colours: tuple[tuple[float, ...], tuple[float, ...]]):
        super().__init__()
        self.size = (size, size)
        for name, values in zip(("mean", "deviation"), colours, strict=True):
            self.register_buffer(name, torch.tensor([255 * value for value in values])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        pixels = images.expand(-1, 3, -1, -1).float()
        pixels = interpolate_bilinear_2d_like_tensorflow1x(pixels, size=self.size, align_corners=False)
        return (pixels - self.mean) / self.deviation
