"""MNIST: 60 000 handwritten digits (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.torchvision_datasets import IDX_FILES, Source, fetch, read

MNIST = Source(
    "mnist",
    kind="MNIST",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    folder="MNIST/raw",
    downloads={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    unpacked_folder="MNIST/raw",
    unpacked=IDX_FILES,
)


def read_mnist(root: Path, size: int, train: bool = True) -> tuple[Tensor, Tensor]:
    """uint8 (N, 1, size, size) and int64 (N,), 0 to 9, of the training or the test split; raises `DataUnavailable`.

    Resized (bilinear, antialiased) where `size` is not 28.
    """
    mnist = read(replace(MNIST, arguments={"train": train}), root)
    return ganzoo.resize_images(mnist.data[:, None], size), mnist.targets


def load(request: ganzoo.DatasetRequest) -> ganzoo.LabelledImages:
    """The training and the test split, as `read_mnist` gives them."""
    images, labels = read_mnist(request.root, request.image_size)
    test_images, test_labels = read_mnist(request.root, request.image_size, train=False)
    return ganzoo.LabelledImages(images, labels, test_images, test_labels, source="torchvision.datasets.MNIST")


def fingerprint(request: ganzoo.DatasetRequest) -> str:
    """Place and state of the four files, which are downloaded first where they are absent."""
    return ganzoo.fingerprint_files(fetch(MNIST, request.root))


@ganzoo.hookimpl
def ganzoo_datasets() -> Iterator[ganzoo.Dataset]:
    """`--dataset mnist`."""
    yield ganzoo.Dataset(
        "mnist",
        load,
        fingerprint,
        summary="60 000 handwritten digits, 28 px grey, 10 classes",
        reference="LeCun et al. 1998, doi:10.1109/5.726791",
        image_size=28,
        features="mnist-cnn",
        kimg=400.0,
        fakes=10_000,
        images="digits",
    )
