"""Every metric against an independent computation, torch-fidelity end to end, and inputs with a known score."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.spatial
import torch
from metrics_of_features import METRICS_OF_FEATURES

import ganzoo
from ganzoo.evaluation.features import FeatureSample, moments
from ganzoo.evaluation.scorer import result_of, settings_of
from ganzoo.util.images import save_png
from ganzoo_plugins.datasets import digits
from ganzoo_plugins.features import digit_cnns
from ganzoo_plugins.metrics import (
    cmmd,
    modes,
    neighbours,
)
from ganzoo_plugins.reporters import text as reporters

METRICS = {**METRICS_OF_FEATURES, **{metric.name: metric for metric in modes.ganzoo_metrics()}}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks gain nothing from threads, and lose much when cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(features, logits=None, labels=None) -> ganzoo.Sample:
    def statistics():
        mean, covariance = numpy_moments(features)
        return torch.from_numpy(mean), torch.from_numpy(covariance)

    return ganzoo.Sample(features.float(), logits, labels, statistics)


def numpy_moments(features) -> tuple[np.ndarray, np.ndarray]:
    wide = features.double().numpy()
    return wide.mean(0), np.atleast_2d(np.cov(wide, rowvar=False))


def estimates(name: str, real: ganzoo.Sample, fake: ganzoo.Sample):
    metric = METRICS[name]
    settings = settings_of(metric, len(real.features), len(fake.features))
    assert json.loads(json.dumps(settings)) == settings, "settings go into the protocol as JSON"
    values = result_of(metric, {"real": real, "fake": fake, "settings": settings})
    assert set(values) == set(metric.better)
    return values


def score(name: str, real: ganzoo.Sample, fake: ganzoo.Sample):
    """The values of a metric without their intervals, by name: a number, or (value, std)."""
    return {name: without_interval(value) for name, value in estimates(name, real, fake).items()}


def without_interval(value):
    if not isinstance(value, ganzoo.Estimate):
        return value
    return value.value if value.std is None else (value.value, value.std)


def gaussian(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99)) / width**0.5
    return torch.randn(count, width, generator=rng) @ mixing + shift


@pytest.fixture(scope="module")
def extract():
    plugin = next(iter(digit_cnns.ganzoo_feature_extractors()))
    network = plugin.load(plugin.weights(None))

    @torch.no_grad()
    def extract(images, labels=None):
        features, logits = network(images)
        return sample(features, logits, labels)

    return extract


@pytest.fixture(scope="module")
def real_digits():
    loaded = digits.load(ganzoo.DatasetRequest(Path(), "", 16))
    order = torch.randperm(len(loaded.images), generator=torch.Generator().manual_seed(0))
    return loaded.images[order], loaded.labels[order]


# --- against computations that share no code with the plugins -----------------------------------------------------


def test_fid_agrees_with_the_matrix_square_root_of_scipy():
    real, fake = gaussian(500, 24, 1), gaussian(400, 24, 2, shift=0.3) * 1.4
    (mu, sigma), (mu_fake, sigma_fake) = numpy_moments(real), numpy_moments(fake)
    root = scipy.linalg.sqrtm(sigma @ sigma_fake).real
    expected = ((mu - mu_fake) ** 2).sum() + np.trace(sigma + sigma_fake - 2 * root)
    assert score("fid", sample(real), sample(fake))["fid"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("real_count", "fake_count", "width"),
    [(2000, 1500, 96), (60, 1500, 96), (40, 50, 96), (300, 200, 512), (700, 700, 700), (2, 3, 16)],
)
def test_fid_equals_that_of_torch_fidelity_in_double_precision(real_count, fake_count, width):
    """With fewer images than features some directions have no variance, and rounding may look like variance there."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    real = torch.relu(gaussian(real_count, width, 1))
    fake = torch.relu(gaussian(fake_count, width, 2, shift=0.1) * 1.1)
    theirs = [fid_features_to_statistics(features.double()) for features in (fake, real)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)[KEY_METRIC_FID]
    sides = [FeatureSample(features, features) for features in (real, fake)]
    assert score("fid", *sides)["fid"] == pytest.approx(expected, rel=1e-7)


