"""Detects host-device synchronization in a function, on any device, the CPU included.

A CUDA graph cannot hold a synchronization, and on an accelerator each one drains the queue of a step. On the CPU
nothing waits, so calls that would are recognized by name: methods of tensors that give Python numbers, and operators
whose result has a shape that depends on values. On CUDA `torch.cuda.set_sync_debug_mode` finds the rest.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

METHODS = {
    "item": ".item()",
    "tolist": ".tolist()",
    "numpy": ".numpy()",
    "cpu": ".cpu()",
    "__array__": "a conversion to NumPy",
    "__bool__": "a branch on a tensor",
    "__contains__": "`in` on a tensor",
    "__float__": "float() of a tensor",
    "__int__": "int() of a tensor",
    "__index__": "a tensor as an index",
    "__complex__": "complex() of a tensor",
    "__repr__": "printing a tensor",
    "__format__": "printing a tensor",
}
"""Methods of tensors that read values on the host, and how a message calls them."""

OPERATORS = {
    *("item", "is_nonzero", "equal", "allclose"),
    *("nonzero", "nonzero_numpy", "argwhere", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
}
"""Operators that read values on the host, or whose result's shape depends on values."""

TORCH = Path(torch.__file__).parent
GANZOO = Path(__file__).parent.parent


class HostSync(Exception):
    """A function made the host wait for the device. The message says by which call, and in which line."""


@contextlib.contextmanager
def no_host_sync(device: str) -> Iterator[None]:
    """Raise `HostSync` when the block makes the host wait for the device."""
    with contextlib.ExitStack() as stack:
        if torch.device(device).type == "cuda":
            stack.enter_context(_cuda_errors())
        stack.enter_context(_Operators())
        stack.enter_context(_Methods())
        yield


class _Methods(TorchFunctionMode):
    """Intercepts calls of tensor methods in Python; on the CPU several of them reach no operator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in METHODS and getattr(Tensor, name, None) is func:
            raise HostSync(_located(METHODS[name]))
        # `.to(images.device)` is right; a device written out is not, wherever the rest of the run is.
        if name == "to" and any(isinstance(arg, str) for arg in (*args, *(kwargs or {}).values())):
            raise HostSync(_located(".to() a device written out"))
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    """Intercepts operators, also those called by torch's code and the backward pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func._overloadpacket).removeprefix("aten.")
        if name == "_local_scalar_dense":
            raise HostSync(_located("a tensor as a Python number"))
        if name in OPERATORS or (name == "repeat_interleave" and "output_size" not in (kwargs or {})):
            raise HostSync(_located(f"torch.{name.strip('_')}"))
        if name in ("index", "index_put", "index_put_") and _has_mask(args[1]):
            raise HostSync(_located("indexing by a mask"))
        return func(*args, **(kwargs or {}))


def _has_mask(indices: Iterable[object]) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextlib.contextmanager
def _cuda_errors() -> Iterator[None]:
    """Raise `HostSync` for the synchronizations that CUDA detects."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        raise HostSync("a CUDA operation that synchronizes, such as a copy between host and device") from error
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _located(what: str) -> str:
    """`what`, with the innermost line that is neither torch's nor ganzoo's."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.suffix == ".py" and not path.is_relative_to(TORCH) and not path.is_relative_to(GANZOO):
            return f"{what} in {path.name}, line {frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return what
