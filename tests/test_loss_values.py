"""Losses and penalties against independent computations: NumPy, algebra and `torch.autograd`."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import nn

import ganzoo
from ganzoo.losses import clip_weights, gradient_penalty, input_gradient, r1, r2
from ganzoo.registry.signatures import by_name

REAL = np.array([2.0, -0.5, 0.3, 1.5, -3.0])
FAKE = np.array([-1.0, 0.7, 0.0, -2.5, 4.0])
REAL_2 = np.array([[0.2, 1.0], [1.5, -0.5], [-2.0, 3.0]])
FAKE_2 = np.array([[1.0, 0.0], [-0.3, 0.4], [2.0, -1.0]])


def offered(*names):
    modules = (importlib.import_module(f"ganzoo_plugins.{name}") for name in names)
    return {record.name: record for module in modules for record in module.ganzoo_losses()}


LOSSES = offered("losses.of_logits", "variants.infogan")
PENALTIES = offered("losses.penalties")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def tensors(*arrays):
    return [torch.tensor(array, dtype=torch.float64) for array in arrays]


# Probabilities and logarithms as the papers write them, where the plugins use softplus and log_softmax.
EXPECTED = {
    "minimax": (
        {"real": -np.log(sigmoid(REAL)).mean(), "fake": -np.log(1 - sigmoid(FAKE)).mean()},
        {"fool": np.log(1 - sigmoid(FAKE)).mean()},
    ),
    "non-saturating": (
        {"real": -np.log(sigmoid(REAL)).mean(), "fake": -np.log(1 - sigmoid(FAKE)).mean()},
        {"fool": -np.log(sigmoid(FAKE)).mean()},
    ),
    "least-squares": (
        {"real": 0.5 * ((REAL - 1) ** 2).mean(), "fake": 0.5 * (FAKE**2).mean()},
        {"fool": 0.5 * ((FAKE - 1) ** 2).mean()},
    ),
    "wasserstein": ({"real": -REAL.mean(), "fake": FAKE.mean()}, {"fool": -FAKE.mean()}),
    "wasserstein-gp": ({"real": -REAL.mean(), "fake": FAKE.mean()}, {"fool": -FAKE.mean()}),
    "hinge": (
        {"real": -np.minimum(0, -1 + REAL).mean(), "fake": -np.minimum(0, -1 - FAKE).mean()},
        {"fool": -FAKE.mean()},
    ),
    "relativistic": (
        {"pair": -np.log(sigmoid(REAL - FAKE)).mean()},
        {"fool": -np.log(sigmoid(FAKE - REAL)).mean()},
    ),
    "softmax": (
        {"real": -np.log(softmax(REAL_2)[:, 1]).mean(), "fake": -np.log(softmax(FAKE_2)[:, 0]).mean()},
        {"fool": -np.log(softmax(FAKE_2)[:, 1]).mean()},
    ),
}


def logits_for(name):
    return tensors(REAL_2, FAKE_2) if LOSSES[name].logits == 2 else tensors(REAL, FAKE)


def generator_terms(name, real, fake):
    return by_name(LOSSES[name], "generator")({"real": real, "fake": fake})


def assert_terms(terms, expected):
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        assert value.shape == (), name
        assert value.item() == pytest.approx(expected[name], rel=1e-10), name


def test_every_loss_of_logits_has_reference_values():
    assert EXPECTED.keys() == {name for name, loss in LOSSES.items() if not loss.phases}


@pytest.mark.parametrize("name", EXPECTED)
def test_loss_values(name):
    real, fake = logits_for(name)
    discriminator, generator = EXPECTED[name]
    assert_terms(LOSSES[name].discriminator(real, fake), discriminator)
    assert_terms(generator_terms(name, real, fake), generator)


@pytest.mark.parametrize("name", EXPECTED)
def test_large_logits_give_finite_terms_and_gradients(name):
    real, fake = (1000 * logits.float().requires_grad_() for logits in logits_for(name))
    for terms in (LOSSES[name].discriminator(real, fake), generator_terms(name, real, fake)):
        total = sum(terms.values())
        assert total.isfinite()
        gradients = torch.autograd.grad(total, (real, fake), allow_unused=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "relativistic"])
def test_real_and_fake_terms_depend_on_their_own_logits_only(name):
    """One-sided label smoothing needs the loss of real images as fakes: discriminator(real, real)["fake"]."""
    real, fake = logits_for(name)
    discriminator = LOSSES[name].discriminator
    swapped = discriminator(fake, real)
    torch.testing.assert_close(discriminator(real, real)["fake"], swapped["fake"])
    torch.testing.assert_close(discriminator(fake, fake)["real"], swapped["real"])


def test_softmax_on_two_logits_equals_binary_cross_entropy_on_their_difference():
    real, fake = tensors(REAL_2, FAKE_2)
    two = LOSSES["softmax"].discriminator(real, fake)
    one = LOSSES["non-saturating"].discriminator(real[:, 1] - real[:, 0], fake[:, 1] - fake[:, 0])
    torch.testing.assert_close(two, one)


def test_minimax_saturates_where_non_saturating_does_not():
    fake = torch.full((4,), -10.0, requires_grad=True)
    gradients = {}
    for name in ("minimax", "non-saturating"):
        (gradients[name],) = torch.autograd.grad(LOSSES[name].generator(fake)["fool"], fake)
        assert (gradients[name] < 0).all(), "both raise the logits of fakes"
    assert gradients["minimax"].abs().max() < 1e-4
    assert gradients["non-saturating"].abs().min() > 0.2


@pytest.mark.parametrize(("name", "repeats"), [("wasserstein", 5), ("wasserstein-gp", 5), ("hinge", 1)])
def test_losses_have_the_published_critic_updates(name, repeats):
    assert LOSSES[name].repeats == repeats


def test_wasserstein_clips_weights():
    loss = LOSSES["wasserstein"]
    assert loss.after is clip_weights
    assert loss.hyper == {"clip": 0.01}
    weights = [torch.tensor([0.5, -0.5, 0.001]), torch.tensor([[-0.02]])]
    loss.after(weights, clip=torch.tensor(0.01))
    torch.testing.assert_close(weights[0], torch.tensor([0.01, -0.01, 0.001]))
    torch.testing.assert_close(weights[1], torch.tensor([[-0.01]]))


# --- penalties ----------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """x to w·x + b: the gradient is w everywhere."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.tensor(0.7))

    def forward(self, images):
        return images.flatten(1) @ self.weight + self.bias


