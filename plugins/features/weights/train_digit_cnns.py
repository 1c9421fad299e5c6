"""Trains `digits-cnn` and `mnist-cnn` and writes their weights and digit-cnns.json beside this file.

python plugins/features/weights/train_digit_cnns.py --data-root DIR     (MNIST under DIR/MNIST/raw, or downloaded)

Takes minutes on one CPU core. One seed gives one result on one machine and version of torch; elsewhere the bits may
differ, so the sha256 in plugins/features/digit_cnns.py names the files that are committed, not what a rerun gives.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import ganzoo
from ganzoo_plugins.datasets import digits, mnist
from ganzoo_plugins.features.digit_cnns import SIZES, DigitCNN
from ganzoo_plugins.features.shipped import WEIGHTS

SEED = 0
EPOCHS = {"digits-cnn": 200, "mnist-cnn": 10}
BATCH = 128
RATE = 3e-3


def jitter(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image turned by up to 10 degrees, scaled by up to 10 % and shifted by up to 10 % of its side."""
    angle, scale, *shift = torch.rand(4, len(images), generator=rng).mul(2).sub(1).unbind()
    angle, scale = angle * math.radians(10), 1 + 0.1 * scale
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [cosine, -sine, 0.2 * shift[0], sine, cosine, 0.2 * shift[1]]
    where = functional.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images.float(), where, align_corners=False).round().to(torch.uint8)


def train(name: str, images: Tensor, labels: Tensor) -> DigitCNN:
    """AdamW with a one-cycle rate on jittered images, uint8 (N, 1, H, W)."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    network = DigitCNN(SIZES[name]).train().to(memory_format=torch.channels_last)
    steps = EPOCHS[name] * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS[name]):
        order = torch.randperm(len(images), generator=rng)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            _, logits = network(jitter(images[batch], rng))
            loss = functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        print(f"{name}: epoch {epoch + 1} of {EPOCHS[name]}, loss {loss.item():.4f}")
    return network.eval().to(memory_format=torch.contiguous_format)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose most probable class is their label."""
    predicted = torch.cat([network(part)[1].argmax(1) for part in images.split(500)])
    return (predicted == labels).double().mean().item()


def main() -> None:
    """Train, test, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder that holds MNIST/raw")
    root = parser.parse_args().data_root
    torch.set_num_threads(1)  # so that the bits do not depend on the number of cores
    torch.use_deterministic_algorithms(True)

    digit = digits.load(ganzoo.DatasetRequest(root, "", 16))
    training = mnist.read_mnist(root, 28)
    testing = mnist.read_mnist(root, 28, train=False)
    splits = {
        "digits-cnn": (digit.images, digit.labels, digit.test_images, digit.test_labels),
        "mnist-cnn": (*training, *testing),
    }
    facts = {}
    for name, (images, labels, test_images, test_labels) in splits.items():
        start = time.perf_counter()
        network = train(name, images, labels)
        path = WEIGHTS / f"{name}.safetensors"
        save_file(network.state_dict(), path)
        facts[name] = {
            "sha256": ganzoo.sha256_of_file(path),
            "seed": SEED,
            "epochs": EPOCHS[name],
            "trained_on": len(images),
            "tested_on": len(test_images),
            "test_accuracy": accuracy(network, test_images, test_labels),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "seconds": round(time.perf_counter() - start),
            "torch": torch.__version__,
            "command": "python plugins/features/weights/train_digit_cnns.py --data-root DIR",
        }
        print(json.dumps(facts[name], indent=2))
    (WEIGHTS / "digit-cnns.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
