"""Networks of strangers with one thing that most do not have: trained as their authors mean, or refused in a line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from test_training import snapshot as weights
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import ganzoo
from ganzoo.conformance.trial import Trial
from ganzoo.errors import Diverged, PluginError
from ganzoo.losses import gradient_penalty, input_gradient
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.testing import subjects_of
from ganzoo.training.average import MovingAverage
from ganzoo.training.loop import TermLog, TrainResult, due_calls, run_step
from ganzoo.training.preflight import preflight
from ganzoo.training.shared_tensors import hold_one_tensor
from ganzoo.training.snapshot import restore, snapshot
from ganzoo.training.weights import read_state, state_bytes

UNUSUAL = Path(__file__).parent / "plugins_from_strangers" / "unusual.py"
REGISTRY = discover([str(UNUSUAL)])
BRIEF = ("--plugin", UNUSUAL, "--device", "cpu", "--dataset", "stripes", "--metrics", "mean-gap", "--kimg", "0.064")
LABORATORY = ("--plugin", UNUSUAL.with_name("laboratory.py"), "--throughput-seconds", "0.05", "--json")


def trial(thing: str, more: str = "") -> Trial:
    label = f"unusual.py:unusual-{thing}{more}" if more else f"unusual-{thing}"
    return Trial(REGISTRY, *select(REGISTRY, [label]))


# --- what build froze -------------------------------------------------------------------------------------------------


def test_what_build_froze_stays_out_of_optimizers_penalties_of_weights_and_counts():
    unusual = trial("frozen")
    recipe = replace(unusual.spec.recipe, l1=1e-3, l2=1e-3)
    run = unusual.assemble(replace(unusual.spec, recipe=recipe))
    before = weights(run)
    frozen = {"generator.hidden.weight", "generator.hidden.bias"}
    frozen |= {"discriminator.first.weight", "discriminator.first.bias", "discriminator.table"}
    assert frozen < set(before)
    trained = {name: weight for name, weight in before.items() if name not in frozen}
    (update, batch), *_ = due_calls(run)
    terms = update.gradients(batch)
    sizes = [weight.abs().sum().item() for name, weight in trained.items() if name.startswith("discriminator.")]
    assert terms["l1"].item() == pytest.approx(1e-3 * sum(sizes), rel=1e-5)
    for _ in range(3):
        run_step(run)
    after = weights(run)
    assert {name for name in before if torch.equal(before[name], after[name])} == frozen
    held = [weight for optimizer in run.optimizers.values() for weight in optimizer.param_groups[0]["params"]]
    assert sorted(map(len, held)) == sorted(map(len, trained.values()))
    counted = preflight(unusual.spec, REGISTRY).parameters
    assert sum(counted.values()) == sum(weight.numel() for weight in trained.values())


# --- a module that both networks hold ---------------------------------------------------------------------------------


def test_gradient_of_the_generator_is_right_where_both_networks_hold_a_module():
    """By SGD at a rate of 1e-2, in a step whose first phase has changed what the generator holds."""
    unusual = trial("shared")
    optimizers = {
        player: replace(optimizer, kind="sgd", learning_rate=1e-2)
        for player, optimizer in unusual.spec.recipe.optimizers.items()
    }
    spec = replace(unusual.spec, recipe=replace(unusual.spec.recipe, optimizers=optimizers))
    run = unusual.assemble(spec)
    assert not any(update.takes_fakes for update in run.updates)
    first, second = due_calls(run)
    first[0](first[1])
    second[0].gradients(second[1])
    ours = {name: weight.grad.clone() for name, weight in run.players.generator.network.named_parameters()}
    network, critic = run.players.generator.network, run.players["discriminator"].network
    network.requires_grad_(True)
    loss = -critic(network(second[1].latent)).mean()
    expected = torch.autograd.grad(loss, list(network.parameters()))
    for (name, mine), theirs in zip(ours.items(), expected, strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


class Slotted:
    __slots__ = ("layer",)

    def __init__(self, layer):
        self.layer = layer


HOLDERS = {
    "list": lambda layer: [layer],
    "closure": lambda layer: lambda x: layer(x),
    "default": lambda layer: lambda x, layer=layer: layer(x),
    "method": lambda layer: layer.forward,
    "partial": lambda layer: partial(nn.functional.linear, weight=layer.weight),
    "object": lambda layer: SimpleNamespace(deep={"layer": layer}),
    "slots": Slotted,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_tensor_that_both_networks_hold_is_found_wherever_it_is(holder):
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    generator, discriminator = nn.Sequential(layer), nn.Sequential(nn.Linear(2, 1))
    vars(discriminator)["held"] = HOLDERS[holder](other)
    assert not hold_one_tensor(generator, discriminator)
    vars(discriminator)["held"] = HOLDERS[holder](layer)
    assert hold_one_tensor(generator, discriminator)


HIDDEN = """
import math
import ganzoo
from torch import nn

