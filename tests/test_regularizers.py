"""LeCam, bCR and zCR: values by hand, and what they do to the weights, by plain torch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from test_training import assembled
from torch.nn.functional import relu

import ganzoo
from ganzoo.training.loop import due_calls
from ganzoo_plugins.losses import consistency
from ganzoo_plugins.losses.lecam import lecam

SGD = ("*.optimizer.kind=sgd", "*.discriminator_optimizer.kind=sgd", "*.optimizer.learning_rate=0.1")
"""So that a step is its gradient."""


def numbers(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


# --- LeCam ------------------------------------------------------------------------------------------------------------


def test_lecam_has_the_averages_and_gradients_of_its_equation():
    """Averages with weights of 0.9 to the power of age, which sum to 1; the gradient is 2 · weight · distance / N."""
    generator = torch.Generator().manual_seed(0)
    state = numbers(real_mean=0.0, fake_mean=0.0, remembered=0.0)
    sides = {"real": [], "fake": []}
    for _ in range(5):
        real, fake = (torch.randn(6, generator=generator).requires_grad_() for _ in range(2))
        terms = lecam(real, fake, **numbers(weight=0.3, decay=0.9), **state)
        sides["real"].append(real.detach().numpy().mean())
        sides["fake"].append(fake.detach().numpy().mean())
        ages = 0.9 ** np.arange(len(sides["real"]))[::-1]
        real_mean, fake_mean = (np.average(means, weights=ages) for means in sides.values())
        distances = real.detach() - fake_mean, fake.detach() - real_mean
        expected = 0.3 * sum(distance.square().mean().item() for distance in distances)
        assert terms.losses["distance"].item() == pytest.approx(expected, rel=1e-5)
        gradients = torch.autograd.grad(terms.losses["distance"], (real, fake))
        for gradient, distance in zip(gradients, distances, strict=True):
            torch.testing.assert_close(gradient, (0.6 / 6 * distance).float())
        state = dict(terms.state)
    assert not any(value.requires_grad for value in state.values())


def test_lecam_takes_two_way_heads_by_their_difference():
    two_way = torch.tensor([[0.0, 1.0], [1.0, 4.0]])
    values = numbers(weight=0.3, decay=0.9, real_mean=0.2, fake_mean=-0.1, remembered=0.5)
    one, other = (lecam(logits, -logits, **values) for logits in (two_way, torch.tensor([1.0, 3.0])))
    assert one.losses == other.losses
    assert one.state == other.state


# --- bCR --------------------------------------------------------------------------------------------------------------


def test_images_are_moved_by_up_to_an_eighth_and_mirrored():
    """Every one of 3 x 3 x 2 results of NumPy's padding, cropping and flipping, and no other."""
    image = torch.arange(64.0).view(1, 1, 8, 8)
    padded = np.pad(image[0, 0].numpy(), 1, mode="reflect")
    crops = [padded[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    expected = {crop[:, ::step].tobytes() for crop in crops for step in (1, -1)}
    assert len(expected) == 18
    torch.manual_seed(0)
    moved = consistency.moved(image.expand(500, -1, -1, -1))
    assert {image.numpy().tobytes() for image in moved[:, 0]} == expected


class Judge:
    """Sums pixels; keeps what it was given without augmentation."""

    def __init__(self):
        self.seen = []

    def __call__(self, images, labels=None):
        return images.sum((1, 2, 3))

    def plain(self, *inputs):
        (given,) = inputs
        self.seen.append(given)
        return self(given[0] if isinstance(given, ganzoo.Inputs) else given)


@pytest.mark.parametrize("labelled", [False, True])
def test_bcr_is_the_squared_change_of_logits(labelled):
    torch.manual_seed(0)
    real, fake = torch.rand(5, 3, 16, 16), torch.rand(5, 3, 16, 16)
    labels = torch.arange(5)
    given = [ganzoo.Inputs((images, labels)) if labelled else images for images in (real, fake)]
    judge = Judge()
    terms = consistency.bcr(judge, *given, judge(real), judge(fake), **numbers(real_weight=10.0, fake_weight=4.0))
    for images, weight, name, seen in zip((real, fake), (10.0, 4.0), ("real", "fake"), judge.seen, strict=True):
        if labelled:
            assert seen[1] is labels
            seen = seen[0]
        change = images.double().sum((1, 2, 3)) - seen.double().sum((1, 2, 3))
        assert terms[name].item() == pytest.approx(weight * change.square().mean().item(), rel=1e-3)
        assert change.abs().max() > 0


# --- in training ------------------------------------------------------------------------------------------------------


def test_zcr_moves_weights_as_plain_torch_does():
    """Hinge with both sides of zCR, two steps on mlp. The discriminator's side leaves the generator alone."""
    run = assembled("mlp+hinge+zcr+zcr-generator", image_size=16, set=SGD)
    networks = [run.players.generator.network, run.players["discriminator"].network]
    rate = 0.1
    for seed in range(2):
        generator, discriminator = (copy.deepcopy(network).requires_grad_() for network in networks)
        calls = due_calls(run)
        torch.manual_seed(seed)
        run.perform(calls)
        run.step += 1
        batch = calls[0][1]
        torch.manual_seed(seed)
        beside = [batch.latent + 0.05 * torch.randn(batch.latent.shape) for _ in range(2)]

        fake = generator(batch.latent)
        real_logits, fake_logits = discriminator(batch.real), discriminator(fake.detach())
        apart = fake_logits - discriminator(generator(beside[0]).detach())
        hinge = relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()
        (hinge + 20 * apart.square().mean()).backward()
        assert_moved(discriminator, networks[1], run.optimizers["discriminator"].param_groups[0]["lr"])

        fool = -networks[1](fake).mean() - 0.5 * (fake - generator(beside[1])).square().mean()
        weights = list(generator.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(fool, weights), strict=True):
            weight.grad = gradient
        assert_moved(generator, networks[0], rate)


def assert_moved(before, after, rate):
    for weight, moved in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(moved, weight - rate * weight.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("models", ["mlp+hinge+bcr", "cdcgan+hinge+zcr", "mlp+softmax+bcr+zcr", "mlp+hinge+bcr+ada"])
def test_penalties_of_the_judge_leave_the_generator_alone(models):
    run = assembled(models, image_size=16)
    (update, batch), *_ = due_calls(run)
    update.gradients(batch)
    assert all(weight.grad is None for weight in run.players.generator.parameters())
    assert all(weight.grad is not None for weight in run.players["discriminator"].parameters())


def test_fakes_are_shared_and_made_beside_only_for_zcr():
    made = {}
    for models in ("mlp+hinge", "mlp+hinge+bcr", "mlp+hinge+zcr", "mlp+hinge+zcr+zcr-generator"):
        run = assembled(models, image_size=16)
        calls = []
        run.players.generator.network.register_forward_pre_hook(lambda module, given, calls=calls: calls.append(given))
        run.perform(due_calls(run))
        made[models] = len(calls)
    assert list(made.values()) == [1, 1, 2, 3]


def test_a_generator_s_penalty_goes_with_feature_matching():
    run = assembled("mlp+hinge+zcr-generator", image_size=16, set=("*.feature_matching=1",))
    calls = due_calls(run)
    with torch.no_grad():
        discriminator = run.players["discriminator"].network
        fake = run.players.generator.network(calls[0][1].latent)
        apart = discriminator.features(calls[0][1].real).mean(0) - discriminator.features(fake).mean(0)
    for optimizer in run.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    _, terms = run.perform(calls)
    assert terms["feature_matching"].item() == pytest.approx(apart.square().sum().item(), rel=1e-4)
    assert terms["zcr-generator"].item() < 0
