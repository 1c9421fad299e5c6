"""One run, in a process of its own: the spec comes in on stdin, events and the outcome go out on stdout.

Whatever the run or a plugin prints goes to stderr. The process ends when its parent does, because stdin ends then.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganzoo.errors import Diverged
from ganzoo.text import printable
from ganzoo.types import RunSpec

SAMPLE_IMAGES = 64

TAIL_LINES = 60
"""How much of a traceback a record keeps: enough for its head."""


@dataclass(frozen=True)
class RunRequest:
    """What a fresh process needs to do one run. JSON-safe."""

    run_id: str
    spec: dict[str, Any]
    dataset: dict[str, Any]
    folder: str
    plugins: tuple[str, ...]
    weights: str | None
    weights_sha256: str | None


Emit = Callable[..., None]


def main() -> None:
    """Read a `RunRequest`, do it, and write one JSON object per line: events, then the outcome."""
    channel = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    # A print in a plugin must not be taken for an event.
    os.dup2(2, 1)
    request = RunRequest(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def emit(kind: str, **content: Any) -> None:
        channel.write(json.dumps({"kind": kind, **content}) + "\n")

    outcome = execute(request, emit)
    emit("outcome", **outcome)
    channel.close()
    # A plugin's stray thread must not keep a finished run alive.
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def execute(request: RunRequest, emit: Emit) -> dict[str, Any]:
    """Train, score, measure; the fields of a record, whatever happens, with the `status` that fits."""
    import torch

    from ganzoo import hardware
    from ganzoo.records import read_spec

    spec = read_spec(request.spec)
    outcome: dict[str, Any] = {"status": "ok", "error": None}
    hardware.apply_settings(spec.threads, spec.precision)
    if spec.device != "cpu":
        torch.accelerator.set_device_index(torch.device(spec.device).index or 0)
    try:
        _run(request, spec, outcome, emit)
    except Diverged as error:
        outcome |= _failure("diverged", error)
    except Exception as error:
        outcome |= _failure("oom" if _out_of_memory(error) else "crashed", error)
    outcome["hardware"] = hardware.hardware_fingerprint(spec.device, spec.threads)
    outcome["environment"] = hardware.environment({})
    return outcome


def _out_of_memory(error: Exception) -> bool:
    """On the CPU and on MPS torch says so in words only, and a failed capture in the error behind the error."""
    import torch

    spoken = ("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory", "CUDA error: out of memory")
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, (torch.OutOfMemoryError, MemoryError)) or any(text in str(behind) for text in spoken):
            return True
        behind = behind.__cause__ or behind.__context__
    return False


def _process_started() -> float:
    import psutil

    return float(psutil.Process().create_time())


def _failure(status: str, error: Exception) -> dict[str, Any]:
    tail = "".join(traceback.format_exception(error)).splitlines()[-TAIL_LINES:]
    message = printable(error) or type(error).__name__
    return {"status": status, "error": {"type": type(error).__name__, "message": message, "tail": "\n".join(tail)}}


def _run(request: RunRequest, spec: RunSpec, outcome: dict[str, Any], emit: Emit) -> None:
    """Fill `outcome` as far as the run gets."""
    import torch

    from ganzoo.assemble import assemble
    from ganzoo.data import PreparedDataset
    from ganzoo.evaluate import RealSample, Scorer, load_extractor
    from ganzoo.hardware import apply_settings
    from ganzoo.measure import measure_sampling, measure_training, peak_memory_bytes, utilization
    from ganzoo.plugins import discover
    from ganzoo.preflight import preflight
    from ganzoo.train import TrainResult, train
    from ganzoo.windows import summary

    emit("stage", stage="loading")
    import_seconds = time.time() - _process_started()
    registry = discover(request.plugins)
    # Once more, for a plugin may have changed them on import.
    apply_settings(spec.threads, spec.precision)
    dataset = PreparedDataset(**{**request.dataset, "image_shape": tuple(request.dataset["image_shape"])})
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    checked = preflight(spec, registry)
    outcome["parameters"] = dict(checked.parameters)
    outcome["dataset"] = {
        "name": dataset.name,
        "source": dataset.source,
        "split": dataset.split,
        "count": dataset.count,
        "sha256": dataset.sha256,
        "skipped": list(dataset.skipped),
    }
    # Measured before training, so that peak memory is the step's and not the feature extractor's.
    emit("stage", stage="measuring")
    started = time.perf_counter()
    measured = assemble(spec, registry, dataset, purpose="throughput")
    outcome["dataset"]["resident"] = measured.batches.resident
    throughput: dict[str, Any] = {
        "import_seconds": import_seconds,
        "assemble_seconds": time.perf_counter() - started,
    }
    outcome["throughput"] = throughput
    throughput |= measure_training(measured, spec.throughput_seconds)
    throughput |= measure_sampling(measured, spec.batch_size, spec.throughput_seconds)
    throughput["peak_memory_bytes"], throughput["peak_memory_reserved_bytes"] = peak_memory_bytes(spec.device)
    # Its images and networks must be gone before anything else is placed.
    del measured
    gc.collect()
    if spec.device != "cpu":
        torch.accelerator.empty_cache()
    throughput |= utilization(spec, checked, throughput["train_images_per_second"]["median"])

    if spec.kimg:
        scorer = None
        if spec.metrics:
            emit("stage", stage="reference")
            extractor = registry.get("features", spec.features)
            own_weights = Path(request.weights) if request.weights else None
            loaded = load_extractor(extractor.record, spec.device, own_weights, request.weights_sha256)
            source = registry.status_of(extractor.plugin).source_sha256
            metrics = [registry.get("metrics", name) for name in spec.metrics]
            real = RealSample(dataset, loaded, lambda line: emit("note", line=line), source)
            real.statistics()
            scorer = Scorer(
                [metric.record for metric in metrics], real, {metric.record.name: metric.plugin for metric in metrics}
            )
        run = assemble(spec, registry, dataset)
        outcome["scores"], outcome["protocols"] = [], {}
        scoring_rates: list[float] = []

        def on_progress(result: TrainResult, terms: dict[str, float]) -> None:
            outcome["training"] = asdict(result)
            emit("progress", kimg=result.kimg, seconds=result.train_seconds, terms=terms)

        def on_evaluate(kimg: float) -> None:
            if scorer is None:
                return
            emit("stage", stage="scoring")
            since = time.perf_counter()
            scores, protocols = _score(spec, run, scorer, kimg)
            scored = spec.fakes * len({score["ema"] for score in scores})
            scoring_rates.append(scored / (time.perf_counter() - since))
            throughput["evaluation_images_per_second"] = summary(scoring_rates)
            outcome["scores"] += scores
            outcome["protocols"] |= protocols
            emit("scored", kimg=kimg, scores=scores)
            emit("stage", stage="training")

        emit("stage", stage="training")
        train(run, spec.kimg, spec.evaluate_at_kimg, on_progress, on_evaluate)
        outcome["training"] |= _best_and_final(outcome["scores"], scorer.metrics if scorer else ())
        _save_generator(spec, run, folder)


def _score(spec: RunSpec, run: Any, scorer: Any, kimg: float) -> tuple[list[Any], dict[str, Any]]:
    """Scores of the averaged generator and of the raw one, from the same latents."""
    from ganzoo.evaluate import generated_images
    from ganzoo.randomness import stream

    generators = {True: run.average.average, False: run.players.generator} if run.average.enabled else {}
    scores: list[Any] = []
    protocols: dict[str, Any] = {}
    for ema, generator in (generators or {False: run.players.generator}).items():
        images = generated_images(
            generator,
            spec.fakes,
            scorer.real.extractor.extractor.batch_size,
            run.draw_latent,
            stream(spec.seed, "evaluation"),
            spec.device,
            scorer.real.labels if generator.conditional else None,
        )
        found, used = scorer.score(images, kimg, ema)
        scores += found
        protocols |= used
    return scores, protocols


def _best_and_final(scores: Sequence[dict[str, Any]], metrics: Sequence[Any]) -> dict[str, Any]:
    """`{"best": {...}, "final": {...}}`, each from score and weights (`fid/ema`) to value and kimg."""
    better = {name: way for metric in metrics for name, way in metric.better.items()}
    best: dict[str, Any] = {}
    final: dict[str, Any] = {}
    for score in scores:
        key = f"{score['metric']}/{'ema' if score['ema'] else 'raw'}"
        point = {"value": score["value"], "kimg": score["kimg"]}
        final[key] = point
        if point["value"] is None:
            continue
        sign = 1 if better.get(score["metric"]) == "lower" else -1
        if key not in best or sign * point["value"] < sign * best[key]["value"]:
            best[key] = point
    return {"best": best, "final": final}


def _save_generator(spec: RunSpec, run: Any, folder: Path) -> None:
    """The averaged generator's weights, and a picture of it at fixed latents; each class in turn if conditional."""
    import torch
    from safetensors.torch import save

    from ganzoo.evaluate import eval_mode
    from ganzoo.files import write_atomically
    from ganzoo.images import grid, save_png, to_uint8
    from ganzoo.randomness import stream
    from ganzoo.records import GENERATOR, SAMPLES

    generator = run.average.average
    latent = run.draw_latent(SAMPLE_IMAGES, stream(spec.seed, "samples")).to(spec.device)
    labels = torch.arange(SAMPLE_IMAGES, device=spec.device) % spec.classes if generator.conditional else None
    with eval_mode(generator), torch.inference_mode():
        images = to_uint8(generator(latent, labels)).cpu()
    save_png(grid(images), folder / SAMPLES, scale=max(1, 64 // spec.image_shape[1]))
    state = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in generator.network.state_dict().items()
    }
    write_atomically(folder / GENERATOR, lambda stream: stream.write(save(state)))


if __name__ == "__main__":
    main()
