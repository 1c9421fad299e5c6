"""Any judge's answer as one vector, for what needs one number for each image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def one_logit(logits: Tensor | Sequence[Tensor]) -> Tensor:
    """Logits (N,) as they are, of a two-way head (N, 2) z1 - z0, and all of one map or several as one vector."""
    if not isinstance(logits, Tensor):
        return torch.cat([one_logit(part) for part in logits])
    return logits[:, 1] - logits[:, 0] if logits.dim() == 2 and logits.shape[1] == 2 else logits.flatten()
