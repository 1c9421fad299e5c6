"""A variant on synthetic images, without dataset, cache or budget: what the conformance checks run on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.prepared import PreparedDataset
from ganzoo.planning.describe import SIZES
from ganzoo.planning.plan import resolve_alone
from ganzoo.planning.recipe import resolve_recipe
from ganzoo.planning.request import BenchPlan
from ganzoo.planning.selection import Selection
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.training.assembly import Assembly, assemble, materials_of
from ganzoo.training.objective import Objective
from ganzoo.types import Architecture, ImageShape

TOY_IMAGES, TOY_CLASSES = 256, 10


@dataclass(frozen=True)
class TwoTones(PreparedDataset):
    """`TOY_IMAGES` pictures in memory with labels: left dark and right bright, and in turn the same at `scale`.

    A little noise lies over them. At a scale of -1 they are grey on average, and how they vary is all there is to
    learn; a discriminator that normalizes its batches sees no more. At a small scale it is their mean.
    """

    scale: float = -1.0

    @classmethod
    def of(cls, image_shape: ImageShape, scale: float = -1.0) -> TwoTones:
        """Pictures of this shape."""
        return cls("two-tones", "", image_shape, TOY_IMAGES, TOY_CLASSES, "", "made up", "all", (), scale=scale)

    def pattern(self) -> Tensor:
        """The picture without the noise, bright on the right: float32 (C, H, W) in [-1, 1]."""
        bright = torch.arange(self.image_shape[2]) >= self.image_shape[2] // 2
        return torch.where(bright, 0.9, -0.9).expand(self.image_shape)

    def images(self) -> np.ndarray:
        """uint8 (TOY_IMAGES, C, H, W)."""
        scales = np.resize([1.0, self.scale], self.count)[:, None, None, None]
        noise = np.random.default_rng(0).normal(0, 0.1, (self.count, *self.image_shape))
        return ((scales * self.pattern().numpy() + noise + 1) * 127.5).clip(0, 255).round().astype(np.uint8)

    def labels(self) -> np.ndarray:
        """int64 (TOY_IMAGES,), the classes in turn."""
        return np.arange(self.count) % self.classes

    def error(self, images: Tensor) -> float:
        """The mean share of the energy of images (N, C, H, W) that is not the pattern's: nearly 1 for noise.

        The negative of the pattern is as wrong as noise, unless it is among the pictures.
        """
        pattern = self.pattern().to(images.device)
        along = (images * pattern).sum((1, 2, 3)) / pattern.norm()
        along = along if self.scale < 0 else along.clamp_min(0)
        return float(1 - (along.square() / images.square().sum((1, 2, 3)).clamp_min(1e-12)).mean())


@dataclass(frozen=True)
class Trial:
    """One variant on one device, with eager steps unless a spec says otherwise.

    `plugins` are the files and modules from which the registry was loaded, beside the entry points.
    """

    registry: Registry
    selection: Selection
    device: str = "cpu"
    plugins: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name that the variant was selected by."""
        return self.selection.label

    @cached_property
    def architecture(self) -> Architecture:
        """The record behind the variant's architecture, a name or an object."""
        recipe = resolve_recipe(self.selection, self.registry, (), None, None)
        record: Architecture = self.registry.get("architectures", recipe["architecture"]).record
        return record

    @property
    def shapes(self) -> list[ImageShape]:
        """Every (C, H, W) that the architecture claims, the smallest first; `SIZES` if it claims any size."""
        sizes = self.architecture.image_sizes or SIZES
        return sorted((channels, size, size) for size in sizes for channels in self.architecture.channels)

    @cached_property
    def spec(self) -> RunSpec:
        """The run at the smallest shape, of small batches. Raises `GanzooError` where there can be none."""
        return self.spec_at(min(self.shapes, key=lambda shape: (shape[1], shape[0])))

    def spec_at(self, shape: ImageShape, batch_size: int = 8) -> RunSpec:
        """The run at another shape, with batches of so many images, or as many more as packs of them need."""
        pack = self.selection.variant.pack
        batch_size = -(-batch_size // pack) * pack
        plan = BenchPlan(models=(self.label,), device=self.device, batch_size=batch_size, step_mode="eager")
        return resolve_alone(self.selection, self.registry, plan, TwoTones.of(shape))

    def assemble(
        self,
        spec: RunSpec | None = None,
        scale: float = -1.0,
        *,
        share_fakes: bool = True,
        linear: str | None = None,
        **changes: Any,
    ) -> Assembly:
        """A run of fresh networks on `TwoTones` of this scale, `changes` made to its spec; the rest as in `assemble`.

        Its networks are those of the end of a budget: of the last stage, all faded in.
        """
        spec = replace(self.spec if spec is None else spec, **changes)
        images = TwoTones.of(spec.image_shape, scale)
        run = assemble(spec, self.registry, images, share_fakes=share_fakes, linear=linear)
        go_to(run, 1.0)
        return run

    @property
    def materials(self) -> Objective:
        """The records behind the names of the spec."""
        return materials_of(self.spec, self.registry)


def go_to(run: Assembly, progress: float) -> None:
    """Let the players work as when this share of the budget is used up; rates and coefficients stay as they are."""
    run.enter_stage(progress)
    if isinstance(run.values.progress, Tensor):
        run.values.progress.fill_(progress)


def through_stages(run: Assembly) -> Iterator[str]:
    """Put a run into each of its stages, one after another, and at last where it was; each in words (` at 8 px`).

    A quarter of the way into it: there what fades in is neither absent nor all there is. A run of one stage stays at
    the end of its budget, and the words for it are empty.
    """
    if len(run.stages) < 2:
        yield ""
        return
    start = 0.0
    for until, size in run.stages:
        go_to(run, start + (until - start) / 4)
        yield f" at {size} px"
        start = until
    go_to(run, 1.0)
