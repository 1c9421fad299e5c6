"""Look up a dataset by name, prepare it, and check that the metrics can use it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ganzoo.data.prepared import OnProgress, PreparedDataset, prepare
from ganzoo.errors import UsageError
from ganzoo.registry.registry import Offer, Registry
from ganzoo.types import DatasetRequest, Metric
from ganzoo.util.text import printable

LARGEST_IMAGE = 4096
"""The largest `--image-size`, in pixels."""

MOST_HELD_OUT = 0.5
"""The largest `--hold-out`."""


def check_labels(metrics: Iterable[Metric], dataset: PreparedDataset) -> None:
    """Raise `UsageError` where a metric needs labels and the dataset has none."""
    for metric in metrics:
        if metric.labelled:
            refuse_without_labels(f"metric '{metric.name}'", dataset)


def refuse_without_labels(what: str, dataset: PreparedDataset) -> None:
    """Raise `UsageError` unless the dataset has the labels that `what` needs, with what the dataset says of them."""
    if not dataset.classes:
        why = f": {printable(dataset.notes['labels'])}" if "labels" in dataset.notes else "; choose one that has them"
        raise UsageError(f"{what} needs labels, and dataset '{printable(dataset.name)}' has none{why}")


def find_dataset(registry: Registry, text: str) -> tuple[Offer, str]:
    """`name`, `plugin:name` or, for a dataset that takes an argument, `name:ARGUMENT` or `plugin:name:ARGUMENT`."""
    for offer in registry.offers["datasets"]:
        for name in (offer.qualified, offer.record.name):
            if offer.record.argument and text.startswith(f"{name}:"):
                argument = text.removeprefix(f"{name}:")
                if not argument:
                    raise UsageError(f"--dataset {printable(text)}: write {name}:{offer.record.argument}")
                return registry.get("datasets", name), argument
    offer = registry.get("datasets", text)
    if offer.record.argument:
        raise UsageError(f"--dataset {printable(text)}: write {offer.record.name}:{offer.record.argument}")
    return offer, ""


def prepare_dataset(
    registry: Registry,
    offer: Offer,
    argument: str,
    *,
    image_size: int | None = None,
    data_root: str | None = None,
    skip_bad_images: bool = False,
    background: str = "white",
    hold_out: float | None = None,
    on_progress: OnProgress = lambda done, total, size: None,
) -> PreparedDataset:
    """Prepare a dataset, at its default size unless `image_size` is given, from `data_root`.

    The default root is `GANZOO_DATA`, else ./data. Raises `UsageError` for an impossible size, colour or share, and
    what `prepare` does.
    """
    size = offer.record.image_size if image_size is None else image_size
    if not 0 < size <= LARGEST_IMAGE:
        raise UsageError(f"--image-size {size}: give a number from 1 to {LARGEST_IMAGE}")
    root = Path(data_root or os.environ.get("GANZOO_DATA") or "data")
    if hold_out is not None and not 0 <= hold_out <= MOST_HELD_OUT:
        raise UsageError(f"--hold-out {hold_out:g}: give a share of the images, from 0 to {MOST_HELD_OUT}")
    request = DatasetRequest(root, argument, size, skip_bad_images, _colour(background), hold_out)
    return prepare(offer.record, request, registry.status_of(offer.plugin).source_sha256, on_progress)


def _colour(name: str) -> str:
    """A colour as `#rrggbb`. Raises `UsageError`."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise UsageError(f"--background {printable(name)}: give a colour such as white, black or '#808080'") from error
    return f"#{red:02x}{green:02x}{blue:02x}"