def test_blockwise_moments_equal_numpy(monkeypatch):
    monkeypatch.setattr("ganzoo.evaluation.features.MOMENT_BLOCK", 64)
    features = gaussian(1000, 12, 3, shift=100.0).float()
    for ours, numpys in zip(moments(features), numpy_moments(features), strict=True):
        np.testing.assert_allclose(ours.numpy(), numpys, rtol=1e-12, atol=1e-12)


def test_fid_of_gaussians_that_differ_in_mean_and_scale_has_a_closed_form():
    real = gaussian(500, 8, 1)
    fake = 2 * real + 3  # mean differs by mu + 3, and sqrt(S · 4S) = 2S
    mu, sigma = numpy_moments(real)
    expected = ((mu + 3) ** 2).sum() + np.trace(sigma + 4 * sigma - 4 * sigma)
    assert score("fid", sample(real), sample(fake))["fid"] == pytest.approx(expected, rel=1e-4)


def test_inception_score_agrees_with_its_definition():
    logits = torch.randn(1000, 12, generator=torch.Generator().manual_seed(3)) * 3
    order = np.random.RandomState(2020).permutation(1000)
    odds = np.exp(logits.double().numpy()[order])
    probabilities = odds / odds.sum(1, keepdims=True)
    splits = [
        math.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean())
        for part in probabilities.reshape(10, 100, 12)
    ]
    mean, std = score("is", sample(torch.zeros(5, 2)), sample(torch.zeros(1000, 2), logits))["is"]
    assert mean == pytest.approx(np.mean(splits), rel=1e-4)
    assert std == pytest.approx(np.std(splits), rel=1e-4)


