"""Any folder of images: `--dataset folder:PATH`.

Subfolders are searched too. If every image lies in a subfolder of PATH, the names of the subfolders are the classes.
Images are put on a background where they have transparency, cropped to their central square and resized (bilinear,
antialiased); RGB unless every one is greyscale. What a user may not expect of the files is said in a line each.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ganzoo

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats to decode, by content and not by suffix. Pillow knows more, among them PostScript, run by Ghostscript."""

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}

OTHER_IMAGES = {
    *(".apng", ".arw", ".avif", ".cr2", ".dib", ".dng", ".exr", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2"),
    *(".jpe", ".jxl", ".nef", ".pbm", ".pnm", ".psd", ".svg", ".tga"),
}
"""Suffixes of images that are not read: such files are counted and named."""

ARRAYS = {".npy", ".npz", ".pt", ".pth", ".h5", ".pkl", ".safetensors"}
"""Suffixes of files in which programs keep many images at once; they are not read either."""

ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"}

EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes that become RGB or grey without loss of range; deeper ones would be cut off at 255."""

GREY = {"1", "L", "LA"}

WHITE = "#ffffff"


def square(image: Any, size: int, mode: str = "RGB", background: str = WHITE) -> Tensor:
    """The central square of a Pillow image on `background`, uint8 (C, size, size): C = 3 for mode RGB, 1 for L."""
    from torchvision.transforms.v2 import functional

    pixels = functional.pil_to_tensor(opaque(image, background).convert(mode))
    cropped = functional.center_crop(pixels, [min(pixels.shape[-2:])])
    return ganzoo.resize_images(cropped[None], size)[0]


def opaque(image: Any, background: str) -> Any:
    """A Pillow image as it looks on `background`: what lies under transparent pixels is not meant to be seen."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An image file as Pillow opens it. What is wrong with it raises `DataUnavailable`, also inside of the block."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # What Pillow doubts and can read all the same is no news; a file that grew into a bomb is.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with ganzoo.open_regular(path, links=True) as stream, Image.open(stream, formats=FORMATS) as image:
                yield image
    except Exception as error:  # Pillow's decoders raise almost anything on a broken file
        raise unreadable(path, error) from error


class ImageFiles(Sequence[Tensor]):
    """Image files as uint8 (C, size, size), decoded when asked for. An unreadable one raises `DataUnavailable`."""

    def __init__(self, paths: Sequence[Path], size: int, mode: str, background: str = WHITE):
        self.paths, self.size, self.mode, self.background = paths, size, mode, background

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]  # one image at a time, no slices
        from PIL import ImageOps

        with opened(self.paths[index]) as image:
            return square(ImageOps.exif_transpose(image), self.size, self.mode, self.background)


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before it is decoded."""

    grey: bool
    size: tuple[int, int]
    transparent: bool
    pictures: int


def read_header(path: Path, background: str, whole: bool) -> Header:
    """The header of an image file; with `whole` the rest is decoded too. Raises `DataUnavailable`."""
    from PIL import ImageOps

    if os.path.islink(path) and not os.path.exists(path):
        raise unreadable(path, OSError("a link that leads nowhere"))
    with opened(path) as image:
        if image.mode not in EIGHT_BIT:
            raise ValueError(f"its mode is {image.mode}, convert it to 8 bits per channel")
        header = Header(image.mode in GREY, image.size, image.has_transparency_data, pictures_in(image))
        if whole:
            opaque(ImageOps.exif_transpose(image), background).load()
        return header


def pictures_in(image: Any) -> int:
    """How many pictures an open file holds: the pages of a TIFF, the frames of an animation."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # the first may be whole where a further one is broken
        return 1


