"""Checkpoint files: safetensors with a JSON state and a sha256 of the file in the header.

A checkpoint holds no pickle, so reading a file from a stranger runs no code of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import RecordError
from ganzoo.util.files import reading_error, write_atomically
from ganzoo.util.tensorfiles import UNSIGNED, bears_its_sha256, read_header, signed
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"

CHECKPOINT_SCHEMA = "2"
"""Version of the layout: 2 since the state of the optimizers is keyed by the names of the parameters."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name on the CPU, and a JSON object of everything else."""

    run_id: str
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write to a temporary file and move it into place: the old checkpoint stays until the new one is complete.

    Raises `OSError` if the disk is full, for instance; `path` is unchanged then.
    """
    from safetensors.torch import save

    header = {
        "schema": CHECKPOINT_SCHEMA,
        "run_id": checkpoint.run_id,
        "state": json.dumps(checkpoint.state),
        "sha256": UNSIGNED,
    }
    parts = signed(save(dict(checkpoint.tensors), metadata=header))
    write_atomically(path, lambda stream: stream.writelines(parts))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify. Raises `RecordError` if the checkpoint is damaged or of another version, `RecordMissing` if it
    is absent, and `RecordUnreadable` if the file system fails to read it.
    """
    from safetensors.torch import load_file

    metadata = _verified(path)
    try:
        return Checkpoint(metadata["run_id"], load_file(path), json.loads(metadata["state"]))
    except OSError as error:
        raise reading_error(path, error) from error


def run_id_of_checkpoint(path: Path) -> str:
    """The id of the run that wrote the checkpoint; loads no tensor. Raises what `read_checkpoint` raises."""
    return _verified(path)["run_id"]


def _verified(path: Path) -> dict[str, str]:
    """The metadata of a checkpoint, after verifying it. Raises what `read_checkpoint` raises."""
    try:
        if fault := _fault_of_checkpoint(path):
            raise RecordError(f"{printable(path)}: {fault}")
        metadata: dict[str, str] = read_header(path)["__metadata__"]
        return metadata
    except OSError as error:
        raise reading_error(path, error) from error


def verify_checkpoint(path: Path) -> str | None:
    """The fault of a checkpoint in words, or None; loads no tensor."""
    try:
        return _fault_of_checkpoint(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _fault_of_checkpoint(path: Path) -> str | None:
    """As `verify_checkpoint`. Raises `OSError` if the file cannot be read."""
    try:
        metadata = read_header(path).get("__metadata__") or {}
        absent = [name for name in ("schema", "run_id", "sha256", "state") if name not in metadata]
        if absent:
            return f"is no checkpoint: its metadata lacks {', '.join(absent)}"
        if metadata["schema"] != CHECKPOINT_SCHEMA:
            version = printable(metadata["schema"], 20)
            return f"is a checkpoint of version {version}, and this ganzoo knows version {CHECKPOINT_SCHEMA}"
        if not _parses_as_json(metadata["state"]):
            return "its state is not JSON"
        intact = bears_its_sha256(path, metadata["sha256"])
    except ValueError as error:
        return str(error)
    return None if intact else "is damaged: its sha256 is not that of its bytes"


def _parses_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
