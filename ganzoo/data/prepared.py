"""Datasets: prepared once as uint8 in the cache, then held on the device, or streamed where they do not fit.

`prepare` asks a dataset plugin for its images, decodes and hashes them, and keeps them as a memory-mapped array; those
that are held out of training, in a folder beside it. A run maps that array, so no run imports torchvision or decodes an
image, and all see the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.data.decoding import all_decoded, checked, decoded
from ganzoo.data.splits import Split, gaps, splits_of
from ganzoo.errors import DataUnavailable, PluginError, UsageError
from ganzoo.registry.validation import blaming, check_record
from ganzoo.types import Dataset, DatasetRequest, ImageShape, LabelledImages
from ganzoo.util.cache import DATASET_FILES, HELD_OUT
from ganzoo.util.conversion import convert
from ganzoo.util.files import cache_folder, joint_sha256, open_regular, read_regular, unique_beside
from ganzoo.util.rights import cache_fault, make_folder, share_with_group
from ganzoo.util.text import printable, slug

REFERENCES = ("train", "test", "both")
"""What scores compare with: the images that are trained on, those that are held out, or all."""

OnProgress = Callable[[int, int, int], None]
"""Called with the number of images done, of all images, and the bytes that all will take."""


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset in the cache: the images that are trained on, and beside them those that are held out.

    `classes` is 0 without labels. `sha256` is of shape, pixels and labels, and of the names of the classes where they
    have some; not of `held_out`, the test split, which is None where no image is held out.
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
    held_out: PreparedDataset | None = None

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

    def reference(self, which: str) -> Reference:
        """What scores compare with, one of `REFERENCES`. Raises `UsageError` where nothing is held out for it."""
        if which not in REFERENCES:
            raise UsageError(f"--reference {printable(which)}: give {', '.join(REFERENCES)}")
        if which == "train":
            return Reference((self,))
        if self.held_out is None:
            raise UsageError(
                f"--reference {which}: no image of dataset '{printable(self.name)}' is held out; give "
                "--reference train, or leave --hold-out 0 out"
            )
        return Reference((self.held_out,) if which == "test" else (self, self.held_out))


@dataclass(frozen=True)
class Reference:
    """The real images that fakes are scored against: one or several parts of a dataset."""

    parts: tuple[PreparedDataset, ...]

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.parts[0].name

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W)."""
        return self.parts[0].image_shape

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(part.count for part in self.parts)

    @property
    def split(self) -> str:
        """Which part of the data they are, in words."""
        return " + ".join(part.split for part in self.parts)

    @property
    def sha256(self) -> str:
        """The part's; of several, the sha256 of theirs."""
        return joint_sha256([part.sha256 for part in self.parts])

    def labels(self) -> np.ndarray | None:
        """int64 (N,), or None."""
        labels = [labels for part in self.parts if (labels := part.labels()) is not None]
        return np.concatenate(labels) if labels else None


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
    Where the plugin gives no test split, `request.hold_out` of the images are held out, drawn by a fixed seed.
    `on_progress(done, total, size)` follows the images, of `size` bytes in all, beginning before the first. Raises
    `DataUnavailable` where the images are absent, unreadable or empty.
    """
    name = f"{dataset.name}:{request.argument}" if request.argument else dataset.name
    identity = (
        *(name, request.image_size, request.skip_bad_images, source_sha256, request.background, request.hold_out),
        *(_fingerprint_of(dataset, request), _real_place(request.argument)),
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
        prepared = _write(name, folder, temporary, loaded, request, on_progress)
        facts = asdict(prepared)
        (temporary / "dataset.json").write_text(json.dumps({**facts, FACTS_SHA256: _facts_sha256(facts)}, indent=1))
        for path in temporary.rglob("*"):
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
            for part in (folder / HELD_OUT, folder):
                if part.is_dir() and not part.is_symlink():
                    for name in DATASET_FILES:
                        (part / name).unlink(missing_ok=True)
                    part.rmdir()
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
        prepared = _moved(convert(facts, PreparedDataset), folder)
        if wanted not in (None, prepared.sha256):
            return None
        parts = [part for part in (prepared, prepared.held_out) if part]
        return prepared if all(_hash_of_content(part) == part.sha256 for part in parts) else None
    except Exception:  # NumPy raises almost anything on a damaged file
        return None


def _moved(prepared: PreparedDataset, folder: Path) -> PreparedDataset:
    """The same in another folder: the cache may have been moved."""
    held_out = prepared.held_out and _moved(prepared.held_out, folder / HELD_OUT)
    return replace(prepared, folder=str(folder), held_out=held_out)


def _hash_of_content(prepared: PreparedDataset) -> str:
    """The sha256 of the files in a dataset's folder. Raises `ValueError` for arrays of another shape."""
    shape, folder = (prepared.count, *prepared.image_shape), Path(prepared.folder)
    digest = hashlib.sha256(repr(shape).encode())
    for part in _content(folder / "images.npy", np.uint8, shape):
        digest.update(part)
    if prepared.classes:
        for part in _content(folder / "labels.npy", np.int64, shape[:1]):
            digest.update(part)
        digest.update(_hashed_names(prepared.class_names))
    return digest.hexdigest()


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
    name: str,
    folder: Path,
    temporary: Path,
    loaded: LabelledImages,
    request: DatasetRequest,
    on_progress: OnProgress,
) -> PreparedDataset:
    """Decode both parts into a temporary folder, to be moved to `folder`."""
    trained, held_out, classes = splits_of(loaded, request.hold_out, name)
    channels, height, width = checked(decoded(loaded.images, 0, name), name).shape
    in_all = len(trained.chosen) + len(held_out.chosen)
    size = in_all * channels * height * width
    _check_space(temporary, size, name)
    common = PreparedDataset(
        name=name,
        folder=str(folder),
        image_shape=(channels, height, width),
        count=0,
        classes=classes,
        sha256="",
        source=loaded.source,
        split="",
        skipped=(),
        class_names=tuple(loaded.class_names) if classes else (),
        with_alpha=loaded.with_alpha,
        background=request.background if loaded.with_alpha else "",
    )

    begun = len(trained.chosen)
    prepared = _write_part(common, trained, temporary, loaded.independent, lambda done: on_progress(done, in_all, size))
    if len(held_out.chosen):
        place = temporary / HELD_OUT
        make_folder(place)
        tested = _write_part(
            common, held_out, place, loaded.independent, lambda done: on_progress(begun + done, in_all, size)
        )
        prepared = replace(prepared, held_out=replace(tested, folder=str(folder / HELD_OUT)))
    notes = dict(loaded.notes) | gaps(trained.labels, loaded.class_names)
    return replace(prepared, skipped=tuple(loaded.skipped), notes=notes)