def read_folder(path: Path, size: int, skip_bad_images: bool = False, background: str = WHITE) -> ganzoo.LabelledImages:
    """The images under `path`, in the order of their names, as lazily decoded uint8 (C, size, size).

    Every header is read here, so a file that is no image, is deeper than 8 bits or declares more pixels than Pillow
    thinks safe (89 million) is refused before any is decoded; one that is broken further on raises when it is decoded.
    With `skip_bad_images` all are decoded here once and the bad ones are left out and named in `skipped`.

    Raises `DataUnavailable` for a folder that is absent or holds no image, and for a bad image, by name.
    """
    found = search(path)
    headers: dict[Path, Header] = {}
    bad = dict(found.closed)
    for image_path in found.images:
        try:
            headers[image_path] = read_header(image_path, background, whole=skip_bad_images)
        except ganzoo.DataUnavailable as error:
            bad[image_path] = error
    if bad and not (skip_bad_images and headers):
        raise next(iter(bad.values()))
    good = list(headers)
    # Grey on a coloured background is coloured.
    neutral = is_neutral(background)
    grey = all(header.grey and (neutral or not header.transparent) for header in headers.values())
    labels, class_names = labels_of(good, path)
    return ganzoo.LabelledImages(
        images=ImageFiles(good, size, "L" if grey else "RGB", background),
        labels=labels,
        source=str(path),
        split="all",
        skipped=tuple(str(image_path) for image_path in bad),
        independent=True,
        class_names=class_names,
        with_alpha=sum(header.transparent for header in headers.values()),
        notes=notes_of(path, headers, found.passed_over, background, size),
    )


def is_neutral(colour: str) -> bool:
    """Whether a colour that Pillow knows has no hue."""
    from PIL import ImageColor

    return len(set(ImageColor.getrgb(colour)[:3])) == 1


@dataclass
class Found:
    """The image files under a folder; images that are not read; subfolders that cannot be looked into, and why."""

    images: list[Path] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    closed: dict[Path, ganzoo.DataUnavailable] = field(default_factory=dict)


