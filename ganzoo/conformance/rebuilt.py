"""The networks of a spec built once more, in a process in which Python hashes text otherwise.

A `build` that goes through a set of names gives its modules in an order that no seed decides, and only another process
shows it: surely for a set of many names, and every other time for one of two.
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
"""`[name, sha256]` of each tensor of the networks, in the order in which they hold them."""


def initial_weights(spec: RunSpec, registry: Registry) -> Digests:
    """Names, shapes and values with which the players of a run start."""
    torch.manual_seed(stream_seed(spec.seed, "train/weights"))
    players = spec_players(spec, materials_of(spec, registry))
    return [
        [f"{player}.{name}", _digest(tensor)]
        for player in ("generator", "discriminator")
        for name, tensor in _tensors(getattr(players, player))
    ]


def initial_weights_elsewhere(spec: RunSpec, plugins: Sequence[str]) -> Digests:
    """The same from a fresh process with the same plugins. Raises `PluginError` with its last words where it fails."""
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


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype} ".encode() + content).hexdigest()


def main() -> NoReturn:
    """Answer, and end at once: a plugin's stray thread must not keep the process alive."""
    code = 1
    try:
        _answer()
        code = 0
    except BaseException:  # A plugin may raise anything.
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _answer() -> None:
    """Read a request on stdin, build its networks, and write their digests to stdout."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # A print in a plugin must not be taken for the answer.
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    torch.set_num_threads(request["threads"])
    json.dump(initial_weights(read_spec(request["spec"]), discover(request["plugins"])), answer)
    answer.close()


if __name__ == "__main__":
    main()
