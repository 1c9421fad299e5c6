"""Options of drawing: part of the protocol of a score and of what `sample` gives, and of no run's id."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from trials import REGISTRY, trial_of

from ganzoo.conformance.trial import TwoTones
from ganzoo.errors import UsageError
from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.sampling import eval_mode
from ganzoo.evaluation.scorer import Scorer
from ganzoo.records.protocols import distinctions
from ganzoo.types import Architecture

DRAWN = REGISTRY.get("architectures", "drawn").record


def generator():
    return torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))


def test_sample_draws_with_its_options():
    network, latent = generator(), torch.randn(3, 4)
    for options, share in ((None, 0.5), ({"truncation": 0.25}, 0.25)):
        way = Drawing.of(DRAWN, options)
        assert torch.equal(way.images(network, latent, None, 0), network(share * latent).detach())
    with pytest.raises(UsageError, match=r"--draw truncatoin: architecture 'drawn' has no such option .*'truncation'"):
        Drawing.of(DRAWN, {"truncatoin": 1.0})


def test_prepare_makes_a_copy_ready_and_one_seed_makes_it_alike():
    def prepare(generator, draw, *, batches=3):
        generator.train()
        for _ in range(batches):
            generator[0](draw(16)[0] + torch.randn(16, 4))

    def draw(count):
        return torch.ones(count, 4), None

    network = torch.nn.Sequential(torch.nn.BatchNorm1d(4, momentum=None), generator())
    way = Drawing.of(Architecture("prepared", lambda *_: None, prepare=prepare))
    assert way.options == {"batches": 3}
    first, again, other = (way.ready(network, draw, seed, "cpu") for seed in (0, 0, 1))
    assert not first.training
    assert network.training
    assert int(network[0].num_batches_tracked) == 0
    assert int(first[0].num_batches_tracked) == 3
    assert torch.equal(first[0].running_mean, again[0].running_mean)
    assert not torch.equal(first[0].running_mean, other[0].running_mean)
    torch.testing.assert_close(first[0].running_mean, torch.ones(4), rtol=0, atol=0.5)


def test_noise_in_eval_mode_comes_from_the_seed():
    class Noisy(torch.nn.Module):
        def forward(self, latent, labels=None):
            return torch.randn(len(latent), 1, 8, 8)

    way, latent = Drawing.of(Architecture("plain", lambda *_: None)), torch.zeros(2, 4)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with eval_mode(network := Noisy()):
        first, again, other = (way.images(network, latent, None, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state), "drawing leaves the random numbers of training alone"


def test_options_are_in_the_protocol_and_in_no_run():
    metric = REGISTRY.get("metrics", "fid").record
    extractor = SimpleNamespace(extractor=REGISTRY.get("features", "digits-cnn").record, weights_sha256="0" * 64)
    real = SimpleNamespace(reference=TwoTones.of((1, 16, 16)), extractor=extractor)
    ids, contents = [], []
    for drawing in ({}, Drawing.of(DRAWN).options, Drawing.of(DRAWN, {"truncation": 0.75}).options):
        identity, content = Scorer([metric], real, drawing=drawing).protocol(metric, 100, ema=True)
        ids.append(identity)
        contents.append(content)
    assert len(set(ids)) == 3
    assert [content.get("drawing") for content in contents] == [None, {"truncation": 0.5}, {"truncation": 0.75}]
    assert "truncation 0.75" in distinctions(dict(zip(ids, contents, strict=True)))[ids[2]]
    spec = trial_of("drawn+hinge").spec
    assert "truncation" not in json.dumps(spec.to_json())
    # The spec is that of the same networks drawn plainly, but for the architecture's name.
    plain = json.dumps(trial_of("plain+hinge").spec.to_json())
    assert json.dumps(spec.to_json()).replace("drawn", "plain") == plain
