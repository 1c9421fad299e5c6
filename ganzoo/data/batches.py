"""Endless batches of real images, resident on the device or streamed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.prepared import PreparedDataset
from ganzoo.util.images import to_unit_range
from ganzoo.util.seeds import stream

RESIDENT_SHARE = 0.4
"""The share of the device's free memory that a dataset may take before it is streamed."""


class Batches:
    """Endless batches of real images, each epoch in a fresh order, wrapping around so that all have one size.

    Iterating gives `(real, labels)`: float32 (N, C, H, W) in [-1, 1] on the device, and int64 (N,) or None. `drawn`
    counts images. Order and flips have a random stream each. With `resident=False` the images stay in the memory map,
    and a thread gathers the next batches while this one is used; `wait_seconds` is the time spent waiting for it. With
    `channels_last` the batches have that memory format.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        batch_size: int,
        seed: int,
        device: str,
        flips: bool = False,
        resident: bool | None = None,
        channels_last: bool = False,
    ) -> None:
        images, labels = dataset.images(), dataset.labels()
        self.resident = fits(images.nbytes, device) if resident is None else resident
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.count = len(images)
        self.drawn = 0
        self.wait_seconds = 0.0
        self._mapped = None if self.resident else images
        self._channels_last = channels_last
        self._images = None
        if self.resident:
            # Kept as (N, H, W, C) for channels_last, so that a gathered batch needs no reordering.
            stored = np.array(images.transpose(0, 2, 3, 1) if channels_last else images, order="C")
            self._images = torch.from_numpy(stored).to(device)
        self._labels = None if labels is None else torch.from_numpy(labels).to(device)
        # Drawn on the CPU, so that one seed means one order on all hardware, resident or streamed.
        self._order_rng = stream(seed, "order")
        self._flip_rng = stream(seed, "flips", self.device) if flips else None
        self._order = torch.empty(0, dtype=torch.int64, device=self.device if self.resident else "cpu")
        self._ahead: list[tuple[Tensor, Future[Tensor]]] = []
        self._source = self._resident() if self.resident else self._streamed()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor | None]:
        pixels, index = next(self._source)
        real = to_unit_range(pixels)
        if self._flip_rng is not None:
            flip = torch.rand(len(real), 1, 1, 1, device=self.device, generator=self._flip_rng) < 0.5
            real = torch.where(flip, real.flip(-1), real)
        self.drawn += len(real)
        return real, None if self._labels is None else self._labels[index]

    def some_labels(self, count: int, rng: torch.Generator) -> Tensor | None:
        """(count,) labels drawn as the data has them, with replacement; None where it has none."""
        if self._labels is None:
            return None
        return self._labels[torch.randint(self.count, (count,), generator=rng, device=self.device)]

    def position(self) -> dict[str, Tensor]:
        """The state for `go_to`, on the CPU: the rest of the epoch's order, and the states of the random streams."""
        order = torch.cat([*(index for index, _ in self._ahead), self._order])
        flips = {} if self._flip_rng is None else {"flips": self._flip_rng.get_state()}
        return {"order": order.cpu(), "shuffles": self._order_rng.get_state(), **flips}

    def go_to(self, position: Mapping[str, Tensor], drawn: int) -> None:
        """Go on from a `position`, before the first batch is drawn."""
        self._order = position["order"].to(self._order.device)
        self._order_rng.set_state(position["shuffles"])
        if self._flip_rng is not None:
            self._flip_rng.set_state(position["flips"])
        self.drawn = drawn

    def _next_index(self) -> Tensor:
        while len(self._order) < self.batch_size:
            epoch = torch.randperm(self.count, generator=self._order_rng)
            self._order = torch.cat([self._order, _sent(epoch, self._order.device)])
        index, self._order = self._order[: self.batch_size], self._order[self.batch_size :]
        return index

    def _resident(self) -> Iterator[tuple[Tensor, Tensor]]:
        assert self._images is not None
        while True:
            index = self._next_index()
            pixels = self._images[index]
            yield pixels.permute(0, 3, 1, 2) if self._channels_last else pixels, index

    def _streamed(self) -> Iterator[tuple[Tensor, Tensor]]:
        pinned = self.device.type == "cuda"

        def gather(index: Tensor) -> Tensor:
            assert self._mapped is not None
            pixels = torch.from_numpy(self._mapped[index.numpy()])
            if self._channels_last:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            return pixels.pin_memory() if pinned else pixels

        with ThreadPoolExecutor(max_workers=1) as pool:
            while True:
                while len(self._ahead) < 3:
                    index = self._next_index()
                    self._ahead.append((index, pool.submit(gather, index)))
                index, pixels = self._ahead.pop(0)
                since = time.perf_counter()
                ready = pixels.result()
                self.wait_seconds += time.perf_counter() - since
                yield ready.to(self.device, non_blocking=True), _sent(index, self.device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, for which the host does not wait: it would, were the memory that is read not pinned."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def fits(size: int, device: str) -> bool:
    """Whether `size` bytes of images may stay on `device` next to the networks."""
    if device.startswith("cuda"):
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    return size <= RESIDENT_SHARE * free
