"""The handwritten digits that come with scikit-learn: real data, offline, in a second.

1797 images of 8 x 8 pixels in 17 shades (Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import torch

import ganzoo


def load(request: ganzoo.DatasetRequest) -> ganzoo.LabelledImages:
    """Digits to train on, uint8 (1438, 1, size, size) in [0, 255], and to test on, (359, …), with labels 0 to 9.

    Every fifth is tested on: `digits-cnn` was trained without those, and judges digits that it has not seen.
    The 8 x 8 originals, 0 to 16, are enlarged by bicubic interpolation and clamped: bilinear blurs the strokes, and
    Lanczos rings around them.
    """
    from sklearn.datasets import load_digits
    from torchvision.transforms.v2 import InterpolationMode, functional

    digits = load_digits()
    shades = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    size = [request.image_size, request.image_size]
    enlarged = functional.resize(shades, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    images, labels = enlarged.round().clamp(0, 255).to(torch.uint8), torch.from_numpy(digits.target).long()
    test = torch.arange(len(images)) % 5 == 4
    return ganzoo.LabelledImages(
        images=images[~test],
        labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        source="sklearn.datasets.load_digits",
    )


def fingerprint(request: ganzoo.DatasetRequest) -> str:
    """The originals never change; the pixels that `load` makes of them may, with the version of ganzoo."""
    return f"load_digits-1438+359-ganzoo-{version('ganzoo')}"


@ganzoo.hookimpl
def ganzoo_datasets() -> Iterator[ganzoo.Dataset]:
    """`--dataset digits`."""
    yield ganzoo.Dataset(
        "digits",
        load,
        fingerprint,
        summary="1438 handwritten digits (and 359 to test on), 16 px grey, 10 classes; comes with scikit-learn",
        reference="Alpaydin & Kaynak 1998, https://archive.ics.uci.edu/dataset/80",
        image_size=16,
        features="digits-cnn",
        kimg=300.0,
        fakes=5000,
        images="digits",
    )
