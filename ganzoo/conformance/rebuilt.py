"""Builds the networks of a spec in another process with another PYTHONHASHSEED, to compare their initial weights.

A `build` that iterates over a set of names creates its modules in an order that no seed decides. Only another process
shows it: certainly for a set of many names, and in every second case for a set of two.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from ganzoo.errors import PluginError
from ganzoo.records.store import read_spec
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.training.assembly import materials_of, spec_players
from ganzoo.util.seeds import stream_seed

Digests = list[list[str]]
"""`[name, sha256]` of each parameter and buffer of the networks, in their order."""


def initial_weights(spec: RunSpec, registry: Registry) -> Digests:
    """Digests of the weights with which the players of a run start."""
    torch.manual_seed(stream_seed(spec.seed, "train/weights"))
    players = spec_players(spec, materials_of(spec, registry))
    return [
        [f"{player}.{name}", _sha256_of_tensor(tensor)]
        for player, network in players.items()
        for name, tensor in _named_tensors(network)
    ]


def initial_weights_elsewhere(spec: RunSpec, plugins: Sequence[str]) -> Digests:
    """`initial_weights` from a new process with the same plugins. Raises `PluginError` with its last line of stderr."""
    request = {
        "spec": spec.to_json(),
        "plugins": list(plugins),
        "path": sys.path,
        "threads": torch.get_num_threads(),
    }
    other_hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ganzoo.conformance.rebuilt"],
        input=json.dumps(request),
        env=os.environ | {"PYTHONHASHSEED": other_hashes},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        last_words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise PluginError(f"in another process the networks cannot be built: {last_words[0]}")
    digests: Digests = json.loads(done.stdout)
    return digests


def _named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _sha256_of_tensor(tensor: Tensor) -> str:
    content = tensor.detach().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype} ".encode() + content).hexdigest()


def main() -> NoReturn:
    """Answer the request and exit at once: a plugin's stray thread must not keep the process alive."""
    code = 1
    try:
        _answer_request()
        code = 0
    except BaseException:  # A plugin may raise anything.
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _answer_request() -> None:
    """Read a request on stdin, build its networks, and write their digests to stdout."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a plugin prints must not mix with the answer.
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    torch.set_num_threads(request["threads"])
    json.dump(initial_weights(read_spec(request["spec"]), discover(request["plugins"])), answer)
    answer.close()


if __name__ == "__main__":
    main()
