"""safetensors files: the header is read and checked before any tensor is loaded, and one may bear its own sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.util.files import NotRegular, open_regular
from ganzoo.util.text import printable

LONGEST_HEADER = 100 << 20
"""The largest header that the safetensors format allows, in bytes."""

UNSIGNED = "0" * 64
"""Placeholder in the metadata while the sha256 is computed."""


def read_header(path: Path, *, links: bool = False) -> Mapping[str, Any]:
    """Tensors by name to `{dtype, shape, data_offsets}`, and `__metadata__` where there is any.

    Raises `ValueError` saying what is wrong with a file that is not whole or no safetensors, or that is a symbolic link
    (unless `links`), and `OSError` where it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        stream = open_regular(path, links=links)
    except NotRegular as error:
        raise ValueError(f"is {error.strerror}") from error
    with stream:
        begin = stream.read(8)
        length = int.from_bytes(begin, "little")
        if len(begin) < 8 or length > min(LONGEST_HEADER, path.stat().st_size - 8):
            # Only of such a file: the length of a header may begin with these bytes too.
            if begin[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
                raise ValueError("is a pickle, which can run code: ganzoo reads safetensors only")
            raise ValueError("is no safetensors file: its header claims more bytes than there are")
        text = stream.read(length)
    try:
        with safe_open(path, framework="numpy"):
            pass
        header = json.loads(text)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"is no safetensors file: {printable(error, 100)}") from error
    if not isinstance(header, dict):
        raise ValueError("is no safetensors file: its header is no object")
    return header


def signed(content: bytes) -> tuple[bytes, bytes, bytes]:
    """A safetensors file with its sha256 in the place of `UNSIGNED` in its metadata, as three parts."""
    digest = hashlib.sha256(content).hexdigest()
    # The key of the header: in other texts of the metadata the quotes would be escaped.
    place = content.index(f'"sha256":"{UNSIGNED}"'.encode()) + len('"sha256":"')
    return content[:place], digest.encode(), content[place + len(digest) :]


def bears_its_sha256(path: Path, sha256: str, *, links: bool = False) -> bool:
    """Whether a file that `read_header` accepts is as `signed` made it; `sha256` is that of its metadata."""
    digest = sha256.encode()
    if len(digest) != len(UNSIGNED):
        return False
    with open_regular(path, links=links) as stream:
        begin = stream.read(8)
        header = stream.read(int.from_bytes(begin, "little"))
        computed = hashlib.sha256(begin + header.replace(digest, UNSIGNED.encode(), 1))
        while block := stream.read(1 << 20):
            computed.update(block)
    return computed.hexdigest() == sha256


def count_absurd(path: Path, largest: float) -> int:
    """How many numbers of the float32 and float64 tensors in a whole file are NaN, infinite or larger than `largest`.

    0 where none is NaN and most are sound: a mask may hold infinities on purpose.
    """
    import numpy as np
    from safetensors import safe_open

    nan, beyond, count = 0, 0, 0
    with safe_open(path, framework="numpy") as file:
        for name, entry in read_header(path).items():
            if name != "__metadata__" and entry["dtype"] in ("F32", "F64"):
                values = file.get_tensor(name)
                nan += int(np.isnan(values).sum())
                beyond += int((np.abs(values) > largest).sum())
                count += values.size
    return nan + beyond if nan or beyond > count / 2 else 0
