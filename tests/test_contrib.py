"""Three plugins of docs/examples, written from the docs alone: they pass the checks, run, and compute correctly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_checks import DEAR, OF_SOME

from ganzoo.evaluation.features import FeatureSample
from ganzoo.registry.discovery import discover
from ganzoo.testing import subjects_of

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

SHORT = (
    *("--kimg", "0.3", "--batch-size", "32", "--fakes", "64", "--throughput-seconds", "0.1"),
    *("--device", "cpu", "--json", "--quiet"),
)


@pytest.mark.parametrize(
    ("plugin", "subject"),
    [
        ("hinge", "hinge-dcgan"),
        ("logistic_margin", "margin-dcgan"),
        ("upsampling", "upsampling+non-saturating"),
        ("coverage", "density-coverage"),
    ],
)
def test_an_example_passes_the_checks(plugin, subject):
    (found,) = subjects_of(EXAMPLES / f"{plugin}.py")
    assert found.name == subject
    results = [found.result(check) for check in found.checks if check not in DEAR]
    assert [result for result in results if result.status == "failed"] == []
    unless_it_has_them = OF_SOME | {"captured-gradients", "class-names"}
    assert {result.check for result in results if result.status == "skipped"} <= unless_it_has_them


@pytest.mark.usefixtures("forked_runs")
def test_example_loss_architecture_and_metric_run_in_one_bench(invoke):
    plugins = [
        arg for name in ("logistic_margin", "upsampling", "coverage") for arg in ("--plugin", EXAMPLES / f"{name}.py")
    ]
    models = ("--models", "margin-dcgan,upsampling+logistic-margin", "--metrics", "fid,density-coverage")
    outcome = invoke("bench", *models, *plugins, *SHORT, "--set", "*.margin=0.5")
    assert outcome.code == 0, outcome.err
    records = json.loads(outcome.out)
    assert [record["spec"]["recipe"]["hyper"] for record in records] == [{"margin": 0.5}] * 2
    for record in records:
        assert {score["metric"] for score in record["scores"]} == {"fid", "density", "coverage"}


def test_density_and_coverage_equal_a_count_by_hand():
    """Points on a line, one neighbour: the balls around 0, 1 and 3 have radii 1, 1 and 2."""
    metric = discover([str(EXAMPLES / "coverage.py")]).get("metrics", "density-coverage").record
    real, fake = (
        FeatureSample(torch.tensor(points)[:, None], torch.zeros(len(points), 1)) for points in ([0.0, 1, 3], [0.5, 9])
    )
    # 0.5 lies in the first two balls, 9 in none: 2 hits / (1 neighbour x 2 fakes), and 2 of 3 real points are covered.
    assert metric.score(real, fake, {"neighbours": 1}) == {"density": 1.0, "coverage": pytest.approx(2 / 3)}
    same = metric.score(real, real, {"neighbours": 1})
    assert same["coverage"] == 1.0
