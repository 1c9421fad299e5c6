"""The splits of a dataset: the images that are trained on, and those that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganzoo.errors import DataUnavailable, PluginError
from ganzoo.registry.validation import blaming
from ganzoo.types import LabelledImages
from ganzoo.util.text import printable

HOLD_OUT_SEED = 0
"""Decides which images are held out where a dataset has no test split."""


@dataclass(frozen=True)
class Split:
    """The chosen images of a plugin's, by their places, with the labels of all of them: int64, or None."""

    images: Any
    labels: np.ndarray | None
    chosen: np.ndarray
    name: str
    """Which part of the data it is, as records say it."""


def splits_of(loaded: LabelledImages, share: float | None, name: str) -> tuple[Split, Split, int]:
    """What is trained on and what is held out of it, which may be empty, and the number of classes, 0 without labels.

    Held out is the plugin's test split; without one `share` of its images, drawn by a fixed seed, and by default a
    tenth of them, at least 500, or a quarter where there are fewer than 2000. Raises `PluginError` for wrong labels,
    and `DataUnavailable` for a test split without an image.
    """
    count = len(loaded.images)
    labels = _checked_labels(loaded.labels, count, loaded.class_names, f"dataset {printable(name)}: labels")
    classes = 0 if labels is None else len(loaded.class_names) or int(labels.max()) + 1
    if loaded.test_images is None:
        kept, out = _drawn(count, share)
        split = f"{loaded.split} without those held out" if len(out) else loaded.split
        return Split(loaded.images, labels, kept, split), Split(loaded.images, labels, out, "held out"), classes
    with blaming(PluginError, f"dataset {printable(name)}: test_images must be an array or a sequence"):
        test_count = len(loaded.test_images)
    if not test_count:
        raise DataUnavailable(f"dataset {printable(name)} holds no image in its test split")
    wanted = f"dataset {printable(name)}: test_labels"
    test_labels = _checked_labels(loaded.test_labels, test_count, loaded.class_names, wanted)
    if (test_labels is None) != (labels is None) or (test_labels is not None and test_labels.max() >= classes):
        raise PluginError(f"{wanted} must be there where labels are, and name no other classes")
    trained = Split(loaded.images, labels, np.arange(count), loaded.split)
    return trained, Split(loaded.test_images, test_labels, np.arange(test_count), "test"), classes


def _drawn(count: int, share: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` images are trained on, and which are held out, each in order."""
    if share is None:
        number = count // 4 if count < 2000 else max(500, count // 10)
    else:
        number = int(count * share)
    # NumPy promises that RandomState's numbers never change.
    order = np.random.RandomState(HOLD_OUT_SEED).permutation(count)
    return np.sort(order[number:]), np.sort(order[:number])


def _checked_labels(given: Any, count: int, names: Sequence[str], what: str) -> np.ndarray | None:
    """int64 (count,), or None where none were given."""
    if given is None:
        return None
    wanted = f"{what} must be ({count},) integers from 0"
    with blaming(PluginError, wanted):
        given = np.asarray(given)
    if given.dtype.kind not in "biu" or given.shape != (count,):
        raise PluginError(f"{wanted}; got {given.dtype} {given.shape}")
    labels: np.ndarray = given.astype(np.int64)
    if labels.min() < 0:
        raise PluginError(f"{wanted}; got {labels.min()}")
    if names and (labels.max() >= len(names) or len(set(names)) < len(names)):
        raise PluginError(
            f"{what.rpartition(':')[0]}: class_names has {len(set(names))} names, and labels go up to {labels.max()}; "
            "name each class once, or none"
        )
    return labels


def gaps(labels: np.ndarray | None, class_names: Sequence[str]) -> dict[str, str]:
    """A note where numbers below the highest label are no image's: a label such as 255 for "none" makes 256 classes."""
    if labels is None or class_names:
        return {}
    seen = np.unique(labels)
    highest = int(seen[-1])
    if len(seen) == highest + 1:
        return {}
    what = f"labels go up to {highest} and make {highest + 1} classes, of which {len(seen)} have an image"
    return {"classes": f"{what}; number them from 0 without a gap, or give class_names"}
