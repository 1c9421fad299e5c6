"""The two sides of a ratio, each in a separate process that reads a number of steps, does them, prints the seconds.

The processes are separate because each side has its own environment: ganzoo starts its runs with `RUN_ENVIRONMENT`, a
plain script with nothing. `python contestants.py NAME SIZE CHANNELS BATCH [WITHOUT]`: `NAME` is one of
`CONTESTANTS`, or `step:LABEL`, the bare step of what `--models LABEL` names; `WITHOUT` names a technique to switch off,
to see what it gains. Both sides compute on the accelerator where there is one, and their clock stops when its queue is
empty.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

READY_BATCHES = 8


class Contestant:
    """A context manager: one side in a separate process, which does steps on request."""

    def __init__(
        self, name: str, size: int, channels: int, batch: int, ours: bool, without: str = "", tree: Path | None = None
    ) -> None:
        """`tree` holds the packages of another commit, if it is not the installed one that is to be timed."""
        from ganzoo.running.process import KEEP_MEMORY, SHORT_SPINS

        environment = (
            ({} if without == "kept memory" else KEEP_MEMORY) | ({} if without == "short spins" else SHORT_SPINS)
            if ours
            else {}
        )
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), name, str(size), str(channels), str(batch), without],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | os.environ | ({} if tree is None else {"PYTHONPATH": str(tree)}),
        )

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def seconds(self, steps: int) -> float:
        """Seconds that `steps` steps take, by the clock of the contestant's process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def assembled(variant: str, size: int, channels: int, batch: int, ready: bool, ema: bool = True) -> Any:
    """An assembled run of ganzoo. With `ready` its batches are random tensors made in advance."""
    from ganzoo.planning.plan import resolve
    from ganzoo.planning.request import BenchPlan
    from ganzoo.registry.discovery import discover
    from ganzoo.training.assembly import assemble

    registry = discover()
    own = () if ema else (f"{variant}.ema_half_life_kimg=0",)
    dataset = "digits" if ready else "mnist"
    plan = BenchPlan((variant,), dataset, image_size=size, batch_size=batch, throughput_only=True, set=own)
    resolved = resolve(plan, registry)
    spec = replace(resolved.runs[0].spec, image_shape=(channels, size, size))
    run = assemble(spec, registry, resolved.dataset)
    if ready:
        run.batches = ReadyBatches(channels, size, batch, spec.memory_format, spec.device)
    return run


