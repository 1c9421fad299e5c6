"""Balls around images that reach their k-th nearest neighbour, and what lies in them, by blocks of images.

Each figure is there once for all images, in column 0, and in column 1 + g without the images of group g, for the
jackknife. Distances are squared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import ganzoo

GROUPS = 20
"""So many groups of images are left out in turn."""

SPARE = 10
"""Neighbours beside the k nearest whose distances are kept: they come up where a group is left out."""

ROUNDING = 1e-13
"""A distance is right to this share of the largest squared length, in whichever order it was summed."""

BLOCK = 1 << 22
"""Distances at a time: 32 MiB, and as much again for what is done with them."""


def all_finite(*samples: ganzoo.Sample) -> bool:
    """Whether every feature of these sides is a finite number."""
    return all(bool(sample.features.isfinite().all()) for sample in samples)


def points_of(sample: ganzoo.Sample) -> Tensor:
    """The features of a side, float64 (N, D), where its statistics are: on the accelerator, if that has float64."""
    return sample.features.to(sample.statistics()[0].device, torch.float64)


@dataclass(frozen=True)
class Grouped:
    """Images of a side in groups, one group after another."""

    points: Tensor
    """float64 (N, D)."""
    groups: Tensor
    """int64 (N,), from 0 to G − 1, ascending."""

    @classmethod
    def of(cls, points: Tensor) -> Grouped:
        """Groups of equal size, drawn at random: the order of images may be that of their classes."""
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0)).to(points.device)
        numbers = torch.arange(len(points), device=points.device)
        return cls(points[order], numbers * min(GROUPS, len(points)) // len(points))

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.groups[-1]) + 1

    def kept(self) -> Tensor:
        """bool (N, 1 + G): whether an image is there without a group."""
        numbers = torch.arange(-1, self.count, device=self.groups.device)
        return self.groups[:, None] != numbers

    def distances_to(self, others: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The distances (n, M) of the images to `others` (M, D), by blocks: `(the first image, block)`.

        Between equal images they are 0, up to rounding.
        """
        lengths, other_lengths = self.points.square().sum(1), others.square().sum(1)
        size = max(1, BLOCK // len(others))
        for start in range(0, len(self.points), size):
            block = torch.addmm(other_lengths, self.points[start : start + size], others.T, alpha=-2)
            yield start, block.add_(lengths[start : start + size, None]).clamp_(min=0)


@dataclass(frozen=True)
class Balls:
    """The ball around each image of a side."""

    centres: Grouped
    radii: Tensor
    """float64 (N, 1 + G): the distance of the k-th nearest neighbour; −1 where the image itself is left out."""

    @classmethod
    def around(cls, points: Tensor, k: int) -> Balls:
        """Of points (N, D), N > k."""
        centres = Grouped.of(points)
        distances, neighbours = [], []
        for start, block in centres.distances_to(centres.points):
            rows = torch.arange(len(block), device=block.device)
            block[rows, start + rows] = torch.inf
            found = block.topk(min(k + SPARE, len(points) - 1), largest=False)
            distances.append(found.values)
            neighbours.append(found.indices)
        nearest, groups = torch.cat(distances), centres.groups[torch.cat(neighbours)]
        radii = []
        for group in range(-1, centres.count):
            place = ((groups != group).cumsum(1) < k).sum(1).clamp(max=nearest.shape[1] - 1)
            # A ball holds the neighbour that it reaches, also where its distance is computed from the other side.
            radii.append(nearest.gather(1, place[:, None])[:, 0] + ROUNDING * points.square().sum(1).max())
        return cls(centres, torch.stack(radii, 1).where(centres.kept(), -1.0))

    def around_each(self, distances: Tensor, first: int = 0) -> Tensor:
        """In how many balls each point lies, float64 (n, 1 + G), from its distances (n, m) to m centres.

        `first` is the first of these centres.
        """
        radii = self.radii[first : first + distances.shape[1]]
        # Few pairs are that close, so only these are looked at without each group.
        point, centre = (distances <= radii.max(1).values).nonzero(as_tuple=True)
        inside = distances[point, centre][:, None] <= radii[centre]
        counts = torch.zeros(len(distances), inside.shape[1], dtype=torch.float64, device=distances.device)
        return counts.index_add_(0, point, inside.double())


def jackknife_variance(values: Tensor, kept: Tensor | None = None) -> float:
    """The variance of a mean over images that comes from the images of which groups were left out.

    `values` (n, 1 + G) are those of the images, `kept` whether an image is there without a group, where the groups are
    of these images themselves. By the delete-group jackknife, which alone counts too much (Efron and Stein 1981): a
    change of the mean is also the scatter of the changes of so many images, and its variance is taken off.
    """
    there = torch.ones_like(values) if kept is None else kept.to(values.dtype)
    values = values * there
    counts = there.sum(0)
    means = (values.sum(0) / counts)[1:]
    changes = (values[:, 1:] - values[:, :1]) * there[:, 1:]
    changes = (changes - (changes.sum(1) / there[:, 1:].sum(1))[:, None]) * there[:, 1:]
    centred = (changes - changes.sum(0) / counts[1:]) * there[:, 1:]
    scatter = (centred.square().sum(0) / (counts[1:] - 1)).sum() / len(values)
    return float((means - means.mean()).square().sum() - scatter) * (len(means) - 1) / len(means)
