"""Images from a generator in training or of a finished run, and interpolation between latents.

Generated images are quantized to uint8 on the device, as if they had been saved as PNG.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ganzoo.errors import GanzooError, RecordError, UsageError
from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.quantization import Quantizer
from ganzoo.records.generators import kept_at
from ganzoo.records.store import find_run, read_spec
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunRecord, RunSpec
from ganzoo.training.assembly import latent_drawer, materials_of, place, spec_players
from ganzoo.training.players import GeneratorPlayer
from ganzoo.training.preflight import building_on_meta
from ganzoo.training.progressive import size_at, stages_of
from ganzoo.training.weights import load_state, read_state
from ganzoo.types import ImageSource
from ganzoo.util.seeds import seeded, stream, stream_seed
from ganzoo.util.tensorfiles import read_header
from ganzoo.util.text import error_line, printable

BATCH = 256

PLAIN = Drawing({})
"""Images are what the generator gives."""

EXTRA_STATE = "_extra_state"
"""How torch ends the name of what a module's `get_extra_state` gives."""


def generator_of(
    record: RunRecord, registry: Registry, device: str, at: str = "final"
) -> tuple[GeneratorPlayer, RunSpec]:
    """The generator of a run with its weights, in eval mode, and the run's spec; `at` as in `kept_at`.

    Raises `RecordError` where the run kept no weights or those of another network, `UnknownName` where the plugin
    that built it is not there.
    """
    assert record.path is not None
    spec = read_spec(record.spec)
    kept = kept_at(record, at)
    return load_generator(record.path.parent / kept.file, replace(spec, device=device), registry, kept.progress), spec


def load_generator(weights: Path, spec: RunSpec, registry: Registry, progress: float = 1.0) -> GeneratorPlayer:
    """A generator from its file, in eval mode, on the device of a spec, at the size that it has at a `progress`.

    Raises what `generator_of` does.
    """
    if not weights.is_file():
        raise RecordError(f"{printable(weights)}: not there; the weights are kept where the run was made, run it again")
    try:
        _check_header(weights, spec, registry)
        # What no file holds, such as a tensor that is no buffer, is then drawn as it was when the run began.
        generator = _new_generator(spec, registry, progress)
        load_state(generator.network, read_state(weights))
    except (GanzooError, OSError):
        raise
    except (Exception, SystemExit) as error:  # With the options of a stranger's record a plugin may raise anything.
        known = isinstance(error, (SafetensorError, RuntimeError, ValueError))
        reason = printable(error, 200) if known else error_line(error)
        raise RecordError(
            f"{printable(weights)}: does not fit architecture '{printable(spec.recipe.architecture)}': {reason}"
        ) from error
    place(generator, spec)
    return generator.eval().requires_grad_(False)


def untrained_generator(spec: RunSpec, registry: Registry) -> GeneratorPlayer:
    """The generator of a spec as a training begins with it, at its full size, in eval mode, on the spec's device."""
    generator = _new_generator(spec, registry, 1.0)
    place(generator, spec)
    return generator.eval().requires_grad_(False)


def _new_generator(spec: RunSpec, registry: Registry, progress: float) -> GeneratorPlayer:
    materials = materials_of(spec, registry)
    with seeded(stream_seed(spec.seed, "train/weights"), "cpu"):
        players = spec_players(spec, materials)
    players.at_size(size_at(stages_of(materials.architecture, spec.image_shape), progress))
    generator = players.generator
    generator.progress = progress
    return generator


