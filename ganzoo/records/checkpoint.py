"""A checkpoint as a file: one safetensors file with a JSON state and the sha256 of its own bytes in its header.

It holds no pickle, so a file from a stranger can do nothing when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import RecordError
from ganzoo.util.files import reading_error, write_atomically
from ganzoo.util.tensorfiles import read_header
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"

SCHEMA = "2"
"""Version of what a checkpoint holds: 2 since the state of the optimizers goes by the names of the parameters."""

UNSIGNED = "0" * 64
"""Stands in the header for the digest while the digest is taken."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: tensors by name on the CPU, and a JSON object of everything else."""

    run_id: str
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write to a temporary file and move it into place: until the new checkpoint is whole, the old one stays.

    Raises `OSError` where there is no space; `path` is then as it was.
    """
    from safetensors.torch import save

    header = {
        "schema": SCHEMA,
        "run_id": checkpoint.run_id,
        "state": json.dumps(checkpoint.state),
        "sha256": UNSIGNED,
    }
    content = save(dict(checkpoint.tensors), metadata=header)
    digest = hashlib.sha256(content).hexdigest()
    # As a key of the header; quoted otherwise, it cannot stand in the state.
    place = content.index(f'"sha256":"{UNSIGNED}"'.encode()) + len('"sha256":"')
    signed = (content[:place], digest.encode(), content[place + len(digest) :])
    write_atomically(path, lambda stream: [stream.write(part) for part in signed])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify. Raises `RecordError` where it is not whole or of another version, `RecordMissing` where it is
    not there, and `RecordUnreadable` where the file system does not give it.
    """
    from safetensors.torch import load_file

    metadata = _verified(path)
    try:
        return Checkpoint(metadata["run_id"], load_file(path), json.loads(metadata["state"]))
    except OSError as error:
        raise reading_error(path, error) from error


def run_id_of_checkpoint(path: Path) -> str:
    """The id of the run that wrote it. Raises what `read_checkpoint` does; no tensor is loaded."""
    return _verified(path)["run_id"]


def _verified(path: Path) -> dict[str, str]:
    """The metadata of a checkpoint in which nothing is wrong. Raises what `read_checkpoint` does."""
    try:
        if fault := _fault_of(path):
            raise RecordError(f"{printable(path)}: {fault}")
        metadata: dict[str, str] = read_header(path)["__metadata__"]
        return metadata
    except OSError as error:
        raise reading_error(path, error) from error


def verify_checkpoint(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None. No tensor is loaded."""
    try:
        return _fault_of(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _fault_of(path: Path) -> str | None:
    """As `verify_checkpoint`. Raises `OSError` where the file cannot be read."""
    # Asked first: in what is absent, or kept back, nothing is wrong.
    path.stat()
    try:
        told = read_header(path).get("__metadata__") or {}
        absent = [name for name in ("schema", "run_id", "sha256", "state") if name not in told]
        if absent:
            return f"is no checkpoint: its metadata lacks {', '.join(absent)}"
        if told["schema"] != SCHEMA:
            return f"is a checkpoint of version {printable(told['schema'], 20)}, and this ganzoo knows version {SCHEMA}"
        if not _is_json(told["state"]):
            return "its state is not JSON"
        digits = told["sha256"].encode()
        whole = len(digits) == len(UNSIGNED) and _sha256_without(path, digits) == told["sha256"]
    except ValueError as error:
        return str(error)
    return None if whole else "is damaged: its sha256 is not that of its bytes"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _sha256_without(path: Path, digits: bytes) -> str:
    """The sha256 of a file with `digits`, where they first stand in its header, replaced by zeros."""
    with path.open("rb") as stream:
        begin = stream.read(8)
        header = stream.read(int.from_bytes(begin, "little"))
        digest = hashlib.sha256(begin + header.replace(digits, UNSIGNED.encode(), 1))
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
