"""Throughput, latency and memory of a run's step and of its generator; how long its process has been there."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import torch

from ganzoo.evaluation.sampling import eval_mode
from ganzoo.machine.meters import Watch, datasheet_flops
from ganzoo.machine.peak import matrix_product_rate
from ganzoo.machine.settings import synchronize
from ganzoo.machine.timing import WINDOW_SECONDS, WINDOWS, measure_windows, summary
from ganzoo.runs import RunSpec, Throughput
from ganzoo.training.assembly import Assembly
from ganzoo.training.cuda_graph import WARMUP_STEPS, GraphedStep
from ganzoo.training.loop import run_step
from ganzoo.training.preflight import Preflight

LATENCY_CALLS = 20

SHORT_WINDOW = 0.8
"""A window may be this much shorter than it was meant to be, because a rate is never quite what it was."""

WAIT_SHARE = 0.02
"""The share of the time that a step may wait for streamed images before its rate is flagged."""


def measure_training(run: Assembly, seconds: float, windows: int = WINDOWS) -> Throughput:
    """Rates of the training step: real images per second, as `kimg` counts them, and seconds per step.

    `run` is used up: give it networks that nothing else uses. `seconds` is the total of `WINDOWS` windows, of which
    `windows` are measured.
    """

    def steps(count: int) -> int:
        drawn = run.batches.drawn
        for _ in range(count):
            run_step(run)
        return run.batches.drawn - drawn

    graphed = run.perform if isinstance(run.perform, GraphedStep) else None
    waited = run.batches.wait_seconds
    watch = Watch(run.batches.device)
    timed = measure_windows(
        steps,
        seconds=seconds,
        windows=windows,
        device=run.batches.device,
        # A full cycle of the lazy phases makes every window the same mixture of work.
        cycle=math.lcm(*(update.phase.every for update in run.updates)),
        # Each mixture of phases is captured before the windows begin.
        least_warmup=WARMUP_STEPS + 2 if graphed else 3,
        at_edge=watch.edge,
    )
    joules, reason = watch.energy()
    # Waiting in the warm-up counts too, so the share is an upper bound where data is slow to start.
    share = (run.batches.wait_seconds - waited) / (sum(timed.seconds) + timed.warmup_seconds)
    flags = watch.flags()
    if share > WAIT_SHARE:
        flags.append(f"waited for data {share:.0%} of the time")
    return {
        "train_images_per_second": summary(timed.rates),
        "step_seconds": summary([span / count for span, count in zip(timed.seconds, timed.steps, strict=True)]),
        "window_seconds": list(timed.seconds),
        "short_windows": min(timed.seconds) < SHORT_WINDOW * WINDOW_SECONDS,
        "warmup_seconds": timed.warmup_seconds,
        "warmup_steps": timed.warmup_steps,
        "warmup_steady": timed.steady,
        "first_step_seconds": timed.first_step_seconds,
        "capture_seconds": graphed.capture_seconds if graphed else None,
        "data_wait_share": share,
        "energy_joules_per_kimg": None if joules is None else 1000 * joules / sum(timed.images),
        "energy_source": watch.meter.source,
        "energy_reason": reason,
        "disturbance": watch.disturbance(),
        "device_states": [dict(state) for state in watch.states],
        "flags": flags,
    }


def measure_sampling(run: Assembly, batch_size: int, seconds: float, windows: int = WINDOWS) -> Throughput:
    """The generator in eval mode, from latents to float32 images on the device: rate at the batch, latency at one."""
    labels = None
    generator = run.players.generator

    def draw(count: int) -> None:
        generator(run.draw_latent(count, run.latent_rng), None if labels is None else labels[:count])

    def batches(count: int) -> int:
        for _ in range(count):
            draw(batch_size)
        return count * batch_size

    if generator.conditional:
        labels = next(run.batches)[1]
    device = run.batches.device
    # Its cache of cast weights would depend on what the last phase had frozen.
    bfloat16 = run.updates[0].autocast
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16, cache_enabled=False)
    with eval_mode(generator), torch.inference_mode(), autocast:
        timed = measure_windows(batches, seconds=seconds, windows=windows, device=device)
        latencies: list[float] = []
        until = time.perf_counter() + seconds / WINDOWS
        draw(1)
        while len(latencies) < WINDOWS or (len(latencies) < LATENCY_CALLS and time.perf_counter() < until):
            synchronize(device)
            since = time.perf_counter()
            draw(1)
            synchronize(device)
            latencies.append(time.perf_counter() - since)
    return {"sample_images_per_second": summary(timed.rates), "sample_latency_seconds": summary(latencies)}


def utilization(spec: RunSpec, checked: Preflight, images_per_second: float) -> Throughput:
    """What share of the device the step uses: FLOPs executed for each real image, against a measured peak.

    `mfu` is the share of `peak_flops`, which a large matrix product reaches at the same precision in this very run;
    `datasheet_flops` is what the maker promises. `uncounted_operators` have no formula and are taken for free.
    """
    peak = matrix_product_rate(spec.device, spec.precision, spec.threads)
    flops = checked.flops_per_image
    device = torch.device(spec.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "flops_per_image": flops,
        "uncounted_operators": list(checked.uncounted),
        "peak_flops": peak,
        "datasheet_flops": datasheet_flops(name, spec.precision),
        "mfu": None if flops is None else flops * images_per_second / peak,
    }


def peak_memory_bytes(device: str) -> tuple[int | None, int | None]:
    """The most memory this process has taken: `(allocated, reserved)` on an accelerator, `(resident, None)` on the CPU.

    None where it is unknown.
    """
    if device.startswith(("cuda", "xpu")):
        backend = getattr(torch, device.partition(":")[0])
        return int(backend.max_memory_allocated(device)), int(backend.max_memory_reserved(device))
    if device != "cpu":
        return None, None
    try:
        # Not ru_maxrss: that is inherited, and would report a parent larger than this process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024, None
    except OSError:
        pass
    import psutil

    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss)), None


def process_seconds() -> float:
    """How long this process has been there: on Linux exact to a hundredth of a second, elsewhere as psutil has it.

    Linux counts a process's start from the boot, and tells the time of the boot in whole seconds only.
    """
    if sys.platform == "linux":
        # Behind the name, which may hold anything, the brackets around it included.
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - float(psutil.Process().create_time())