def _check_header(weights: Path, spec: RunSpec, registry: Registry) -> None:
    """Raise `ValueError` where a weights file has other tensors than the generator of a spec, or where the players of
    the spec would not fit into memory. Neither takes memory by itself: the players are built on the meta device.
    """
    header = read_header(weights)
    try:
        with building_on_meta():
            players = spec_players(spec, materials_of(spec, registry))
        tensors = {**dict(players.generator.network.named_buffers()), **players.generator.network.state_dict()}
    except GanzooError:
        raise
    except (Exception, SystemExit):
        return  # A plugin reads values of its tensors while it builds.
    total = psutil.virtual_memory().total
    networks = tuple(players.values())
    needed = sum(tensor.nbytes for network in networks for tensor in (*network.parameters(), *network.buffers()))
    if needed > total:
        raise ValueError(f"its networks take {needed / 2**30:,.0f} GiB, and this machine has {total / 2**30:,.0f} GiB")
    for name, tensor in tensors.items():
        # A module may state anything beside its tensors, and an older file lacks buffers that are not persistent.
        if name in header and isinstance(tensor, Tensor) and not name.endswith(EXTRA_STATE):
            held, built = header[name]["shape"], list(tensor.shape)
            if held != built:
                raise ValueError(f"'{printable(name, 80)}' has the shape {held} there, and {built} in the network")
    for name, _ in players.generator.network.named_parameters():
        if name in tensors and name not in header:
            raise ValueError(f"it lacks '{printable(name, 80)}'")


def image_batches(
    run: str | Path,
    registry: Registry,
    n: int,
    *,
    label: int | None,
    seed: int,
    interpolate: bool = False,
    device: str = "cpu",
    drawing: Mapping[str, Any] | None = None,
    at: str = "final",
) -> Iterator[Tensor]:
    """`n` images of a run's generator, drawn as they are asked for: batches of uint8 (N, C, H, W) on the CPU.

    Without `label` the classes take turns. With `interpolate` they are walks from one latent to another: ⌈√n⌉ walks
    at most, of ⌈√n⌉ images each, whole ones only, so there may be a few more than `n`; a walk keeps its class. `at`
    says which of the generators that the run kept, see `ganzoo.records.generators.kept_at`. Raises, before anything
    is drawn, `UsageError` for an impossible number or label, and what `find_run` and `generator_of` do.
    """
    if n < 1 + interpolate:
        raise UsageError(f"n is {n}; ask for at least {'2 images' if interpolate else '1 image'}")
    generator, spec = generator_of(find_run(run), registry, device, at)
    if label is not None and not generator.conditional:
        raise UsageError(f"--label {label}: variant '{spec.variant}' is unconditional; leave --label out")
    if label is not None and not 0 <= label < spec.classes:
        raise UsageError(
            f"--label {label}: the labels of '{spec.dataset}' are 0 to {spec.classes - 1}; give one of them"
        )
    architecture = materials_of(spec, registry).architecture
    draw, rng = latent_drawer(spec, architecture), stream(seed, "samples")
    steps = math.ceil(math.sqrt(n)) if interpolate else 1
    walks = straight_walks if architecture.draw_latent else spherical_walks
    quantize = Quantizer(f"run {printable(run)}")
    drawer = Drawing.of(architecture, drawing)

    def draw_inputs(count: int) -> tuple[Tensor, Tensor | None]:
        turns = torch.arange(count, device=device) % spec.classes if generator.conditional else None
        return draw(count, stream(seed, "preparation")).to(device), turns

    ready = drawer.ready(generator, draw_inputs, noise_seed(rng), device)

    def latents(count: int) -> Tensor:
        return walks(draw(count, rng), draw(count, rng), steps) if interpolate else draw(count, rng)

    def batches() -> Iterator[Tensor]:
        drawn, in_all, at_once = 0, math.ceil(n / steps), max(1, BATCH // steps)
        while drawn < in_all:
            count = min(at_once, in_all - drawn)
            labels = None
            if generator.conditional:
                turns = torch.arange(drawn, drawn + count) % spec.classes
                labels = (turns if label is None else torch.full_like(turns, label)).repeat_interleave(steps).to(device)
            images = quantize(drawer.images(ready, latents(count).to(device), labels, noise_seed(rng, drawn))).cpu()
            quantize.check()
            drawn += count
            yield images

    return batches()


class GeneratedImages(Iterator[Tensor]):
    """Batches of uint8 (n, C, H, W) on `device`, `count` in all, from `generator` in eval mode.

    Latents come from `rng`, a CPU generator, so that they are the same on all hardware. Labels are drawn from
    `label_pool`, so that a conditional generator is scored on the dataset's mixture of classes. Raises `Diverged` after
    the last batch where images are not finite; its message calls the generator `whose`.
    """

    def __init__(
        self,
        generator: nn.Module,
        count: int,
        batch_size: int,
        draw_latent: Callable[[int, torch.Generator], Tensor],
        rng: torch.Generator,
        device: str,
        label_pool: Tensor | None = None,
        whose: str = "the generator",
        drawing: Drawing = PLAIN,
    ) -> None:
        self.draw_latent = draw_latent
        self.rng = rng
        self.device = device
        self.label_pool = label_pool
        self.drawing = drawing
        self._generator = generator
        self._labels: list[Tensor] = []
        self._batches = self._in_batches(count, batch_size, Quantizer(whose))

    def __next__(self) -> Tensor:
        return next(self._batches)

    @property
    def labels(self) -> Tensor | None:
        """The labels of the images so far, int64 (N,) on the CPU; None of an unconditional generator."""
        return torch.cat(self._labels).cpu() if self._labels else None

    def source(self) -> ImageSource:
        """More images of this generator, from a stream of random numbers apart, the same one at each call."""
        numbers = self._stream("metrics")

        def images(latent: Tensor, labels: Tensor | None) -> Tensor:
            with eval_mode(self._ready):
                return self.drawing.images(self._ready, latent, labels, noise_seed(self.rng))

        return ImageSource(lambda count: self._draw(count, numbers), images)

    @cached_property
    def _ready(self) -> nn.Module:
        numbers = self._stream("preparation")
        return self.drawing.ready(
            self._generator, lambda count: self._draw(count, numbers), noise_seed(self.rng), self.device
        )

    def _in_batches(self, count: int, batch_size: int, quantize: Quantizer) -> Iterator[Tensor]:
        with eval_mode(self._ready):
            for start in range(0, count, batch_size):
                latent, labels = self._draw(min(batch_size, count - start), self.rng)
                if labels is not None:
                    self._labels.append(labels)
                yield quantize(self.drawing.images(self._ready, latent, labels, noise_seed(self.rng, start)))
        quantize.check()

    def _draw(self, count: int, numbers: torch.Generator) -> tuple[Tensor, Tensor | None]:
        latent = self.draw_latent(count, numbers).to(self.device)
        if self.label_pool is None:
            return latent, None
        places = torch.randint(len(self.label_pool), (count,), generator=numbers)
        return latent, self.label_pool[places].to(self.device)

    def _stream(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.rng.initial_seed(), purpose))


