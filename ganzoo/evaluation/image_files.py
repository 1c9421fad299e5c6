"""Many images in one file: `.npz`, as samples of diffusion models are exchanged, and `.safetensors`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as numpy_format
from numpy.typing import NDArray
from torch import Tensor

from ganzoo.errors import UsageError
from ganzoo.util.files import open_regular
from ganzoo.util.images import to_uint8
from ganzoo.util.text import printable

ENDINGS_OF_IMAGES = (".npz", ".safetensors")

NAMES = ("images", "arr_0")
"""What an array of images is called; `arr_0` is what `numpy.savez` calls one that was given no name."""

MOST_BYTES = 16 << 30
"""Images that take more memory are refused before they are read."""

CHANNELS = (1, 3)


def is_image_file(path: Path) -> bool:
    """Whether a path is, by its name, one of these files."""
    return path.suffix.lower() in ENDINGS_OF_IMAGES


def read_image_file(path: Path) -> Tensor:
    """The images of a file: uint8 (N, C, H, W), C 1 or 3.

    An `.npz` holds an array `images` or `arr_0`, uint8, (N, H, W, C) or (N, C, H, W); nothing in it is unpickled. A
    `.safetensors` holds a tensor `images`, uint8 or float in [-1, 1], (N, C, H, W); floats are rounded as a generator's
    images are. Raises `UsageError` for any other file.
    """
    try:
        images = _of_npz(path) if path.suffix.lower() == ".npz" else _of_safetensors(path)
    except OSError as error:
        raise UsageError(f"{printable(path)}: {error.strerror or 'cannot be read'}") from error
    if images.shape[1] not in CHANNELS:
        raise _other_than_asked(path, tuple(images.shape), "with 1 or 3 channels")
    return images


def _of_npz(path: Path) -> Tensor:
    try:
        with open_regular(path, links=True) as stream, zipfile.ZipFile(stream) as archive:
            there = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            name = _name_of_images(path, list(there))
            with archive.open(there[name]) as member:
                shape, dtype = _header(member)
            _check(path, shape, str(dtype), ("uint8",))
            with archive.open(there[name]) as member:
                array = numpy_format.read_array(member, allow_pickle=False, max_header_size=MOST_HEADER)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{printable(path)}: is no whole .npz of NumPy; write it anew by numpy.savez") from error
    return torch.from_numpy(np.ascontiguousarray(_channels_first(array)))


MOST_HEADER = 10_000
"""Characters of the header of an array; NumPy's own limit."""


def _header(member: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype, before anything of that size is read. Raises `ValueError`."""
    version = numpy_format.read_magic(member)
    read = numpy_format.read_array_header_1_0 if version == (1, 0) else numpy_format.read_array_header_2_0
    shape, _, dtype = read(member, max_header_size=MOST_HEADER)
    return shape, dtype


def _channels_first(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, C) to (N, C, H, W); what has its channels first already stays."""
    return array.transpose(0, 3, 1, 2) if array.shape[3] in CHANNELS else array


def _of_safetensors(path: Path) -> Tensor:
    from safetensors import SafetensorError, safe_open

    # A named pipe would be waited for.
    with open_regular(path, links=True):
        pass
    try:
        with safe_open(path, "pt") as file:
            name = _name_of_images(path, list(file.keys()))
            given = file.get_slice(name)
            _check(path, tuple(given.get_shape()), given.get_dtype(), ("U8", "F16", "BF16", "F32"))
            images: Tensor = file.get_tensor(name)
    except SafetensorError as error:
        raise UsageError(f"{printable(path)}: is no whole .safetensors; write it anew") from error
    if images.dtype == torch.uint8:
        return images
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= -1 and high <= 1):
        raise UsageError(
            f"{printable(path)}: has values from {low:.4g} to {high:.4g}; give uint8, or floats from -1 (black) to 1"
        )
    return torch.cat([to_uint8(some.float()) for some in images.split(1024)])


def _name_of_images(path: Path, names: list[str]) -> str:
    """The name of the images among what the file holds; of one array alone whatever it is called."""
    found = [name for name in NAMES if name in names] or (names if len(names) == 1 else [])
    if not found:
        raise UsageError(f"{printable(path)}: holds {printable(', '.join(names) or 'nothing', 80)}, and no 'images'")
    return found[0]


def _check(path: Path, shape: tuple[int, ...], dtype: str, dtypes: tuple[str, ...]) -> None:
    if dtype not in dtypes:
        raise UsageError(f"{printable(path)}: holds images of type {printable(dtype)}; give {' or '.join(dtypes)}")
    if len(shape) != 4 or 0 in shape:
        raise _other_than_asked(path, shape, "of four dimensions: number, height, width, channels")
    if np.prod(shape, dtype=object) > MOST_BYTES:
        raise UsageError(f"{printable(path)}: its images take more than {MOST_BYTES >> 30} GiB; give fewer")


def _other_than_asked(path: Path, shape: tuple[int, ...], asked: str) -> UsageError:
    return UsageError(f"{printable(path)}: holds an array of shape {shape}; give images {asked}")
