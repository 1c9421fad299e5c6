"""Datasets: prepared once as uint8 in the cache, then held on the device, or streamed where they do not fit.

`prepare` asks a dataset plugin for its images, decodes and hashes them, and keeps them as a memory-mapped array.
A run maps that array, so no run imports torchvision or decodes an image, and all see the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from ganzoo.errors import DataUnavailable, GanzooError, PluginError
from ganzoo.machine.settings import resolve_threads
from ganzoo.registry.validation import blaming, check_record
from ganzoo.types import Dataset, DatasetRequest, ImageShape, LabelledImages
from ganzoo.util.cache import DATASET_FILES
from ganzoo.util.conversion import convert
from ganzoo.util.files import cache_folder, open_regular, read_regular, unique_beside
from ganzoo.util.rights import cache_fault, make_folder, share_with_group
from ganzoo.util.text import printable, slug

WORTH_PROCESSES = 512
"""From this many images on, decoding in worker processes is faster than in one, their start included."""


OnProgress = Callable[[int, int, int], None]
"""Called with the number of images done, of all images, and the bytes that all will take."""


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset in the cache. `classes` is 0 without labels.

    `sha256` is of shape, pixels and labels, and of the names of the classes where they have some.
    """

    name: str
    folder: str
    image_shape: ImageShape
    count: int
    classes: int
    sha256: str
    source: str
    split: str
    skipped: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    with_alpha: int = 0
    background: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def remarks(self) -> list[str]:
        """What a user may not expect of the images, a line each: what was skipped, and the notes of the dataset."""
        shown = ", ".join(printable(name) for name in self.skipped[:3])
        skipped = [f"skipped {len(self.skipped)} unreadable image(s): {shown}"] if self.skipped else []
        return [*skipped, *map(printable, self.notes.values())]

    def images(self) -> np.ndarray:
        """uint8 (N, C, H, W), memory-mapped."""
        return np.load(Path(self.folder) / "images.npy", mmap_mode="r")

    def labels(self) -> np.ndarray | None:
        """int64 (N,), or None."""
        return np.load(Path(self.folder) / "labels.npy") if self.classes else None