def noise_seed(latents: torch.Generator, first: int = 0) -> int:
    """The seed of what a generator draws itself for the batch that begins with the image `first`."""
    return stream_seed(latents.initial_seed(), f"noise/{first}")


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode within the block; afterwards every submodule has its mode back."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def straight_walks(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """(N, D) starts and ends to (N · steps, D): each walk along a straight line, both ends in it, one after another."""
    share = _shares(start, steps)
    return ((1 - share) * start[:, None] + share * end[:, None]).flatten(0, 1)


def spherical_walks(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """The same along great circles, for latents that are normally distributed: (N, D) to (N · steps, D).

    Such latents have lengths close to √D, and the middle of a straight line is far too short to be one of them (White
    2016, arXiv:1609.04468, section 2.1; Shoemake 1985). Latents that point the same way are joined by a straight line.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1)
    angle = torch.arccos(cosine.clamp(-1, 1))[:, None, None]
    share = _shares(start, steps)
    weights = torch.sin((1 - share) * angle), torch.sin(share * angle)
    curved = (weights[0] * start[:, None] + weights[1] * end[:, None]) / torch.sin(angle)
    bent = torch.sin(angle) > 1e-4
    return torch.where(bent, curved, straight_walks(start, end, steps).unflatten(0, (-1, steps))).flatten(0, 1)


def _shares(like: Tensor, steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=like.dtype, device=like.device)[None, :, None]
