"""All that a network holds, out of it and into another that is built alike: tensors, and what modules keep beside them.

A state dict lacks the buffers that are not persistent, and may hold anything as a module's extra state.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

BESIDE = "ganzoo"
"""The key of a weights file's metadata under which stands what is no tensor."""


@dataclass(frozen=True)
class NetworkState:
    """`tensors` by name, what else can be JSON as `extra`, and the names of what can be neither."""

    tensors: Mapping[str, Tensor]
    extra: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def state_of(network: nn.Module) -> NetworkState:
    """The state dict of a network with all its buffers."""
    state = dict(network.state_dict())
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in state.items() if name not in tensors}
    tensors |= dict(network.named_buffers(remove_duplicate=False))
    extra = {name: value for name, value in others.items() if _survives_json(value)}
    return NetworkState(tensors, extra, tuple(name for name in others if name not in extra))


def load_state(network: nn.Module, state: NetworkState) -> None:
    """Put a state into a network; a buffer that is not persistent and that the state lacks stays as it was built.

    Raises `RuntimeError` where the two do not hold the same.
    """
    persistent = set(network.state_dict())
    apart = {name: buffer for name, buffer in network.named_buffers(remove_duplicate=False) if name not in persistent}
    given = {name: tensor for name, tensor in state.tensors.items() if name not in apart}
    differing = network.load_state_dict({**given, **state.extra}, strict=False)
    missing = set(differing.missing_keys) - set(state.left_out)
    if missing or differing.unexpected_keys:
        raise RuntimeError(f"missing: {sorted(missing)}; unexpected: {differing.unexpected_keys}")
    with torch.no_grad():
        for name in apart.keys() & state.tensors.keys():
            if apart[name].shape != state.tensors[name].shape:
                raise RuntimeError(f"'{name}' has another shape")
            apart[name].copy_(state.tensors[name])


def state_bytes(state: NetworkState) -> bytes:
    """A state as the content of a safetensors file, from any device."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors.items()}
    beside = {"extra": state.extra, "left_out": state.left_out} if state.extra or state.left_out else None
    return save(tensors, metadata={BESIDE: json.dumps(beside)} if beside else None)


def read_state(path: Path) -> NetworkState:
    """The state in a file of `state_bytes`. Raises `SafetensorError` or `ValueError` where it is another."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        beside = json.loads((file.metadata() or {}).get(BESIDE, "{}"))
    return NetworkState(tensors, beside.get("extra", {}), tuple(beside.get("left_out", ())))


def extra_states(network: nn.Module) -> dict[str, Any]:
    """What modules keep beside their tensors, by the module's name, as far as it is a tensor or can be JSON."""
    states = {}
    for name, module in network.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            # A training is worth more than what a module cannot say.
            with contextlib.suppress(Exception):
                value = module.get_extra_state()
                if isinstance(value, Tensor) or _survives_json(value):
                    states[name] = value
    return states


def load_extra_states(network: nn.Module, states: Mapping[str, Any]) -> None:
    """Give modules back what `extra_states` has of them."""
    for name, value in states.items():
        network.get_submodule(name).set_extra_state(value)


def _survives_json(value: Any) -> bool:
    """Whether it is the same after a JSON round trip."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
