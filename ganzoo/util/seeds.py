"""Independent streams of random numbers from one seed, so that adding a draw in one place moves no other."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name` of a run's `seed`."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, name: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator on `device` for the stream `name` of a run's `seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))


@contextlib.contextmanager
def random_numbers_untouched(device: str | torch.device) -> Iterator[None]:
    """Put torch's global generators, those of the CPU and of `device`, back where they were when the block ends."""
    kind = torch.device(device).type
    devices = [] if kind == "cpu" else [torch.accelerator.current_device_index()]
    with torch.random.fork_rng(devices, device_type="cuda" if kind == "cpu" else kind):
        yield


@contextlib.contextmanager
def seeded(seed: int, device: str | torch.device) -> Iterator[None]:
    """Within the block torch's global generators begin at `seed`; afterwards they go on as if it had not been."""
    with random_numbers_untouched(device):
        torch.manual_seed(seed)
        yield
