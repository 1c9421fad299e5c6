"""Whether two networks hold one tensor: a module, a weight or a buffer that both use, registered or not."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import CellType, FunctionType, MethodType, ModuleType

from torch import Tensor, nn


def hold_one_tensor(first: nn.Module, second: nn.Module) -> bool:
    """Whether any tensor that one network holds shares its memory with one that the other holds."""
    return not _storages(first).isdisjoint(_storages(second))


def _storages(network: nn.Module) -> set[int]:
    """The memory behind everything that a network holds: in attributes, lists, dicts, plain objects and closures."""
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
        else:
            waiting += _held(value)
    return found


def _held(value: object) -> list[object]:
    """What a function, a method, a partial or a plain object holds; classes and modules are everybody's."""
    if isinstance(value, (type, ModuleType)):
        return []
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    slots = (getattr(value, name, None) for type_ in type(value).__mro__ for name in vars(type_).get("__slots__", ()))
    return [*getattr(value, "__dict__", {}).values(), *slots]


def _storage(tensor: Tensor) -> int:
    """The same for two views of one memory, on the meta device too, where no memory has an address."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # Sparse tensors have none.
        return id(tensor)