class Quadratic(nn.Module):
    """x to s/2 · ‖x‖²: the gradient is s·x."""

    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return self.scale / 2 * images.square().flatten(1).sum(1)


def critic(norm=True, double=False):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.Softplus(),
        nn.Conv2d(8, 8, 4, 2, 1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8 * 16, 1),
        nn.Flatten(0),
    )
    return network.double() if double else network


def images(seed, double=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(5, 2, 8, 8, generator=generator, dtype=torch.float64 if double else torch.float32) * 2 - 1


def value_of(name, discriminator, real, fake, labels=None):
    """A penalty with its default coefficients."""
    penalty = PENALTIES[name]
    if labels is not None:
        real, fake = (ganzoo.Inputs((images, labels)) for images in (real, fake))
    given = {"discriminator": discriminator, "real": real, "fake": fake}
    hyper = {key: torch.tensor(value) for key, value in penalty.hyper.items()}
    return by_name(penalty, "function", hyper, ("discriminator",))({**given, **hyper})


def test_penalties_have_functions_and_default_coefficients():
    assert {name: penalty.function for name, penalty in PENALTIES.items()} == {
        "r1": r1,
        "r2": r2,
        "gradient-penalty": gradient_penalty,
    }
    assert PENALTIES["r1"].hyper == PENALTIES["r2"].hyper == {"gamma": 10.0}
    assert PENALTIES["gradient-penalty"].hyper == {"weight": 10.0}
    assert all(penalty.every == 1 for penalty in PENALTIES.values())
    assert LOSSES["wasserstein-gp"].penalties == ("gradient-penalty",)


def test_penalties_of_a_linear_critic():
    """The gradient is w at every point, so R1 = R2 = gamma/2 · ‖w‖² and the penalty is weight · (‖w‖ - 1)²."""
    weight = torch.linspace(-0.3, 0.4, 2 * 8 * 8)
    network, norm = Linear(weight), weight.norm().item()
    real, fake = images(1), images(2)
    torch.testing.assert_close(input_gradient(network, real), weight.view(1, 2, 8, 8).expand(5, -1, -1, -1))
    expected = {"r1": 5 * norm**2, "r2": 5 * norm**2, "gradient-penalty": 10 * (norm - 1) ** 2}
    for name in PENALTIES:
        value = value_of(name, network, real, fake)
        assert value.shape == ()
        assert value.item() == pytest.approx(expected[name], rel=1e-5), name


def test_gradient_of_a_linear_critics_penalty():
    """d/dw gamma/2 · ‖w‖² = gamma · w, and the bias has no gradient."""
    weight = torch.linspace(-0.3, 0.4, 2 * 8 * 8)
    network = Linear(weight.clone())
    value_of("r1", network, images(1), images(2)).backward()
    torch.testing.assert_close(network.weight.grad, 10 * weight)
    assert network.bias.grad is None or not network.bias.grad.any()


def test_r1_looks_at_real_images_and_r2_at_fake_ones():
    """With D(x) = s/2 · ‖x‖² the gradient is s·x: each penalty is gamma/2 · s² · mean ‖x‖² of its images."""
    network, real, fake = Quadratic(0.5), images(1), 0.1 * images(2)
    for name, side in (("r1", real), ("r2", fake)):
        expected = 5 * 0.25 * side.square().flatten(1).sum(1).mean().item()
        value = value_of(name, network, real, fake)
        assert value.item() == pytest.approx(expected, rel=1e-5), name


def test_gradient_penalty_looks_between_real_and_fake():
    """With the gradient s·x the norm at real + t(fake - real) = (1 - t)·real, for fake = 0, is known from t."""
    network, real = Quadratic(0.5), images(1)
    torch.manual_seed(3)
    t = torch.rand(5, 1, 1, 1).flatten()
    torch.manual_seed(3)
    value = value_of("gradient-penalty", network, real, torch.zeros_like(real))
    norm = 0.5 * (1 - t) * real.flatten(1).norm(dim=1)
    assert value.item() == pytest.approx(10 * (norm - 1).square().mean().item(), rel=1e-5)


def reference(name, network, real, fake):
    """The penalty by `torch.autograd.grad`, as it is usually written."""
    if name == "gradient-penalty":
        mix = torch.rand(len(real), 1, 1, 1, dtype=real.dtype)
        points = real + mix * (fake - real)
    else:
        points = real if name == "r1" else fake
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(points).sum(), points, create_graph=True)
    squared = gradient.flatten(1).square().sum(1)
    return 10 * (squared.sqrt() - 1).square().mean() if name == "gradient-penalty" else 5 * squared.mean()


