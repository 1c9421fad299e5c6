"""Linear layers by oneDNN: the same values and gradients of any order, whatever a run does to a network."""

from __future__ import annotations

import copy

import pytest
import torch
from test_training import assembled, planned, snapshot
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from ganzoo.losses import gradient_penalty, input_gradient
from ganzoo.machine import peak
from ganzoo.machine.onednn import has_onednn, linear_backend, onednn_product, use_onednn
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import train

pytestmark = pytest.mark.skipif(not has_onednn(), reason="this torch was built without oneDNN")

REGISTRY = discover()


def pair(build):
    torch.manual_seed(0)
    network = build()
    fast = copy.deepcopy(network)
    use_onednn(fast, least_weights=0)
    return network, fast


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def mlp():
    return nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 32, bias=False), nn.Tanh(), nn.Linear(32, 5))


def test_onednn_values_and_gradients_equal_blas():
    network, fast = pair(mlp)
    x = torch.randn(33, 20)
    for one in (network, fast):
        one(x).square().sum().backward()
    close(fast(x), network(x))
    for ours, theirs in zip(fast.parameters(), network.parameters(), strict=True):
        close(ours.grad, theirs.grad)


@pytest.mark.parametrize("way", ["whole", "in place", "a part"])
def test_a_network_that_its_plugin_compiles_is_compiled_with_ordinary_products(way):
    """torch's compiler refuses the operator of oneDNN; a backend of our own sees what it is given."""
    graphs: list[str] = []

    def backend(graph, inputs):
        graphs.append(graph.print_readable(print_output=False))
        return graph.forward

    def build():
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 1), nn.Flatten(0))
        if way == "whole":
            return torch.compile(network, backend=backend)
        if way == "in place":
            network.compile(backend=backend)
        else:
            network[1] = torch.compile(network[1], backend=backend)
        return network

    torch.manual_seed(0)
    network = build()
    use_onednn(network, least_weights=0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 1), nn.Flatten(0))
    for ours, theirs in zip(plain.parameters(), network.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    real, fake = torch.randn(9, 1, 8, 8), torch.randn(9, 1, 8, 8)
    for one in (network, plain):
        torch.manual_seed(1)
        (gradient_penalty(one, real, fake, weight=torch.tensor(10.0)) + one(real).square().sum()).backward()
    with torch.inference_mode():
        close(network(real), plain(real))
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        close(ours.grad, theirs.grad)
    torch._dynamo.reset()
    assert any("linear" in graph for graph in graphs)
    assert not any("mkldnn" in graph for graph in graphs)


def test_onednn_gradient_penalties_have_the_gradients_of_blas():
    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 1), nn.Flatten(0))

    network, fast = pair(build)
    real, fake = torch.randn(9, 1, 8, 8), torch.randn(9, 1, 8, 8)
    close(input_gradient(fast, real), input_gradient(network, real))
    for one in (network, fast):
        torch.manual_seed(1)
        gradient_penalty(one, real, fake, weight=torch.tensor(10.0)).backward()
    for ours, theirs in zip(fast.parameters(), network.parameters(), strict=True):
        if theirs.grad is not None:
            close(ours.grad, theirs.grad)


def test_copies_state_dicts_parametrizations_and_functional_calls_work_as_before():
    network, fast = pair(lambda: nn.Sequential(spectral_norm(nn.Linear(20, 30)), nn.Linear(30, 4)))
    x = torch.randn(7, 20)
    assert fast.state_dict().keys() == network.state_dict().keys()
    network.eval()
    fast.eval()
    close(fast(x), network(x))
    copied = copy.deepcopy(fast)
    with torch.no_grad():
        copied[1].weight.zero_()
        copied[1].bias.zero_()
    assert not copied(x).any(), "a copy computes with its own weights"
    assert fast(x).any()
    zeros = {name: torch.zeros_like(value) for name, value in fast[1].named_parameters()}
    assert not functional_call(fast[1], zeros, (fast[0](x),)).any()


