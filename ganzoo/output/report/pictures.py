"""The pictures of a report: sample grids, real images of the same data beside them, and the nearest of these."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.prepared import PreparedDataset, whole_dataset
from ganzoo.errors import RecordError
from ganzoo.records.settings import setting
from ganzoo.records.store import SAMPLE_IMAGES, SAMPLES
from ganzoo.runs import RunRecord
from ganzoo.util.files import cache_folder
from ganzoo.util.images import grid, read_grid
from ganzoo.util.text import printable

REAL_IMAGES = 64
QUERIES = 8
"""How many samples of a run the nearest real images are looked for."""

CHUNK = 8192


@dataclass(frozen=True)
class Picture:
    """A PNG as a `data:` address, with its size in pixels."""

    address: str
    width: int
    height: int


def as_picture(picture: Tensor) -> Picture:
    """A uint8 (C, H, W) tensor, C = 1 or 3, as a PNG."""
    from PIL import Image

    array = (picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)).numpy()
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG", optimize=True)
    address = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(address, picture.shape[2], picture.shape[1])


def sample_images(record: RunRecord) -> Tensor:
    """The images in a run's sample grid, cut out of it: uint8 (N, C, H, W) at their own size.

    Raises `RecordError` where the picture is not there, or is no such grid.
    """
    assert record.path is not None
    path = record.path.parent / SAMPLES
    try:
        return read_grid(path, setting(record.spec, "image_shape"), SAMPLE_IMAGES)
    except ValueError as error:
        raise RecordError(f"{printable(path)}: {error}") from error


def cached_dataset(sha256: str) -> PreparedDataset | None:
    """The dataset with that content, if this machine has it in its cache, and whole; nothing is fetched."""
    folders = (path.parent for path in sorted(cache_folder("datasets").glob("*/dataset.json")))
    datasets = (whole_dataset(folder, sha256) for folder in folders)
    return next((dataset for dataset in datasets if dataset is not None), None)


def real_images(dataset: PreparedDataset) -> Tensor:
    """64 real images, or all where there are fewer, drawn at random but always the same: uint8 (N, C, H, W)."""
    chosen = torch.randperm(dataset.count, generator=torch.Generator().manual_seed(0))[:REAL_IMAGES]
    return torch.from_numpy(dataset.images()[np.sort(chosen.numpy())])


def nearest_real(samples: Tensor, dataset: PreparedDataset) -> Tensor:
    """For each of (N, C, H, W) samples the real image with the least L2 distance in pixels: uint8, of the same shape.

    All real images are compared, a few thousand at a time.
    """
    real = dataset.images()
    queries = samples.flatten(1).float()
    least = torch.full((len(queries),), torch.inf)
    place = torch.zeros(len(queries), dtype=torch.int64)
    for start in range(0, len(real), CHUNK):
        some = torch.from_numpy(real[start : start + CHUNK].copy()).flatten(1).float()
        distance, index = torch.cdist(queries, some, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        nearer = distance < least
        least = torch.where(nearer, distance, least)
        place = torch.where(nearer, index + start, place)
    return torch.from_numpy(real[place.numpy()].copy())


def neighbour_grid(samples: Tensor, dataset: PreparedDataset) -> Tensor:
    """A row of samples, and under each the nearest real image: uint8 (C, H, W)."""
    queries = samples[:QUERIES]
    return grid(torch.cat([queries, nearest_real(queries, dataset)]), columns=len(queries))
