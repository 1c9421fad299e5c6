"""DINOv2's networks as torch-fidelity uses them: features that were learned without labels (Oquab et al. 2023).

The networks are timm's (`ganzoo[dinov2]`), because torch-fidelity has code fetched and run for them; the weights are
Meta's, fetched, checked and unpickled here. Positions are interpolated as Meta's code does it by default, so that the
features are those of torch-fidelity; timm itself interpolates them with antialiasing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import ganzoo
from ganzoo_plugins.features.fetched import fetched
from ganzoo_plugins.features.state_dicts import network_with, read_tensors, refusing
from ganzoo_plugins.features.tensorflow_resize import IMAGENET, IN_WORDS, TensorFlowResize

URL = "https://dl.fbaipublicfiles.com/dinov2"
LICENCE = "Apache-2.0"
SIZE, PATCH, TRAINED_SIZE = 224, 14, 518
"""In pixels: that of images here, of a patch, and of images in training."""
OFFSET = 0.1
"""What Meta's code adds to the number of patches on a side when it interpolates positions."""

NETWORKS = {
    "dinov2-vit-s-14": ("small", 384, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    "dinov2-vit-b-14": ("base", 768, "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    "dinov2-vit-l-14": ("large", 1024, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
}
"""For each its size in timm's words, its features, and the sha256 of its weights.

Meta publishes no sha256. These are of `dinov2_vit?14_pretrain.pth`, as others who fetched them state them.
"""


class DINOv2(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to features, float32 (N, D), and no logits, (N, 0).

    The features are the class token after the last normalization.
    """

    def __init__(self, size: str, tensors: Mapping[str, Tensor]):
        super().__init__()
        from timm import create_model

        build = partial(create_model, f"vit_{size}_patch{PATCH}_dinov2", pretrained=False, img_size=SIZE, num_classes=0)
        self.features = nn.Sequential(TensorFlowResize(SIZE, IMAGENET), network_with(build, for_timm(tensors)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.features(images)
        return features, features.new_zeros(len(features), 0)


def for_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's weights as timm's network takes them: without the token of masked patches, positions for `SIZE`."""
    kept = {name: tensor for name, tensor in tensors.items() if name != "mask_token"}
    kept["pos_embed"] = interpolated(kept["pos_embed"])
    return kept


def interpolated(positions: Tensor) -> Tensor:
    """Embeddings of positions, (1, 1 + 37², D), to (1, 1 + 16², D); the first, the class token's, stays as it is.

    Bicubic, without antialiasing, by a factor of (16 + `OFFSET`) / 37: the default of Meta's `torch.hub` networks.
    Raises `RuntimeError` for another number of positions.
    """
    trained, wanted = TRAINED_SIZE // PATCH, SIZE // PATCH
    factor = (wanted + OFFSET) / trained
    grid = positions[:, 1:].float().unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
    grid = interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:, :1].float(), grid.flatten(2).mT], 1)


def weights(name: str, file: ganzoo.Weights) -> Callable[[Path | None], Path]:
    """`fetched(name, file)`, where the network that takes them is installed."""

    def find(path: Path | None) -> Path:
        if find_spec("timm") is None:
            raise ganzoo.WeightsUnavailable(f"{name} needs the package timm: pip install 'ganzoo[dinov2]'")
        return fetched(name, file)(path)

    return find


def load(name: str, path: Path) -> DINOv2:
    """The network with the weights at `path`, in eval mode. Raises `WeightsUnavailable` where they do not fit."""
    with refusing(path, f"Meta's weights of {name}"):
        return DINOv2(NETWORKS[name][0], read_tensors(path)).eval()


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features dinov2-vit-s-14`, and so on."""
    for name, (size, features, sha256) in NETWORKS.items():
        hub = f"dinov2_vit{size[0]}{PATCH}"
        file = ganzoo.Weights(f"{hub}_pretrain.pth", sha256, f"{URL}/{hub}/{hub}_pretrain.pth")
        yield ganzoo.FeatureExtractor(
            name,
            weights(name, file),
            partial(load, name),
            sha256=sha256,
            preprocessing=(
                f"{IN_WORDS.format(SIZE, 'ImageNet')}; positions interpolated from 37 x 37 to 16 x 16 "
                f"(bicubic, no antialias, offset {OFFSET})"
            ),
            summary=f"DINOv2's ViT-{size[0].upper()}/14, as torch-fidelity uses it (needs 'ganzoo[dinov2]'); "
            f"{features} features",
            reference="Oquab et al. 2023, arXiv:2304.07193; https://github.com/toshas/torch-fidelity",
            batch_size=16 if size == "large" else 32,
            images="natural",
            licence=LICENCE,
        )
