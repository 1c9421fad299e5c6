"""What the small classifiers whose weights ganzoo ships have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import ganzoo

Network = TypeVar("Network", bound=nn.Module)

WEIGHTS = Path(__file__).parent / "weights"
LICENCE = "MIT"
"""ganzoo's own."""


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """A 3 x 3 convolution with BatchNorm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def fused(layers: nn.Sequential) -> nn.Sequential:
    """The same function in fewer passes over memory: BatchNorm folded into the convolution before it, ReLU in place."""
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            convolution = kept[-1]
            assert isinstance(convolution, nn.Conv2d)
            kept[-1] = fuse_conv_bn_eval(convolution, layer)
        else:
            kept.append(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*kept)


def weights_of(name: str) -> Callable[[Path | None], Path]:
    """`FeatureExtractor.weights` of an extractor whose weights are weights/NAME.safetensors."""

    def weights(path: Path | None) -> Path:
        file = path or WEIGHTS / f"{name}.safetensors"
        if not file.is_file():
            fix = "give the path of a file" if path else "reinstall ganzoo"
            raise ganzoo.WeightsUnavailable(f"the weights of {name} are not at {file}; {fix}")
        return file

    return weights


def read_weights(module: Network, path: Path, name: str) -> Network:
    """`module` in eval mode with the weights at `path`. Raises `WeightsUnavailable` where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ganzoo.WeightsUnavailable(f"{path} does not hold the weights of {name}") from error
    return module.eval().requires_grad_(False)
