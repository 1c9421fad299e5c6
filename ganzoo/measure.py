"""Throughput and memory: warm up, then time windows that are synchronized only at their edges."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ganzoo.assemble import Assembly
from ganzoo.evaluate import eval_mode
from ganzoo.hardware import apply_settings, synchronize
from ganzoo.train import run_step

WINDOWS = 5


def measure_training(run: Assembly, seconds: float) -> dict[str, Any]:
    """Rates of the training step: real images per second, as `kimg` counts them, and seconds per step.

    `run` is used up: give it networks of its own. `seconds` is the total of the measured windows.
    """

    def steps(count: int) -> int:
        drawn = run.batches.drawn
        for _ in range(count):
            run_step(run)
        return run.batches.drawn - drawn

    # A full cycle of the lazy phases makes every window the same mixture of work.
    cycle = math.lcm(*(phase.phase.every for phase in run.phases))
    windows, warmup_seconds = _windows(steps, cycle, seconds, run.batches.device)
    return {
        "train_images_per_second": summary([images / elapsed for images, _, elapsed in windows]),
        "step_seconds": summary([elapsed / count for _, count, elapsed in windows]),
        "warmup_seconds": warmup_seconds,
        "window_seconds": [elapsed for *_, elapsed in windows],
        "short_windows": seconds < WINDOWS,
    }


def measure_sampling(run: Assembly, batch_size: int, seconds: float) -> dict[str, Any]:
    """Rate of the generator in eval mode: latents drawn, images as float32 on the device, per second."""
    labels = None
    generator = run.players.generator

    def batches(count: int) -> int:
        for _ in range(count):
            generator(run.draw_latent(batch_size, run.latent_rng), labels)
        return count * batch_size

    if generator.conditional:
        labels = next(run.batches)[1]
        assert labels is not None
        labels = labels[:batch_size]
    device = run.batches.device
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=run.phases[0].autocast)
    with eval_mode(generator), torch.inference_mode(), autocast:
        windows, _ = _windows(batches, 1, seconds, device)
    return {"sample_images_per_second": summary([images / elapsed for images, _, elapsed in windows])}


def _windows(
    work: Callable[[int], int], cycle: int, seconds: float, device: torch.device
) -> tuple[list[tuple[int, int, float]], float]:
    """`(images, count, elapsed)` of each window, and the seconds of warm-up before them.

    `work(count)` does that many steps and returns how many images they took. Warm-up lasts at least three cycles and
    a fifth of the measured time; its second half tells how many steps fill a window.
    """
    target = seconds / WINDOWS
    started = time.perf_counter()
    work(cycle)
    synchronize(device)
    done, since = 0, time.perf_counter()
    while done < 2 * cycle or time.perf_counter() - started < seconds / 5:
        work(cycle)
        synchronize(device)
        done += cycle
    per_step = (time.perf_counter() - since) / done
    count = max(cycle, round(target / per_step / cycle) * cycle)
    warmup_seconds = time.perf_counter() - started
    windows = []
    for _ in range(WINDOWS):
        since = time.perf_counter()
        images = work(count)
        synchronize(device)
        windows.append((images, count, time.perf_counter() - since))
    return windows, warmup_seconds


def summary(samples: list[float]) -> dict[str, Any]:
    """`{median, low, high, samples}` of the windows, in the unit of `samples`; low and high are their extremes."""
    return {"median": statistics.median(samples), "low": min(samples), "high": max(samples), "samples": samples}


def peak_memory_bytes(device: str) -> int | None:
    """The most memory this process has taken: allocated on an accelerator, resident on the CPU; None if unknown."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    if device != "cpu":
        return None
    try:
        # Not ru_maxrss: that is inherited, and would report a parent larger than this process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import psutil

    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def matrix_product_rate(device: str, precision: str, threads: int) -> float:
    """FLOPs per second of a large matrix product on `device` at `precision`: the peak that a GAN could reach."""
    apply_settings(threads, precision)
    size = 8192 if device != "cpu" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        synchronize(device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)
