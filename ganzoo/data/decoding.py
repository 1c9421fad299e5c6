"""The images of a dataset's plugin, decoded one by one, some of them in processes of their own, and checked."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from ganzoo.errors import DataUnavailable, GanzooError, PluginError
from ganzoo.machine.settings import resolve_threads
from ganzoo.registry.validation import blaming
from ganzoo.util.text import printable

WORTH_PROCESSES = 512
"""From this many images on, decoding in worker processes is faster than in one, their start included."""


def all_decoded(images: Any, chosen: Sequence[int], name: str, independent: bool) -> Iterator[np.ndarray]:
    """The chosen images of a plugin in order; many `independent` ones are decoded by a process on each core."""
    # Forked processes, because a plugin's objects need not survive pickling; on Linux only, where forking is safe.
    workers = resolve_threads(None) if independent and len(chosen) >= WORTH_PROCESSES and sys.platform == "linux" else 0
    loader: Any = DataLoader(
        _Decoding(images, name),  # type: ignore[arg-type]
        batch_size=32,
        sampler=chosen,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    try:
        for batch in loader:
            for item in batch:
                if isinstance(item, GanzooError):
                    raise item
                yield checked(item, name)
    except RuntimeError as error:
        # A worker was killed, or there is no shared memory left.
        raise DataUnavailable(f"dataset {printable(name)} cannot be decoded: {printable(error)}") from error


class _Decoding:
    """A plugin's images as a map-style dataset. An error is returned as an item, to reach the parent whole."""

    def __init__(self, images: Any, name: str) -> None:
        self.images = images
        self.name = name

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        try:
            # Arrays are pickled between processes; tensors would take a piece of shared memory each.
            return np.asarray(decoded(self.images, index, self.name))
        except GanzooError as error:
            return DataUnavailable(str(error))


def decoded(images: Any, index: int, name: str) -> Any:
    """One item of a plugin's images; what decoding raises becomes `DataUnavailable` with the index."""
    with blaming(DataUnavailable, f"dataset {printable(name)}: image {index} cannot be read"):
        return images[index]


def checked(image: Any, name: str) -> np.ndarray:
    """An image as uint8 (C, H, W). Raises `PluginError` for anything else."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3:
        raise PluginError(f"dataset {name}: an image is {array.dtype} {array.shape}; it must be uint8 (C, H, W)")
    return array
