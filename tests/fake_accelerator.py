"""Steps on an accelerator that is not there: what a step would launch on it, copy to it, and wait for.

torch lets a backend be written in Python; its tensors here are fake: they have a shape and a device and no values, so a
step runs forward, backward and update without a device. Operators on tensors of two devices fail as they do on a GPU,
and so does what reads a value. `python fake_accelerator.py MODELS STEPS BATCH PLUGIN…` prints what it has counted as
JSON. The backend is of the whole process, so no test registers it in its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "fakegpu"

THERE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
"""Whether this torch lets a backend be written in Python."""

WARM = 2
"""Steps before one is counted: the first makes the moments of the optimizers."""


class Watch(TorchDispatchMode):
    """Counts the operators on the device that are no views, and the copies between it and the host.

    `blocking` has the copies for which the host waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.copies = 0
        self.blocking: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)}
        self.launches += DEVICE in devices and not func.is_view
        if func is torch.ops.aten._to_copy.default and len(devices) > 1:
            self.copies += 1
            if not kwargs.get("non_blocking"):
                self.blocking.append(f"{func} of {tuple(args[0].shape)}")
        return out


def register() -> None:
    """Register the accelerator in this process, before anything is differentiated in it."""

    class Backend(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16]

    backend_registration._setup_privateuseone_for_python_backend(DEVICE, backend_module=Backend())


def pretend() -> None:
    """Make what a run builds fit for tensors without values."""
    import torch._subclasses.fake_tensor as fake_tensor

    import ganzoo.training.assembly as assembly
    import ganzoo.training.optimizers as optimizers
    from ganzoo.util.seeds import stream

    # Else tensors of one number keep their value, and it is really computed with.
    fake_tensor.CONSTANT_NUMEL_LIMIT = 0
    torch._C._set_only_lift_cpu_tensors(True)
    nn.Module.to = _moved  # type: ignore[method-assign, assignment]
    optimizers.make_optimizer = _on_the_device(optimizers.make_optimizer)  # type: ignore[assignment]
    # No generator of random numbers can be written in Python.
    assembly.stream = lambda seed, name, device="cpu": stream(seed, name)
    assembly.latent_drawer = lambda spec, architecture: (  # type: ignore[assignment]
        lambda count, rng: torch.zeros(count, spec.recipe.latent, device=spec.device)
    )


def _moved(self: nn.Module, device: str, memory_format: object = None) -> nn.Module:
    """`Module.to`, which cannot put a fake parameter in the place of another."""
    moved: dict[int, torch.Tensor] = {}
    for module in self.modules():
        for table in (module._parameters, module._buffers):
            for name, old in table.items():
                if old is None:
                    continue
                if id(old) not in moved:
                    new = old.detach().to(device)
                    moved[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                table[name] = moved[id(old)]  # type: ignore[assignment]
    return self


def _on_the_device(make: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Optimizers that count their steps on the device, as they do on CUDA."""

    def made(*arguments: Any, **of_device: Any) -> torch.optim.Optimizer:
        optimizer = make(*arguments)
        for group in optimizer.param_groups:
            group |= {"capturable": True} if "capturable" in group else {}
        return optimizer

    return made


def counted(spec: Any, registry: Any, dataset: Any, steps: int) -> dict[str, Any]:
    """What `steps` steps launch and copy, or why they cannot be done."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    import ganzoo.training.assembly as assembly
    from ganzoo.training.loop import run_step
    from ganzoo.training.schedules import Moving, Schedules

    class Planned(Schedules):
        """Takes the coefficients from the spec: a tensor without a value cannot be asked for its own."""

        def __init__(self, rate_decay: Any, schedules: Any, optimizers: Any, values: Any, *others: Any) -> None:
            others_of_run = {name: one for name, one in schedules.items() if name not in values.hyper}
            super().__init__(rate_decay, others_of_run, optimizers, values, *others)
            for name in schedules.keys() - others_of_run.keys():
                base = float(spec.recipe.hyper[name])
                self.moving.append(Moving(base, (schedules[name],), values.hyper[name].fill_))

    assembly.Schedules = Planned  # type: ignore[misc]
    watch = Watch()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            run = assembly.assemble(spec, registry, dataset)
            for step in range(WARM + steps):
                run.schedules.apply(step / 1000, run.step)
                if step < WARM:
                    run_step(run)
                    continue
                with watch:
                    run_step(run)
                    run.average.update(run.batches.drawn / 1000, run.batches.batch_size / 1000)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"launches": watch.launches / steps, "copies": watch.copies, "blocking": watch.blocking}


def main(models: str, steps: str, batch_size: str, *plugins: str) -> None:
    """Print, for each variant of `models`, what its steps on `digits` launch and copy, by variant."""
    from dataclasses import replace

    from ganzoo.planning.plan import resolve
    from ganzoo.planning.request import BenchPlan
    from ganzoo.registry.discovery import discover

    register()
    registry = discover(plugins)
    asked = BenchPlan(
        tuple(models.split(",")), device="cpu", throughput_only=True, batch_size=int(batch_size), plugins=plugins
    )
    plan = resolve(asked, registry)
    pretend()
    found = {
        run.spec.variant: counted(replace(run.spec, device=f"{DEVICE}:0"), registry, plan.dataset, int(steps))
        for run in plan.runs
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