def prepare(
    dataset: Dataset,
    request: DatasetRequest,
    source_sha256: str | None,
    on_progress: OnProgress = lambda done, total, size: None,
) -> PreparedDataset:
    """Load `dataset` and write it to the cache, or return it from there, where its content has the sha256 it came with.

    What is damaged there is made again, in another place where it cannot be removed. The cache key is made of name,
    argument, size, the dataset's `fingerprint` and the plugin's source; where the argument is the path of something
    that is there, its real path counts, for `photos` is another folder elsewhere.
    `on_progress(done, total, size)` follows the images, of `size` bytes in all, beginning before the first. Raises
    `DataUnavailable` where the images are absent, unreadable or empty.
    """
    name = f"{dataset.name}:{request.argument}" if request.argument else dataset.name
    identity = (
        *(name, request.image_size, request.skip_bad_images, source_sha256),
        *(request.background, _fingerprint_of(dataset, request), _real_place(request.argument)),
    )
    beginning = cache_folder("datasets") / f"{slug(dataset.name, 40)}-{request.image_size}"
    for folder in _candidate_folders(beginning, identity):
        if os.path.lexists(folder):
            if (cached := whole_dataset(folder)) is not None:
                return cached
            if not _removed(folder):
                continue
        break
    loaded = _loaded(dataset, request, name)
    temporary = unique_beside(folder)
    try:
        make_folder(temporary)
        prepared = _write(name, folder, temporary, loaded, request.background, on_progress)
        facts = asdict(prepared)
        (temporary / "dataset.json").write_text(json.dumps({**facts, FACTS_SHA256: _facts_sha256(facts)}, indent=1))
        for path in temporary.iterdir():
            share_with_group(path)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process prepared the same dataset first; its copy is as good.
            cached = whole_dataset(folder)
            if cached is None or cached.sha256 != prepared.sha256:
                raise
            return cached
    except OSError as error:
        raise DataUnavailable(
            f"cannot write the prepared dataset to {printable(folder.parent)}: {cache_fault(error, folder.parent)}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return prepared


def _candidate_folders(beginning: Path, identity: tuple[object, ...]) -> Iterator[Path]:
    """The folder of a dataset, and others for where what lies there is damaged and cannot be removed."""
    for place in count():
        identified = (*identity, place) if place else identity
        key = hashlib.sha256(repr(identified).encode()).hexdigest()[:16]
        yield beginning.with_name(f"{beginning.name}-{key}")


def _removed(folder: Path) -> bool:
    """Remove a damaged dataset; False where that cannot be, or where a link or other files were put."""
    if not folder.is_symlink():
        with contextlib.suppress(OSError):
            for name in DATASET_FILES:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    return not os.path.lexists(folder)


def _real_place(argument: str) -> str | None:
    """The real path that an argument stands for; None where it is no path, or leads nowhere."""
    try:
        return os.path.realpath(Path(argument).expanduser(), strict=True) if argument else None
    except (OSError, RuntimeError, ValueError):
        return None


def _loaded(dataset: Dataset, request: DatasetRequest, name: str) -> LabelledImages:
    """Call `dataset.load` and check the type and count of what it returns; `_write` checks images and labels.

    Raises `DataUnavailable` for no images, and `PluginError` for another type.
    """
    with blaming(DataUnavailable, f"dataset {printable(name)} cannot be loaded"):
        loaded = dataset.load(request)
    if not isinstance(loaded, LabelledImages):
        given = printable(type(loaded).__name__, 80)
        raise PluginError(
            f"dataset {printable(name)}: load gave {given}; it must give ganzoo.LabelledImages(images, …)"
        )
    try:
        check_record(loaded)
    except PluginError as error:
        raise PluginError(f"dataset {printable(name)}: {error}") from error
    with blaming(PluginError, f"dataset {printable(name)}: images must be an array or a sequence"):
        count = len(loaded.images)
    if not count:
        raise DataUnavailable(f"dataset {printable(name)} holds no image")
    return loaded


def whole_dataset(folder: Path, wanted: str | None = None) -> PreparedDataset | None:
    """The dataset in a folder of the cache, or None if it is damaged: its content must have the sha256 it came with.

    With `wanted` it is None also, and its content is not read, where that is not the sha256 it came with.
    Sizes are held against headers and headers against `dataset.json` first, so a header that claims too much costs no
    memory. Files are read and not mapped: a disk that fails under a map ends the process.
    """
    try:
        facts = json.loads(read_regular(folder / "dataset.json", LARGEST_FACTS, links=True))
        if facts.pop(FACTS_SHA256, None) != _facts_sha256(facts):
            return None
        # The cache may have been moved since.
        prepared = convert({**facts, "folder": str(folder)}, PreparedDataset)
        if wanted not in (None, prepared.sha256):
            return None
        shape = (prepared.count, *prepared.image_shape)
        digest = hashlib.sha256(repr(shape).encode())
        for part in _content(folder / "images.npy", np.uint8, shape):
            digest.update(part)
        if prepared.classes:
            for part in _content(folder / "labels.npy", np.int64, shape[:1]):
                digest.update(part)
            digest.update(_hashed_names(prepared.class_names))
    except Exception:  # NumPy raises almost anything on a damaged file
        return None
    return prepared if digest.hexdigest() == prepared.sha256 else None


FACTS_SHA256 = "facts_sha256"
"""The key of `dataset.json` that holds the sha256 of its other keys."""


def _facts_sha256(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


LARGEST_FACTS = 64 << 20
"""Bytes of a `dataset.json`: it names every image that was skipped."""


def _content(path: Path, kind: type[np.generic], shape: tuple[int, ...]) -> Iterator[bytes]:
    """The bytes of the array in a .npy file, some at a time. Raises `ValueError` for another kind or shape."""
    with open_regular(path, links=True) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("is of another version")
        found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        size = os.fstat(stream.fileno()).st_size - stream.tell()
        if (found, fortran, dtype) != (shape, False, np.dtype(kind)) or size != math.prod(shape) * dtype.itemsize:
            raise ValueError("is another array")
        while part := stream.read(1 << 20):
            yield part


def _hashed_names(names: Sequence[str]) -> bytes:
    """The names of classes as they enter the sha256 of a dataset; nothing where there are none."""
    return repr(tuple(names)).encode() if names else b""


def _fingerprint_of(dataset: Dataset, request: DatasetRequest) -> str:
    with blaming(DataUnavailable, f"dataset {dataset.name} cannot be read"):
        fingerprint = dataset.fingerprint(request)
    if not isinstance(fingerprint, str):
        # None, for instance, would be the same fingerprint for every state of the source.
        given = printable(type(fingerprint).__name__, 80)
        raise PluginError(f"dataset {dataset.name}: fingerprint gave {given}; it must give a text")
    return fingerprint


def _write(
    name: str, folder: Path, temporary: Path, loaded: LabelledImages, background: str, on_progress: OnProgress
) -> PreparedDataset:
    labels = _labels_of(loaded, name)
    first = _checked(_decoded(loaded.images, 0, name), name)
    shape = (len(loaded.images), *first.shape)
    _check_space(temporary, math.prod(shape), name)
    stored = np.lib.format.open_memmap(temporary / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    _reserve(temporary / "images.npy")
    for index, item in enumerate(_all_decoded(loaded.images, name, loaded.independent)):
        image = _checked(item, name)
        if image.shape != first.shape:
            raise PluginError(f"dataset {name}: image {index} is {image.shape}, and the first is {first.shape}")
        stored[index] = image
        if index % 1000 == 0:
            on_progress(index, len(loaded.images), stored.nbytes)
    stored.flush()
    digest = hashlib.sha256(repr(shape).encode())
    for start in range(0, len(stored), 4096):
        digest.update(stored[start : start + 4096].tobytes())
    classes = 0
    if labels is not None:
        classes = len(loaded.class_names) or int(labels.max()) + 1
        digest.update(labels.tobytes())
        digest.update(_hashed_names(loaded.class_names))
        np.save(temporary / "labels.npy", labels)
    return PreparedDataset(
        name=name,
        folder=str(folder),
        image_shape=(int(shape[1]), int(shape[2]), int(shape[3])),
        count=shape[0],
        classes=classes,
        sha256=digest.hexdigest(),
        source=loaded.source,
        split=loaded.split,
        skipped=tuple(loaded.skipped),
        class_names=tuple(loaded.class_names) if classes else (),
        with_alpha=loaded.with_alpha,
        background=background if loaded.with_alpha else "",
        notes=dict(loaded.notes) | _gaps(labels, loaded.class_names),
    )


def _labels_of(loaded: LabelledImages, name: str) -> np.ndarray | None:
    """int64 (N,) as many as there are images, or None."""
    if loaded.labels is None:
        return None
    wanted = f"dataset {printable(name)}: labels must be ({len(loaded.images)},) integers from 0"
    with blaming(PluginError, wanted):
        given = np.asarray(loaded.labels)
    if given.dtype.kind not in "biu" or given.shape != (len(loaded.images),):
        raise PluginError(f"{wanted}; got {given.dtype} {given.shape}")
    labels = given.astype(np.int64)
    if labels.min() < 0:
        raise PluginError(f"{wanted}; got {labels.min()}")
    names = loaded.class_names
    if names and (labels.max() >= len(names) or len(set(names)) < len(names)):
        raise PluginError(
            f"dataset {printable(name)}: class_names has {len(set(names))} names, and labels go up to {labels.max()}; "
            "name each class once, or none"
        )
    return labels


def _gaps(labels: np.ndarray | None, class_names: Sequence[str]) -> dict[str, str]:
    """A note where numbers below the highest label are no image's: a label such as 255 for "none" makes 256 classes."""
    if labels is None or class_names:
        return {}
    seen = np.unique(labels)
    highest = int(seen[-1])
    if len(seen) == highest + 1:
        return {}
    what = f"labels go up to {highest} and make {highest + 1} classes, of which {len(seen)} have an image"
    return {"classes": f"{what}; number them from 0 without a gap, or give class_names"}


def _check_space(folder: Path, size: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataUnavailable(
            f"dataset {printable(name)} takes {size / 2**30:.1f} GiB decoded, and {folder.parent} has "
            f"{free / 2**30:.1f} GiB free; free space there or set GANZOO_CACHE"
        )


def _reserve(path: Path) -> None:
    """Allocate the blocks of a sparse file: a full disk under a memory map kills the process in place of an error."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise


def _all_decoded(images: Any, name: str, independent: bool) -> Iterator[Any]:
    """Every image in order; many `independent` ones are decoded by as many processes as there are cores."""
    # Forked processes, because a plugin's objects need not survive pickling; on Linux only, where forking is safe.
    workers = resolve_threads(None) if independent and len(images) >= WORTH_PROCESSES and sys.platform == "linux" else 0
    loader: Any = DataLoader(
        _Decoding(images, name),  # type: ignore[arg-type]
        batch_size=32,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    try:
        for batch in loader:
            for item in batch:
                if isinstance(item, GanzooError):
                    raise item
                yield item
    except RuntimeError as error:
        # A worker was killed, or there is no shared memory left.
        raise DataUnavailable(f"dataset {printable(name)} cannot be decoded: {printable(error)}") from error


class _Decoding:
    """A plugin's images as a map-style dataset. An error is returned as an item, to reach the parent whole."""

    def __init__(self, images: Any, name: str) -> None:
        self.images = images
        self.name = name

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        try:
            # Arrays are pickled between processes; tensors would take a piece of shared memory each.
            return np.asarray(_decoded(self.images, index, self.name))
        except GanzooError as error:
            return DataUnavailable(str(error))


def _decoded(images: Any, index: int, name: str) -> Any:
    """One item of a plugin's images; what decoding raises becomes `DataUnavailable` with the index."""
    with blaming(DataUnavailable, f"dataset {printable(name)}: image {index} cannot be read"):
        return images[index]


def _checked(image: Any, name: str) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3:
        raise PluginError(f"dataset {name}: an image is {array.dtype} {array.shape}; it must be uint8 (C, H, W)")
    return array
