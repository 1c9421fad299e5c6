"""What a score must beat before it is believed: a Gaussian of the pixels, and generators that were not trained."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ganzoo.evaluation import pixel_gaussian
from ganzoo.evaluation.pixel_gaussian import pixel_gaussian_batches


def some_dataset(images: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(images=lambda: images, image_shape=images.shape[1:])


def drawn(images: np.ndarray, count: int, size: int) -> torch.Tensor:
    return torch.cat(list(pixel_gaussian_batches(some_dataset(images), count, size)))


def test_pixel_gaussian_has_the_mean_and_the_covariance_of_the_real_pixels(monkeypatch):
    """Against NumPy's own on 2 x 3 pixels that depend on each other; three blocks, the last one short."""
    monkeypatch.setattr(pixel_gaussian, "IMAGES_AT_ONCE", 300)
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(700, 6)) @ rng.normal(size=(6, 6)) * 6 + np.linspace(110, 140, 6)
    images = mixed.clip(0, 255).round().astype(np.uint8).reshape(700, 1, 2, 3)
    fakes = drawn(images, 40_000, 5_000)
    assert (fakes.dtype, fakes.shape) == (torch.uint8, (40_000, 1, 2, 3))
    real, fake = images.reshape(700, 6).astype(float), fakes.numpy().reshape(-1, 6).astype(float)
    deviation = real.std(0)
    np.testing.assert_allclose(fake.mean(0), real.mean(0), atol=5 * deviation.max() / 200)
    np.testing.assert_allclose(np.cov(fake.T), np.cov(real.T), atol=0.05 * deviation.max() ** 2)


def test_pixel_gaussian_is_the_same_each_time_and_keeps_what_all_images_share():
    images = np.random.default_rng(1).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    images[:, 1, 2, 2] = 77
    first, again = drawn(images, 64, 64), drawn(images, 64, 64)
    assert torch.equal(first, again)
    assert (first[:, 1, 2, 2] == 77).all()
    assert len(torch.unique(first.flatten(1), dim=0)) == 64


@pytest.mark.parametrize(("count", "size"), [(7, 3), (1, 5), (6, 6)])
def test_pixel_gaussian_gives_as_many_as_asked_for(count, size):
    images = np.zeros((5, 1, 2, 2), dtype=np.uint8)
    batches = list(pixel_gaussian_batches(some_dataset(images), count, size))
    assert sum(map(len, batches)) == count
    assert max(map(len, batches)) <= size
