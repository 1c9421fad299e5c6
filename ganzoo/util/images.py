"""Images as tensors: between uint8 and [-1, 1], resizing, grids, PNG files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganzoo.util.devices import float64_device
from ganzoo.util.files import NotRegular, open_regular, write_atomically
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from PIL import Image

WEIGHT_UNITS = 2**22
"""A weight of a resize is a whole number of this fraction: a pixel times two of them stays below 2⁵³."""

BAND = 16
"""Pixels of a line that are summed by one product of matrices: few enough that most of its weights are not 0."""

RESIZED_AT_ONCE = 256
"""Images that are in float64 at a time."""


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """float in [-1, 1] to uint8 in [0, 255], rounded to the nearest; inverse of `to_unit_range`. Any shape."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def resize_images(images: Tensor, size: int) -> Tensor:
    """uint8 (N, C, H, W) to uint8 (N, C, size, size): bilinear, antialiased, the same bits on every device.

    The filter is that of Pillow and torchvision. Their uint8 kernels round twice and differ between processors, and a
    sum of float32 depends on its order. Here weights are multiples of 2⁻²², so that every sum is exact in float64 in
    any order, and it is rounded once, halves to even.
    """
    if images.shape[-2:] == (size, size):
        return images
    device = float64_device(images.device)
    down, across = (_bilinear_filter(length, size) for length in images.shape[-2:])
    parts = (_along_lines(part.to(device), across) for part in images.split(RESIZED_AT_ONCE))
    resized = [_along_lines(part.mT, down).mT.round().to(torch.uint8) for part in parts]
    return torch.cat(resized).contiguous().to(images.device)


class Band(NamedTuple):
    """Neighbouring pixels of a new line: weighted sums of the pixels from `start` to `end` of the old one."""

    start: int
    end: int
    weights: Tensor
    """float64 (end - start, pixels), multiples of 2⁻²²; each column sums to 1."""


def _along_lines(images: Tensor, bands: Sequence[Band]) -> Tensor:
    """(…, length) to float64 (…, new length)."""
    return torch.cat(
        [images[..., band.start : band.end].double() @ band.weights.to(images.device) for band in bands], -1
    )


@lru_cache(maxsize=64)
def _bilinear_filter(length: int, size: int) -> tuple[Band, ...]:
    """From `length` pixels to `size`, by triangles; where pixels are lost they are as wide as the step between them."""
    step = length / size
    reach = max(step, 1.0)
    windows = []
    for index in range(size):
        centre = (index + 0.5) * step
        first, end = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), length)
        triangle = [max(1 - abs(place + 0.5 - centre) / reach, 0.0) for place in range(first, end)]
        units = [round(WEIGHT_UNITS * height / math.fsum(triangle)) for height in triangle]
        # What rounding left over goes where it matters least.
        units[units.index(max(units))] += WEIGHT_UNITS - sum(units)
        windows.append((first, units))
    return tuple(_band(windows[index : index + BAND]) for index in range(0, size, BAND))


def _band(windows: Sequence[tuple[int, list[int]]]) -> Band:
    """`windows` are the first pixel of each sum, and its weights in units."""
    start, end = windows[0][0], max(first + len(units) for first, units in windows)
    weights = torch.zeros(end - start, len(windows), dtype=torch.float64, device="cpu")
    for column, (first, units) in enumerate(windows):
        weights[first - start : first - start + len(units), column] = torch.tensor(units, device="cpu").double()
    return Band(start, end, weights / WEIGHT_UNITS)


PADDING = 2
"""The white pixels around each image of a grid."""


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """uint8 (N, C, H, W) to one uint8 (C, rows·(H+PADDING)+PADDING, …) picture on white, nearest to a square."""
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    picture = images.new_full(
        (channels, rows * (height + PADDING) + PADDING, columns * (width + PADDING) + PADDING), 255
    )
    for index, image in enumerate(images):
        top = PADDING + index // columns * (height + PADDING)
        left = PADDING + index % columns * (width + PADDING)
        picture[:, top : top + height, left : left + width] = image
    return picture


def enlargement(height: int) -> int:
    """How many times `save_png` repeats each pixel of images of this height, so that people can see them."""
    return max(1, 64 // height)


def save_png(picture: Tensor, path: Path, scale: int = 1) -> None:
    """Write a uint8 (C, H, W) picture, C = 1 or 3, as PNG, atomically; `scale` repeats each pixel."""
    pixels = picture.cpu().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    image = _as_image(pixels)
    write_atomically(path, lambda stream: image.save(stream, format="PNG"))


def read_grid(path: Path, image_shape: Sequence[int], count: int) -> Tensor:
    """The `count` images of shape (C, H, W) in a PNG that `save_png` wrote of their `grid`: uint8 (count, C, H, W).

    Raises `ValueError` saying what is wrong with the file. The size is checked before any pixel is decoded, so a
    decompression bomb takes no memory. Only PNG is decoded: for PostScript Pillow would run Ghostscript.
    """
    from PIL import Image

    channels, height, width = image_shape
    if min(height, width) < 1:
        raise ValueError(f"holds no images: they would have {width} x {height} pixels")
    # Small images were enlarged by repeating pixels; taking every `scale`-th pixel undoes that.
    scale, columns = enlargement(height), math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    mode = "L" if channels == 1 else "RGB"
    size = (scale * (columns * (width + PADDING) + PADDING), scale * (rows * (height + PADDING) + PADDING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_regular(path) as stream, Image.open(stream, formats=("PNG",)) as picture:
                mode_and_size = (picture.mode, picture.size)
                pixels = np.array(picture) if mode_and_size == (mode, size) else None
    except FileNotFoundError as error:
        raise ValueError("is not there") from error
    except NotRegular as error:
        raise ValueError(f"is {error.strerror}") from error
    except Exception as error:  # Pillow's decoders raise almost anything on a broken file
        raise ValueError(f"is no PNG that can be read: {printable(error, 100)}") from error
    if pixels is None:
        shown, due = (f"{width} x {height} pixels" for width, height in (mode_and_size[1], size))
        raise ValueError(f"is {mode_and_size[0]} of {shown}; {count} images of {channels} channel(s) make {due}")
    cells = torch.from_numpy(pixels)[::scale, ::scale].reshape(size[1] // scale, size[0] // scale, -1)
    cells = cells[PADDING:, PADDING:].unflatten(0, (rows, -1)).unflatten(2, (columns, -1))
    # (rows, H + PADDING, columns, W + PADDING, C)
    images = cells[:, :height, :, :width].permute(0, 2, 4, 1, 3)
    return images.flatten(0, 1)[:count].contiguous()


def save_numbered_pngs(batches: Iterable[Tensor], folder: Path, digits: int) -> int:
    """Write every uint8 (C, H, W) image of the batches to `folder` as `00000.png`, …; returns how many.

    If one cannot be written, its partial file is removed and the `OSError` is raised.
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
