"""Which device can compute what."""

from __future__ import annotations

import torch


def float64_device(device: str | torch.device) -> torch.device:
    """`device`, or the CPU if it has no float64."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device