def test_kid_agrees_with_the_unbiased_estimate_over_all_images():
    real, fake = gaussian(300, 16, 1), gaussian(300, 16, 2, shift=0.2)
    x, y = real.double().numpy(), fake.double().numpy()
    within_x, within_y, across = ((a @ b.T / 16 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off_diagonal = ~np.eye(300, dtype=bool)
    expected = within_x[off_diagonal].mean() + within_y[off_diagonal].mean() - 2 * across.mean()
    mean, std = score("kid", sample(real), sample(fake))["kid"]  # each subset holds all images
    assert mean == pytest.approx(expected, rel=1e-4)
    assert std == pytest.approx(0, abs=1e-9)


def of_classes(seed, counts, names=(), scale=1.0):
    """Gaussian clusters, a class with each count of images, in a mixed order."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    features = scale * gaussian(len(labels), 6, seed) + 3 * labels[:, None]
    return replace(sample(features, torch.zeros(len(labels), 10), labels), class_names=names)


def test_intra_fd_is_the_mean_over_classes_of_the_matrix_square_root_of_scipy():
    real, fake = of_classes(1, (40, 60, 80)), of_classes(2, (50, 50, 30), scale=1.3)
    expected = []
    for label in range(3):
        (mu, sigma), (mu_fake, sigma_fake) = (
            numpy_moments(side.features[side.labels == label]) for side in (real, fake)
        )
        root = scipy.linalg.sqrtm(sigma @ sigma_fake).real
        expected.append(((mu - mu_fake) ** 2).sum() + np.trace(sigma + sigma_fake - 2 * root))
    assert score("intra-fd", real, fake)["intra-fd"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert score("intra-fd", real, real)["intra-fd"] < 1e-9


def test_intra_fd_sees_classes_that_are_mixed_up_where_fid_sees_nothing():
    real, fake = of_classes(1, (60, 60, 60)), of_classes(2, (60, 60, 60))
    turned = replace(fake, labels=(fake.labels + 1) % 3)
    assert score("fid", real, fake) == score("fid", real, turned)
    assert score("intra-fd", real, turned)["intra-fd"] > 20 * score("intra-fd", real, fake)["intra-fd"]
    named_alike = replace(turned, class_names=("c", "a", "b"))
    values = score("intra-fd", replace(real, class_names=("a", "b", "c")), replace(fake, class_names=("a", "b", "c")))
    # Label 1 of the turned side is what label 0 was: by their names the classes meet again.
    assert score("intra-fd", replace(real, class_names=("a", "b", "c")), named_alike) == pytest.approx(values)


@pytest.mark.parametrize(
    ("real", "fake", "what"),
    [
        ((20, 20), None, "the generated images have no labels"),
        (None, (20, 20), "the dataset has no labels"),
        ((20, 20), (20, 9), "fewer than 10 generated images of class 1"),
        ((9, 20), (20, 20), "fewer than 10 real images of class 0"),
        ((20, 20, 20), (20, 20), "fewer than 10 generated images of class 2"),
    ],
)
def test_intra_fd_without_images_of_a_class_has_a_reason(real, fake, what):
    sides = [of_classes(1, counts) if counts else replace(of_classes(1, (30,)), labels=None) for counts in (real, fake)]
    assert what in score("intra-fd", *sides)["intra-fd"].reason


def test_cmmd_agrees_with_the_mean_kernels_over_all_pairs(monkeypatch):
    """Gretton et al. 2012, equation 5, by distances; in blocks of a few images."""
    monkeypatch.setattr(cmmd, "BLOCK", 1000)
    real, fake = gaussian(70, 16, 1), gaussian(90, 16, 2, shift=0.2)
    x, y = (
        side.double().numpy() / np.linalg.norm(side.double().numpy(), axis=1, keepdims=True) for side in (real, fake)
    )

    def mean(a, b):
        return np.exp(-scipy.spatial.distance.cdist(a, b, "sqeuclidean") / 200).mean()

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert score("cmmd", sample(real), sample(fake))["cmmd"] == pytest.approx(expected, rel=1e-6)
    assert score("cmmd", sample(5 * real), sample(fake))["cmmd"] == pytest.approx(expected, rel=1e-6), "of directions"
    zero = sample(torch.cat([torch.zeros(1, 16), fake]))
    assert "no direction" in score("cmmd", sample(real), zero)["cmmd"].reason


def test_precision_and_recall_agree_with_brute_force():
    real, fake = gaussian(150, 6, 1).double().numpy(), (gaussian(130, 6, 2) * 0.7 + 0.2).double().numpy()

    def covered(points, centres):
        radii = [sorted(np.linalg.norm(centres - centre, axis=1))[3] for centre in centres]  # [0] is the centre itself
        inside = [any(np.linalg.norm(point - c) <= r for c, r in zip(centres, radii, strict=True)) for point in points]
        return np.mean(inside)

    values = score("prc", sample(torch.from_numpy(real)), sample(torch.from_numpy(fake)))
    expected = {"precision": covered(fake, real), "recall": covered(real, fake)}
    assert 0.2 < expected["recall"] < expected["precision"] < 1, "a case that tells the two apart"
    assert values == pytest.approx(expected, rel=1e-4)


def test_density_and_coverage_agree_with_their_definition():
    """Naeem et al. 2020, equations 3 and 4, over all pairs."""
    real, fake = gaussian(150, 6, 1).double().numpy(), (gaussian(130, 6, 2) * 0.7 + 0.2).double().numpy()
    apart = np.linalg.norm(real[:, None] - real, axis=2)
    radii = np.sort(apart, axis=1)[:, 5]  # place 0 is the image itself
    inside = np.linalg.norm(real[:, None] - fake, axis=2) <= radii[:, None]
    expected = {"density": inside.sum() / (5 * 130), "coverage": inside.any(1).mean()}
    assert 0.3 < expected["coverage"] < 1, "a case that tells"
    assert score("dc", sample(torch.from_numpy(real)), sample(torch.from_numpy(fake))) == pytest.approx(
        expected, rel=1e-6
    )


def test_coverage_of_a_mixture_is_the_share_of_its_modes_that_have_fakes():
    centres = 100 * torch.eye(10)[torch.arange(300) % 10]
    real, fake = (centres + gaussian(300, 10, seed) for seed in (1, 2))
    for covered in (3, 7, 10):
        values = score("dc", sample(real), sample(fake[torch.arange(300) % 10 < covered]))
        assert values["coverage"] == pytest.approx(covered / 10, abs=0.03)
        assert values["density"] == pytest.approx(1, abs=0.2)


def test_neighbours_by_blocks_and_without_a_group_are_those_of_all_pairs(monkeypatch):
    """Each column against the images without that group, one block against many."""
    points, others = gaussian(60, 4, 1).double(), gaussian(50, 4, 2).double()
    monkeypatch.setattr(neighbours, "BLOCK", 7 * 60)
    balls = neighbours.Balls.around(points, 3)
    given = neighbours.Grouped.of(others)
    found = torch.cat([balls.around_each(block) for _, block in given.distances_to(balls.centres.points)])
    for column in range(1 + neighbours.GROUPS):
        kept = balls.centres.points[balls.centres.groups != column - 1]
        radii = torch.cdist(kept, kept).topk(4, largest=False).values[:, 3]
        expected = (torch.cdist(given.points, kept) <= radii).sum(1)
        assert found[:, column].tolist() == expected.tolist()


def test_vendi_equals_the_entropy_of_the_spectrum_of_all_cosines():
    """Friedman and Dieng 2023, definition 3.1: of all pairs, with more and with fewer images than features."""
    for count, width in ((120, 12), (40, 64)):
        features = gaussian(count, width, 1).double().numpy()
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        eigenvalues = scipy.linalg.eigvalsh(unit @ unit.T / count)
        eigenvalues = eigenvalues[eigenvalues > 1e-12]
        expected = np.exp(-(eigenvalues * np.log(eigenvalues)).sum())
        fakes = sample(torch.from_numpy(features))
        assert score("vendi", fakes, fakes)["vendi"] == pytest.approx(expected, rel=1e-6)


def test_vendi_counts_what_is_different():
    for different in (1, 5, 20):
        fakes = sample(torch.eye(20)[torch.arange(200) % different])
        assert score("vendi", fakes, fakes)["vendi"] == pytest.approx(different)


def test_authpct_agrees_with_its_definition():
    """Alaa et al. 2022, section 4.3: a fake is a copy where it is closer to a real image than that one's neighbour."""
    real, fake = gaussian(150, 6, 1).double().numpy(), gaussian(130, 6, 2).double().numpy()
    apart = np.linalg.norm(real[:, None] - real, axis=2)
    np.fill_diagonal(apart, np.inf)
    to_real = np.linalg.norm(fake[:, None] - real, axis=2)
    expected = 100 * (to_real.min(1) > apart.min(1)[to_real.argmin(1)]).mean()
    assert 20 < expected < 80, "a case that tells"
    sides = (sample(torch.from_numpy(side)) for side in (real, fake))
    assert score("authpct", *sides)["authpct"] == pytest.approx(expected)


def test_authpct_tells_copies_from_images_of_one_distribution(extract, real_digits):
    images, labels = real_digits
    real = extract(images[:600], labels[:600])
    values = {}
    for name, some in {
        "copies": images[100:500],
        "others": images[600:1000],
        "one": images[:1].repeat(400, 1, 1, 1),
    }.items():
        values[name] = score("authpct", real, extract(some))["authpct"]
    assert (values["copies"], values["one"]) == (0, 0)
    assert values["others"] > 30


def test_fd_infinity_is_the_intercept_of_a_line_over_the_inverse_number_of_fakes():
    real, fake = gaussian(400, 8, 1), 1.2 * gaussian(1000, 8, 2)
    settings = METRICS["fd-infinity"].settings(400, 1000)
    assert settings["sizes"][0] == 100
    assert settings["sizes"][-1] == 1000
    assert len(settings["sizes"]) == 15
    distances = []
    rng = torch.Generator().manual_seed(2020)
    for size in settings["sizes"]:
        some = fake[torch.randperm(1000, generator=rng)[:size]]
        (mu, sigma), (mu_fake, sigma_fake) = numpy_moments(real), numpy_moments(some)
        root = scipy.linalg.sqrtm(sigma @ sigma_fake).real
        distances.append(((mu - mu_fake) ** 2).sum() + np.trace(sigma + sigma_fake - 2 * root))
    expected = np.polyfit(1 / np.array(settings["sizes"]), distances, 1)[1]
    assert score("fd-infinity", sample(real), sample(fake))["fd-infinity"] == pytest.approx(expected, rel=1e-4)


def test_fd_infinity_is_closer_to_the_closed_form_than_fid():
    """Of two Gaussians that differ in scale, against so many real images that they add no bias."""
    real = gaussian(30_000, 32, 1)
    mu, sigma = numpy_moments(real)
    expected = 0.01 * (mu**2).sum() + 0.01 * np.trace(sigma)  # N(1.1 µ, 1.21 Σ)
    sides = sample(real), sample(1.1 * gaussian(600, 32, 2))
    infinite = estimates("fd-infinity", *sides)["fd-infinity"]
    assert infinite.low < expected < infinite.high
    assert abs(infinite.value - expected) < 0.5 * (score("fid", *sides)["fid"] - expected)


def test_modes_and_kl_equal_a_count_by_hand():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    predicted = torch.tensor([0, 0, 0, 1])
    real = sample(torch.zeros(8, 2), torch.eye(4)[labels], labels)
    fake = sample(torch.zeros(4, 2), torch.eye(4)[predicted])
    expected = 0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.25)
    assert score("modes", real, fake) == pytest.approx({"modes": 2, "kl": expected}, rel=1e-6)
    assert score("modes", real, real) == pytest.approx({"modes": 4, "kl": 0}, abs=1e-12)


def test_modes_are_not_scored_by_an_extractor_with_other_classes():
    labels = torch.arange(10).repeat(10)
    strange = torch.randn(100, 1008, generator=torch.Generator().manual_seed(0))
    values = score("modes", sample(torch.zeros(100, 2), strange, labels), sample(torch.zeros(100, 2), strange))
    reason = "the extractor predicts 0% of the real labels, so its classes are not the dataset's"
    assert values == dict.fromkeys(("modes", "kl"), ganzoo.NoScore(reason))


def named(labels, class_names, columns=4) -> ganzoo.Sample:
    """A side whose labels `class_names` names, with logits that are right: the columns are called 0, 1, …"""
    predicted = torch.tensor([int(class_names[label]) for label in labels])
    labels = torch.tensor(labels)
    return replace(sample(torch.zeros(len(labels), 2), torch.eye(columns)[predicted], labels), class_names=class_names)


def test_classes_meet_by_their_names_where_one_is_absent():
    """Folders 0, 1 and 3: the label of 3 is 2."""
    real = named([0, 0, 1, 2], ("0", "1", "3"))
    fake = named([0, 0, 1, 2], ("0", "1", "3"))
    assert score("modes", real, fake) == pytest.approx({"modes": 3, "kl": 0}, abs=1e-12)
    with_twos = score("modes", real, named([0, 0, 1, 2, 3], ("0", "1", "2", "3")))
    assert with_twos == {"modes": 4, "kl": ganzoo.NoScore("infinite: no real image is of class 2, and a fake is")}


def test_classes_that_do_not_meet_give_a_reason_and_no_score():
    real = sample(torch.zeros(6, 2), torch.eye(4)[[0, 1, 2, 3, 0, 1]], torch.arange(6))
    fake = sample(torch.zeros(4, 2), torch.eye(4))
    for names, which in (((), "4, 5"), (tuple("0123ab"), "a, b"), (tuple("abcdef"), "a, b, c, d, e, …")):
        values = score("modes", replace(real, class_names=names), fake)
        reason = f"the extractor has no class called {which}; its 4 are 0, 1, 2, 3"
        assert values == dict.fromkeys(("modes", "kl"), ganzoo.NoScore(reason))


def test_a_class_that_is_another_one_of_the_extractor_is_found_without_names():
    """Three of four classes agree, so most labels are predicted."""
    labels = torch.arange(4).repeat(20)
    predicted = torch.where(labels == 2, 3, labels)
    real = sample(torch.zeros(80, 2), torch.eye(4)[predicted], labels)
    reason = "the extractor takes most real images of class 2 for another class"
    assert score("modes", real, real) == dict.fromkeys(("modes", "kl"), ganzoo.NoScore(reason))


def test_metrics_agree_with_torch_fidelity_on_png_folders(extract, real_digits, tmp_path):
    import torch_fidelity

    plugin = next(iter(digit_cnns.ganzoo_feature_extractors()))

    class Digits(torch_fidelity.FeatureExtractorBase):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)
            self.network = plugin.load(plugin.weights(None))

        @staticmethod
        def get_provided_features_list():
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "logits" if metric == "isc" else "features"

        def forward(self, images):
            features, logits = self.network(images[:, :1])
            return tuple({"features": features, "logits": logits}[name] for name in self.features_list)

    torch_fidelity.register_feature_extractor("ganzoo-digits-cnn", Digits)
    real, fake = real_digits[0][:200], real_digits[0][200:400].clone()
    fake[:, :, ::3] //= 2
    for name, images in {"real": real, "fake": fake}.items():
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            save_png(image, tmp_path / name / f"{index:03d}.png")
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "fake"),
        input2=str(tmp_path / "real"),
        feature_extractor="ganzoo-digits-cnn",
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=200,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    sides = extract(real), extract(fake)
    assert score("fid", *sides)["fid"] == pytest.approx(expected["frechet_inception_distance"], rel=2e-5)
    assert score("kid", *sides)["kid"][0] == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert score("is", *sides)["is"] == pytest.approx(
        (expected["inception_score_mean"], expected["inception_score_std"]), rel=1e-4
    )
    assert score("prc", *sides) == pytest.approx({name: expected[name] for name in ("precision", "recall")}, rel=1e-4)


