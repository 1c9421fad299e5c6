"""What a metric may name beside real, fake and settings: pixels, held-out images, labels, the generator, players."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.errors import PluginError
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import RealSample
from ganzoo.evaluation.sampling import GeneratedImages
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.discovery import discover
from ganzoo.registry.signatures import check_functions
from ganzoo.util.seeds import stream

SEEN = """
import ganzoo

def seen(real, fake, real_images, fake_images, generator, discriminator, encoder=None, held_out=None):
    latents, labels = generator.draw(6)
    images = generator.images(latents, labels)
    return {
        "conditional": float(fake.labels is not None),
        "real-images": float(real_images.double().mean()),
        "fake-images": float(fake_images.double().mean()),
        "drawn": float(images.double().mean()),
        "judged": float(discriminator(images, labels).double().mean()),
        "absent": float(encoder is None),
        "held-out": len(held_out.features),
    }

def encoded(real, encoder):
    raise AssertionError("there is no encoder")

@ganzoo.hookimpl
def ganzoo_metrics():
    names = ("conditional", "real-images", "fake-images", "drawn", "judged", "absent", "held-out")
    yield ganzoo.Metric("seen", seen, dict.fromkeys(names, "lower"), players=("discriminator", "encoder"))
    yield ganzoo.Metric("encoded", encoded, {"encoded": "lower"}, players=("encoder",))
    yield ganzoo.Metric("held", lambda real, held_out: {"held": 0.0}, {"held": "lower"})
"""

BRIEF = (
    *("--kimg", "0.064", "--batch-size", "32", "--fakes", "64", "--throughput-seconds", "0.05"),
    *("--device", "cpu", "--json", "--quiet", "--plugin", "seen.py"),
)


@pytest.fixture(scope="module")
def reals(session_environment):
    registry = discover()
    dataset = prepare_dataset(registry, *find_dataset(registry, "digits"))
    return RealSample(dataset, load_extractor(registry.get("features", "digits-cnn").record, "cpu"))


@pytest.mark.usefixtures("forked_runs")
def test_a_metric_is_given_what_it_names(invoke, tmp_path):
    (tmp_path / "seen.py").write_text(SEEN)
    outcome = invoke("bench", "--models", "dcgan,cdcgan", "--metrics", "seen,encoded", *BRIEF)
    assert outcome.code == 0, outcome.err
    for record in json.loads(outcome.out):
        found = {score["metric"]: score for score in record["scores"] if score["ema"]}
        assert found["conditional"]["value"] == (record["spec"]["variant"] == "cdcgan")
        assert found["absent"]["value"] == 1
        assert found["held-out"]["value"] == 359
        assert 0 < found["real-images"]["value"] < 255
        assert 0 < found["fake-images"]["value"] < 255
        assert -1 <= found["drawn"]["value"] <= 1
        assert found["judged"]["value"] is not None
        assert found["encoded"]["reason"] == "the variant has no player 'encoder', which the metric needs"


def test_a_metric_that_needs_held_out_images_is_refused_in_one_line(invoke, tmp_path):
    (tmp_path / "seen.py").write_text(SEEN)
    for index in range(20):
        Image.new("L", (16, 16), index).save(tmp_path / f"{index}.png")
    images = ("--dataset", f"folder:{tmp_path}", "--image-size", "16", "--features", "digits-cnn", "--hold-out", "0")
    outcome = invoke("bench", "--models", "dcgan", "--metrics", "held", *BRIEF, *images, "--batch-size", "4")
    assert outcome.code == 2
    assert "metric 'held' needs held-out real images, and dataset 'folder:" in outcome.err
    assert "has none; leave it out" in outcome.err


def test_a_folder_has_no_generator(reals):
    metric = ganzoo.Metric("drawn", lambda generator: {"drawn": 0.0}, {"drawn": "lower"})
    images = torch.zeros(20, 1, 16, 16, dtype=torch.uint8)
    ((score,), _) = Scorer([metric], reals).score(iter([images]), None, None)
    assert (score["value"], score["reason"]) == (None, "a folder of images has no generator, which the metric needs")


def test_held_out_images_are_part_of_the_protocol_of_a_metric_that_names_them(reals):
    """And of no other's, so that other scores keep their ids."""
    names = ganzoo.Metric("a", lambda real, held_out=None: {"a": float(len(held_out.features))}, {"a": "lower"})
    other = ganzoo.Metric("b", lambda real: {"b": 0.0}, {"b": "lower"})
    without, with_some = Scorer([names, other], reals), Scorer([names, other], reals, held_out=reals)
    before, after = ([each.protocol(metric, 20, None) for metric in each.metrics] for each in (without, with_some))
    assert after[0][1]["held_out"]["n"] == len(reals.features)
    assert [one[0] == another[0] for one, another in zip(before, after, strict=True)] == [False, True]
    images = torch.zeros(20, 1, 16, 16, dtype=torch.uint8)
    (score, _), _ = with_some.score(iter([images]), None, None)
    assert score["value"] == len(reals.features)


def test_labels_and_further_images_are_those_of_the_generator():
    class Labelled(torch.nn.Module):
        def forward(self, latent, labels):
            return (labels / 10)[:, None, None, None].expand(-1, 1, 2, 2)

    pool = torch.tensor([3, 7])
    images = GeneratedImages(
        Labelled(), 50, 16, lambda count, rng: torch.randn(count, 4, generator=rng), stream(0, "x"), "cpu", pool
    )
    pixels = torch.cat([*images])
    assert pixels[:, 0, 0, 0].tolist() == [round((label / 10 + 1) * 127.5) for label in images.labels.tolist()]
    assert images.labels.unique().tolist() == [3, 7]
    (latents, labels), (again, _) = (images.source().draw(5) for _ in range(2))
    assert torch.equal(latents, again), "every metric draws the same"
    assert torch.equal(images.source().images(latents, labels)[:, 0, 0, 0], labels / 10)


def test_a_player_that_a_metric_does_not_declare_is_refused_when_it_loads():
    metric = ganzoo.Metric("odd", lambda real, encoder: {}, {"odd": "lower"})
    with pytest.raises(PluginError, match="asks for 'encoder'; arguments go by name, and it may name real, fake"):
        check_functions(metric)