HELD = {}

class Discriminator(nn.Module):
    def __init__(self, pixels):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 1), nn.Flatten(0))

    def forward(self, images):
        return self.layers(images) * (1 + HELD["layer"].weight.square().sum())

def build(image_shape, latent, classes):
    HELD["layer"] = nn.Linear(latent, math.prod(image_shape))
    return nn.Sequential(HELD["layer"], nn.Tanh(), nn.Unflatten(1, image_shape)), Discriminator(math.prod(image_shape))

@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("hidden", build, latent=8, image_sizes=None)
"""


def test_a_tensor_that_both_networks_hold_unseen_is_refused_before_training(tmp_path, invoke):
    (tmp_path / "hidden.py").write_text(HIDDEN)
    plan = ("bench", "--models", "hidden+hinge", "--plugin", "hidden.py", "--device", "cpu", "--throughput-only")
    outcome = invoke(*plan, "--dry-run")
    assert outcome.code == 2
    assert "phase 'discriminator' gives the generator a gradient" in outcome.error
    assert "make what they share a submodule of both" in outcome.error


def test_networks_that_share_a_module_pass_the_check_of_updates():
    (subject,) = subjects_of("unusual-shared", [UNUSUAL])
    assert (subject.result("updates").status, subject.result("updates").reason) == ("passed", "")


# --- the moving average -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [spectral_norm, nn.utils.spectral_norm], ids=["parametrization", "hook"])
def test_spectral_norm_of_the_averaged_network_is_that_of_its_weights(norm):
    """After a game of 300 steps every layer's largest singular value is 1; with averaged vectors it was up to 38."""
    torch.manual_seed(0)
    network = nn.Sequential(
        norm(nn.Linear(16, 64)), nn.ReLU(), norm(nn.Linear(64, 64)), nn.ReLU(), norm(nn.Linear(64, 64))
    )
    critic = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    average = MovingAverage(network, half_life_kimg=10.0, rampup=0.2)
    optimizers = [torch.optim.Adam(player.parameters(), 3e-3, betas=(0.0, 0.9)) for player in (critic, network)]
    images = torch.randn(1024, 8) @ torch.randn(8, 64)
    for step in range(300):
        fake, real = network(torch.randn(32, 16)), images[torch.randint(1024, (32,))]
        judged = ((1 - critic(real)).relu() + (1 + critic(fake.detach())).relu()).mean()
        for index, optimizer in enumerate(optimizers):
            optimizer.zero_grad()
            (-critic(fake).mean() if index else judged).backward()
            optimizer.step()
        average.update(0.128 * (step + 1), 0.128)
    for layer in list(average.settled())[::2]:
        with torch.no_grad():
            layer(torch.zeros(1, layer.in_features))
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.02)
        assert not any(part.training for part in layer.modules())


def test_of_the_buffers_only_running_statistics_are_averaged():
    network = nn.Sequential(nn.BatchNorm1d(1), nn.Identity())
    network[1].register_buffer("direction", torch.zeros(2))
    average = MovingAverage(network, half_life_kimg=2.0, rampup=100.0)
    network[0].running_mean.fill_(1)
    network[0].num_batches_tracked.fill_(7)
    network[1].direction.fill_(1)
    average.update(kimg=10, kimg_since_last=2.0)
    assert average.average[0].running_mean.item() == pytest.approx(0.5)
    assert average.average[0].num_batches_tracked.item() == 7
    assert average.average[1].direction.tolist() == [1, 1]