# --- what known inputs must give ----------------------------------------------------------------------------------


def test_real_against_itself_is_perfect(extract, real_digits):
    images, labels = real_digits
    side = extract(images[:600], labels[:600])
    spread = np.trace(side.statistics()[1])
    assert abs(score("fid", side, side)["fid"]) < 1e-6 * spread
    assert score("prc", side, side) == {"precision": 1, "recall": 1}
    assert score("dc", side, side)["coverage"] == 1
    assert score("dc", side, side)["density"] == pytest.approx(6 / 5, rel=0.001), "k neighbours, and the image itself"
    assert score("kid", side, side)["kid"][0] <= 0, "unbiased: the mean over equal sets lies below zero"
    assert score("cmmd", side, side)["cmmd"] < 1e-9
    assert 8 < score("is", side, side)["is"][0] <= 10
    assert score("modes", side, side)["modes"] == 10
    assert score("modes", side, side)["kl"] < 1e-3


def test_collapsed_generator_scores_badly(extract, real_digits):
    images, labels = real_digits
    real = extract(images[:600], labels[:600])
    one = extract(images[700:701].expand(500, -1, -1, -1))
    assert score("is", real, one)["is"] == pytest.approx((1, 0), abs=1e-6)
    assert score("prc", real, one) == {"precision": 1, "recall": 0}
    assert score("dc", real, one)["coverage"] < 0.05
    assert score("modes", real, one)["modes"] == 1
    assert score("modes", real, one)["kl"] == pytest.approx(math.log(10), abs=0.3)
    half = extract(images[600:1200])
    assert score("fid", real, one)["fid"] > 10 * score("fid", real, half)["fid"]
    assert score("cmmd", real, one)["cmmd"] > 10 * score("cmmd", real, half)["cmmd"]
    assert score("kid", real, one)["kid"][0] > 10 * abs(score("kid", real, half)["kid"][0])


