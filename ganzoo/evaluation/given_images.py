"""Score any images, a folder or a file of them, against a dataset, by the protocol that runs are scored by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ganzoo.data.finding import check_labels, find_dataset, prepare_dataset
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import UsageError
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import dataset_batches
from ganzoo.evaluation.image_files import is_image_file, read_image_file
from ganzoo.evaluation.scorer import Scorer, check_held_out
from ganzoo.machine.settings import apply_settings, resolve_device, resolve_threads
from ganzoo.records.protocols import foreign_images
from ganzoo.registry.registry import Registry
from ganzoo.runs import Score
from ganzoo.util.images import resize_images
from ganzoo.util.text import printable


@dataclass(frozen=True)
class GivenImages:
    """Images to be scored, at the size of the dataset; `batches(n)` gives them in order, n at a time."""

    count: int
    channels: int
    batches: Callable[[int], Iterator[Tensor]]
    remarks: Sequence[str] = ()
    why_channels: str = ""
    """What made the channels as many as they are, where that is known."""


def score_images(
    registry: Registry,
    source: Path,
    *,
    dataset: str,
    metrics: Sequence[str],
    image_size: int | None = None,
    data_root: str | None = None,
    skip_bad_images: bool = False,
    background: str = "white",
    hold_out: float | None = None,
    reference: str = "train",
    features: Sequence[str] = ("auto",),
    weights: str | None = None,
    weights_sha256: str | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> tuple[list[Score], dict[str, Any], list[str]]:
    """`(scores, protocols, notes)` of the images of `source`, a folder or a file of images, against `dataset`.

    Images are resized to the dataset's size, of a folder the largest centred square of each; `notes` are the remarks
    on both sides. Raises `UsageError` for images of another shape, and what `prepare`, `read_image_file` and
    `load_extractor` raise.
    """
    device = resolve_device(device)
    apply_settings(resolve_threads(threads), "fp32")
    offers = [registry.get("metrics", name) for name in metrics]
    chosen_metrics = [offer.record for offer in offers]
    if not chosen_metrics:
        raise UsageError("--metrics: name at least one, such as fid,is")
    offer, argument = find_dataset(registry, dataset)
    names = dict.fromkeys(offer.record.features if name == "auto" else name for name in features)
    extractors = [registry.get("features", name) for name in names]
    given = Path(weights) if weights else None
    loaded = [load_extractor(extractor.record, device, given, weights_sha256) for extractor in extractors]
    reading: dict[str, Any] = {"skip_bad_images": skip_bad_images, "background": background}
    real = prepare_dataset(
        registry, offer, argument, image_size=image_size, data_root=data_root, hold_out=hold_out, **reading
    )
    check_labels(chosen_metrics, real)
    check_held_out(chosen_metrics, real)
    _, height, width = real.image_shape
    if height != width:
        raise UsageError(
            f"'{printable(real.name)}' has images of {width} x {height} pixels, and those of a folder are cropped to "
            "squares; no folder can be scored against it"
        )
    fake = _of_file(source, height) if is_image_file(source) else _of_folder(registry, source, height, reading)
    _check_channels(fake, real, source)
    if fake.count < 10:
        raise UsageError(f"{printable(source)}: holds {fake.count} images; scores need at least 10")
    sides = {printable(real.name): real.remarks, printable(source): fake.remarks}
    notes = [f"{name}: {remark}" for name, remarks in sides.items() for remark in remarks]
    scores: list[Score] = []
    protocols: dict[str, Any] = {}
    for extractor, module in zip(extractors, loaded, strict=True):
        scorer = Scorer.of(registry, offers, extractor, module, real, offer.record.images, reference)
        given_scores, used = scorer.score(fake.batches(extractor.record.batch_size), kimg=None, ema=None)
        scores += given_scores
        protocols |= used
    notes += dict.fromkeys(filter(None, map(foreign_images, protocols.values())))
    return scores, protocols, notes


def _of_folder(registry: Registry, folder: Path, size: int, reading: dict[str, Any]) -> GivenImages:
    offer = registry.get("datasets", "folder")
    images = prepare_dataset(registry, offer, str(folder), image_size=size, hold_out=0.0, **reading)
    why = images.notes.get("channels", "")
    return GivenImages(
        images.count, images.image_shape[0], partial(dataset_batches, images), tuple(images.remarks), why
    )


def _of_file(path: Path, size: int) -> GivenImages:
    images = read_image_file(path)
    count, channels, height, width = images.shape
    if height != width:
        raise UsageError(f"{printable(path)}: holds images of {width} x {height} pixels; save squares")
    resized = (f"its images were resized from {height} to {size} px",) if height != size else ()
    return GivenImages(count, channels, lambda n: (resize_images(some, size) for some in images.split(n)), resized)


def _check_channels(fake: GivenImages, real: PreparedDataset, source: Path) -> None:
    """Raise `UsageError` where the sides differ in their channels, and name what makes a side what it is."""
    if fake.channels == real.image_shape[0]:
        return
    sides = {
        printable(real.name): (real.image_shape[0], real.notes.get("channels", "")),
        printable(source): (fake.channels, fake.why_channels),
    }
    counts = " and ".join(f"those of '{name}' have {channels}" for name, (channels, _) in sides.items())
    reasons = [f"in '{name}' {why}" for name, (_, why) in sides.items() if why]
    raise UsageError("; ".join([f"images differ in channels: {counts}", *map(printable, reasons), "save them alike"]))
