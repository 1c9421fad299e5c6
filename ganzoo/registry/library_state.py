"""Settings of torch and NumPy that code may change as a side effect. Neither is imported for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ganzoo.registry.process_state import UNKNOWN, Setting


def _torch() -> Any:
    return sys.modules["torch"]


def _of_torch(read: str, put_back: str, fresh: Any = UNKNOWN) -> Setting:
    """A setting by the names of its two functions."""
    return Setting(
        lambda: getattr(_torch(), read)(), lambda before: getattr(_torch(), put_back)(before), "torch", fresh
    )


def _flags_of(place: Callable[[], Any], *names: str) -> Setting:
    """Attributes of a part of torch, those of them that this torch has."""

    def put_back(before: Mapping[str, Any]) -> None:
        for name, value in before.items():
            setattr(place(), name, value)

    return Setting(
        lambda: {name: getattr(place(), name) for name in names if hasattr(place(), name)}, put_back, "torch"
    )


def _device() -> str | None:
    """The default device if one was set (even the CPU); a set device slows every call."""
    context = getattr(_torch()._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else str(context.device)


def _float32() -> dict[str, str]:
    from ganzoo.util.float32 import float32_settings

    return float32_settings()


def _put_back_float32(before: Mapping[str, str]) -> None:
    from ganzoo.util.float32 import restore_float32

    restore_float32(before)


LIBRARIES: Mapping[str, Setting] = {
    "NumPy errors": Setting(
        lambda: sys.modules["numpy"].geterr(),
        lambda before: sys.modules["numpy"].seterr(**before),
        "numpy",
        {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
    ),
    "dtype": Setting(
        lambda: str(_torch().get_default_dtype()).removeprefix("torch."),
        lambda before: _torch().set_default_dtype(getattr(_torch(), before)),
        "torch",
        "float32",
    ),
    "device": Setting(_device, lambda before: _torch().set_default_device(before), "torch", None),
    "gradients": _of_torch("is_grad_enabled", "set_grad_enabled", True),
    "threads": _of_torch("get_num_threads", "set_num_threads"),
    "deterministic": _of_torch("are_deterministic_algorithms_enabled", "use_deterministic_algorithms", False),
    "anomaly detection": Setting(
        lambda: (_torch().is_anomaly_enabled(), _torch().is_anomaly_check_nan_enabled()),
        lambda before: _torch().autograd.set_detect_anomaly(before[0], check_nan=before[1]),
        "torch",
        (False, True),
    ),
    # Whether this thread takes numbers below the least normal one for 0.
    "denormals": Setting(
        lambda: sys.float_info.min / 2 == 0, lambda before: _torch().set_flush_denormal(before), "torch", False
    ),
    "cuDNN": _flags_of(lambda: _torch().backends.cudnn, "enabled", "benchmark", "deterministic"),
    "CUDA products": _flags_of(
        lambda: _torch().backends.cuda.matmul,
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_accumulation",
    ),
    "oneDNN": _flags_of(lambda: _torch().backends.mkldnn, "enabled", "deterministic"),
    "float32": Setting(_float32, _put_back_float32, "torch"),
    "random numbers": Setting(
        lambda: bytes(_torch().get_rng_state().numpy()),
        lambda before: _torch().set_rng_state(_torch().frombuffer(bytearray(before), dtype=_torch().uint8)),
        "torch",
    ),
}