class ReadyBatches:
    """Batches of random images, already in the memory of the device."""

    wait_seconds = 0.0

    def __init__(self, channels: int, size: int, batch: int, memory_format: str, device: str) -> None:
        import torch

        layout = getattr(torch, memory_format + ("_format" if memory_format == "contiguous" else ""))
        self.device = torch.device(device)
        self.drawn = 0
        self.images = [
            torch.rand(batch, channels, size, size, device=device).mul_(2).sub_(1).contiguous(memory_format=layout)
            for _ in range(READY_BATCHES)
        ]

    def __next__(self) -> tuple[Any, None]:
        images = self.images[self.drawn // len(self.images[0]) % READY_BATCHES]
        self.drawn += len(images)
        return images, None


def plain(variant: str, size: int, channels: int, batch: int, ready: bool) -> Callable[[int], object]:
    """Steps of the plain PyTorch loop on the same networks."""
    import torch
    from plain_loop import PlainLoop, mnist_loader

    from ganzoo.machine.settings import resolve_device
    from ganzoo.registry.discovery import discover
    from ganzoo.training.players import build_players

    device = resolve_device("auto")
    architecture = discover().get("architectures", variant).record
    players = build_players(architecture, (channels, size, size), architecture.latent, 0, {}, 1)
    networks = players.generator.network, players["discriminator"].network
    if ready:
        made = ReadyBatches(channels, size, batch, "contiguous", device)
        batches: Iterator[torch.Tensor] = (images for images, _ in iter(made.__next__, None))  # type: ignore[misc]
    else:
        batches = mnist_loader(os.environ["GANZOO_DATA"], size, batch)
    loop = PlainLoop(*networks, architecture.latent, batches, device)

    def steps(count: int) -> None:
        for _ in range(count):
            loop.step()

    return steps


def harness(run: Any) -> Callable[[int], object]:
    """What `ganzoo bench` does for each step: schedules, phases, moving average, curves and progress."""
    import ganzoo.training.loop

    def steps(count: int) -> None:
        run.step = run.batches.drawn = 0
        # As often as in the default run, which has 1563 steps and about 200 points.
        ganzoo.training.loop.LOG_POINTS = max(1, count // 8)
        ganzoo.training.loop.train(run, count * run.batches.batch_size / 1000)

    return steps


def bare(run: Any) -> Callable[[int], object]:
    """The step alone."""
    from ganzoo.training.loop import run_step

    def steps(count: int) -> None:
        for _ in range(count):
            run_step(run)

    return steps


def with_average(run: Any) -> Callable[[int], object]:
    """The step and the moving average."""
    from ganzoo.training.loop import run_step

    def steps(count: int) -> None:
        for _ in range(count):
            seen = run.batches.drawn
            run_step(run)
            run.average.update(run.batches.drawn / 1000, (run.batches.drawn - seen) / 1000)

    return steps


CONTESTANTS: dict[str, Callable[..., Callable[[int], object]]] = {
    "plain-dcgan-ready": lambda *shape: plain("dcgan", *shape, ready=True),
    "plain-dcgan": lambda *shape: plain("dcgan", *shape, ready=False),
    "plain-mlp": lambda *shape: plain("mlp", *shape, ready=False),
    "dcgan-ready": lambda *shape: with_average(assembled("dcgan", *shape, ready=True)),
    "mlp-ready": lambda *shape: with_average(assembled("mlp", *shape, ready=True)),
    "dcgan": lambda *shape: harness(assembled("dcgan", *shape, ready=False)),
    "mlp": lambda *shape: harness(assembled("mlp", *shape, ready=False)),
    "dcgan-bare": lambda *shape: bare(assembled("dcgan", *shape, ready=False, ema=False)),
    "dcgan-harness": lambda *shape: harness(assembled("dcgan", *shape, ready=False, ema=False)),
}


def switch_off(technique: str) -> None:
    """Switch off one of ganzoo's techniques in this process."""

    import ganzoo.planning.plan
    import ganzoo.training.assembly
    import ganzoo.training.phase_update

    class Unfrozen(ganzoo.training.phase_update.PhaseUpdate):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.trainable += self.frozen
            self.frozen = []

        def __call__(self, batch: Any) -> Any:
            terms = super().__call__(batch)
            for parameter in self.trainable:
                parameter.grad = None
            return terms

    match technique:
        case "channels_last":
            preflight = ganzoo.planning.plan.preflight
            ganzoo.planning.plan.preflight = lambda *spec: replace(preflight(*spec), memory_format="contiguous")  # type: ignore
        case "oneDNN products":
            ganzoo.training.assembly.linear_backend = lambda *where: "blas"
        case "shared fakes":
            ganzoo.training.assembly.assemble = partial(ganzoo.training.assembly.assemble, share_fakes=False)
        case "freezing":
            ganzoo.training.assembly.PhaseUpdate = Unfrozen  # type: ignore[misc]
        case "fused Adam":
            ganzoo.training.assembly.make_optimizer = unfused_adam


def unfused_adam(parameters: Any, settings: Any, capturable: bool = False) -> Any:
    """Adam as `make_optimizer` makes it, a step of which may be captured, but for the fused kernel."""
    import torch

    rate = torch.tensor(settings.learning_rate, device=parameters[0].device) if capturable else settings.learning_rate
    return torch.optim.Adam(parameters, lr=rate, betas=settings.betas, capturable=capturable)


def main() -> None:
    """Serve on stdin and stdout until stdin ends."""
    import torch

    from ganzoo.machine.settings import resolve_device, synchronize

    device = resolve_device("auto")
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    name, *shape, without = sys.argv[1:]
    switch_off(without)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    label = name.removeprefix("step:")
    make = CONTESTANTS[name] if label == name else lambda *shape: bare(assembled(label, *shape, ready=True))
    steps = make(*map(int, shape))
    for line in sys.stdin:
        since = time.perf_counter()
        steps(int(line))
        synchronize(device)
        channel.write(f"{time.perf_counter() - since}\n")


if __name__ == "__main__":
    main()
