"""ganzoo: which GAN, at what quality, how fast, on which hardware.

Everything a plugin needs is here and in `ganzoo.losses`. Names that need torch, or that few plugins need, are loaded
when first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from ganzoo.errors import (
    AmbiguousName,
    DataUnavailable,
    Diverged,
    GanzooError,
    PluginError,
    RecordError,
    RunError,
    UnknownName,
    UsageError,
    WeightsUnavailable,
)
from ganzoo.registry.hookspecs import API_VERSION, hookimpl
from ganzoo.types import (
    Architecture,
    Augmentation,
    Batch,
    Dataset,
    DatasetRequest,
    Estimate,
    FeatureExtractor,
    ImageShape,
    ImageSource,
    Inputs,
    LabelledImages,
    Loss,
    Metric,
    NoScore,
    Optimizer,
    Penalty,
    Phase,
    Reported,
    Reporter,
    Sample,
    Schedule,
    Terms,
    Variant,
    Weights,
)

if TYPE_CHECKING:
    from ganzoo.api import bench, compare_records, load, load_generator, sample
    from ganzoo.runs import (
        Event,
        RunFinished,
        RunRecord,
        RunSpec,
        RunStarted,
        Scored,
        StageChanged,
        TrainingProgress,
    )
    from ganzoo.util.download import download, reachable
    from ganzoo.util.files import cache_folder, fingerprint_files, open_regular, sha256_of_file
    from ganzoo.util.images import resize_images
    from ganzoo.util.pretrained import weights_file

__version__ = "0.1.0"

if os.environ.get("GANZOO_PLUGINS", "all").strip(" ,") == "":
    # No plugin means no third-party code at all, and torch would load the entry points of other devices' backends.
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

_RUNS = (
    "Event",
    "RunFinished",
    "RunRecord",
    "RunSpec",
    "RunStarted",
    "Scored",
    "StageChanged",
    "TrainingProgress",
)

_LAZY = {
    **dict.fromkeys(_RUNS, "ganzoo.runs"),
    "bench": "ganzoo.api",
    "compare_records": "ganzoo.api",
    "load": "ganzoo.api",
    "load_generator": "ganzoo.api",
    "sample": "ganzoo.api",
    "cache_folder": "ganzoo.util.files",
    "download": "ganzoo.util.download",
    "fingerprint_files": "ganzoo.util.files",
    "open_regular": "ganzoo.util.files",
    "reachable": "ganzoo.util.download",
    "sha256_of_file": "ganzoo.util.files",
    "resize_images": "ganzoo.util.images",
    "weights_file": "ganzoo.util.pretrained",
}

__all__ = [
    "API_VERSION",
    "AmbiguousName",
    "Architecture",
    "Augmentation",
    "Batch",
    "DataUnavailable",
    "Dataset",
    "DatasetRequest",
    "Diverged",
    "Estimate",
    "Event",
    "FeatureExtractor",
    "GanzooError",
    "ImageShape",
    "ImageSource",
    "Inputs",
    "LabelledImages",
    "Loss",
    "Metric",
    "NoScore",
    "Optimizer",
    "Penalty",
    "Phase",
    "PluginError",
    "RecordError",
    "Reported",
    "Reporter",
    "RunError",
    "RunFinished",
    "RunRecord",
    "RunSpec",
    "RunStarted",
    "Sample",
    "Schedule",
    "Scored",
    "StageChanged",
    "Terms",
    "TrainingProgress",
    "UnknownName",
    "UsageError",
    "Variant",
    "Weights",
    "WeightsUnavailable",
    "bench",
    "cache_folder",
    "compare_records",
    "download",
    "fingerprint_files",
    "hookimpl",
    "load",
    "load_generator",
    "open_regular",
    "reachable",
    "resize_images",
    "sample",
    "sha256_of_file",
    "weights_file",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ganzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
