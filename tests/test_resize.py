"""Resizing: one definition in exact arithmetic, so that every device and every order of a sum gives the same bits."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import ganzoo
from ganzoo.util.images import WEIGHT_UNITS, _bilinear_filter, resize_images

SIZES = [
    *(((28, 28), 16), ((32, 32), 28), ((16, 16), 28), ((64, 64), 28)),
    *(((100, 37), 64), ((5, 5), 3), ((1, 1), 4), ((3, 9), 1)),
]


def noise(height: int, width: int, count: int = 8) -> torch.Tensor:
    rng = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=rng)


def dense(length: int, size: int) -> torch.Tensor:
    """The weights as whole numbers of units: int64 (size, length)."""
    weights = torch.zeros(size, length, dtype=torch.float64)
    row = 0
    for band in _bilinear_filter(length, size):
        count = band.weights.shape[1]
        weights[row : row + count, band.start : band.end] = band.weights.T * WEIGHT_UNITS
        row += count
    assert torch.equal(weights, weights.round())
    return weights.long()


@pytest.mark.parametrize(("sides", "size"), SIZES)
def test_resized_pixels_are_those_of_whole_numbers(sides, size):
    """As a device computes them that has no floating point at all: int64 sums, then halves to even."""
    images = noise(*sides)
    down, across = dense(sides[0], size), dense(sides[1], size)
    sums = torch.einsum("oh,nchw,pw->ncop", down, images.long(), across)
    unit = WEIGHT_UNITS**2
    below, rest = sums // unit, sums % unit
    above = (2 * rest > unit) | ((2 * rest == unit) & (below % 2 == 1))
    assert torch.equal(resize_images(images, size), (below + above).to(torch.uint8))


@pytest.mark.parametrize(("sides", "size"), SIZES)
def test_the_filter_is_that_of_torchvision(sides, size):
    """Its float32 kernel, to the last digits: rounding may go the other way where the value is a half."""
    from torchvision.transforms.v2 import functional

    images = noise(*sides)
    expected = functional.resize(images.float(), [size, size], antialias=True)
    assert (resize_images(images, size).float() - expected).abs().max() < 0.501


def test_weights_are_shares_of_one_triangle():
    for length, size in ((7, 3), (3, 7), (1000, 16)):
        weights = dense(length, size)
        assert (weights >= 0).all()
        assert weights.sum(1).tolist() == [WEIGHT_UNITS] * size
    exact = [Fraction(3, 7), Fraction(3, 7), Fraction(1, 7)]
    assert [round(share * WEIGHT_UNITS) for share in exact] == pytest.approx(dense(6, 3)[0, :3].tolist(), abs=2)


def test_pixels_do_not_depend_on_company_layout_or_threads():
    images = noise(40, 30, count=300)
    resized = resize_images(images, 16)
    assert torch.equal(resize_images(images[7:8], 16), resized[7:8])
    assert torch.equal(resize_images(images.contiguous(memory_format=torch.channels_last), 16), resized)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert torch.equal(resize_images(images, 16), resized)
    finally:
        torch.set_num_threads(before)


def test_flat_pictures_stay_flat_and_those_of_the_right_size_as_they_are():
    for shade in (0, 1, 127, 254, 255):
        flat = torch.full((1, 1, 50, 40), shade, dtype=torch.uint8)
        assert ganzoo.resize_images(flat, 16).unique().tolist() == [shade]
    images = noise(16, 16)
    assert resize_images(images, 16) is images
