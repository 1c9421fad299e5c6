"""The tensors of a TorchScript archive, read in a process of its own: such an archive is a program.

python torchscript_tensors.py ARCHIVE PREFIX TARGET writes those whose names begin with PREFIX, without it, as
safetensors.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from torch import Tensor


def tensors_of_archive(archive: Path, prefix: str) -> dict[str, Tensor]:
    """The parameters and buffers of an archive whose names begin with `prefix`, which is taken off.

    Raises `OSError` where it is no such archive, and `RuntimeError`, with the last line of the process, where it has no
    such tensors.
    """
    from safetensors.torch import load_file

    if not is_archive(archive):
        raise OSError("no TorchScript archive")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tensors.safetensors"
        command = [sys.executable, "-P", str(Path(__file__).resolve()), str(archive.resolve()), prefix, str(target)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return load_file(target)


def is_archive(path: Path) -> bool:
    """Whether a file looks like TorchScript's: a zip with constants, which what `torch.save` writes has not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def main(archive: str, prefix: str, target: str) -> None:
    """See the module."""
    import torch
    from safetensors.torch import save_file

    state = torch.jit.load(archive, map_location="cpu").state_dict()
    tensors = {
        name.removeprefix(prefix): tensor.detach().contiguous()
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    if not tensors:
        raise SystemExit(f"the archive has no {prefix}*")
    save_file(tensors, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
