"""What the features of `efficientnet-lite0` know of CIFAR-10: the accuracy of a linear classifier on them.

python plugins/features/weights/linear_probe.py --images DIR

DIR holds the 50 000 images of CIFAR-10's training part, a folder for each class. Of each class the classifier learns
from the first 500 that `cifar-cnn` was trained on, and is tested on the first 200 that it was not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ganzoo_plugins.datasets.folder import read_folder
from ganzoo_plugins.features import efficientnet_lite0
from ganzoo_plugins.features.cifar_cnn import held_out

TRAINING, TESTING = 500, 200
"""Images of each class."""


def first_of_each_class(labels: Tensor, among: Tensor, count: int) -> Tensor:
    """The indices of the first `count` images of each class, of those that the mask `among` has."""
    return torch.cat([(among & (labels == label)).nonzero().flatten()[:count] for label in labels.unique()])


def main() -> None:
    """Compute features, fit, test, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="the folder that holds a folder for each class")
    given = read_folder(parser.parse_args().images, 32)
    labels = torch.as_tensor(given.labels)
    (extractor,) = efficientnet_lite0.ganzoo_feature_extractors()
    network = extractor.load(extractor.weights(None))

    @torch.inference_mode()
    def features(indices: Tensor) -> Tensor:
        batches = indices.split(extractor.batch_size)
        return torch.cat([network(torch.stack([given.images[index] for index in batch]))[0] for batch in batches])

    test = held_out(len(labels))
    parts = [first_of_each_class(labels, ~test, TRAINING), first_of_each_class(labels, test, TESTING)]
    (known, known_labels), (unknown, unknown_labels) = ((features(part), labels[part]) for part in parts)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    probe.fit(known, known_labels)
    facts = {
        "extractor": extractor.name,
        "trained_on": len(known),
        "tested_on": len(unknown),
        "test_accuracy": probe.score(unknown, unknown_labels),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
