"""CLIP's image networks as torch-fidelity uses them: features that no ImageNet class has shaped.

The networks and their resize are torch-fidelity's; the weights are OpenAI's archives, which are fetched and checked
here, and of which only the tensors are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.fetched import fetched
from ganzoo_plugins.features.state_dicts import network_with, refusing
from ganzoo_plugins.features.tensorflow_resize import IN_WORDS, TensorFlowResize
from ganzoo_plugins.features.torchscript_tensors import tensors_of_archive

URL = "https://openaipublic.azureedge.net/clip/models"
LICENCE = "MIT"
COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and standard deviation of the colours that CLIP was trained on, in [0, 1]."""


@dataclass(frozen=True)
class Network:
    """An image network of CLIP: its file at OpenAI, and its shape (Radford et al. 2021).

    `size` and `patch` are in pixels; `width` is that of its `layers`, and `features` that of what it gives.
    """

    file: str
    sha256: str
    size: int
    patch: int
    width: int
    layers: int
    features: int


NETWORKS = {
    "clip-vit-b-32": Network(
        "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        size=224,
        patch=32,
        width=768,
        layers=12,
        features=512,
    ),
    "clip-vit-l-14": Network(
        "ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        size=224,
        patch=14,
        width=1024,
        layers=24,
        features=768,
    ),
    "clip-vit-l-14-336px": Network(
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        size=336,
        patch=14,
        width=1024,
        layers=24,
        features=768,
    ),
}


class CLIP(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to features, float32 (N, D), and no logits, (N, 0).

    The features are the image's embedding, projected into the space shared with texts, not normalized to length 1.
    """

    def __init__(self, shape: Network, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.features = nn.Sequential(TensorFlowResize(shape.size, COLOURS), visual(shape, tensors))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.features(images)
        return features, features.new_zeros(len(features), 0)


def visual(shape: Network, tensors: Mapping[str, Tensor]) -> nn.Module:
    """torch-fidelity's network with these weights, of which it rounds those of its layers to half precision first."""
    from torch_fidelity.feature_extractor_clip import VisionTransformer, convert_weights

    heads = shape.width // 64
    build = partial(VisionTransformer, shape.size, shape.patch, shape.width, shape.layers, heads, shape.features)
    with torch.device("meta"):
        rounded = build()
    convert_weights(rounded)
    precisions = {name: tensor.dtype for name, tensor in rounded.state_dict().items()}
    return network_with(build, {name: tensor.to(precisions.get(name)) for name, tensor in tensors.items()})


def load(name: str, path: Path) -> CLIP:
    """The network with the weights at `path`, in eval mode. Raises `WeightsUnavailable` where they do not fit."""
    with refusing(path, f"OpenAI's weights of {name}"):
        return CLIP(NETWORKS[name], tensors_of_archive(path, "visual.")).eval()


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features clip-vit-b-32`, and so on."""
    for name, shape in NETWORKS.items():
        # torch-fidelity has this file name in torch.hub's folder.
        file = ganzoo.Weights(f"{name}-{shape.sha256}.pt", shape.sha256, f"{URL}/{shape.sha256}/{shape.file}")
        yield ganzoo.FeatureExtractor(
            name,
            fetched(name, file),
            partial(load, name),
            sha256=shape.sha256,
            preprocessing=f"{IN_WORDS.format(shape.size, 'CLIP')}; the projected embedding, not normalized",
            summary=f"CLIP's {shape.file.removesuffix('.pt')}, as torch-fidelity uses it; {shape.features} features",
            reference="Radford et al. 2021, arXiv:2103.00020; https://github.com/toshas/torch-fidelity",
            batch_size=32 if shape.layers < 24 else 16,
            images="natural",
            licence=LICENCE,
        )