@pytest.mark.parametrize("norm", [True, False], ids=["batchnorm", "plain"])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_against_autograd(name, norm):
    real, fake = images(1), images(2)
    network, twin = critic(norm), critic(norm)
    torch.manual_seed(4)
    value = value_of(name, network, real, fake)
    torch.manual_seed(4)
    expected = reference(name, twin, real, fake)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)

    value.backward()
    expected.backward()
    reached = 0
    for (key, mine), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        theirs_grad = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        mine_grad = torch.zeros_like(mine) if mine.grad is None else mine.grad
        torch.testing.assert_close(mine_grad, theirs_grad, rtol=1e-3, atol=1e-5, msg=key)
        reached += int(bool(mine_grad.any()))
    assert reached >= 3, "the gradient of the penalty reaches the weights"


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_leave_running_statistics_alone(name):
    network = critic()
    network(images(5))
    before = {key: buffer.clone() for key, buffer in network.named_buffers()}
    assert before
    value_of(name, network, images(1), images(2)).backward()
    for key, buffer in network.named_buffers():
        torch.testing.assert_close(buffer, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("architecture", ["dcgan", "cnn_pool", "sngan", "r3gan", "cdcgan", "infogan"])
def test_penalties_of_zoo_discriminators_are_finite_and_backpropagate(architecture, name):
    (record,) = importlib.import_module(f"ganzoo_plugins.variants.{architecture}").ganzoo_architectures()
    torch.manual_seed(0)
    discriminator = record.build((2, 16, 16), record.latent, 10, base_channels=8)[1]
    real, fake = (torch.rand(4, 2, 16, 16) * 2 - 1 for _ in range(2))
    before = {key: buffer.clone() for key, buffer in discriminator.named_buffers()}
    labels = torch.arange(4) if record.conditional else None
    value = value_of(name, discriminator, real, fake, labels)
    value.backward()
    assert value.isfinite()
    assert value.shape == ()
    weight = next(discriminator.parameters())
    assert weight.grad.isfinite().all()
    for key, buffer in discriminator.named_buffers():
        torch.testing.assert_close(buffer, before[key], rtol=0, atol=0)


# --- infogan ------------------------------------------------------------------------------------------------------


def infogan(architecture="infogan"):
    """Generator and discriminator as phases call them: both take labels and ignore them."""
    (record,) = importlib.import_module(f"ganzoo_plugins.variants.{architecture}").ganzoo_architectures()
    torch.manual_seed(0)
    generator, discriminator = record.build((1, 16, 16), 74, 0)
    take_labels(generator)
    take_labels(discriminator)
    return generator, discriminator


def take_labels(network):
    forward = network.forward
    network.forward = lambda x, labels=None: forward(x)


def batch():
    (record,) = importlib.import_module("ganzoo_plugins.variants.infogan").ganzoo_architectures()
    latent = record.draw_latent(6, 74, torch.Generator().manual_seed(0))
    return ganzoo.Batch(real=torch.rand(6, 1, 16, 16) * 2 - 1, labels=None, latent=latent)


COEFFICIENTS = {"category": torch.tensor(2.0), "continuous": torch.tensor(0.3)}


def test_infogan_phases():
    phases = {phase.name: phase for phase in LOSSES["infogan"].phases}
    assert {name: phase.targets for name, phase in phases.items()} == {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
        "information": ("generator", "discriminator.code_head"),
    }


def test_infogan_adversarial_terms_are_non_saturating():
    generator, discriminator = infogan()
    generator.eval()
    discriminator.eval()
    data = batch()
    first, second, _ = LOSSES["infogan"].phases
    real, fake = discriminator(data.real).double(), discriminator(generator(data.latent)).double()
    terms = first.function(generator, discriminator, data)
    expected = LOSSES["non-saturating"].discriminator(real, fake)
    torch.testing.assert_close(terms, {key: value.float() for key, value in expected.items()})
    terms = second.function(generator, discriminator, data)
    expected = LOSSES["non-saturating"].generator(fake)
    torch.testing.assert_close(terms, {key: value.float() for key, value in expected.items()})


def test_infogan_information_by_hand():
    generator, discriminator = infogan()
    generator.eval()
    discriminator.eval()
    data = batch()
    with torch.no_grad():
        guess = discriminator.code_head(discriminator.features(generator(data.latent))).double().numpy()
    latent = data.latent.double().numpy()
    category = latent[:, :10].argmax(1)
    likelihood = softmax(guess[:, :10])[np.arange(6), category]
    distance = ((latent[:, 10:12] - guess[:, 10:]) ** 2).sum(1)
    terms = LOSSES["infogan"].phases[2].function(generator, discriminator, data, **COEFFICIENTS)
    assert terms["category"].item() == pytest.approx(-2.0 * np.log(likelihood).mean(), rel=1e-4)
    assert terms["continuous"].item() == pytest.approx(0.3 * 0.5 * distance.mean(), rel=1e-4)


def test_infogan_information_reaches_generator_and_code_head():
    generator, discriminator = infogan()
    terms = LOSSES["infogan"].phases[2].function(generator, discriminator, batch(), **COEFFICIENTS)
    sum(terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in generator.parameters())
    assert all(parameter.grad is not None for parameter in discriminator.code_head.parameters())
    assert discriminator.head.weight.grad is None


def test_infogan_refuses_architectures_without_a_code_head():
    generator, discriminator = infogan("dcgan")
    with pytest.raises(ganzoo.UsageError, match="needs a discriminator with a code_head"):
        LOSSES["infogan"].phases[2].function(generator, discriminator, batch(), **COEFFICIENTS)
