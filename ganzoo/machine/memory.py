"""Whether an error says that memory is full."""

from __future__ import annotations

import torch

SPOKEN = (
    *("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory", "CUDA error: out of memory"),
    # What these libraries need beside torch's own memory does not fit.
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUSOLVER_STATUS_ALLOC_FAILED"),
)
"""What torch says where its error has no type of its own."""


def out_of_memory(error: BaseException) -> bool:
    """On the CPU and on MPS torch says so in words only, and a failed capture in the error behind the error."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, (torch.OutOfMemoryError, MemoryError)) or any(text in str(behind) for text in SPOKEN):
            return True
        behind = behind.__cause__ or behind.__context__
    return False
