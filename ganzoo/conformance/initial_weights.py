"""The weights with which the networks of a variant start, here and in a process with another PYTHONHASHSEED.

A `build` that iterates over a set of names creates its modules in an order that no seed decides. Only another process
shows it: certainly for a set of many names, and in every second case for a set of two.
"""

from __future__ import annotations

import hashlib
import os

import torch
from torch import Tensor

from ganzoo.conformance.apart import call_apart
from ganzoo.conformance.trial import Trial
from ganzoo.training.assembly import spec_players
from ganzoo.util.seeds import stream_seed

Digests = list[list[str]]
"""`[name, sha256]` of each parameter and buffer of the networks, in their order."""


def initial_weights(trial: Trial) -> Digests:
    """Digests of the weights with which the players of a run start."""
    torch.manual_seed(stream_seed(trial.spec.seed, "train/weights"))
    return [
        [f"{player}.{name}", _sha256_of_tensor(tensor)]
        for player, network in spec_players(trial.spec, trial.materials).items()
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    ]


def initial_weights_elsewhere(trial: Trial) -> Digests:
    """`initial_weights` from a new process with the same plugins."""
    other_hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    return call_apart(trial, initial_weights, os.environ | {"PYTHONHASHSEED": other_hashes})


def _sha256_of_tensor(tensor: Tensor) -> str:
    content = tensor.detach().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype} ".encode() + content).hexdigest()