@pytest.mark.parametrize("thing", ["weight-norm", "complex"])
def test_average_follows_weights_of_every_kind(thing):
    run = trial(thing).assemble()
    for step in range(3):
        run_step(run)
        run.average.update(0.008 * (step + 1), 0.008)
    average, network = run.average.average.network, run.players.generator.network
    for mine, own in zip(average.parameters(), network.parameters(), strict=True):
        assert 0 < (mine - own).abs().max() < 0.01


# --- what is drawn from a finished run --------------------------------------------------------------------------------


@pytest.fixture
def finished(invoke, forked_runs):
    """`finished(thing)`: train a moment, and give the run's folder and what was said."""

    def train(thing):
        outcome = invoke("bench", "--models", f"unusual-{thing}", *BRIEF, *LABORATORY)
        (record,) = json.loads(outcome.out)
        assert record["status"] == "ok", record["error"]
        (path,) = Path("runs").rglob("record.json")
        return path.parent, outcome.err

    return train


@pytest.mark.parametrize("thing", ["fourier", "plain-tensor", "noise"])
def test_samples_are_those_of_the_trained_generator_every_time(thing, finished):
    from ganzoo.util.images import read_grid

    folder, _ = finished(thing)
    torch.manual_seed(1)
    first = ganzoo.sample(folder, 64, plugins=[UNUSUAL])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(ganzoo.sample(folder, 64, plugins=[UNUSUAL]), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(read_grid(folder / "samples.png", (1, 8, 8), 64), first), "what the run itself has drawn"
    assert not torch.equal(ganzoo.sample(folder, 64, seed=1, plugins=[UNUSUAL]), first)


def test_extra_state_is_kept_as_json_and_given_back(finished):
    folder, said = finished("beside")
    generator = ganzoo.load_generator(folder, plugins=[UNUSUAL])
    assert generator.network.calls["trained"] >= 0
    assert "_extra_state" not in load_file(folder / "generator.safetensors")
    assert "cannot be JSON" not in said


def test_extra_state_that_no_file_can_hold_costs_a_note_and_no_training(finished):
    folder, said = finished("secret")
    assert "generator.safetensors has no _extra_state, which are no tensors and cannot be JSON" in said
    assert ganzoo.sample(folder, 4, plugins=[UNUSUAL]).shape == (4, 1, 8, 8)


def test_a_checkpoint_holds_extra_state():
    run, fresh = (trial("beside").assemble() for _ in range(2))
    for _ in range(3):
        run_step(run)
    tensors, state = snapshot(run, TermLog(TrainResult()))
    restore(fresh, tensors, json.loads(json.dumps(state)))
    assert fresh.players.generator.network.calls == run.players.generator.network.calls != {"trained": 0}


def test_the_average_has_the_extra_state_of_the_network_it_follows():
    run = trial("beside").assemble()
    assert run.average.enabled
    for _ in range(3):
        run_step(run)
    trained = run.players.generator.network.calls["trained"]
    averaged = run.average.settled().network
    assert averaged.calls == {"trained": trained}
    run_step(run)
    assert averaged.calls == {"trained": trained}, "it is a copy"
    assert run.average.settled().network.calls["trained"] > trained


# --- images that are not finite ---------------------------------------------------------------------------------------


def test_a_few_images_that_are_empty_in_eval_mode_make_no_score(invoke, forked_runs):
    outcome = invoke("bench", "--models", "unusual-empty-now-and-then", *BRIEF, *LABORATORY)
    assert outcome.code == 1
    (record,) = json.loads(outcome.out)
    assert (record["status"], record["scores"]) == ("diverged", [])
    assert record["error"]["message"].startswith("22 of 64 images of the averaged generator at ")


def test_a_bad_last_update_is_found_where_nothing_is_scored(invoke, forked_runs):
    """Every term was finite: the update that spoils the weights is the last one."""
    settings = ("--set", "*.optimizer.learning_rate=1e38", "--set", "*.discriminator_optimizer.learning_rate=0.0002")
    outcome = invoke("bench", "--models", "unusual-plain", *BRIEF[:-1], "0.016", *LABORATORY, *settings)
    (record,) = json.loads(outcome.out)
    assert record["status"] == "diverged"
    assert "hold values that are not finite; lower the learning rate" in record["error"]["message"]


def test_doctor_and_sample_know_a_diverged_run_by_its_weights(invoke, finished):
    folder, _ = finished("plain")
    state = read_state(folder / "generator.safetensors")
    state.tensors["out.bias"][0] = math.nan
    (folder / "generator.safetensors").write_bytes(state_bytes(state))
    record = json.loads((folder / "record.json").read_text())
    del record["files"]["generator.safetensors"]
    (folder / "record.json").write_text(json.dumps(record))
    outcome = invoke("doctor")
    assert outcome.code == 1
    assert "holds 1 numbers that are not finite or beyond 1e+30: the run has diverged" in outcome.out
    with pytest.raises(Diverged, match=r"5 of 5 images of run '?.* hold values that are not finite"):
        ganzoo.sample(folder, 5, plugins=[UNUSUAL])
    outcome = invoke("sample", folder, "-n", 5, "--plugin", UNUSUAL, "-o", "x.png")
    assert outcome.code == 1
    assert "5 of 5 images" in outcome.error
    assert not Path("x.png").exists()


# --- input gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", ["classic-function", "backward-hook", "checkpoint"])
def test_penalties_work_where_torch_func_does_not(thing):
    run = trial(thing, "+hinge+r1").assemble()
    critic = run.players["discriminator"]
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    buffers = {name: buffer.clone() for name, buffer in critic.named_buffers()}
    draws = torch.get_rng_state()
    gradient = input_gradient(critic, images)
    assert torch.equal(torch.get_rng_state(), draws), "as if nothing had been tried before"
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in critic.named_buffers())
    by_hand = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(critic(by_hand).sum(), by_hand, create_graph=True)
    torch.testing.assert_close(gradient, expected)
    ours = torch.autograd.grad(gradient.square().sum(), critic.network.first.weight)
    theirs = torch.autograd.grad(expected.square().sum(), critic.network.first.weight)
    torch.testing.assert_close(ours, theirs)
    for _ in range(2):
        run_step(run)
    gradient_penalty(critic, images, images.flip(0), weight=torch.tensor(10.0)).backward()


