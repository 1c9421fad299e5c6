"""Trains `cifar-cnn` and writes its weights and cifar-cnn.json beside this file.

python plugins/features/weights/train_cifar_cnn.py --images DIR

DIR holds the 50 000 images of CIFAR-10's training part, a folder for each class. Nine tenths train, one tenth tests;
CIFAR-10's own test part is not touched. Takes three quarters of an hour on one slow CPU core. One seed gives one result
on one machine and version of torch; elsewhere the bits may differ, so the sha256 in plugins/features/cifar_cnn.py names
the file that is committed, not what a rerun gives.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from train_digit_cnns import accuracy  # type: ignore[import-not-found]  # a script's folder is on its path

import ganzoo
from ganzoo_plugins.datasets.folder import read_folder
from ganzoo_plugins.features.cifar_cnn import CLASSES, NAME, SIZE, CifarCNN, held_out
from ganzoo_plugins.features.shipped import WEIGHTS

SEED = 0
EPOCHS = 8
BATCH = 128
RATE = 0.1
SHIFT = 3


def jitter(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image mirrored or not, and shifted by up to `SHIFT` pixels, with the border reflected."""
    count, _, height, width = images.shape
    padded = functional.pad(images.float(), (SHIFT,) * 4, mode="reflect").to(torch.uint8)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count), generator=rng).unbind()
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    mirrored = torch.rand(count, generator=rng) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None]].permute(
        0, 3, 1, 2
    )


def train(images: Tensor, labels: Tensor) -> CifarCNN:
    """SGD with Nesterov's momentum and a one-cycle rate on jittered images, uint8 (N, 3, 32, 32)."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    network = CifarCNN().train().to(memory_format=torch.channels_last)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.25, anneal_strategy="linear", cycle_momentum=False
    )
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=rng)
        correct = 0
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            _, logits = network(jitter(images[batch], rng))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            correct += int((logits.argmax(1) == labels[batch]).sum())
        print(f"{NAME}: epoch {epoch + 1} of {EPOCHS}, {correct / len(order):.3f} right in training", flush=True)
    return network.eval().to(memory_format=torch.contiguous_format)


def main() -> None:
    """Train, round to half precision, test, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="the folder that holds a folder for each class")
    given = read_folder(parser.parse_args().images, SIZE)
    assert given.class_names == CLASSES
    assert given.labels is not None
    torch.set_num_threads(1)  # so that the bits do not depend on the number of cores
    torch.use_deterministic_algorithms(True)

    images, labels = torch.stack(list(given.images)), torch.as_tensor(given.labels)
    test = held_out(len(images))
    start = time.perf_counter()
    network = train(images[~test], labels[~test])
    seconds = round(time.perf_counter() - start)
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    path = WEIGHTS / f"{NAME}.safetensors"
    save_file(tensors, path)
    network.load_state_dict(tensors)
    facts = {
        "sha256": ganzoo.sha256_of_file(path),
        "seed": SEED,
        "epochs": EPOCHS,
        "trained_on": int((~test).sum()),
        "tested_on": int(test.sum()),
        "test_accuracy": accuracy(network, images[test], labels[test]),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": seconds,
        "torch": torch.__version__,
        "command": "python plugins/features/weights/train_cifar_cnn.py --images DIR",
    }
    print(json.dumps(facts, indent=2))
    (WEIGHTS / f"{NAME}.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
