"""How torch multiplies float32: in IEEE arithmetic or in tf32. torch has two interfaces for it, and both count.

The older one is `set_float32_matmul_precision` and `cudnn.allow_tf32`, the newer `torch.backends.fp32_precision` with a
value for each backend and operator. "none" of an operator means that of its backend, and "none" of that the general
one: a general "tf32" therefore stays in force below the older setters, whose getters raise then.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

PLACES = (
    ("generic", "all"),
    *(("cuda", operator) for operator in ("all", "matmul", "conv", "rnn")),
    *(("mkldnn", operator) for operator in ("all", "matmul", "conv", "rnn")),
)
"""The backends and operators that the newer interface has a value for."""

HAS_PLACES = hasattr(torch._C, "_set_fp32_precision_setter")


def set_float32(*, tf32: bool) -> None:
    """Compute float32 in tf32, or in IEEE arithmetic, whatever either interface was set to before."""
    if HAS_PLACES:
        for backend, operator in PLACES:
            torch._C._set_fp32_precision_setter(backend, operator, "none")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def float32_settings() -> dict[str, str]:
    """What both interfaces are set to. The older one cannot say it where the newer contradicts it, and is left out."""
    settings: dict[str, str] = {}
    if HAS_PLACES:
        for backend, operator in PLACES:
            settings[f"{backend}.{operator}"] = torch._C._get_fp32_precision_getter(backend, operator)
    try:
        settings["matmul"] = torch.get_float32_matmul_precision()
        settings["cudnn"] = "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    except RuntimeError:
        pass
    return settings


def restore_float32(settings: Mapping[str, str]) -> None:
    """Go back to an answer of `float32_settings`."""
    if "matmul" in settings:
        torch.set_float32_matmul_precision(settings["matmul"])
    if "cudnn" in settings:
        torch.backends.cudnn.allow_tf32 = settings["cudnn"] == "tf32"
    for backend, operator in PLACES if HAS_PLACES else ():
        # An operator answers with the value of its backend where it has none; to give it that is the same.
        torch._C._set_fp32_precision_setter(backend, operator, settings[f"{backend}.{operator}"])