def _write_part(
    dataset: PreparedDataset, part: Split, place: Path, independent: bool, on_progress: Callable[[int], None]
) -> PreparedDataset:
    """Write the images and labels of a part to a folder; gives the dataset with its count, split and sha256."""
    shape = (len(part.chosen), *dataset.image_shape)
    stored = np.lib.format.open_memmap(place / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    _reserve(place / "images.npy")
    images = all_decoded(part.images, part.chosen.tolist(), dataset.name, independent)
    for index, image in enumerate(images):
        if image.shape != dataset.image_shape:
            raise PluginError(
                f"dataset {dataset.name}: image {part.chosen[index]} is {image.shape}, and the first is "
                f"{dataset.image_shape}"
            )
        stored[index] = image
        if index % 1000 == 0:
            on_progress(index)
    stored.flush()
    digest = hashlib.sha256(repr(shape).encode())
    for start in range(0, len(stored), 4096):
        digest.update(stored[start : start + 4096].tobytes())
    if part.labels is not None:
        labels = part.labels[part.chosen]
        digest.update(labels.tobytes())
        digest.update(_hashed_names(dataset.class_names))
        np.save(place / "labels.npy", labels)
    return replace(dataset, count=len(part.chosen), split=part.name, sha256=digest.hexdigest())


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
