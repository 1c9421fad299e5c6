"""Independent streams of random numbers from one seed, so that adding a draw in one place moves no other."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name` of a run's `seed`."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, name: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator on `device` for the stream `name` of a run's `seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))
