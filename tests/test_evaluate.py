"""Protocols, cached references, generated images: what makes a score the same score."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ganzoo
from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.errors import PluginError, WeightsUnavailable
from ganzoo.evaluation.extractors import find_weights, load_extractor
from ganzoo.evaluation.features import RealSample
from ganzoo.evaluation.sampling import GeneratedImages, eval_mode
from ganzoo.evaluation.scorer import Scorer
from ganzoo.records.protocols import foreign_images, protocol_id
from ganzoo.registry.discovery import discover
from ganzoo.util.seeds import stream

REGISTRY = discover()


@pytest.fixture(scope="module")
def dataset(session_environment):
    return prepare_dataset(REGISTRY, *find_dataset(REGISTRY, "digits"))


@pytest.fixture(scope="module")
def extractor():
    return load_extractor(REGISTRY.get("features", "digits-cnn").record, "cpu")


@pytest.fixture
def scorer(dataset, extractor):
    return Scorer([REGISTRY.get("metrics", name).record for name in ("fid", "is")], RealSample(dataset, extractor))


def test_real_images_score_perfectly_against_themselves_and_noise_scores_badly(scorer, dataset):
    real = torch.from_numpy(np.array(dataset.images()))
    noise = torch.randint(0, 256, (1000, 1, 16, 16), dtype=torch.uint8, generator=stream(0, "noise"))
    (fid, is_), _ = scorer.score(iter(real.split(500)), 1.0, True)
    assert abs(fid["value"]) < 1e-6
    assert is_["value"] > 9
    assert is_["std"] > 0
    (far, _), _ = scorer.score(iter(noise.split(500)), 1.0, True)
    assert far["value"] > 50


def test_the_protocol_changes_with_whatever_changes_the_score(scorer):
    fid, inception_score = scorer.metrics
    identity, content = scorer.protocol(fid, 5000, True)
    assert identity.startswith("fid-digits-cnn-5000-ema-")
    assert content["n_fake"] == 5000
    ids = {
        identity,
        scorer.protocol(fid, 5001, True)[0],
        scorer.protocol(fid, 5000, False)[0],
        scorer.protocol(fid, 5000, None)[0],
        scorer.protocol(inception_score, 5000, True)[0],
    }
    assert len(ids) == 5
    assert scorer.protocol(fid, 5000, True) == (identity, content)
    json.dumps(content)


def test_reference_features_are_computed_once_and_cached(dataset, extractor, monkeypatch, tmp_path):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    passes = []
    forward = extractor.module.forward
    monkeypatch.setattr(extractor.module, "forward", lambda images: passes.append(1) or forward(images))
    first = RealSample(dataset, extractor).statistics()
    assert passes
    passes.clear()
    again = RealSample(dataset, extractor).statistics()
    assert not passes
    for ours, theirs in zip(first, again, strict=True):
        assert (ours == theirs).all()
    for path in (tmp_path / "references").iterdir():
        path.write_bytes(b"damaged")
    RealSample(dataset, extractor).statistics()
    assert passes


def test_images_that_are_not_finite_have_no_score_and_a_reason(scorer):
    class Broken(torch.nn.Module):
        def forward(self, images):
            return torch.full((len(images), 128), math.nan), torch.zeros(len(images), 10)

    broken = Scorer(scorer.metrics, scorer.real)
    loaded = scorer.real.extractor
    module, broken_module = loaded.module, Broken()
    object.__setattr__(loaded, "module", broken_module)
    try:
        scores, _ = broken.score(iter([torch.zeros(20, 1, 16, 16, dtype=torch.uint8)]), 1.0, True)
    finally:
        object.__setattr__(loaded, "module", module)
    assert [score["value"] for score in scores] == [None, None]
    assert all("not finite" in score["reason"] for score in scores)


def metric_returning(given, **better):
    return ganzoo.Metric("odd", lambda real, fake, settings: given, better=better or {"odd": "lower"})


def score_with(metric, scorer):
    images = torch.zeros(20, 1, 16, 16, dtype=torch.uint8)
    return Scorer([metric], scorer.real).score(iter([images]), 1.0, True)[0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [(1e31, "beyond 1e+30"), (-1e300, "beyond 1e+30"), (math.inf, "not finite"), (None, "not finite")],
)
def test_score_outside_the_recordable_range_is_none_with_a_reason(given, reason, scorer):
    (score,) = score_with(metric_returning({"odd": (given, 1e31)}), scorer)
    assert (score["value"], score["std"], score["reason"]) == (None, None, reason)


def test_score_out_of_its_bounds_is_none_with_a_reason(scorer):
    given = {"low": -0.5, "high": (2.0, 0.1), "rounded": -1e-12}
    metric = replace(metric_returning(given, **dict.fromkeys(given, "lower")), bounds=dict.fromkeys(given, (0, 1)))
    low, high, rounded = score_with(metric, scorer)
    assert (low["value"], low["reason"]) == (None, "-0.5, outside of the metric's bounds, 0 to 1")
    assert (high["value"], high["std"], high["reason"]) == (None, None, "2, outside of the metric's bounds, 0 to 1")
    assert (rounded["value"], "reason" in rounded) == (-1e-12, False)


def test_a_metric_says_why_there_is_no_score(scorer):
    given = {"odd": ganzoo.NoScore("there is one image\x1b[31m"), "even": 2.0}
    odd, even = score_with(metric_returning(given, odd="lower", even="lower"), scorer)
    assert (odd["value"], odd["std"], odd["reason"]) == (None, None, "there is one image [31m")
    assert even["value"] == 2.0
    assert "reason" not in even


def test_an_interval_is_recorded_within_the_bounds_of_its_score(scorer):
    given = {
        "plain": ganzoo.Estimate(0.5, 0.25, 0.75, std=0.125),
        "wide": ganzoo.Estimate(0.5, -1.0, 2.0),
        "rounded": ganzoo.Estimate(-1e-12, -0.5, 0.5),
        "unknown": ganzoo.Estimate(0.5, math.nan, math.nan),
        "infinite": ganzoo.Estimate(0.5, 0.25, math.inf),
        "outside": ganzoo.Estimate(2.0, 1.5, 2.5),
        "pair": (0.5, 0.125),
    }
    bounds = {name: (0, None if name == "infinite" else 1) for name in given}
    metric = replace(metric_returning(given, **dict.fromkeys(given, "lower")), bounds=bounds)
    found = {score["metric"]: score for score in score_with(metric, scorer)}
    intervals = {name: (score.get("sample_low"), score.get("sample_high")) for name, score in found.items()}
    assert intervals == {
        "plain": (0.25, 0.75),
        "wide": (0.0, 1.0),
        "rounded": (-1e-12, 0.5),
        "unknown": (None, None),
        "infinite": (None, None),
        "outside": (None, None),
        "pair": (None, None),
    }
    assert (found["plain"]["value"], found["plain"]["std"]) == (0.5, 0.125)
    assert "sample_low" not in found["pair"], "absent, and not null"


def test_an_extractor_names_every_class_once(extractor):
    images = torch.zeros(4, 1, 16, 16, dtype=torch.uint8)
    for names in (("a", "b"), ("a",) * 10):
        named = replace(extractor, extractor=replace(extractor.extractor, class_names=names))
        with pytest.raises(PluginError, match="names, and there are 10 logits; name each class once, or none"):
            named(iter([images]))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({7: 1.0}, r"scored \[7\]; its `better` names \['odd'\]"),
        ({"odd": 1.0, "more": 2.0}, r"scored \['odd', 'more'\]; its `better` names \['odd'\]"),
        ({}, r"scored \[\]; its `better` names \['odd'\]"),
        (3.5, r"scored 3\.5; its `better` names \['odd'\]"),
        ({"odd": "3.5"}, r"odd is '3\.5'; it must be a number, \(value, std\), Estimate or NoScore"),
        ({"odd": (1.0, 2.0, 3.0)}, r"odd is \(1\.0, 2\.0, 3\.0\); it must be a number, \(value, std\), Estimate or"),
        ({"odd": torch.zeros(2)}, r"odd is tensor\(\[0\., 0\.\]\); it must be a number, \(value, std\), Estimate or"),
        ({"odd": ganzoo.Estimate(1.0, "0", 2.0)}, r"odd is Estimate\(.*\); it must be a number"),
        ({"odd": ganzoo.Estimate(1.0, 1.5, 2.0)}, r"odd is 1, and its interval from 1\.5 to 2 does not hold it"),
    ],
)
def test_metric_output_is_checked_against_its_declared_scores(given, complaint, scorer):
    with pytest.raises(PluginError, match=f"metric 'odd'.* {complaint}"):
        score_with(metric_returning(given), scorer)


LOUD = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_metrics():
    better = {"loud": "lower", "low": "lower"}
    yield ganzoo.Metric("loud", lambda real, fake, settings: {"loud": 1e31, "low": 2.0}, better)
"""


