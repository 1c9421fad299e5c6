"""Whether two networks hold one tensor: a module, a weight or a buffer that both use, registered or not."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def hold_one_tensor(first: nn.Module, second: nn.Module) -> bool:
    """Whether any tensor that one network holds shares its memory with one that the other holds."""
    return not _storages(first).isdisjoint(_storages(second))


def _storages(network: nn.Module) -> set[int]:
    """The memory behind everything that a network holds, lists and dicts in its attributes included."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting: list[object] = [network]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.add(_storage(value))
        elif isinstance(value, nn.Module):
            waiting += vars(value).values()
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
    return found


def _storage(tensor: Tensor) -> int:
    """The same for two views of one memory, on the meta device too, where no memory has an address."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # Sparse tensors have none.
        return id(tensor)