def test_penalty_that_torch_func_refuses_is_refused_in_compiled_steps():
    unusual = trial("backward-hook", "+hinge+r1")
    with pytest.raises(PluginError, match="pass --step-mode eager"):
        preflight(replace(unusual.spec, step_mode="compile"), REGISTRY)


# --- refused in one line ----------------------------------------------------------------------------------------------

REFUSED = {
    "lazy": "has a lazy layer in its discriminator ('head.weight' has no size yet); give the layer its number of",
    "list": "the discriminator gave a list; it must give one tensor",
    "without-weights": "phase 'generator' updates 'generator', which has no weight to train",
}


@pytest.mark.parametrize("thing", REFUSED)
def test_what_cannot_be_trained_is_refused_by_name_and_left_out_of_a_glob(thing, invoke):
    plan = ("bench", *BRIEF, *LABORATORY, "--dry-run")
    outcome = invoke(*plan, "--models", f"unusual-{thing}")
    assert outcome.code == 2
    assert REFUSED[thing] in outcome.error
    outcome = invoke(*plan, "--models", f"unusual-{thing[:-1]}?,unusual-plain")
    assert outcome.code == 0
    assert [entry["spec"]["variant"] for entry in json.loads(outcome.out)] == ["unusual-plain"]
    assert f"left out unusual-{thing}: " in outcome.err


@pytest.mark.parametrize("thing", ["noise", "fourier", "beside", "shared", "frozen"])
def test_checks_give_no_untrue_reasons(thing):
    (subject,) = subjects_of(f"unusual-{thing}", [UNUSUAL])
    for check in ("updates", "batch-independence", "state-dict", "shapes"):
        assert (subject.result(check).status, subject.result(check).reason) == ("passed", "")
