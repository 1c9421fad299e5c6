"""Any folder of images: `--dataset folder:PATH`.

Subfolders are searched too. If every image lies in a subfolder of PATH, the subfolders are the classes.
Images are cropped to their central square and resized (bilinear, antialiased); RGB unless every one is greyscale.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ganzoo

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats to decode, by content and not by suffix. Pillow knows more, among them PostScript, run by Ghostscript."""

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes that become RGB or grey without loss of range; deeper ones would be cut off at 255."""


def square(image: Any, size: int, mode: str = "RGB") -> Tensor:
    """The central square of a Pillow image as uint8 (C, size, size): C = 3 for mode RGB, 1 for L."""
    from torchvision.transforms.v2 import functional

    pixels = functional.pil_to_tensor(image.convert(mode))
    cropped = functional.center_crop(pixels, [min(pixels.shape[-2:])])
    return ganzoo.resize_images(cropped[None], size)[0]


class ImageFiles(Sequence[Tensor]):
    """Image files as uint8 (C, size, size), decoded when asked for. An unreadable one raises `DataUnavailable`."""

    def __init__(self, paths: Sequence[Path], size: int, mode: str):
        self.paths, self.size, self.mode = paths, size, mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]  # one image at a time, no slices
        from PIL import Image, ImageOps

        path = self.paths[index]
        try:
            with warnings.catch_warnings():
                # What Pillow doubts and can read all the same is no news; a file that grew into a bomb is.
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path, formats=FORMATS) as image:
                    return square(ImageOps.exif_transpose(image), self.size, self.mode)
        except Exception as error:  # Pillow's decoders raise almost anything on a broken file
            raise unreadable(path, error) from error


def read_folder(path: Path, size: int, skip_bad_images: bool = False) -> ganzoo.LabelledImages:
    """The images under `path`, in the order of their names, as lazily decoded uint8 (C, size, size).

    Every header is read here, so a file that is no image, is deeper than 8 bits or declares more pixels than Pillow
    thinks safe (89 million) is refused before any is decoded; one that is broken further on raises when it is decoded.
    With `skip_bad_images` all are decoded here once and the bad ones are left out and named in `skipped`.

    Raises `DataUnavailable` for a folder that is absent or holds no image, and for a bad image, by name.
    """
    from PIL import Image

    paths = find_images(path)

    def examine(image_path: Path) -> str | ganzoo.DataUnavailable:
        try:
            if not image_path.is_file():
                raise ValueError("not a regular file")
            with Image.open(image_path, formats=FORMATS) as image:
                if image.mode not in EIGHT_BIT:
                    raise ValueError(f"its mode is {image.mode}, convert it to 8 bits per channel")
                if skip_bad_images:
                    image.load()
                return image.mode
        except Exception as error:
            return unreadable(image_path, error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        verdicts = {image_path: examine(image_path) for image_path in paths}

    bad = {image_path: verdict for image_path, verdict in verdicts.items() if not isinstance(verdict, str)}
    good = [image_path for image_path in paths if image_path not in bad]
    if bad and not (skip_bad_images and good):
        raise next(iter(bad.values()))
    mode = "L" if all(verdicts[image_path] in {"1", "L"} for image_path in good) else "RGB"
    labels, class_names = labels_of(good, path)
    return ganzoo.LabelledImages(
        images=ImageFiles(good, size, mode),
        labels=labels,
        source=str(path),
        split="all",
        skipped=tuple(str(image_path) for image_path in bad),
        independent=True,
        class_names=class_names,
    )


def find_images(folder: Path) -> list[Path]:
    """Every image file under `folder`, hidden ones left out, links followed once, sorted by relative path."""
    if not folder.is_dir():
        what = "a file; unpack it and give the folder" if folder.exists() else "not there; give the path of a folder"
        raise ganzoo.DataUnavailable(f"the image folder {folder} is {what}")
    images, seen = [], set()
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        images += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    if not images:
        raise ganzoo.DataUnavailable(
            f"the folder {folder} holds no image, nor do its subfolders (looked for {' '.join(sorted(SUFFIXES))})"
        )
    return sorted(images, key=lambda path: path.relative_to(folder).parts)


def labels_of(paths: Sequence[Path], folder: Path) -> tuple[Tensor | None, tuple[str, ...]]:
    """int64 (N,), the rank of the name of each image's first-level subfolder, and these names.

    None, and no names, if any image lies outside of them.
    """
    places = [path.relative_to(folder).parts for path in paths]
    if any(len(place) == 1 for place in places):
        return None, ()
    names = tuple(sorted({place[0] for place in places}))
    ranks = {name: rank for rank, name in enumerate(names)}
    return torch.tensor([ranks[place[0]] for place in places]), names


def unreadable(path: Path, error: Exception) -> ganzoo.DataUnavailable:
    """The error for a bad image: one line with its path, the reason and the fix."""
    from PIL import UnidentifiedImageError

    unknown = f"none of {', '.join(FORMATS)}"
    reason = unknown if isinstance(error, UnidentifiedImageError) else str(error).split("\n")[0]
    return ganzoo.DataUnavailable(
        f"{path} cannot be read as an image: {reason or type(error).__name__}; remove it or pass --skip-bad-images"
    )


def folder_of(request: ganzoo.DatasetRequest) -> Path:
    """The folder that stands after the colon."""
    if not request.argument:
        raise ganzoo.UsageError("the folder dataset needs a path: --dataset folder:PATH")
    return Path(request.argument).expanduser()


def load(request: ganzoo.DatasetRequest) -> ganzoo.LabelledImages:
    """`read_folder` of what stands after the colon."""
    return read_folder(folder_of(request), request.image_size, request.skip_bad_images)


def fingerprint(request: ganzoo.DatasetRequest) -> str:
    """Where the images lie, and their state."""
    return ganzoo.fingerprint_files(find_images(folder_of(request)))


@ganzoo.hookimpl
def ganzoo_datasets() -> Iterator[ganzoo.Dataset]:
    """`--dataset folder:PATH`."""
    yield ganzoo.Dataset(
        "folder",
        load,
        fingerprint,
        summary="any folder of images, 64 px; its subfolders are the labels",
        image_size=64,
        argument="PATH",
    )