def test_real_scores_better_than_noisy_and_noisy_than_noise(extract, real_digits):
    images, labels = real_digits
    real = extract(images[:500], labels[:500])
    noise = torch.randint(0, 256, (500, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    noisy = images[500:1000].float().lerp(noise.float(), 0.3).to(torch.uint8)
    sides = [extract(images[500:1000]), extract(noisy), extract(noise)]
    for name in ("fid", "kid", "cmmd"):
        values = [np.atleast_1d(score(name, real, side)[name])[0] for side in sides]
        assert values == sorted(values), name
        assert values[-1] > 3 * values[0], name
    good, *bad = (score("prc", real, side) for side in sides)
    for name in ("precision", "recall"):
        assert good[name] > 0.6, name
        assert all(side[name] < 0.4 * good[name] for side in bad), name
    good, *bad = (score("dc", real, side) for side in sides)
    for name in ("density", "coverage"):
        assert good[name] > 0.7, name
        assert all(side[name] < 0.4 * good[name] for side in bad), name


def test_equal_sides_have_a_distance_of_zero_and_no_deviation():
    """Also where the equal images come in another order, and where there are fewer of them than features."""
    for count, width in ((300, 16), (50, 128)):
        features = torch.relu(gaussian(count, width, 1))
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        side, again = (FeatureSample(values, values) for values in (features, features[order]))
        assert score("fid", side, again) == {"fid": 0.0}
        assert score("fid", side, FeatureSample(features + 1e-4, features))["fid"] > 0
        assert score("kid", side, again)["kid"][1] == 0


def test_kid_says_that_all_images_were_drawn():
    every = {"subsets": 1, "subset_size": 300, "drawn": "all images"}
    assert METRICS["kid"].settings(300, 300).items() >= every.items()
    for counts in ((300, 301), (301, 300), (2000, 2000)):
        settings = METRICS["kid"].settings(*counts)
        assert (settings["subsets"], "drawn" in settings) == (100, False)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fid", "covariance"),
        ("kid", "needs two"),
        ("prc", "has no neighbour"),
        ("dc", "has no neighbour"),
        ("authpct", "has no neighbour"),
        ("fd-infinity", "fewer"),
    ],
)
def test_a_single_image_has_no_score_but_a_reason_and_nothing_is_warned_of(name, what):
    twelve, one = (FeatureSample(gaussian(count, 16, count), torch.zeros(count, 10)) for count in (12, 1))
    for sides in ((one, twelve), (twelve, one), (one, one)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = score(name, *sides)
        assert set(values) == set(METRICS[name].better)
        assert all(what in value.reason for value in values.values())


def test_features_that_overflow_are_not_finite_and_nothing_is_warned_of():
    large = FeatureSample(gaussian(20, 4, 1).float() * 1e38, torch.zeros(20, 10))
    for name in ("kid", "prc", "fid"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            score(name, large, large)


def test_few_images_and_broken_features_give_a_number_or_nan_never_a_crash():
    four = sample(gaussian(4, 3, 1), torch.zeros(4, 10))
    assert all(math.isfinite(value) for value in score("prc", four, four).values())
    assert math.isfinite(score("is", four, four)["is"][0])
    assert math.isfinite(score("kid", four, four)["kid"][0])
    lost = sample(torch.full((4, 3), torch.nan), torch.full((4, 10), torch.nan))
    labelled = sample(gaussian(4, 3, 1), torch.eye(10)[:4], torch.arange(4))
    for name in METRICS:
        for value in score(name, labelled, lost).values():
            assert np.isnan(value).all(), name


# --- tables of scores ---------------------------------------------------------------------------------------------


@pytest.fixture
def table():
    rows = {"variant": ["dcgan", "a|b"], "fid": [12.345678, math.nan], "kimg": [100, 200]}
    return pd.DataFrame(rows)


RENDER = {reporter.name: reporter.render for reporter in reporters.ganzoo_reporters()}


def test_csv_and_json_round_trip(table, tmp_path):
    (tmp_path / "table.csv").write_text(RENDER["csv"](table))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), table)
    first, second = json.loads(RENDER["json"](table))
    assert first == {"variant": "dcgan", "fid": 12.345678, "kimg": 100}
    assert second["fid"] is None


def test_markdown_escapes_and_aligns(table):
    assert RENDER["md"](table).splitlines() == [
        "| variant | fid | kimg |",
        "| --- | ---: | ---: |",
        "| dcgan | 12.35 | 100 |",
        "| a\\|b | – | 200 |",
    ]


def test_an_index_with_a_name_is_shown(table):
    for name in ("csv", "md"):
        assert "variant" in RENDER[name](table.set_index("variant")).splitlines()[0]
