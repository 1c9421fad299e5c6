"""`cifar-cnn`: the classifier that judges small natural images without a download."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo_plugins.features import cifar_cnn, shipped

(EXTRACTOR,) = cifar_cnn.ganzoo_feature_extractors()
FACTS = json.loads((shipped.WEIGHTS / "cifar-cnn.json").read_text())


@pytest.fixture(scope="module")
def network():
    return EXTRACTOR.load(EXTRACTOR.weights(None))


def images(count: int, channels: int = 3, size: int = 32) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=rng, dtype=torch.uint8)


def test_weights_have_the_recorded_sha256_and_are_small():
    path = EXTRACTOR.weights(None)
    assert ganzoo.sha256_of_file(path) == EXTRACTOR.sha256 == FACTS["sha256"]
    assert path.stat().st_size <= 2_000_000


@pytest.mark.skipif("GANZOO_DATA" not in os.environ, reason="GANZOO_DATA is unset: no CIFAR-10 here")
def test_accuracy_on_the_images_that_were_held_out(network):
    """Read here by other code than the script's: every tenth image, in the order of classes and names."""
    folder = Path(os.environ["GANZOO_DATA"]) / "cifar10-train-jpeg"
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert tuple(classes) == cifar_cnn.CLASSES
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())]
    held_out = files[9::10]
    assert (len(held_out), len(files) - len(held_out)) == (FACTS["tested_on"], FACTS["trained_on"])
    right = 0
    with torch.inference_mode():
        for start in range(0, len(held_out), 500):
            some = held_out[start : start + 500]
            pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in some])
            _, logits = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            right += int((logits.argmax(1) == torch.tensor([label for _, label in some])).sum())
    assert right / len(held_out) == pytest.approx(FACTS["test_accuracy"], abs=0.002)
    assert right / len(held_out) > 0.8


def test_features_and_logits_have_the_documented_shapes(network):
    features, logits = network(images(3))
    assert features.shape == (3, 128)
    assert logits.shape == (3, 10)
    assert features.dtype == logits.dtype == torch.float32


def test_grey_images_are_those_repeated_to_rgb(network):
    grey = images(2, channels=1)
    ours, repeated = network(grey)[0], network(grey.expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(ours, repeated)


def test_an_image_is_seen_by_itself(network):
    batch = images(8)
    torch.testing.assert_close(network(batch)[0][3:4], network(batch[3:4])[0], rtol=1e-4, atol=1e-4)


def test_other_sizes_are_resized_and_the_protocol_says_so(network):
    large = images(2, size=64)
    torch.testing.assert_close(network(large)[0], network(ganzoo.resize_images(large, 32))[0])
    assert EXTRACTOR.preprocessing((3, 32, 32)) == "grey repeated to RGB, (x - 127.5) / 63.75"
    assert EXTRACTOR.preprocessing((3, 64, 64)).startswith("resized to 32 px")


def test_other_weights_are_refused(tmp_path):
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(ganzoo.WeightsUnavailable, match="does not hold the weights of cifar-cnn"):
        EXTRACTOR.load(tmp_path / "other.safetensors")


def test_a_folder_of_photographs_is_scored_without_a_download(tmp_path, run_cli):
    for name, seed in (("real", 0), ("fake", 1)):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(seed)
        for index in range(24):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    asked = ("--dataset", f"folder:{tmp_path / 'real'}", "--features", "cifar-cnn", "--json")
    done = run_cli("score", tmp_path / "fake", *asked)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert {protocol["weights_licence"] for protocol in given["protocols"].values()} == {"MIT"}
    assert {protocol["extractor_for"] for protocol in given["protocols"].values()} == {"natural"}