def test_linear_subclass_with_a_custom_forward_is_unchanged():
    class Scaled(nn.Linear):
        def forward(self, x):
            return 3 * super().forward(x)

    patched = nn.Linear(20, 6)
    patched.forward = lambda x: x[:, :6]
    for build in (lambda: Scaled(20, 6), lambda: patched):
        network, fast = pair(build)
        x = torch.randn(4, 20)
        assert torch.equal(fast(x), network(x))


def test_transforms_of_torch_func_see_an_ordinary_layer():
    _, fast = pair(lambda: nn.Linear(20, 3))
    x = torch.randn(5, 20)
    jacobian = torch.func.vmap(torch.func.jacrev(fast))(x)
    close(jacobian, fast.weight.detach().expand(5, 3, 20))


def test_onednn_products_have_second_derivatives():
    x = torch.randn(6, 20, dtype=torch.float32, requires_grad=True)
    network, fast = pair(lambda: nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 1)))
    found = []
    for one in (network, fast):
        (gradient,) = torch.autograd.grad(one(x).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), one[0].weight)[0])
    close(found[1], found[0])


@pytest.mark.parametrize("shape", [(20,), (2, 3, 20), (0, 20)])
def test_other_shapes_fall_back_to_blas(shape):
    network, fast = pair(lambda: nn.Linear(20, 6))
    x = torch.randn(shape)
    assert torch.equal(fast(x), network(x))


def test_linear_backend_rule(monkeypatch):
    monkeypatch.setattr("ganzoo.machine.onednn._is_amd", lambda: True)
    assert linear_backend("cpu", "fp32", "eager") == "onednn"
    assert linear_backend("cpu", "bf16", "eager") == "blas"
    assert linear_backend("cpu", "fp32", "compile") == "blas"
    assert linear_backend("cuda:0", "fp32", "eager") == "blas"
    monkeypatch.setattr("ganzoo.machine.onednn._is_amd", lambda: False)
    assert linear_backend("cpu", "fp32", "eager") == "blas"


@pytest.mark.parametrize("models", ["mlp", "wgan-gp", "dcgan-dense", "mlp+relativistic+r1+r2"])
def test_first_step_is_equal_for_onednn_and_blas(models, monkeypatch):
    moved = []
    for amd in (True, False):
        monkeypatch.setattr("ganzoo.machine.onednn._is_amd", lambda amd=amd: amd)
        settings = ("*.optimizer.kind=sgd", "*.optimizer.learning_rate=0.01")
        spec, dataset = planned(models, set=settings)
        assert linear_backend(spec.device, spec.precision, spec.step_mode) == ("onednn" if amd else "blas")
        run = assemble(spec, REGISTRY, dataset)
        start = snapshot(run)
        # One step: a relative change of 1e-7 in the weights of dcgan-dense has grown to 3e-3 after three.
        train(run, spec.recipe.batch_size / 1000)
        moved.append({name: value - start[name] for name, value in snapshot(run).items()})
    for name, change in moved[1].items():
        assert (moved[0][name] - change).norm() <= 1e-3 * change.norm() + 1e-6, name


def test_moving_average_computes_with_its_own_weights():
    run = assembled("mlp")
    train(run, 0.05)
    latent = torch.randn(4, 100)
    average = run.average.average
    with torch.no_grad():
        before = run.players.generator(latent)
        for parameter in average.parameters():
            parameter.zero_()
        assert not average(latent).any()
        assert torch.equal(run.players.generator(latent), before)


def test_peak_flops_is_the_better_of_onednn_and_blas(monkeypatch):
    """With one thread torch's convolutions do not use oneDNN for small batches, so oneDNN is measured directly."""
    asked = []

    def quickest(work, device):
        work()
        return asked.append(work) or len(asked)

    multiplied = []
    monkeypatch.setattr(peak, "_fastest_seconds", quickest)
    monkeypatch.setattr(peak, "onednn_product", lambda x, weight: multiplied.append(onednn_product(x, weight)))
    assert peak.matrix_product_rate("cpu", "fp32", threads=1) == 2 * 1536**3 / 1
    assert len(asked) == 2
    assert multiplied[0].shape == (1536, 1536)
