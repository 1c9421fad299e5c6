"""Networks that are made without memory and then take the tensors of a file, which is unpickled by `weights_only`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

import ganzoo

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Inside of it a file that does not fit raises `WeightsUnavailable`: `PATH does not hold WHAT`."""
    try:
        yield
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise ganzoo.WeightsUnavailable(f"{path} does not hold {what}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict, by `weights_only`. Raises one of the errors that `refusing` knows for anything else."""
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise TypeError("not a state dict")
    return tensors


def network_with(build: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network:
    """The network that `build` makes, with these weights in float32, in eval mode.

    It is made on the meta device, where it costs neither memory nor random numbers. Raises `RuntimeError` where a
    tensor is absent, left over or of another shape.
    """
    with torch.device("meta"):
        network = build()
    network.load_state_dict({name: tensor.float().contiguous() for name, tensor in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)
