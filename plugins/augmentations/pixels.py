"""Differentiable look-ups of pixels, to any order and without waiting for the device.

`torch.nn.functional.grid_sample` has no second derivative, which penalties on gradients need. Places are whole numbers
as floats, in which arithmetic is several times faster than in int64 on a CPU.
"""

from __future__ import annotations

from torch import Tensor


def reflected(places: Tensor, size: int) -> Tensor:
    """Places beyond 0 … size - 1, folded back at the outermost pixels as in `reflect` padding; any shape."""
    period = max(2 * (size - 1), 1)
    places = places - period * (places / period).floor()
    return (size - 1) - (places - (size - 1)).abs()


def picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (N, C, H, W) of which row i is the old row `rows[n, i]`, (N, H), and the same of columns, (N, W)."""
    images = images.gather(2, rows.long()[:, None, :, None].expand_as(images))
    return images.gather(3, columns.long()[:, None, None, :].expand_as(images))


def looked_up(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The colours at points `x`, `y`, (N, H, W) in pixels from the first one, between four pixels by bilinear weights.

    Beyond the border the image is reflected.
    """
    height, width = images.shape[2:]
    left, top = x.floor(), y.floor()
    right_share, lower_share = x - left, y - top
    rows = [(reflected(top, height) * width, 1 - lower_share), (reflected(top + 1, height) * width, lower_share)]
    columns = [(reflected(left, width), 1 - right_share), (reflected(left + 1, width), right_share)]
    flat = images.flatten(2)
    colours = [
        flat.gather(2, (row + column).long().flatten(1)[:, None].expand_as(flat))
        * (row_share * column_share).flatten(1)[:, None]
        for row, row_share in rows
        for column, column_share in columns
    ]
    return sum(colours[1:], colours[0]).view_as(images)
