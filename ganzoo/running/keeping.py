"""What a run keeps of its generator: weights, and a picture at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.quantization import Quantizer
from ganzoo.evaluation.sampling import eval_mode, noise_seed
from ganzoo.records.store import GENERATOR, SAMPLE_IMAGES, SAMPLES
from ganzoo.running.scoring import kind_of
from ganzoo.running.wire import Note, OnMessage
from ganzoo.runs import FileFacts, RunSpec
from ganzoo.training.assembly import Assembly
from ganzoo.training.weights import state_bytes, state_of
from ganzoo.util.files import sha256_of_file, write_atomically
from ganzoo.util.images import enlargement, grid, save_png
from ganzoo.util.seeds import stream
from ganzoo.util.text import error_line, printable


def keep_final(
    spec: RunSpec, run: Assembly, drawing: Drawing, folder: Path, kimg: float, emit: OnMessage
) -> dict[str, FileFacts]:
    """The averaged generator's weights, and a picture of it at fixed latents; each class in turn if conditional.

    Gives the facts of each file by its name. One that cannot be written, as on a full disk, costs a note only. Raises
    `Diverged` where the images are not finite, which no term of the last step may have shown.
    """
    generator: Any = run.average.settled()
    rng = stream(spec.seed, "samples")
    latent = run.draw_latent(SAMPLE_IMAGES, rng).to(spec.device)
    labels = torch.arange(SAMPLE_IMAGES, device=spec.device) % spec.classes if generator.conditional else None
    quantize = Quantizer(f"the {kind_of(run.average.enabled)} generator")
    ready = drawing.ready(generator, lambda count: _turns(run, spec, count), noise_seed(rng), spec.device)
    with eval_mode(ready):
        images = quantize(drawing.images(ready, latent, labels, noise_seed(rng))).cpu()
    quantize.check()
    writes = {
        SAMPLES: lambda path: save_png(grid(images), path, scale=enlargement(spec.image_shape[1])),
        GENERATOR: weights_writer(spec, run, emit),
    }
    files = written(writes, spec, folder, emit)
    if GENERATOR in files:
        files[GENERATOR] |= {"kimg": kimg, "progress": run.progress}
    return files


def _turns(run: Assembly, spec: RunSpec, count: int) -> tuple[Tensor, Tensor | None]:
    """Latents, and labels in turn where the generator takes them."""
    latent = run.draw_latent(count, stream(spec.seed, "preparation")).to(spec.device)
    labels = torch.arange(count, device=spec.device) % spec.classes if run.players.generator.conditional else None
    return latent, labels


def weights_writer(spec: RunSpec, run: Assembly, emit: OnMessage) -> Callable[[Path], None]:
    """Writes the averaged generator, as it is now, to a path."""
    generator: Any = run.average.settled()

    def write(path: Path) -> None:
        state = state_of(generator.network)
        write_atomically(path, lambda stream: stream.write(state_bytes(state)))
        if state.left_out:
            names = printable(", ".join(state.left_out), 200)
            emit(Note(f"{_label(spec)}: {path.name} has no {names}, which are no tensors and cannot be JSON"))

    return write


def written(
    writes: Mapping[str, Callable[[Path], None]], spec: RunSpec, folder: Path, emit: OnMessage
) -> dict[str, FileFacts]:
    """Write files; gives the sha256 of each by its name, and a note for each that cannot be written."""
    files: dict[str, FileFacts] = {}
    for name, write in writes.items():
        try:
            # What an attempt that was killed has left may be of other weights.
            (folder / name).unlink(missing_ok=True)
            write(folder / name)
            files[name] = {"sha256": sha256_of_file(folder / name)}
        except Exception as error:  # A module of a plugin gives its own state, and may raise anything.
            reason = printable(error.strerror or error) if isinstance(error, OSError) else error_line(error)
            emit(Note(f"{_label(spec)}: has no {name}, which could not be written ({reason})"))
    return files


def _label(spec: RunSpec) -> str:
    return f"{printable(spec.variant)}, seed {spec.seed}"
