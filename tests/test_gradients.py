"""Gradients by anything: equal to those of torch, differentiable again, and no buffer of any player moves by them."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch.nn.functional import softplus
from trials import batch_of, differing, run_of, tensors_of, trial_of

from ganzoo.conformance.variant_checks import compiled_gradients
from ganzoo.losses import gradient, in_training

COMPILER = shutil.which("g++") or shutil.which("clang++")


def assert_buffers_stay(run, function):
    """What a function gives, which leaves all weights and buffers of a run as they were."""
    before = {name: tensor.clone() for name, tensor in tensors_of(run).items()}
    with in_training(run.players.together):
        result = function()
    assert differing(before, tensors_of(run)) == []
    return result


def test_by_latents_through_batch_norm():
    run = run_of("plain+hinge")
    batch, generator, judge = batch_of(run), run.players.generator, run.players["discriminator"]
    assert generator.training
    # Of a function that calls two players, of which both have BatchNorm in training mode.
    found = assert_buffers_stay(run, lambda: gradient(lambda z: judge(generator(z)), batch.latent))
    latent = batch.latent.clone().requires_grad_()
    networks = copy.deepcopy(torch.nn.Sequential(generator.network, judge.network))
    (expected,) = torch.autograd.grad(networks(latent).sum(), latent)
    torch.testing.assert_close(found, expected)


def test_by_a_mapping_of_weights_and_again_by_the_weights_of_another_player():
    """One unrolled step: the generator sees the discriminator after a step of its own (Metz et al. 2017)."""
    run = run_of("plain+hinge")
    batch, generator, judge = batch_of(run), run.players.generator, run.players["discriminator"]
    rate = 0.5

    def unrolled():
        fake = generator(batch.latent)
        weights = judge.parameters_now()
        slopes = gradient(
            lambda now: softplus(-judge.called_with(now, batch.real)) + softplus(judge.called_with(now, fake)), weights
        )
        after = {name: weight - rate * slopes[name] for name, weight in weights.items()}
        return slopes, softplus(-judge.called_with(after, fake)).sum()

    # The phase itself calls the generator, whose running statistics move; `gradient` and `called_with` move none.
    generator.eval()
    slopes, value = assert_buffers_stay_but(run, unrolled, "discriminator")
    assert set(slopes) == {name for name, _ in judge.network.named_parameters()}

    makes, tells = copy.deepcopy(generator.network), copy.deepcopy(judge.network)
    fake = makes(batch.latent)
    loss = (softplus(-tells(batch.real)) + softplus(tells(fake))).sum()
    names, weights = zip(*tells.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, weights, create_graph=True)
    for name, slope in zip(names, expected, strict=True):
        torch.testing.assert_close(slopes[name], slope, rtol=1e-4, atol=1e-6)
    after = {name: w - rate * slope for name, w, slope in zip(names, weights, expected, strict=True)}
    by_hand = softplus(-torch.func.functional_call(tells, after, (fake,))).sum()
    ours = torch.autograd.grad(value, list(generator.network.parameters()))
    theirs = torch.autograd.grad(by_hand, list(makes.parameters()))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-6)


def assert_buffers_stay_but(run, function, moving):
    """`assert_buffers_stay`, but for the running statistics of a player that the function calls outright."""
    before = {name: tensor.clone() for name, tensor in tensors_of(run).items()}
    with in_training(run.players.together):
        result = function()
    changed = [name for name in differing(before, tensors_of(run)) if not name.startswith(f"{moving}.body.1.")]
    assert changed == []
    return result


def test_a_penalty_of_slopes_counts_no_batch_twice():
    """In a step the generator makes fakes once, whatever gradients are taken of it, and BatchNorm sees each once."""
    with_slope, without = run_of("plain+hinge+path"), run_of("plain+hinge")
    for run in (with_slope, without):
        calls = [(update, batch_of(run)) for update in run.updates]
        torch.manual_seed(0)
        for update, batch in calls:
            update.gradients(batch)
    ours, theirs = tensors_of(with_slope), tensors_of(without)
    counted = {name: int(value) for name, value in ours.items() if name.endswith("num_batches_tracked")}
    assert counted == {"generator.body.0.num_batches_tracked": 1, "discriminator.body.1.num_batches_tracked": 3}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if "running" in name or name in counted)


def test_the_path_penalty_is_that_of_torch():
    run = run_of("plain+hinge+path")
    update = run.updates[1]
    batch = batch_of(run)
    run.updates[0].gradients(batch)
    generator = copy.deepcopy(run.players.generator.network)
    torch.manual_seed(3)
    terms = update.gradients(batch)
    torch.manual_seed(3)
    latent = batch.latent.clone().requires_grad_()
    images = generator(latent) * torch.randn(())
    (slope,) = torch.autograd.grad(images.sum(), latent, create_graph=True)
    torch.testing.assert_close(terms["path"], 0.1 * slope.square().sum(1).mean().detach(), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("label", ["pairs+non-saturating+r1", "plain+hinge+path"])
def test_compiled_gradients_are_the_eager_ones(label):
    compiled_gradients(trial_of(label))
