"""A checkpoint as a file: one safetensors file with a JSON state and the sha256 of its own bytes in its header.

It holds no pickle, so a file from a stranger can do nothing when it is read.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import RecordError
from ganzoo.files import write_atomically
from ganzoo.text import printable

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"

SCHEMA = "1"
"""Version of what a checkpoint holds."""

UNSIGNED = "0" * 64
"""Stands in the header for the digest while the digest is taken."""

HEADER_LIMIT = 100_000_000
"""Bytes; safetensors takes no longer header."""


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
    digest = hashlib.sha256(content).hexdigest().encode()
    place = _digest_place(content)
    signed = (content[:place], digest, content[place + len(digest) :])
    write_atomically(path, lambda stream: [stream.write(part) for part in signed])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify. Raises `RecordError` where it is not there, not whole, or of another version."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{printable(path)}: cannot be read: {error.strerror}") from error
    if reason := what_is_wrong(content):
        raise RecordError(f"{printable(path)}: {reason}")
    metadata = _metadata(content)
    try:
        return Checkpoint(metadata["run_id"], load(content), json.loads(metadata["state"]))
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise RecordError(f"{printable(path)}: is not a checkpoint ({printable(error)})") from error


def what_is_wrong(content: bytes) -> str | None:
    """Why `content` is no checkpoint that this version can use; None where all is well."""
    try:
        metadata = _metadata(content)
        schema, signed, state = (metadata[name] for name in ("schema", "sha256", "state"))
        place = _digest_place(content)
    except (ValueError, KeyError, TypeError, RecursionError, struct.error):
        return "is not a checkpoint"
    if schema != SCHEMA:
        return f"is a checkpoint of version {printable(schema, 20)}, and this ganzoo knows version {SCHEMA}"
    digest = hashlib.sha256(content[:place])
    digest.update(UNSIGNED.encode())
    digest.update(memoryview(content)[place + len(UNSIGNED) :])
    if digest.hexdigest() != signed:
        return "is damaged: its sha256 is not the one in its header"
    return None if isinstance(state, str) else "is not a checkpoint"


def _header_end(content: bytes) -> int:
    """A safetensors file begins with the length of its header: 8 bytes, little-endian."""
    (length,) = struct.unpack("<Q", content[:8])
    if not 2 <= length <= min(HEADER_LIMIT, len(content) - 8):
        raise ValueError("the header does not fit the file")
    return 8 + int(length)


def _metadata(content: bytes) -> dict[str, Any]:
    metadata = json.loads(content[8 : _header_end(content)])["__metadata__"]
    if not isinstance(metadata, dict):
        raise TypeError("the metadata is no object")
    return metadata


def _digest_place(content: bytes) -> int:
    """Where the digest stands in the header: after its key, the first time that this stands there as a key."""
    key = b'"sha256":"'
    return content.index(key, 8, _header_end(content)) + len(key)