def test_run_with_an_unrecordable_score_is_done_once(run_cli):
    (run_cli.cwd / "loud.py").write_text(LOUD)
    bench = ("bench", "--models", "mlp", "--plugin", "loud.py", "--metrics", "loud", "--kimg", "0.064", "--json")
    brief = ("--batch-size", "32", "--fakes", "64", "--throughput-seconds", "0.05", "--device", "cpu")
    done = run_cli(*bench, *brief)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert {score["metric"]: score["value"] for score in record["scores"]} == {"loud": None, "low": 2.0}
    again = run_cli(*bench, *brief)
    assert (again.returncode, json.loads(again.stdout)) == (0, [record]), again.stderr
    assert "started" not in again.stderr


TAUGHT = """
from dataclasses import replace
import ganzoo
from ganzoo_plugins.variants import mlp

@ganzoo.hookimpl
def ganzoo_architectures():
    for architecture in mlp.ganzoo_architectures():
        yield replace(architecture, name="taught", teachers=("digits-cnn",))

@ganzoo.hookimpl
def ganzoo_feature_extractors():
    from ganzoo_plugins.features import digit_cnns
    for extractor in digit_cnns.ganzoo_feature_extractors():
        yield replace(extractor, name=f"natural-{extractor.name}", images="natural")
"""


