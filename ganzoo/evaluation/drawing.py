"""How images are drawn where an architecture has a way of its own: truncation, standing statistics."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import UsageError
from ganzoo.registry.signatures import ByName, by_name
from ganzoo.types import Architecture
from ganzoo.util.seeds import seeded
from ganzoo.util.text import did_you_mean, printable

Draw = Callable[[int], tuple[Tensor, Tensor | None]]
"""`draw(count) -> (latents, labels)`: what images are drawn from."""


@dataclass(frozen=True)
class Drawing:
    """An architecture's `sample` and `prepare`, with the options of both."""

    options: Mapping[str, Any]
    _sample: ByName | None = None
    _prepare: ByName | None = None

    @classmethod
    def of(cls, architecture: Architecture, options: Mapping[str, Any] | None = None) -> Drawing:
        """Build from an architecture, with some other options. Raises `UsageError` for those that it lacks."""
        known = architecture.drawing
        for name in options or {}:
            if name not in known:
                raise UsageError(
                    f"--draw {printable(name)}: architecture '{architecture.name}' has no such option of drawing"
                    f"{did_you_mean(name, known)}"
                )
        sample, prepare = (
            by_name(architecture, field, tuple(known), ("generator",)) if getattr(architecture, field) else None
            for field in ("sample", "prepare")
        )
        return cls({**known, **(options or {})}, sample, prepare)

    def ready(self, generator: nn.Module, draw: Draw, seed: int, device: torch.device | str) -> nn.Module:
        """The generator to draw from: where an architecture prepares it, a copy, in eval mode."""
        if self._prepare is None:
            return generator
        ready = copy.deepcopy(generator).eval()
        with seeded(seed, torch.device(device)), torch.no_grad():
            self._prepare({**self.options, "generator": ready, "draw": draw})
        return ready.eval()

    def images(self, generator: nn.Module, latent: Tensor, labels: Tensor | None, seed: int) -> Tensor:
        """Images from a generator; the random numbers that it draws itself, such as noise, come from `seed`."""
        with seeded(seed, latent.device), torch.inference_mode():
            if self._sample is None:
                images: Tensor = generator(latent, labels)
            else:
                images = self._sample({**self.options, "generator": generator, "latent": latent, "labels": labels})
            return images
