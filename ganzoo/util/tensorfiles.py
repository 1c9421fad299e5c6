"""Reads and checks the header of a safetensors file before any tensor is loaded; pickles are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.util.text import printable

LONGEST_HEADER = 100 << 20
"""The largest header that the safetensors format allows, in bytes."""


def read_header(path: Path) -> Mapping[str, Any]:
    """Tensors by name to `{dtype, shape, data_offsets}`, and `__metadata__` where there is any.

    Raises `ValueError` saying what is wrong with a file that is not whole or no safetensors, `OSError` where it cannot
    be read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError("is not a regular file")
    with path.open("rb") as stream:
        begin = stream.read(8)
        if begin[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise ValueError("is a pickle, which can run code: ganzoo reads safetensors only")
        length = int.from_bytes(begin, "little")
        if len(begin) < 8 or length > min(LONGEST_HEADER, path.stat().st_size - 8):
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