def test_a_record_holds_the_teachers_of_its_players_and_what_the_extractor_was_made_for(run_cli):
    (run_cli.cwd / "taught.py").write_text(TAUGHT)
    bench = ("bench", "--models", "mlp,taught+non-saturating", "--plugin", "taught.py", "--metrics", "fid", "--json")
    brief = ("--kimg", "0.064", "--batch-size", "32", "--fakes", "64", "--throughput-seconds", "0.05")
    done = run_cli(*bench, *brief, "--device", "cpu", "--features", "natural-digits-cnn")
    assert done.returncode == 0, done.stderr
    plain, taught = json.loads(done.stdout)
    assert "teachers" not in plain["training"]
    assert taught["training"]["teachers"] == ["digits-cnn"]
    note = "natural-digits-cnn was made for natural images, and digits has digits"
    assert note in done.stderr
    for protocol in taught["protocols"].values():
        facts = {name: protocol[name] for name in ("extractor_for", "dataset_images", "weights_licence")}
        assert facts == {"extractor_for": "natural", "dataset_images": "digits", "weights_licence": "MIT"}
        assert foreign_images(protocol) == note
        assert protocol_id(protocol) == protocol_id({k: v for k, v in protocol.items() if k not in facts})


def test_custom_weights_need_their_sha256(tmp_path):
    extractor = REGISTRY.get("features", "digits-cnn").record
    own, sha256 = find_weights(extractor, None, None)
    assert sha256 == extractor.sha256
    other = tmp_path / "other.safetensors"
    other.write_bytes(own.read_bytes() + b" ")
    with pytest.raises(WeightsUnavailable, match="pass --weights-sha256"):
        find_weights(extractor, other, None)
    actual = ganzoo.sha256_of_file(other)
    assert find_weights(extractor, other, actual) == (other, actual)
    with pytest.raises(WeightsUnavailable, match="no such file"):
        find_weights(extractor, tmp_path / "absent", None)


def exits(path):
    raise SystemExit("set MY_WEIGHTS")


@pytest.mark.parametrize(
    ("weights", "error", "complaint"),
    [
        (lambda path: "weights.pth", PluginError, "weights gave str; it must give a pathlib.Path"),
        (lambda path: None, PluginError, "weights gave NoneType; it must give a pathlib.Path"),
        (lambda path: {}["url"], WeightsUnavailable, "cannot be obtained: KeyError: 'url'"),
        (exits, WeightsUnavailable, "cannot be obtained: SystemExit: set MY_WEIGHTS"),
        (lambda path: Path("absent.pth"), WeightsUnavailable, "cannot be obtained: FileNotFoundError: .*absent.pth"),
    ],
)
def test_an_extractor_without_a_file_of_weights_is_one_line(weights, error, complaint):
    extractor = ganzoo.FeatureExtractor("odd", weights, lambda path: None, sha256="", preprocessing="")
    with pytest.raises(error, match=f"'odd'.*{complaint}"):
        find_weights(extractor, None, None)


def test_generated_images_depend_on_the_seed_alone():
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Tanh())

    class Generator(torch.nn.Module):
        conditional = False

        def forward(self, latent, labels=None):
            return self.network(latent).view(-1, 1, 4, 4)

    generator = Generator()
    generator.network = network

    def draw(count, rng):
        return torch.randn(count, 8, generator=rng)

    def images(seed):
        return torch.cat([*GeneratedImages(generator, 50, 16, draw, stream(seed, "x"), "cpu")])

    assert images(3).shape == (50, 1, 4, 4)
    assert images(3).dtype == torch.uint8
    assert torch.equal(images(3), images(3))
    assert not torch.equal(images(3), images(4))
    assert network.training


def test_eval_mode_restores_the_mode_of_every_module():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    network[0].eval()
    with eval_mode(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network] == [False, True]
    assert network.training
