"""The peak FLOP rate of a machine, measured by a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ganzoo.machine.onednn import has_onednn, onednn_product
from ganzoo.machine.settings import apply_settings, synchronize


def matrix_product_rate(device: str, precision: str, threads: int) -> float:
    """FLOPs per second of a large matrix product on `device` at `precision`: the peak that a GAN could reach.

    The fastest of at least four, over 0.2 s or more. On the CPU torch has two libraries for it, a BLAS for matrices and
    oneDNN for convolutions, and neither is faster on all processors: there the faster of both counts.
    """
    apply_settings(threads, precision)
    size = 8192 if device != "cpu" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = _fastest_seconds(lambda: left @ right, device)
    if device == "cpu" and has_onednn():
        seconds = min(seconds, _fastest_seconds(lambda: onednn_product(left, right), device))
    return 2 * size**3 / seconds


@torch.inference_mode()
def _fastest_seconds(work: Callable[[], object], device: str) -> float:
    work()
    synchronize(device)
    times: list[float] = []
    while len(times) < 4 or sum(times) < 0.2:
        since = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - since)
    return min(times)
