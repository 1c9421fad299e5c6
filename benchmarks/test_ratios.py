"""Ratios of times for the same work by ganzoo and by a plain PyTorch loop, in turn on one machine in one session.

Every pair is printed, and the median is the result. The sides of a training ratio run in separate processes (see
`contestants.py`), those of the other ratios in turn in this process. No benchmark fails for being slow.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from contestants import Contestant

from ganzoo_plugins.features.digit_cnns import DigitCNN

PAIRS = 9

DATA = os.environ.get("GANZOO_DATA")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="of the table of NVIDIA GPUs")
needs_mnist = pytest.mark.skipif(DATA is None, reason="set GANZOO_DATA to a folder that holds MNIST")


@dataclass(frozen=True)
class Race:
    """`first` against `second`; the ratio is the seconds of the first over those of the second."""

    first: str
    second: str
    size: int
    channels: int
    batch: int
    steps: int


def alternate(
    benchmark, title: str, first: Callable[[], float], second: Callable[[], float], goal: str, pairs: int = PAIRS
) -> list[float]:
    """Time pairs of `first` and `second`, which return their seconds; pytest-benchmark times the pairs.

    Every other pair begins with the second: who comes second is slower by some per cent. Returns the seconds of
    `second`.
    """
    seconds: list[tuple[float, float]] = []

    def pair() -> None:
        if len(seconds) % 2:
            of_second, of_first = second(), first()
        else:
            of_first, of_second = first(), second()
        seconds.append((of_first, of_second))

    benchmark.pedantic(pair, rounds=pairs, iterations=1)
    of_firsts, of_seconds = map(list, zip(*seconds, strict=True))
    ratios = [one / other for one, other in seconds]
    benchmark.extra_info.update(
        title=title, goal=goal, ratios=ratios, first_seconds=of_firsts, second_seconds=of_seconds
    )
    return of_seconds


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A function that does `work` and returns the seconds it took."""

    def run() -> float:
        since = time.perf_counter()
        work()
        return time.perf_counter() - since

    return run


@pytest.mark.benchmark(group="against the plain loop")
@pytest.mark.parametrize(
    ("title", "race", "goal"),
    [
        pytest.param(
            "DCGAN 64 px, 3 channels, batch 64, step alone, EMA on",
            Race("plain-dcgan-ready", "dcgan-ready", 64, 3, 64, 3),
            "≥ 1.15",
            id="dcgan-step",
        ),
        pytest.param(
            "DCGAN, MNIST at 64 px, batch 64, end to end",
            Race("plain-dcgan", "dcgan", 64, 1, 64, 4),
            "≥ 1.8",
            id="dcgan-end-to-end",
            marks=needs_mnist,
        ),
        pytest.param(
            "mlp, MNIST, batch 64, end to end",
            Race("plain-mlp", "mlp", 28, 1, 64, 150),
            "≥ 3",
            id="mlp-end-to-end",
            marks=needs_mnist,
        ),
        pytest.param(
            "DCGAN, MNIST at 64 px, batch 128, end to end",
            Race("plain-dcgan", "dcgan", 64, 1, 128, 40),
            "on a GPU",
            id="dcgan-end-to-end-gpu",
            marks=[needs_mnist, needs_cuda],
        ),
        pytest.param(
            "mlp, MNIST, batch 128, end to end",
            Race("plain-mlp", "mlp", 28, 1, 128, 300),
            "on a GPU",
            id="mlp-end-to-end-gpu",
            marks=[needs_mnist, needs_cuda],
        ),
        pytest.param(
            "harness over its own bare step, DCGAN, MNIST at 28 px",
            Race("dcgan-harness", "dcgan-bare", 28, 1, 64, 40),
            "≤ 1.02",
            id="overhead",
            marks=needs_mnist,
        ),
    ],
)
def test_training(benchmark, title, race, goal):
    shape = race.size, race.channels, race.batch
    with (
        Contestant(race.first, *shape, ours=not race.first.startswith("plain")) as first,
        Contestant(race.second, *shape, ours=True) as second,
    ):
        first.seconds(race.steps)
        second.seconds(race.steps)
        seconds = alternate(
            benchmark, title, lambda: first.seconds(race.steps), lambda: second.seconds(race.steps), goal
        )
    benchmark.extra_info["images_per_second"] = race.steps * race.batch / statistics.median(seconds)


TECHNIQUES = (
    "freezing",
    "shared fakes",
    "fused Adam",
    "channels_last",
    "oneDNN products",
    "kept memory",
    "short spins",
)


