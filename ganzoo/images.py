"""Images as tensors: between uint8 and [-1, 1], resizing, grids, PNG files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganzoo.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """float in [-1, 1] to uint8 in [0, 255], rounded to the nearest; inverse of `to_unit_range`. Any shape."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def resize_images(images: Tensor, size: int) -> Tensor:
    """uint8 (N, C, H, W) to uint8 (N, C, size, size): bilinear, antialiased, with torchvision's v2 transform."""
    if images.shape[-2:] == (size, size):
        return images
    from torchvision.transforms.v2 import functional as transforms

    return transforms.resize(images, [size, size], antialias=True)


def grid(images: Tensor, columns: int | None = None, padding: int = 2) -> Tensor:
    """uint8 (N, C, H, W) to one uint8 (C, rows·(H+padding)+padding, …) picture on white, nearest to a square."""
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    picture = images.new_full(
        (channels, rows * (height + padding) + padding, columns * (width + padding) + padding), 255
    )
    for index, image in enumerate(images):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        picture[:, top : top + height, left : left + width] = image
    return picture


def save_png(picture: Tensor, path: Path, scale: int = 1) -> None:
    """Write a uint8 (C, H, W) picture, C = 1 or 3, as PNG, atomically; `scale` repeats each pixel."""
    pixels = picture.cpu().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    image = _as_image(pixels)
    write_atomically(path, lambda stream: image.save(stream, format="PNG"))


def save_numbered_pngs(batches: Iterable[Tensor], folder: Path, digits: int) -> int:
    """Write every uint8 (C, H, W) image of the batches to `folder` as `00000.png`, …, as it comes; how many there were.

    Where one cannot be written, what there is of it is removed, and the `OSError` goes on.
    """
    count = 0
    for batch in batches:
        for picture in batch:
            path = folder / f"{count:0{digits}}.png"
            try:
                _as_image(picture).save(path)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            count += 1
    return count


def _as_image(picture: Tensor) -> Image.Image:
    from PIL import Image

    return Image.fromarray((picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)).numpy())