def search(folder: Path) -> Found:
    """What lies under `folder`, hidden files left out, links followed once, sorted by relative path.

    A link that leads nowhere counts as an image if its name does not tell that it is none: it may have led to a folder
    of them. Raises `DataUnavailable` where there is no image.
    """
    if not os.path.isdir(folder):
        raise ganzoo.DataUnavailable(f"the image folder {folder} is {what_it_is(folder)}")
    found, seen = Found(), set()

    def closed(error: OSError) -> None:
        place = Path(error.filename)
        reason = f"{place} cannot be looked into: {error.strerror}"
        found.closed[place] = ganzoo.DataUnavailable(f"{reason}; make it readable or pass --skip-bad-images")

    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=closed):
        if (real := os.path.realpath(parent)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            place = Path(parent, name)
            if name.startswith("."):
                continue
            if suffix in SUFFIXES or (not suffix and os.path.islink(place) and not os.path.exists(place)):
                found.images.append(place)
            elif suffix in OTHER_IMAGES or suffix in ARRAYS:
                found.passed_over.append(place)
    for paths in (found.images, found.passed_over):
        paths.sort(key=lambda path: path.relative_to(folder).parts)
    if not found.images:
        if found.closed:
            raise next(iter(found.closed.values()))
        others = f"; passed over {kinds_of(found.passed_over, folder)}" if found.passed_over else ""
        looked_for = " ".join(sorted(SUFFIXES))
        raise ganzoo.DataUnavailable(
            f"the folder {folder} holds no image, nor do its subfolders (looked for {looked_for}{others})"
        )
    return found


def what_it_is(path: Path) -> str:
    """Why a path is no folder, and what to do."""
    if not os.path.exists(path):
        return "not there; give the path of a folder"
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return f"a {suffix} file; save its images as PNG files and give their folder"
    if suffix in ARCHIVES:
        return "an archive; unpack it and give the folder"
    return "a file; give the folder that holds the images"


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


# --- what a user may not expect -------------------------------------------------------------------------------------


def notes_of(
    folder: Path, headers: Mapping[Path, Header], passed_over: Sequence[Path], background: str, size: int
) -> dict[str, str]:
    """A line for each thing of the images that a user may not know, by what it is about."""
    count = len(headers)

    def some(paths: Sequence[Path], verb: str, plural: str, rest: str) -> str:
        """`2 of 51 images are grey (a.png, b.png)`."""
        return f"{len(paths)} of {count} images {verb if len(paths) == 1 else plural} {rest} ({named(paths, folder)})"

    transparent = [path for path, header in headers.items() if header.transparent]
    coloured = [path for path, header in headers.items() if not header.grey]
    beside = [path for path in headers if path.parent == folder]
    several = [path for path, header in headers.items() if header.pictures > 1]
    usual = Counter(header.size for header in headers.values()).most_common(1)[0][0]
    odd = [path for path, header in headers.items() if header.size != usual]
    others = sum(header.size != (size, size) for header in headers.values())
    notes = {}
    if transparent:
        notes["alpha"] = put_on(some(transparent, "has", "have", "transparency"), background)
    if 0 < len(coloured) < count:
        grey = [path for path, header in headers.items() if header.grey]
        rare, kind = (coloured, "in colour") if len(coloured) <= len(grey) else (grey, "grey")
        notes["channels"] = f"{some(rare, 'is', 'are', kind)} and the others are not, so all are read as RGB"
    if 0 < len(beside) < count:
        where = some(beside, "lies", "lie", "beside the subfolders")
        them = "it" if len(beside) == 1 else "them"
        notes["labels"] = f"{where}, so the subfolders are no labels; move {them} into one, or out of the folder"
    if several:
        notes["pages"] = f"{some(several, 'holds', 'hold', 'several pictures')}, of which the first is taken"
    if outside := outside_of(folder, headers):
        notes["links"] = some(outside, "lies", "lie", "outside of the folder, where links lead")
    if 0 < 5 * len(odd) <= count:
        most = "x".join(map(str, usual))
        notes["sizes"] = f"{some(odd, 'is', 'are', f'not of {most} pixels like most')}, cropped and resized"
    if others and usual != (size, size):
        most = "x".join(map(str, usual))
        notes["resized"] = f"{others} of {count} images, most of them of {most} pixels, are resized to {size}x{size}"
    if passed_over:
        notes["passed over"] = f"passed over {kinds_of(passed_over, folder)}; save them as PNG to have them read"
    return notes


def outside_of(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """The images that lie elsewhere in truth: links lead to them, or to a folder that they are in."""
    real = os.path.realpath(folder)
    inside: dict[Path, bool] = {}

    def lies_inside(path: Path) -> bool:
        return os.path.realpath(path).startswith(os.path.join(real, ""))

    for parent in {path.parent for path in paths}:
        inside[parent] = lies_inside(parent / "any")
    return [path for path in paths if not (lies_inside(path) if path.is_symlink() else inside[path.parent])]


def put_on(what: str, background: str) -> str:
    """What became of transparent images."""
    return f"{what}; put on {background}, see --background"


def named(paths: Sequence[Path], folder: Path) -> str:
    """The first three names, below `folder`."""
    names = [str(path.relative_to(folder)) for path in paths[:3]]
    return ", ".join([*names, "…"] if len(paths) > len(names) else names)


def kinds_of(paths: Sequence[Path], folder: Path) -> str:
    """`3 files, 2 .gif and 1 .heic (a.gif, b.gif, c.heic)`."""
    counts = Counter(path.suffix.lower() for path in paths)
    kinds = " and ".join(f"{number} {suffix}" for suffix, number in sorted(counts.items()))
    return f"{len(paths)} file{'s' * (len(paths) > 1)}, {kinds} ({named(paths, folder)})"


def unreadable(path: Path, error: Exception) -> ganzoo.DataUnavailable:
    """The error for a bad image: one line with its path, the reason and the fix."""
    from PIL import UnidentifiedImageError

    unknown = f"none of {', '.join(FORMATS)}"
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    reason = unknown if isinstance(error, UnidentifiedImageError) else told.split("\n")[0]
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
    return read_folder(folder_of(request), request.image_size, request.skip_bad_images, request.background)


def fingerprint(request: ganzoo.DatasetRequest) -> str:
    """Where the images lie, and their state; those that are passed over count, for they are named."""
    found = search(folder_of(request))
    files = [*found.images, *found.passed_over, *found.closed]
    return ganzoo.fingerprint_files(files, below=folder_of(request))


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