@pytest.mark.benchmark(group="what a technique gains")
@pytest.mark.parametrize("without", TECHNIQUES)
@pytest.mark.parametrize(
    ("title", "race"),
    [
        ("mlp 28 px, batch 64, step alone", Race("mlp-ready", "mlp-ready", 28, 1, 64, 60)),
        ("DCGAN 64 px, 3 channels, batch 64, step alone", Race("dcgan-ready", "dcgan-ready", 64, 3, 64, 2)),
    ],
    ids=["mlp", "dcgan"],
)
def test_technique(benchmark, title, race, without):
    """What a technique gains on an idle machine: the time of a step without it over that of a step with all."""
    shape = race.size, race.channels, race.batch
    with (
        Contestant(race.first, *shape, ours=True, without=without) as first,
        Contestant(race.second, *shape, ours=True) as second,
    ):
        first.seconds(race.steps)
        second.seconds(race.steps)
        alternate(
            benchmark,
            f"without {without}, {title}",
            lambda: first.seconds(race.steps),
            lambda: second.seconds(race.steps),
            "what it gains",
        )


@needs_mnist
@pytest.mark.benchmark(group="against torch-fidelity")
def test_evaluation(benchmark, registry, tmp_path):
    """FID of 10 000 images with mnist-cnn: ours from the images in memory, theirs from a folder of PNG files.

    Both start with the statistics of the real images, and writing the PNG files is not counted. Theirs has the
    network as it was trained, in torch's default format, as one would register it.
    """
    import torch_fidelity
    from safetensors.torch import load_file

    from ganzoo.data.finding import find_dataset, prepare_dataset
    from ganzoo.evaluation.extractors import load_extractor
    from ganzoo.evaluation.features import RealSample
    from ganzoo.evaluation.scorer import Scorer
    from ganzoo.machine.settings import resolve_device
    from ganzoo.util.images import save_png

    device = resolve_device("auto")
    on_cuda = device.startswith("cuda")
    # torch-fidelity knows CUDA and the CPU: both sides go where both can.
    extractor = load_extractor(registry.get("features", "mnist-cnn").record, device if on_cuda else "cpu")
    offer, argument = find_dataset(registry, "mnist")
    dataset = prepare_dataset(registry, offer, argument)
    real = RealSample(dataset, extractor)
    real.statistics()
    images = torch.from_numpy(dataset.images()[:10_000].copy())
    images[:, :, ::5] //= 2
    folder = tmp_path / "png"
    folder.mkdir()
    for index, image in enumerate(images):
        save_png(image, folder / f"{index:05d}.png")
    network = DigitCNN(28)
    network.load_state_dict(load_file(extractor.extractor.weights(None)))
    network.eval().requires_grad_(False)

    class Features(torch_fidelity.FeatureExtractorBase):
        """The same network as a torch-fidelity feature extractor."""

        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)
            self.network = network

        @staticmethod
        def get_provided_features_list():
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "features"

        def forward(self, batch):
            return (self.network(batch[:, :1])[0],)

    torch_fidelity.register_feature_extractor("mnist-cnn", Features)
    settings = {"feature_extractor": "mnist-cnn", "fid": True, "cuda": on_cuda, "verbose": False, "batch_size": 256}
    settings |= {"cache_root": str(tmp_path / "cache"), "input2": str(folder), "input2_cache_name": "real"}

    def theirs() -> object:
        return torch_fidelity.calculate_metrics(input1=str(folder), **settings)

    theirs()
    scorer = Scorer([registry.get("metrics", "fid").record], real)
    title = "FID of 10 000 MNIST images, mnist-cnn"
    alternate(
        benchmark,
        title,
        timed(theirs),
        timed(lambda: scorer.score(iter(images.split(256)), kimg=None, ema=None)),
        "≥ 4",
    )


@pytest.mark.benchmark(group="start-up")
@pytest.mark.parametrize(
    ("title", "first", "second", "goal"),
    [
        ("ganzoo --help over python -c pass", ("-m", "ganzoo", "--help"), ("-c", "pass"), "≤ 20"),
        ("ganzoo list over import torch", ("-m", "ganzoo", "list"), ("-c", "import torch"), "≤ 1.3"),
    ],
)
def test_startup(benchmark, title, first, second, goal):
    def start(arguments: tuple[str, ...]) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parent)

    start(first)()
    start(second)()
    alternate(benchmark, title, timed(start(first)), timed(start(second)), goal)
